"""Re-encoding of changed texts; the pictures themselves are not decoded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmsearch.core.catalog import Catalog
from mmsearch.core.records import EncodedPicture, ShardCommit
from mmsearch.indexing.staging import gather_vectors
from mmsearch.indexing.text_encoder import TextEncoder
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segment_metadata import SegmentMetadata
from mmsearch.storage.segments import SegmentVectors, write_segment

PAGE_SIZE = 512


def refresh_text_vectors(
    layout: IndexLayout,
    catalog: Catalog,
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
