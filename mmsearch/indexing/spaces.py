"""Embeddings that are missing or outdated: one pager and one commit bring a space up to date.

Embeddings are outdated if the texts of their pictures have changed, and missing in a space that is
being built, for a change of the encoder or of a fusion that needs the pictures again, or for
compaction. They are encoded, copied, or derived from those of the serving space. Each page is
committed, so an interrupted call goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.errors import DecodeError
from mmsearch.core.identity import Identity
from mmsearch.core.protocols import DerivedEncoder, Fusion
from mmsearch.core.records import RECORDS_KIND, EncodedPicture, FailedFile, Segment, StoredPicture
from mmsearch.core.results import TaskFailure
from mmsearch.core.types import (
    CROSS_ATTENTION,
    EncoderSpec,
    InputKind,
    TextVectors,
)
from mmsearch.indexing.build import IndexBuilder
from mmsearch.indexing.encode import (
    EncodedShard,
    Shard,
    ShardEncoder,
    reencode_task,
)
from mmsearch.indexing.orphans import remove_unused_files
from mmsearch.indexing.texts import TextEncoder
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import (
    SegmentMetadata,
    SegmentVectors,
    empty_text_vectors,
    read_segment,
    write_segment,
)

TEXT_PAGE_SIZE = 512
"""Number of pictures whose texts are encoded between two commits."""

COPY_PAGE_SIZE = 65_536
"""Number of vectors that are copied between two commits (200 MB in memory at 512 dimensions)."""

DERIVE_PAGE_SIZE = 16_384
"""Number of pictures whose vectors are derived between two commits (300 MB at 1,419 dimensions)."""

EncodePage = Callable[[int, Sequence[StoredPicture]], EncodedShard]
"""Function of a segment number and pictures that writes a segment with their embeddings."""


@dataclass
class SpaceUpdate:
    """Result of `update_space`.

    Attributes:
        updated: Number of pictures that got an embedding.
        from_copies: Number of those whose own content was not read, such as records of which
            only a thumbnail is kept.
        failed: The files that could not be read, by picture id.
    """

    updated: int = 0
    from_copies: int = 0
    failed: dict[int, FailedFile] = field(default_factory=dict)


def update_space(
    catalog: CatalogWriter,
    encode_page: EncodePage,
    page_size: int,
    *,
    building: bool = False,
    on_page: Callable[[int], None] = lambda count: None,
) -> SpaceUpdate:
    """Give every picture an up-to-date embedding in a space, with a commit after each page.

    Args:
        catalog: Catalog, open for writing.
        encode_page: Makes the embeddings of a page.
        page_size: Number of pictures per page.
        building: Update the space being built instead of the serving one.
        on_page: Receives the number of pictures of each page after its commit.
    """
    update = SpaceUpdate()
    after_id = 0
    while page := catalog.list_stale(after_id, page_size, building=building):
        _, number = catalog.reserve_ids(0, 1) if catalog.is_shared else catalog.next_free_ids()
        encoded = encode_page(number, page)
        if encoded.segment is not None:
            catalog.commit_embeddings(
                encoded.segment, encoded.pictures, encoded.unused_ids, building=building
            )
        update.updated += len(encoded.pictures)
        update.from_copies += sum(picture.keep_texts for picture in encoded.pictures)
        for item in page:
            if item.digest in encoded.failed:
                failure = encoded.failed[item.digest]
                update.failed[item.id] = FailedFile(item.path, failure.reason)
        after_id = page[-1].id
        on_page(len(page))
    return update


def decode_page(
    encode: ShardEncoder, load_item: Callable[[str, bytes, bytes, bytes], bytes]
) -> EncodePage:
    """Return the function that decodes and encodes the pictures of a page.

    Args:
        encode: Encodes shards.
        load_item: Returns the content of an item by kind and URI of its source, its key and digest;
            or a copy of a record, which serves for its vector, but not for what it says.
    """

    def encode_page(number: int, page: Sequence[StoredPicture]) -> EncodedShard:
        tasks, failed = [], {}
        copies: set[bytes] = set()
        items_by_digest: dict[bytes, list[StoredPicture]] = {}
        for item in page:
            items_by_digest.setdefault(item.digest, []).append(item)
        for digest, items in items_by_digest.items():
            source = items[0].source
            try:
                content = None if source is None else load_item(*source, digest)
            except DecodeError as error:
                failed[digest] = TaskFailure(error.message, transient=True)
                continue
            if content is not None and hashlib.sha256(content).digest() != digest:
                if source is None or source[0] != RECORDS_KIND:
                    failed[digest] = TaskFailure("it has changed since it was indexed")
                    continue
                copies.add(digest)
            tasks.append(reencode_task(items, content))
        if not tasks:
            return EncodedShard(None, (), failed)
        encoded = encode(Shard(number, 0, tuple(tasks)))
        pictures = tuple(
            replace(picture, keep_texts=picture.digest in copies) for picture in encoded.pictures
        )
        return replace(encoded, pictures=pictures, failed=encoded.failed | failed)

    return encode_page


def text_page(layout: IndexLayout, catalog: CatalogWriter, texts: TextEncoder) -> EncodePage:
    """Return the function that encodes the texts of a page and keeps the image vectors."""

    def encode_page(number: int, page: Sequence[StoredPicture]) -> EncodedShard:
        kept = [item for item in page if not item.must_decode]
        if not kept:
            return EncodedShard(None, (), {})
        images = gather_vectors(layout, _by_number(catalog.segments()), kept).images
        vectors = SegmentVectors(
            _ids(kept), images, texts.encode([item.picture.texts for item in kept], images)
        )
        digests = [texts.digest(item.picture.texts) for item in kept]
        return _write_copies(layout, number, vectors, texts.encoder_spec, kept, digests)

    return encode_page


def copy_page(layout: IndexLayout, catalog: CatalogWriter, encoder: EncoderSpec) -> EncodePage:
    """Return the function that copies the vectors of a page from the serving space."""

    def encode_page(number: int, page: Sequence[StoredPicture]) -> EncodedShard:
        vectors = gather_vectors(layout, _by_number(catalog.segments()), page)
        digests = [item.texts_digest for item in page]
        return _write_copies(layout, number, vectors, encoder, page, digests)

    return encode_page


def derive_page(
    layout: IndexLayout,
    catalog: CatalogWriter,
    encoder: DerivedEncoder,
    texts: TextEncoder,
    on_derived: Callable[[int], None],
) -> EncodePage:
    """Return the function that derives the vectors of a page from those of the serving space.

    No picture is read. Pictures whose image vector is lost are left out.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing; its serving space is that of the encoder's base.
        encoder: Derives the vectors.
        texts: Encodes the texts that have changed since their vectors were stored.
        on_derived: Receives the number of vectors of pictures and texts of each page.
    """

    def encode_page(number: int, page: Sequence[StoredPicture]) -> EncodedShard:
        kept = [item for item in page if not item.must_decode]
        if not kept:
            return EncodedShard(None, (), {})
        stored = gather_vectors(layout, _by_number(catalog.segments()), kept)
        images = encoder.derive(InputKind.IMAGE, stored.images)
        text_vectors = _derive_texts(encoder, stored.texts)
        digests = [texts.digest(item.picture.texts) for item in kept]
        changed = [row for row, item in enumerate(kept) if digests[row] != item.texts_digest]
        encoded = texts.encode([kept[row].picture.texts for row in changed], images[changed])
        for row, own in zip(changed, encoded, strict=True):
            text_vectors[row] = own
        vectors = SegmentVectors(stored.ids, images, text_vectors)
        shard = _write_copies(layout, number, vectors, encoder.spec, kept, digests)
        on_derived(len(images) + sum(len(own.kinds) for own in text_vectors))
        return shard

    return encode_page


def activate_space(
    layout: IndexLayout,
    catalog: CatalogWriter,
    fusion: Fusion,
    builder: IndexBuilder,
    identity: Identity,
    unreadable: Mapping[int, str],
) -> None:
    """Build a vector index of the space being built, and activate both in one transaction.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        fusion: Fusion of the new vector index.
        builder: Builds the vector index.
        identity: Identity of the index from then on.
        unreadable: Reasons why pictures could not be read, by picture id; their files count as
            failed.
    """
    segments = catalog.list_building_segments()
    built = None
    if segments:
        built = builder.build(segments, fusion, identity, catalog.stale_rows())
    catalog.activate_space(built, identity, unreadable)
    remove_unused_files(layout, catalog)


def gather_vectors(
    layout: IndexLayout, segments: Mapping[int, Segment], pictures: Sequence[StoredPicture]
) -> SegmentVectors:
    """Read the vectors of pictures from their segments, in the order of the pictures.

    Args:
        layout: File layout of the index.
        segments: Segments by number.
        pictures: Pictures that have a segment; at least one.

    Raises:
        DamagedFileError: A segment does not match the catalog.
    """
    images: dict[int, np.ndarray] = {}
    texts = {}
    ids_by_segment: dict[int, list[int]] = {}
    for item in pictures:
        if item.segment is None:
            raise ValueError(f"picture {item.id} has no vectors")
        ids_by_segment.setdefault(item.segment, []).append(item.id)
    for number, ids in sorted(ids_by_segment.items()):
        stored = read_segment(layout, segments[number])
        rows = {picture: row for row, picture in enumerate(stored.ids.tolist())}
        for picture in ids:
            images[picture] = stored.images[rows[picture]]
            texts[picture] = stored.texts[rows[picture]]
    return SegmentVectors(
        _ids(pictures),
        np.stack([images[item.id] for item in pictures]),
        [texts[item.id] for item in pictures],
    )


def _derive_texts(encoder: DerivedEncoder, stored: Sequence[TextVectors]) -> list[TextVectors]:
    """Derive the text vectors of pictures, without those that a picture's patches are part of."""
    masks = [[kind != CROSS_ATTENTION for kind in own.kinds] for own in stored]
    rows = [own.vectors[mask] for own, mask in zip(stored, masks, strict=True) if any(mask)]
    derived = encoder.derive(InputKind.TEXT, np.concatenate(rows)) if rows else None
    texts, first = [], 0
    for own, mask in zip(stored, masks, strict=True):
        end = first + sum(mask)
        if derived is None or first == end:
            texts.append(empty_text_vectors(encoder.spec.dim))
        else:
            kinds = tuple(kind for kind in own.kinds if kind != CROSS_ATTENTION)
            texts.append(TextVectors(kinds, derived[first:end]))
        first = end
    return texts


def _ids(pictures: Sequence[StoredPicture]) -> np.ndarray:
    return np.array([item.id for item in pictures], dtype=np.int64)


def _by_number(segments: Sequence[Segment]) -> dict[int, Segment]:
    return {segment.number: segment for segment in segments}


def _write_copies(
    layout: IndexLayout,
    number: int,
    vectors: SegmentVectors,
    encoder: EncoderSpec,
    pictures: Sequence[StoredPicture],
    digests: Sequence[bytes],
) -> EncodedShard:
    """Write a segment of pictures that were not decoded again."""
    encoded = tuple(
        EncodedPicture(
            item.id,
            item.digest,
            item.picture,
            digest,
            keep_texts=True,
            locator=item.locator,
            kind=item.kind,
            perceptual_hash=item.perceptual_hash,
        )
        for item, digest in zip(pictures, digests, strict=True)
    )
    segment = write_segment(layout, number, vectors, SegmentMetadata(encoder, encoded))
    return EncodedShard(segment, encoded, {})
