"""Float16 storage of vectors, in memory or in a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.types import Ids, IndexSpec, Vectors
from mmsearch.core.vectors import check_unit_vectors
from mmsearch.storage.arrays import ChecksummedArrays, ChecksummedArraysWriter
from mmsearch.vector_indexes._rows import RowPositions, StoredRows


def append_rows(
    arrays: ChecksummedArraysWriter, dim: int, blocks: Iterable[tuple[Ids, Vectors]]
) -> Ids:
    """Write blocks of vectors as they arrive and return their ids.

    The caller must write the ids to the same file, because `read_rows` needs them.
    """
    ids = [np.empty(0, dtype=np.int64)]
    arrays.append("rows", np.empty((0, dim), dtype=np.float16))
    for block_ids, vectors in blocks:
        arrays.append("rows", check_unit_vectors(vectors, dim).astype(np.float16))
        ids.append(np.asarray(block_ids, dtype=np.int64))
    return np.concatenate(ids)


def collect_rows(dim: int, blocks: Iterable[tuple[Ids, Vectors]]) -> StoredRows:
    """Collect blocks of vectors in memory."""
    ids = [np.empty(0, dtype=np.int64)]
    rows = [np.empty((0, dim), dtype=np.float16)]
    for block_ids, vectors in blocks:
        ids.append(np.asarray(block_ids, dtype=np.int64))
        rows.append(check_unit_vectors(vectors, dim).astype(np.float16))
    return StoredRows(np.concatenate(ids), np.concatenate(rows))


def read_rows(
    file: ChecksummedArrays, spec: IndexSpec, path: Path, *, verify_all: bool
) -> StoredRows:
    """Return the rows and ids of a file.

    Args:
        file: The open file.
        spec: Index specification that the file must match.
        path: Path of the file, for error messages.
        verify_all: Verify the checksums of all rows now instead of each when it is read.

    Raises:
        DamagedFileError: The file is damaged or belongs to another index.
    """
    if file.metadata.get("plugin") != spec.name or file.metadata.get("dim") != spec.dim:
        raise DamagedFileError(f"{path} is not a {spec.name} index of {spec.dim} columns.")
    ids = file.array("ids")
    if verify_all:
        return StoredRows(ids, file.array("rows"))

    def check(positions: RowPositions | None) -> None:
        if positions is None:
            file.array("rows")
        else:
            file.verify_rows("rows", positions)

    return StoredRows(ids, file.array_unverified("rows"), check)
