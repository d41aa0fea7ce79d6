"""Spoken queries: what is misheard, what it costs, and what is found.

Descriptions of photographs of tests/photos are spoken by the voices of flite, which are synthetic:
people are understood better. The hits of the transcripts are compared with those of the typed
descriptions, by the look alone.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import mmsearch
from mmsearch import Settings

VOICES = ("slt", "rms", "awb")
MODELS = (("base", None), ("base", "en"), ("tiny.en", "en"))
"""Models, and the language that they are told; None: detected."""

DEPTH = 10
QUERIES = {
    "a polar bear on the ice": "polar bear",
    "an owl with big eyes": "owl",
    "a horse running in a field": "horse",
    "the eiffel tower in paris": "eiffel",
    "a giraffe eating leaves": "giraffe",
    "a black and white panda": "panda",
    "the statue of liberty": "statue of liberty",
    "a red parrot on a branch": "macaw",
    "a yellow duck swimming in the water": "duck",
    "the great pyramid in the desert": "great pyramid",
    "a kangaroo standing on the grass": "kangaroo",
    "sheep on a green meadow": "sheep",
}
"""Descriptions, and what the word of a relevant photograph contains."""


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Return the errors, the processor time and the hits of each model."""
    if shutil.which("flite") is None:
        raise SystemExit("The voices need flite: apt-get install flite")
    with (photos / "manifest.csv").open(encoding="utf-8") as file:
        words = {Path(row["path"]).name: row["word"].lower() for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as folder:
        home, sounds = Path(folder) / "indexes", _speak(Path(folder))
        settings = Settings(home=home, cache=cache, model="starter", texts="none")
        with mmsearch.open_index(settings=settings) as index:
            index.add_folder(photos)
            ranks = [_rank(index, query, part, words) for query, part in QUERIES.items()]
        rows = [{"model": None, "language": None, "recordings": len(ranks), **_found(ranks)}]
        for model, language in MODELS:
            spoken = settings.with_flags(speech_model=model)
            with mmsearch.open_index(settings=spoken) as index:
                rows.append(_measure_model(index, sounds, words, model, language))
    return {"voices": VOICES, "rows": rows}


def _speak(folder: Path) -> list[tuple[str, Path]]:
    """Return each description with a recording of it, for each voice."""
    sounds = []
    for number, query in enumerate(QUERIES):
        for voice in VOICES:
            path = folder / f"{number}-{voice}.wav"
            subprocess.run(["flite", "-voice", voice, "-t", query, "-o", path], check=True)
            sounds.append((query, path))
    return sounds


def _measure_model(
    index: mmsearch.Index,
    sounds: list[tuple[str, Path]],
    words: dict[str, str],
    model: str,
    language: str | None,
) -> dict[str, Any]:
    start_s = time.process_time()
    index.listen(sounds[0][1], language=language)
    first_s = time.process_time() - start_s
    errors, count, seconds, ranks = 0, 0, [], []
    for query, path in sounds:
        start_s = time.process_time()
        transcript = index.listen(path, language=language)
        seconds.append(time.process_time() - start_s)
        spoken = re.sub(r"[^\w\s']", "", transcript.text.lower()).split()
        errors += word_errors(query.split(), spoken)
        count += len(query.split())
        ranks.append(_rank(index, transcript, QUERIES[query], words))
    return {
        "model": model,
        "language": language,
        "recordings": len(sounds),
        "word_errors": errors / count,
        "first_s": first_s,
        "query_s": sorted(seconds)[len(seconds) // 2],
        **_found(ranks),
    }


def word_errors(words: list[str], heard: list[str]) -> int:
    """Return the number of words to insert, delete or replace."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(words, start=1):
        previous, row[0] = row[:], number
        for place, other in enumerate(heard, start=1):
            row[place] = min(
                previous[place] + 1, row[place - 1] + 1, previous[place - 1] + (word != other)
            )
    return row[-1]


def _rank(
    index: mmsearch.Index, query: str | mmsearch.Transcript, part: str, words: dict[str, str]
) -> int | None:
    hits = index.search(query, k=DEPTH, mode="vector", fold=False, literal=True)
    return next((hit.rank for hit in hits if part in words[hit.path.name]), None)


def _found(ranks: list[int | None]) -> dict[str, int]:
    return {
        "first": sum(rank == 1 for rank in ranks),
        "among_ten": sum(rank is not None for rank in ranks),
    }


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = [
        "## Spoken queries\n",
        f"{len(QUERIES)} descriptions, each spoken by {len(results['voices'])} voices of flite, which "
        "are synthetic, searched by the look alone in the 212\nphotographs with the starter. *Words "
        "wrong*: words to insert, delete or replace, as a share of those spoken. Times are processor\n"
        "time, of the first query with the loading of the model, and the median of the others.\n",
        "| model | language | queries | words wrong | first hit right | among the first ten | first "
        "query | a query |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in results["rows"]:
        heard = (
            f"{row['word_errors']:.1%} | {row['first']} | {row['among_ten']} "
            f"| {row['first_s']:.1f} s | {row['query_s']:.2f} s |"
            if row["model"]
            else f"| {row['first']} | {row['among_ten']} | | |"
        )
        language = row["language"] or ("detected" if row["model"] else "")
        lines.append(f"| {row['model'] or 'typed'} | {language} | {row['recordings']} | {heard}")
    return "\n".join(lines) + "\n"
