"""Decoding and encoding of stored pictures again, for vectors that were not stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.records import EncodedPicture, FailedFile, ShardCommit, StoredPicture
from mmsearch.indexing.encode import Shard, ShardEncoder, reencode_task
from mmsearch.indexing.staging import gather_vectors
from mmsearch.indexing.texts import TextEncoder
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import SegmentMetadata, SegmentVectors, write_segment


def reencode(
    catalog: CatalogWriter, encode: ShardEncoder, pages: Iterable[Sequence[StoredPicture]]
) -> list[FailedFile]:
    """Re-encode pictures; each page is committed and replaces their previous vectors.

    Args:
        catalog: Catalog, open for writing.
        encode: Shard worker.
        pages: Pages of a few hundred pictures. A page is requested after the previous one is
            committed.

    Returns:
        Files that could not be read; their pictures keep their current vectors.
    """
    failed = []
    for page in pages:
        first_id, number = catalog.next_free_ids()
        contents = tuple(replace(reencode_task(item), replaces=item.id) for item in page)
        encoded = encode(Shard(number, first_id, contents))
        paths = {item.digest: item.path for item in page}
        failed += [
            FailedFile(paths[digest], failure.reason) for digest, failure in encoded.failed.items()
        ]
        root = catalog.roots()[0]
        catalog.commit_shard(ShardCommit(root.id, 0, encoded.segment, encoded.pictures))
    return failed


PAGE_SIZE = 512


def refresh_text_vectors(
    layout: IndexLayout,
    catalog: CatalogWriter,
    texts: TextEncoder,
    on_updated: Callable[[int], None] = lambda count: None,
) -> int:
    """Re-encode all changed texts, with a commit after each page of pictures.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        texts: Text encoder with the index's own encoder and sources.
        on_updated: Receives the number of pictures in each committed page.

    Returns:
        The number of pictures that got new vectors.
    """
    count = 0
    while stale_texts := catalog.stale_texts(PAGE_SIZE):
        first_id, number = catalog.next_free_ids()
        segments = {segment.number: segment for segment in catalog.segments()}
        images = gather_vectors(layout, segments, stale_texts).images
        vectors = SegmentVectors(
            np.arange(first_id, first_id + len(stale_texts), dtype=np.int64),
            images,
            texts.encode([item.picture.texts for item in stale_texts], images),
        )
        pictures = [
            EncodedPicture(
                first_id + row,
                item.digest,
                item.picture,
                texts.digest(item.picture.texts),
                replaces=item.id,
                keep_texts=True,
            )
            for row, item in enumerate(stale_texts)
        ]
        metadata = SegmentMetadata(texts.encoder_spec, pictures)
        segment = write_segment(layout, number, vectors, metadata)
        root = catalog.roots()[0]
        catalog.commit_shard(ShardCommit(root.id, 0, segment, pictures))
        count += len(stale_texts)
        on_updated(len(stale_texts))
    return count
