"""Segments -> one vector index, of the kind that suits the collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmsearch.core.protocols import Fusion, VectorIndexPlugin
from mmsearch.core.records import BuiltVectorIndex, FileRef, Identity, Segment
from mmsearch.core.types import Ids, IndexSpec, SearchGoals, TrainingData, Vectors
from mmsearch.storage.fused_vectors import fused_dim, iter_fused_blocks
from mmsearch.storage.layout import IndexLayout

ShouldStop = Callable[[], bool]
"""Whether to give up."""

AUTO, EXACT, APPROXIMATE = "auto", "faiss_flat", "faiss_fastscan"
EXACT_INDEXES = (EXACT, "exact")
"""Nothing is learned for these."""

MAX_EXACT_ROWS = 300_000
"""Vectors that are searched exactly unless something else is asked for: some ten milliseconds."""

MAX_GPU_FRACTION = 0.85
"""Of a GPU's memory may be filled with vectors; there, ten million take some milliseconds."""

REBUILD_BELOW = 50_000
"""An index of so many vectors is built anew whenever it has grown: that takes a second."""

MAX_TAIL_FRACTION, MAX_TAIL_ROWS = 0.1, 50_000
"""A larger index is built anew when so large a part of it, or so many vectors, have been added."""


class BuildCancelledError(Exception):
    """What was being built is not wanted any more."""


def needs_merge(built_rows: int, tail_rows: int) -> bool:
    """Whether vectors that were added since an index was built should be merged into it.

    Until they are, they are searched exactly beside it.

    Args:
        built_rows: Vectors in the built index.
        tail_rows: Vectors that are not.
    """
    if built_rows + tail_rows <= REBUILD_BELOW:
        return tail_rows > 0
    return tail_rows > min(MAX_TAIL_FRACTION * built_rows, MAX_TAIL_ROWS)


@dataclass(frozen=True)
class IndexBuilder:
    """Writes built indexes.

    Attributes:
        layout: The index.
        find_plugin: Finds vector indexes by name.
        encode_tuning_queries: Vectors of texts such as will be asked; not called for exact search.
        gpu_bytes: Memory of the GPU on which exact search would run; 0: there is none. Called when
            the size of a collection decides.
    """

    layout: IndexLayout
    find_plugin: Callable[[str], VectorIndexPlugin]
    encode_tuning_queries: Callable[[], Vectors]
    gpu_bytes: Callable[[], int] = lambda: 0

    def build(
        self, segments: Sequence[Segment], fusion: Fusion, identity: Identity, excluded: Ids
    ) -> BuiltVectorIndex:
        """Build a vector index and write it; it counts once the catalog names it.

        Args:
            segments: At least one.
            fusion: Makes one vector of a picture's.
            identity: Says which vector index, and what searches shall be like.
            excluded: Ids that are not wanted.

        Raises:
            DamagedFileError: A segment is missing, or is not what the catalog says.
        """
        return self.prepare(segments, fusion, identity, excluded)(lambda: False)

    def prepare(
        self, segments: Sequence[Segment], fusion: Fusion, identity: Identity, excluded: Ids
    ) -> Callable[[ShouldStop], BuiltVectorIndex]:
        """As `build`, when what is returned is called: the encoder is used before that only."""
        rows = sum(segment.rows for segment in segments) - len(excluded)
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
                should_stop, iter_fused_blocks(self.layout, segments, fusion, excluded)
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
                self.layout.path(built.file_ref).unlink()
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
        path = self.layout.vector_index_path(self.layout.next_vector_index_number(), plugin.SUFFIX)
        file_ref: FileRef = plugin.write(spec, blocks, path, training)
        index = plugin.load(spec, path, file_ref)
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
    """Whether exact search keeps within the memory that is allowed: it reads every vector."""
    return goals.memory_mb is None or rows * dim * 2 <= goals.memory_mb * 1_000_000


def _is_exact_fast_enough(
    stats: Mapping[str, Any], rows: int, dim: int, goals: SearchGoals
) -> bool:
    """Whether exact search, as it was measured while the approximate one was tuned, suffices."""
    if goals.latency_ms is None or not _fits_memory(rows, dim, goals):
        return False
    return bool(stats.get("exact_ms", 0.0) <= goals.latency_ms)


def _explain_search(stats: Mapping[str, Any], training: TrainingData | None) -> str:
    """Why searches are as they are, for people."""
    if "recall_low" in stats:
        return (
            f"finds {stats['recall']:.3f} [{stats['recall_low']:.3f}, {stats['recall_high']:.3f}]"
            f" of the ten nearest of {stats['queries']} texts, {stats['recall_wanted']:g} wanted"
        )
    if training is not None:
        return "exact search: too few vectors, or no approximation is good enough"
    return "exact search"
