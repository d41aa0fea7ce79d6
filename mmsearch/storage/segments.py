"""Segments: immutable files of vectors, from which every vector index is built.

A segment is a file of `mmsearch.storage.arrays` with ``ids`` int64 (n,) and ``image`` float16
(n, dim). If pictures have texts, it also has ``text`` float16 (m, dim), ``text_rows`` int64 (m,),
ascending, with the row of the picture of each text, and ``text_kinds`` bytes (m,). ``facts``, uint8
(b,), is zlib-compressed JSON with the metadata of the rows, from which a lost catalog can be
rebuilt. Fused vectors are not stored but computed when needed, so that a change of fusion does not
require encoding.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.records import EncodedPicture, Segment
from mmsearch.core.types import (
    CONTENT_SOURCES,
    IMAGE_KIND,
    WHOLE,
    EncoderSpec,
    Ids,
    ItemLocator,
    Picture,
    Text,
    TextSource,
    TextVectors,
    Vectors,
)
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.storage.arrays import (
    ChecksummedArrays,
    ChecksummedArraysWriter,
    damaged_file_errors,
)
from mmsearch.storage.atomic import (
    REPAIR_HINT,
    make_file_ref,
    open_index_file,
    read_verified_bytes,
)
from mmsearch.storage.layout import IndexLayout, new_segment_name, segment_number
from mmsearch.storage.legacy import LEGACY_SUFFIX, NpzArrays, open_arrays

if TYPE_CHECKING:
    from mmsearch.core.protocols import Fusion, Store, StoreFile

MAX_UNPACKED_BYTES = 1_000_000_000
"""Maximum size of unpacked metadata; a segment of half a million pictures has about 200 MB."""

MAX_SPOOLED_BYTES = 16_000_000
"""Maximum size of the text vectors of a segment that is being written, in memory."""

SPOOL_BLOCK_ROWS = 512

JSON_BLOCK_ROWS = 1024
"""Number of pictures whose metadata are in memory as JSON at a time."""


@dataclass(frozen=True)
class SegmentVectors:
    """The vectors of a segment.

    Attributes:
        ids: int64 (n,), unique.
        images: Image vectors, (n, dim).
        texts: Text vectors of each picture.
    """

    ids: Ids
    images: Vectors
    texts: Sequence[TextVectors]


@dataclass(frozen=True)
class StoredVectors:
    """The vectors of a segment, bit for bit as they are in its file.

    Attributes:
        ids: int64 (n,), ascending.
        images: float16 (n, dim).
        texts: float16 (m, dim), the text vectors of the first row, then of the next.
        text_kinds: Kinds of the text vectors of each row.
    """

    ids: Ids
    images: NDArray[np.float16]
    texts: NDArray[np.float16]
    text_kinds: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class SegmentMetadata:
    """The encoder, and the pictures in row order, with the texts embedded in their files."""

    encoder: EncoderSpec
    pictures: Sequence[EncodedPicture]


def empty_text_vectors(dim: int) -> TextVectors:
    """Return the text vectors of a picture without texts."""
    return TextVectors((), np.empty((0, dim), dtype=np.float32))


class SegmentWriter:
    """Writer that appends pictures to a new segment; see `segment_writer`.

    Args:
        number: Number of the segment.
        file: Its file.
        texts: Keeps the text vectors until the end.
        encoder: Encoder of the vectors; None writes no metadata.
    """

    def __init__(
        self, number: int, file: StoreFile, texts: _TextSpool, encoder: EncoderSpec | None
    ) -> None:
        self._number = number
        self._file = file
        self._arrays = ChecksummedArraysWriter(file)
        self._ids: list[Ids] = []
        self._texts = texts
        self._metadata = None if encoder is None else _MetadataPacker(encoder)

    def append(
        self, vectors: SegmentVectors | StoredVectors, pictures: Sequence[EncodedPicture] = ()
    ) -> None:
        """Append pictures.

        Args:
            vectors: Their vectors; the ids ascend from one call to the next.
            pictures: The same pictures, for the metadata.
        """
        stored = vectors if isinstance(vectors, StoredVectors) else _to_stored(vectors)
        self._arrays.append("image", stored.images)
        self._ids.append(stored.ids)
        self._texts.append(stored)
        if self._metadata is not None:
            self._metadata.append(pictures)

    def finish(self) -> Segment:
        """Write what is left, and return the segment; at least one picture was appended."""
        ids = np.concatenate(self._ids)
        dim = self._arrays.columns("image")
        self._arrays.append("ids", ids)
        self._texts.write(self._arrays, dim)
        if self._metadata is not None:
            self._arrays.append("facts", self._metadata.finish())
        self._arrays.finish()
        return Segment(self._number, self._file.file_ref(), len(ids), dim)


@contextmanager
def segment_writer(
    store: Store, number: int, encoder: EncoderSpec | None
) -> Iterator[SegmentWriter]:
    """Write a segment durably; it takes effect once the catalog refers to it.

    Vectors go to the file as they are appended, so that memory does not grow with them. The file is
    complete when the context ends; `SegmentWriter.finish` must be called before.

    Args:
        store: Store of the files of the index.
        number: Number of the segment, not used by any committed one. Files with one number that
            several workers write at once do not disturb each other.
        encoder: Encoder of the vectors; None writes no metadata.
    """
    from tempfile import SpooledTemporaryFile  # noqa: PLC0415 - searches do not need it

    folder = os.fspath(store.temporary_folder)
    with (
        store.put(new_segment_name(number)) as file,
        SpooledTemporaryFile(MAX_SPOOLED_BYTES, dir=folder) as spool,
    ):
        yield SegmentWriter(number, file, _TextSpool(spool), encoder)


def write_segment(
    layout: IndexLayout,
    number: int,
    vectors: SegmentVectors | StoredVectors,
    metadata: SegmentMetadata | None = None,
) -> Segment:
    """Write a segment of vectors in memory with a `segment_writer`.

    Args:
        layout: The index.
        number: Number of the segment.
        vectors: Vectors of at least one picture.
        metadata: Metadata of the same pictures.

    Returns:
        The segment, with its checksum.
    """
    from mmsearch.storage.stored_files import open_store  # noqa: PLC0415 - searches do not need it

    encoder = metadata.encoder if metadata else None
    with segment_writer(open_store(layout), number, encoder) as writer:
        writer.append(vectors, metadata.pictures if metadata else ())
        return writer.finish()


def _to_stored(vectors: SegmentVectors) -> StoredVectors:
    images = vectors.images.astype(np.float16)
    texts = [text_vectors.vectors for text_vectors in vectors.texts]
    return StoredVectors(
        vectors.ids,
        images,
        np.concatenate([*texts, np.empty((0, images.shape[1]), np.float32)]).astype(np.float16),
        [text_vectors.kinds for text_vectors in vectors.texts],
    )


def read_segment(layout: IndexLayout, segment: Segment) -> SegmentVectors:
    """Return the vectors of a segment, as rows of norm 1.

    Raises:
        DamagedFileError: The file is missing or does not match the catalog.
    """
    path = layout.local_path(segment.file_ref)
    return _load_vectors(path, open_arrays(path, read_verified_bytes(path, segment.file_ref)))


def read_stored_vectors(layout: IndexLayout, segment: Segment) -> StoredVectors:
    """Return the vectors of a segment without a change of their precision or norm.

    Raises:
        DamagedFileError: The file is missing or does not match the catalog.
    """
    path = layout.local_path(segment.file_ref)
    return _load_stored(path, open_arrays(path, read_verified_bytes(path, segment.file_ref)))


def read_segment_with_metadata(
    layout: IndexLayout, segment: Segment
) -> tuple[SegmentVectors, SegmentMetadata | None]:
    """Return the vectors and the metadata of a segment; None if an older version wrote it.

    Raises:
        DamagedFileError: The file is missing or does not match the catalog.
    """
    path = layout.local_path(segment.file_ref)
    arrays = open_arrays(path, read_verified_bytes(path, segment.file_ref))
    metadata = _load_metadata(path, arrays) if "facts" in arrays else None
    return _load_vectors(path, arrays), metadata


def read_image_vectors(layout: IndexLayout, segment: Segment, ids: Sequence[int]) -> Vectors:
    """Return the image vectors of some pictures of a segment.

    Only the ids and the blocks of these pictures are read and verified.

    Args:
        layout: The index.
        segment: The segment that contains the pictures.
        ids: Ids of the pictures.

    Returns:
        float32 (n, dim), in the order of ``ids``.

    Raises:
        DamagedFileError: The file is missing, does not match the catalog, or lacks an id.
    """
    path, file_ref = layout.local_path(segment.file_ref), segment.file_ref
    arrays = (
        open_arrays(path, read_verified_bytes(path, file_ref))
        if path.suffix == LEGACY_SUFFIX
        else ChecksummedArrays.map(path, file_ref)
    )
    with damaged_file_errors(path):
        segment_ids = arrays.array("ids")
        if not np.isin(ids, segment_ids).all():
            raise ValueError("it lacks a picture that the catalog lists")
        rows = np.array([int(np.argmax(segment_ids == image_id)) for image_id in ids])
        arrays.verify_rows("image", rows)
        return as_unit_vectors(arrays.array_unverified("image")[rows])


def recover_segment(path: Path) -> tuple[Segment, SegmentMetadata]:
    """Recover a segment without a catalog; verify the checksums in the file.

    Raises:
        DamagedFileError: The file is damaged or has no metadata of its rows.
    """
    with open_index_file(path) as file:
        content = file.read()
    arrays = open_arrays(path, content)
    vectors, metadata = _load_vectors(path, arrays), _load_metadata(path, arrays)
    if [item.id for item in metadata.pictures] != vectors.ids.tolist():
        raise DamagedFileError(f"{path}: its metadata describes other rows.", REPAIR_HINT)
    rows, dim = vectors.images.shape
    return Segment(segment_number(path), make_file_ref(path, content), rows, dim), metadata


def fused_dim(fusion: Fusion, dim: int) -> int:
    """Return the dimension of fused vectors."""
    return int(fusion.fuse_query(np.eye(1, dim, dtype=np.float32)).shape[1])


def iter_fused_blocks(
    layout: IndexLayout,
    segments: Sequence[Segment],
    fusion: Fusion,
    stale_rows: Mapping[int, Ids],
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield the ids and the fused vectors of each segment.

    Args:
        layout: The index.
        segments: The segments to read, in any order.
        fusion: The fusion of a picture's vectors into one.
        stale_rows: Ids whose rows are left out, by number of the segment.

    Raises:
        DamagedFileError: A file is missing or does not match the catalog.
    """
    for segment in segments:
        held = read_segment(layout, segment)
        fused = fusion.fuse(held.images, held.texts)
        excluded = stale_rows.get(segment.number)
        if excluded is None:
            yield held.ids, fused
        else:
            kept = ~np.isin(held.ids, excluded)
            yield held.ids[kept], fused[kept]


def _load_vectors(path: Path, arrays: ChecksummedArrays | NpzArrays) -> SegmentVectors:
    stored = _load_stored(path, arrays)
    with damaged_file_errors(path):
        images = as_unit_vectors(stored.images)
        vectors = as_unit_vectors(stored.texts) if len(stored.texts) else None
        texts, first = [], 0
        for kinds in stored.text_kinds:
            end = first + len(kinds)
            if kinds and vectors is not None:
                texts.append(TextVectors(kinds, vectors[first:end]))
            else:
                texts.append(empty_text_vectors(images.shape[1]))
            first = end
        return SegmentVectors(stored.ids, images, texts)


def _load_stored(path: Path, arrays: ChecksummedArrays | NpzArrays) -> StoredVectors:
    with damaged_file_errors(path):
        ids, images = arrays.array("ids").astype(np.int64), arrays.array("image")
        if images.ndim != 2 or len(ids) != len(images):
            raise ValueError(f"it has {len(ids)} ids for vectors of shape {images.shape}")
        if "text" not in arrays:
            no_kinds: list[tuple[str, ...]] = [()] * len(ids)
            return StoredVectors(ids, images, images[:0], no_kinds)
        texts = arrays.array("text")
        kinds = [kind.decode() for kind in arrays.array("text_kinds").tolist()]
        ends = np.searchsorted(arrays.array("text_rows"), np.arange(len(ids) + 1)).tolist()
        spans = pairwise(ends)
        if ends[-1] != len(texts) or len(kinds) != len(texts):
            raise ValueError(f"it has {len(kinds)} kinds for {len(texts)} text vectors")
        return StoredVectors(ids, images, texts, [tuple(kinds[a:b]) for a, b in spans])


class _TextSpool:
    """Text vectors of a segment until its image vectors are complete.

    Args:
        file: An empty file that holds them.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._kinds: list[bytes] = []
        self._counts: list[int] = []

    def append(self, vectors: StoredVectors) -> None:
        """Append the text vectors of pictures."""
        self._counts += [len(kinds) for kinds in vectors.text_kinds]
        self._kinds += [kind.encode() for kinds in vectors.text_kinds for kind in kinds]
        self._file.write(np.ascontiguousarray(vectors.texts).data)

    def write(self, arrays: ChecksummedArraysWriter, dim: int) -> None:
        """Write the arrays of the texts, if there are any."""
        if not self._kinds:
            return
        self._file.seek(0)
        rows = np.arange(len(self._counts), dtype=np.int64)
        block_bytes = SPOOL_BLOCK_ROWS * dim * np.dtype(np.float16).itemsize
        while block := self._file.read(block_bytes):
            arrays.append("text", np.frombuffer(block, np.float16).reshape(-1, dim))
        arrays.append("text_rows", np.repeat(rows, self._counts))
        arrays.append("text_kinds", np.array(self._kinds))


class _MetadataPacker:
    """Compressor of the metadata of a segment, picture by picture."""

    def __init__(self, encoder: EncoderSpec) -> None:
        self._compressor = zlib.compressobj()
        self._chunks: list[bytes] = []
        self._separator = ""
        self._write(f'{{"encoder": {json.dumps(asdict(encoder))}, "pictures": [')

    def append(self, pictures: Sequence[EncodedPicture]) -> None:
        """Append the metadata of pictures."""
        # One call for many pictures takes half the time of a call for each.
        for start in range(0, len(pictures), JSON_BLOCK_ROWS):
            block = pictures[start : start + JSON_BLOCK_ROWS]
            content = json.dumps([_picture_to_json(encoded) for encoded in block])
            self._write(self._separator + content[1:-1])
            self._separator = ", "

    def finish(self) -> NDArray[np.uint8]:
        """Return the compressed JSON, uint8 (b,)."""
        self._write("]}")
        content = b"".join((*self._chunks, self._compressor.flush()))
        return np.frombuffer(content, dtype=np.uint8)

    def _write(self, text: str) -> None:
        self._chunks.append(self._compressor.compress(text.encode("ascii")))


def _load_metadata(path: Path, arrays: ChecksummedArrays | NpzArrays) -> SegmentMetadata:
    packed, reader = arrays.array("facts").tobytes(), zlib.decompressobj()
    with damaged_file_errors(path):
        try:
            content = reader.decompress(packed, MAX_UNPACKED_BYTES)
        except zlib.error as error:
            raise ValueError(f"its metadata cannot be read ({error})") from error
        if not reader.eof:
            raise ValueError("its metadata is truncated or too large")
        stored = json.loads(content)
        encoder = EncoderSpec(**stored["encoder"])
        return SegmentMetadata(
            encoder, [_picture_from_json(encoded) for encoded in stored["pictures"]]
        )


def _picture_to_json(encoded: EncodedPicture) -> dict[str, Any]:
    # dataclasses.asdict copies every value, which takes a fifth of an import.
    picture_fields = dict(vars(encoded.picture))
    picture_fields["texts"] = [
        _text_to_json(text) for text in encoded.picture.texts if text.source in CONTENT_SOURCES
    ]
    stored = {
        "id": encoded.id,
        "digest": encoded.digest.hex(),
        "picture": picture_fields,
        "texts_digest": encoded.texts_digest.hex(),
    }
    # Still pictures, which are most, are as earlier versions wrote them.
    if encoded.kind != IMAGE_KIND:
        stored["kind"] = encoded.kind
    if encoded.locator != WHOLE:
        stored["locator"] = vars(encoded.locator)
    if encoded.perceptual_hash is not None:
        stored["perceptual_hash"] = encoded.perceptual_hash
    return stored


def _text_to_json(text: Text) -> list[Any]:
    """Return a text as earlier versions wrote it, followed by its source if it has another one.

    A text with a time is followed by all its fields up to that.
    """
    fields: list[Any] = [text.kind, text.text, text.language]
    if text.start_ms is not None:
        return [*fields, text.source, text.made_by, text.confidence, text.start_ms, text.end_ms]
    return fields if text.source == TextSource.METADATA else [*fields, text.source]


def _picture_from_json(stored: dict[str, Any]) -> EncodedPicture:
    picture_fields = dict(stored["picture"])
    if picture_fields["taken_at"] is not None:
        # Earlier versions read dates only from EXIF.
        picture_fields.setdefault("taken_from", "exif")
    texts = tuple(Text(*fields) for fields in picture_fields["texts"])
    return EncodedPicture(
        id=int(stored["id"]),
        digest=bytes.fromhex(stored["digest"]),
        picture=Picture(**{**picture_fields, "texts": texts}),
        texts_digest=bytes.fromhex(stored["texts_digest"]),
        locator=ItemLocator(**stored["locator"]) if "locator" in stored else WHOLE,
        kind=stored.get("kind", IMAGE_KIND),
        perceptual_hash=stored.get("perceptual_hash"),
    )
