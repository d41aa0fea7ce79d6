"""Confidence in the look of a hit: the probability that a picture shows what a query describes.

A cosine similarity is not a probability: 0.3 may be the highest score of one query and noise for
another. A similarity is therefore compared with those of the same query to a background of
pictures: by how much it exceeds their mean, and by how many of their standard deviations. A
logistic function of both gives the probability. It is fitted for an encoder on queries with and
without a relevant picture, in libraries whose pictures are not in the background.

The background belongs to the calibration, not to the library: the same picture is as probable in a
library of one picture as in one of a million. Image vectors are compared, whatever the fusion of
the index is: what the texts of a picture say is evidence of its own.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.language import split_words
from mmsearch.core.query import Term
from mmsearch.core.records import IndexCalibration
from mmsearch.core.results import Notice
from mmsearch.core.stop_words import STOP_WORDS
from mmsearch.core.types import Background, Calibration, ScoreMap, Vectors
from mmsearch.search.feedback import Feedback, feedback_rows
from mmsearch.search.query_parser import format_query
from mmsearch.search.retrieval import Candidates, SearchScope

if TYPE_CHECKING:
    from mmsearch.core.protocols import Encoder

SAME_PICTURE = 0.9995
"""Cosine similarity of two pictures from which on they count as the same picture."""

MAX_QUOTE = 60
"""Maximum characters of a query that a notice quotes."""

MIN_DEVIATION = 1e-3
MAX_LOGIT = 30.0
MIN_NORM = 1e-6

Floats = NDArray[np.float64]


def look_confidences(
    scope: SearchScope,
    candidates: Candidates,
    terms: Sequence[Term],
    vectors: Vectors | None,
    calibration: Calibration,
    feedback: Feedback | None = None,
) -> Floats | None:
    """Return the probability of each candidate that it shows what a query describes.

    The texts of a query are compared as one text, their weighted mean, and so are its pictures. The
    logits of both are averaged by weight. A negative term lowers the probability by the probability
    that the picture shows it.

    Liked and disliked pictures move the query: a picture is as probable as one that exceeds the
    background by as many standard deviations of the query without them.

    Args:
        scope: Scope that holds the candidates.
        candidates: The candidates, n pictures.
        terms: Terms of the query.
        vectors: (terms, dim), one row for each term; None in text mode.
        calibration: Calibration of the encoder.
        feedback: `QueryPlan.feedback` of the query.

    Returns:
        float64 (n,), in [0, 1], 1 for a picture that is compared with itself, NaN for items without
        pixels; None without vectors.

    Raises:
        DamagedFileError: The image vectors of a fused index cannot be read.
    """
    if vectors is None or candidates.visual is None or candidates.background is None:
        return None
    seen = np.flatnonzero(~np.isnan(candidates.visual))
    if len(seen) < len(candidates.ids):
        confidences = np.full(len(candidates.ids), np.nan)
        known = look_confidences(
            scope, candidates.take(seen), terms, vectors, calibration, feedback
        )
        if known is not None:
            confidences[seen] = known
        return confidences
    is_one_picture = len(terms) == 1 and terms[0].text is None
    similarities: Sequence[NDArray[np.float32]]
    if len(terms) == 1 and scope.has_image_vectors:
        similarities = [candidates.visual]
    elif calibration.background is None and not is_one_picture:
        similarities = []
    else:
        similarities = list(scope.image_scores(vectors, candidates.ids))
    if calibration.background is None:
        background = candidates.background
        above_mean = candidates.visual.astype(np.float64) - background.mean
        std = background.std if feedback is None else feedback.base_std
        above_mean = above_mean / background.std * std
        confidences = _sigmoid(_logits(above_mean, std, calibration.texts))
    else:
        confidences = _combine_terms(
            terms, vectors, similarities, calibration.background, calibration, feedback
        )
    if is_one_picture:
        confidences[similarities[0] >= SAME_PICTURE] = 1.0
    return confidences


def apply_calibration(stored: IndexCalibration | None, encoder: Encoder) -> Calibration:
    """Return the calibration of an index, or the encoder's if the index has none for it."""
    if stored is None or stored.encoder != encoder.spec.fingerprint:
        return encoder.calibration
    background = encoder.calibration.background
    if stored.background:
        background = decode_background(stored.background, encoder.spec.dim)
    if background is None:
        return encoder.calibration
    texts = ScoreMap(stored.bias, stored.deviations, stored.margin)
    return replace(
        encoder.calibration,
        texts=texts,
        background=replace(background, residual=stored.residual),
        measured=True,
        nothing=stored.nothing,
    )


def encode_background(background: Background) -> str:
    """Return the mean and the factors of a background as `IndexCalibration` stores them."""
    rows = np.concatenate([background.mean[None, :], background.factors])
    return b64encode(np.ascontiguousarray(rows, dtype="<f2").tobytes()).decode("ascii")


# Every search reads the same text.
@lru_cache(maxsize=4)
def decode_background(stored: str, dim: int) -> Background | None:
    """Return the mean and the factors in a stored calibration; None if they are invalid."""
    try:
        rows = np.frombuffer(b64decode(stored, validate=True), dtype="<f2").reshape(-1, dim)
    except ValueError:
        return None
    rows = rows.astype(np.float32)
    return Background(rows[0], rows[1:]) if len(rows) and np.isfinite(rows).all() else None


def is_calibrated(terms: Sequence[Term], calibration: Calibration) -> bool:
    """Return True if the confidences of a query come from fitted maps."""
    clicked = set(feedback_rows(terms).tolist())
    has_picture = any(term.text is None for row, term in enumerate(terms) if row not in clicked)
    return (
        any(term.weight > 0 for term in terms)
        and calibration.measured
        and not (has_picture and calibration.pictures is None)
    )


def score_features(
    similarities: NDArray[np.floating], vectors: Vectors, background: Background
) -> tuple[Floats, Floats]:
    """Compare the similarities of pictures to vectors with those of a background.

    Args:
        similarities: (q, n), cosine similarities of n pictures to each vector.
        vectors: (q, dim).
        background: The background.

    Returns:
        By how much the similarities exceed the background's mean, float64 (q, n), and the
        background's standard deviations, float64 (q, 1).
    """
    queries = vectors.astype(np.float64)
    means = queries @ background.mean.astype(np.float64)
    stds = np.linalg.norm(queries @ background.factors.T.astype(np.float64), axis=1)
    stds = np.hypot(stds, background.residual)
    above_mean = np.asarray(similarities, dtype=np.float64) - means[:, None]
    return above_mean, np.maximum(stds, MIN_DEVIATION)[:, None]


def to_probability(above_mean: Floats, std: Floats | float, score_map: ScoreMap) -> Floats:
    """Return the probability of pictures whose similarity is this far above the mean."""
    return _sigmoid(_logits(above_mean, std, score_map))


def best_guesses(terms: Sequence[Term], model: str, *, is_nothing: bool = False) -> Notice:
    """Return the notice of a query whose best hit is not even possible.

    Args:
        terms: Terms of the query.
        model: Name of the encoder.
        is_nothing: True if the best hit is below `Calibration.nothing`.
    """
    wanted = [term for term in terms if term.weight > 0]
    if any(term.text is None for term in wanted):
        return Notice("best_guesses", "Best guesses: no picture here looks much like that.")
    words = " ".join(format_query([replace(term, weight=1.0) for term in wanted]).split())
    if len(words) > MAX_QUOTE:
        words = words[:MAX_QUOTE].rsplit(" ", 1)[0].rstrip(" ,;.+") + "..."
    names = {word for term in wanted for word in split_words(term.text or "")}
    if names and names <= STOP_WORDS:
        return Notice("best_guesses", f"Best guesses: {words!r} does not describe a picture.")
    if is_nothing:
        return Notice("best_guesses", f"No match: no picture here seems to show {words!r}.")
    name = "the built-in model" if model == "starter" else model
    return Notice("best_guesses", f"Best guesses: {name} does not know {words!r} well.")


def _combine_terms(
    terms: Sequence[Term],
    vectors: Vectors,
    similarities: Sequence[NDArray[np.float32]],
    background: Background,
    calibration: Calibration,
    feedback: Feedback | None,
) -> Floats:
    """Return the probabilities of pictures, of which (terms, n) similarities are known."""
    scores = np.stack(similarities).astype(np.float64)
    maps = {False: calibration.texts, True: calibration.pictures or ScoreMap()}
    weights = np.array([term.weight for term in terms])
    clicked = np.empty(0, np.intp) if feedback is None else feedback.rows
    weights[clicked] = 0.0
    kinds = np.array([term.text is None for term in terms])
    logits, total = np.zeros(scores.shape[1]), 0.0
    for is_picture in (False, True):
        chosen = (kinds == is_picture) & (weights > 0)
        if chosen.any():
            mixed = weights[chosen] @ vectors[chosen].astype(np.float64)
            norm = max(float(np.linalg.norm(mixed)), MIN_NORM)
            mixed_scores = weights[chosen] @ scores[chosen] / norm
            weight = float(weights[chosen].sum())
            above_mean, std = score_features(mixed_scores[None], (mixed / norm)[None], background)
            if feedback is not None:
                above_mean = std * _moved_deviations(
                    mixed_scores / std[0],
                    mixed / norm / std[0],
                    feedback.weights,
                    scores[clicked],
                    vectors[clicked],
                    background,
                )
            logits += weight * _logits(above_mean[0], std[0], maps[is_picture])
            total += weight
    probabilities = _sigmoid(logits / total)
    for row in np.flatnonzero(weights < 0):
        unwanted = _term_logits(scores[row], vectors[row], background, maps[bool(kinds[row])])
        probabilities *= 1.0 - _sigmoid(unwanted)
    return probabilities


def _moved_deviations(
    scores: Floats,
    vector: NDArray[np.floating],
    weights: Floats,
    clicked_scores: Floats,
    clicked_vectors: Vectors,
    background: Background,
) -> Floats:
    """Return the standard deviations by which pictures exceed the background of a moved query.

    Args:
        scores: float64 (n,), similarities of the pictures to the query, divided by its standard
            deviation.
        vector: float64 (dim,), the query, divided likewise.
        weights: float64 (clicked,), see `Feedback.weights`.
        clicked_scores: float64 (clicked, n), similarities to the clicked pictures.
        clicked_vectors: (clicked, dim).
        background: The background.

    Returns:
        float64 (1, n).
    """
    _, stds = score_features(clicked_scores, clicked_vectors, background)
    scaled = weights / stds[:, 0]
    vector = np.asarray(vector + scaled @ clicked_vectors.astype(np.float64))
    norm = max(float(np.linalg.norm(vector)), MIN_NORM)
    moved_scores = (scores + scaled @ clicked_scores) / norm
    above_mean, std = score_features(moved_scores[None], (vector / norm)[None], background)
    return above_mean / std


def _term_logits(
    scores: Floats, vector: NDArray[np.floating], background: Background, score_map: ScoreMap
) -> Floats:
    above_mean, std = score_features(scores[None], vector[None], background)
    return _logits(above_mean[0], std[0], score_map)


def _logits(above_mean: Floats, std: Floats | float, score_map: ScoreMap) -> Floats:
    logits: Floats = (
        score_map.bias + score_map.deviations * above_mean / std + score_map.margin * above_mean
    )
    return logits


def _sigmoid(logits: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -MAX_LOGIT, MAX_LOGIT)))
