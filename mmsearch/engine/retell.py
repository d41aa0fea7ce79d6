"""Pictures whose texts have changed get new vectors for these; their pixels are not looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mmsearch.core.catalog import Catalog
from mmsearch.core.layout import IndexLayout
from mmsearch.core.records import EncodedPicture, Segment, ShardCommit, StoredPicture
from mmsearch.core.segment_facts import SegmentFacts
from mmsearch.core.segments import SegmentVectors, read_segment, write_segment
from mmsearch.core.types import Vectors
from mmsearch.engine.encode_texts import TextEncoder

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
        images = _image_vectors(layout, catalog.segments(), retold)
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


def _image_vectors(
    layout: IndexLayout, segments: Sequence[Segment], retold: Sequence[StoredPicture]
) -> Vectors:
    """(n, dim): the vectors of the pictures themselves, from the segments that hold them."""
    by_number = {segment.number: segment for segment in segments}
    rows: dict[int, Vectors] = {}
    for number in sorted({item.segment for item in retold}):
        held = read_segment(layout, by_number[number])
        places = {image_id: row for row, image_id in enumerate(held.ids.tolist())}
        rows.update({i.id: held.images[places[i.id]] for i in retold if i.segment == number})
    return np.stack([rows[item.id] for item in retold])
