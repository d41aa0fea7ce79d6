"""Image vectors of an index by id, mapped from all its segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.records import Segment
from mmsearch.core.types import Ids, Vectors
from mmsearch.core.vectors import as_float32, as_unit_vectors
from mmsearch.storage.arrays import ChecksummedArrays
from mmsearch.storage.atomic import read_verified_bytes
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.legacy import LEGACY_SUFFIX, NpzArrays, open_arrays


@dataclass(frozen=True)
class ImageRows:
    """Random access to image vectors; blocks are verified as they are read.

    Attributes:
        arrays: Open segments, oldest first.
        ids: Ids of all items, int64 (n,), ascending.
        segments: Position in ``arrays`` of the newest segment of each, int64 (n,).
        rows: Row in that segment, int64 (n,).
    """

    arrays: Sequence[ChecksummedArrays | NpzArrays]
    ids: Ids
    segments: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def open(cls, layout: IndexLayout, segments: Sequence[Segment]) -> ImageRows:
        """Open the segments of a space, oldest first.

        Raises:
            DamagedFileError: A file is missing or does not match the catalog.
        """
        arrays = [_open(layout, segment) for segment in segments]
        held = [np.asarray(one.array("ids"), dtype=np.int64) for one in arrays]
        lengths = [len(ids) for ids in held]
        ids = np.concatenate([np.empty(0, np.int64), *held])
        segment_of = np.repeat(np.arange(len(held)), lengths)
        rows = np.concatenate([np.empty(0, np.int64), *map(np.arange, lengths)])
        # The row of the newest segment counts; the others are stale.
        order = np.lexsort((segment_of, ids))
        is_newest = np.append(np.diff(ids[order]) != 0, True)[: len(order)]
        newest = order[is_newest]
        return cls(arrays, ids[newest], segment_of[newest], rows[newest].astype(np.int64))

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Return a bool mask (n,) of the ids that have a vector."""
        return np.isin(ids, self.ids)

    def vectors(self, ids: Ids) -> Vectors:
        """Return the unit vectors of ids that have one, float32 (n, dim), in their order.

        Raises:
            DamagedFileError: A block does not match its checksum.
        """
        positions = np.searchsorted(self.ids, ids)
        segments, rows = self.segments[positions], self.rows[positions]
        vectors: Vectors | None = None
        for number in np.unique(segments).tolist():
            mask = segments == number
            arrays = self.arrays[number]
            arrays.verify_rows("image", rows[mask])
            stored = arrays.array_unverified("image")
            if vectors is None:
                vectors = np.empty((len(ids), stored.shape[1]), dtype=np.float32)
            vectors[mask] = as_float32(stored[rows[mask]])
        if vectors is None:
            return np.empty((0, 0), dtype=np.float32)
        return as_unit_vectors(vectors)


def _open(layout: IndexLayout, segment: Segment) -> ChecksummedArrays | NpzArrays:
    path, file_ref = layout.local_path(segment.file_ref), segment.file_ref
    if path.suffix == LEGACY_SUFFIX:
        return open_arrays(path, read_verified_bytes(path, file_ref))
    return ChecksummedArrays.map(path, file_ref)
