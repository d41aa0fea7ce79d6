"""Candidates -> hits: what is known of each, why it was found, and how sure that is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.evidence import MatchedText, Phrase
from mmsearch.core.records import Record
from mmsearch.core.requests import Hit
from mmsearch.core.types import Calibration
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.engine.confidence import band, visual_confidence, with_text
from mmsearch.engine.rank import Found, Library


def make_hits(
    library: Library,
    found: Found,
    records: Mapping[int, Record],
    phrases: Sequence[Phrase],
    nothing: NDArray[np.float32] | None,
    calibration: Calibration,
) -> list[Hit]:
    """The hits of an answer, best first.

    Args:
        library: What was searched.
        found: The candidates.
        records: Of them, by id; others may be among them.
        phrases: Of the query; none if nobody wants to know which text speaks for a hit.
        nothing: float32 (dim,), mean vector of prompts that describe nothing; None if no vectors
            were compared.
        calibration: Of the encoder.
    """
    sure = _confidence(library, found, nothing, calibration)
    texts: list[MatchedText | None] = [None] * len(found.ids)
    if phrases and found.text.any():
        texts = library.snapshot.matched_texts(found.ids.tolist(), phrases)
    return [
        _hit(
            records[image_id], row, found, float(sure[row]), texts[row] if found.text[row] else None
        )
        for row, image_id in enumerate(found.ids.tolist())
    ]


def _confidence(
    library: Library,
    found: Found,
    nothing: NDArray[np.float32] | None,
    calibration: Calibration,
) -> NDArray[np.float64]:
    seen = np.zeros(len(found.ids))
    if found.visual is not None and found.background is not None and nothing is not None:
        length = float(np.linalg.norm(nothing))
        query = library.fusion.fuse_query(as_unit_vectors(nothing[None, :]))
        null_scores = length * library.scores(query, found.ids)
        seen = visual_confidence(found.visual, null_scores, found.background, calibration)
    return with_text(seen, found.text)


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
