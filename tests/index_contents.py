"""Content of an index, read from and written to its files without the code under test."""

import numpy as np

from mmsearch.core.records import EncodedPicture, IndexedFile, ScannedFile, ShardCommit
from mmsearch.core.types import Picture
from mmsearch.storage.segments import (
    SegmentMetadata,
    SegmentVectors,
    empty_text_vectors,
    read_segment,
    write_segment,
)


def load_stored_files(layout, catalog):
    """Return the catalog entry and the vector of each file, by path below its root."""
    rows = {}
    for segment in catalog.segments():
        segment_vectors = read_segment(layout, segment)
        # Rows of newer segments replace those of older ones.
        rows |= dict(zip(segment_vectors.ids.tolist(), segment_vectors.images, strict=True))
    ids = catalog.find_item_ids(
        [
            file.digest
            for root in catalog.roots()
            for file in catalog.list_files_under(root.id, b"").values()
        ]
    )
    return {
        path: (file, rows.get(ids.get(file.digest)))
        for root in catalog.roots()
        for path, file in catalog.list_files_under(root.id, b"").items()
    }


def write_pictures(layout, encoder, vectors, first_id=1, number=1):
    """Write a segment of picture vectors; return it and the pictures, not yet committed."""
    ids = np.arange(first_id, first_id + len(vectors), dtype=np.int64)
    pictures = [
        EncodedPicture(i, i.to_bytes(32, "big"), Picture(640, 480, "JPEG")) for i in ids.tolist()
    ]
    segment_vectors = SegmentVectors(ids, vectors, [empty_text_vectors(encoder.dim)] * len(ids))
    return write_segment(
        layout, number, segment_vectors, SegmentMetadata(encoder, pictures)
    ), pictures


def store_vectors(layout, catalog, encoder, vectors, first_id=1, number=1):
    """Commit vectors as pictures ``/nowhere/ID.jpg``, as a run over a folder would."""
    segment, pictures = write_pictures(layout, encoder, vectors, first_id, number)
    root, _ = catalog.ensure_root(b"/nowhere")
    files = [IndexedFile(ScannedFile(b"%d.jpg" % item.id, 1, 1), item.digest) for item in pictures]
    catalog.commit_shard(ShardCommit(root.id, 1, segment, pictures, files))
