"""Immutable files of vectors: the truth from which every vector index is built.

A segment is an uncompressed .npz with ``ids`` int64 (n,), ``image`` float16 (n, dim) and, where the
fused vector differs from the image vector, ``fused`` float16 (n, fused dim).
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.layout import IndexLayout, publish_bytes, read_verified
from mmsearch.core.records import Segment
from mmsearch.core.types import Ids, Vectors
from mmsearch.core.vectors import as_unit_vectors


def write_segment(
    layout: IndexLayout, number: int, ids: Ids, image: Vectors, fused: Vectors | None = None
) -> Segment:
    """Write vectors durably; they count once the catalog names the segment.

    Args:
        layout: The index.
        number: Of the segment, never used before.
        ids: int64 (n,), ascending.
        image: (n, dim) image vectors.
        fused: (n, fused dim), if another than ``image``.

    Returns:
        The segment, with its checksum.
    """
    arrays: dict[str, Any] = {"ids": ids, "image": image.astype(np.float16)}
    if fused is not None:
        arrays["fused"] = fused.astype(np.float16)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    stamp = publish_bytes(layout.segment(number), buffer.getbuffer())
    searched = image if fused is None else fused
    return Segment(number, stamp, len(ids), searched.shape[1])


def read_segment(layout: IndexLayout, segment: Segment) -> tuple[Ids, Vectors]:
    """The ids and the searched (fused) vectors of a segment.

    Returns:
        int64 (n,) and float32 (n, dim), rows of norm 1.

    Raises:
        DamagedFileError: The file is missing, or is not what the catalog says.
    """
    path = layout.path(segment.stamp)
    content = read_verified(path, segment.stamp)
    try:
        with np.load(io.BytesIO(content.tobytes()), allow_pickle=False) as arrays:
            ids = arrays["ids"].astype(np.int64)
            vectors = as_unit_vectors(arrays["fused" if "fused" in arrays else "image"])
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DamagedFileError(f"{path} is not a segment: {error}.") from error
    return ids, vectors
