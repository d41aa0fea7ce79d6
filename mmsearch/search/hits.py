"""Build hits from candidates: the record, the matched text and the confidence of each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import Snapshot
from mmsearch.core.query import MatchedText, TextTerm
from mmsearch.core.records import PictureRecord
from mmsearch.core.results import Hit
from mmsearch.core.types import Calibration, Ids
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.search.confidence import combine_with_text, to_band, visual_confidence
from mmsearch.search.retrieval import Candidates, SearchScope


@dataclass(frozen=True)
class HitContext:
    """Data shared by the hits of several queries.

    Attributes:
        ids: int64 (n,), ascending: ids of all candidates.
        records: Record of each picture, by id.
        null_scores: float32 (n,): mean cosine similarity of each picture with `NULL_PROMPTS`; None
            if no query asks for confidences.
    """

    ids: Ids
    records: Mapping[int, PictureRecord]
    null_scores: NDArray[np.float32] | None

    @classmethod
    def load(
        cls,
        snapshot: Snapshot,
        scope: SearchScope | None,
        candidate_ids: Sequence[Ids],
        null_vector: NDArray[np.float32] | None,
    ) -> HitContext:
        """Load the records and the null scores of all candidates.

        Args:
            snapshot: Snapshot of the generation that was searched.
            scope: Scope that holds the vectors of the candidates; None if no query succeeded.
            candidate_ids: Candidates of each query, int64 (n,).
            null_vector: float32 (dim,), mean vector of `NULL_PROMPTS`; None if no query asks for
                confidences.
        """
        ids = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *candidate_ids]))
        records = {record.id: record for record in snapshot.records(ids.tolist())}
        if scope is None or null_vector is None:
            return cls(ids, records, None)
        null_query = scope.fusion.fuse_query(as_unit_vectors(null_vector[None, :]))
        norm = np.float32(np.linalg.norm(null_vector))
        return cls(ids, records, norm * scope.scores(null_query, ids))


def make_hits(
    scope: SearchScope,
    candidates: Candidates,
    context: HitContext,
    text_terms: Sequence[TextTerm],
    calibration: Calibration | None,
) -> list[Hit]:
    """Return the hits of a query, best first.

    Args:
        scope: The scope that was searched.
        candidates: The candidates, best first.
        context: Records and null scores of these candidates, and possibly of others.
        text_terms: Text terms of the query; empty to leave out the matched texts.
        calibration: Calibration of the encoder; None to leave out the visual confidence.
    """
    confidences = _confidences(candidates, context, calibration)
    texts: list[MatchedText | None] = [None] * len(candidates.ids)
    if text_terms and candidates.text.any():
        texts = scope.snapshot.matched_texts(candidates.ids.tolist(), text_terms)
    return [
        _make_hit(
            context.records[image_id],
            row,
            candidates,
            confidences[row],
            texts[row] if candidates.text[row] else None,
        )
        for row, image_id in enumerate(candidates.ids.tolist())
    ]


def _confidences(
    candidates: Candidates, context: HitContext, calibration: Calibration | None
) -> list[float]:
    visual_confidences = np.zeros(len(candidates.ids))
    visual, background, all_null_scores = (
        candidates.visual,
        candidates.background,
        context.null_scores,
    )
    if not (visual is None or background is None or all_null_scores is None or calibration is None):
        null_scores = all_null_scores[np.searchsorted(context.ids, candidates.ids)]
        visual_confidences = visual_confidence(visual, null_scores, background, calibration)
    confidences: list[float] = combine_with_text(visual_confidences, candidates.text).tolist()
    return confidences


def _make_hit(
    record: PictureRecord,
    row: int,
    candidates: Candidates,
    confidence: float,
    matched: MatchedText | None,
) -> Hit:
    main_path, *copy_paths = (Path(os.fsdecode(path)) for path in record.paths)
    picture = record.picture
    return Hit(
        id=record.id,
        rank=row + 1,
        score=float(candidates.scores[row]),
        visual=None if candidates.visual is None else float(candidates.visual[row]),
        text=float(candidates.text[row]),
        matched=matched,
        confidence=confidence,
        band=to_band(confidence),
        path=main_path,
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
        copies=tuple(copy_paths),
    )
