"""encode -> search -> records -> hits, all on one generation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mmsearch.core.errors import DamagedFileError, InvalidQueryError
from mmsearch.core.protocols import Catalog, Encoder, Fusion, Snapshot
from mmsearch.core.records import Record
from mmsearch.core.requests import Hit, SearchResult
from mmsearch.core.types import Ids, Kind, Pixels, Ranking
from mmsearch.engine.view import View, ViewLoader


class SearchEngine:
    """Answers queries. One thread at a time: a vector index on a GPU allows no more."""

    def __init__(
        self, catalog: Catalog, views: ViewLoader, encoder: Encoder, fusion: Fusion
    ) -> None:
        self._catalog = catalog
        self._views = views
        self._encoder = encoder
        self._fusion = fusion

    @property
    def image_edge_px(self) -> int:
        """The short side that a query picture should have at least, in pixels."""
        return self._encoder.image_preparation.edge_px

    def search_text(self, text: str, k: int, min_score: float | None = None) -> SearchResult:
        """The pictures that a sentence describes best.

        Args:
            text: The description.
            k: How many at most.
            min_score: Hits below this cosine similarity are left out.

        Raises:
            InvalidQueryError: The text has no words, or k is below 1.
        """
        if not text.strip():
            raise InvalidQueryError(
                "The query is empty.", 'Describe a picture: mmsearch query "a red car"'
            )
        return self._search(text, Kind.TEXT, text, k, min_score, self._encoder.dropped_tokens(text))

    def search_image(
        self, name: str, pixels: Pixels, k: int, min_score: float | None = None
    ) -> SearchResult:
        """The pictures that look most like a picture.

        Args:
            name: What to call the query in the answer.
            pixels: uint8 (h, w, 3), upright.
            k: How many at most.
            min_score: Hits below this cosine similarity are left out.

        Raises:
            InvalidQueryError: k is below 1.
        """
        return self._search(name, Kind.IMAGE, pixels, k, min_score, 0)

    def _search(
        self,
        name: str,
        kind: Kind,
        payload: str | Pixels,
        k: int,
        min_score: float | None,
        dropped_tokens: int,
    ) -> SearchResult:
        if k < 1:
            raise InvalidQueryError(f"{k} hits were asked for.", "Ask for at least one: -k 10")
        timings: dict[str, float] = {}
        with _timed(timings, "encode"):
            prepared = self._encoder.prepare(kind, payload)
            query = self._fusion.fuse_query(self._encoder.encode(kind, [prepared]))
        with self._newest(timings) as (snapshot, view):
            with _timed(timings, "search"):
                ranking = view.search(query, min(k, max(snapshot.pictures, 1)), snapshot.dead_ids)
            with _timed(timings, "records"):
                hits = _hits(snapshot, ranking, min_score)
        return SearchResult(
            query=name,
            hits=hits,
            generation=snapshot.generation,
            pictures=snapshot.pictures,
            encoder=self._encoder.spec.name,
            timings_s=timings,
            dropped_tokens=dropped_tokens,
            devices={kind.value: self._encoder.device(kind), "vector_index": view.device},
        )

    @contextmanager
    def _newest(self, timings: dict[str, float]) -> Iterator[tuple[Snapshot, View]]:
        """The newest generation and its vectors, held for the length of a search."""
        for last_try in (False, True):
            with self._catalog.snapshot() as snapshot:
                try:
                    with _timed(timings, "open"):
                        view = self._views.view(snapshot)
                except DamagedFileError as error:
                    # A writer may have replaced the file between the two steps.
                    if last_try or not error.facts.get("missing"):
                        raise
                    continue
                yield snapshot, view
                return


def _hits(snapshot: Snapshot, ranking: Ranking, min_score: float | None) -> list[Hit]:
    floor = -np.inf if min_score is None else min_score
    found = (ranking.ids[0] >= 0) & (ranking.scores[0] >= floor)
    ids: Ids = ranking.ids[0][found]
    records = snapshot.records(ids.tolist())
    return [
        _hit(record, rank, float(score))
        for rank, (record, score) in enumerate(
            zip(records, ranking.scores[0][found], strict=True), start=1
        )
    ]


def _hit(record: Record, rank: int, score: float) -> Hit:
    first, *others = (Path(os.fsdecode(path)) for path in record.paths)
    return Hit(
        id=record.id,
        rank=rank,
        score=score,
        path=first,
        width=record.picture.width,
        height=record.picture.height,
        format=record.picture.format,
        taken_at=record.picture.taken_at,
        modified_at=record.mtime_ns / 1e9,
        size_bytes=record.size,
        texts=record.picture.texts,
        copies=tuple(others),
    )


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[step] = time.perf_counter() - began
