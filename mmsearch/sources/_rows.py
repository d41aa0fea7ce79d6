"""Rows of tables: CSV, TSV, JSON Lines, Parquet, and lists with one entry a line."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from mmsearch.core.columnar import ColumnarLayout, RowSelection, read_layout, select_rows
from mmsearch.core.errors import SourceError
from mmsearch.core.files import os_error_reason
from mmsearch.core.text_tables import (
    LimitedLines,
    iter_json_lines,
    normalize_name,
    open_text,
    read_csv,
)
from mmsearch.core.texts import KIND_BY_COLUMN
from mmsearch.sources._local import stat_stamp

CSV_SUFFIXES: Final = (".csv", ".tsv", ".tab")
JSON_SUFFIXES: Final = (".jsonl", ".ndjson")
LIST_SUFFIXES: Final = (".txt", ".lst")
PARQUET_SUFFIXES: Final = (".parquet",)
TABLE_SUFFIXES: Final = (*CSV_SUFFIXES, *JSON_SUFFIXES, *LIST_SUFFIXES, *PARQUET_SUFFIXES)
"""Suffixes of the names of tables, in lower case."""

ENTRY_COLUMN: Final = "entry"
"""Name of the only column of a list."""

_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?(?:[eE][+-]?\d{1,2})?", re.ASCII)

Row = Mapping[str, Any]
"""Values by normalized names of columns."""


@dataclass(frozen=True)
class TablePart:
    """A table, or a row group of one.

    Attributes:
        path: The file.
        group: Number of the row group; None for the whole file.
        first_row: Number of the rows of the file before it.
        rows: Number of its rows; None if it goes to the end of the file.
    """

    path: Path
    group: int | None = None
    first_row: int = 0
    rows: int | None = None


def read_columns(path: Path, known_columns: Sequence[str]) -> tuple[str, ...]:
    """Return the normalized names of the columns of a table, without those with contents.

    For JSON Lines these are the fields of the first object.

    Raises:
        SourceError: It is not a table that can be read.
        MissingExtraError: pyarrow, which reads Parquet, is not installed.
    """
    if path.suffix.lower() in PARQUET_SUFFIXES:
        layout = _read_layout(path)
        return tuple(normalize_name(name) for name in _text_columns(layout))
    for _, row in iter_rows(TablePart(path), known_columns, columns_only=True):
        if isinstance(row, SourceError):
            raise row
        return tuple(row)
    raise SourceError(f"{path} has no rows.", "Give a table with at least one row.")


def list_parts(path: Path) -> list[TablePart]:
    """Return the parts of a table.

    Raises:
        SourceError: It cannot be read.
        MissingExtraError: pyarrow, which reads Parquet, is not installed.
    """
    if path.suffix.lower() in PARQUET_SUFFIXES:
        rows = _read_layout(path).rows
        firsts = accumulate(rows, initial=0)
        return [TablePart(path, group, next(firsts), count) for group, count in enumerate(rows)]
    return [TablePart(path)]


def iter_rows(
    part: TablePart,
    known_columns: Sequence[str],
    *,
    columns_only: bool = False,
    where: tuple[str, str] | None = None,
    only: Collection[str] = (),
    to_end: bool = False,
) -> Iterator[tuple[int, Row | SourceError]]:
    """Yield the rows of a part with their numbers in the file, or the error of one not valid.

    Args:
        part: The part.
        known_columns: Names of columns that help to find the delimiter.
        columns_only: Yield one row with the names of the columns, even if the table is empty.
        where: Name of a column and the text of its value, to which the rows may be limited.
        only: Names of columns, to which the rows may be limited; empty for all.
        to_end: Go on to the end of the file after the part.

    Raises:
        SourceError: The rest of the part cannot be read.
        MissingExtraError: pyarrow, which reads Parquet, is not installed.
    """
    path = part.path
    suffix = path.suffix.lower()
    try:
        if suffix in PARQUET_SUFFIXES:
            yield from _iter_parquet(part, where, only, to_end=to_end)
        elif suffix in CSV_SUFFIXES:
            yield from _iter_csv(path, known_columns, columns_only)
        elif suffix in (*JSON_SUFFIXES, *LIST_SUFFIXES):
            with open_text(path) as (file, _):
                if suffix in LIST_SUFFIXES:
                    yield from _iter_list(LimitedLines(file, path))
                    return
                for number, row in iter_json_lines(path, file):
                    yield number, row if isinstance(row, SourceError) else _normalize(row)
        else:
            raise SourceError(
                f"{path} is not a table in a supported format.",
                "Give a .csv, .tsv, .jsonl or .parquet file, or a .txt with one entry a line.",
            )
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read: {os_error_reason(error)}.", "Check the path and its disk."
        ) from error


def _iter_list(lines: LimitedLines) -> Iterator[tuple[int, Row]]:
    for line in lines:
        number = lines.end_row()
        if entry := line.strip():
            yield number, {ENTRY_COLUMN: entry}


def _iter_csv(
    path: Path, known_columns: Sequence[str], columns_only: bool
) -> Iterator[tuple[int, Row]]:
    with open_text(path) as (file, _):
        table = read_csv(path, file, {*known_columns, *KIND_BY_COLUMN})
        if columns_only:
            yield 1, dict.fromkeys(filter(None, table.columns))
            return
        for number, cells in table.rows:
            pairs = zip(table.columns, cells, strict=False)
            yield number, {name: cell for name, cell in pairs if name and cell}


def _iter_parquet(
    part: TablePart, where: tuple[str, str] | None, only: Collection[str], *, to_end: bool
) -> Iterator[tuple[int, Row]]:
    layout = _read_layout(part.path)
    condition: tuple[str, ...] = ()
    if where is not None:
        names = [name for name in layout.columns if normalize_name(name) == where[0]]
        condition = (names[0], where[1]) if names else ()
    columns = tuple(
        name for name in _text_columns(layout) if not only or normalize_name(name) in only
    )
    selection = RowSelection(part.group, to_end=to_end, columns=columns, where=condition)
    for index, row in select_rows(part.path, selection):
        yield part.first_row + index + 1, _normalize(row)


def _read_layout(path: Path) -> ColumnarLayout:
    """Return the layout of a Parquet file; reading it takes a process, so it is remembered."""
    try:
        return _read_layout_once(path, stat_stamp(path.stat()))
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read: {os_error_reason(error)}.", "Check the path and its disk."
        ) from error


@lru_cache(256)
def _read_layout_once(path: Path, stamp: bytes) -> ColumnarLayout:
    return read_layout(path)


def _text_columns(layout: ColumnarLayout) -> tuple[str, ...]:
    return tuple(name for name in layout.columns if name not in layout.bytes_columns)


def _normalize(row: Mapping[str, Any]) -> Row:
    return {normalize_name(str(name)): value for name, value in row.items() if value is not None}


def to_metadata(value: Any) -> Any:
    """Return a value of a row as JSON has it; a number in a cell of text becomes a number."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
        return int(value) if value.lstrip("-").isdigit() else number
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
