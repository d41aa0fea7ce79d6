"""Confidence benchmark: detection of queries without a relevant picture.

Each query runs twice: on the whole set, and on the set without its relevant pictures. The logistic
function of `mmsearch.search.hits` is fitted on drawings (Tux Paint's, which no model was
trained on) and evaluated on photographs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from scipy.optimize import minimize

import mmsearch
from benchmarks.quality.starter import Trial
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import Calibration, InputKind
from mmsearch.search.hits import LIKELY_THRESHOLD, POSSIBLE_THRESHOLD, visual_confidence
from mmsearch.search.query_encoder import NULL_PROMPTS
from mmsearch.search.retrieval import ScoreDistribution

MAX_HITS = 10
RESAMPLES = 2000
L2_PENALTY = 1e-4
TEXT_BATCH = 64
FITTED_ON = "stamps, drawings only"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EncodedTrial:
    """The vectors of a trial.

    Attributes:
        pictures: Picture embeddings, float32 (pictures, dim).
        queries: Query embeddings, float32 (queries, dim).
        null_vector: Mean of the null prompts, float32 (dim,).
    """

    pictures: NDArray[np.float32]
    queries: NDArray[np.float32]
    null_vector: NDArray[np.float32]


@dataclass(frozen=True)
class TrialHits:
    """The hits of each query of a trial in one library.

    Attributes:
        backgrounds: Background of each query.
        scores: Cosine similarities, float32 (queries, hits), best first.
        null_scores: Cosine similarities with the null prompts, float32 (queries, hits).
        relevant: Relevance of each hit, bool (queries, hits).
    """

    backgrounds: list[ScoreDistribution]
    scores: NDArray[np.float32]
    null_scores: NDArray[np.float32]
    relevant: NDArray[np.bool_]

    def confidence(self, calibration: Calibration) -> Floats:
        """Return the confidence of each hit."""
        rows = zip(self.scores, self.null_scores, self.backgrounds, strict=True)
        return np.stack([visual_confidence(*row, calibration) for row in rows])

    def features(self) -> Floats:
        """Return the features of first hits, float64 (queries, 3).

        They are a constant 1, the score above the library, and the score above the null prompts.
        """
        first = self.scores[:, 0].astype(np.float64)
        means = np.array([background.mean for background in self.backgrounds])
        return np.stack(
            [np.ones(len(first)), first - means, first - self.null_scores[:, 0]], axis=1
        )


def retrieve(trial: Trial, encoded: EncodedTrial, *, present: bool) -> TrialHits:
    """Return the first hits of all queries, with or without relevant pictures in the library."""
    backgrounds, scores, nulls, hits = [], [], [], []
    for vector, relevant in zip(encoded.queries, trial.relevant, strict=True):
        is_present = np.ones(len(relevant), bool) if present else ~relevant
        pictures = encoded.pictures[is_present]
        cosines = pictures @ vector
        first = np.argsort(-cosines, kind="stable")[:MAX_HITS]
        backgrounds.append(ScoreDistribution.from_scores(cosines))
        scores.append(cosines[first])
        nulls.append(pictures[first] @ encoded.null_vector)
        hits.append(relevant[is_present][first])
    return TrialHits(backgrounds, np.stack(scores), np.stack(nulls), np.stack(hits))


def encode(trial: Trial, encoder: Encoder) -> EncodedTrial:
    """Encode all pictures and queries of a trial, in batches."""
    size = encoder.batch_size
    parts = [
        encoder.encode(
            InputKind.IMAGE,
            [
                encoder.prepare(InputKind.IMAGE, _pixels(p))
                for p in trial.pictures[start : start + size]
            ],
        )
        for start in range(0, len(trial.pictures), size)
    ]
    null_vector = _texts(encoder, NULL_PROMPTS).mean(axis=0)
    return EncodedTrial(np.concatenate(parts), _texts(encoder, trial.queries), null_vector)


def fit(library_hits: tuple[TrialHits, TrialHits]) -> Calibration:
    """Fit a logistic regression of relevance to the first hits in both libraries.

    Later hits are not used: if only one picture is relevant, they are wrong even if they match
    well.
    """
    features = np.concatenate([trial_hits.features() for trial_hits in library_hits])
    truth = np.concatenate([trial_hits.relevant[:, 0] for trial_hits in library_hits])

    def loss(weights: Floats) -> float:
        signed = np.where(truth, 1.0, -1.0) * (features @ weights)
        return float(np.logaddexp(0, -signed).mean() + L2_PENALTY * (weights[1:] ** 2).sum())

    bias, margin, null = (float(v) for v in minimize(loss, np.zeros(3), method="BFGS").x)
    return Calibration(bias, library=0.0, margin=margin, null=null, measured=True)


def auc(present: Floats, absent: Floats) -> tuple[float, float, float]:
    """Return the ROC AUC of a query's best hit, with its 95% bootstrap interval over queries."""

    def area(a: Floats, b: Floats) -> float:
        return float(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))

    generator = np.random.default_rng(0)
    samples = []
    for _ in range(RESAMPLES):
        # The same queries run on both libraries, so they are resampled together.
        resampled = generator.integers(0, len(present), len(present))
        samples.append(area(present[resampled], absent[resampled]))
    low, high = np.quantile(samples, [0.025, 0.975])
    return area(present, absent), float(low), float(high)


def measure(trials: list[Trial], fit_trial: Trial) -> dict[str, Any]:
    """Fit on drawings and evaluate on all trials."""
    encoder = mmsearch.open_model("starter")
    drawings = encode(fit_trial, encoder)
    fitted = fit(
        (retrieve(fit_trial, drawings, present=True), retrieve(fit_trial, drawings, present=False))
    )
    results: dict[str, Any] = {
        "fitted": asdict(fitted),
        "shipped": asdict(encoder.calibration),
        "trials": [],
    }
    for trial in [*trials, fit_trial]:
        encoded = encode(trial, encoder)
        with_relevant, without_relevant = (
            retrieve(trial, encoded, present=True),
            retrieve(trial, encoded, present=False),
        )
        confidences = (
            with_relevant.confidence(encoder.calibration),
            without_relevant.confidence(encoder.calibration),
        )
        found = with_relevant.relevant[:, 0]
        best = confidences[0].max(axis=1)
        results["trials"].append(
            {
                "trial": trial.name,
                "queries": len(trial.queries),
                "pictures": len(trial.pictures),
                "auc": auc(best, confidences[1].max(axis=1)),
                "auc_cosine": auc(with_relevant.scores[:, 0], without_relevant.scores[:, 0]),
                "auc_found": auc_found(best, confidences[1].max(axis=1), found),
                "bands": bands(
                    np.concatenate(confidences),
                    np.concatenate([with_relevant.relevant, without_relevant.relevant]),
                ),
            }
        )
        print(results["trials"][-1], flush=True)
    return results


def auc_found(present: Floats, absent: Floats, found: NDArray[np.bool_]) -> list[float]:
    """Return the `auc` of the queries whose first hit is relevant, and their number."""
    return [*auc(present[found], absent[found]), float(found.sum())]


def bands(confidences: Floats, relevant: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Return the outcomes of the first hits in each confidence band."""
    first, hit = confidences[:, 0], relevant[:, 0]
    rows = []
    for low, high in pairwise((0.0, POSSIBLE_THRESHOLD, LIKELY_THRESHOLD, 1.01)):
        inside = (first >= low) & (first < high)
        rows.append(
            {
                "from": low,
                "hits": int(inside.sum()),
                "mean": float(first[inside].mean()) if inside.any() else 0.0,
                "relevant": float(hit[inside].mean()) if inside.any() else 0.0,
            }
        )
    return rows


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = [
        "## Knowing that there is nothing\n",
        "Each query is asked of the whole set and of the set without its relevant pictures. ROC AUC "
        "is the chance that\nthe best hit of a query that has an answer is held for surer than that of "
        "one that has none (0.5: by tossing a\ncoin). *confidence* is what mmsearch shows, fitted on "
        "Tux Paint's drawings; *cosine* is the bare similarity;\n*found* counts only queries whose "
        "first hit is right. 95% bootstrap intervals over queries.\n",
        "| encoder | trial | queries | pictures | confidence | cosine | confidence, found |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for trial_result in results["trials"]:
        *found, count = trial_result["auc_found"]
        note = " (fitted on it)" if trial_result["trial"] == FITTED_ON else ""
        lines.append(
            f"| starter | {trial_result['trial']}{note} | {trial_result['queries']} | {trial_result['pictures']} "
            f"| {_cell(trial_result['auc'])} | {_cell(trial_result['auc_cosine'])} "
            f"| {_cell(found)}, {count:.0f} queries |"
        )
    lines += [
        "\nFirst hits by the band of their confidence, of both libraries together:\n",
        "| trial | confidence from | first hits | mean confidence | relevant |",
        "|---|--:|--:|--:|--:|",
    ]
    for trial_result in results["trials"]:
        lines += [
            f"| {trial_result['trial']} | {row['from']:.3f} | {row['hits']} | {row['mean']:.2f} "
            f"| {row['relevant']:.2f} |"
            for row in trial_result["bands"]
        ]
    lines.append(
        "\nOpenCLIP models were not measured: their weights could not be had where this ran. They "
        "show no confidence\nas calibrated until they are."
    )
    return "\n".join(lines) + "\n"


def _cell(values: Any) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"


def _texts(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate(
        [
            encoder.encode(
                InputKind.TEXT,
                [encoder.prepare(InputKind.TEXT, t) for t in texts[start : start + TEXT_BATCH]],
            )
            for start in range(0, len(texts), TEXT_BATCH)
        ]
    )


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
