"""Tables of token vectors, stored outside the graph of a text tower and read row by row.

The table of a multilingual model is larger than the rest of the tower: 256,000 tokens are more than
half of SigLIP2's weights, and a query needs a dozen of them. The file is memory-mapped, and each
block of rows is verified when it is first read, so that a query reads kilobytes, not the table.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from mmsearch.core.errors import MMSearchError

BLOCK_ROWS: Final = 64
"""Number of rows that share a checksum."""

SCALE_COLUMNS: Final = 64
"""Number of int8 values of a row that share a scale.

Some columns of trained tables are many times larger than the others; one scale per row would round
the others away.
"""

Rows = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Function that maps token ids, int64 (n, t), to their vectors, float32 (n, t, columns)."""


@dataclass(frozen=True)
class TableInfo:
    """Names and layout of the files of a table.

    Attributes:
        name: Name of the file with the rows.
        checksums: Name of the file with a checksum (XXH3-64) for every `BLOCK_ROWS` rows.
        rows: Number of tokens.
        columns: Number of values per token.
        is_int8: True for int8 values with scales, False for float32.
    """

    name: str
    checksums: str
    rows: int
    columns: int
    is_int8: bool

    @property
    def row_type(self) -> np.dtype[Any]:
        """Type of a stored row."""
        if not self.is_int8:
            return np.dtype([("values", "<f4", (self.columns,))])
        groups = _group_count(self.columns)
        return np.dtype([("scales", "<f4", (groups,)), ("values", "i1", (self.columns,))])

    @property
    def bytes(self) -> int:
        """Size of the file with the rows."""
        return self.rows * self.row_type.itemsize


class TokenTable:
    """A stored table, memory-mapped; safe to use from several threads.

    Args:
        folder: Folder of the files.
        info: Names and layout of the files.

    Raises:
        OSError: A file cannot be opened.
        ValueError: A file has another size.
    """

    def __init__(self, folder: Path, info: TableInfo) -> None:
        self._path = folder / info.name
        self._info = info
        self._rows = np.memmap(self._path, info.row_type, mode="r", shape=(info.rows,))
        self._checksums = np.fromfile(folder / info.checksums, "<u8")
        self._is_verified = np.zeros(len(self._checksums), dtype=bool)

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of tokens; see `Rows`.

        Raises:
            MMSearchError: The file is damaged.
        """
        unique_ids, positions = np.unique(ids, return_inverse=True)
        for block in np.unique(unique_ids // BLOCK_ROWS):
            self._verify(int(block))
        stored = self._rows[unique_ids]
        vectors = stored["values"].astype(np.float32)
        if self._info.is_int8:
            groups = vectors.reshape(len(vectors), stored["scales"].shape[1], -1)
            vectors = (groups * stored["scales"][:, :, None]).reshape(vectors.shape)
        return vectors[positions.reshape(ids.shape)]

    def _verify(self, block: int) -> None:
        if self._is_verified[block]:
            return
        rows = self._rows[block * BLOCK_ROWS : (block + 1) * BLOCK_ROWS]
        if xxhash.xxh3_64_intdigest(rows.tobytes()) != self._checksums[block]:
            # Without the file, the next start compiles the tower.
            with suppress(OSError):
                self._path.unlink()
            raise MMSearchError(
                f"{self._path} is damaged and was removed.",
                "Run the same command again: it compiles the model again, or says what it needs.",
            )
        self._is_verified[block] = True


def write_table(
    weights: NDArray[np.float32], folder: Path, name: str, *, is_int8: bool
) -> TableInfo:
    """Write a table into two files.

    Args:
        weights: The vectors of all tokens, float32 (rows, columns).
        folder: Folder of the files.
        name: Name of the files without suffix.
        is_int8: Round to int8, which takes about a quarter of the space.
    """
    rows, columns = weights.shape
    info = TableInfo(f"{name}.tokens", f"{name}.tokens.xxh3", rows, columns, is_int8)
    checksums = []
    with (folder / info.name).open("wb") as file:
        for start in range(0, rows, BLOCK_ROWS):
            block = _encode(weights[start : start + BLOCK_ROWS], info).tobytes()
            checksums.append(xxhash.xxh3_64_intdigest(block))
            file.write(block)
    np.array(checksums, dtype="<u8").tofile(folder / info.checksums)
    return info


def _encode(weights: NDArray[np.float32], info: TableInfo) -> NDArray[Any]:
    stored = np.empty(len(weights), dtype=info.row_type)
    if not info.is_int8:
        stored["values"] = weights
        return stored
    groups = weights.reshape(len(weights), _group_count(info.columns), -1)
    scales = np.abs(groups).max(axis=2) / np.float32(127)
    stored["scales"] = scales
    divisors = np.where(scales > 0, scales, 1)[:, :, None]
    stored["values"] = np.rint(groups / divisors).reshape(weights.shape)
    return stored


def _group_count(columns: int) -> int:
    return columns // SCALE_COLUMNS if columns % SCALE_COLUMNS == 0 else 1
