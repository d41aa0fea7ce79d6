"""Immutable files of vectors: the truth from which every vector index is built.

A segment is an uncompressed .npz with ``ids`` int64 (n,) and ``image`` float16 (n, dim), and, where
pictures have texts, ``text`` float16 (m, dim), ``text_rows`` int64 (m,), ascending: the row of the
picture that each belongs to, and ``text_kinds`` bytes (m,). Fused vectors are not kept: they are
made from these when they are needed, so that another fusion needs no encoder.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmsearch.core.durable import publish_bytes, read_verified
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.layout import IndexLayout
from mmsearch.core.records import Segment
from mmsearch.core.types import Ids, TextVectors, Vectors
from mmsearch.core.vectors import as_unit_vectors


@dataclass(frozen=True)
class SegmentVectors:
    """What a segment holds.

    Attributes:
        ids: int64 (n,), ascending.
        images: (n, dim).
        texts: For each picture, the vectors of its texts.
    """

    ids: Ids
    images: Vectors
    texts: Sequence[TextVectors]


def no_texts(dim: int) -> TextVectors:
    """Of a picture without texts."""
    return TextVectors((), np.empty((0, dim), dtype=np.float32))


def write_segment(layout: IndexLayout, number: int, vectors: SegmentVectors) -> Segment:
    """Write vectors durably; they count once the catalog names the segment.

    Args:
        layout: The index.
        number: Of the segment, never used before.
        vectors: At least one picture's.

    Returns:
        The segment, with its checksum.
    """
    arrays: dict[str, Any] = {"ids": vectors.ids, "image": vectors.images.astype(np.float16)}
    counts = [len(own.kinds) for own in vectors.texts]
    if any(counts):
        kinds = [kind.encode() for own in vectors.texts for kind in own.kinds]
        arrays["text"] = np.concatenate([own.vectors for own in vectors.texts]).astype(np.float16)
        arrays["text_rows"] = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        arrays["text_kinds"] = np.array(kinds)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    stamp = publish_bytes(layout.segment(number), buffer.getbuffer())
    return Segment(number, stamp, len(vectors.ids), vectors.images.shape[1])


def read_segment(layout: IndexLayout, segment: Segment) -> SegmentVectors:
    """The vectors of a segment, rows of norm 1.

    Raises:
        DamagedFileError: The file is missing, or is not what the catalog says.
    """
    path = layout.path(segment.stamp)
    content = read_verified(path, segment.stamp)
    try:
        with np.load(io.BytesIO(content.tobytes()), allow_pickle=False) as arrays:
            ids = arrays["ids"].astype(np.int64)
            images = as_unit_vectors(arrays["image"])
            if "text" not in arrays:
                return SegmentVectors(ids, images, [no_texts(images.shape[1])] * len(ids))
            vectors = as_unit_vectors(arrays["text"])
            kinds = [kind.decode() for kind in arrays["text_kinds"].tolist()]
            ends = np.searchsorted(arrays["text_rows"], np.arange(len(ids) + 1))
    except (KeyError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise DamagedFileError(f"{path} is not a segment: {error}.") from error
    spans = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    texts = [TextVectors(tuple(kinds[a:b]), vectors[a:b]) for a, b in spans]
    return SegmentVectors(ids, images, texts)
