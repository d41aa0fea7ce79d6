"""Readings of queries with dates, places and people, judged by hand-written ones.

The rules of what is right are in sets/understanding.md. A reading is right if its dates, place and
people are those of the set, and its text has the same words, apart from function words.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import mmsearch
from benchmarks.quality.trips_library import Copy, save_picture
from mmsearch.core.understood import Understood

SETS = Path(__file__).with_name("sets")
LANGUAGES = ("en", "de", "fr", "es", "it")
KINDS = ("date", "place", "person", "mixed", "trap")
Z = 1.96

FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": """a an the of in on at by to from for with and as is are was were we i my our me you your he
            she it its his her their they them that this these those where when which who what at s all
            everything photo photos picture pictures pic pics image images shot shots show find can give
            please look looking""",
        "de": """der die das den dem des ein eine einen einem einer eines in im an am auf aus bei beim mit
            von vom zu zum zur für und als ist sind war waren wir ich mein meine meinen meiner unser unsere
            unserem mir uns er sie es ihr sein seine dass wo was welche welcher welches alle alles foto
            fotos bild bilder aufnahme aufnahmen zeig zeige zeigen such suche finde haben habe hat""",
        "fr": """le la les l un une des d de du au aux a à en dans sur par pour avec et que qu qui où ce c
            cette ces est sont était nous on je j mon ma mes notre nos son sa ses leur chez tout toute tous
            toutes photo photos image images cliché clichés montre montrez cherche trouve moi y""",
        "es": """el la los las lo un una unos unas de del al a en por para con y e que cual es son era mi mis
            nuestro nuestra nuestros nuestras su sus me nos yo todo toda todos todas foto fotos imagen
            imágenes enséñame muéstrame busco busca encuentra ver""",
        "it": """il lo la i gli le l un uno una di del dello della dei degli delle d a ad al allo alla ai agli
            alle in nel nello nella nei negli nelle da dal dallo dalla dai dagli dalle su sul sulla sui per
            con e ed che cui è sono era mio mia miei mie nostro nostra suo sua mi ci io tutto tutta tutti
            tutte foto immagine immagini mostrami cerco cerca trova""",
    }.items()
}
"""Words that do not count when two texts are compared, by language."""


@dataclass(frozen=True)
class Judgement:
    """A reading compared with the expected one.

    Attributes:
        language: Language of the query.
        kind: ``date``, ``place``, ``person``, ``mixed`` or ``trap``.
        query: The query.
        right: True if the filters and the words of the text are the expected ones.
        verbatim: True if the text also is the same, apart from case and spaces.
        invented: Filters (``date``, ``place``, ``people``) that the query does not have.
        different: Filters with another value than expected.
        missed: Filters that are not read.
        got: The reading, as the set writes readings.
        expected: The reading of the set.
    """

    language: str
    kind: str
    query: str
    right: bool
    verbatim: bool
    invented: tuple[str, ...]
    different: tuple[str, ...]
    missed: tuple[str, ...]
    got: Mapping[str, Any]
    expected: Mapping[str, Any]


def load_set(name: str) -> list[dict[str, Any]]:
    """Return the queries of a set: ``understanding``, ``understanding_dev`` and so on."""
    lines = (SETS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def judge(row: Mapping[str, Any], understood: Understood) -> Judgement:
    """Compare the reading of a query with that of its row in a set."""
    expected = row["understood"]
    got = {
        "after": understood.after,
        "before": understood.before,
        "months": sorted(understood.months),
        "place": understood.place,
        "near": understood.near,
        "people": list(understood.people),
        "text": understood.text,
    }
    wanted, found = _filters(expected), _filters(got)
    invented, different, missed = [], [], []
    for name, value in found.items():
        if value and not wanted[name]:
            invented.append(name)
        elif wanted[name] and not value:
            missed.append(name)
        elif value != wanted[name]:
            different.append(name)
    language = row["language"]
    words = content_words(expected["text"], language) == content_words(got["text"], language)
    right = found == wanted and words
    verbatim = right and _normalized(got["text"]) == _normalized(expected["text"])
    return Judgement(
        language,
        row["kind"],
        row["query"],
        right,
        verbatim,
        tuple(invented),
        tuple(different),
        tuple(missed),
        got,
        expected,
    )


def content_words(text: str, language: str) -> list[str]:
    """Return the words of a text that count in a comparison, without case and accents."""
    words = (word.lower() for word in re.findall(r"[^\W_]+", text))
    return [_fold(word) for word in words if word not in FUNCTION_WORDS[language]]


def _filters(reading: Mapping[str, Any]) -> dict[str, Any]:
    place = reading["place"] and (_fold(reading["place"]), bool(reading.get("near")))
    ends = reading["after"], reading["before"]
    months = tuple(reading.get("months") or ())
    return {
        "date": (*ends, months) if any(ends) or months else None,
        "place": place or None,
        "people": sorted(_fold(name) for name in reading["people"]),
    }


def _fold(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))


def _normalized(text: str) -> str:
    return " ".join(text.casefold().replace(",", " ").split())


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95% interval of a share by Wilson's formula."""
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, Z * Z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / trials / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


@contextmanager
def open_library() -> Iterator[mmsearch.Index]:
    """Open a temporary index with a picture of each person and of each place of the sets."""
    library = json.loads((SETS / "understanding_library.json").read_text(encoding="utf-8"))
    points = [(place["latitude"], place["longitude"]) for place in library["places"]]
    shown = [(point, ()) for point in points] + [(None, (name,)) for name in library["people"]]
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        for number, (point, people) in enumerate(shown):
            picture = Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            copy = Copy(f"{number}.jpg", "photo", "", "", None, point, people)
            save_picture(folder / copy.path, picture, copy, ("", ""))
        with mmsearch.open_index("readings", home=name, model="starter") as index:
            index.add_folder(folder)
            yield index


def judge_set(name: str, read: Callable[[str, date], Understood]) -> list[Judgement]:
    """Judge the readings of all queries of a set.

    Args:
        name: Name of the set.
        read: Reads a query on a day.
    """
    return [
        judge(row, read(row["query"], date.fromisoformat(row["today"]))) for row in load_set(name)
    ]


def summarize(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Return shares of right readings by language and kind, and the wrong ones."""
    return {
        "queries": len(judgements),
        "all": _share(judgements),
        "languages": {
            language: _share([j for j in judgements if j.language == language])
            for language in LANGUAGES
        },
        "kinds": {kind: _share([j for j in judgements if j.kind == kind]) for kind in KINDS},
        "verbatim": sum(j.verbatim for j in judgements),
        "invented": sum(bool(j.invented) for j in judgements),
        "different": sum(bool(j.different) for j in judgements),
        "missed": sum(bool(j.missed) for j in judgements),
        "wrong": [
            {
                "language": j.language,
                "kind": j.kind,
                "query": j.query,
                "invented": j.invented,
                "different": j.different,
                "missed": j.missed,
                "expected": j.expected,
                "got": j.got,
            }
            for j in judgements
            if not j.right
        ],
    }


def _share(judgements: Sequence[Judgement]) -> dict[str, Any]:
    right = sum(j.right for j in judgements)
    low, high = wilson_interval(right, len(judgements))
    return {"right": right, "total": len(judgements), "low": low, "high": high}
