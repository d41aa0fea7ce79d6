"""Segments: immutable files of vectors, from which every vector index is built.

A segment is an uncompressed .npz file with ``ids`` int64 (n,) and ``image`` float16 (n, dim). If
pictures have texts, it also has ``text`` float16 (m, dim), ``text_rows`` int64 (m,), ascending,
with the row of the picture of each text, and ``text_kinds`` bytes (m,). ``facts`` is the metadata
of the rows; see `storage.segment_metadata`. Fused vectors are not stored but computed when needed,
so that a change of fusion does not require encoding.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError, VectorError
from mmsearch.core.records import Segment
from mmsearch.core.types import Ids, TextVectors, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.storage.atomic import (
    REPAIR_HINT,
    atomic_write,
    make_file_ref,
    map_file,
    map_verified,
    open_index_file,
    read_verified_bytes,
)
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segment_metadata import SegmentMetadata, pack_metadata, unpack_metadata

MAX_HEADER_BYTES = 1024
"""Maximum bytes read for the header of an array, which contains only its dtype and shape."""

_ARCHIVE_ERRORS = (
    LookupError,
    ArithmeticError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    struct.error,
    VectorError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that damage causes when an archive is read from memory; not disk or memory errors."""


@dataclass(frozen=True)
class SegmentVectors:
    """The vectors of a segment.

    Attributes:
        ids: int64 (n,), ascending.
        images: Image vectors, (n, dim).
        texts: Text vectors of each picture.
    """

    ids: Ids
    images: Vectors
    texts: Sequence[TextVectors]


def empty_text_vectors(dim: int) -> TextVectors:
    """Return the text vectors of a picture without texts."""
    return TextVectors((), np.empty((0, dim), dtype=np.float32))


def write_segment(
    layout: IndexLayout,
    number: int,
    vectors: SegmentVectors,
    metadata: SegmentMetadata | None = None,
) -> Segment:
    """Write a segment durably; it takes effect once the catalog refers to it.

    Args:
        layout: The index.
        number: Number of the segment, never used before.
        vectors: Vectors of at least one picture.
        metadata: Metadata of the same pictures.

    Returns:
        The segment, with its checksum.
    """
    arrays: dict[str, Any] = {"ids": vectors.ids, "image": vectors.images.astype(np.float16)}
    counts = [len(text_vectors.kinds) for text_vectors in vectors.texts]
    if any(counts):
        kinds = [kind.encode() for text_vectors in vectors.texts for kind in text_vectors.kinds]
        arrays["text"] = np.concatenate(
            [text_vectors.vectors for text_vectors in vectors.texts]
        ).astype(np.float16)
        arrays["text_rows"] = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        arrays["text_kinds"] = np.array(kinds)
    if metadata is not None:
        arrays["facts"] = pack_metadata(metadata)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    file_ref = atomic_write(layout.segment_path(number), buffer.getbuffer())
    return Segment(number, file_ref, len(vectors.ids), vectors.images.shape[1])


def read_segment(layout: IndexLayout, segment: Segment) -> SegmentVectors:
    """Return the vectors of a segment, as rows of norm 1.

    Raises:
        DamagedFileError: The file is missing or does not match the catalog.
    """
    path = layout.path(segment.file_ref)
    content = read_verified_bytes(path, segment.file_ref)
    with _open_arrays(path, content) as arrays:
        return _load_vectors(arrays)


def read_image_vectors(
    layout: IndexLayout, segment: Segment, ids: Sequence[int], *, is_verified: bool
) -> Vectors:
    """Return the image vectors of some pictures of a segment without reading the others.

    Args:
        layout: The index.
        segment: The segment that contains the pictures.
        ids: Ids of the pictures.
        is_verified: True if the checksum of the file was verified before.

    Returns:
        float32 (n, dim), in the order of ``ids``.

    Raises:
        DamagedFileError: The file is missing, does not match the catalog, or lacks an id.
    """
    path, file_ref = layout.path(segment.file_ref), segment.file_ref
    content = map_file(path, file_ref.bytes) if is_verified else map_verified(path, file_ref)
    with _open_arrays(path) as arrays:
        rows = _map_rows(content, arrays.zip.getinfo("image.npy"))
        segment_ids = arrays["ids"]
        if not np.isin(ids, segment_ids).all():
            raise ValueError("it lacks a picture that the catalog lists")
        return as_unit_vectors(rows[[int(np.argmax(segment_ids == image_id)) for image_id in ids]])


def read_segment_with_metadata(
    layout: IndexLayout, segment: Segment
) -> tuple[SegmentVectors, SegmentMetadata | None]:
    """Return the vectors and the metadata of a segment; None if an older version wrote it.

    Raises:
        DamagedFileError: The file is missing or does not match the catalog.
    """
    path = layout.path(segment.file_ref)
    content = read_verified_bytes(path, segment.file_ref)
    with _open_arrays(path, content) as arrays:
        return _load_vectors(arrays), unpack_metadata(
            arrays["facts"]
        ) if "facts" in arrays else None


def recover_segment(path: Path) -> tuple[Segment, SegmentMetadata]:
    """Recover a segment without a catalog; verify the checksums (CRC-32) in the file.

    Raises:
        DamagedFileError: The file is damaged or has no metadata of its rows.
    """
    with open_index_file(path) as file:
        content = file.read()
    _verify_archive(path, content)
    with _open_arrays(path, content) as arrays:
        vectors = _load_vectors(arrays)
        metadata = unpack_metadata(arrays["facts"])
        if [item.id for item in metadata.pictures] != vectors.ids.tolist():
            raise ValueError("its metadata describes other rows")
    rows, dim = vectors.images.shape
    return Segment(int(path.stem), make_file_ref(path, content), rows, dim), metadata


def _verify_archive(path: Path, content: bytes) -> None:
    """Verify the CRC-32 of every array, because a damaged header could exhaust the memory.

    Raises:
        DamagedFileError: A CRC does not match, or the content is not an archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()
    except _ARCHIVE_ERRORS as error:
        raise DamagedFileError(f"{path} is not a segment: {error}.", REPAIR_HINT) from error
    if damaged is not None:
        raise DamagedFileError(f"{path} is damaged: {damaged} does not match its CRC.", REPAIR_HINT)


@contextmanager
def _open_arrays(path: Path, content: bytes | None = None) -> Iterator[Any]:
    """Open the arrays of a file, or of its content; each array is read on access."""
    try:
        with (
            open_index_file(path) if content is None else io.BytesIO(content) as source,
            np.load(source, allow_pickle=False) as arrays,
        ):
            yield arrays
    except _ARCHIVE_ERRORS as error:
        raise DamagedFileError(f"{path} is not a segment: {error}.", REPAIR_HINT) from error


def _map_rows(content: NDArray[np.uint8], member: zipfile.ZipInfo) -> NDArray[np.float16]:
    """Return a view of the float16 (n, dim) rows of an uncompressed member of the archive."""
    # The 30-byte local header ends with the lengths of two fields (APPNOTE.TXT, 4.3.7).
    start = member.header_offset + 30
    start += int(content[start - 4 : start].view("<u2").sum())
    header = io.BytesIO(content[start : start + MAX_HEADER_BYTES].tobytes())
    if member.compress_type != zipfile.ZIP_STORED or npy.read_magic(header) != (1, 0):
        raise ValueError("its vectors are stored in an unexpected format")
    shape, _, dtype = npy.read_array_header_1_0(header)
    start += header.tell()
    content = content[start : start + math.prod(shape) * dtype.itemsize]
    rows: NDArray[np.float16] = content.view(dtype).reshape(shape)
    return rows


def _load_vectors(arrays: Any) -> SegmentVectors:
    ids = arrays["ids"].astype(np.int64)
    images = as_unit_vectors(arrays["image"])
    if len(ids) != len(images):
        raise ValueError(f"it has {len(ids)} ids for {len(images)} vectors")
    if "text" not in arrays:
        return SegmentVectors(ids, images, [empty_text_vectors(images.shape[1])] * len(ids))
    vectors = as_unit_vectors(arrays["text"])
    kinds = [kind.decode() for kind in arrays["text_kinds"].tolist()]
    ends = np.searchsorted(arrays["text_rows"], np.arange(len(ids) + 1))
    spans = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    texts = [TextVectors(tuple(kinds[a:b]), vectors[a:b]) for a, b in spans]
    return SegmentVectors(ids, images, texts)
