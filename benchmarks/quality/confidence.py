"""Confidence benchmark: are percentages right, and does the size of the library change them?

Each query runs on a library with its relevant pictures and on one without them, in a ratio of 4 to
1, and both together with distractors as libraries of three sizes. The maps of
`mmsearch.search.confidence` are fitted to the development sets and judged on sets that nothing was
fitted or chosen on. ``python -m benchmarks.quality.confidence`` writes the file that the starter
encoder ships.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from platformdirs import user_cache_path
from scipy import stats

import mmsearch
from benchmarks.quality.starter import Trial, clip_art_trial, photo_trials, stamp_trials
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import Background, Calibration, InputKind, ScoreMap
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.encoders.starter.calibration import (
    SPACE_VERSION,
    calibration_file,
    write_calibration,
)
from mmsearch.maintenance.calibrate import calibration_error, fit_score_map, measure_background
from mmsearch.search.confidence import score_features, to_probability
from mmsearch.search.hits import LIKELY_THRESHOLD, POSSIBLE_THRESHOLD

SETS = Path(__file__).with_name("sets")
SIZES = (200, 2000, 20_000)
"""Sizes of the libraries; the first is that of the set itself."""

SIZE_WEIGHTS = (0.6, 0.25, 0.15)
"""Weights of the sizes in a fit."""

PRESENT_WEIGHT, ABSENT_WEIGHT = 0.8, 0.2
RESAMPLES = 1000
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "an the of on in at with and to by for from is are its it as near under over into two three "
        "small large big white black red blue green yellow brown orange pink grey gray purple man "
        "woman people person photo picture background front behind beside inside dark light young "
        "old",
    )
)
TEXT_BATCH = 64
BACKGROUND_RANK = 32

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class EncodedTrial:
    """The vectors of a trial.

    Attributes:
        name: Name of the trial.
        pictures: Image vectors, float32 (pictures, dim).
        texts: The queries.
        queries: Their vectors, float32 (queries, dim).
        relevant: bool (queries, pictures).
        absent_texts: Queries that no picture answers.
        absent: Their vectors, float32 (n, dim).
    """

    name: str
    pictures: NDArray[np.float32]
    texts: Sequence[str]
    queries: NDArray[np.float32]
    relevant: Bools
    absent_texts: Sequence[str]
    absent: NDArray[np.float32]


@dataclass(frozen=True)
class FirstHits:
    """First hits of all queries of a trial in a library of one size.

    Attributes:
        vectors: Query vectors, float32 (n, dim).
        scores: Similarities of the first hits, float32 (n,).
        relevant: Relevance of the first hits, bool (n,).
        present: True for queries with a relevant picture in the library, bool (n,).
    """

    vectors: NDArray[np.float32]
    scores: NDArray[np.float32]
    relevant: Bools
    present: Bools

    @property
    def weights(self) -> Floats:
        """Weights of the hits: 4 to 1 for queries with and without a relevant picture."""
        shares = np.array([ABSENT_WEIGHT, PRESENT_WEIGHT])
        counts = np.array([(~self.present).sum(), self.present.sum()])
        return (shares / np.maximum(counts, 1))[self.present.astype(int)]

    def confidences(self, calibration: Calibration) -> Floats:
        """Return the confidence of each first hit."""
        return to_probability(*self.features(calibration.background), calibration.texts)

    def features(self, background: Background | None) -> tuple[Floats, Floats]:
        """Return the features of `score_features`, float64 (n,) each."""
        assert background is not None  # noqa: S101
        above_mean, std = score_features(self.scores[:, None], self.vectors, background)
        return above_mean[:, 0], std[:, 0]


def caption_trials(folder: Path) -> dict[str, Trial]:
    """Return the trials on captions of the photographs, by split.

    A photograph of the same thing by the same author is a hit as well. The pictures have the order
    of the manifest, as those of `photo_trials`.
    """
    rows = _rows(folder / "captions.csv")
    names = [row["path"] for row in _rows(folder / "manifest.csv")]
    paths = [folder / name for name in names]
    trials = {}
    for split in ("dev", "test"):
        chosen = [row for row in rows if row["split"] == split]
        relevant = [[name in (row["path"], row["same_as"]) for name in names] for row in chosen]
        texts = [row["en"] for row in chosen]
        trials[split] = Trial(f"photos, caption, {split}", paths, texts, np.array(relevant))
    return trials


class Distractors:
    """Pictures that enlarge a library, and the words of their captions.

    Beyond their number, they are resampled: each is moved a little along the axes of all of them
    (a smoothed bootstrap), which keeps their mean and their covariance.

    Args:
        vectors: Image vectors, float32 (n, dim).
        texts: Words about each picture.
    """

    def __init__(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> None:
        self.vectors = vectors
        self._words = [content_words(text) for text in texts]

    def take(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Return vectors, float32 (count, dim), and the picture that each one comes from."""
        random = np.random.default_rng(0)
        size = len(self.vectors)
        chosen = random.permutation(size)[:count]
        if count <= size:
            return self.vectors[chosen], chosen
        statistics = measure_background(self.vectors, 64)
        drawn = random.integers(0, size, count - size)
        noise = random.standard_normal((len(drawn), len(statistics.factors)))
        moved = statistics.mean + 0.8 * (self.vectors[drawn] - statistics.mean)
        resampled = as_unit_vectors(moved + 0.6 * noise @ statistics.factors)
        return np.concatenate([self.vectors[chosen], resampled]), np.concatenate([chosen, drawn])

    def may_show(self, query: str) -> Bools:
        """Return which pictures have a word of the query in their texts, bool (n,)."""
        words = content_words(query)
        return np.array([bool(words & own) for own in self._words])


def content_words(text: str) -> set[str]:
    """Return the words of a text that name things, in the singular."""
    words = (word.removesuffix("s") for word in re.findall("[a-z]{2,}", text.lower()))
    return set(words) - STOP_WORDS


def retrieve(trial: EncodedTrial, distractors: Distractors, size: int) -> FirstHits:
    """Return the first hits of a trial in a library of a size, with and without relevant pictures.

    A query does not find distractors that may show what it describes.
    """
    vectors, origins = distractors.take(
        max(0, size - len(trial.pictures)) if size > SIZES[0] else 0
    )

    def best(queries: NDArray[np.float32], texts: Sequence[str], hidden: Bools) -> Floats:
        scores = np.where(hidden, -1.0, queries @ trial.pictures.T).max(axis=1)
        if len(vectors):
            may_show = np.array([distractors.may_show(text)[origins] for text in texts])
            others = np.where(may_show, -1.0, queries @ vectors.T).max(axis=1)
            scores = np.maximum(scores, others)
        return np.asarray(scores, dtype=np.float64)

    own = np.where(trial.relevant, trial.queries @ trial.pictures.T, -1.0).max(axis=1)
    others = best(trial.queries, trial.texts, trial.relevant)
    scores, query_vectors = [np.maximum(own, others), others], [trial.queries, trial.queries]
    if trial.absent_texts:
        nothing = np.zeros((len(trial.absent), len(trial.pictures)), dtype=bool)
        scores.append(best(trial.absent, trial.absent_texts, nothing))
        query_vectors.append(trial.absent)
    all_scores = np.concatenate(scores)
    relevant = np.zeros(len(all_scores), dtype=bool)
    relevant[: len(own)] = own > others
    is_present = np.arange(len(all_scores)) < len(own)
    return FirstHits(np.concatenate(query_vectors), all_scores, relevant, is_present)


def fit_texts(trials: Sequence[Sequence[FirstHits]], background: Background) -> ScoreMap:
    """Fit the map of texts to first hits of development trials, one sequence of sizes a trial.

    Trials have equal weight; libraries of the first size, which people have most, have more.
    """
    hits = [size for trial in trials for size in trial]
    size_weights = np.tile(SIZE_WEIGHTS, len(trials))
    features = [size.features(background) for size in hits]
    return fit_score_map(
        np.concatenate([above_mean for above_mean, _ in features]),
        np.concatenate([std for _, std in features]),
        np.concatenate([size.relevant for size in hits]),
        np.concatenate([w * size.weights for w, size in zip(size_weights, hits, strict=True)]),
    )


def fit_pictures(pictures: NDArray[np.float32], same: Bools, background: Background) -> ScoreMap:
    """Fit the map of pictures: a first hit is right if it shows the same as the query picture.

    Args:
        pictures: Image vectors, float32 (n, dim).
        same: True if two pictures show the same, bool (n, n).
        background: The background.
    """
    is_self = np.eye(len(pictures), dtype=bool)
    has_other = (same & ~is_self).any(axis=1)
    queries = pictures[has_other]
    cosines = np.where(is_self[has_other], -1.0, queries @ pictures.T)
    own = np.where(same[has_other], cosines, -1.0).max(axis=1)
    others = np.where(same[has_other], -1.0, cosines).max(axis=1)
    scores = np.concatenate([np.maximum(own, others), others])
    relevant = np.concatenate([own > others, np.zeros(len(own), bool)])
    vectors = np.concatenate([queries, queries])
    hits = FirstHits(vectors, scores, relevant, np.arange(len(scores)) < len(own))
    return fit_score_map(*hits.features(background), hits.relevant, hits.weights)


def evaluate(hits: FirstHits, calibration: Calibration) -> dict[str, Any]:
    """Return what the confidences of first hits say and what is right, with 95% intervals."""
    confidences, weights = hits.confidences(calibration), hits.weights
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


def encode_pictures(encoder: Encoder, paths: Sequence[Path]) -> NDArray[np.float32]:
    """Encode pictures in batches, float32 (n, dim)."""
    size = encoder.batch_size
    parts = []
    for start in range(0, len(paths), size):
        pixels = [_pixels(path) for path in paths[start : start + size]]
        inputs = [encoder.prepare(InputKind.IMAGE, picture) for picture in pixels]
        parts.append(encoder.encode(InputKind.IMAGE, inputs))
    return np.concatenate(parts)


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Encode texts in batches, float32 (n, dim)."""
    parts = [np.empty((0, encoder.spec.dim), np.float32)]
    for start in range(0, len(texts), TEXT_BATCH):
        batch = texts[start : start + TEXT_BATCH]
        inputs = [encoder.prepare(InputKind.TEXT, text) for text in batch]
        parts.append(encoder.encode(InputKind.TEXT, inputs))
    return np.concatenate(parts)


def encode_trial(
    encoder: Encoder, trial: Trial, pictures: NDArray[np.float32], absent: Sequence[str] = ()
) -> EncodedTrial:
    """Return the vectors of a trial whose pictures are encoded; ``absent`` match none of them."""
    return EncodedTrial(
        trial.name,
        pictures,
        trial.queries,
        encode_texts(encoder, trial.queries),
        trial.relevant,
        absent,
        encode_texts(encoder, absent),
    )


def measure(photos: Path, stamps: Path, cache: Path) -> tuple[dict[str, Any], Calibration]:
    """Fit the starter's calibration on the development sets and judge it on all sets.

    Returns:
        The results as JSON values, and the calibration.
    """
    encoder = mmsearch.open_model("starter")
    by_name = {trial.name: trial for trial in [*photo_trials(photos), *stamp_trials(stamps)]}
    captions = caption_trials(photos)
    absent = [row["query"] for row in _rows(SETS / "absent_queries.csv")]
    word_trial, stamp_trial = by_name["photos, word"], by_name["stamps, photographs only"]
    photo_vectors = encode_pictures(encoder, word_trial.pictures)
    stamp_vectors = encode_pictures(encoder, stamp_trial.pictures)
    art = clip_art_trial(cache)
    art_vectors = encode_pictures(encoder, art.pictures)
    words = [row["word"] for row in _rows(photos / "manifest.csv")]
    word_of = {row["path"]: row["word"] for row in _rows(photos / "manifest.csv")}
    caption_of = {
        row["path"]: f"{word_of[row['path']]} {row['en']}" for row in _rows(photos / "captions.csv")
    }
    photo_texts = list(caption_of.values())
    caption_rows = [Path(path).name for path in caption_of]
    order = [caption_rows.index(path.name) for path in word_trial.pictures]
    for_photos = Distractors(
        np.concatenate([stamp_vectors, art_vectors]), [*stamp_trial.queries, *art.queries]
    )
    for_stamps = Distractors(
        np.concatenate([photo_vectors, art_vectors]),
        [*(photo_texts[row] for row in order), *art.queries],
    )
    background = measure_background(photo_vectors, BACKGROUND_RANK)
    return fit_and_judge(
        [
            (encode_trial(encoder, word_trial, photo_vectors, absent), for_photos),
            (encode_trial(encoder, by_name["photos, description"], photo_vectors), for_photos),
            (encode_trial(encoder, captions["dev"], photo_vectors, absent), for_photos),
            (encode_trial(encoder, stamp_trial, stamp_vectors), for_stamps),
        ],
        [(encode_trial(encoder, captions["test"], photo_vectors, absent), for_photos)],
        background,
        np.array([[word.lower() == other.lower() for other in words] for word in words]),
    )


def fit_and_judge(
    dev: Sequence[tuple[EncodedTrial, Distractors]],
    judges: Sequence[tuple[EncodedTrial, Distractors]],
    background: Background,
    same: Bools,
) -> tuple[dict[str, Any], Calibration]:
    """Fit a calibration to development trials and judge it on all trials.

    Args:
        dev: Trials to fit to, each with its distractors; the first has the photographs of ``same``.
        judges: Trials that only judge.
        background: The background.
        same: True if two photographs show the same, bool (n, n).
    """
    hits = {
        trial.name: [retrieve(trial, distractors, size) for size in SIZES]
        for trial, distractors in [*dev, *judges]
    }
    texts = fit_texts([hits[trial.name] for trial, _ in dev], background)
    pictures = fit_pictures(dev[0][0].pictures, same, background)
    calibration = Calibration(texts, pictures, background, measured=True)
    trials = [
        {"trial": trial.name, "fitted": position < len(dev), "pictures": size}
        | evaluate(first_hits, calibration)
        for position, (trial, _) in enumerate([*dev, *judges])
        for size, first_hits in zip(SIZES, hits[trial.name], strict=True)
    ]
    fitted = {"texts": asdict(texts), "pictures": asdict(pictures)}
    thresholds = {"likely": LIKELY_THRESHOLD, "possible": POSSIBLE_THRESHOLD}
    return {"fitted": fitted, "thresholds": thresholds, "trials": trials}, calibration


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = [
        "## Percentages\n",
        "Each query is asked of a library with its relevant pictures and of the same library without "
        "them, weighted 4 to 1;\nthe photographs' queries of `sets/absent_queries.csv` count among "
        "the latter. *said* and *right*: mean percentage of\nthe first hits of queries with relevant "
        "pictures, and how many are right. *error*: expected calibration error of all\nfirst hits, in "
        "ten bins of equal size, with its 95% bootstrap interval over queries. Libraries of 2,000 and "
        "20,000\npictures hold drawings and stamps besides, without those whose captions share a word "
        "with the query; beyond their\nnumber, these are resampled with small shifts. A pair of query "
        "and picture has the same percentage in all of them.\n",
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
        "\nFirst hits by the band of their percentage, with the share that is right (95% Jeffreys "
        "interval):\n",
        "| trial | pictures | band from | first hits | said | right |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for row in results["trials"]:
        for band in row["bands"]:
            low, high = band["interval"]
            lines.append(
                f"| {_name(row)} | {row['pictures']:,} | {band['from']:.2f} "
                f"| {band['present'] + band['absent']} | {band['mean']:.2f} "
                f"| {band['relevant']:.2f} [{low:.2f}, {high:.2f}] |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the file that the starter ships for the present embedding space."""
    parser = argparse.ArgumentParser(description=__doc__)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--photos", type=Path, default=root / "tests/photos")
    parser.add_argument(
        "--stamps", type=Path, default=Path(tempfile.gettempdir()) / "mmsearch-stamps"
    )
    parser.add_argument("--cache", type=Path, default=user_cache_path("mmsearch") / "starter-build")
    options = parser.parse_args()
    results, calibration = measure(options.photos, options.stamps, options.cache)
    write_calibration(calibration_file(SPACE_VERSION), calibration)
    print(page(results))


def _name(row: dict[str, Any]) -> str:
    return f"{row['trial']} (fitted on it)" if row["fitted"] else str(row["trial"])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        rgba = picture.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    return np.asarray(white.convert("RGB"))


if __name__ == "__main__":
    main()
