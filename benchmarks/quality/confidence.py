"""Confidence benchmark: are percentages right, and does the size of the library change them?

Each query runs on a library with its relevant pictures and on one without them, in a ratio of 4 to
1, and both together with distractors as libraries of three sizes. The maps of
`mmsearch.search.confidence` are fitted to the development sets and judged on sets that nothing was
fitted or chosen on. ``python -m benchmarks.quality.confidence`` writes the file that the starter
encoder ships.

The background that scores are compared with never holds pictures of the library: those of a user
are not in it, either, and a background knows its own pictures better than others. The photographs,
which are the background that ships, are therefore searched in halves, each with the background of
the other half.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path
from scipy import stats

import mmsearch
from benchmarks.quality.captions import WALLPAPERS
from benchmarks.quality.libraries import (
    SIZES,
    Bools,
    Distractors,
    EncodedTrial,
    FirstHits,
    Floats,
    Library,
    Study,
    accept_same_words,
    caption_trials,
    encode_pictures,
    encode_trial,
    halve,
    join,
    photo_texts,
    read_rows,
    select,
    wallpaper_trial,
)
from benchmarks.quality.starter import Trial, clip_art_trial, photo_trials, stamp_trials
from mmsearch.core.types import Background, Calibration, ScoreMap
from mmsearch.encoders.starter.calibration import (
    SPACE_VERSION,
    calibration_file,
    write_calibration,
)
from mmsearch.maintenance.calibrate import calibration_error, fit_score_map, measure_background
from mmsearch.search.confidence import score_features
from mmsearch.search.hits import LIKELY_THRESHOLD, POSSIBLE_THRESHOLD

SETS = Path(__file__).with_name("sets")
RESIDUALS = (0.0, 0.03, 0.05, 0.07, 0.1)
RESAMPLES = 1000
BACKGROUND_RANK = 32
RESIDUAL, WITH_MARGIN = 0.05, False
"""The best of `CANDIDATES`: residual of the background, and whether the margin counts beside it."""

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
CANDIDATES = tuple((residual, margin) for residual in RESIDUALS for margin in (True, False))

PREFACE = """\
## Percentages

Each query is asked of a library with its relevant pictures and of the same library without them, weighted 4 to 1;
the queries of `sets/absent_queries.csv` count among the latter. *said* and *right*: mean percentage of the first hits
of queries with relevant pictures, and how many are right. *error*: expected calibration error of all first hits, in
ten bins of equal size, with its 95% bootstrap interval over first hits. Libraries of 2,000 and 20,000 pictures hold
drawings and stamps besides, without those whose captions share a word with the query; beyond their number, these are
resampled with small shifts. A pair of query and picture has the same percentage in all of them.

The photographs of tests/photos are the background that ships. They are searched in halves, each compared with the
other half: photographs of one word stay together, so the background never knows what the library shows. Only
*photos, caption, test, known* searches all of them with the whole background. A caption must find its own photograph:
of the test captions, 28 of 106 describe fish and 14 windmills, and all of a kind lie in one half. Nothing was fitted to
*photos, caption, test* and *wallpapers*, nor were the form of the map and the thresholds chosen on them. That the three
sizes count alike in the fit was settled after a look at all sets.
"""


def fit_texts(
    trials: Sequence[Sequence[FirstHits]], residual: float, *, with_margin: bool
) -> ScoreMap:
    """Fit the map of texts to first hits of development trials, one sequence of sizes a trial.

    Trials have equal weight, and so have the sizes: people have libraries of all of them.
    """
    hits = [size for trial in trials for size in trial]
    return fit_score_map(
        np.concatenate([size.above_mean for size in hits]),
        np.hypot(np.concatenate([size.std for size in hits]), residual),
        np.concatenate([size.relevant for size in hits]),
        np.concatenate([size.weights for size in hits]),
        with_margin=with_margin,
    )


def fit_pictures(libraries: Sequence[tuple[NDArray[np.float32], Bools, Background]]) -> ScoreMap:
    """Fit the map of pictures: a first hit is right if it shows the same as the query picture.

    Args:
        libraries: Image vectors, float32 (n, dim), which pictures show the same, bool (n, n), and
            a background without these pictures.
    """
    parts = []
    for pictures, same, background in libraries:
        is_self = np.eye(len(pictures), dtype=bool)
        has_other = (same & ~is_self).any(axis=1)
        queries = pictures[has_other]
        cosines = np.where(is_self[has_other], -1.0, queries @ pictures.T)
        own = np.where(same[has_other], cosines, -1.0).max(axis=1)
        others = np.where(same[has_other], -1.0, cosines).max(axis=1)
        scores = np.concatenate([np.maximum(own, others), others])
        relevant = np.concatenate([own > others, np.zeros(len(own), bool)])
        above_mean, std = score_features(
            scores[:, None], np.concatenate([queries, queries]), background
        )
        is_present = np.arange(len(scores)) < len(own)
        parts.append(FirstHits(above_mean[:, 0], std[:, 0], relevant, is_present))
    hits = join(parts)
    std = np.hypot(hits.std, RESIDUAL)
    return fit_score_map(hits.above_mean, std, hits.relevant, hits.weights)


def compare_candidates(trials: Sequence[Sequence[FirstHits]]) -> list[dict[str, Any]]:
    """Return the mean log loss of each candidate on trials that its map was not fitted to.

    Args:
        trials: First hits of the development trials, one sequence of sizes a trial.
    """
    rows = []
    for residual, with_margin in CANDIDATES:
        losses = []
        for position, left_out in enumerate(trials):
            others = [*trials[:position], *trials[position + 1 :]]
            score_map = fit_texts(others, residual, with_margin=with_margin)
            losses += [log_loss(size, size.confidences(score_map, residual)) for size in left_out]
        rows.append({"residual": residual, "margin": with_margin, "loss": float(np.mean(losses))})
    return rows


def compare_thresholds(trials: Sequence[FirstHits], score_map: ScoreMap) -> list[dict[str, Any]]:
    """Return how many first hits of development trials are right from each threshold on.

    Args:
        trials: First hits in libraries of the first size, one of each trial; each weighs the same.
        score_map: The fitted map.
    """
    confidences = np.concatenate([hits.confidences(score_map, RESIDUAL) for hits in trials])
    relevant = np.concatenate([hits.relevant for hits in trials])
    weights = np.concatenate([hits.weights for hits in trials])
    rows = []
    for threshold in THRESHOLDS:
        inside = confidences >= threshold
        rows.append(
            {
                "threshold": threshold,
                "shown": float(weights[inside].sum() / weights.sum()),
                "relevant": float(np.average(relevant[inside], weights=weights[inside])),
            }
        )
    return rows


def log_loss(hits: FirstHits, confidences: Floats) -> float:
    """Return the mean negative log likelihood of what is right."""
    likelihoods = np.where(hits.relevant, confidences, 1.0 - confidences)
    return float(np.average(-np.log(np.maximum(likelihoods, 1e-9)), weights=hits.weights))


def evaluate(hits: FirstHits, calibration: Calibration) -> dict[str, Any]:
    """Return what the confidences of first hits say and what is right, with 95% intervals."""
    confidences, weights = hits.confidences(calibration.texts, RESIDUAL), hits.weights
    present = hits.present
    random = np.random.default_rng(0)
    errors = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(confidences), len(confidences))
        errors.append(calibration_error(confidences[rows], hits.relevant[rows], weights[rows]))
    bands = []
    for low, high in pairwise((0.0, POSSIBLE_THRESHOLD, LIKELY_THRESHOLD, 1.01)):
        inside = (confidences >= low) & (confidences < high)
        shares = [
            float(np.average(values[inside], weights=weights[inside])) if inside.any() else 0.0
            for values in (confidences, hits.relevant.astype(float))
        ]
        interval = [0.0, 1.0]
        if inside.any():
            right = hits.relevant[inside]
            successes = float(shares[1] * len(right))
            interval = stats.beta.ppf(
                [0.025, 0.975], successes + 0.5, len(right) - successes + 0.5
            ).tolist()
        bands.append(
            {
                "from": low,
                "present": int((inside & present).sum()),
                "absent": int((inside & ~present).sum()),
                "mean": shares[0],
                "relevant": shares[1],
                "interval": interval,
                "present_relevant": _jeffreys(hits.relevant[inside & present]),
            }
        )
    return {
        "queries": int(present.sum()),
        "said": float(confidences[present].mean()),
        "right": float(hits.relevant[present].mean()),
        "error": [
            calibration_error(confidences, hits.relevant, weights),
            *np.quantile(errors, [0.025, 0.975]).tolist(),
        ],
        "error_present": calibration_error(
            confidences[present], hits.relevant[present], np.ones(int(present.sum()))
        ),
        "bands": bands,
    }


def measure(
    photos: Path, stamps: Path, wallpapers: Path, cache: Path
) -> tuple[dict[str, Any], Calibration]:
    """Fit the starter's calibration on the development sets and judge it on all sets.

    Returns:
        The results as JSON values, and the calibration.
    """
    encoder = mmsearch.open_model("starter")
    by_name = {trial.name: trial for trial in [*photo_trials(photos), *stamp_trials(stamps)]}
    captions = caption_trials(photos)
    absent = [row["query"] for row in read_rows(SETS / "absent_queries.csv")]
    word_trial = by_name["photos, word"]
    stamp_trial = accept_same_words(by_name["stamps, photographs only"])
    wall_trial = wallpaper_trial(wallpapers)
    art = clip_art_trial(cache)
    photo_vectors = encode_pictures(encoder, word_trial.pictures)
    stamp_vectors = encode_pictures(encoder, stamp_trial.pictures)
    wall_vectors = encode_pictures(encoder, wall_trial.pictures)
    art_vectors = encode_pictures(encoder, art.pictures)
    words = [row["word"].lower() for row in read_rows(photos / "manifest.csv")]
    for_photos = Distractors(
        np.concatenate([stamp_vectors, art_vectors]), [*stamp_trial.queries, *art.queries]
    )
    for_others = Distractors(
        np.concatenate([photo_vectors, art_vectors]),
        [*photo_texts(photos, word_trial.pictures), *art.queries],
    )
    background = measure_background(photo_vectors, BACKGROUND_RANK)
    halves = halve(words)
    rounds = [
        [
            (half, measure_background(photo_vectors[other], BACKGROUND_RANK))
            for half, other in (pair, pair[::-1])
        ]
        for pair in halves
    ]

    def photo_study(trial: Trial, *, absent: Sequence[str] = (), is_fitted: bool = True) -> Study:
        encoded = encode_trial(encoder, trial, photo_vectors, absent)
        libraries = [
            [Library(select(encoded, half), for_photos, others) for half, others in pair]
            for pair in rounds
        ]
        return Study(trial.name, libraries, is_fitted)

    def study(encoded: EncodedTrial, *, is_fitted: bool) -> Study:
        return Study(encoded.name, [[Library(encoded, for_others, background)]], is_fitted)

    studies = [
        photo_study(word_trial, absent=absent),
        photo_study(by_name["photos, description"]),
        photo_study(captions["dev"], absent=absent),
        study(encode_trial(encoder, stamp_trial, stamp_vectors), is_fitted=True),
        photo_study(captions["test"], absent=absent, is_fitted=False),
        Study(
            "photos, caption, test, known",
            [
                [
                    Library(
                        encode_trial(encoder, captions["test"], photo_vectors, absent),
                        for_photos,
                        background,
                    )
                ]
            ],
            is_fitted=False,
        ),
        study(encode_trial(encoder, wall_trial, wall_vectors, absent), is_fitted=False),
    ]
    same = np.array([[word == other for other in words] for word in words])
    pictures = fit_pictures(
        [
            (photo_vectors[half], same[np.ix_(half, half)], others)
            for pair in rounds
            for half, others in pair
        ]
    )
    return fit_and_judge(studies, pictures, background)


def fit_and_judge(
    studies: Sequence[Study], pictures: ScoreMap, background: Background
) -> tuple[dict[str, Any], Calibration]:
    """Fit a calibration to development trials and judge it on all trials.

    Args:
        studies: Trials to fit to and trials that only judge.
        pictures: The map of pictures.
        background: The background that ships, without its residual.
    """
    hits = [[study.first_hits(size) for size in SIZES] for study in studies]
    fitted_hits = [
        [join(rounds) for rounds in sizes]
        for sizes, study in zip(hits, studies, strict=True)
        if study.is_fitted
    ]
    texts = fit_texts(fitted_hits, RESIDUAL, with_margin=WITH_MARGIN)
    calibration = Calibration(
        texts, pictures, replace(background, residual=RESIDUAL), measured=True
    )
    trials = [
        {"trial": study.name, "fitted": study.is_fitted, "pictures": size}
        | evaluate(rounds[0], calibration)
        for study, sizes in zip(studies, hits, strict=True)
        for size, rounds in zip(SIZES, sizes, strict=True)
    ]
    results = {
        "fitted": {"texts": asdict(texts), "pictures": asdict(pictures)},
        "candidates": compare_candidates(fitted_hits),
        "thresholds": {"likely": LIKELY_THRESHOLD, "possible": POSSIBLE_THRESHOLD},
        "choices": compare_thresholds([sizes[0] for sizes in fitted_hits], texts),
        "trials": trials,
    }
    return results, calibration


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = [
        PREFACE,
        "| trial | pictures | queries | said | right | error |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in results["trials"]:
        error, low, high = row["error"]
        lines.append(
            f"| {_name(row)} | {row['pictures']:,} | {row['queries']} | {row['said']:.2f} "
            f"| {row['right']:.2f} | {error:.3f} [{low:.2f}, {high:.2f}] |"
        )
    lines += [
        "\nFirst hits by the band of their percentage, and the share that is right, with 95% "
        "Jeffreys intervals: of the queries that\nhave a relevant picture (their number in "
        "brackets), and of all first hits in the ratio of 4 to 1:\n",
        "| trial | pictures | band from | said | right, with relevant picture | right, all |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in results["trials"]:
        for band in row["bands"]:
            own, all_hits = band["present_relevant"], [band["relevant"], *band["interval"]]
            lines.append(
                f"| {_name(row)} | {row['pictures']:,} | {band['from']:.2f} | {band['mean']:.2f} "
                f"| {_share(own)} ({band['present']}) "
                f"| {_share(all_hits)} ({band['present'] + band['absent']}) |"
            )
    lines += [
        "\nThe map of texts is the one with the least mean log loss on development sets that it was "
        "not fitted to, each left out once:\n",
        "| residual deviation of the background | margin counts, too | log loss |",
        "|--:|---|--:|",
    ]
    lines += [
        f"| {row['residual']:.2f} | {'yes' if row['margin'] else 'no'} | {row['loss']:.4f} |"
        for row in results["candidates"]
    ]
    lines += [
        '\n"Likely" begins at the lowest of these thresholds at and above which three of four first hits '
        "are right on the\ndevelopment sets, in libraries of 200:\n",
        "| from | share of first hits | right |",
        "|--:|--:|--:|",
    ]
    lines += [
        f"| {row['threshold']:.2f} | {row['shown']:.3f} | {row['relevant']:.2f} |"
        for row in results["choices"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the file that the starter ships for the present embedding space."""
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--photos", type=Path, default=root / "tests/photos")
    parser.add_argument(
        "--stamps", type=Path, default=Path(tempfile.gettempdir()) / "mmsearch-stamps"
    )
    parser.add_argument("--wallpapers", type=Path, default=WALLPAPERS)
    parser.add_argument("--cache", type=Path, default=user_cache_path("mmsearch") / "starter-build")
    options = parser.parse_args()
    folders = (options.photos, options.stamps, options.wallpapers, options.cache)
    results, calibration = measure(*folders)
    write_calibration(calibration_file(SPACE_VERSION), calibration)
    print(page(results))


def _share(values: Sequence[float]) -> str:
    share, low, high = values
    return f"{share:.2f} [{low:.2f}, {high:.2f}]"


def _jeffreys(right: Bools) -> list[float]:
    """Return the share that is right, with its 95% Jeffreys interval."""
    if not len(right):
        return [0.0, 0.0, 1.0]
    successes = int(right.sum())
    interval = stats.beta.ppf([0.025, 0.975], successes + 0.5, len(right) - successes + 0.5)
    return [float(right.mean()), *interval.tolist()]


def _name(row: dict[str, Any]) -> str:
    return f"{row['trial']} (fitted on it)" if row["fitted"] else str(row["trial"])


if __name__ == "__main__":
    main()
