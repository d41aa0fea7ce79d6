"""Files of named arrays that are mapped into memory and checked piece by piece.

A file of vectors may be larger than what one search reads of it. So every block of 64 KiB has a
checksum of its own (XXH3, https://xxhash.com), and a block is checked when it is needed for the
first time. Arrays lie one after another, each at a multiple of 64 bytes; then come the checksums of
all blocks before them, then a description in JSON, and at the very end where that begins and the
checksum of both.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.records import FileStamp
from mmsearch.storage.atomic import REPAIR, Publication, map_file, publishing

BLOCK = 65_536
ALIGNMENT = 64
_END = struct.Struct("<8sQQ")
_MAGIC = b"mmsblk01"


class BlocksWriter:
    """Appends arrays to a file; see `writing_blocks`."""

    def __init__(self, file: Publication) -> None:
        self._file = file
        self._arrays: dict[str, dict[str, Any]] = {}
        self._open: str | None = None
        self._rest = bytearray()
        self._sums: list[int] = []

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows to an array: the one that was added to last, or a new one.

        Args:
            name: Of the array.
            rows: (n, ...), the same dtype and columns in every call.
        """
        rows = np.ascontiguousarray(rows)
        if name != self._open:
            if name in self._arrays:
                raise ValueError(f"the array {name!r} has ended")
            self._write(bytes(-self._file.size % ALIGNMENT))
            self._arrays[name] = {
                "dtype": rows.dtype.str,
                "shape": [0, *rows.shape[1:]],
                "offset": self._file.size,
            }
            self._open = name
        self._arrays[name]["shape"][0] += len(rows)
        self._write(rows.data.cast("B") if rows.size else b"")

    def read(self, name: str) -> NDArray[Any]:
        """What was appended to an array so far, mapped from the file."""
        self._file.flush()
        return _view(np.memmap(self._file.path, np.uint8, "r"), self._arrays[name])

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the checksums and the description.

        Args:
            facts: Plain values that belong to the arrays.
        """
        if self._rest:
            self._sums.append(xxhash.xxh3_64_intdigest(self._rest))
        sums = np.array(self._sums, dtype="<u8").tobytes()
        place = self._file.size
        described = json.dumps({"arrays": self._arrays, "facts": dict(facts)}).encode()
        self._file.write(sums)
        self._file.write(described)
        whole = xxhash.xxh3_64_intdigest(sums + described)
        self._file.write(_END.pack(_MAGIC, place, whole))

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._rest += data
        whole = len(self._rest) - len(self._rest) % BLOCK
        for start in range(0, whole, BLOCK):
            block = memoryview(self._rest)[start : start + BLOCK]
            self._sums.append(xxhash.xxh3_64_intdigest(block))
            block.release()
        del self._rest[:whole]


@contextmanager
def writing_blocks(path: Path) -> Iterator[tuple[BlocksWriter, Publication]]:
    """A new file of arrays; `BlocksWriter.finish` must be called before the end."""
    with publishing(path) as file:
        yield BlocksWriter(file), file


class BlocksFile:
    """A file of arrays, mapped into memory.

    Args:
        path: The file.
        stamp: What the catalog says of it: its size is compared, its sha256 is not.

    Attributes:
        facts: What was written beside the arrays.

    Raises:
        DamagedFileError: It is missing, has another size, or cannot be such a file.
    """

    def __init__(self, path: Path, stamp: FileStamp) -> None:
        self._path = path
        content = map_file(path, stamp.bytes)
        place, ending = _ending(path, content)
        count = -(-place // BLOCK)
        described = json.loads(ending[8 * count :])
        self.facts: dict[str, Any] = described["facts"]
        self._arrays: dict[str, dict[str, Any]] = described["arrays"]
        self._content = content[:place]
        self._sums = np.frombuffer(ending, "<u8", count)
        self._checked = np.zeros(count, dtype=bool)

    def __contains__(self, name: str) -> bool:
        """Whether there is an array of that name."""
        return name in self._arrays

    def array(self, name: str) -> NDArray[Any]:
        """An array after its bytes were found right; read-only, backed by the file.

        Raises:
            DamagedFileError: A block does not match its checksum, or there is no such array.
        """
        values = self.unchecked(name)
        begin = self._arrays[name]["offset"]
        self._check(np.arange(begin // BLOCK, -(-(begin + values.nbytes) // BLOCK)))
        return values

    def unchecked(self, name: str) -> NDArray[Any]:
        """An array as it is; what is read of it must be checked by `check_rows` first.

        Raises:
            DamagedFileError: There is no such array.
        """
        if name not in self._arrays:
            raise DamagedFileError(f"{self._path} holds no {name!r}.", REPAIR)
        return _view(self._content, self._arrays[name])

    def check_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        """Check the blocks in which some rows of an array lie, unless they were checked before.

        Raises:
            DamagedFileError: One does not match its checksum.
        """
        if not len(rows):
            return
        width = self.unchecked(name).strides[0]
        begins = self._arrays[name]["offset"] + rows * width
        first, last = begins // BLOCK, (begins + width - 1) // BLOCK
        if self._checked[first].all() and self._checked[last].all():
            return
        for step in range(int((last - first).max()) + 1):
            self._check(np.unique(np.minimum(first + step, last)))

    def _check(self, blocks: NDArray[np.int64]) -> None:
        for block in blocks[~self._checked[blocks]].tolist():
            content = self._content[block * BLOCK : (block + 1) * BLOCK]
            if xxhash.xxh3_64_intdigest(content.data) != self._sums[block]:
                raise DamagedFileError(f"{self._path} does not match its checksum.", REPAIR)
            self._checked[block] = True


def _ending(path: Path, content: NDArray[np.uint8]) -> tuple[int, bytes]:
    """Where the arrays end, and the checksums and the description that follow them."""
    last = content[-_END.size :].tobytes()
    magic, place, whole = _END.unpack(last) if len(last) == _END.size else (b"", 0, 0)
    if magic != _MAGIC:
        raise DamagedFileError(f"{path} is not a file of vectors that this version reads.", REPAIR)
    ending = content[place : -_END.size].tobytes()
    if xxhash.xxh3_64_intdigest(ending) != whole:
        raise DamagedFileError(f"{path} does not match its checksum.", REPAIR)
    return place, ending


def _view(content: NDArray[np.uint8], described: Mapping[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(described["dtype"]), tuple(described["shape"])
    begin = described["offset"]
    end = begin + math.prod(shape) * dtype.itemsize
    values: NDArray[Any] = content[begin:end].view(dtype).reshape(shape)
    return values
