"""Tables in text files, as spreadsheets and people write them: CSV, TSV and JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from mmsearch.core.errors import SourceError
from mmsearch.core.files import open_regular_file
from mmsearch.core.text_encoding import TextEncoding, detect_encoding

MAX_ROW_CHARS: Final = 1_000_000
"""Maximum length of a row, in characters."""

_HEAD_CHARS: Final = 64_000
_DELIMITERS: Final = ",;\t|"
# Excel writes the delimiter of a table as its first line.
_SEPARATOR_LINE: Final = re.compile(
    r'\s*"?sep=(?P<delimiter>\\t|[^"\r\n])"?[ \t,;]*', re.IGNORECASE
)
_NAME_SEPARATORS: Final = re.compile(r"[\s_-]+")
_WORKBOOK_MAGIC: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True)
class CsvTable:
    """An open table of cells.

    Attributes:
        columns: Names of the columns as `normalize_name` returns them; never empty.
        delimiter: The character between two cells.
        rows: The other rows with the numbers of their last lines. Cells are stripped; blank rows
            are left out. A row may be shorter or longer than ``columns``.
    """

    columns: Sequence[str]
    delimiter: str
    rows: Iterator[tuple[int, list[str]]]


def normalize_name(name: str) -> str:
    """Return the name of a column in lower case, with underscores: ``File Name`` is file_name."""
    return _NAME_SEPARATORS.sub("_", unicodedata.normalize("NFC", name).strip().lower())


@contextmanager
def open_text(path: Path) -> Iterator[tuple[TextIO, TextEncoding]]:
    """Open a text file in the encoding that it is in; line ends are kept.

    Raises:
        SourceError: It is a workbook of a spreadsheet program.
        OSError: It is not a regular file, or cannot be read.
    """
    with open_regular_file(path) as file:
        if file.read(4) in _WORKBOOK_MAGIC:
            raise SourceError(
                f"{path} is a workbook, not a caption table.",
                "Save it as CSV: in Excel, File > Save As > CSV UTF-8.",
            )
    encoding = detect_encoding(path)
    with path.open(encoding=encoding.codec, errors=encoding.errors, newline="") as file:
        yield file, encoding


def read_csv(path: Path, file: TextIO, known_columns: Collection[str]) -> CsvTable:
    """Read a table of cells from an open text file.

    The delimiter is the one of a first line such as ``sep=;``, or else the one that gives a header
    with the most known columns, then with the most columns.

    Args:
        path: Path of the file, for messages.
        file: The file at its start.
        known_columns: Names of columns, as `normalize_name` returns them.

    Raises:
        SourceError: The table has no header, or a row is too long; also while rows are read.
    """
    csv.field_size_limit(MAX_ROW_CHARS)
    head = file.read(_HEAD_CHARS).lstrip("\ufeff")
    start = _SEPARATOR_LINE.match(head.partition("\n")[0].partition("\r")[0])
    file.seek(0)
    lines = LimitedLines(file, path)
    if start:
        delimiter = start["delimiter"].replace("\\t", "\t")
        next(iter(lines))
    else:
        delimiter = _choose_delimiter(head, known_columns)
    rows = _iter_rows(path, lines, delimiter)
    _, header = next(rows, (0, []))
    columns = [normalize_name(name) for name in header]
    # Spreadsheets also write the empty cells to the right of a table.
    while columns and not columns[-1]:
        columns.pop()
    if not columns:
        raise SourceError(
            f"{path} has no header.",
            "Add a header as the first line, such as path,caption.",
        )
    return CsvTable(columns, delimiter, rows)


def _choose_delimiter(head: str, known_columns: Collection[str]) -> str:
    def rate(delimiter: str) -> tuple[int, int]:
        try:
            names = next(filter(any, _make_reader(io.StringIO(head, newline=""), delimiter)), [])
        except csv.Error:
            return 0, 0
        known = sum(normalize_name(name) in known_columns for name in names)
        return known, len(names)

    return max(_DELIMITERS, key=rate)


def _make_reader(lines: Any, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True)


def _iter_rows(path: Path, lines: LimitedLines, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    try:
        for row in _make_reader(lines, delimiter):
            number = lines.end_row()
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield number, cells
    except csv.Error as error:
        raise SourceError(f"{path}, line {lines.number}: {error}.") from error
    if lines.ends_in_quotes:
        raise SourceError(
            f"{path}, line {lines.row_start}: a quotation mark is not closed.",
            "Close it, or write a quotation mark in a text twice.",
        )


class LimitedLines:
    """Iterable over the lines of a file that rejects a long row before reading all of it.

    Attributes:
        number: Number of the last line.
        row_start: Number of the first line of the last row.
        ends_in_quotes: True if the last row has several lines and an odd number of quotation marks.
    """

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.number = 0
        self.row_start = 1
        self.ends_in_quotes = False
        self._next_start = 1
        self._row_chars = 0
        self._num_quotes = 0

    def end_row(self) -> int:
        """Start to count the characters of the next row; return the number of the last line."""
        self.row_start, self._next_start = self._next_start, self.number + 1
        self.ends_in_quotes = self.number > self.row_start and self._num_quotes % 2 == 1
        self._row_chars = self._num_quotes = 0
        return self.number

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_ROW_CHARS + 1):
            self.number += 1
            self._row_chars += len(line)
            self._num_quotes += line.count('"')
            if self._row_chars > MAX_ROW_CHARS:
                raise SourceError(
                    f"{self._path}, line {self.number}: a row has more than "
                    f"{MAX_ROW_CHARS:,} characters.",
                    "Check for a missing quote or line break.",
                )
            # Some programs end a file with Ctrl-Z, or write a byte order mark twice.
            yield line.replace("\0", "").replace("\x1a", "").replace("\ufeff", "")


def read_json_lines(path: Path, file: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the objects of an open file of JSON Lines with the numbers of their lines.

    Raises:
        SourceError: A line is too long, or is not a JSON object.
    """
    for number, row in iter_json_lines(path, file):
        if isinstance(row, SourceError):
            raise row
        yield number, row


def iter_json_lines(
    path: Path, file: TextIO
) -> Iterator[tuple[int, Mapping[str, Any] | SourceError]]:
    """Yield the objects of an open file of JSON Lines, or the error of a line that is not one.

    Raises:
        SourceError: A line is too long.
    """
    lines = LimitedLines(file, path)
    for line in lines:
        number = lines.end_row()
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield number, SourceError(f"{path}, line {number} is not JSON.")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield number, SourceError(f"{path}, line {number} is not a JSON object.")
