"""Rows that stand in the pages of a database file, without the tree that leads to them.

Where a page high up in the tree of a table is damaged, SQLite reaches none of the pages below it,
which may all be whole. The format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

Value = int | float | bytes | None

_LEAF_OF_TABLE = 13
_OTHER_PAGES = (2, 5, 10)
"""Pages of a tree that hold no rows of tables."""

_FILE_HEADER, _PAGE_HEADER = 100, 8
_SMALLEST, _LARGEST, _USUAL = 512, 65536, 4096
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_REAL, _ZERO, _ONE, _FIRST_BYTES = 7, 8, 9, 12
_VARINT_BYTES = 9
MOST_COLUMNS = 64


def rows_in_pages(path: Path) -> Iterator[tuple[int, list[Value]]]:
    """Yield the rowid and the columns of every row that a leaf page of any table holds.

    Texts are bytes; the column that is the rowid is None. Rows that were deleted may be among them.

    Args:
        path: The database; what its -wal file holds is not read.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        size = _page_size(file.read(_FILE_HEADER))
        number = 0
        while True:
            file.seek(number * size)
            page = file.read(size)
            if len(page) < size:
                return
            number += 1
            yield from _rows_of_page(file, page, _FILE_HEADER if number == 1 else 0)


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18], "big")
    size = _LARGEST if size == 1 else size
    return size if size & (size - 1) == 0 and size >= _SMALLEST else _USUAL


def _rows_of_page(file: BinaryIO, page: bytes, begin: int) -> Iterator[tuple[int, list[Value]]]:
    if page[begin] in _OTHER_PAGES:
        return
    first = begin + _PAGE_HEADER
    end = len(page) - 1
    if page[begin] == _LEAF_OF_TABLE:
        end = min(end, first + 2 * int.from_bytes(page[begin + 3 : begin + 5], "big"))
    # Else the header is damaged; places of cells may follow it all the same.
    for place in range(first, end, 2):
        cell = int.from_bytes(page[place : place + 2], "big")
        if cell <= place:
            return
        try:
            length, at = _varint(page, cell)
            rowid, at = _varint(page, at)
            yield _signed(rowid), _record(_payload(file, page, at, length))
        except (ValueError, IndexError, struct.error):
            continue


def _payload(file: BinaryIO, page: bytes, at: int, length: int) -> bytes:
    """Return the bytes of a row; those that do not fit into its page follow in others."""
    size = len(page)
    local = length
    if length > size - 35:
        least = (size - 12) * 32 // 255 - 23
        local = least + (length - least) % (size - 4)
        local = local if local <= size - 35 else least
    content = page[at : at + local]
    following = int.from_bytes(page[at + local : at + local + 4], "big") if local < length else 0
    while len(content) < length:
        file.seek((following - 1) * size)
        part = file.read(size)
        if following < 1 or len(part) < size:
            raise ValueError("it goes on in a page that is not there")
        following = int.from_bytes(part[:4], "big")
        content += part[4 : 4 + length - len(content)]
    return content


def _record(content: bytes) -> list[Value]:
    end, at = _varint(content, 0)
    at_value = end
    values: list[Value] = []
    while at < end:
        kind, at = _varint(content, at)
        value, at_value = _value(content, kind, at_value)
        values.append(value)
    if at != end or at_value != len(content) or len(values) > MOST_COLUMNS:
        raise ValueError("it is no record")
    return values


def _value(content: bytes, kind: int, at: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in (_ZERO, _ONE):
        return kind - _ZERO, at
    if kind in _INTEGERS:
        end = at + _INTEGERS[kind]
        return int.from_bytes(content[at:end], "big", signed=True), end
    if kind == _REAL:
        return float(struct.unpack_from(">d", content, at)[0]), at + 8
    if kind < _FIRST_BYTES:
        raise ValueError("there is no such kind of value")
    end = at + (kind - _FIRST_BYTES) // 2
    return content[at:end], end


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(_VARINT_BYTES):
        byte = content[at + count]
        if count == _VARINT_BYTES - 1:
            return value << 8 | byte, at + _VARINT_BYTES
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + count + 1
    raise ValueError("unreachable")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
