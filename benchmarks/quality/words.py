"""Study of words: what a match in the texts of a messy library is worth, and what it does to hits.

The photographs of tests/photos are given the names and the texts that libraries have: camera names
in folders of a journey, web exports, published titles as names of files, keywords, descriptions,
captions, and a fifth of the texts beside the wrong photograph. They are asked for by their words,
by these in sentences of stop words, and by the captions of other photographs than those that show
them.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import mmsearch
from mmsearch.catalog import text_weights
from mmsearch.catalog.reader import open_reader
from mmsearch.core.query import Mode, TextTerm

WRONG = 0.2
PLACES = ("2019/Hamburg", "export/web", "Family/2021 Summer", "phone/DCIM")
SEED = 0
DEPTH = 212
SYSTEMS: dict[str, tuple[Mode, str | None]] = {
    "look": (Mode.VECTOR, None),
    "words": (Mode.TEXT, None),
    "hybrid, odds": (Mode.HYBRID, "log_odds"),
    "hybrid, score": (Mode.HYBRID, "weighted_sum"),
    "hybrid, rank": (Mode.HYBRID, "reciprocal_rank"),
}
RESAMPLES = 1000
L2_PENALTY = 0.02

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """A query of the study.

    Attributes:
        text: The query.
        kind: ``word``, ``sentence`` or ``caption``.
        split: ``dev`` or ``test``; nothing is fitted on the latter.
        relevant: Names of the relevant photographs.
    """

    text: str
    kind: str
    split: str
    relevant: frozenset[str]


def build_library(photos: Path, folder: Path) -> tuple[list[Question], Path]:
    """Copy photographs under messy names, and return the questions and the table of texts.

    Args:
        photos: Folder of tests/photos.
        folder: Folder for the copies.
    """
    words = {row["path"]: row for row in _read(photos / "manifest.csv")}
    captions = {row["path"]: row for row in _read(photos / "captions.csv")}
    generator = random.Random(SEED)
    paths = sorted(words)
    generator.shuffle(paths)
    names: dict[str, str] = {}
    texts: dict[str, dict[str, str]] = {}
    for number, path in enumerate(paths):
        title = words[path]["source_title"].replace("/", " ")[:40]
        stem = title if number % 4 == 1 else f"IMG_{number:04}"
        names[path] = f"{PLACES[number % len(PLACES)]}/{stem} {path[-9:]}"
        kind = ("", "title", "keywords", "description", "caption")[number % 5]
        category = words[path]["category"].replace("_", "; ")
        values = {
            "title": title,
            "keywords": f"{words[path]['word']}; {category}",
            "description": words[path]["description"],
            "caption": captions[path]["en"],
        }
        if kind:
            texts[path] = {kind: values[kind]}
        target = folder / names[path]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / path, target)
    wrong = sorted(texts)[:: round(1 / WRONG)]
    moved = dict(zip(wrong, [texts[path] for path in (*wrong[1:], wrong[0])], strict=True))
    table = folder / "texts.jsonl"
    lines = [json.dumps({"path": names[path], **own}) for path, own in (texts | moved).items()]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list(_questions(words, captions, names, texts)), table


def _questions(
    words: Mapping[str, dict[str, str]],
    captions: Mapping[str, dict[str, str]],
    names: Mapping[str, str],
    texts: Mapping[str, dict[str, str]],
) -> Iterator[Question]:
    by_word: dict[str, set[str]] = {}
    for path, row in words.items():
        by_word.setdefault(row["word"], set()).add(names[path])
    for word, relevant in by_word.items():
        yield Question(word, "word", "dev", frozenset(relevant))
        yield Question(f"a photo of the {word} in it", "sentence", "dev", frozenset(relevant))
    for path, row in captions.items():
        # A caption must not find itself.
        if "caption" not in texts.get(path, {}):
            same = [p for p in (path, row["same_as"]) if p in names]
            relevant = {names[p] for p in same}
            yield Question(row["en"], "caption", row["split"], frozenset(relevant))


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def ask(
    index: mmsearch.Index,
    folder: Path,
    questions: Sequence[Question],
    mode: Mode,
    blend: str | None = None,
) -> NDArray[np.int64]:
    """Return the rank of the first relevant hit of each question; one below all without any."""
    ranks = []
    for question in questions:
        query = mmsearch.Query((mmsearch.Term(question.text),), mode=mode, blend=blend)
        request = mmsearch.SearchRequest(query, DEPTH, explain=False, fold=False, literal=True)
        hits = index.query(request).hits
        found = [str(hit.path.relative_to(folder)) in question.relevant for hit in hits]
        ranks.append(found.index(True) + 1 if any(found) else DEPTH + 1)
    return np.array(ranks)


def features(
    index: mmsearch.Index, home: Path, folder: Path, questions: Sequence[Question]
) -> dict[str, Floats]:
    """Return what is known of each picture that a question's words match.

    Returns:
        ``kinds`` (n, kinds): the evidence that each kind of text would give if it were worth 1 nat;
        ``visual`` (n,): logit of the confidence of the look; ``margin`` (n,): standard deviations
        above the mean of the library; ``relevant`` (n,); and ``question`` (n,).
    """
    columns: dict[str, list[Any]] = {
        name: [] for name in ("kinds", "visual", "margin", "relevant", "question")
    }
    kinds = list(text_weights.KIND_EVIDENCE)
    reader = open_reader(home / "words" / "catalog.sqlite")
    for number, question in enumerate(questions):
        hits = {
            hit.id: hit
            for hit in index.search(question.text, DEPTH, mode="vector", fold=False, literal=True)
        }
        scores = np.array([hit.visual for hit in hits.values()])
        shares: dict[int, list[float]] = {}
        with reader.snapshot() as snapshot:
            for position, kind in enumerate(kinds):
                single = {name: float(name == kind) for name in kinds}
                with patch.dict(text_weights.KIND_EVIDENCE, single):
                    found = snapshot.match([TextTerm(question.text)], DEPTH, None)
                for image_id, share in zip(found.ids.tolist(), found.evidence, strict=True):
                    row = shares.setdefault(image_id, [0.0] * len(kinds))
                    row[position] = float(share)
        for image_id, row in shares.items():
            if max(row) > 0:
                hit = hits[image_id]
                odds = np.clip(hit.confidence, 1e-6, 1 - 1e-6)
                columns["kinds"].append(row)
                columns["visual"].append(np.log(odds / (1 - odds)))
                columns["margin"].append((hit.visual - scores.mean()) / scores.std())
                relevant = str(hit.path.relative_to(folder)) in question.relevant
                columns["relevant"].append(float(relevant))
                columns["question"].append(float(number))
    reader.close()
    return {name: np.array(values) for name, values in columns.items()}


def fit(data: Mapping[str, Floats]) -> Floats:
    """Return the evidence of each kind, in nats, that explains which matches are relevant.

    The confidence of the look is the prior; the odds are multiplied by the evidence.
    """
    signs = np.where(data["relevant"] > 0, 1.0, -1.0)

    def loss(nats: Floats) -> float:
        logits = data["visual"] + data["kinds"] @ nats
        return float(np.logaddexp(0, -signs * logits).sum() + L2_PENALTY * (nats**2).sum())

    start = np.full(data["kinds"].shape[1], 3.0)
    bounds = [(0.0, 12.0)] * len(start)
    result: Floats = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    return result


def fit_with_intervals(data: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
    """Return the evidence of each kind with its 95% bootstrap interval over questions."""
    generator = np.random.default_rng(SEED)
    questions = np.unique(data["question"])
    rows = {number: np.flatnonzero(data["question"] == number) for number in questions}
    samples = []
    for _ in range(RESAMPLES // 5):
        drawn = generator.choice(questions, len(questions))
        chosen = np.concatenate([rows[number] for number in drawn])
        samples.append(fit({name: values[chosen] for name, values in data.items()}))
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    strong = data["kinds"] > 0.5
    return {
        kind: {
            "nats": [float(value), float(low[n]), float(high[n])],
            "matches": int((data["kinds"][:, n] > 0).sum()),
            "full": int(strong[:, n].sum()),
            "full_relevant": int(data["relevant"][strong[:, n]].sum()),
        }
        for n, (kind, value) in enumerate(zip(text_weights.KIND_EVIDENCE, fit(data), strict=True))
    }


def measure(photos: Path) -> dict[str, Any]:
    """Ask all questions of a messy library, and fit the evidence of each kind of text."""
    results: dict[str, Any] = {"groups": []}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        folder = home / "library"
        questions, table = build_library(photos, folder)
        groups = group(questions)
        with mmsearch.open_index("words", home=home, model="starter") as index:
            index.add_folder(folder, captions=table)
            for name, (mode, blend) in SYSTEMS.items():
                ranks = ask(index, folder, questions, mode, blend)
                results["groups"] += summarize(name, ranks, groups)
            dev = [question for question in questions if question.split == "dev"]
            results["evidence"] = fit_with_intervals(features(index, home, folder, dev))
    return results


def group(questions: Sequence[Question]) -> dict[str, NDArray[np.bool_]]:
    """Return which questions belong to each group, by its name."""
    names = np.array([f"{question.kind}, {question.split}" for question in questions])
    return {str(name): names == name for name in dict.fromkeys(names.tolist())}


def summarize(
    system: str, ranks: NDArray[np.int64], groups: Mapping[str, NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    """Return the metrics of a system for each group of questions."""
    return [
        {
            "system": system,
            "questions": name,
            "number": int(chosen.sum()),
            "Success@1": _interval(ranks[chosen] == 1),
            "Success@10": _interval(ranks[chosen] <= 10),
            "MRR": _interval(1.0 / ranks[chosen]),
        }
        for name, chosen in groups.items()
    ]


def _interval(values: NDArray[Any]) -> list[float]:
    drawn = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return [float(values.mean()), float(low), float(high)]


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    metrics = ("Success@1", "Success@10", "MRR")
    has_earlier = any(row["system"].endswith("before") for row in results["groups"])
    lines = [
        "## Words in a messy library\n",
        "The photographs of tests/photos with camera names, web exports and published titles as names "
        "of files; a fifth each\nhas a title, keywords, a description or a caption, a fifth of these "
        "beside the wrong photograph. *sentence* puts a word\ninto stop words; a caption is only "
        "asked if it is no text of its photograph. 95% bootstrap intervals over questions."
        + (" *before*: every\nword with the same stem counted fully, in every kind of text.\n")
        * has_earlier,
        f"| questions | number | system | {' | '.join(metrics)} |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for row in results["groups"]:
        cells = " | ".join(_cell(row[metric]) for metric in metrics)
        lines.append(f"| {row['questions']} | {row['number']} | {row['system']} | {cells} |")
    lines += [
        "\nWhat a text is worth that has all words of a question, if these are rare: the logarithm by "
        "which it multiplies the\nodds of the look, fitted on the questions of *dev*.\n",
        "| kind | evidence in nats | matches | full matches | of these relevant |",
        "|---|--:|--:|--:|--:|",
    ]
    for kind, row in results["evidence"].items():
        if row["matches"]:
            lines.append(
                f"| {kind} | {_cell(row['nats'])} | {row['matches']} | {row['full']} "
                f"| {row['full_relevant']} |"
            )
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"
