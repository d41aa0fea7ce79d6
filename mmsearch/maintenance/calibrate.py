"""Calibrate the confidences of an index on its own texts.

A text of a picture is searched twice: among all pictures, where the first hit should be its own
picture, and among all but this one, where every hit is wrong. A logistic function fitted to these
first hits gives the percentages. On other texts, a threshold is chosen below which a query is
answered "nothing": by split conformal prediction (Angelopoulos & Bates 2021,
https://arxiv.org/abs/2107.07511), at most 5% of queries with a matching picture fall below it on
average, whatever the encoder.

Only image vectors are compared, because every picture would find itself by its own text.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import Hint, StateError
from mmsearch.core.identity import require_identity
from mmsearch.core.query import Term
from mmsearch.core.records import IndexCalibration
from mmsearch.core.reports import CalibrationReport
from mmsearch.core.results import Progress
from mmsearch.core.types import (
    CROSS_ATTENTION,
    DEFAULT_SOURCES,
    UNENCODED_KINDS,
    Background,
    InputKind,
    ScoreMap,
    Vectors,
)
from mmsearch.core.vectors import encode_model_inputs
from mmsearch.factories import catalogs
from mmsearch.factories.plugins import load_index_encoder
from mmsearch.maintenance.suggestions import update_suggestions
from mmsearch.search.confidence import encode_background, score_features, to_probability
from mmsearch.search.hits import POSSIBLE_THRESHOLD
from mmsearch.search.query_encoder import QueryEncoder
from mmsearch.storage.segments import SegmentVectors, read_segment
from mmsearch.vector_stores.files import read_stored_image_vectors

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogReader, CatalogWriter
    from mmsearch.core.protocols import Encoder
    from mmsearch.core.settings import Settings
    from mmsearch.storage.layout import IndexLayout

MIN_TEXTS = 100
"""Minimum number of pictures with a text of their own."""

MAX_TEXTS = 500
"""Maximum number of texts that are searched: a CLIP model encodes about 15 a second on a CPU."""

LOST_SHARE = 0.05
"""Share of the queries with a matching picture that may be answered "nothing"."""

PRESENT_WEIGHT, ABSENT_WEIGHT = 0.8, 0.2
"""Assumed shares of queries with and without a matching picture."""

SAME_TEXT = 0.9
"""Cosine similarity of two texts from which on a picture with one of them also shows the other."""

SAME_LOOK = 0.95
"""Cosine similarity of two pictures from which on they may be of one burst."""

MAX_REPEATS = 3
"""Texts of more pictures than this, such as "OLYMPUS DIGITAL CAMERA", describe none of them."""

MAX_TEXT_CHARS = 200
BACKGROUND_RANK = 16
BACKGROUND_PICTURES = 4000
CHUNK_ROWS = 8192
PAGE_SIZE = 500
MAX_PAGES = 100
L2_PENALTY = 1e-3

_KIND_ORDER = ("caption", "description", "title", "keywords")

Floats = NDArray[np.float64]


def calibrate(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    wait_s: float,
    progress: Callable[[Progress], None],
) -> CalibrationReport:
    """Calibrate an index. See `mmsearch.api.index.Index.calibrate`."""
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        encoder = load_index_encoder(require_identity(catalog), settings, on_message)
        report = calibrate_catalog(layout, catalog, encoder, progress)
        if report.is_calibrated:
            update_suggestions(layout, catalog, encoder, settings, force=True)
    if not report.is_calibrated:
        raise StateError(
            f"Calibration needs {MIN_TEXTS} pictures with a caption, title or keywords of their "
            f"own; index {layout.name!r} has {report.texts:,}.",
            Hint(
                "Add texts to the pictures, or index with a table of captions: {}.",
                "add_folder(FOLDER, captions=FILE)",
                "mmsearch index FOLDER --captions FILE",
            ),
        )
    return report


def calibrate_catalog(
    layout: IndexLayout,
    catalog: CatalogWriter,
    encoder: Encoder,
    progress: Callable[[Progress], None] = lambda state: None,
) -> CalibrationReport:
    """Calibrate an index with an open catalog; nothing is changed if it has too few texts."""
    started = time.perf_counter()
    text_by_id = sample_texts(catalog)
    if len(text_by_id) < MIN_TEXTS:
        return CalibrationReport(texts=len(text_by_id), seconds=time.perf_counter() - started)
    progress(Progress("texts", 0, len(text_by_id)))
    first_hits = search_texts(layout, catalog, encoder, text_by_id)
    progress(Progress("texts", len(text_by_id), len(text_by_id)))
    fitted = fit(first_hits)
    own_background = encoder.calibration.background is None
    calibration = IndexCalibration(
        encoder=encoder.spec.fingerprint,
        texts=len(text_by_id),
        bias=fitted.score_map.bias,
        deviations=fitted.score_map.deviations,
        margin=fitted.score_map.margin,
        nothing=fitted.nothing,
        lost=fitted.lost,
        rejected=fitted.rejected,
        error=fitted.error,
        background=encode_background(first_hits.background) if own_background else "",
        residual=first_hits.background.residual,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    catalog.save_calibration(calibration)
    return CalibrationReport(
        texts=calibration.texts,
        is_calibrated=True,
        lost=calibration.lost,
        rejected=calibration.rejected,
        error=calibration.error,
        seconds=time.perf_counter() - started,
    )


def sample_texts(catalog: CatalogReader, limit: int = MAX_TEXTS) -> dict[int, str]:
    """Return texts about pictures from all over an index, by picture id; never file names.

    A picture has at most one, and no two are equal.
    """
    with catalog.snapshot() as snapshot:
        # Ids have large gaps after files of several items. Twice as many pages leave none out.
        pages = min(2 * -(-snapshot.pictures // PAGE_SIZE), MAX_PAGES)
        starts = snapshot.sample_ids(pages) - 1
    candidates: dict[int, str] = {}
    for after in np.random.default_rng(0).permutation(starts).tolist():
        if len(candidates) >= 4 * limit:
            break
        for picture in catalog.list_live_pictures(after, PAGE_SIZE):
            texts = [
                text
                for text in picture.picture.texts
                if text.source in DEFAULT_SOURCES and text.kind not in UNENCODED_KINDS
            ]
            best = min(texts, key=lambda text: _kind_rank(text.kind), default=None)
            words = "" if best is None else " ".join(best.text.split())[:MAX_TEXT_CHARS]
            if words:
                candidates[picture.id] = words
    repeats = Counter(text.casefold() for text in candidates.values())
    unique: dict[str, int] = {}
    for picture_id, text in candidates.items():
        if repeats[text.casefold()] <= MAX_REPEATS:
            unique.setdefault(text.casefold(), picture_id)
    ids = sorted(unique.values())
    chosen = np.unique(np.linspace(0, len(ids) - 1, min(limit, len(ids))).astype(int)).tolist()
    return {ids[position]: candidates[ids[position]] for position in chosen}


def _kind_rank(kind: str) -> int:
    return _KIND_ORDER.index(kind) if kind in _KIND_ORDER else len(_KIND_ORDER)


@dataclass(frozen=True, eq=False)
class FirstHits:
    """First hits of n texts, among all pictures and among those that show something else.

    Attributes:
        vectors: (n, dim), query vectors.
        own: float64 (n,), similarity of each text with its own picture.
        others: float64 (n,), highest similarity of each text with the picture of another text.
        background: Background of the library.
    """

    vectors: Vectors
    own: Floats
    others: Floats
    background: Background

    def features(self, rows: NDArray[np.intp]) -> tuple[Floats, Floats, NDArray[np.bool_], Floats]:
        """Return the features of first hits, their relevance and their weights.

        The first half has the hits among all pictures, the second half those without the own one.
        """
        similarities = np.stack([np.maximum(self.own, self.others), self.others], axis=1)[rows]
        above_mean, std = score_features(similarities, self.vectors[rows], self.background)
        is_right = (self.own > self.others)[rows]
        relevant = np.concatenate([is_right, np.zeros(len(rows), bool)])
        weights = np.repeat([PRESENT_WEIGHT, ABSENT_WEIGHT], len(rows))
        return above_mean.T.ravel(), np.tile(std[:, 0], 2), relevant, weights


def search_texts(
    layout: IndexLayout, catalog: CatalogReader, encoder: Encoder, text_by_id: dict[int, str]
) -> FirstHits:
    """Search the texts of pictures among all pictures of an index.

    Pictures with almost the same text or look are left out: they may show the same.
    """
    terms = [Term(text) for text in text_by_id.values()]
    queries = QueryEncoder(encoder, _load_no_image).vectors(terms)
    plain = encode_model_inputs(
        encoder, [encoder.prepare(InputKind.TEXT, text) for text in text_by_id.values()]
    )
    ids = np.array(list(text_by_id), dtype=np.int64)
    own, others = np.full(len(ids), -1.0), np.full(len(ids), -1.0)
    with catalog.snapshot() as snapshot:
        deleted_ids, stale_rows = snapshot.deleted_ids, snapshot.stale_rows()
        own_images = read_stored_image_vectors(layout, snapshot, ids)
    segments = catalog.segments()
    step = max(1, sum(segment.rows for segment in segments) // BACKGROUND_PICTURES)
    sampled = []
    for segment in segments:
        held = read_segment(layout, segment)
        alive = ~np.isin(held.ids, deleted_ids)
        alive &= ~np.isin(held.ids, stale_rows.get(segment.number, ()))
        sampled.append(held.images[alive][::step])
        for start in range(0, len(held.ids), CHUNK_ROWS):
            span = slice(start, start + CHUNK_ROWS)
            scores = held.images[span] @ queries.T
            is_own = (held.ids[span, None] == ids) & alive[span, None]
            own = np.maximum(own, np.where(is_own, scores, -1.0).max(axis=0))
            is_same = held.images[span] @ own_images.T >= SAME_LOOK
            is_out = is_same | ~alive[span, None] | _have_same_text(held, span, plain)
            is_out |= is_own
            others = np.maximum(others, np.where(is_out, -1.0, scores).max(axis=0))
    encoder_background = encoder.calibration.background
    background = encoder_background or measure_background(np.concatenate(sampled))
    return FirstHits(queries, own, others, background)


def _have_same_text(held: SegmentVectors, span: slice, texts: Vectors) -> NDArray[np.bool_]:
    """Return which pictures of a span have a text like each of the texts, bool (rows, texts)."""
    parts = held.texts[span]
    rows = [row for row, part in enumerate(parts) for kind in part.kinds if kind != CROSS_ATTENTION]
    same = np.zeros((len(parts), len(texts)), dtype=bool)
    if rows:
        vectors = np.concatenate(
            [part.vectors[[kind != CROSS_ATTENTION for kind in part.kinds]] for part in parts]
        )
        np.logical_or.at(same, rows, vectors @ texts.T >= SAME_TEXT)
    return same


def _load_no_image(path: Path, prepare: object) -> NDArray[np.uint8]:
    raise NotImplementedError(f"{path}: texts are calibrated, not pictures")


def measure_background(vectors: Vectors, rank: int = BACKGROUND_RANK) -> Background:
    """Return the statistics of (n, dim) image vectors; the rank is reduced to that of the data."""
    rows = vectors.astype(np.float64)
    mean = rows.mean(axis=0)
    # The largest axes come from the smaller of the two matrices of inner products.
    _, scales, axes = np.linalg.svd(rows - mean, full_matrices=False)
    factors = axes[:rank] * (scales[:rank, None] / np.sqrt(len(rows)))
    return Background(mean.astype(np.float32), factors.astype(np.float32))


@dataclass(frozen=True)
class Fitted:
    """A fitted score map, its threshold, and what both achieve on texts that did not fit the map.

    The attributes are those of `IndexCalibration`.
    """

    score_map: ScoreMap
    nothing: float
    lost: float
    rejected: float
    error: float


def fit(first_hits: FirstHits) -> Fitted:
    """Fit the map to one half of the texts; choose and measure the threshold on the other half."""
    order = np.random.default_rng(0).permutation(len(first_hits.own))
    half = len(order) // 2
    score_map = fit_score_map(*first_hits.features(order[:half]))
    above_mean, std, relevant, weights = first_hits.features(order[half:])
    confidences = to_probability(above_mean, std, score_map)
    present, absent = np.split(confidences, 2)
    # Hits that may well be right are shown, even if the threshold would allow more.
    nothing = min(conformal_threshold(present, LOST_SHARE), POSSIBLE_THRESHOLD)
    return Fitted(
        score_map,
        nothing,
        lost=float((present < nothing).mean()),
        rejected=float((absent < nothing).mean()),
        error=calibration_error(confidences, relevant, weights),
    )


def conformal_threshold(confidences: Floats, lost_share: float) -> float:
    """Return the largest threshold below which at most a share of like values is expected.

    The guarantee holds on average over samples of n values, (n,), and a further value that is
    exchangeable with them. It is 0 if there are too few values.
    """
    position = int(np.floor(lost_share * (len(confidences) + 1)))
    return float(np.sort(confidences)[position - 1]) if position else 0.0


def fit_score_map(
    above_mean: Floats,
    std: Floats,
    relevant: NDArray[np.bool_],
    weights: Floats,
    *,
    with_margin: bool = True,
) -> ScoreMap:
    """Fit a logistic regression of relevance, (n,), to the features of `score_features`.

    No weight of the map is negative, so that a higher score is never less probable. Without the
    margin, only the standard deviations count.
    """
    columns = np.stack([np.ones_like(above_mean), above_mean / std, above_mean], axis=1)
    scales = np.array([1.0, *np.maximum(columns[:, 1:].std(axis=0), 1e-9)])
    free = [0, 1, 2] if with_margin else [0, 1]
    while True:
        coefficients = np.zeros(3)
        coefficients[free] = _logistic_regression(
            columns[:, free] / scales[free], relevant.astype(np.float64), weights / weights.sum()
        )
        worst = int(np.argmin(coefficients[1:])) + 1
        if coefficients[worst] >= 0:
            break
        free.remove(worst)
    bias, deviations, margin = (float(value) for value in coefficients / scales)
    return ScoreMap(bias, deviations, margin)


def _logistic_regression(columns: Floats, truth: Floats, weights: Floats) -> Floats:
    """Return the coefficients by Newton's method; all but the first are penalized."""
    coefficients = np.zeros(columns.shape[1])
    penalty = np.full(columns.shape[1], 2 * L2_PENALTY)
    penalty[0] = 1e-6
    for _ in range(50):
        probabilities = 1.0 / (1.0 + np.exp(-np.clip(columns @ coefficients, -30, 30)))
        gradient = columns.T @ (weights * (probabilities - truth)) + penalty * coefficients
        curvature = weights * np.maximum(probabilities * (1.0 - probabilities), 1e-6)
        step = np.linalg.solve((columns.T * curvature) @ columns + np.diag(penalty), gradient)
        coefficients = coefficients - np.clip(step, -5.0, 5.0)
        if np.abs(step).max() < 1e-9:
            break
    return coefficients


def calibration_error(
    confidences: Floats, relevant: NDArray[np.bool_], weights: Floats, bins: int = 10
) -> float:
    """Return the expected calibration error: the mean gap between said and right, in equal bins."""
    error = 0.0
    for part in np.array_split(np.argsort(confidences, kind="stable"), bins):
        share = weights[part].sum()
        if share:
            said = weights[part] @ confidences[part] / share
            error += share * abs(said - weights[part] @ relevant[part] / share)
    return float(error / weights.sum())
