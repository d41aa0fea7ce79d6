"""Reader of captioned sets: queries and the pictures that are relevant to each.

A set may also name the moment of a film or the page of a document that answers a query.

A picture is named by its path in the set. A hit is that picture if its path is the named one below
the folder of the set's file. If no picture matches in this way, a hit is the picture with the
longest name whose components are the last components of the hit's path.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from mmsearch.core.errors import Hint, SourceError
from mmsearch.core.files import os_error_reason
from mmsearch.core.globs import normalize_path
from mmsearch.core.text_tables import (
    MAX_ROW_CHARS,
    normalize_name,
    open_text,
    read_csv,
    read_json_lines,
)

_PATH_COLUMNS: Final = ("path", "paths", "file", "filename", "file_name", "image", "image_name")
_CAPTION_COLUMNS: Final = ("caption", "text", "comment", "description", "title")
_CLASS_COLUMNS: Final = ("class", "label", "word", "category")
_PLACE_COLUMNS: Final = ("start_s", "end_s", "page")
_FLICKR_LINE: Final = re.compile(r"(?P<path>[^\t]+?)#\d+\t(?P<caption>.+)")
_RENAME_HINT: Final = "or rename that column."
PATH_SEPARATOR: Final = "|"
KARPATHY_SPLIT: Final = "test"
ALL_SPLITS: Final = "all"


@dataclass(frozen=True)
class Place:
    """Place of an answer in its file.

    Attributes:
        start_s: Start of a moment, in seconds; None for a page.
        end_s: End of the moment; equal to the start if the set names none.
        page: Number of a page, from 1; None for a moment.
    """

    start_s: float | None = None
    end_s: float | None = None
    page: int | None = None

    def contains(self, start_ms: int | None, page: int | None, within_s: float) -> bool:
        """Return True if a hit is here.

        Args:
            start_ms: Start of the hit's moment; None for a hit without a time.
            page: Page of the hit; None for a hit that is no page.
            within_s: Seconds by which the hit may start too early or too late.
        """
        if self.start_s is None or self.end_s is None:
            return page == self.page
        if start_ms is None:
            return False
        # Times are compared in milliseconds, so that 0.1 + 5 is exactly 5.1.
        margin = round(1000 * within_s)
        first, last = round(1000 * self.start_s), round(1000 * self.end_s)
        return first - margin <= start_ms <= last + margin


@dataclass(frozen=True)
class Qrel:
    """A query and what is relevant to it.

    Attributes:
        query: The query.
        relevant: Names of the relevant pictures.
        places: Places of the answers by name; a name without a place is relevant as a whole.
    """

    query: str
    relevant: frozenset[str]
    places: Mapping[str, frozenset[Place]] = field(default_factory=dict)

    def is_placed(self, name: str, start_ms: int | None, page: int | None, within_s: float) -> bool:
        """Return True if a hit is a relevant picture at one of its places; see `Place`."""
        if name not in self.relevant:
            return False
        places = self.places.get(name)
        return not places or any(place.contains(start_ms, page, within_s) for place in places)


def read_qrels(
    path: Path,
    query_column: str | None = None,
    template: str = "{}",
    split: str | None = None,
) -> list[Qrel]:
    """Read a captioned set.

    Supported formats: CSV, TSV and JSON Lines with columns ``query`` and ``path`` (or ``paths``,
    joined by "|"), or ``path`` and a caption (each caption is a query for its picture), or ``path``
    and a class (each class is a query for all its pictures); the caption files of COCO (JSON with
    ``images`` and ``annotations``), of Karpathy's splits (``dataset_coco.json``,
    ``dataset_flickr30k.json``) and of Flickr30k (``image.jpg#0<TAB>caption``, or its CSV).

    Tables may have columns ``start_s`` and ``end_s`` (the moment of a film or sound that answers
    the query) or ``page`` (the page of a document); empty cells name none.

    Args:
        path: The file.
        query_column: Name of the column of queries; None for the names above.
        template: Text of a query; ``{}`` is replaced by the value of the column.
        split: Split of a Karpathy dataset: "train", "val", "test", "restval" or "all"; None for
            "test".

    Returns:
        One `Qrel` for each distinct query, in the order of the file.

    Raises:
        SourceError: The file cannot be read, lacks a required column or the split, has no query
            with a relevant picture, or names an impossible place; or the template does not contain
            ``{}`` exactly once.
    """
    if template.count("{}") != 1:
        raise SourceError(
            f"The template {template!r} must contain {{}} exactly once.",
            "Write {} where the query goes.",
        )
    relevant: dict[str, dict[str, set[Place]]] = defaultdict(dict)
    for query, pictures, place in _read_pairs(path, query_column, split):
        text = " ".join(query.split())
        names = {_normalize_path(name) for name in pictures} - {""}
        if text:
            for name in names:
                places = relevant[template.replace("{}", text)].setdefault(name, set())
                places.update({place} if place else ())
    qrels = [
        Qrel(
            query,
            frozenset(named),
            {name: frozenset(places) for name, places in named.items() if places},
        )
        for query, named in relevant.items()
    ]
    if not qrels:
        raise SourceError(f"{path} has no query with a relevant picture.")
    return qrels


class HitMatcher:
    """Matches hits with the pictures of a captioned set.

    Args:
        qrels: The queries and relevant pictures of the set.
        folder: Folder of the set's file.
    """

    def __init__(self, qrels: Iterable[Qrel], folder: Path) -> None:
        names = {name for qrel in qrels for name in qrel.relevant}
        base = folder.absolute()
        self._by_path = {normalize_path(str(base / name)): name for name in names}
        self._by_name: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        for name in sorted(names):
            parts = PurePosixPath(name).parts
            self._by_name[parts[-1]].append((parts, name))
        for entries in self._by_name.values():
            entries.sort(key=lambda item: -len(item[0]))

    def match(self, hit: Path) -> str | None:
        """Return the name of a hit in the set; None if the set does not contain it."""
        hit = Path(normalize_path(str(hit)))
        exact_name = self._by_path.get(str(hit))
        if exact_name is not None:
            return exact_name
        for parts, name in self._by_name.get(hit.name, ()):
            if hit.parts[-len(parts) :] == parts:
                return name
        return None

    def match_all(self, hits: Sequence[Path]) -> list[str]:
        """Return the names of hits, in order; a hit that is not in the set gets its path."""
        return [self.match(hit) or str(hit) for hit in hits]


# --- formats ---

_Pair = tuple[str, list[str], Place | None]
"""A query, the paths of relevant pictures, and their place."""


def _read_pairs(path: Path, query_column: str | None, split: str | None) -> Iterator[_Pair]:
    try:
        if path.suffix.lower() == ".json":
            yield from _read_json(path, split)
        elif split is not None:
            raise SourceError(
                f"{path} has no splits.",
                Hint("Leave out {}, or use a Karpathy dataset (.json).", "split", "--split"),
            )
        elif path.suffix.lower() in (".jsonl", ".ndjson"):
            with open_text(path) as (file, _):
                yield from _pairs_from_rows(path, read_json_lines(path, file), query_column)
        else:
            yield from _read_text_table(path, query_column)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {os_error_reason(error)}.") from error


def _read_json(path: Path, split: str | None) -> Iterator[_Pair]:
    try:
        with open_text(path) as (file, _):
            document = json.load(file)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{path} is not valid JSON.", "A JSON Lines file must end in .jsonl."
        ) from error
    images = document.get("images") if isinstance(document, dict) else None
    if isinstance(images, list) and any(
        isinstance(image, dict) and "sentences" in image for image in images
    ):
        yield from _read_karpathy(path, images, split or KARPATHY_SPLIT)
    elif split is not None:
        raise SourceError(f"{path} has no splits.", Hint("Leave out {}.", "split", "--split"))
    else:
        yield from _read_coco(path, document)


def _read_karpathy(path: Path, images: list[Any], split: str) -> Iterator[_Pair]:
    try:
        splits = {str(image["split"]) for image in images}
        if split not in splits | {ALL_SPLITS}:
            raise SourceError(
                f"{path} has no split {split!r}.",
                Hint(
                    f"Choose one with {{}}: {', '.join(sorted(splits))} or {ALL_SPLITS}.",
                    "split=...",
                    "--split",
                ),
            )
        files = [str(image["filename"]) for image in images]
        # The authors' folders may differ from the user's, so they are kept only if names repeat.
        are_unique = len(set(files)) == len(files)
        pairs = [
            (
                str(sentence["raw"]),
                [name if are_unique else f"{image.get('filepath', '')}/{name}"],
                None,
            )
            for image, name in zip(images, files, strict=True)
            if split in (ALL_SPLITS, image["split"])
            for sentence in image["sentences"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{path} is not a Karpathy dataset: its images lack filename, split or sentences.",
            "Check how the file was made.",
        ) from error
    yield from pairs


def _read_coco(path: Path, document: Any) -> Iterator[_Pair]:
    try:
        names = {image["id"]: str(image["file_name"]) for image in document["images"]}
        pairs = [
            (str(annotation["caption"]), [names[annotation["image_id"]]], None)
            for annotation in document["annotations"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} is neither a COCO caption file, because it lacks images or annotations, nor a "
            "Karpathy dataset, because its images have no sentences.",
            "If it is a JSON Lines file, its name must end in .jsonl.",
        ) from error
    yield from pairs


def _read_text_table(path: Path, query_column: str | None) -> Iterator[_Pair]:
    with open_text(path) as (file, _):
        first = file.readline(MAX_ROW_CHARS)
        file.seek(0)
        if _FLICKR_LINE.fullmatch(first.strip()):
            for number, line in enumerate(file, start=1):
                match = _FLICKR_LINE.fullmatch(line.strip())
                if match:
                    yield match["caption"], [match["path"]], None
                elif line.strip():
                    raise SourceError(f"{path}, line {number} is not 'image.jpg#0<TAB>caption'.")
            return
        known = {"query", *_PLACE_COLUMNS, *_PATH_COLUMNS, *_CAPTION_COLUMNS, *_CLASS_COLUMNS}
        known.add(normalize_name(query_column or "query"))
        table = read_csv(path, file, known)
        rows = ((number, dict(zip(table.columns, row, strict=False))) for number, row in table.rows)
        yield from _pairs_from_rows(path, rows, query_column)


def _pairs_from_rows(
    path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]], query_column: str | None
) -> Iterator[_Pair]:
    for number, row in rows:
        columns = {normalize_name(str(name)): value for name, value in row.items() if name}
        query_columns = (
            (normalize_name(query_column),)
            if query_column
            else ("query", *_CAPTION_COLUMNS, *_CLASS_COLUMNS)
        )
        query = next((columns[name] for name in query_columns if name in columns), None)
        pictures = next((columns[name] for name in _PATH_COLUMNS if name in columns), None)
        if query is None or pictures is None:
            missing = "of paths" if pictures is None else f"named {' or '.join(query_columns)}"
            raise SourceError(
                f"{path}, line {number}: there is no column {missing}; the columns are "
                f"{', '.join(columns) or 'none'}.",
                Hint("Name the column of queries with {}.", "query_column=...", "--query-column"),
            )
        place = _parse_place(f"{path}, line {number}", columns)
        for text in query if isinstance(query, list) else [query]:
            yield str(text), _split_paths(pictures), place


def _parse_place(row: str, columns: Mapping[str, Any]) -> Place | None:
    """Return the place that a row names, if any."""
    start, end, page = (
        _parse_number(row, name, columns[name]) if columns.get(name) not in (None, "") else None
        for name in _PLACE_COLUMNS
    )
    if start is None and end is None and page is None:
        return None
    hint = f"Name a moment with start_s, and end_s if it has one, or a page, {_RENAME_HINT}"
    if page is not None:
        if start is not None or end is not None:
            raise SourceError(f"{row}: it has both a time and a page.", hint)
        if page < 1 or page != int(page):
            raise SourceError(f"{row}: page {page:g} does not exist; pages count from 1.", hint)
        return Place(page=int(page))
    if start is None:
        raise SourceError(f"{row}: it has end_s without start_s.", hint)
    end = start if end is None else end
    if not 0 <= start <= end:
        raise SourceError(f"{row}: {start:g} to {end:g} s is not a span of time.", hint)
    return Place(start, end)


def _parse_number(row: str, name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise SourceError(
            f"{row}: {name} is {str(value)[:40]!r}, not a number.",
            f"Write seconds or a page number there, {_RENAME_HINT}",
        )
    return number


def _split_paths(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    return str(value).split(PATH_SEPARATOR)


def _normalize_path(name: str) -> str:
    # Names are compared as text: macOS and Windows write the same letters in other bytes.
    path = normalize_path(name.strip().replace("\\", "/"))
    return str(PurePosixPath(path)) if path else ""
