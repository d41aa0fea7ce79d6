"""Replacement of all segments, for compaction and for a change of the encoder.

New segments are staged while readers use the old ones, and activated in one step when every picture
is in one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from mmsearch.core.catalog import CatalogMaintenance, CatalogWriter
from mmsearch.core.errors import Hint, StateError
from mmsearch.core.protocols import Fusion
from mmsearch.core.records import (
    EncodedPicture,
    FailedFile,
    Identity,
    Segment,
    StoredPicture,
    require_identity,
)
from mmsearch.core.reports import CompactReport
from mmsearch.core.results import Progress
from mmsearch.core.types import EncoderSpec
from mmsearch.indexing.build import IndexBuilder
from mmsearch.indexing.encode import REENCODE_PAGE_SIZE, Shard, ShardEncoder, reencode_task
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.legacy import LEGACY_SUFFIX
from mmsearch.storage.segments import SegmentMetadata, SegmentVectors, read_segment, write_segment

COMPACTED_SEGMENT_ROWS = 65_536
"""Number of rows per compacted segment (200 MB in memory at 512 dimensions)."""


def stage_encodings(
    catalog: CatalogWriter,
    encode: ShardEncoder,
    encoder: EncoderSpec,
    progress: Callable[[Progress], None],
) -> dict[int, FailedFile]:
    """Encode every picture that is not staged yet, with a commit after each page.

    Segments staged for a different encoder are discarded.

    Args:
        catalog: Catalog, open for writing.
        encode: Shard worker with the new encoder.
        encoder: Spec of the new encoder.
        progress: Called after each page.

    Returns:
        The files that could not be read, by picture id.
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
    catalog: CatalogMaintenance,
    fusion: Fusion,
    builder: IndexBuilder,
    progress: Callable[[Progress], None] = lambda state: None,
) -> CompactReport:
    """Drop the vectors of deleted pictures, merge small segments, and vacuum the catalog.

    Vector files of earlier versions are written again in the present format.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        fusion: The index's fusion.
        builder: Rebuilds the vector index.
        progress: Called often.

    Returns:
        The report of the compaction.

    Raises:
        DamagedFileError: A segment does not match the catalog. The index was not changed.
        StateError: There are no pictures, or a change of the encoder is not finished.
    """
    started_at = time.monotonic()
    identity = require_identity(catalog)
    staged_fingerprint = catalog.staged_encoder()
    if staged_fingerprint not in (None, identity.encoder.fingerprint):
        raise StateError(
            "A change of the encoder is not finished.",
            Hint(
                "Finish it with {} first.",
                "index.reindex(model=NAME)",
                "'mmsearch reindex --model NAME'",
            ),
        )
    segments_before, bytes_before = catalog.segments(), sum(layout.bytes_by_part().values())
    layout.remove_orphans(catalog.referenced_files())
    with catalog.snapshot() as snapshot:
        num_live = snapshot.pictures
    num_deleted = sum(segment.rows for segment in segments_before) - num_live
    has_legacy = any(name.endswith(LEGACY_SUFFIX) for name in catalog.referenced_files())
    if num_deleted or has_legacy or _has_mergeable_neighbors(segments_before):
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
    """Return True if any two adjacent segments would fit into one."""
    return any(
        left.rows + right.rows <= COMPACTED_SEGMENT_ROWS for left, right in pairwise(segments)
    )


def _merge_segments(
    layout: IndexLayout,
    catalog: CatalogWriter,
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
    """Read the vectors of pictures from their segments, in the order of the pictures.

    Args:
        layout: File layout of the index.
        segments: Segments by number.
        pictures: Pictures to read; at least one.

    Raises:
        DamagedFileError: A segment does not match the catalog.
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
    catalog: CatalogWriter,
    fusion: Fusion,
    builder: IndexBuilder,
    identity: Identity,
    unreadable: Mapping[int, str],
) -> None:
    """Build a vector index of the staged segments and activate both in one transaction.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        fusion: Fusion of the new vector index.
        builder: Builds the vector index.
        identity: Identity of the index from then on.
        unreadable: Reasons why pictures could not be read, by picture id; their files count as
            failed.
    """
    staged = catalog.list_staged_segments()
    built = None
    if staged:
        built = builder.build(staged, fusion, identity, catalog.superseded_ids())
    catalog.activate_staged(built, identity, unreadable)
    layout.remove_orphans(catalog.referenced_files())
