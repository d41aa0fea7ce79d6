"""Memory-mapped files of named arrays, with a checksum for each block.

A search may read only a small part of a vector file. Every block of 64 KiB therefore has its own
checksum (XXH3, https://xxhash.com), which is verified when the block is first used. The file
contains the arrays, each aligned to 64 bytes, then the checksums of all array blocks, then a
description in JSON, then a footer with the end of the arrays and a checksum of the checksums and
the description.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError, VectorError
from mmsearch.core.records import FileRef
from mmsearch.storage.atomic import REPAIR_HINT, AtomicFile, atomic_file, map_file

if TYPE_CHECKING:
    from mmsearch.core.protocols import StoreFile

BLOCK_BYTES = 65_536
ALIGNMENT_BYTES = 64
_FOOTER = struct.Struct("<8sQQ")
_MAGIC = b"mmsblk01"

FORMAT_ERRORS = (
    LookupError,
    ArithmeticError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    VectorError,
)
"""Errors that the content of a damaged or crafted file causes; not disk or memory errors."""


class ChecksummedArraysWriter:
    """Writer that appends arrays to a file; see `write_checksummed_arrays`."""

    def __init__(self, file: StoreFile) -> None:
        self._file = file
        self._arrays: dict[str, dict[str, Any]] = {}
        self._current_name: str | None = None
        self._buffer = bytearray()
        self._checksums: list[int] = []

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Append rows to the current array, or start a new array.

        Args:
            name: Name of the array.
            rows: (n, ...), with the same dtype and columns in every call for the array.
        """
        content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        if name != self._current_name:
            if name in self._arrays:
                raise ValueError(f"the array {name!r} has ended")
            self._write(bytes(-self._file.size % ALIGNMENT_BYTES))
            self._arrays[name] = {
                "dtype": rows.dtype.str,
                "shape": [0, *rows.shape[1:]],
                "offset": self._file.size,
            }
            self._current_name = name
        self._arrays[name]["shape"][0] += len(rows)
        self._write(content.data)

    def columns(self, name: str) -> int:
        """Return the number of columns of an array of rows."""
        return int(self._arrays[name]["shape"][1])

    def read(self, name: str) -> NDArray[Any]:
        """Return the rows appended to an array so far, mapped from the file."""
        self._file.flush()
        return _array_view(np.memmap(self._file.path, np.uint8, "r"), self._arrays[name])

    def finish(self, **metadata: Any) -> None:
        """Write the checksums and the description with plain values to store with the arrays."""
        if self._buffer:
            self._checksums.append(xxhash.xxh3_64_intdigest(self._buffer))
        checksums = np.array(self._checksums, dtype="<u8").tobytes()
        arrays_end = self._file.size
        description = json.dumps({"arrays": self._arrays, "facts": metadata}).encode()
        self._file.write(checksums)
        self._file.write(description)
        footer_checksum = xxhash.xxh3_64_intdigest(checksums + description)
        self._file.write(_FOOTER.pack(_MAGIC, arrays_end, footer_checksum))

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._buffer += data
        complete_bytes = len(self._buffer) - len(self._buffer) % BLOCK_BYTES
        for start in range(0, complete_bytes, BLOCK_BYTES):
            block = memoryview(self._buffer)[start : start + BLOCK_BYTES]
            self._checksums.append(xxhash.xxh3_64_intdigest(block))
            block.release()
        del self._buffer[:complete_bytes]


@contextmanager
def write_checksummed_arrays(path: Path) -> Iterator[tuple[ChecksummedArraysWriter, AtomicFile]]:
    """Create a file of arrays; the body must call `ChecksummedArraysWriter.finish` at its end."""
    with atomic_file(path) as file:
        yield ChecksummedArraysWriter(file), file


class ChecksummedArrays:
    """The arrays of a file, in memory or mapped into it.

    Args:
        path: The file.
        content: Its content, uint8 (bytes,).

    Attributes:
        metadata: The values stored with the arrays.

    Raises:
        DamagedFileError: The content is not a file of arrays.
    """

    def __init__(self, path: Path, content: NDArray[np.uint8]) -> None:
        self._path = path
        arrays_end, footer = _read_footer(path, content)
        num_blocks = -(-arrays_end // BLOCK_BYTES)
        with damaged_file_errors(path):
            description = json.loads(footer[8 * num_blocks :])
            self.metadata: dict[str, Any] = description["facts"]
            self._arrays: dict[str, dict[str, Any]] = description["arrays"]
            self._content = content[:arrays_end]
            self._checksums = np.frombuffer(footer, "<u8", num_blocks)
            self._is_verified = np.zeros(num_blocks, dtype=bool)

    @classmethod
    def map(cls, path: Path, file_ref: FileRef) -> ChecksummedArrays:
        """Map a file of arrays into memory.

        Args:
            path: The file.
            file_ref: Its reference in the catalog; the size is verified, the sha256 is not.

        Raises:
            DamagedFileError: The file is missing, has another size, or is not a file of arrays.
        """
        return cls(path, map_file(path, file_ref.bytes))

    def __contains__(self, name: str) -> bool:
        """Return True if an array of that name exists."""
        return name in self._arrays

    def array(self, name: str) -> NDArray[Any]:
        """Return an array after verifying its blocks; read-only, backed by the file.

        Raises:
            DamagedFileError: A block does not match its checksum, or the array does not exist.
        """
        values = self.array_unverified(name)
        start = self._arrays[name]["offset"]
        self._verify(np.arange(start // BLOCK_BYTES, -(-(start + values.nbytes) // BLOCK_BYTES)))
        return values

    def array_unverified(self, name: str) -> NDArray[Any]:
        """Return an array without verification; call `verify_rows` before reading rows of it.

        Raises:
            DamagedFileError: The array does not exist.
        """
        if name not in self._arrays:
            raise DamagedFileError(f"{self._path} has no array {name!r}.", REPAIR_HINT)
        with damaged_file_errors(self._path):
            return _array_view(self._content, self._arrays[name])

    def verify_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        """Verify the blocks that contain some rows of an array, unless verified before.

        Raises:
            DamagedFileError: A block does not match its checksum.
        """
        if not len(rows):
            return
        row_bytes = self.array_unverified(name).strides[0]
        starts = self._arrays[name]["offset"] + rows * row_bytes
        first_blocks, last_blocks = starts // BLOCK_BYTES, (starts + row_bytes - 1) // BLOCK_BYTES
        if self._is_verified[first_blocks].all() and self._is_verified[last_blocks].all():
            return
        for offset in range(int((last_blocks - first_blocks).max()) + 1):
            self._verify(np.unique(np.minimum(first_blocks + offset, last_blocks)))

    def _verify(self, blocks: NDArray[np.int64]) -> None:
        for block in blocks[~self._is_verified[blocks]].tolist():
            content = self._content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
            if xxhash.xxh3_64_intdigest(content.data) != self._checksums[block]:
                raise DamagedFileError(f"{self._path} does not match its checksum.", REPAIR_HINT)
            self._is_verified[block] = True


@contextmanager
def damaged_file_errors(path: Path) -> Iterator[None]:
    """Translate the errors that unexpected content causes into a `DamagedFileError`."""
    try:
        yield
    except FORMAT_ERRORS as error:
        raise DamagedFileError(f"{path} is not a vector file: {error}.", REPAIR_HINT) from error


def _read_footer(path: Path, content: NDArray[np.uint8]) -> tuple[int, bytes]:
    """Return the end of the arrays, and the checksums and description that follow them."""
    trailer = content[-_FOOTER.size :].tobytes()
    magic, arrays_end, expected_checksum = (
        _FOOTER.unpack(trailer) if len(trailer) == _FOOTER.size else (b"", 0, 0)
    )
    if magic != _MAGIC:
        raise DamagedFileError(
            f"{path} is not a vector file that this version can read.", REPAIR_HINT
        )
    footer = content[arrays_end : -_FOOTER.size].tobytes()
    if xxhash.xxh3_64_intdigest(footer) != expected_checksum:
        raise DamagedFileError(f"{path} does not match its checksum.", REPAIR_HINT)
    return arrays_end, footer


def _array_view(content: NDArray[np.uint8], description: Mapping[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(description["dtype"]), tuple(description["shape"])
    start = description["offset"]
    end = start + math.prod(shape) * dtype.itemsize
    values: NDArray[Any] = content[start:end].view(dtype).reshape(shape)
    return values
