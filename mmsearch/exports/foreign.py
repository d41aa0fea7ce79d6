"""Pictures of exports that other programs wrote: a path, and what else is known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import SourceError
from mmsearch.core.types import Picture, Text, TextSource
from mmsearch.exports.pictures import ExportBatch, ExportedPicture, HalfVectors, Place

PATH_COLUMNS = ("image_path", "path", "key", "url")
"""Columns that may name the picture; the first one with a value counts."""

CAPTION = "caption"
SIZE_COLUMNS = ("width", "height")
NORM_TOLERANCE = 1e-3
_MAX_PX = 2**31 - 1


def foreign_picture(row: Mapping[str, Any]) -> ExportedPicture:
    """Return the picture of a row of another program's metadata.

    Its column ``sha256`` is not used: img2dataset, for one, writes the digest of the download, not
    that of the file that it has resized.

    Raises:
        ValueError: The row names no picture.
    """
    path = next((row[name] for name in PATH_COLUMNS if row.get(name)), None)
    name = os.fsencode(path) if isinstance(path, str | bytes) else b""
    if not name or b"\0" in name:
        raise ValueError("it has no path")
    caption = row.get(CAPTION)
    words = caption.strip() if isinstance(caption, str) else ""
    texts = (Text(CAPTION, words, None, TextSource.TABLE),) if words else ()
    width, height = (_to_px(row.get(name)) for name in SIZE_COLUMNS)
    picture = (
        Picture(width, height, "", texts=texts)
        if width and height
        else Picture(0, 0, "", texts=texts)
    )
    return ExportedPicture(0, b"", (Place(b"", name),), 0, 0, picture)


def _to_px(value: Any) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and 0 < value <= _MAX_PX else 0


def to_foreign_batch(
    pictures: Sequence[ExportedPicture],
    images: NDArray[np.floating],
    captions: NDArray[np.floating] | None = None,
) -> ExportBatch:
    """Return a batch of pictures with vectors of any float type and norm.

    Args:
        pictures: The pictures, with at most one caption each.
        images: (n, dim).
        captions: (n, dim), the vector of each caption, zeros without a caption; None: no vectors.
    """
    halves = to_half_vectors(images)
    if captions is None:
        return ExportBatch(pictures, halves, halves[:0])
    is_present = np.any(captions != 0, axis=1) & np.array(
        [bool(item.picture.texts) for item in pictures], dtype=bool
    )
    described = [
        ExportedPicture(
            item.id,
            item.digest,
            item.places,
            item.size,
            item.mtime_ns,
            item.picture,
            text_kinds=(CAPTION,) if present else (),
        )
        for item, present in zip(pictures, is_present.tolist(), strict=True)
    ]
    return ExportBatch(described, halves, to_half_vectors(captions[is_present]))


def to_half_vectors(vectors: NDArray[np.floating]) -> HalfVectors:
    """Return unit vectors as float16 (n, dim); rows of norm 1 keep their bits.

    Raises:
        SourceError: A row is zero or not finite.
    """
    rows = np.asarray(vectors)
    # numpy sums squares of float16 in float16.
    norms = np.linalg.norm(rows.astype(np.float32), axis=1, keepdims=True)
    is_bad = ~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0)
    if is_bad.any():
        raise SourceError(
            f"Vector {int(np.argmax(is_bad))} of {len(rows):,} is zero or not finite.",
            "Export the vectors again without such rows.",
        )
    is_unit = np.abs(norms - 1) <= NORM_TOLERANCE
    scaled = np.where(is_unit, rows, rows / norms) if not is_unit.all() else rows
    return np.ascontiguousarray(scaled, dtype=np.float16)
