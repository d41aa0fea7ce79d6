"""Libraries that the benchmark of percentages searches: pictures, queries and distractors."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.quality.starter import Trial
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import Background, InputKind, ScoreMap
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.maintenance.calibrate import measure_background
from mmsearch.search.confidence import score_features, to_probability

SIZES = (200, 2000, 20_000)
"""Sizes of the libraries; the first is that of the set itself."""

PRESENT_WEIGHT, ABSENT_WEIGHT = 0.8, 0.2
ROUNDS = 4
"""Number of ways to halve the photographs: the maps are fitted to all of them, the first is judged."""

TEXT_BATCH = 64
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "an the of on in at with and to by for from is are its it as near under over into two three "
        "small large big white black red blue green yellow brown orange pink grey gray purple man "
        "woman people person photo picture background front behind beside inside dark light young "
        "old",
    )
)

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
        above_mean: By how much their similarities exceed the background's mean, float64 (n,).
        std: The background's standard deviations for their queries, float64 (n,).
        relevant: Relevance of the first hits, bool (n,).
        present: True for queries with a relevant picture in the library, bool (n,).
    """

    above_mean: Floats
    std: Floats
    relevant: Bools
    present: Bools

    @property
    def weights(self) -> Floats:
        """Weights of the hits: 4 to 1 for queries with and without a relevant picture."""
        shares = np.array([ABSENT_WEIGHT, PRESENT_WEIGHT])
        counts = np.array([(~self.present).sum(), self.present.sum()])
        return (shares / np.maximum(counts, 1))[self.present.astype(int)]

    def confidences(self, score_map: ScoreMap, residual: float) -> Floats:
        """Return the confidence of each first hit with a residual of the background."""
        std = np.asarray(np.hypot(self.std, residual), dtype=np.float64)
        return to_probability(self.above_mean, std, score_map)


def join(parts: Sequence[FirstHits]) -> FirstHits:
    """Return the first hits of several libraries as one."""
    fields = ([vars(part)[name] for part in parts] for name in FirstHits.__dataclass_fields__)
    return FirstHits(*map(np.concatenate, fields))


@dataclass(frozen=True)
class Library:
    """Pictures with queries, distractors, and a background that none of the pictures is in."""

    trial: EncodedTrial
    distractors: Distractors
    background: Background


@dataclass(frozen=True)
class Study:
    """A trial in one or more ways to part its pictures into libraries.

    Attributes:
        name: Name of the trial.
        rounds: The libraries of each way.
        is_fitted: True if the maps are fitted to it.
    """

    name: str
    rounds: Sequence[Sequence[Library]]
    is_fitted: bool

    def first_hits(self, size: int) -> list[FirstHits]:
        """Return the first hits of each round in libraries of a size."""
        return [
            join([retrieve(library, size) for library in libraries]) for libraries in self.rounds
        ]


def halve(words: Sequence[str], rounds: int = ROUNDS) -> list[list[NDArray[np.intp]]]:
    """Return the pictures of both halves of each round; pictures of one word stay together.

    Args:
        words: A word about each picture.
        rounds: Number of rounds.
    """
    distinct = sorted(set(words))
    halves = []
    for seed in range(rounds):
        order = np.random.default_rng(seed).permutation(len(distinct))
        first = {distinct[position] for position in order[: len(distinct) // 2].tolist()}
        is_first = np.array([word in first for word in words])
        halves.append([np.flatnonzero(is_first), np.flatnonzero(~is_first)])
    return halves


def select(trial: EncodedTrial, pictures: NDArray[np.intp]) -> EncodedTrial:
    """Return a trial with some of its pictures and the queries that they answer."""
    kept = np.flatnonzero(trial.relevant[:, pictures].any(axis=1))
    return replace(
        trial,
        pictures=trial.pictures[pictures],
        texts=[trial.texts[row] for row in kept.tolist()],
        queries=trial.queries[kept],
        relevant=trial.relevant[np.ix_(kept, pictures)],
    )


def accept_same_words(trial: Trial) -> Trial:
    """Return a trial in which a picture also answers queries whose words its own query has.

    A Sumatran tiger is a right answer to "a tiger". Each picture must have one query.
    """
    words = [content_words(text) for text in trial.queries]
    more = [[bool(query) and query <= own for own in words] for query in words]
    return replace(trial, relevant=trial.relevant | np.array(more))


def caption_trials(folder: Path) -> dict[str, Trial]:
    """Return the trials on captions of the photographs, by split.

    A photograph of the same thing by the same author is a hit as well. The pictures have the order
    of the manifest, as those of `photo_trials`.
    """
    rows = read_rows(folder / "captions.csv")
    names = [row["path"] for row in read_rows(folder / "manifest.csv")]
    paths = [folder / name for name in names]
    trials = {}
    for split in ("dev", "test"):
        chosen = [row for row in rows if row["split"] == split]
        relevant = [[name in (row["path"], row["same_as"]) for name in names] for row in chosen]
        texts = [row["en"] for row in chosen]
        trials[split] = Trial(f"photos, caption, {split}", paths, texts, np.array(relevant))
    return trials


def wallpaper_trial(folder: Path) -> Trial:
    """Return the trial on the captions of the wallpapers, each of which has one photograph."""
    rows = read_rows(folder / "manifest.csv")
    paths, texts = [folder / row["path"] for row in rows], [row["en"] for row in rows]
    return Trial("wallpapers, caption", paths, texts, np.eye(len(rows), dtype=bool))


def photo_texts(folder: Path, pictures: Sequence[Path]) -> list[str]:
    """Return the word and the caption of each photograph."""
    words = {row["path"]: row["word"] for row in read_rows(folder / "manifest.csv")}
    captions = {row["path"]: row["en"] for row in read_rows(folder / "captions.csv")}
    paths = [path.relative_to(folder).as_posix() for path in pictures]
    return [f"{words[path]} {captions[path]}" for path in paths]


class Distractors:
    """Pictures that enlarge a library, and the words of their captions.

    Beyond their number, they are resampled: each is moved a little along the axes of all of them
    (a smoothed bootstrap), which keeps their mean and their covariance.

    Args:
        vectors: Image vectors, float32 (n, dim).
        texts: Words about each picture.
    """

    def __init__(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> None:
        self._words = [content_words(text) for text in texts]
        random = np.random.default_rng(0)
        size = len(vectors)
        chosen = random.permutation(size)
        statistics = measure_background(vectors, 64)
        drawn = random.integers(0, size, max(0, SIZES[-1] - size))
        noise = random.standard_normal((len(drawn), len(statistics.factors)))
        moved = statistics.mean + 0.8 * (vectors[drawn] - statistics.mean)
        resampled = as_unit_vectors(moved + 0.6 * noise @ statistics.factors)
        self._vectors = np.concatenate([vectors[chosen], resampled])
        self._origins = np.concatenate([chosen, drawn])

    def take(self, count: int) -> NDArray[np.float32]:
        """Return the vectors of some distractors, float32 (count, dim)."""
        return self._vectors[:count]

    def may_show(self, queries: Sequence[str], count: int) -> Bools:
        """Return which of some distractors have a word of each query in their texts.

        Args:
            queries: Texts of q queries.
            count: Number of distractors.

        Returns:
            bool (q, count).
        """
        wanted = [content_words(query) for query in queries]
        may_show = np.array([[bool(words & own) for own in self._words] for words in wanted])
        return may_show[:, self._origins[:count]]


def content_words(text: str) -> set[str]:
    """Return the words of a text that name things, in the singular."""
    words = (word.removesuffix("s") for word in re.findall("[a-z]{2,}", text.lower()))
    return set(words) - STOP_WORDS


def retrieve(library: Library, size: int) -> FirstHits:
    """Return the first hits in a library of a size, with and without relevant pictures.

    A query does not find distractors that may show what it describes.
    """
    trial, distractors = library.trial, library.distractors
    count = max(0, size - len(trial.pictures)) if size > SIZES[0] else 0
    vectors = distractors.take(count)

    def best(queries: NDArray[np.float32], texts: Sequence[str], hidden: Bools) -> Floats:
        scores = np.where(hidden, -1.0, queries @ trial.pictures.T).max(axis=1)
        if len(vectors):
            may_show = distractors.may_show(texts, count)
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
    above_mean, std = score_features(
        all_scores[:, None], np.concatenate(query_vectors), library.background
    )
    return FirstHits(above_mean[:, 0], std[:, 0], relevant, is_present)


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


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        rgba = picture.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    return np.asarray(white.convert("RGB"))
