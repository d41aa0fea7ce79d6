"""Building one vector index from segments: a file of a suitable type, or on a search server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsearch.core import plugins
from mmsearch.core.identity import Identity
from mmsearch.core.protocols import Fusion, VectorIndexPlugin
from mmsearch.core.records import BuiltVectorIndex, FileRef, Segment
from mmsearch.core.types import Ids, IndexSpec, SearchGoals, TrainingData, Vectors
from mmsearch.indexing.collections import MAX_WAITING_ROWS, CollectionBuilder
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import fused_dim, iter_fused_blocks
from mmsearch.storage.stored_files import discard_file, send_file

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot

ShouldStop = Callable[[], bool]
"""Callback that returns True if the build should be cancelled."""

AUTO, EXACT, APPROXIMATE = "auto", "faiss_flat", "faiss_fastscan"
EXACT_INDEXES = (EXACT, "exact")
"""Vector indexes that need no training data."""

MAX_EXACT_ROWS = 300_000
"""Maximum number of vectors for exact search by default (about ten milliseconds per query)."""

MAX_GPU_FRACTION = 0.85
"""Maximum share of a GPU's memory to fill with vectors.

A GPU searches ten million vectors in a few milliseconds.
"""

REBUILD_BELOW = 50_000
"""Maximum size of an index that is rebuilt whenever it has grown (takes about a second)."""

MAX_TAIL_FRACTION, MAX_TAIL_ROWS = 0.1, 50_000
"""Thresholds of unindexed vectors above which a larger index is rebuilt: a share and a count."""


SMALL_ADDITION_ROWS = 64
"""Maximum number of vectors of a run that may leave them beside the index that was built before.

A server adds as many at a time of a large request."""

MAX_TAIL_SEGMENTS = 64
"""Maximum number of segments beside an index; each is a file that searches read."""


class BuildCancelledError(Exception):
    """The build was cancelled."""


def needs_merge(built_rows: int, tail_rows: int) -> bool:
    """Return True if vectors added since an index was built should be merged into it.

    Until then, they are searched exactly in addition to the index.

    Args:
        built_rows: Number of vectors in the built index.
        tail_rows: Number of vectors that are not in it.
    """
    if built_rows + tail_rows <= REBUILD_BELOW:
        return tail_rows > 0
    return tail_rows > min(MAX_TAIL_FRACTION * built_rows, MAX_TAIL_ROWS)


def is_due(snapshot: Snapshot, plugin_name: str | None, *, is_small: bool = False) -> bool:
    """Return True if the vector index should be built again.

    Args:
        snapshot: Snapshot of the newest generation.
        plugin_name: Name of the plugin of the search server; None if the index has none.
        is_small: True after a small addition or change, for which a small index is not rebuilt.
    """
    built, segments = snapshot.built, snapshot.unindexed_segments
    tail_rows = sum(segment.rows for segment in segments)
    collection = None if built is None else built.settings.get("collection")
    if built is not None and plugin_name != (None if collection is None else built.plugin_name):
        return True
    if built is not None and collection is not None:
        # Items whose fields have changed wait like new ones: the server cannot filter them.
        changed = snapshot.changed_fields
        if changed is None:
            return True
        tail_rows += len(np.setdiff1d(changed, snapshot.deleted_ids, assume_unique=True))
        return tail_rows > MAX_WAITING_ROWS and needs_merge(built.rows, tail_rows)
    built_rows = built.rows if built else 0
    if is_small and can_wait(built_rows, tail_rows, len(segments)):
        return False
    return needs_merge(built_rows, tail_rows)


def can_wait(built_rows: int, tail_rows: int, tail_segments: int) -> bool:
    """Return True if a small addition may leave its vectors beside a small index.

    A rebuild for each would cost more the larger the index is.

    Args:
        built_rows: Number of vectors in the built index.
        tail_rows: Number of vectors that are not in it.
        tail_segments: Number of segments that hold them.
    """
    is_small = tail_rows <= MAX_TAIL_FRACTION * built_rows
    return is_small and tail_segments <= MAX_TAIL_SEGMENTS


@dataclass(frozen=True)
class IndexBuilder:
    """Builder that writes vector index files.

    Attributes:
        layout: File layout of the index.
        find_plugin: Returns the vector index plugin with a given name.
        encode_tuning_queries: Returns embeddings of typical query texts, (n, dim). Not called for
            exact search.
        gpu_bytes: Returns the memory in bytes of the GPU that would run exact search, or 0 if there
            is no such GPU. Called when the size of the collection decides the index type.
        collections: Builds collections on the search server of the index instead; None without one.
    """

    layout: IndexLayout
    find_plugin: Callable[[str], VectorIndexPlugin]
    encode_tuning_queries: Callable[[], Vectors]
    gpu_bytes: Callable[[], int] = lambda: 0
    collections: CollectionBuilder | None = None

    @property
    def plugin_name(self) -> str | None:
        """Name of the plugin of the search server; None if it builds files."""
        return None if self.collections is None else self.collections.plugin_name

    def build(
        self,
        segments: Sequence[Segment],
        fusion: Fusion,
        identity: Identity,
        stale_rows: Mapping[int, Ids],
    ) -> BuiltVectorIndex:
        """Build a vector index and write it to a file.

        Readers use the index once it is published in the catalog.

        Args:
            segments: Segments to index; at least one.
            fusion: Combines the vectors of a picture into one.
            identity: Names the vector index and the goals for searches.
            stale_rows: Ids whose rows are left out, by number of the segment.

        Raises:
            DamagedFileError: A segment is missing or does not match the catalog.
        """
        return self.prepare(segments, fusion, identity, stale_rows)(lambda: False)

    def prepare(
        self,
        segments: Sequence[Segment],
        fusion: Fusion,
        identity: Identity,
        stale_rows: Mapping[int, Ids],
    ) -> Callable[[ShouldStop], BuiltVectorIndex]:
        """Return a function that does the work of `build`.

        The encoder is used only in this call, not by the returned function.
        """
        if self.collections is not None:
            collections = self.collections
            return lambda should_stop: collections.build(
                segments, fusion, stale_rows, lambda: _raise_if_stopped(should_stop)
            )
        rows = sum(segment.rows - len(stale_rows.get(segment.number, ())) for segment in segments)
        dim = fused_dim(fusion, segments[0].dim)
        name, goals = identity.vector_index, identity.goals
        if name == AUTO:
            name = self._choose_by_size(rows, dim, goals)
        tuning_queries = (
            None if name in EXACT_INDEXES else fusion.fuse_query(self.encode_tuning_queries())
        )

        def write(
            name: str, should_stop: ShouldStop, tuning_queries: Vectors | None
        ) -> BuiltVectorIndex:
            blocks = _iter_until_stopped(
                should_stop, iter_fused_blocks(self.layout, segments, fusion, stale_rows)
            )
            memory_bytes = None if goals.memory_mb is None else int(goals.memory_mb * 1_000_000)
            training = None
            if tuning_queries is not None:
                training = TrainingData(
                    tuning_queries,
                    goals.recall,
                    memory_bytes,
                    lambda: _raise_if_stopped(should_stop),
                )
            return self._write(IndexSpec(name, dim, "cpu"), blocks, segments[-1].number, training)

        def build(should_stop: ShouldStop) -> BuiltVectorIndex:
            built = write(name, should_stop, tuning_queries)
            if identity.vector_index == AUTO and _is_exact_fast_enough(
                built.settings, rows, dim, goals
            ):
                discard_file(self.layout, built.file_ref)
                return write(EXACT, should_stop, None)
            return built

        return build

    def _write(
        self,
        spec: IndexSpec,
        blocks: Iterable[tuple[Ids, Vectors]],
        covers: int,
        training: TrainingData | None,
    ) -> BuiltVectorIndex:
        plugin = self.find_plugin(spec.name)
        path = self.layout.new_vector_index_path(plugin.SUFFIX)
        file_ref: FileRef = plugin.write(spec, blocks, path, training)
        index = plugin.load(spec, path, file_ref)
        send_file(self.layout, file_ref.name)
        return BuiltVectorIndex(
            plugin_name=spec.name,
            file_ref=file_ref,
            rows=len(index.ids),
            covers=covers,
            settings={
                "dim": spec.dim,
                **index.stats,
                "reason": _explain_search(index.stats, training),
            },
        )

    def _choose_by_size(self, rows: int, dim: int, goals: SearchGoals) -> str:
        if rows * dim * 2 <= MAX_GPU_FRACTION * self.gpu_bytes():
            return EXACT
        if goals.latency_ms is not None or not _fits_memory(rows, dim, goals):
            return APPROXIMATE
        return EXACT if rows <= MAX_EXACT_ROWS else APPROXIMATE


def _iter_until_stopped(
    should_stop: ShouldStop, blocks: Iterable[tuple[Ids, Vectors]]
) -> Iterator[tuple[Ids, Vectors]]:
    for block in blocks:
        _raise_if_stopped(should_stop)
        yield block


def _raise_if_stopped(should_stop: ShouldStop) -> None:
    if should_stop():
        raise BuildCancelledError


def _fits_memory(rows: int, dim: int, goals: SearchGoals) -> bool:
    """Return True if exact search, which reads every vector, fits the memory limit."""
    return goals.memory_mb is None or rows * dim * 2 <= goals.memory_mb * 1_000_000


def _is_exact_fast_enough(
    stats: Mapping[str, Any], rows: int, dim: int, goals: SearchGoals
) -> bool:
    """Return True if exact search, as measured during tuning, meets the latency goal."""
    if goals.latency_ms is None or not _fits_memory(rows, dim, goals):
        return False
    return bool(stats.get("exact_ms", 0.0) <= goals.latency_ms)


def _explain_search(stats: Mapping[str, Any], training: TrainingData | None) -> str:
    """Return a description of the search method for display."""
    if "recall_low" in stats:
        return (
            f"recall@10 {stats['recall']:.3f}"
            f" [{stats['recall_low']:.3f}, {stats['recall_high']:.3f}]"
            f" on {stats['queries']} text queries, target {stats['recall_wanted']:g}"
        )
    if training is not None:
        return "exact search: too few vectors, or no approximate index reaches the target"
    return "exact search"


class BackgroundBuild:
    """A vector index build that runs in its own thread once `start` is called.

    Args:
        prepare: Called by `start` in the caller's thread. Returns the function that builds the
            index and takes a `ShouldStop` callback, or None if there is nothing to merge.
    """

    def __init__(
        self, prepare: Callable[[], Callable[[ShouldStop], BuiltVectorIndex] | None]
    ) -> None:
        self._prepare = prepare
        self._started = False
        self._cancelled = Event()
        self._pool: ThreadPoolExecutor | None = None
        self._future: Future[BuiltVectorIndex] | None = None

    def start(self) -> None:
        """Start the build; later calls do nothing."""
        if self._started:
            return
        self._started = True
        build = self._prepare()
        if build is not None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="mmsearch-merge")
            self._future = self._pool.submit(build, self._cancelled.is_set)

    def wait(self) -> BuiltVectorIndex | None:
        """Wait for the build and return its result; None if no build was started.

        Raises:
            DamagedFileError: A segment is missing or does not match the catalog.
        """
        if self._pool is None or self._future is None:
            return None
        self._pool.shutdown()
        return self._future.result()

    def cancel(self) -> None:
        """Cancel the build and wait until its thread has ended."""
        self._cancelled.set()
        if self._pool is not None:
            self._pool.shutdown()


def check_vector_index_name(name: str) -> None:
    """Check the name of a vector index before any work is done.

    Raises:
        UnknownNameError: The name is neither a module of vector_indexes/ nor ``auto``.
    """
    if name != AUTO:
        plugins.load("vector_indexes", name, extra_names=(AUTO,))
