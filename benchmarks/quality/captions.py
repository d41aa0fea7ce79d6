"""Captions of photographs in several languages: does each find its own photograph?

The photographs have names that say nothing and are searched by their look alone. As a command it
compares models, or a changed model with stored results::

    python -m benchmarks.quality.captions --model starter --against benchmarks/results/captions.json
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mmsearch
from mmsearch.core.query import Mode, Query, SearchRequest, Term

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = ROOT / "tests/photos"
WALLPAPERS = Path(tempfile.gettempdir()) / "mmsearch-wallpapers"
TUNED_ON = "photos dev"
PHOTO_SETS = ("photos dev", "photos test")
LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "ja", "zh")
DEPTHS = (1, 5, 10)
METRICS = (*(f"R@{depth}" for depth in DEPTHS), "MRR")
RESAMPLES = 5000
SEED = 0
PREFACE = """\
## Captions in several languages

Each caption must find its own photograph among all of its set, by the vectors alone; R@k is the share of captions
that do among the first k, MRR the mean of 1/rank. In brackets: 95% bootstrap intervals over captions. *photos*: the
212 photographs of tests/photos; settings may be chosen on `dev`, never on `test`, which is the harder half: it holds
the 28 fish and 14 windmills. *wallpapers*: 225 photographs of Debian packages (`scripts/fetch_eval_sets --set
wallpapers`), on which nothing was tuned. A language model wrote the captions, looking at the pictures
([sets](quality/sets/README.md)).
"""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class CaptionTrial:
    """Captions in one language, each of which must find its photograph.

    Attributes:
        set_name: Name of the set, such as ``photos dev``.
        language: Language of the captions, such as ``en``.
        captions: The captions.
        relevant: File names of the photographs that answer each caption.
    """

    set_name: str
    language: str
    captions: tuple[str, ...]
    relevant: tuple[frozenset[str], ...]


def read_trials(table: Path, set_name: str, split: str | None = None) -> list[CaptionTrial]:
    """Return the trials of a table, one per language that has captions.

    Args:
        table: CSV file with columns path, a language each, and possibly split and same_as.
        set_name: Name of the set.
        split: Split whose captions are asked; None for all.
    """
    with table.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if split in {None, row.get("split")}]
    relevant = tuple(
        frozenset(Path(path).name for path in (row["path"], row.get("same_as")) if path)
        for row in rows
    )
    return [
        CaptionTrial(set_name, language, tuple(row[language] for row in rows), relevant)
        for language in LANGUAGES
        if rows and language in rows[0]
    ]


def rank_of_first_relevant(ranking: Sequence[str], relevant: Collection[str]) -> int:
    """Return the rank, from 1, of the first relevant name; one more than the last if none is."""
    ranks = (rank for rank, name in enumerate(ranking, 1) if name in relevant)
    return next(ranks, len(ranking) + 1)


def metric_values(ranks: Sequence[int]) -> dict[str, Values]:
    """Return the value of each query for every metric, float64 (queries,)."""
    array = np.asarray(ranks)
    values = {f"R@{depth}": (array <= depth).astype(np.float64) for depth in DEPTHS}
    return values | {"MRR": 1.0 / array}


def mean_with_interval(values: Values) -> list[float]:
    """Return the mean and its 95% bootstrap interval over queries."""
    resampled = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[resampled].mean(axis=1), [0.025, 0.975])
    return [float(values.mean()), float(low), float(high)]


def summarize(
    ranks: Sequence[int], baseline: Sequence[int] | None = None
) -> dict[str, list[float]]:
    """Return each metric with its interval, or its paired difference from the same queries' baseline.

    Raises:
        ValueError: The baseline has another number of queries.
    """
    values = metric_values(ranks)
    if baseline is not None:
        if len(baseline) != len(ranks):
            raise ValueError(f"{len(ranks)} queries cannot be paired with {len(baseline)}.")
        before = metric_values(baseline)
        values = {metric: values[metric] - before[metric] for metric in METRICS}
    return {metric: mean_with_interval(values[metric]) for metric in METRICS}


def rank_captions(index: mmsearch.Index, trial: CaptionTrial) -> list[int]:
    """Return the rank of each caption's photograph in an index, by vectors alone."""
    depth = index.status().pictures
    requests = [
        SearchRequest(
            Query((Term(caption),), mode=Mode.VECTOR),
            depth,
            explain=False,
            check_files=False,
            fold=False,
            literal=True,
        )
        for caption in trial.captions
    ]
    rankings = ([hit.path.name for hit in result.hits] for result in index.iter_search(requests))
    return [rank_of_first_relevant(*pair) for pair in zip(rankings, trial.relevant, strict=True)]


def measure(
    photos: Path = PHOTOS,
    wallpapers: Path | None = WALLPAPERS,
    models: Sequence[str] = ("starter",),
    *,
    sets: Collection[str] | None = None,
    languages: Collection[str] = LANGUAGES,
) -> list[dict[str, Any]]:
    """Measure models on captions.

    Args:
        photos: Folder with captions.csv.
        wallpapers: Folder of the wallpapers with manifest.csv; None leaves them out.
        models: Encoders; the first one is what the others are compared with.
        sets: Names of the sets to measure; None for all.
        languages: Languages to measure.

    Returns:
        A row for each model, set and language: its metrics, the difference from the first model
        if it is another one, and the rank of each caption's photograph, in the order of the table.
    """
    trials = {
        photos: [
            trial
            for name in PHOTO_SETS
            for trial in read_trials(photos / "captions.csv", name, name.split()[1])
        ]
    }
    if wallpapers is not None:
        trials[wallpapers] = read_trials(wallpapers / "manifest.csv", "wallpapers")

    def is_selected(trial: CaptionTrial) -> bool:
        return trial.language in languages and (sets is None or trial.set_name in sets)

    rows: list[dict[str, Any]] = []
    for folder, all_trials in trials.items():
        selected = [trial for trial in all_trials if is_selected(trial)]
        for model in models if selected else ():
            with (
                tempfile.TemporaryDirectory() as home,
                mmsearch.open_index("captions", home=home, model=model) as index,
            ):
                index.add_folder(folder, texts="none")
                rows += [_measure_trial(index, model, trial, rows) for trial in selected]
    return rows


def _measure_trial(
    index: mmsearch.Index, model: str, trial: CaptionTrial, before: list[dict[str, Any]]
) -> dict[str, Any]:
    ranks = rank_captions(index, trial)
    row: dict[str, Any] = {
        "set": trial.set_name,
        "language": trial.language,
        "model": model,
        "queries": len(ranks),
        "pictures": index.status().pictures,
        "metrics": summarize(ranks),
        "ranks": " ".join(map(str, ranks)),
    }
    baseline = find_baseline(row, before)
    if baseline is not None:
        row |= difference_from(baseline, row)
    print(_line(row), flush=True)
    return row


def find_baseline(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the first of rows that has the set and the language of a row."""
    key = row["set"], row["language"]
    return next((other for other in rows if (other["set"], other["language"]) == key), None)


def difference_from(baseline: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Return the paired difference of two rows, with the name of the baseline's model."""
    ranks = ([int(rank) for rank in each["ranks"].split()] for each in (row, baseline))
    return {"baseline": baseline["model"], "difference": summarize(*ranks)}


def page(results: list[dict[str, Any]]) -> str:
    """Return the section of the results as Markdown."""
    lines = [PREFACE, *_table(results, "metrics", _cell)]
    compared = [row for row in results if "difference" in row]
    if compared:
        lines += [
            f"\nThe same, minus {compared[0]['baseline']} on the same captions:\n",
            *_table(compared, "difference", _signed_cell),
        ]
    return "\n".join(lines) + "\n"


def _table(
    rows: list[dict[str, Any]], column: str, cell: Callable[[list[float]], str]
) -> list[str]:
    lines = [
        f"| set | language | model | captions | {' | '.join(METRICS)} |",
        "|---|---|---|--:|" + "--:|" * len(METRICS),
    ]
    for row in rows:
        cells = " | ".join(cell(row[column][metric]) for metric in METRICS)
        lines.append(
            f"| {row['set']} | {row['language']} | {row['model']} | {row['queries']} | {cells} |"
        )
    return lines


def _line(row: dict[str, Any]) -> str:
    name = f"{row['set']:12} {row['language']} {row['model']:12.40} {row['queries']:4}"
    cells = [f"{metric} {_cell(row['metrics'][metric])}" for metric in METRICS]
    if "difference" in row:
        cells += [f"diff {m} {_signed_cell(row['difference'][m])}" for m in ("R@1", "R@10")]
    return "  ".join([name, *cells])


def _cell(values: list[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"


def _signed_cell(values: list[float]) -> str:
    value, low, high = values
    return f"{value:+.3f} [{low:+.2f}, {high:+.2f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the measurements of models, and store them if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", action="append", help="again: compared with the first")
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--wallpapers", type=Path, default=WALLPAPERS)
    parser.add_argument(
        "--validation", action="store_true", help="all sets, not only the one to tune on"
    )
    parser.add_argument("--language", action="append", choices=LANGUAGES, help="default: all")
    parser.add_argument("--against", type=Path, help="stored results to compare with")
    parser.add_argument("--save", type=Path, help="file for the results")
    options = parser.parse_args(arguments)
    rows = measure(
        options.photos,
        options.wallpapers if options.validation else None,
        options.model or ["starter"],
        sets=None if options.validation else {TUNED_ON},
        languages=options.language or LANGUAGES,
    )
    if options.against:
        stored = json.loads(options.against.read_text(encoding="utf-8"))
        print(f"minus {options.against}:")
        for row in rows:
            baseline = find_baseline(row, stored)
            if baseline is not None:
                row.update(difference_from(baseline, row))
                print(_line(row))
    if options.save:
        options.save.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
