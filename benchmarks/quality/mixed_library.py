"""A folder that mixes what people have, and questions about it whose answers are known.

Films, documents, scanned pages, signs and photographs with and without texts of people are made
from tests/photos and from the descriptions of installed packages. The film modality of
film_plugin/ gives the moments of films, so that ranking is measured and not the finding of shots.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.quality.film_plugin.film_modality import write_film
from benchmarks.quality.ocr import FONTS, SIGNS, draw_sign, load_font
from mmsearch.core.stop_words import STOP_WORDS
from mmsearch.core.types import Text, TextSource
from tests import pdf_files

SEED = 20
NUM_SIGNS, NUM_FILMS, SHOTS_PER_FILM, NUM_TITLED = len(SIGNS), 12, 9, 40
NUM_SCANS = 8
PAGE_LINES, PAGE_COLUMNS, MAX_PAGES = 45, 88, 12
PACKAGES = (
    *("pypdfium2", "tqdm", "timm", "charset-normalizer", "orjson", "regex", "defusedxml", "torch"),
    *("open_clip_torch", "threadpoolctl", "fastapi", "wcwidth", "ruff", "xxhash", "rich", "typer"),
    *("faster-whisper", "httpcore", "onnxscript", "python-dotenv", "sortedcontainers", "ftfy"),
    *("huggingface_hub", "tokenizers", "pycparser", "schemathesis", "pillow", "httpx"),
)
"""Packages whose descriptions become documents; those that are not installed are left out."""

CHARS_PER_S = 15
MAX_CUE_CHARS = 84
"""Characters of a subtitle: two lines."""

MAX_MOMENT_MS = 10_000
"""Length of a moment; a longer shot has several."""

MISHEARD = 0.17
"""Share of the words of a transcript that are wrong: that of Whisper base in the study of speech."""


@dataclass(frozen=True)
class Place:
    """Place of an answer in its file.

    Attributes:
        start_ms: Start of the time; None for a file without one.
        end_ms: End of the time.
        page: Number of the page, from 1; None for a file without pages.
    """

    start_ms: int | None = None
    end_ms: int | None = None
    page: int | None = None


@dataclass(frozen=True)
class Question:
    """A query of the study.

    Attributes:
        text: The query.
        kind: What it asks for.
        split: ``dev`` or ``test``; nothing is chosen on the latter.
        answers: Places in files that answer it, by the file's name.
    """

    text: str
    kind: str
    split: str
    answers: dict[str, tuple[Place, ...]]


@dataclass(frozen=True)
class _Moment:
    photo: Path
    start_ms: int
    end_ms: int
    texts: Sequence[Text]


@dataclass(frozen=True)
class _Cue:
    start_ms: int
    end_ms: int
    text: str


def build_library(photos: Path, folder: Path) -> tuple[list[Question], Path]:
    """Write the files, and return the questions and the table of texts by people.

    Args:
        photos: Folder of tests/photos.
        folder: Folder for the files.
    """
    rows = {row["path"]: row for row in _read(photos / "manifest.csv")}
    captions = {row["path"]: row for row in _read(photos / "captions.csv")}
    generator = random.Random(SEED)
    paths = sorted(path for path in rows if path in captions)
    generator.shuffle(paths)
    folder.mkdir(parents=True, exist_ok=True)
    questions: list[Question] = []
    shown: dict[str, dict[str, tuple[Place, ...]]] = {}
    taken = iter(paths)
    for number in range(NUM_SIGNS):
        path = next(taken)
        name = f"IMG_{number:04}.jpg"
        Image.fromarray(draw_sign(number, photos / path)).save(folder / name, quality=92)
        shown[path] = {name: (Place(),)}
        split = _split(number)
        words = SIGNS[number]
        questions.append(Question(words, "sign", split, shown[path]))
        look = " ".join(_content_words(captions[path]["en"])[:3])
        questions.append(Question(f"{look} {words}", "look and sign", split, shown[path]))
    for number in range(NUM_FILMS):
        shots = [next(taken) for _ in range(SHOTS_PER_FILM)]
        film = _make_film(number, shots, photos, rows, captions, folder, generator)
        for path, places in film[0].items():
            shown[path] = {f"film {number:02}.frames": places}
        questions += film[1]
    titles = {}
    for number in range(NUM_TITLED):
        path = next(taken)
        name = f"DSC_{number:04}.jpg"
        (folder / name).write_bytes((photos / path).read_bytes())
        shown[path] = {name: (Place(),)}
        kind = ("title", "keywords", "description")[number % 3]
        category = rows[path]["category"].replace("_", "; ")
        values = {
            "title": rows[path]["source_title"].replace("/", " "),
            "keywords": f"{rows[path]['word']}; {category}",
            "description": rows[path]["description"],
        }
        titles[name] = {kind: values[kind]}
    for number, path in enumerate(taken):
        name = f"P{number:05}.jpg"
        (folder / name).write_bytes((photos / path).read_bytes())
        shown[path] = {name: (Place(),)}
    questions += _ask_looks(shown, rows, captions)
    questions += _write_documents(folder, generator)
    table = folder / "texts.jsonl"
    lines = [json.dumps({"path": name, **own}) for name, own in titles.items()]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return questions, table


def _ask_looks(
    shown: dict[str, dict[str, tuple[Place, ...]]],
    rows: dict[str, dict[str, str]],
    captions: dict[str, dict[str, str]],
) -> Iterator[Question]:
    """Yield the questions for what is seen: captions, and single words."""
    by_word: dict[str, dict[str, tuple[Place, ...]]] = {}
    for number, (path, answers) in enumerate(shown.items()):
        is_film = any(place.start_ms is not None for (place, *_) in answers.values())
        same = captions[path]["same_as"]
        known = {**answers, **shown.get(same, {})}
        kind = "look in a film" if is_film else "look"
        yield Question(captions[path]["en"], kind, _split(number), known)
        for name, places in answers.items():
            entry = by_word.setdefault(rows[path]["word"], {})
            entry[name] = (*entry.get(name, ()), *places)
    for number, (word, answers) in enumerate(sorted(by_word.items())):
        yield Question(word, "one word", _split(number), answers)


def _make_film(
    number: int,
    shots: Sequence[str],
    photos: Path,
    rows: dict[str, dict[str, str]],
    captions: dict[str, dict[str, str]],
    folder: Path,
    generator: random.Random,
) -> tuple[dict[str, tuple[Place, ...]], list[Question]]:
    """Write a film in which a voice describes each shot, somewhat before or after it is seen."""
    is_subtitled = number % 4 < 2
    split = _split(number)
    lead_ms = generator.choice([-3000, 0, 3000])
    name = f"film {number:02}.frames"
    times: dict[str, Place] = {}
    cues: list[_Cue] = []
    sentences: list[tuple[str, int]] = []
    clock = 4000
    for path in shots:
        spoken_at = max(clock + lead_ms, 0)
        started_at = clock
        for sentence in re.split(r"(?<=[.!?])\s+", rows[path]["description"]):
            sentences.append((sentence, len(cues)))
            for line in _wrap(sentence, MAX_CUE_CHARS):
                length_ms = 1000 * len(line) // CHARS_PER_S
                cues.append(_Cue(spoken_at, spoken_at + length_ms, line))
                spoken_at += length_ms
            spoken_at += 400
        clock = max(spoken_at - lead_ms, clock + 5000)
        times[path] = Place(started_at, clock)
    sentences.append(("", len(cues)))
    questions = []
    for (sentence, first), (_, last) in pairwise(sentences):
        chosen = _choose_words(sentence, 3, generator)
        if not chosen:
            continue
        spoken = [cue for cue in cues[first:last] if any(w in _words(cue.text) for w in chosen)]
        place = Place(spoken[0].start_ms, spoken[-1].end_ms)
        query = " ".join(chosen)
        questions.append(Question(query, "spoken line", split, {name: (place,)}))
    for path, place in times.items():
        line = _choose_words(rows[path]["description"], 2, generator)
        look = _content_words(captions[path]["en"])[:3]
        query = " ".join([*look, *line])
        questions.append(Question(query, "look and line", split, {name: (place,)}))
    moments = []
    for path, place in times.items():
        start, end = place.start_ms or 0, place.end_ms or 0
        count = -(-(end - start) // MAX_MOMENT_MS)
        bounds = [start + (end - start) * step // count for step in range(count + 1)]
        for begin, stop in pairwise(bounds):
            first_ms = 0 if not moments else begin
            own = [cue for cue in cues if first_ms <= cue.start_ms < stop]
            texts = [_as_text(cue, generator, is_subtitled=is_subtitled) for cue in own]
            moments.append(_Moment(photos / path, begin, stop, texts))
    write_film(folder / name, moments)
    return {path: (place,) for path, place in times.items()}, questions


def _as_text(cue: _Cue, generator: random.Random, *, is_subtitled: bool) -> Text:
    if is_subtitled:
        return Text(
            "subtitle", cue.text, "en", TextSource.DOCUMENT, None, None, cue.start_ms, cue.end_ms
        )
    heard = [
        generator.choice(("and", "the", "there", "form", "made")) if wrong else word
        for word in cue.text.split()
        for wrong in [generator.random() < MISHEARD]
    ]
    return Text(
        "transcript",
        " ".join(heard),
        "en",
        TextSource.SPEECH,
        "made for the study",
        None,
        cue.start_ms,
        cue.end_ms,
    )


def _write_documents(folder: Path, generator: random.Random) -> Iterator[Question]:
    """Write documents and scanned pages, and yield the questions about them."""
    scans: list[tuple[str, list[str]]] = []
    for number, package in enumerate(PACKAGES):
        try:
            description = importlib.metadata.metadata(package).get_payload()
        except importlib.metadata.PackageNotFoundError:
            continue
        pages = _paginate(str(description))
        name = f"{package}.pdf"
        for page in [pages.pop()] if number % 3 == 0 and len(pages) > 3 else []:
            scans.append((f"scan {len(scans)}.jpg", page))
        if not pages:
            continue
        drawn = [pdf_files.words(*map(_escape, lines)) for lines in pages]
        (folder / name).write_bytes(pdf_files.pdf(drawn))
        for page_number in sorted(generator.sample(range(len(pages)), min(4, len(pages)))):
            query = _choose_query(pages[page_number], generator)
            if query:
                answers = {name: (Place(page=page_number + 1),)}
                yield Question(query, "page", _split(number), answers)
    for number, (name, lines) in enumerate(scans[:NUM_SCANS]):
        _draw_page(lines, FONTS[number % 2]).save(folder / name, quality=85)
        for _ in range(3):
            if query := _choose_query(lines, generator):
                yield Question(query, "scan", _split(number), {name: (Place(),)})


def _choose_query(lines: Sequence[str], generator: random.Random) -> str:
    """Return three words of a sentence of a page."""
    sentences = [
        sentence
        for sentence in re.split(r"(?<=[.!?:])\s+", " ".join(lines))
        if len(_content_words(sentence)) >= 4
    ]
    return " ".join(_choose_words(generator.choice(sentences), 3, generator)) if sentences else ""


def _paginate(description: str) -> list[list[str]]:
    plain = re.sub(r"<[^>]*>|!?\[([^\]]*)\]\([^)]*\)|https?://\S+|[`*#|=~]+", r"\1 ", description)
    plain = plain.encode("latin-1", "ignore").decode("latin-1")
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", plain):
        lines += [*_wrap(" ".join(paragraph.split()), PAGE_COLUMNS), ""]
    pages = [lines[start : start + PAGE_LINES] for start in range(0, len(lines), PAGE_LINES)]
    return [page for page in pages if len("".join(page)) > 600][:MAX_PAGES]


def _draw_page(lines: Sequence[str], font_name: str) -> Image.Image:
    page = Image.new("L", (1240, 1754), 246)
    drawing, font = ImageDraw.Draw(page), load_font(font_name, 22)
    for row, line in enumerate(lines):
        drawing.text((90, 90 + 34 * row), line, font=font, fill=35)
    return page.rotate(1, Image.Resampling.BICUBIC, fillcolor=246)


def _escape(line: str) -> str:
    return re.sub(r"([\\()])", r"\\\1", line)


def _wrap(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word[:width])
    return lines


def _choose_words(sentence: str, count: int, generator: random.Random) -> list[str]:
    """Return words of a sentence that mean something, in its order; none if there are too few."""
    words = _content_words(sentence)
    if len(words) < count + 1:
        return []
    return [words[place] for place in sorted(generator.sample(range(len(words)), count))]


def _content_words(text: str) -> list[str]:
    words = dict.fromkeys(_words(text))
    return [word for word in words if len(word) > 3 and word not in STOP_WORDS]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.casefold())


def _split(number: int) -> str:
    return ("dev", "test")[number % 2]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
