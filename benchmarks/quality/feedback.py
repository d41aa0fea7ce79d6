"""Relevance feedback: what one right and one wrong hit, marked by a person, do to the other pictures.

A person looks at the first 20 pictures of a word, marks the first right one and the first wrong one,
and asks again. What was marked is taken out of both rankings, so that only pictures count that were
not clicked. The weights were chosen on drawings; photographs only judge.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starter_packages import fetch_debian
from starter_sources import read_openclipart

import mmsearch
from benchmarks.quality.libraries import content_words, encode_pictures, encode_texts
from benchmarks.quality.starter import stamp_trials
from benchmarks.speed.random_index import fill_index
from mmsearch.core.protocols import Encoder
from mmsearch.core.results import Hit
from mmsearch.search import feedback
from mmsearch.storage.layout import IndexLayout

SHOWN = 20
"""Number of pictures that a person looks at."""

SCENARIOS = {"1 right, 1 wrong": (1, 1), "1 right": (1, 0), "1 wrong": (0, 1), "2 and 2": (2, 2)}
MIN_ANSWERS = 3
SIZES = (100_000, 1_000_000)
TIMED = 15
RESAMPLES = 5000

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Weigh = Callable[[Floats, Floats], Floats]
"""Returns the weights of clicked pictures by their standard deviations above the mean, and by the
sign of each click."""


def fixed(liked: float, disliked: float) -> Weigh:
    """Return weights that do not depend on what the words say of a picture."""

    def weigh(deviations: Floats, signs: Floats) -> Floats:
        counts = np.where(signs > 0, max((signs > 0).sum(), 1), max((signs < 0).sum(), 1))
        return np.where(signs > 0, liked, -disliked) / counts

    return weigh


def falling(share: float) -> Weigh:
    """Return the weights of the engine, with a share of disliked pictures."""

    def weigh(deviations: Floats, signs: Floats) -> Floats:
        weights = feedback.click_weights(deviations, signs)
        return np.where(signs < 0, weights * share / feedback.UNLIKE_SHARE, weights)

    return weigh


METHODS: dict[str, Weigh] = {
    "equal terms: 1, 0.75": fixed(1.0, 0.75),
    "Rocchio: 0.25, 0.125": fixed(0.25, 0.125),
    "Rocchio: 0.5, 0.25": fixed(0.5, 0.25),
    "Rocchio: 1, 0.25": fixed(1.0, 0.25),
    "falling, likes only": falling(0.0),
    "falling, 1/8 (chosen)": falling(feedback.UNLIKE_SHARE),
    "falling, 1/4": falling(0.25),
}


@dataclass(frozen=True)
class Library:
    """Pictures and words, standardized over the pictures.

    Attributes:
        name: Name of the set.
        scores: float64 (q, n), similarity of each word to each picture in standard deviations.
        pictures: float64 (n, n), the same of each picture.
        relevant: bool (q, n).
    """

    name: str
    scores: Floats
    pictures: Floats
    relevant: Bools

    @classmethod
    def encode(
        cls,
        name: str,
        encoder: Encoder,
        paths: Sequence[Path],
        words: Sequence[Collection[str]],
        most: float = 1 / 8,
    ) -> Library:
        """Return a library whose queries are the words that some of its pictures have.

        Args:
            name: Name of the set.
            encoder: Encoder of pictures and words.
            paths: The pictures.
            words: Words of each picture.
            most: Largest share of pictures that a query may have.
        """
        counts = Counter(word for own in words for word in set(own))
        most_answers = max(MIN_ANSWERS, int(most * len(paths)))
        queries = sorted(word for word, n in counts.items() if MIN_ANSWERS <= n <= most_answers)
        vectors = encode_pictures(encoder, paths).astype(np.float64)
        texts = encode_texts(encoder, queries).astype(np.float64)
        relevant = np.array([[query in own for own in words] for query in queries])
        return cls(
            name, _standardize(texts @ vectors.T), _standardize(vectors @ vectors.T), relevant
        )

    def gains(self, weigh: Weigh, clicks: tuple[int, int], *, outside: bool = False) -> Floats:
        """Return by how much the average precision of each word rises.

        Args:
            weigh: The method.
            clicks: Number of right and of wrong pictures that are marked.
            outside: Count only pictures outside the first 20, not all that were not clicked.
        """
        gains = []
        for scores, relevant in zip(self.scores, self.relevant, strict=True):
            shown = np.argsort(-scores, kind="stable")[:SHOWN]
            right, wrong = shown[relevant[shown]][: clicks[0]], shown[~relevant[shown]][: clicks[1]]
            clicked = np.concatenate([right, wrong])
            unseen = np.ones(len(scores), dtype=bool)
            unseen[shown if outside else clicked] = False
            if not relevant[unseen].any():
                continue
            signs = np.repeat([1.0, -1.0], [len(right), len(wrong)])
            moved = scores + weigh(scores[clicked], signs) @ self.pictures[clicked]
            before, after = (
                average_precision(values[unseen], relevant[unseen]) for values in (scores, moved)
            )
            gains.append(after - before)
        return np.array(gains)


def _standardize(similarities: Floats) -> Floats:
    centred = similarities - similarities.mean(axis=1, keepdims=True)
    standardized: Floats = centred / centred.std(axis=1, keepdims=True)
    return standardized


def average_precision(scores: Floats, relevant: Bools) -> float:
    """Return the average precision of a ranking by scores."""
    ranked = relevant[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def summarize(gains: Floats) -> dict[str, float]:
    """Return the mean gain with its 95% interval, the worst tenth and the worst query."""
    resampled = np.random.default_rng(0).integers(0, len(gains), (RESAMPLES, len(gains)))
    low, high = np.quantile(gains[resampled].mean(axis=1), [0.025, 0.975])
    worst = np.sort(gains)[: max(1, len(gains) // 10)]
    values = {"mean": gains.mean(), "low": low, "high": high, "tenth": worst.mean()}
    return {"queries": len(gains), **{name: round(float(v), 4) for name, v in values.items()}} | {
        "worst": round(float(worst[0]), 4)
    }


# --- sets ---


def drawings(encoder: Encoder, stamps: Path, cache: Path) -> list[Library]:
    """Return the sets on which the weights were chosen: drawings of Tux Paint and Open Clip Art."""
    png = fetch_debian("openclipart-png", cache) / "usr/share/openclipart/png"
    svg = fetch_debian("openclipart-svg", cache) / "usr/share/openclipart/svg"
    art = [drawing for drawing in read_openclipart(png, svg) if drawing.title and drawing.keywords]
    return [
        _stamp_library(encoder, stamps, "drawings"),
        Library.encode(
            "clip art, keyword",
            encoder,
            [drawing.path for drawing in art],
            [[word.lower() for word in drawing.keywords] for drawing in art],
        ),
    ]


def _stamp_library(encoder: Encoder, stamps: Path, kind: str) -> Library:
    (trial,) = (t for t in stamp_trials(stamps) if t.name == f"stamps, {kind} only")
    words = [content_words(text) for text in trial.queries]
    return Library.encode(f"stamps, {kind}, word", encoder, list(trial.pictures), words)


def _photo_words(photos: Path) -> dict[str, str]:
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return {row["path"]: row["word"].lower() for row in csv.DictReader(stream)}


# --- through the public API ---


def measure_engine(photos: Path) -> list[dict[str, Any]]:
    """Measure the whole engine on the photographs, without texts and with their titles."""
    words = _photo_words(photos)
    word_of = {Path(path).name: word for path, word in words.items()}
    counts = Counter(words.values())
    queries = sorted(word for word, count in counts.items() if count >= MIN_ANSWERS)
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        titles = [(row["path"], row["source_title"]) for row in csv.DictReader(stream)]
    rows = []
    for share in (0.0, 0.5, 1.0):
        with tempfile.TemporaryDirectory() as name:
            table = Path(name) / "titles.jsonl"
            titled = titles[:: round(1 / share)] if share else []
            lines = (json.dumps({"path": p, "caption": t}) + "\n" for p, t in titled)
            table.write_text("".join(lines), encoding="utf-8")
            with mmsearch.open_index("feedback", home=name, model="starter") as index:
                index.add_folder(photos, captions=table if titled else None, texts="table")
                gains, likely = [], []
                for query in queries:
                    gain, right = _ask_twice(index, query, word_of)
                    gains += gain
                    likely += right
        rows.append(
            {"titles": share, **summarize(np.array(gains)), "likely": len(likely)}
            | {"right": round(float(np.mean(likely)), 4) if likely else None}
        )
        print(rows[-1], flush=True)
    return rows


def _ask_twice(
    index: mmsearch.Index, query: str, word_of: Mapping[str, str]
) -> tuple[list[float], list[bool]]:
    """Return the gain of a query, and which of the likely hits of the second answer are right."""

    def is_right(hit: Hit) -> bool:
        return word_of[hit.path.name] == query

    first = index.search(query, len(word_of), fold=False)
    right = [hit for hit in first[:SHOWN] if is_right(hit)][:1]
    wrong = [hit for hit in first[:SHOWN] if not is_right(hit)][:1]
    second = index.search(query, len(word_of), like=right, unlike=wrong, fold=False)
    clicked = {hit.id for hit in (*right, *wrong)}
    likely = [is_right(hit) for hit in second if hit.band == "likely" and hit.id not in clicked]

    def unseen_precision(hits: Iterable[Hit]) -> float | None:
        relevant = np.array([is_right(hit) for hit in hits if hit.id not in clicked])
        ranks = -np.arange(len(relevant), dtype=np.float64)
        return average_precision(ranks, relevant) if relevant.any() else None

    before, after = unseen_precision(first), unseen_precision(second)
    return ([] if before is None or after is None else [after - before]), likely


def measure_latency(cache: Path, sizes: Sequence[int] = SIZES) -> list[dict[str, Any]]:
    """Measure a search with and without two clicks, alternating, in indexes of random vectors."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=cache) as name:
            layout = IndexLayout.for_name(Path(name), "default")
            fill_index(layout, mmsearch.open_model("starter"), size)
            with mmsearch.open_index(home=name) as index:
                rows.append({"rows": size} | _time_clicks(index, size))
        print(rows[-1], flush=True)
    return rows


def _time_clicks(index: mmsearch.Index, size: int) -> dict[str, float]:
    """Return median times of a search in ms: of all threads' processor time, and elapsed."""
    plain = mmsearch.parse_query("a red car")
    times: dict[str, list[tuple[float, float]]] = {"plain": [], "clicks": []}
    for number in range(1, TIMED + 3):
        clicked = {"like": number * 977, "unlike": size - number * 1009}
        marked = mmsearch.parse_query("a red car", **clicked)  # type: ignore[arg-type]
        for kind, query in (("plain", plain), ("clicks", marked)):
            started_s = time.process_time(), time.perf_counter()
            index.query(mmsearch.SearchRequest(query, check_files=False))
            elapsed_s = time.process_time() - started_s[0], time.perf_counter() - started_s[1]
            times[kind].append(elapsed_s)
    milliseconds = {kind: 1000 * np.array(t[2:]) for kind, t in times.items()}
    milliseconds["more"] = milliseconds["clicks"] - milliseconds["plain"]
    result: dict[str, float] = {}
    for kind, values in milliseconds.items():
        cpu, elapsed = np.median(values, axis=0)
        result |= {
            f"{kind}_ms": round(float(cpu), 2),
            f"{kind}_elapsed_ms": round(float(elapsed), 2),
        }
    return result


def measure(photos: Path, stamps: Path, cache: Path) -> dict[str, Any]:
    """Compare methods on drawings, judge the chosen one on photographs, and measure its time."""
    encoder = mmsearch.open_model("starter")
    results: dict[str, Any] = {"methods": [], "judged": []}
    chosen_on = drawings(encoder, stamps, cache)
    for name, weigh in METHODS.items():
        row: dict[str, Any] = {"method": name}
        for scenario, clicks in SCENARIOS.items():
            gains = [library.gains(weigh, clicks) for library in chosen_on]
            row[scenario] = summarize(np.concatenate(gains))
        results["methods"].append(row)
        print(row, flush=True)
    words = _photo_words(photos)
    judges = [
        Library.encode(
            "photos, word",
            encoder,
            [photos / path for path in words],
            [[word] for word in words.values()],
            most=1.0,
        ),
        _stamp_library(encoder, stamps, "photographs"),
    ]
    chosen = falling(feedback.UNLIKE_SHARE)
    for library in judges:
        for scenario, clicks in SCENARIOS.items():
            for outside in (False, True):
                gains_of_set = library.gains(chosen, clicks, outside=outside)
                results["judged"].append(
                    {"set": library.name, "clicks": scenario, "outside": outside}
                    | summarize(gains_of_set)
                )
                print(results["judged"][-1], flush=True)
    results["engine"] = measure_engine(photos)
    results["latency"] = measure_latency(cache)
    return results


# --- page ---


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    names = list(SCENARIOS)
    lines = [
        "## Relevance feedback\n",
        f"A person looks at the first {SHOWN} pictures of a word, marks the first right and the "
        "first wrong one, and asks again. Gain:\naverage precision of the second ranking minus that "
        "of the first, both without the pictures that were marked. In brackets:\n95% bootstrap "
        "intervals over words. *worst tenth*: mean of the tenth of words that lose most. If nothing "
        "can be marked, the\ngain is 0. Weights are standard deviations of the query; *falling* is "
        f"{feedback.LIKE_WEIGHT:g} exp(-z / {feedback.LIKE_DECAY:g}) for a picture that the words "
        "place z standard\ndeviations above the mean, times a share for a wrong one.\n",
        "Drawings, on which the method and its weights were chosen (stamps and clip art by their "
        "words; a set of emoji agreed):\n",
        f"| weights | {' | '.join(names)} |",
        "|---|" + "--:|" * len(names),
    ]
    for row in results["methods"]:
        cells = (
            f"{row[name]['mean']:+.3f}, worst tenth {row[name]['tenth']:+.3f}" for name in names
        )
        lines.append(f"| {row['method']} | {' | '.join(cells)} |")
    count = results["methods"][0][names[0]]["queries"]
    lines += [
        f"\n{count} words. The chosen weights on photographs, which chose nothing:\n",
        "| set | marked | pictures that count | words | gain | worst tenth | worst word |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for row in results["judged"]:
        counted = f"outside the first {SHOWN}" if row["outside"] else "all not marked"
        lines.append(
            f"| {row['set']} | {row['clicks']} | {counted} | {row['queries']} | {_gain(row)} "
            f"| {row['tenth']:+.3f} | {row['worst']:+.3f} |"
        )
    lines += [
        "\nOn the cut-out photographs of stamps, a word of a caption is often a poor name of a set, "
        "and the worst tenth loses more\nthan it should: a marked picture cannot tell which of its "
        "properties was meant.\n",
        "The whole engine on the photographs, one right and one wrong hit marked, in hybrid mode if "
        "some have titles; *likely*: hits\nof the second answer that are called likely, and how many "
        "of them are right:\n",
        "| titles | words | gain | worst tenth | worst word | likely | right |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["engine"]:
        right = "" if row["right"] is None else f"{row['right']:.0%}"
        lines.append(
            f"| {row['titles']:.0%} | {row['queries']} | {_gain(row)} | {row['tenth']:+.3f} "
            f"| {row['worst']:+.3f} | {row['likely']} | {right} |"
        )
    if results["latency"]:
        lines += _latency_table(results["latency"])
    return "\n".join(lines) + "\n"


def _gain(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.3f} [{row['low']:+.2f}, {row['high']:+.2f}]"


def _latency_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    def cells(row: Mapping[str, Any]) -> str:
        kinds = ("plain", "clicks", "more")
        return " | ".join(f"{row[f'{k}_ms']:.1f}, {row[f'{k}_elapsed_ms']:.1f} ms" for k in kinds)

    return [
        f"\nProcessor time of a search in all threads, and its elapsed time; medians of {TIMED}, "
        "alternating without and with one liked\nand one disliked picture, whose vectors are read "
        "from the segments:\n",
        "| pictures | without | with | more |",
        "|--:|--:|--:|--:|",
        *(f"| {row['rows']:,} | {cells(row)} |" for row in rows),
    ]
