"""Extraction of rows from the pages of a database file, without using the B-trees.

If an interior page of a table's B-tree is damaged, SQLite cannot reach the pages below it, which
may all be intact. The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SqlValue = int | float | bytes | None

_TABLE_LEAF = 13
_OTHER_BTREE_PAGES = (2, 5, 10)
"""Types of B-tree pages that hold no table rows."""

_FILE_HEADER_BYTES, _PAGE_HEADER_BYTES = 100, 8
_MIN_PAGE_BYTES, _MAX_PAGE_BYTES, _DEFAULT_PAGE_BYTES = 512, 65536, 4096
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_TYPE_REAL, _TYPE_ZERO, _TYPE_ONE, _MIN_BLOB_TYPE = 7, 8, 9, 12
_MAX_VARINT_BYTES = 9
MAX_COLUMNS = 64


def scan_pages(path: Path) -> Iterator[tuple[int, list[SqlValue]]]:
    """Yield the rowid and the columns of every row in the leaf pages of all tables.

    Texts are bytes, and None stands for an INTEGER PRIMARY KEY. Deleted rows may be included.

    Args:
        path: The database; its -wal file is not read.

    Raises:
        OSError: The database cannot be read.
    """
    with path.open("rb") as file:
        size = _page_size(file.read(_FILE_HEADER_BYTES))
        num_pages_read = 0
        while True:
            file.seek(num_pages_read * size)
            page = file.read(size)
            if len(page) < size:
                return
            num_pages_read += 1
            yield from _scan_page(file, page, _FILE_HEADER_BYTES if num_pages_read == 1 else 0)


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    size = _MAX_PAGE_BYTES if size == 1 else size
    return size if size & (size - 1) == 0 and size >= _MIN_PAGE_BYTES else _DEFAULT_PAGE_BYTES


def _scan_page(
    file: BinaryIO, page: bytes, header_offset: int
) -> Iterator[tuple[int, list[SqlValue]]]:
    if page[header_offset] in _OTHER_BTREE_PAGES:
        return
    first_pointer = header_offset + _PAGE_HEADER_BYTES
    end = len(page) - 1
    if page[header_offset] == _TABLE_LEAF:
        end = min(
            end,
            first_pointer + 2 * int.from_bytes(page[header_offset + 3 : header_offset + 5], "big"),
        )
    # For any other type the header is damaged, but cell pointers may still follow it.
    for pointer_offset in range(first_pointer, end, 2):
        cell_offset = int.from_bytes(page[pointer_offset : pointer_offset + 2], "big")
        if cell_offset <= pointer_offset:
            return
        try:
            length, offset = _read_varint(page, cell_offset)
            rowid, offset = _read_varint(page, offset)
            yield _to_signed(rowid), _parse_record(_read_payload(file, page, offset, length))
        except (ValueError, IndexError, struct.error):
            continue


def _read_payload(file: BinaryIO, page: bytes, offset: int, length: int) -> bytes:
    """Return the payload of a row, including its overflow pages."""
    size = len(page)
    local_bytes = length
    if length > size - 35:
        min_local_bytes = (size - 12) * 32 // 255 - 23
        local_bytes = min_local_bytes + (length - min_local_bytes) % (size - 4)
        local_bytes = local_bytes if local_bytes <= size - 35 else min_local_bytes
    content = page[offset : offset + local_bytes]
    overflow_page = (
        int.from_bytes(page[offset + local_bytes : offset + local_bytes + 4], "big")
        if local_bytes < length
        else 0
    )
    while len(content) < length:
        if overflow_page < 1:
            raise ValueError("an overflow page is missing")
        file.seek((overflow_page - 1) * size)
        overflow_content = file.read(size)
        if len(overflow_content) < size:
            raise ValueError("an overflow page is missing")
        overflow_page = int.from_bytes(overflow_content[:4], "big")
        content += overflow_content[4 : 4 + length - len(content)]
    return content


class Blob(bytes):
    """A value with SQLite's storage class BLOB; a TEXT is plain bytes."""


def _parse_record(content: bytes) -> list[SqlValue]:
    end, offset = _read_varint(content, 0)
    value_offset = end
    values: list[SqlValue] = []
    while offset < end:
        serial_type, offset = _read_varint(content, offset)
        value, value_offset = _parse_value(content, serial_type, value_offset)
        values.append(value)
    if offset != end or value_offset != len(content) or len(values) > MAX_COLUMNS:
        raise ValueError("the record is malformed")
    return values


def _parse_value(content: bytes, serial_type: int, offset: int) -> tuple[SqlValue, int]:
    if serial_type == 0:
        return None, offset
    if serial_type in (_TYPE_ZERO, _TYPE_ONE):
        return serial_type - _TYPE_ZERO, offset
    if serial_type in _INTEGER_BYTES:
        end = offset + _INTEGER_BYTES[serial_type]
        return int.from_bytes(content[offset:end], "big", signed=True), end
    if serial_type == _TYPE_REAL:
        return float(struct.unpack_from(">d", content, offset)[0]), offset + 8
    if serial_type < _MIN_BLOB_TYPE:
        raise ValueError("the serial type is reserved")
    end = offset + (serial_type - _MIN_BLOB_TYPE) // 2
    value = content[offset:end]
    return (value if serial_type % 2 else Blob(value)), end


def _read_varint(content: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for count in range(_MAX_VARINT_BYTES):
        byte = content[offset + count]
        if count == _MAX_VARINT_BYTES - 1:
            return value << 8 | byte, offset + _MAX_VARINT_BYTES
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + count + 1
    raise ValueError("unreachable")


def _to_signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
