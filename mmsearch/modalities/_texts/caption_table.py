"""Read caption tables: CSV, JSON or Parquet, with any number of rows per picture."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TextIO

from mmsearch.core.columnar import check_readable, read_rows
from mmsearch.core.errors import SourceError
from mmsearch.core.files import os_error_reason
from mmsearch.core.text_tables import normalize_name, open_text, read_csv, read_json_lines
from mmsearch.core.texts import KIND_BY_COLUMN, LANGUAGE_COLUMNS, column_kind, make_cell_texts
from mmsearch.modalities._texts.caption_matching import CaptionTable

MAX_JSON_BYTES: Final = 1 << 28
"""Maximum size of a JSON document, in bytes; JSON Lines may be longer."""

_PATH_COLUMNS: Final = (
    *("path", "sourcefile", "file_path", "filepath", "image_path", "img_path", "full_path"),
    *("relative_path", "file", "filename", "file_name", "image", "image_file", "image_filename"),
    *("image_name", "img", "img_name", "photo", "picture", "image_id", "img_id"),
    *("pfad", "dateipfad", "datei", "dateiname", "bild", "fichier", "nom_du_fichier", "archivo"),
)
_FOLDER_COLUMNS: Final = ("folder", "directory", "dir", "ordner", "verzeichnis", "dossier")
_CSV_SUFFIXES: Final = (".csv", ".tsv", ".tab", ".txt")
_WORKBOOK_SUFFIXES: Final = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")

Row = tuple[int, Sequence[str], Sequence[Any]]
"""Number of a row, its normalized column names, and its values."""


def read_captions(path: Path, folder: bytes) -> CaptionTable:
    """Read the captions of the pictures below a folder.

    A column ``path`` (or file, filename, image) names the picture; see
    `mmsearch.modalities._texts.caption_matching` for how. The columns caption, text, description,
    title, keywords and tags contain texts; the column language contains their language.

    Args:
        path: Path of a .csv, .tsv, .json, .jsonl or .parquet file.
        folder: Absolute path of the folder.

    Raises:
        SourceError: The table cannot be read or lacks a required column.
        MissingExtraError: pyarrow, which reads Parquet, is not installed.
    """
    table = CaptionTable(os.path.abspath(os.fsencode(path)), folder)  # noqa: PTH100 - bytes
    try:
        for number, names, values in _iter_rows(path, table):
            layout = _make_layout(tuple(names))
            _check_columns(path, number, layout, names)
            picture = layout.find_picture(values)
            texts = [
                text
                for index, kind in layout.texts
                if index < len(values) and values[index]
                for text in make_cell_texts(kind, values[index], layout.find_language(values))
            ]
            table.add_row(number, picture, texts)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {os_error_reason(error)}.") from error
    return table


def check_caption_table(path: Path) -> None:
    """Check before the work of a run starts that a caption table can be read.

    Raises:
        SourceError: The file is missing, is not a table, or its first row lacks a required column.
        MissingExtraError: pyarrow, which reads Parquet, is not installed.
    """
    try:
        if path.suffix.lower() == ".parquet":
            check_readable(path)
            return
        for number, names, _ in _iter_rows(path, CaptionTable(os.fsencode(path), b"/")):
            _check_columns(path, number, _make_layout(tuple(names)), names)
            return
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {os_error_reason(error)}.") from error


class _Layout:
    """Positions of the columns of a row.

    Args:
        names: Names of the columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.paths = [names.index(name) for name in _PATH_COLUMNS if name in names]
        self.texts = [
            (index, kind) for index, name in enumerate(names) if (kind := column_kind(name))
        ]
        self._folders = [names.index(name) for name in _FOLDER_COLUMNS if name in names]
        self._languages = [names.index(name) for name in LANGUAGE_COLUMNS if name in names]

    def find_picture(self, values: Sequence[Any]) -> str:
        """Return the path of the picture of a row; empty if it names no picture."""
        picture = _first_value(values, self.paths)
        if self._folders and picture and "/" not in picture and "\\" not in picture:
            parent = _first_value(values, self._folders)
            return f"{parent.rstrip('/')}/{picture}" if parent else picture
        return picture

    def find_language(self, values: Sequence[Any]) -> str | None:
        """Return the language of a row, if it is given."""
        return _first_value(values, self._languages) or None


_make_layout = lru_cache(maxsize=1000)(_Layout)


def _first_value(values: Sequence[Any], indices: Iterable[int]) -> str:
    for index in indices:
        if index < len(values) and values[index] not in (None, ""):
            text = str(values[index])
            if text and not text.isspace():
                return text
    return ""


def _check_columns(path: Path, row: int, layout: _Layout, names: Collection[str]) -> None:
    if not layout.paths or not layout.texts:
        raise SourceError(
            f"{path}, row {row}: a path column and a caption column are required; the "
            f"columns are {', '.join(name for name in names if name) or 'none'}.",
            "Name the columns path and caption.",
        )


def _iter_rows(path: Path, table: CaptionTable) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        groups = (_PATH_COLUMNS, tuple(KIND_BY_COLUMN), LANGUAGE_COLUMNS + _FOLDER_COLUMNS)
        yield from _iter_objects(enumerate(read_rows(path, groups), start=1))
    elif suffix in (".jsonl", ".ndjson", ".json", *_CSV_SUFFIXES):
        with open_text(path) as (file, encoding):
            table.encoding = encoding.label
            if suffix in _CSV_SUFFIXES:
                yield from _iter_csv(path, file)
            else:
                document = _read_json(path, file) if suffix == ".json" else None
                file.seek(0)
                rows = (
                    read_json_lines(path, file) if document is None else _find_rows(path, document)
                )
                yield from _iter_objects(rows)
    elif suffix in _WORKBOOK_SUFFIXES:
        raise SourceError(
            f"{path} is a workbook, not a caption table.",
            "Save it as CSV: in Excel, File > Save As > CSV UTF-8.",
        )
    else:
        raise SourceError(
            f"{path} is not a caption table in a supported format.",
            "Give a .csv, .tsv, .json, .jsonl or .parquet file.",
        )


def _iter_csv(path: Path, file: TextIO) -> Iterator[Row]:
    known = {*_PATH_COLUMNS, *KIND_BY_COLUMN, *LANGUAGE_COLUMNS, *_FOLDER_COLUMNS}
    table = read_csv(path, file, known)
    columns = tuple(table.columns)
    # An empty table would remove all captions of its pictures, so a header is required.
    _check_columns(path, 1, _make_layout(columns), columns)
    ends_in_text = column_kind(columns[-1]) is not None
    for number, cells in table.rows:
        if ends_in_text and any(cells[len(columns) :]):
            # The last text contains the delimiter and is not quoted.
            last = f"{table.delimiter} ".join(filter(None, cells[len(columns) - 1 :]))
            cells = [*cells[: len(columns) - 1], last]  # noqa: PLW2901 - the row that was meant
        yield number, columns, cells


def _iter_objects(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[Row]:
    for number, row in rows:
        yield number, [normalize_name(str(name)) for name in row], list(row.values())


# --- JSON documents ---


def _read_json(path: Path, file: TextIO) -> Any:
    """Return the content of a file that is one JSON document; None for JSON Lines."""
    if path.stat().st_size > MAX_JSON_BYTES:
        return None
    try:
        return json.load(file)
    except (ValueError, RecursionError):
        return None


def _find_rows(path: Path, document: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of a list of objects, of a COCO file, or of captions by path."""
    rows: Iterable[Any] = document if isinstance(document, list) else [document]
    if isinstance(document, dict):
        if "images" in document and "annotations" in document:
            rows = _join_coco(path, document)
        elif not any(normalize_name(name) in _PATH_COLUMNS for name in document):
            rows = (
                {"path": name, **(value if isinstance(value, dict) else {"caption": value})}
                for name, value in document.items()
            )
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise SourceError(f"{path}, row {number} is not a JSON object.")
        yield number, row


def _join_coco(path: Path, document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    try:
        names = {image["id"]: image["file_name"] for image in document["images"]}
        return [{**note, "path": names[note["image_id"]]} for note in document["annotations"]]
    except (LookupError, TypeError) as error:
        raise SourceError(
            f"{path} is not a COCO file: an image or an annotation lacks a field.",
            "Convert it to .csv or .jsonl with the columns path and caption.",
        ) from error
