"""Pictures whose texts have changed get new vectors for these; their pixels are not looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmsearch.core.catalog import Catalog
from mmsearch.core.records import EncodedPicture, ShardCommit
from mmsearch.indexing.staging import gather_vectors
from mmsearch.indexing.text_encoder import TextEncoder
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segment_metadata import SegmentFacts
from mmsearch.storage.segments import SegmentVectors, write_segment

AT_ONCE = 512


def retell(
    layout: IndexLayout,
    catalog: Catalog,
    texts: TextEncoder,
    on_retold: Callable[[int], None] = lambda count: None,
) -> int:
    """Bring the vectors of all texts up to date; each step is committed.

    Args:
        layout: The index.
        catalog: Open for writing.
        texts: With the index's own encoder and sources.
        on_retold: Receives the number of pictures done by each step.

    Returns:
        How many pictures got new vectors.
    """
    count = 0
    while retold := catalog.retold(AT_ONCE):
        first_id, number = catalog.next_numbers()
        segments = {segment.number: segment for segment in catalog.segments()}
        images = gather_vectors(layout, segments, retold).images
        vectors = SegmentVectors(
            np.arange(first_id, first_id + len(retold), dtype=np.int64),
            images,
            texts.encode([item.picture.texts for item in retold], images),
        )
        pictures = [
            EncodedPicture(
                first_id + row,
                item.digest,
                item.picture,
                texts.digest(item.picture.texts),
                replaces=item.id,
                texts_stay=True,
            )
            for row, item in enumerate(retold)
        ]
        facts = SegmentFacts(texts.encoder, pictures)
        segment = write_segment(layout, number, vectors, facts)
        root = catalog.roots()[0]
        catalog.commit_shard(ShardCommit(root.id, 0, segment, pictures))
        count += len(retold)
        on_retold(len(retold))
    return count
