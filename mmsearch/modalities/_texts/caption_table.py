"""Read caption tables: CSV, JSON Lines or Parquet, with any number of rows per picture."""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from mmsearch.core.errors import SourceError
from mmsearch.core.files import os_error_reason
from mmsearch.core.types import Text, TextSource
from mmsearch.modalities._texts.normalize import make_keyword_texts, make_texts
from mmsearch.modalities._texts.parquet import MAX_ROW_CHARS, read_rows

_PATH_COLUMNS: Final = ("path", "file", "filename", "file_name", "image", "image_path", "filepath")
_TEXT_COLUMNS: Final = {
    "caption": "caption",
    "text": "caption",
    "description": "description",
    "title": "title",
    "keywords": "keywords",
    "tags": "keywords",
}
_LANGUAGE_COLUMNS: Final = ("language", "lang")
_DELIMITERS: Final = ",;\t|"

Row = Mapping[str, Any]


def read_captions(path: Path, folder: bytes) -> dict[bytes, tuple[Text, ...]]:
    """Return the captions of the pictures below a folder.

    A column ``path`` (or file, filename, image) names the picture. The path is absolute, or
    relative to the table's own folder or to ``folder``. The columns caption, text, description,
    title, keywords and tags contain texts; the column language contains their language. Pictures
    outside ``folder`` and empty texts are skipped.

    Args:
        path: Path of a .csv, .tsv, .jsonl or .parquet file.
        folder: Absolute path of the folder.

    Returns:
        The texts by path relative to ``folder``.

    Raises:
        SourceError: The table cannot be read or lacks a required column.
        MissingExtraError: pyarrow, which reads Parquet, is not installed.
    """
    captions: dict[bytes, dict[Text, None]] = defaultdict(dict)
    for number, row in _iter_rows(path):
        cells = dict(zip(_normalize_names(row), row.values(), strict=True))
        picture = next((cells[name] for name in _PATH_COLUMNS if cells.get(name)), None)
        texts = [(kind, cells[name]) for name, kind in _TEXT_COLUMNS.items() if cells.get(name)]
        _check_columns(path, number, cells)
        relative = None if picture is None else _relative_path(str(picture), path, folder)
        if relative is None:
            continue
        language = next((str(cells[name]) for name in _LANGUAGE_COLUMNS if cells.get(name)), None)
        for kind, value in texts:
            captions[relative].update(dict.fromkeys(_parse_texts(kind, value, language)))
    return {relative: tuple(texts) for relative, texts in captions.items()}


def _normalize_names(names: Iterable[Any]) -> list[str]:
    return [str(name).strip().lower() if name else "" for name in names]


def _check_columns(path: Path, row: int, names: Collection[str]) -> None:
    if not any(name in names for name in _PATH_COLUMNS) or not any(
        name in names for name in _TEXT_COLUMNS
    ):
        raise SourceError(
            f"{path}, row {row}: a path column and a caption column are required; the "
            f"columns are {', '.join(name for name in names if name) or 'none'}.",
            "Name the columns path and caption.",
        )


def _parse_texts(kind: str, value: Any, language: str | None) -> Iterator[Text]:
    values = value if isinstance(value, list) else [value]
    if kind == "keywords":
        is_list = isinstance(value, list)
        words = values if is_list else str(value).replace(",", ";").split(";")
        yield from make_keyword_texts([str(word) for word in words], TextSource.TABLE)
        return
    for item in values:
        yield from make_texts(kind, str(item), TextSource.TABLE, language)


def _relative_path(path_text: str, table: Path, folder: bytes) -> bytes | None:
    """Return the path of a picture relative to the folder, or None if it is outside."""
    table_folder = os.fsencode(table.absolute().parent)
    name = os.fsencode(path_text.replace("\\", "/") if os.sep == "\\" else path_text)
    for base in (table_folder, folder):
        path = os.path.normpath(os.path.join(base, name))  # noqa: PTH118 - bytes
        is_inside = path.startswith(folder.rstrip(b"/") + b"/")
        if is_inside and (base == folder or os.path.exists(path)):  # noqa: PTH110 - bytes
            return path[len(folder.rstrip(b"/")) + 1 :]
    return None


def _iter_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the rows with their row or line numbers."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            yield from enumerate(
                read_rows(path, (_PATH_COLUMNS, tuple(_TEXT_COLUMNS), _LANGUAGE_COLUMNS)), start=1
            )
        elif suffix in (".jsonl", ".ndjson", ".json"):
            yield from _iter_json_lines(path)
        elif suffix in (".csv", ".tsv", ".txt"):
            yield from _iter_csv(path)
        else:
            raise SourceError(
                f"{path} is not a caption table in a supported format.",
                "Give a .csv, .tsv, .jsonl or .parquet file.",
            )
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text.") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {os_error_reason(error)}.") from error


def _iter_csv(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.read(64_000)
        file.seek(0)
        first = head.partition("\n")[0]
        delimiter = max(_DELIMITERS, key=first.count)
        csv.field_size_limit(MAX_ROW_CHARS)
        lines = _LimitedLines(file, path)
        reader = csv.DictReader(lines, delimiter=delimiter)
        try:
            # An empty table would remove all captions of its pictures, so a header is required.
            if not reader.fieldnames:
                raise SourceError(
                    f"{path} has no header.",
                    "Add a header as the first line, such as path,caption.",
                )
            _check_columns(path, 1, _normalize_names(reader.fieldnames))
            for row in reader:
                lines.start_row()
                yield reader.line_num, row
        except csv.Error as error:
            raise SourceError(f"{path}, line {reader.line_num}: {error}.") from error


class _LimitedLines:
    """Iterable over the lines of a file that rejects a long row before reading all of it."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._line_number = 0
        self._row_chars = 0

    def start_row(self) -> None:
        """Start to count the characters of the next row."""
        self._row_chars = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_ROW_CHARS + 1):
            self._line_number += 1
            self._row_chars += len(line)
            if self._row_chars > MAX_ROW_CHARS:
                raise SourceError(
                    f"{self._path}, line {self._line_number}: a row has more than "
                    f"{MAX_ROW_CHARS:,} characters.",
                    "Check for a missing quote or line break.",
                )
            yield line


def _iter_json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig") as file:
        lines = _LimitedLines(file, path)
        for number, line in enumerate(lines, start=1):
            lines.start_row()
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SourceError(f"{path}, line {number} is not JSON.") from error
            if not isinstance(row, dict):
                raise SourceError(f"{path}, line {number} is not a JSON object.")
            yield number, row
