"""The vectors of one generation: the built index, and the segments that came after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmsearch.core.catalog import Snapshot
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.ordering import merge, positions_of, stack
from mmsearch.core.protocols import Fusion, VectorIndex, VectorIndexPlugin
from mmsearch.core.types import FusionSpec, Ids, IndexSpec, Ranking, Vectors
from mmsearch.storage.fused_vectors import build_index
from mmsearch.storage.layout import IndexLayout

FEW_DEAD = 1000
"""Up to so many removed pictures, fetching that many more neighbours is cheaper than a filter."""


@dataclass(frozen=True)
class View:
    """Searchable vectors. What changes between generations without new vectors is passed in.

    Attributes:
        key: The fusion, and the checksums of the files it was made from.
        parts: Vector indexes over disjoint ids.
        device: Where the built index runs.
    """

    key: tuple[str, ...]
    parts: tuple[VectorIndex, ...]
    device: str

    @property
    def size(self) -> int:
        """How many vectors there are, dead ones too."""
        return sum(len(part.ids) for part in self.parts)

    def spread(self, count: int) -> Ids:
        """Ids from all over, dead ones too; ascending.

        Args:
            count: How many; fewer if there are fewer.
        """
        places = np.linspace(0, self.size - 1, min(count, self.size)).astype(np.int64)
        found, before = [np.empty(0, np.int64)], 0
        for part in self.parts:
            here = places[(places >= before) & (places < before + len(part.ids))] - before
            found.append(part.ids[here])
            before += len(part.ids)
        return np.unique(np.concatenate(found))

    def search(self, queries: Vectors, k: int, dead: Ids, allowed: Ids | None = None) -> Ranking:
        """The k best living pictures for each query.

        Args:
            queries: (q, dim).
            k: Length of the answer.
            dead: Ids that must not be found.
            allowed: Ids that may be found, none of them dead; None: all that are not dead.
        """
        if not self.parts:
            return stack([(np.full(k, -1), np.full(k, -np.inf))] * len(queries), k)
        if allowed is not None:
            return self._joined([part.search(queries, k, allowed) for part in self.parts], k)
        return self._joined([_living(part, queries, k, dead) for part in self.parts], k)

    def vectors(self, ids: Ids) -> Vectors:
        """float32 (n, dim): those of ids, each of which some part holds, in their order."""
        dim = self.parts[0].spec.dim if self.parts else 0
        found = np.empty((len(ids), dim), dtype=np.float32)
        for part in self.parts:
            here = np.searchsorted(part.ids, ids) < np.searchsorted(part.ids, ids, side="right")
            found[here] = part.vectors(ids[here])
        return found

    @staticmethod
    def _joined(rankings: list[Ranking], k: int) -> Ranking:
        return rankings[0] if len(rankings) == 1 else merge(rankings, k)


def _living(part: VectorIndex, queries: Vectors, k: int, dead: Ids) -> Ranking:
    dead = part.ids[positions_of(part.ids, dead)]
    if len(dead) > FEW_DEAD:
        return part.search(queries, k, np.setdiff1d(part.ids, dead, assume_unique=True))
    ranking = part.search(queries, k + len(dead))
    hidden = np.isin(ranking.ids, dead)
    # A hidden neighbour sorts behind the padding and falls off the end of the page.
    scores = np.where(hidden, -np.inf, ranking.scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    ids = np.where(hidden, -1, ranking.ids)
    return Ranking(
        np.take_along_axis(ids, order, axis=1)[:, :k],
        np.take_along_axis(scores, order, axis=1)[:, :k],
    )


class ViewLoader:
    """Opens views, and keeps the last one while its files are those that count."""

    def __init__(
        self,
        layout: IndexLayout,
        find_plugin: Callable[[str], VectorIndexPlugin],
        tail_plugin: str,
        device: str,
        make_fusion: Callable[[FusionSpec], Fusion],
    ) -> None:
        self._layout = layout
        self._find_plugin = find_plugin
        self._make_fusion = make_fusion
        self._tail_plugin = tail_plugin
        self._device = device
        self._view: View | None = None

    def view(self, snapshot: Snapshot) -> View:
        """The vectors of a generation.

        Raises:
            DamagedFileError: A file is missing or is not what the catalog says.
        """
        # Not their names: those come again in another history, as after a restoration.
        built = [snapshot.built.stamp.sha256] if snapshot.built else []
        spec = snapshot.identity.fusion if snapshot.identity else FusionSpec()
        key = (repr(spec), *built, *(segment.stamp.sha256 for segment in snapshot.tail))
        if self._view is None or self._view.key != key:
            # Two at once may be more than the memory of a GPU.
            self._view = None
            self._view = self._open(key, snapshot)
        return self._view

    def _open(self, key: tuple[str, ...], snapshot: Snapshot) -> View:
        parts: list[VectorIndex] = []
        device = "cpu"
        if snapshot.built is not None:
            built = snapshot.built
            plugin = self._find_plugin(built.spec_name)
            spec = IndexSpec(built.spec_name, int(built.settings["dim"]), self._device)
            index = plugin.load(spec, self._layout.path(built.stamp), built.stamp)
            if len(index.ids) != built.rows:
                raise DamagedFileError(
                    f"{self._layout.path(built.stamp)} holds {len(index.ids)} vectors where "
                    f"{built.rows} belong."
                )
            parts.append(index)
            device = index.device
        if snapshot.tail:
            fusion = self._make_fusion(
                snapshot.identity.fusion if snapshot.identity else FusionSpec()
            )
            plugin = self._find_plugin(self._tail_plugin)
            parts.append(
                build_index(self._layout, snapshot.tail, fusion, self._tail_plugin, plugin)
            )
        return View(key, tuple(parts), device)
