"""Suggestions: the share that has a right hit, and how long an answer takes in large libraries.

A library of the photographs of tests/photos is asked for the suggestions of each first letter and of
each two letters. Each suggestion is then searched for; it is right if a picture on the first page of
hits is labelled with it (sets/look_labels.csv, written from the captions of the photographs) or has
it in its own texts.
"""

from __future__ import annotations

import csv
import itertools
import re
import shutil
import sqlite3
import string
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

import mmsearch
from benchmarks.speed.compare import machine
from mmsearch.catalog.query_words import compare_words, fold_case
from mmsearch.core.identity import Identity
from mmsearch.core.suggestions import Suggestion
from mmsearch.core.types import EncoderSpec, FusionSpec
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout

HITS = 10
LIMIT = 50
SIZES = (100_000, 1_000_000)
VOCABULARY = 60_000
TAGS, PEOPLE, PLACES = 3_000, 400, 1_500
ROUNDS = 5
PREFIXES = ("", "s", "c", "st", "be", "img", "str", "beac", "holiday", "red s", "a photo of the c")
LABELS = Path(__file__).with_name("sets") / "look_labels.csv"
PREFACE = """\
## Suggestions

A suggestion is right if a picture among the first ten hits of a search for it is labelled with it, or has it in its own
texts; with the exact 95% interval. All suggestions of each letter and of each two letters are judged. *no texts*: the
photographs of tests/photos alone, so that all suggestions are words that pictures look like (`starter`). The least
confidence was chosen on the half *dev* of these photographs and on wallpapers from Debian packages, so that *no texts, test
half* is the unbiased line, but a short one. *titles and keywords*: the same photographs with a table of their titles, words
and categories.
"""
SPEED_PREFACE = """\
CPU times of one answer in synthetic libraries, in which each picture has a file name, a third a caption of eight words, and
half keywords, people or a place: the slowest of {prefixes} kinds of prefixes, from none to three words, each by its median
of {rounds} rounds in one process. *update*: what a run takes to collect the words again.
"""


def measure(photos: Path) -> dict[str, Any]:
    """Measure the quality on photographs and the speed on synthetic catalogs."""
    with tempfile.TemporaryDirectory() as name:
        quality = list(_judge_libraries(photos, Path(name)))
    return {"machine": machine(), "quality": quality, "speed": [_time(size) for size in SIZES]}


def page(results: dict[str, Any]) -> str:
    """Return the results as a section of the page."""
    lines = [PREFACE]
    lines += [
        "| library | pictures | kind | suggestions | right | wrong ones |",
        "|---|--:|---|--:|--:|---|",
    ]
    lines += [
        f"| {row['library']} | {row['pictures']} | {row['kind']} | {row['n']} |"
        f" {row['share']:.2f} [{row['low']:.2f}, {row['high']:.2f}] | {', '.join(row['wrong'])} |"
        for row in results["quality"]
    ]
    lines += ["", SPEED_PREFACE.format(prefixes=len(PREFIXES), rounds=ROUNDS)]
    lines += ["| pictures | words | median ms | slowest ms | slowest prefix | update s |"]
    lines += ["|--:|--:|--:|--:|---|--:|"]
    lines += [
        f"| {row['pictures']:,} | {row['words']:,} | {row['median_ms']:.1f} | {row['worst_ms']:.1f}"
        f" | {row['worst_prefix'] or 'none'} | {row['update_s']:.1f} |"
        for row in results["speed"]
    ]
    return "\n".join([*lines, ""])


def _judge_libraries(photos: Path, folder: Path) -> Iterator[dict[str, Any]]:
    rows = _read(photos / "manifest.csv")
    splits = {row["path"]: row["split"] for row in _read(photos / "captions.csv")}
    labels = {
        row["word"]: {f"{name}.jpg" for name in row["pictures"].split()} for row in _read(LABELS)
    }
    halves = {
        "no texts": rows,
        "no texts, test half": [row for row in rows if splits[row["path"]] == "test"],
    }
    for name, chosen in halves.items():
        with _library(photos, chosen, folder / name, with_texts=False) as index:
            yield from _judge(name, index, labels, {})
    texts = {Path(row["path"]).name: _texts(row) for row in rows}
    with _library(photos, rows, folder / "texts", with_texts=True) as index:
        yield from _judge("titles and keywords", index, labels, texts)


def _texts(row: Mapping[str, str]) -> dict[str, str]:
    category = row["category"].replace("_", "; ").replace("/", "; ")
    return {"title": row["source_title"], "keywords": f"{row['word']}; {category}"}


@contextmanager
def _library(
    photos: Path, rows: Sequence[Mapping[str, str]], folder: Path, *, with_texts: bool
) -> Iterator[mmsearch.Index]:
    """Index photographs, with a table of their texts or without any text."""
    (folder / "photos").mkdir(parents=True)
    table = folder / "texts.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "title", "keywords"])
        writer.writeheader()
        for row in rows:
            name = Path(row["path"]).name
            shutil.copy(photos / row["path"], folder / "photos" / name)
            writer.writerow({"path": name, **_texts(row)})
    with mmsearch.open_index("suggestions", home=folder / "home", model="starter") as index:
        index.add_folder(folder / "photos", captions=table if with_texts else None)
        yield index


def _judge(
    library: str,
    index: mmsearch.Index,
    labels: Mapping[str, set[str]],
    texts: Mapping[str, Mapping[str, str]],
) -> Iterator[dict[str, Any]]:
    found: dict[str, Suggestion] = {}
    for prefix in ["", *map("".join, _prefixes())]:
        found.update((one.text, one) for one in index.suggest(prefix, LIMIT))
    looks = {text for text, one in found.items() if one.kind == "look"}
    right = {
        text
        for text in found
        if any(
            Path(hit.path).name in labels.get(text, ()) or _holds(texts.get(hit.path.name), text)
            for hit in index.search(text, HITS)
        )
    }
    for kind, chosen in (("looks", looks), ("words of texts", found.keys() - looks)):
        if chosen:
            good = len(chosen & right)
            interval = binomtest(good, len(chosen)).proportion_ci()
            yield {
                "library": library,
                "pictures": index.status().pictures,
                "kind": kind,
                "n": len(chosen),
                "share": good / len(chosen),
                "low": float(interval.low),
                "high": float(interval.high),
                "wrong": sorted(chosen - right)[:20],
            }


def _prefixes() -> Iterator[tuple[str, ...]]:
    yield from itertools.product(string.ascii_lowercase)
    yield from itertools.product(string.ascii_lowercase, repeat=2)


def _holds(texts: Mapping[str, str] | None, words: str) -> bool:
    """Return True if texts hold all words, in any form."""
    held = [fold_case(word) for text in (texts or {}).values() for word in re.findall(r"\w+", text)]
    wanted = [fold_case(word) for word in re.findall(r"\w+", words)]
    return all(any(compare_words(word, other) for other in held) for word in wanted)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# --- speed ---


def _time(pictures: int) -> dict[str, Any]:
    """Return the times of suggestions in a synthetic catalog."""
    with tempfile.TemporaryDirectory() as name:
        layout = IndexLayout.for_name(Path(name), "default")
        fill_catalog(layout, pictures)
        with catalogs.open_write(layout, 0, create=False) as catalog:
            started_s = time.process_time()
            words = sorted(catalog.suggestions.collect(), key=lambda word: -word.count)
            state = catalog.suggestions.current_state("", "")
            looks = [
                replace(one, word=f"{one.word}x", count=0, confidence=0.8) for one in words[:99]
            ]
            catalog.suggestions.save([*words, *looks], state)
            update_s = time.process_time() - started_s
        with mmsearch.open_index(home=Path(name)) as index:
            index.suggest("a")
            times_ms = {prefix: _median_ms(index, prefix) for prefix in PREFIXES}
    worst = max(times_ms, key=lambda prefix: times_ms[prefix])
    return {
        "pictures": pictures,
        "words": len(words),
        "median_ms": float(np.median(list(times_ms.values()))),
        "worst_ms": times_ms[worst],
        "worst_prefix": worst,
        "times_ms": times_ms,
        "update_s": update_s,
    }


def _median_ms(index: mmsearch.Index, prefix: str) -> float:
    times_s = []
    for _ in range(ROUNDS):
        started_s = time.thread_time()
        index.suggest(prefix)
        times_s.append(time.thread_time() - started_s)
    return float(np.median(times_s)) * 1e3


def fill_catalog(layout: IndexLayout, pictures: int) -> None:
    """Fill a catalog with pictures that have file names, and some of them other texts."""
    rng = np.random.default_rng(0)
    english = (Path(mmsearch.__file__).parent / "core/language_data/english.txt").read_text()
    words = rng.permutation([word for word in english.split() if len(word) > 2])[:VOCABULARY]
    with catalogs.open_write(layout, 0, create=True) as catalog:
        catalog.ensure_root(b"/photos")
        catalog.set_identity(Identity(EncoderSpec("none", 512, "", {}, 1, 1), FusionSpec(), "auto"))
    connection = sqlite3.connect(layout.catalog)
    ids = range(1, pictures + 1)
    with connection:
        connection.execute(
            "INSERT INTO segments VALUES (1, 'segments/000001.vectors', 1, ?, ?, 512, 1)",
            ["0" * 64, pictures],
        )
        connection.executemany(
            "INSERT INTO contents (id, digest, kind) VALUES (?, ?, 'image')",
            ((number, number.to_bytes(32, "big")) for number in ids),
        )
        connection.executemany(
            "INSERT INTO items (id, content_id, width, height, format) VALUES (?, ?, 1, 1, 'JPEG')",
            ((number, number) for number in ids),
        )
        connection.executemany(
            "INSERT INTO assets (source_id, key, size, mtime_ns, checked_ns, digest, content_id)"
            " VALUES (1, ?, 1000, 1, 9, ?, ?)",
            ((b"IMG_%d.jpg" % number, number.to_bytes(32, "big"), number) for number in ids),
        )
        _insert_texts(connection, words, pictures, rng)
        connection.execute("INSERT INTO generations (created_at) VALUES ('')")
    connection.close()
    # It is that of the empty catalog.
    catalogs.drop_checksum(layout)


def _insert_texts(
    connection: sqlite3.Connection, words: Any, pictures: int, rng: np.random.Generator
) -> None:
    # Frequencies by Zipf's law: the logarithms of the ranks are uniform.
    ranks = np.exp(rng.uniform(0, np.log(len(words)), (pictures, 8))).astype(np.int64) - 1
    names = [
        f"{word} {other}".title() for word, other in zip(words[::2], words[1::2], strict=False)
    ]
    pools = {
        "keywords": (words[:TAGS], 3),
        "people": (names[:PEOPLE], 1),
        "place": (names[-PLACES:], 1),
    }
    texts, tags = [], []
    for number in range(1, pictures + 1):
        texts.append((number, "filename", f"2024 trip{number // 500} IMG {number}", "filename"))
        if number % 3 == 0:
            texts.append((number, "caption", " ".join(words[ranks[number - 1]]), "sidecar"))
        if number % 2 == 0:
            kind = list(pools)[number // 2 % 3]
            pool, count = pools[kind]
            chosen = [
                str(pool[n])
                for n in np.exp(rng.uniform(0, np.log(len(pool)), count)).astype(np.int64) - 1
            ]
            texts.append((number, kind, "; ".join(chosen), "metadata"))
            tags += [(len(texts), number, kind, one.casefold()) for one in sorted(set(chosen))]
    connection.executemany(
        "INSERT INTO texts (item_id, kind, text, source) VALUES (?, ?, ?, ?)", texts
    )
    connection.executemany(
        "INSERT INTO tags (text_id, item_id, kind, tag) VALUES (?, ?, ?, ?)", tags
    )
