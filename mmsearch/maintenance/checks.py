"""Is the index what it says it is? Files, catalog, vectors and searches, one finding a fault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from mmsearch.core.catalog import Catalog
from mmsearch.core.display import display_path
from mmsearch.core.errors import DamagedFileError, MMSearchError
from mmsearch.core.files import reason_of, sha256_of, stored_mtime_ns
from mmsearch.core.io_errors import sentence_of
from mmsearch.core.ordering import exhaustive, merge, stack
from mmsearch.core.protocols import Fusion, VectorIndex, VectorIndexPlugin
from mmsearch.core.records import BuiltIndex, Segment
from mmsearch.core.reports import Finding, Weight
from mmsearch.core.types import Ids, IndexSpec, Ranking, Vectors
from mmsearch.storage.atomic import verify_file
from mmsearch.storage.fused_vectors import fused_blocks
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_with_facts

SAMPLES = 64
"""Rows with which the built index is asked, spread over all of it."""
NEIGHBOURS = 10


def check_vectors(
    layout: IndexLayout,
    catalog: Catalog,
    find_plugin: Callable[[str], VectorIndexPlugin],
    fusion: Fusion | None,
) -> Iterator[Finding]:
    """Segments and the built index, against the catalog and against each other.

    Args:
        layout: The index.
        catalog: A state of it that nobody changes meanwhile.
        find_plugin: Finds vector indexes by name.
        fusion: The index's own; None: it cannot be had, and the two are not compared.
    """
    sound = True
    for _, finding in _segment_findings(layout, catalog):
        sound = False
        yield finding
    yield from check_built(layout, catalog, find_plugin, fusion if sound else None)


def check_segments(layout: IndexLayout, catalog: Catalog) -> dict[int, Finding]:
    """Return what is wrong with segments, or could not be checked, by their numbers."""
    found: dict[int, Finding] = {}
    for number, finding in _segment_findings(layout, catalog):
        found.setdefault(number, finding)
    return found


def _segment_findings(layout: IndexLayout, catalog: Catalog) -> Iterator[tuple[int, Finding]]:
    for segment in catalog.segments():
        for finding in findings_of(segment.stamp.name, _segment(layout, catalog, segment)):
            yield segment.number, finding


def check_built(
    layout: IndexLayout,
    catalog: Catalog,
    find_plugin: Callable[[str], VectorIndexPlugin],
    fusion: Fusion | None,
) -> Iterator[Finding]:
    """Yield what is wrong with the built index, or could not be checked.

    Args:
        layout: The index.
        catalog: A state of it that nobody changes meanwhile.
        find_plugin: Finds vector indexes by name.
        fusion: The index's own; None: the segments are not sound, and nothing to compare with.
    """
    with catalog.snapshot() as snapshot:
        built = snapshot.built
        if built is not None:
            messages = _built(layout, catalog, built, find_plugin, fusion)
            yield from findings_of(built.stamp.name, messages)


def findings_of(part: str, messages: Iterable[str]) -> Iterator[Finding]:
    """Yield damage for each message, and a finding for the error that ends them, if one does.

    Args:
        part: See `Finding.part`.
        messages: Of proved damage, a sentence each; may raise anything.
    """
    try:
        for message in messages:
            yield Finding(Weight.DAMAGE, part, message)
    except Exception as error:  # noqa: BLE001 - whatever it is, it proves nothing
        yield finding_of(part, error)


def finding_of(part: str, error: Exception) -> Finding:
    """Return the finding that an error stands for: damage only if the error proves damage."""
    if isinstance(error, DamagedFileError):
        return Finding(Weight.DAMAGE, part, error.message)
    if isinstance(error, MMSearchError):
        reason = str(error)
    elif isinstance(error, OSError | MemoryError):
        reason = " ".join(sentence_of(error)).strip()
    else:
        reason = f"{type(error).__name__}: {str(error)[:300]}."
    return Finding(Weight.UNKNOWN, part, f"It could not be checked: {reason}")


def _segment(layout: IndexLayout, catalog: Catalog, segment: Segment) -> Iterator[str]:
    held, facts = read_with_facts(layout, segment)
    if (len(held.ids), held.images.shape[1]) != (segment.rows, segment.dim):
        yield f"It holds {held.images.shape} vectors where the catalog says {segment.rows}."
    if not np.array_equal(held.ids, catalog.segment_ids(segment.number)):
        yield "Its rows are not the pictures that the catalog says."
    elif facts is not None and [item.id for item in facts.pictures] != held.ids.tolist():
        yield "What it says of its rows is of other pictures."


def _built(
    layout: IndexLayout,
    catalog: Catalog,
    built: BuiltIndex,
    find_plugin: Callable[[str], VectorIndexPlugin],
    fusion: Fusion | None,
) -> Iterator[str]:
    # A vector index checks only what a search reads of it.
    verify_file(layout.path(built.stamp), built.stamp)
    dim = built.settings.get("dim")
    if not isinstance(dim, int) or dim < 1:
        yield "The catalog does not say how many columns its vectors have."
        return
    spec = IndexSpec(built.spec_name, dim, "cpu")
    index = find_plugin(built.spec_name).load(spec, layout.path(built.stamp), built.stamp)
    if len(index.ids) != built.rows:
        yield f"It holds {len(index.ids):,} vectors where the catalog says {built.rows:,}."
    if fusion is not None:
        yield from _against_segments(layout, catalog, built.covers, index, fusion)


def _against_segments(
    layout: IndexLayout, catalog: Catalog, covers: int, index: VectorIndex, fusion: Fusion
) -> Iterator[str]:
    """Counts, ids, and searches for some of its own rows, compared with exact ones."""
    covered = [segment for segment in catalog.segments() if segment.number <= covers]
    places = np.unique(np.linspace(0, len(index.ids) - 1, min(SAMPLES, len(index.ids))).astype(int))
    wanted = index.ids[places]
    found_ids = [np.empty(0, np.int64)]
    asked = {}
    for block_ids, vectors in fused_blocks(layout, covered, fusion):
        found_ids.append(block_ids)
        for row in np.flatnonzero(np.isin(block_ids, wanted)):
            asked[int(block_ids[row])] = vectors[row]
    ids = np.unique(np.concatenate(found_ids))
    if len(np.setdiff1d(index.ids, ids)):
        yield "It holds pictures that are in no segment."
    missing = np.setdiff1d(np.setdiff1d(ids, catalog.superseded()), index.ids)
    if len(missing):
        yield f"It lacks {len(missing):,} pictures of the segments."
        return
    if not asked:
        return
    queries = np.stack([asked[number] for number in sorted(asked)])
    k = min(NEIGHBOURS, len(index.ids))
    blocks = fused_blocks(layout, covered, fusion, np.setdiff1d(ids, index.ids))
    wrong = _wrong(index, queries, _exact(blocks, queries, k))
    if wrong:
        yield f"{wrong} of {len(queries)} sample searches find other neighbours than the segments."


def _exact(blocks: Iterable[tuple[Ids, Vectors]], queries: Vectors, k: int) -> Ranking:
    """Return the true neighbours: of the rows that an index is built of, before it stores them."""
    best = [stack([(np.full(k, -1), np.full(k, -np.inf))] * len(queries), k)]
    for ids, vectors in blocks:
        here = stack([exhaustive(ids, vectors, query, k) for query in queries], k)
        best = [merge([*best, here], k)]
    return best[0]


def _wrong(index: VectorIndex, queries: Vectors, truth: Ranking) -> int:
    """How many searches find something else than the true neighbours.

    An approximate search may miss some, but not a picture that is asked for by itself, and what it
    finds must have its true score.
    """
    k = truth.ids.shape[1]
    found = index.search(queries, k)
    tolerance = 2 * index.score_tolerance
    if "recall_low" not in index.facts:
        return int((np.abs(found.scores - truth.scores).max(axis=1) > tolerance).sum())
    wrong = np.abs(found.scores[:, 0] - truth.scores[:, 0]) > tolerance
    for row, (ids, scores) in enumerate(zip(found.ids, found.scores, strict=True)):
        true = dict(zip(truth.ids[row].tolist(), truth.scores[row].tolist(), strict=True))
        both = [
            (true[i], s) for i, s in zip(ids.tolist(), scores.tolist(), strict=True) if i in true
        ]
        wrong[row] |= any(abs(one - other) > tolerance for one, other in both)
    return int(wrong.sum())


def check_sources(
    catalog: Catalog, *, content: bool = False, only: int | None = None
) -> Iterator[Finding]:
    """Whether the files of pictures are still what they were.

    Args:
        catalog: Open for reading.
        content: Read every file and compare its digest, not only its size and time.
        only: The id of the one root whose files are compared; None: all.
    """
    for root in catalog.roots():
        if only not in (None, root.id):
            continue
        if not os.path.isdir(root.path):  # noqa: PTH112 - bytes paths need os.path
            message = f"Folder {display_path(root.path)} is not there."
            yield Finding(Weight.SOURCE, "sources", message)
            continue
        for path, known in sorted(catalog.known_files(root.id, b"").items()):
            if known.image_id is None:
                continue
            whole = os.path.join(root.path, path)  # noqa: PTH118
            message = _source(whole, known.size, known.mtime_ns, known.digest if content else None)
            if message:
                yield Finding(Weight.SOURCE, "sources", f"{display_path(whole)} {message}.")


def _source(path: bytes, size: int, mtime_ns: int, digest: bytes | None) -> str:
    try:
        facts = os.stat(path)  # noqa: PTH116
        if (facts.st_size, stored_mtime_ns(facts)) != (size, mtime_ns):
            return "has changed since it was indexed"
        if digest is not None and sha256_of(path) != digest:
            return "has another content than when it was indexed, and the same time"
    except OSError as error:
        return f"cannot be read: {reason_of(error)}"
    except MMSearchError as error:
        return f"cannot be read: {error.message}"
    return ""


def check_orphans(layout: IndexLayout, referenced: set[str]) -> Iterator[Finding]:
    """Files that belong to no generation."""
    left = layout.orphans(referenced)
    if left:
        message = f"{len(left)} files belong to no generation; the next writer removes them."
        yield Finding(Weight.NOTE, left[0][0], message)
