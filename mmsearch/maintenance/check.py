"""Consistency check of an index: catalog, checksum, vectors and encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.core.catalog import CatalogReader
from mmsearch.core.errors import (
    DamagedFileError,
    IndexLockedError,
    MMSearchError,
    SchemaError,
    describe_os_error,
)
from mmsearch.core.protocols import Fusion, VectorIndex, VectorIndexPlugin
from mmsearch.core.records import BuiltVectorIndex, Segment
from mmsearch.core.reports import CheckReport, Finding, Severity, Verdict
from mmsearch.core.settings import Settings
from mmsearch.core.types import Ids, IndexSpec, Ranking, Vectors
from mmsearch.core.vectors import exact_top_k, merge_rankings, stack
from mmsearch.factories import catalogs
from mmsearch.factories.plugins import (
    load_index_encoder,
    load_vector_index_plugin,
    make_fusion,
    make_modalities,
)
from mmsearch.maintenance.check_sources import check_folders, check_sources
from mmsearch.maintenance.derived import iter_derived_problems
from mmsearch.maintenance.stored import iter_stored_problems
from mmsearch.storage.atomic import verify_file
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import iter_fused_blocks, read_segment_with_metadata
from mmsearch.storage.stored_files import find_orphans

if TYPE_CHECKING:
    from mmsearch.maintenance.check_collections import CollectionIndex

CATALOG = "catalog"

MISSING_CATALOG_MESSAGE = "The catalog is missing, but its vectors are there."
LOST_COMMITS_MESSAGE = "Commits in its -wal file cannot be read."
LOST_LAST_COMMIT_MESSAGE = (
    "The last commit in its -wal file cannot be read: it is damaged, or the power failed before"
    " that commit was acknowledged. A repair recovers what can be read."
)


def check(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    *,
    sources: bool,
    content: bool,
) -> CheckReport:
    """Check an index for damage. See `mmsearch.api.index.Index.check`."""
    findings = check_catalog(layout)
    if CheckReport.from_findings(findings).verdict is Verdict.SOUND:
        findings += _catch_errors(_check_contents(layout, settings, on_message, sources, content))
        findings = _drop_outdated(layout, findings)
    return CheckReport.from_findings(findings)


def check_catalog(layout: IndexLayout, *, compare_checksum: bool = True) -> list[Finding]:
    """Return the damage to the catalog, and what could not be checked; nothing is written.

    Args:
        layout: File layout of the index.
        compare_checksum: Also compare the catalog with its checksum.
    """
    findings: list[Finding] = []
    try:
        layout.catalog.stat()
    except FileNotFoundError:
        if not layout.exists():
            return [Finding(Severity.DAMAGE, CATALOG, MISSING_CATALOG_MESSAGE)]
    except OSError as error:
        return [finding_from_error(CATALOG, error)]
    try:
        with catalogs.open_snapshot(layout):
            pass
    except SchemaError as error:
        # Another version may compute checksums differently.
        return [finding_from_error(CATALOG, error)]
    except Exception:  # noqa: BLE001, S110 - the checks below report it
        pass
    if compare_checksum:
        findings += _catch_errors(_check_catalog_checksum(layout))
    findings += make_findings(CATALOG, _catalog_findings(layout))
    return findings


def _catalog_findings(layout: IndexLayout) -> Iterator[str]:
    with catalogs.open_snapshot(layout) as catalog:
        yield from catalog.find_problems()


def _check_catalog_checksum(layout: IndexLayout) -> Iterator[Finding]:
    if catalogs.is_checksum_valid(layout):
        return
    message = (
        "A writer is active, or the last one was killed: the catalog has no valid checksum now. "
        "Only its internal consistency was checked."
    )
    yield Finding(Severity.NOTE, CATALOG, message)
    num_lost = _count_lost_commits(layout)
    if num_lost > 1:
        yield Finding(Severity.DAMAGE, CATALOG, LOST_COMMITS_MESSAGE)
    elif num_lost:
        yield Finding(Severity.UNKNOWN, CATALOG, LOST_LAST_COMMIT_MESSAGE)


def _count_lost_commits(layout: IndexLayout) -> int:
    try:
        with catalogs.writer_lock(layout):
            return catalogs.count_lost_commits(layout)
    except IndexLockedError:
        return 0
    except OSError:
        # The lock cannot be taken in a read-only folder, and nobody can write there.
        return catalogs.count_lost_commits(layout)


def _check_contents(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    sources: bool,
    content: bool,
) -> Iterator[Finding]:
    with catalogs.open_snapshot(layout) as state:
        identity = state.identity()
        fusion = None
        try:
            fusion = make_fusion(identity.fusion) if identity else None
        except MMSearchError as error:
            yield finding_from_error(CATALOG, error)
        for name, problem in iter_stored_problems(layout, state):
            yield finding_from_error(name, problem)
        yield from check_vectors(layout, state, load_vector_index_plugin, fusion)
        yield from check_orphans(layout, state.referenced_files())
    if identity is not None:
        try:
            load_index_encoder(identity, settings, on_message)
        except MMSearchError as error:
            message = f"The index cannot be searched or extended on this machine: {error.message}"
            yield Finding(Severity.NOTE, "encoder", message)
    if sources:
        # Reading pictures takes long, and an open snapshot lets the writer's -wal file grow.
        with catalogs.open_read(layout) as catalog:
            yield from check_folders(catalog, content=content)
            yield from check_sources(layout, catalog, make_modalities(settings), content=content)


def _catch_errors(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings, and a finding for the exception that ends them, if there is one."""
    try:
        yield from findings
    except Exception as error:  # noqa: BLE001 - whatever it is, it proves nothing by itself
        yield finding_from_error(CATALOG, error)


def _drop_outdated(layout: IndexLayout, findings: list[Finding]) -> list[Finding]:
    """Return the findings without those that a writer has outdated since the catalog was read."""
    try:
        with catalogs.open_read(layout) as catalog:
            referenced = catalog.referenced_files()
    except Exception as error:  # noqa: BLE001 - whatever it is, it proves nothing by itself
        return [*findings, finding_from_error(CATALOG, error)]
    prefixes = ("segments/", "ann/", "derived/")
    return [
        finding
        for finding in findings
        if not finding.part.startswith(prefixes)
        or (finding.part in referenced) == (finding.weight is not Severity.NOTE)
    ]


NUM_SAMPLES = 64
"""Number of the vector index's own rows to search for, spread over all of it."""
NUM_NEIGHBORS = 10


def check_vectors(
    layout: IndexLayout,
    catalog: CatalogReader,
    find_plugin: Callable[[str], VectorIndexPlugin],
    fusion: Fusion | None,
) -> Iterator[Finding]:
    """Check segments and the vector index against the catalog and against each other.

    Args:
        layout: File layout of the index.
        catalog: Snapshot of the catalog that does not change during the check.
        find_plugin: Returns the vector index plugin with a given name.
        fusion: The index's fusion. None if it is not available; then the vector index is not
            compared with the segments.
    """
    is_sound = True
    for _, finding in _iter_segment_findings(layout, catalog):
        is_sound = False
        yield finding
    yield from check_built_index(layout, catalog, find_plugin, fusion if is_sound else None)
    yield from check_derived(layout, catalog)


def check_derived(layout: IndexLayout, catalog: CatalogReader) -> Iterator[Finding]:
    """Yield the damage to files of derived texts, and what could not be checked."""
    for name, problems in iter_derived_problems(layout, catalog):
        yield from make_findings(name, problems)


def check_segments(layout: IndexLayout, catalog: CatalogReader) -> dict[int, Finding]:
    """Return the first finding for each damaged or unreadable segment, by segment number."""
    findings: dict[int, Finding] = {}
    for number, finding in _iter_segment_findings(layout, catalog):
        findings.setdefault(number, finding)
    return findings


def _iter_segment_findings(
    layout: IndexLayout, catalog: CatalogReader
) -> Iterator[tuple[int, Finding]]:
    for segment in catalog.segments():
        for finding in make_findings(
            segment.file_ref.name, _check_segment(layout, catalog, segment)
        ):
            yield segment.number, finding


def check_built_index(
    layout: IndexLayout,
    catalog: CatalogReader,
    find_plugin: Callable[[str], VectorIndexPlugin],
    fusion: Fusion | None,
) -> Iterator[Finding]:
    """Yield the damage to the vector index, and what could not be checked.

    Args:
        layout: File layout of the index.
        catalog: Snapshot of the catalog that does not change during the check.
        find_plugin: Returns the vector index plugin with a given name.
        fusion: The index's fusion. None skips the comparison with the segments, for example when
            they are damaged.
    """
    with catalog.snapshot() as snapshot:
        built = snapshot.built
        if built is not None:
            messages = _check_built_file(layout, catalog, built, find_plugin, fusion)
            yield from make_findings(built.file_ref.name, messages)


def make_findings(part: str, messages: Iterable[str]) -> Iterator[Finding]:
    """Yield a damage finding for each message, and a finding for the exception that ends them.

    Args:
        part: See `Finding.part`.
        messages: Sentences, each about proven damage. The iterator may raise any exception.
    """
    try:
        for message in messages:
            yield Finding(Severity.DAMAGE, part, message)
    except Exception as error:  # noqa: BLE001 - whatever it is, it proves nothing
        yield finding_from_error(part, error)


def finding_from_error(part: str, error: Exception) -> Finding:
    """Return the finding for an error; its severity is damage only if the error proves damage."""
    if isinstance(error, DamagedFileError):
        return Finding(Severity.DAMAGE, part, error.message)
    if isinstance(error, MMSearchError):
        reason = str(error)
    elif isinstance(error, OSError | MemoryError):
        reason = " ".join(describe_os_error(error)).strip()
    else:
        reason = f"{type(error).__name__}: {str(error)[:300]}."
    return Finding(Severity.UNKNOWN, part, f"It could not be checked: {reason}")


def _check_segment(layout: IndexLayout, catalog: CatalogReader, segment: Segment) -> Iterator[str]:
    vectors, metadata = read_segment_with_metadata(layout, segment)
    if (len(vectors.ids), vectors.images.shape[1]) != (segment.rows, segment.dim):
        yield f"It holds {vectors.images.shape} vectors, but the catalog lists {segment.rows}."
    if not np.array_equal(np.sort(vectors.ids), catalog.segment_item_ids(segment.number)):
        yield "Its rows are not the pictures that the catalog lists."
    elif metadata is not None and [item.id for item in metadata.pictures] != vectors.ids.tolist():
        yield "The pictures in its metadata are not those of its rows."


def _check_built_file(
    layout: IndexLayout,
    catalog: CatalogReader,
    built: BuiltVectorIndex,
    find_plugin: Callable[[str], VectorIndexPlugin],
    fusion: Fusion | None,
) -> Iterator[str]:
    # Loading a vector index verifies only the parts that a search reads.
    verify_file(layout.local_path(built.file_ref), built.file_ref)
    dim = built.settings.get("dim")
    if not isinstance(dim, int) or dim < 1:
        yield "The catalog does not record the dimension of its vectors."
        return
    spec = IndexSpec(built.plugin_name, dim, "cpu")
    path = layout.local_path(built.file_ref)
    index: VectorIndex | CollectionIndex
    if "collection" in built.settings:
        # Most indexes have no search server.
        from mmsearch.maintenance.check_collections import (  # noqa: PLC0415
            find_changed_fields,
            open_collection_index,
        )

        index = open_collection_index(layout, built)
        if len(changed := find_changed_fields(catalog, index)):
            yield f"Filters on the server know former facts of {len(changed):,} pictures."
    else:
        index = find_plugin(built.plugin_name).load(spec, path, built.file_ref)
    if len(index.ids) != built.rows:
        yield f"It holds {len(index.ids):,} vectors, but the catalog lists {built.rows:,}."
    if fusion is not None:
        yield from _compare_with_segments(layout, catalog, built.covers, index, fusion)


def _compare_with_segments(
    layout: IndexLayout,
    catalog: CatalogReader,
    covers: int,
    index: VectorIndex | CollectionIndex,
    fusion: Fusion,
) -> Iterator[str]:
    """Yield the differences between a vector index and the segments it covers.

    Compares the ids, and searches for a sample of the rows with exact search.
    """
    covered = [segment for segment in catalog.segments() if segment.number <= covers]
    sample_rows = np.unique(
        np.linspace(0, len(index.ids) - 1, min(NUM_SAMPLES, len(index.ids))).astype(int)
    )
    sample_ids = index.ids[sample_rows]
    id_blocks = [np.empty(0, np.int64)]
    sample_vectors = {}
    stale_rows = _stale_rows_at_build(catalog, covers)
    for block_ids, vectors in iter_fused_blocks(layout, covered, fusion, stale_rows):
        id_blocks.append(block_ids)
        for row in np.flatnonzero(np.isin(block_ids, sample_ids)):
            sample_vectors[int(block_ids[row])] = vectors[row]
    ids = np.unique(np.concatenate(id_blocks))
    if len(np.setdiff1d(index.ids, ids)):
        yield "It holds pictures that are in no segment."
    missing = np.setdiff1d(ids, index.ids)
    if len(missing):
        yield f"It lacks {len(missing):,} pictures that are in segments."
        return
    if not sample_vectors:
        return
    queries = np.stack([sample_vectors[number] for number in sorted(sample_vectors)])
    k = min(NUM_NEIGHBORS, len(index.ids))
    blocks = iter_fused_blocks(layout, covered, fusion, stale_rows)
    num_wrong = _count_wrong(index, queries, _exact_neighbors(blocks, queries, k))
    if num_wrong:
        yield f"{num_wrong} of {len(queries)} sample searches do not match exact search."


def _stale_rows_at_build(catalog: CatalogReader, covers: int) -> dict[int, Ids]:
    """Return the rows that were stale when an index of the segments up to ``covers`` was built.

    Of a picture that a newer segment holds, the last covered row was current then.
    """
    with catalog.snapshot() as snapshot:
        moved = snapshot.moved_ids(covers)
        stale_rows = snapshot.stale_rows()
    stale_at_build: dict[int, Ids] = {}
    for number in sorted((n for n in stale_rows if n <= covers), reverse=True):
        ids = stale_rows[number]
        stale_at_build[number] = np.setdiff1d(ids, moved)
        moved = np.setdiff1d(moved, ids)
    return stale_at_build


def _exact_neighbors(blocks: Iterable[tuple[Ids, Vectors]], queries: Vectors, k: int) -> Ranking:
    """Return the exact top-k, computed from the source rows instead of the index's stored ones."""
    running_top = [stack([(np.full(k, -1), np.full(k, -np.inf))] * len(queries), k)]
    for ids, vectors in blocks:
        block_top = stack([exact_top_k(ids, vectors, query, k) for query in queries], k)
        running_top = [merge_rankings([*running_top, block_top], k)]
    return running_top[0]


def _count_wrong(index: VectorIndex | CollectionIndex, queries: Vectors, truth: Ranking) -> int:
    """Return the number of searches whose results differ from the true neighbours.

    An approximate search may miss neighbours. It must find the row whose vector is the query,
    though, and return true scores.
    """
    k = truth.ids.shape[1]
    results = index.search(queries, k)
    tolerance = 2 * index.score_tolerance
    if "recall_low" not in index.stats:
        return int((np.abs(results.scores - truth.scores).max(axis=1) > tolerance).sum())
    is_wrong = np.abs(results.scores[:, 0] - truth.scores[:, 0]) > tolerance
    for row, (ids, scores) in enumerate(zip(results.ids, results.scores, strict=True)):
        true_scores = dict(zip(truth.ids[row].tolist(), truth.scores[row].tolist(), strict=True))
        score_pairs = [
            (true_scores[i], s)
            for i, s in zip(ids.tolist(), scores.tolist(), strict=True)
            if i in true_scores
        ]
        is_wrong[row] |= any(abs(expected - actual) > tolerance for expected, actual in score_pairs)
    return int(is_wrong.sum())


def check_orphans(layout: IndexLayout, referenced: set[str]) -> Iterator[Finding]:
    """Yield a note if there are files that belong to no generation."""
    orphans = find_orphans(layout, referenced)
    if orphans:
        message = f"{len(orphans)} files belong to no generation; the next writer removes them."
        yield Finding(Severity.NOTE, orphans[0], message)
