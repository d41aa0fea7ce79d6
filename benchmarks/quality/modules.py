"""Study of a folder that mixes photographs, signs, scans, documents and films.

Questions ask for words on a sign, on a page or in a spoken line, for a look, and for both. Each
kind of text disturbs the questions of the others. The weights of texts are chosen on half of the
questions, those of *dev*, whose films, documents and signs are others than those of *test*.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import mmsearch
from benchmarks.quality.mixed_library import Place, Question, build_library
from mmsearch.catalog import full_text, text_weights
from mmsearch.core.results import Hit

PLUGIN = Path(__file__).parent / "film_plugin"
DEPTH = 100
WITHIN_S = 5.0
RESAMPLES = 1000
SEED = 0

NOW = "now"
SPOKEN = ("subtitle", "transcript")
SETTINGS: dict[str, Mapping[str, Any]] = {
    "before: pages and lines as other texts, no neighbours": {
        "kinds": {**dict.fromkeys((*SPOKEN, "page"), text_weights.OTHER_EVIDENCE)},
        "neighbours": 0.0,
        "blend": "weighted_sum",
    },
    "no neighbours": {"neighbours": 0.0},
    "neighbours count fully": {"neighbours": 1.0},
    "pages as other texts": {"kinds": {"page": text_weights.OTHER_EVIDENCE}},
    "lines as other texts": {"kinds": dict.fromkeys(SPOKEN, text_weights.OTHER_EVIDENCE)},
    "texts in pictures as captions": {"kinds": {"ocr": text_weights.KIND_EVIDENCE["caption"]}},
    "every confidence in proportion": {"sure": 1.0},
    "looks and texts as a weighted sum": {"blend": "weighted_sum"},
    NOW: {},
}
"""Settings by name; all but the last one differ from it in what their name says."""

BEFORE = next(iter(SETTINGS))
Floats = NDArray[np.float64]


@contextmanager
def apply_setting(name: str) -> Iterator[None]:
    """Search with the weights of a setting."""
    setting = SETTINGS[name]
    with ExitStack() as stack:
        kinds = setting.get("kinds", {})
        stack.enter_context(patch.dict(text_weights.KIND_EVIDENCE, kinds))
        evidence = np.array([*text_weights.KIND_EVIDENCE.values(), text_weights.OTHER_EVIDENCE])
        stack.enter_context(patch.object(full_text, "CODE_EVIDENCE", evidence))
        weight = setting.get("neighbours", full_text.NEIGHBOUR_WEIGHT)
        stack.enter_context(patch.object(full_text, "NEIGHBOUR_WEIGHT", weight))
        sure = setting.get("sure", text_weights.SURE_CONFIDENCE)
        stack.enter_context(patch.object(text_weights, "SURE_CONFIDENCE", sure))
        yield


def measure(photos: Path) -> list[dict[str, Any]]:
    """Return the measures of all settings on *dev*, and of the first and the last on *test*."""
    rows = []
    with (
        tempfile.TemporaryDirectory() as temporary,
        open_library(photos, Path(temporary)) as (index, questions),
    ):
        for name, setting in SETTINGS.items():
            splits = ("dev", "test") if name in (BEFORE, NOW) else ("dev",)
            chosen = [question for question in questions if question.split in splits]
            with apply_setting(name):
                answers = ask(index, chosen, setting.get("blend"))
            for split in splits:
                rows += summarize(name, chosen, answers, split)
    return rows


@contextmanager
def open_library(photos: Path, temporary: Path) -> Iterator[tuple[mmsearch.Index, list[Question]]]:
    """Open an index of the mixed folder with its questions; texts and tags are read by models."""
    with _visible_plugin():
        folder = temporary / "library"
        questions, table = build_library(photos, folder)
        with mmsearch.open_index("mixed", home=temporary / "home", model="starter") as index:
            report = index.add_folder(folder, captions=table)
            if report.failed:
                raise SystemExit(f"Files cannot be read: {report.failed}")
            index.describe(["tags", "ocr"])
            yield index, questions


def ask(
    index: mmsearch.Index, questions: Sequence[Question], blend: str | None = None
) -> dict[str, Floats]:
    """Return how well each question is answered.

    Args:
        index: The index.
        questions: The questions.
        blend: Name of the rank fusion; None for the default.

    Returns:
        ``rank`` (n,), of the first right file, `DEPTH` + 1 without one; ``place`` (n,), 1 if the
        first hit is the right file at the right second or page, NaN for a question without one.
    """
    ranks, places = [], []
    for question in questions:
        query = mmsearch.Query((mmsearch.Term(question.text),), blend=blend)
        hits = index.query(mmsearch.SearchRequest(query, DEPTH, fold=False, literal=True)).hits
        found = [hit.path.name in question.answers for hit in hits]
        ranks.append(found.index(True) + 1 if any(found) else DEPTH + 1)
        is_placed = all(is_place(place) for known in question.answers.values() for place in known)
        is_right = bool(hits) and any(
            _is_at(hits[0], place) for place in question.answers.get(hits[0].path.name, ())
        )
        places.append(float(is_right) if is_placed else np.nan)
    return {"rank": np.array(ranks, dtype=np.float64), "place": np.array(places)}


def is_place(place: Place) -> bool:
    """Return True for a part of a file, False for a whole file."""
    return place.start_ms is not None or place.page is not None


def _is_at(hit: Hit, place: Place) -> bool:
    if place.start_ms is None:
        return place.page is None or hit.page == place.page
    if hit.start_ms is None or place.end_ms is None:
        return False
    margin = 1000 * WITHIN_S
    return place.start_ms - margin <= hit.start_ms <= place.end_ms + margin


def summarize(
    name: str, questions: Sequence[Question], answers: dict[str, Floats], split: str
) -> list[dict[str, Any]]:
    """Return the measures of a setting for each kind of question of a split, and for all."""
    kinds = np.array([question.kind for question in questions])
    is_split = np.array([question.split == split for question in questions])
    rows = []
    for kind in (*dict.fromkeys(kinds.tolist()), "all"):
        chosen = is_split & ((kinds == kind) | (kind == "all"))
        ranks, places = answers["rank"][chosen], answers["place"][chosen]
        places = places[~np.isnan(places)]
        rows.append(
            {
                "setting": name,
                "split": split,
                "questions": kind,
                "number": int(chosen.sum()),
                "hit@1": _interval(ranks == 1),
                "MRR": _interval(np.where(ranks > DEPTH, 0.0, 1.0 / ranks)),
                "place": _interval(places) if len(places) else None,
                "placed": len(places),
            }
        )
    return rows


def _interval(values: NDArray[Any]) -> list[float]:
    drawn = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return [float(values.mean()), float(low), float(high)]


@contextmanager
def _visible_plugin() -> Iterator[None]:
    """Make the film modality visible to this process and to those that it starts."""
    before = os.environ.get("PYTHONPATH")
    sys.path.insert(0, str(PLUGIN))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PLUGIN), *([before] if before else [])])
    try:
        yield
    finally:
        sys.path.remove(str(PLUGIN))
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def page(results: Sequence[dict[str, Any]]) -> str:
    """Return the section of the results as Markdown."""
    lines = [
        "## Films, documents, signs and photographs in one folder\n",
        "212 photographs of tests/photos as signs (words drawn over them), shots of 12 films, with and "
        "without titles; PDF\ndocuments and scanned pages of the descriptions of installed packages. "
        "Texts in pictures are read by OCR, tags are the\nbuilt-in ones. In half of the films, lines "
        "are subtitles, in the others transcripts in which 17% of the words are wrong;\nmoments are "
        "given, so that finding shots is not measured. Words of a page and of a line are three of one "
        "sentence. Hybrid\nmode; right place: the first hit is the right file at the right page, or "
        f"within {WITHIN_S:g} s of the right time.\n95% bootstrap intervals over questions.\n",
        "Settings on *dev*, all kinds of questions together; *now* is what searches use:\n",
        "| setting | number | hit@1 | MRR | right place |",
        "|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['setting']} | {row['number']} | {_cells(row)} |"
        for row in results
        if row["split"] == "dev" and row["questions"] == "all"
    ]
    lines += [
        "\nOn *test*, with which nothing was chosen:\n",
        "| questions | number | setting | hit@1 | MRR | right place |",
        "|---|--:|---|--:|--:|--:|",
    ]
    tested = [row for row in results if row["split"] == "test"]
    for kind in dict.fromkeys(row["questions"] for row in tested):
        for row in tested:
            if row["questions"] == kind:
                name = row["setting"].partition(":")[0]
                lines.append(f"| {kind} | {row['number']} | {name} | {_cells(row)} |")
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any]) -> str:
    shown = [_cell(row[name]) for name in ("hit@1", "MRR")]
    place = f"{_cell(row['place'])} of {row['placed']}" if row["place"] else ""
    return " | ".join([*shown, place])


def _cell(values: Sequence[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"
