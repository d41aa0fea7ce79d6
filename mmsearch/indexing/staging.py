"""New segments in the place of all others: compaction, and another encoder.

They are staged beside those that readers use, and adopted at once when every picture is in one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from mmsearch.core.catalog import Catalog
from mmsearch.core.compatibility import require_identity
from mmsearch.core.errors import StateError
from mmsearch.core.protocols import Fusion
from mmsearch.core.records import EncodedPicture, FailedFile, Identity, Segment, StoredPicture
from mmsearch.core.reports import CompactReport
from mmsearch.core.requests import Progress
from mmsearch.core.types import EncoderSpec
from mmsearch.indexing.build import IndexBuilder
from mmsearch.indexing.encode import REENCODE_PAGE_SIZE, Shard, ShardEncoder, reencode_task
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segment_metadata import SegmentMetadata
from mmsearch.storage.segments import SegmentVectors, read_segment, write_segment

COMPACTED_SEGMENT_ROWS = 65_536
"""Rows of a segment that compaction writes: 200 MB of 512 columns in memory."""


def stage_encodings(
    catalog: Catalog,
    encode: ShardEncoder,
    encoder: EncoderSpec,
    progress: Callable[[Progress], None],
) -> dict[int, FailedFile]:
    """Encode every picture that is not staged yet; each page is committed.

    What yet another encoder has staged is forgotten.

    Returns:
        The pictures that could not be read.
    """
    with catalog.snapshot() as snapshot:
        total = snapshot.pictures
    if catalog.staged_encoder() != encoder.fingerprint:
        catalog.discard_staged()
    done = sum(segment.rows for segment in catalog.list_staged_segments())
    failed: dict[int, FailedFile] = {}
    after = 0
    while page := catalog.list_unstaged_pictures(after, REENCODE_PAGE_SIZE):
        _, number = catalog.next_free_ids()
        contents = tuple(replace(reencode_task(item), id=item.id) for item in page)
        encoded = encode(Shard(number, 0, contents))
        if encoded.segment is not None:
            catalog.stage_segment(encoded.segment, encoder, encoded.pictures)
        for item in page:
            if item.digest in encoded.failed:
                reason = encoded.failed[item.digest].reason
                failed[item.id] = FailedFile(item.path, reason)
        after, done = page[-1].id, done + len(page)
        progress(Progress("encode", done, total, done))
    return failed


def compact(
    layout: IndexLayout,
    catalog: Catalog,
    fusion: Fusion,
    builder: IndexBuilder,
    progress: Callable[[Progress], None] = lambda state: None,
) -> CompactReport:
    """Drop the vectors of pictures that are gone, merge segments, and shrink the catalog.

    Args:
        layout: The index.
        catalog: Open for writing.
        fusion: The index's own.
        builder: Builds the vector index anew.
        progress: Called often.

    Raises:
        DamagedFileError: A segment is not what the catalog says; nothing is changed.
        StateError: There are no pictures, or a change of the encoder is not finished.
    """
    started_at = time.monotonic()
    identity = require_identity(catalog)
    staged_fingerprint = catalog.staged_encoder()
    if staged_fingerprint not in (None, identity.encoder.fingerprint):
        raise StateError(
            "A change of the encoder has begun and is not finished.",
            "Finish it with 'mmsearch reindex --model NAME' first.",
        )
    segments_before, bytes_before = catalog.segments(), sum(layout.bytes_by_part().values())
    layout.remove_orphans(catalog.referenced_files())
    with catalog.snapshot() as snapshot:
        num_live = snapshot.pictures
    num_deleted = sum(segment.rows for segment in segments_before) - num_live
    if num_deleted or _has_mergeable_neighbors(segments_before):
        _merge_segments(layout, catalog, identity.encoder, num_live, progress)
        progress(Progress("build", 0, None))
        commit_staged(layout, catalog, fusion, builder, identity, {})
    catalog.vacuum()
    return CompactReport(
        num_deleted,
        len(segments_before),
        len(catalog.segments()),
        bytes_before,
        sum(layout.bytes_by_part().values()),
        time.monotonic() - started_at,
    )


def _has_mergeable_neighbors(segments: Sequence[Segment]) -> bool:
    """Whether two neighbours would fit into one."""
    return any(
        left.rows + right.rows <= COMPACTED_SEGMENT_ROWS for left, right in pairwise(segments)
    )


def _merge_segments(
    layout: IndexLayout,
    catalog: Catalog,
    encoder: EncoderSpec,
    total: int,
    progress: Callable[[Progress], None],
) -> None:
    segments_by_number = {segment.number: segment for segment in catalog.segments()}
    done = sum(segment.rows for segment in catalog.list_staged_segments())
    while page := catalog.list_unstaged_pictures(0, COMPACTED_SEGMENT_ROWS):
        vectors = gather_vectors(layout, segments_by_number, page)
        pictures = [
            EncodedPicture(item.id, item.digest, item.picture, item.texts_digest) for item in page
        ]
        _, number = catalog.next_free_ids()
        segment = write_segment(layout, number, vectors, SegmentMetadata(encoder, pictures))
        catalog.stage_segment(segment, encoder, pictures)
        done += len(page)
        progress(Progress("merge", done, total))


def gather_vectors(
    layout: IndexLayout, segments: Mapping[int, Segment], pictures: Sequence[StoredPicture]
) -> SegmentVectors:
    """The vectors of pictures, in their order, from the segments that hold them.

    Raises:
        DamagedFileError: A segment is not what the catalog says.
    """
    images: dict[int, np.ndarray] = {}
    texts = {}
    ids_by_segment: dict[int, list[int]] = {}
    for item in pictures:
        ids_by_segment.setdefault(item.segment, []).append(item.id)
    for number, ids in sorted(ids_by_segment.items()):
        stored = read_segment(layout, segments[number])
        rows = {picture: row for row, picture in enumerate(stored.ids.tolist())}
        for picture in ids:
            images[picture] = stored.images[rows[picture]]
            texts[picture] = stored.texts[rows[picture]]
    return SegmentVectors(
        np.array([item.id for item in pictures], dtype=np.int64),
        np.stack([images[item.id] for item in pictures]),
        [texts[item.id] for item in pictures],
    )


def commit_staged(
    layout: IndexLayout,
    catalog: Catalog,
    fusion: Fusion,
    builder: IndexBuilder,
    identity: Identity,
    unreadable: Mapping[int, str],
) -> None:
    """Build the vector index of what is staged, and make both what readers see."""
    staged = catalog.list_staged_segments()
    built = None
    if staged:
        built = builder.build(staged, fusion, identity, catalog.superseded_ids())
    catalog.activate_staged(built, identity, unreadable)
    layout.remove_orphans(catalog.referenced_files())
