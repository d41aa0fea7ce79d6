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
from mmsearch.core.compatibility import bound_identity
from mmsearch.core.errors import StateError
from mmsearch.core.protocols import Fusion
from mmsearch.core.records import EncodedPicture, FailedFile, Identity, Segment, StoredPicture
from mmsearch.core.reports import CompactReport
from mmsearch.core.requests import Progress
from mmsearch.core.types import EncoderSpec
from mmsearch.indexing.build import IndexBuilder
from mmsearch.indexing.encode import PAGE, Shard, ShardEncoder, content_again
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segment_metadata import SegmentFacts
from mmsearch.storage.segments import SegmentVectors, read_segment, write_segment

MERGED_ROWS = 65_536
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
        catalog.unstage()
    done = sum(segment.rows for segment in catalog.staged())
    failed: dict[int, FailedFile] = {}
    after = 0
    while page := catalog.unstaged(after, PAGE):
        _, number = catalog.next_numbers()
        contents = tuple(replace(content_again(item), id=item.id) for item in page)
        encoded = encode(Shard(number, 0, contents))
        if encoded.segment is not None:
            catalog.stage(encoded.segment, encoder, encoded.pictures)
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
    began = time.monotonic()
    bound = bound_identity(catalog)
    mine = catalog.staged_encoder()
    if mine not in (None, bound.encoder.fingerprint):
        raise StateError(
            "A change of the encoder has begun and is not finished.",
            "Finish it with 'mmsearch reindex --model NAME' first.",
        )
    before, size = catalog.segments(), sum(layout.sizes().values())
    layout.remove_orphans(catalog.referenced_files())
    with catalog.snapshot() as snapshot:
        living = snapshot.pictures
    dropped = sum(segment.rows for segment in before) - living
    if dropped or _scattered(before):
        _merge(layout, catalog, bound.encoder, living, progress)
        progress(Progress("build", 0, None))
        adopt_staged(layout, catalog, fusion, builder, bound, {})
    catalog.shrink()
    return CompactReport(
        dropped,
        len(before),
        len(catalog.segments()),
        size,
        sum(layout.sizes().values()),
        time.monotonic() - began,
    )


def _scattered(segments: Sequence[Segment]) -> bool:
    """Whether two neighbours would fit into one."""
    return any(one.rows + other.rows <= MERGED_ROWS for one, other in pairwise(segments))


def _merge(
    layout: IndexLayout,
    catalog: Catalog,
    encoder: EncoderSpec,
    total: int,
    progress: Callable[[Progress], None],
) -> None:
    by_number = {segment.number: segment for segment in catalog.segments()}
    done = sum(segment.rows for segment in catalog.staged())
    while page := catalog.unstaged(0, MERGED_ROWS):
        vectors = gather_vectors(layout, by_number, page)
        pictures = [
            EncodedPicture(item.id, item.digest, item.picture, item.texts_digest) for item in page
        ]
        _, number = catalog.next_numbers()
        segment = write_segment(layout, number, vectors, SegmentFacts(encoder, pictures))
        catalog.stage(segment, encoder, pictures)
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
    wanted: dict[int, list[int]] = {}
    for item in pictures:
        wanted.setdefault(item.segment, []).append(item.id)
    for number, ids in sorted(wanted.items()):
        held = read_segment(layout, segments[number])
        rows = {picture: row for row, picture in enumerate(held.ids.tolist())}
        for picture in ids:
            images[picture] = held.images[rows[picture]]
            texts[picture] = held.texts[rows[picture]]
    return SegmentVectors(
        np.array([item.id for item in pictures], dtype=np.int64),
        np.stack([images[item.id] for item in pictures]),
        [texts[item.id] for item in pictures],
    )


def adopt_staged(
    layout: IndexLayout,
    catalog: Catalog,
    fusion: Fusion,
    builder: IndexBuilder,
    identity: Identity,
    unreadable: Mapping[int, str],
) -> None:
    """Build the vector index of what is staged, and make both what readers see."""
    staged = catalog.staged()
    built = None
    if staged:
        built = builder.build(staged, fusion, identity, catalog.superseded())
    catalog.adopt(built, identity, unreadable)
    layout.remove_orphans(catalog.referenced_files())
