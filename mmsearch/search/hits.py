"""Candidates -> hits: what is known of each, why it was found, and how sure that is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import Snapshot
from mmsearch.core.records import Record
from mmsearch.core.requests import Hit
from mmsearch.core.text_matches import MatchedText, Phrase
from mmsearch.core.types import Calibration, Ids
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.search.confidence import band, visual_confidence, with_text
from mmsearch.search.retrieval import Found, Library


@dataclass(frozen=True)
class Known:
    """What hits are made of, for the candidates of several queries.

    Attributes:
        ids: int64 (n,), ascending.
        records: By id.
        null_scores: float32 (n,): mean cosine similarity with prompts that describe nothing; None
            if no query wants to know how sure its hits are.
    """

    ids: Ids
    records: Mapping[int, Record]
    null_scores: NDArray[np.float32] | None

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        library: Library | None,
        candidates: Sequence[Ids],
        nothing: NDArray[np.float32] | None,
    ) -> Known:
        """What the catalog and the vectors tell.

        Args:
            snapshot: The generation.
            library: Holds them; None if there are none.
            candidates: int64 (n,) of each query.
            nothing: float32 (dim,), mean vector of the prompts.
        """
        ids = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *candidates]))
        records = {record.id: record for record in snapshot.records(ids.tolist())}
        if library is None or nothing is None:
            return cls(ids, records, None)
        query = library.fusion.fuse_query(as_unit_vectors(nothing[None, :]))
        length = np.float32(np.linalg.norm(nothing))
        return cls(ids, records, length * library.scores(query, ids))


def make_hits(
    library: Library,
    found: Found,
    known: Known,
    phrases: Sequence[Phrase],
    calibration: Calibration | None,
) -> list[Hit]:
    """The hits of an answer, best first.

    Args:
        library: What was searched.
        found: The candidates.
        known: Of them, and maybe of others.
        phrases: Of the query; none if nobody wants to know which text speaks for a hit.
        calibration: Of the encoder; None if nobody wants to know how sure each hit is.
    """
    sure = _confidence(found, known, calibration)
    texts: list[MatchedText | None] = [None] * len(found.ids)
    if phrases and found.text.any():
        texts = library.snapshot.matched_texts(found.ids.tolist(), phrases)
    return [
        _hit(known.records[number], row, found, sure[row], texts[row] if found.text[row] else None)
        for row, number in enumerate(found.ids.tolist())
    ]


def _confidence(found: Found, known: Known, calibration: Calibration | None) -> list[float]:
    seen = np.zeros(len(found.ids))
    visual, background, all_nulls = found.visual, found.background, known.null_scores
    if not (visual is None or background is None or all_nulls is None or calibration is None):
        nulls = all_nulls[np.searchsorted(known.ids, found.ids)]
        seen = visual_confidence(visual, nulls, background, calibration)
    sure: list[float] = with_text(seen, found.text).tolist()
    return sure


def _hit(
    record: Record, row: int, found: Found, confidence: float, matched: MatchedText | None
) -> Hit:
    first, *others = (Path(os.fsdecode(path)) for path in record.paths)
    picture = record.picture
    return Hit(
        id=record.id,
        rank=row + 1,
        score=float(found.scores[row]),
        visual=None if found.visual is None else float(found.visual[row]),
        text=float(found.text[row]),
        matched=matched,
        confidence=confidence,
        band=band(confidence),
        path=first,
        width=picture.width,
        height=picture.height,
        format=picture.format,
        taken_at=picture.taken_at,
        camera=picture.camera,
        latitude=picture.latitude,
        longitude=picture.longitude,
        modified_at=record.mtime_ns / 1e9,
        size_bytes=record.size,
        texts=picture.texts,
        copies=tuple(others),
    )
