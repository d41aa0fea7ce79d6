"""Segments -> one vector index, of the kind that suits the collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmsearch.core.protocols import Fusion, VectorIndexPlugin
from mmsearch.core.records import BuiltIndex, FileStamp, Identity, Segment
from mmsearch.core.types import Ids, IndexSpec, SearchGoals, Training, Vectors
from mmsearch.storage.fused_vectors import fused_blocks, fused_width
from mmsearch.storage.layout import IndexLayout

Stopped = Callable[[], bool]
"""Whether to give up."""

AUTO, EXACT, APPROXIMATE = "auto", "faiss_flat", "faiss_fastscan"
EXACT_ONES = (EXACT, "exact")
"""Nothing is learned for these."""

EXACT_UP_TO = 300_000
"""Vectors that are searched exactly unless something else is asked for: some ten milliseconds."""

GPU_SHARE = 0.85
"""Of a GPU's memory may be filled with vectors; there, ten million take some milliseconds."""

ALWAYS_MERGED = 50_000
"""An index of so many vectors is built anew whenever it has grown: that takes a second."""

TAIL_SHARE, LONGEST_TAIL = 0.1, 50_000
"""A larger index is built anew when so large a part of it, or so many vectors, have been added."""


class MergeStoppedError(Exception):
    """What was being built is not wanted any more."""


def is_due(built: int, added: int) -> bool:
    """Whether vectors that were added since an index was built should be merged into it.

    Until they are, they are searched exactly beside it.

    Args:
        built: Vectors in the built index.
        added: Vectors that are not.
    """
    if built + added <= ALWAYS_MERGED:
        return added > 0
    return added > min(TAIL_SHARE * built, LONGEST_TAIL)


@dataclass(frozen=True)
class IndexBuilder:
    """Writes built indexes.

    Attributes:
        layout: The index.
        find_plugin: Finds vector indexes by name.
        texts_asked: Vectors of texts such as will be asked; not called for exact search.
        gpu_bytes: Memory of the GPU on which exact search would run; 0: there is none. Called when
            the size of a collection decides.
    """

    layout: IndexLayout
    find_plugin: Callable[[str], VectorIndexPlugin]
    texts_asked: Callable[[], Vectors]
    gpu_bytes: Callable[[], int] = lambda: 0

    def build(
        self, segments: Sequence[Segment], fusion: Fusion, identity: Identity, left_out: Ids
    ) -> BuiltIndex:
        """Build a vector index and write it; it counts once the catalog names it.

        Args:
            segments: At least one.
            fusion: Makes one vector of a picture's.
            identity: Says which vector index, and what searches shall be like.
            left_out: Ids that are not wanted.

        Raises:
            DamagedFileError: A segment is missing, or is not what the catalog says.
        """
        return self.prepared(segments, fusion, identity, left_out)(lambda: False)

    def prepared(
        self, segments: Sequence[Segment], fusion: Fusion, identity: Identity, left_out: Ids
    ) -> Callable[[Stopped], BuiltIndex]:
        """As `build`, when what is returned is called: the encoder is used before that only."""
        rows = sum(segment.rows for segment in segments) - len(left_out)
        dim = fused_width(fusion, segments[0].dim)
        name, goals = identity.vector_index, identity.goals
        if name == AUTO:
            name = self._by_size(rows, dim, goals)
        asked = None if name in EXACT_ONES else fusion.fuse_query(self.texts_asked())

        def write(name: str, stopped: Stopped, asked: Vectors | None) -> BuiltIndex:
            blocks = _until(stopped, fused_blocks(self.layout, segments, fusion, left_out))
            memory = None if goals.memory_mb is None else int(goals.memory_mb * 1_000_000)
            training = None
            if asked is not None:
                training = Training(asked, goals.recall, memory, lambda: _refuse(stopped))
            return self._write(IndexSpec(name, dim, "cpu"), blocks, segments[-1].number, training)

        def build(stopped: Stopped) -> BuiltIndex:
            built = write(name, stopped, asked)
            if identity.vector_index == AUTO and _exact_is_fast(built.settings, rows, dim, goals):
                self.layout.path(built.stamp).unlink()
                return write(EXACT, stopped, None)
            return built

        return build

    def _write(
        self,
        spec: IndexSpec,
        blocks: Iterable[tuple[Ids, Vectors]],
        covers: int,
        training: Training | None,
    ) -> BuiltIndex:
        plugin = self.find_plugin(spec.name)
        path = self.layout.built(self.layout.next_built_number(), plugin.SUFFIX)
        stamp: FileStamp = plugin.write(spec, blocks, path, training)
        index = plugin.load(spec, path, stamp)
        return BuiltIndex(
            spec_name=spec.name,
            stamp=stamp,
            rows=len(index.ids),
            covers=covers,
            settings={"dim": spec.dim, **index.facts, "reason": _reason(index.facts, training)},
        )

    def _by_size(self, rows: int, dim: int, goals: SearchGoals) -> str:
        if rows * dim * 2 <= GPU_SHARE * self.gpu_bytes():
            return EXACT
        if goals.latency_ms is not None or not _fits(rows, dim, goals):
            return APPROXIMATE
        return EXACT if rows <= EXACT_UP_TO else APPROXIMATE


def _until(
    stopped: Stopped, blocks: Iterable[tuple[Ids, Vectors]]
) -> Iterator[tuple[Ids, Vectors]]:
    for block in blocks:
        _refuse(stopped)
        yield block


def _refuse(stopped: Stopped) -> None:
    if stopped():
        raise MergeStoppedError


def _fits(rows: int, dim: int, goals: SearchGoals) -> bool:
    """Whether exact search keeps within the memory that is allowed: it reads every vector."""
    return goals.memory_mb is None or rows * dim * 2 <= goals.memory_mb * 1_000_000


def _exact_is_fast(facts: Mapping[str, Any], rows: int, dim: int, goals: SearchGoals) -> bool:
    """Whether exact search, as it was measured while the approximate one was tuned, suffices."""
    if goals.latency_ms is None or not _fits(rows, dim, goals):
        return False
    return bool(facts.get("exact_ms", 0.0) <= goals.latency_ms)


def _reason(facts: Mapping[str, Any], training: Training | None) -> str:
    """Why searches are as they are, for people."""
    if "recall_low" in facts:
        return (
            f"finds {facts['recall']:.3f} [{facts['recall_low']:.3f}, {facts['recall_high']:.3f}]"
            f" of the ten nearest of {facts['queries']} texts, {facts['recall_wanted']:g} wanted"
        )
    if training is not None:
        return "exact search: too few vectors, or no approximation is good enough"
    return "exact search"
