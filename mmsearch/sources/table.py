"""Source ``table``: pictures whose paths or URLs are in a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from xxhash import xxh3_128_digest

from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, Hint, SourceError, UsageError
from mmsearch.core.files import decode_error_from_os, open_source_file, special_file_kind
from mmsearch.core.plugins import require_packages
from mmsearch.core.sources import SourceFailure, SourceItem, SourcePart
from mmsearch.core.text_tables import normalize_name
from mmsearch.core.texts import LANGUAGE_COLUMNS, column_kind, make_cell_texts
from mmsearch.core.types import Text
from mmsearch.sources._keys import FirstRows, PrecedingKeys, chain_stamps, relative_names
from mmsearch.sources._local import absolute_path, expand_paths, file_stamp, stat_stamp, to_path
from mmsearch.sources._rows import (
    ENTRY_COLUMN,
    PARQUET_SUFFIXES,
    Row,
    TablePart,
    iter_rows,
    list_parts,
    read_columns,
    to_metadata,
)

if TYPE_CHECKING:
    from mmsearch.sources._web.reader import WebReader

URL_COLUMNS: Final = ("url", "image_url", "img_url", "image_link", "link", "src", "uri")
"""Normalized names of columns with URLs, best first."""

PATH_COLUMNS: Final = (
    *("path", "file_path", "filepath", "image_path", "img_path", "full_path", "relative_path"),
    *("file", "filename", "file_name", "image", "image_file", "image_filename", "image_name"),
    *("img", "photo", "picture"),
)
"""Normalized names of columns with paths, best first."""

MAX_FILE_BYTES: Final = 1 << 31
"""Maximum size of a picture at a path, in bytes."""

MAX_ROW_TEXTS: Final = 1000
"""Maximum number of texts of a picture."""

PARALLEL_LOADS: Final = 16

_NO_ROW: Final = "the table has no such row"


def build(
    uri: bytes,
    *,
    is_picture: Callable[[bytes, bytes], bool],
    url_column: str | None = None,
    path_column: str | None = None,
    id_column: str | None = None,
    text_columns: tuple[str, ...] = (),
    base: Path | None = None,
    allow_private: bool = False,
    max_mb: float = 50.0,
    timeout_s: float = 30.0,
    tries: int = 3,
) -> TableSource:
    """Build a source of a table: .csv, .tsv, .jsonl, .parquet, or .txt with one entry a line.

    Args:
        uri: Path of the table, or a brace pattern such as ``{00000..00999}.parquet``.
        is_picture: Not used: every row names a picture.
        url_column: Column with http and https URLs.
        path_column: Column with paths.
        id_column: Column with the keys of the items; by default their URLs or paths.
        text_columns: Columns with texts; by default those with names such as caption or title.
        base: Folder that the paths start at and must not leave; by default that of the table.
        allow_private: Fetch from addresses that are not public, too, and from all ports.
        max_mb: Maximum size of a picture at a URL, in megabytes.
        timeout_s: Maximum seconds of one try to fetch a picture.
        tries: Maximum number of tries to fetch a picture.

    Raises:
        SourceError: A table cannot be read, or lacks a column.
        UsageError: The choices contradict each other.
        MissingExtraError: The library that fetches URLs or reads Parquet is not installed.
    """
    if url_column and path_column:
        raise UsageError(
            "A table has a column of URLs or a column of paths, not both.",
            "Choose url_column or path_column.",
        )
    for name, value in (("max_mb", max_mb), ("timeout_s", timeout_s), ("tries", tries)):
        if value <= 0:
            raise UsageError(
                f"{name} must be more than 0, got {value!r}.", "Choose a higher value."
            )
    uri = absolute_path(uri)
    paths = expand_paths(uri)
    for path in paths:
        file_stamp(path)
    if not url_column and not path_column:
        _refuse_downloaded(to_path(paths[0]))
    columns = _choose_columns(to_path(paths[0]), url_column, path_column, id_column, text_columns)
    web = None
    if columns.is_url:
        require_packages("Fetching pictures", "urls", "httpcore2")
        from mmsearch.sources._web.reader import WebReader  # noqa: PLC0415 - an extra

        web = WebReader(max_mb, allow_private=allow_private, deadline_s=timeout_s, tries=tries)
    folder = os.fsencode(base.expanduser()) if base else os.path.dirname(paths[0])  # noqa: PTH120
    return TableSource(uri, paths, columns, os.path.realpath(folder), web)


def _refuse_downloaded(path: Path) -> None:
    """Raise SourceError for a table that img2dataset wrote beside the pictures that it fetched."""
    if path.suffix.lower() not in PARQUET_SUFFIXES:
        return
    if not {"key", "status", "url"} <= set(read_columns(path, ())):
        return
    for beside in (path.with_suffix(".tar"), path.with_suffix("")):
        if beside.exists():
            raise SourceError(
                f"The pictures of {path} are downloaded: they are in {beside}.",
                f"Read {beside}, or choose url_column='url' to fetch them again.",
            )


@dataclass(frozen=True)
class _Columns:
    """Columns of a table by their use, with normalized names.

    Attributes:
        place: Column with URLs or paths; None if each entry decides.
        is_url: True if it has URLs.
        key: Column with keys; None if the URL or path is the key.
        texts: Kinds of texts by columns.
    """

    place: str
    is_url: bool
    key: str | None = None
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the columns that are used."""
        return (self.place, *filter(None, [self.key]), *self.texts)


def _choose_columns(
    path: Path,
    url_column: str | None,
    path_column: str | None,
    id_column: str | None,
    text_columns: Sequence[str],
) -> _Columns:
    chosen = url_column or path_column
    given = [normalize_name(name) for name in filter(None, [chosen, id_column, *text_columns])]
    names = read_columns(path, [*given, *URL_COLUMNS, *PATH_COLUMNS])
    for name in given:
        if name not in names:
            raise SourceError(
                f"{path} has no column {name!r}; its columns are {', '.join(names)}.",
                "Choose one of them.",
            )
    if chosen:
        place, is_url = given[0], url_column is not None
    elif names == (ENTRY_COLUMN,):
        place, is_url = ENTRY_COLUMN, _has_url(path)
    else:
        place = next((name for name in (*URL_COLUMNS, *PATH_COLUMNS) if name in names), "")
        is_url = place in URL_COLUMNS
    if not place:
        raise SourceError(
            f"{path} has no column with paths or URLs; its columns are {', '.join(names)}.",
            Hint(
                "Choose one with {}.",
                "url_column or path_column",
                "--choice url_column=NAME or --choice path_column=NAME",
            ),
        )
    if text_columns:
        texts = {name: column_kind(name) or "caption" for name in map(normalize_name, text_columns)}
    else:
        texts = {name: kind for name in names if (kind := column_kind(name))}
    key = normalize_name(id_column) if id_column else None
    texts = {name: kind for name, kind in texts.items() if name not in (place, key)}
    return _Columns(place, is_url, key, texts)


def _has_url(path: Path) -> bool:
    """Return True if the first entry of a list is a URL."""
    for _, row in iter_rows(TablePart(path), ()):
        return not isinstance(row, SourceError) and "://" in row[ENTRY_COLUMN]
    return False


class _RowStream:
    """Rows from a part of a table to the end of its file, which go on from part to part.

    Opening a file of Parquet takes a process, and rows with one key may be in two row groups.

    Args:
        rows: The key, the number and the values of each row, or the reason to refuse it; those
            that are refused have no key.
    """

    def __init__(self, rows: Iterator[tuple[bytes, int, Row | str]]) -> None:
        self._rows = rows
        self._error: SourceError | None = None
        self._last_row = 0
        self._next = self._read()

    @property
    def has_failed(self) -> bool:
        """True if the rows that are not taken cannot be read."""
        return self._error is not None

    def take(self, last_row: float) -> tuple[bytes, int, list[Row] | str] | None:
        """Return the next row and those in succession that have its key.

        Args:
            last_row: Number of a row; None is returned if the next one is behind it.

        Returns:
            The key, the number of the first row, and the values of the rows, or the reason to
            refuse the row; None at the end.

        Raises:
            SourceError: Rows up to ``last_row`` cannot be read.
        """
        if self._next is None or self._next[1] > last_row:
            self._check(last_row)
            return None
        key, number, values = self._next
        self._next = self._read()
        rows = [] if isinstance(values, str) else [values]
        while rows and self._next is not None and self._next[0] == key:
            if len(rows) < MAX_ROW_TEXTS and not isinstance(self._next[2], str):
                rows.append(self._next[2])
            self._next = self._read()
        # The last row before a damage may be part of it.
        self._check(last_row)
        return key, number, values if isinstance(values, str) else rows

    def _check(self, last_row: float) -> None:
        if self._error is not None and self._last_row < last_row:
            raise self._error

    def _read(self) -> tuple[bytes, int, Row | str] | None:
        try:
            row = next(self._rows, None)
        except SourceError as error:
            self._error = error
            return None
        if row is not None:
            self._last_row = row[1]
        return row


class TableSource:
    """A source whose items are the rows of tables; see `mmsearch.core.sources.Source`.

    The key of an item is its id, or else its URL or path. Rows in succession with one key in one
    table are one item with the texts of all of them. Later rows with that key, in any of its
    tables, are failures.

    Args:
        uri: Absolute path of the source.
        paths: Absolute paths of the tables.
        columns: Use of the columns.
        base: Absolute path without links of the folder that pictures lie in.
        web: Fetches URLs; None for a table of paths.
    """

    kind = "table"
    parallel_loads = PARALLEL_LOADS

    def __init__(
        self,
        uri: bytes,
        paths: list[bytes],
        columns: _Columns,
        base: bytes,
        web: WebReader | None,
    ) -> None:
        self.uri = uri
        self._paths = dict(zip(relative_names(paths), paths, strict=True))
        self._columns = columns
        self._base = base
        self._web = web
        # The parts of the last pass in their order, with the names of their tables.
        self._parts: list[tuple[bytes, TablePart]] = []
        self._numbers: dict[bytes, int] = {}
        self._first_rows = FirstRows(self._list_keys)
        # Rows of the file of the last part, from a part on.
        self._kept_rows: tuple[int, _RowStream] | None = None

    def parts(self) -> Iterator[SourcePart]:
        """Yield each table, or each row group of Parquet."""
        self._parts, self._numbers = [], {}
        self._kept_rows = None
        self._first_rows = FirstRows(self._list_keys)
        stamp = b""
        for name, path in self._paths.items():
            # Whether a row is the first of its key depends on the tables before, too.
            stamp = chain_stamps(stamp, file_stamp(path))
            for part in list_parts(to_path(path)):
                key = name if part.group is None else b"%b#%d" % (name, part.group)
                self._numbers[key] = len(self._parts)
                self._parts.append((name, part))
                # Files beside an unchanged table may change.
                yield SourcePart(key, stamp if self._web is not None else b"")

    def items(self, part: SourcePart) -> Iterator[SourceItem | SourceFailure]:
        """Yield the pictures that the rows of a part name."""
        if part.key not in self._numbers:
            list(self.parts())
        number = self._numbers[part.key]
        preceding = self._first_rows.begin(number)
        kept, self._kept_rows = self._kept_rows, None
        if kept is not None and kept[0] == number and self._parts[number][1].group:
            rows = kept[1]
        else:
            rows = _RowStream(self._iter_numbered(self._parts[number][1], to_end=True))
        yield from self._iter_items(*self._parts[number], rows, preceding)
        self._first_rows.end(number, preceding)
        if not rows.has_failed:
            self._kept_rows = number + 1, rows

    def _iter_items(
        self, name: bytes, part: TablePart, rows: _RowStream, preceding: PrecedingKeys
    ) -> Iterator[SourceItem | SourceFailure]:
        continued = preceding.last if part.group else b""
        last_row = inf if part.rows is None else part.first_row + part.rows
        try:
            while (taken := rows.take(last_row)) is not None:
                key, number, values = taken
                is_continued, continued = bool(key) and key == continued, b""
                if is_continued:
                    continue
                where = b"%b row %d" % (name, number) if name else b"row %d" % number
                is_first = preceding.add(key)
                if isinstance(values, str):
                    yield SourceFailure(where, values)
                elif not is_first:
                    same = self._columns.key or self._columns.place
                    yield SourceFailure(where, f"an earlier row has the same {same}")
                else:
                    yield self._make_item(key, values)
        except SourceError as error:
            reason = error.message.rstrip(".")
            yield SourceFailure(name, reason, ends_part=True)

    def _list_keys(self, number: int) -> Iterator[bytes]:
        """Yield the keys of the rows of a part by its number."""
        _, part = self._parts[number]
        only = {self._columns.place, self._columns.key or self._columns.place}
        # Rows behind a damage do not count in their part, either.
        with suppress(SourceError):
            for key, _, _ in self._iter_numbered(part, only=only):
                yield key

    def read(self, key: bytes) -> bytes:
        """Return the content of a row's picture; DecodeError if it cannot be read."""
        return self._load(self._find_place(key))

    def exists(self, key: bytes) -> bool | None:
        """Return True if the table has the row and its file is there; None for a URL."""
        try:
            place = self._find_place(key)
            if self._web is not None:
                return None
            mode = os.stat(self._resolve(place)).st_mode  # noqa: PTH116 - bytes
        except (FileNotFoundError, NotADirectoryError):
            return False
        except DecodeError as error:
            return False if error.message == _NO_ROW else None
        except OSError:
            return None
        return special_file_kind(mode) is None

    def close(self) -> None:
        """End the fetches."""
        self._kept_rows = None
        if self._web is not None:
            self._web.close()

    def _iter_numbered(
        self, part: TablePart, **options: Any
    ) -> Iterator[tuple[bytes, int, Row | str]]:
        """Yield the key, the number and the values of each row, or the reason to refuse it.

        Args:
            part: The part.
            **options: See `iter_rows`.
        """
        columns = self._columns
        for number, row in iter_rows(part, columns.known, **options):
            if isinstance(row, SourceError):
                yield b"", number, row.message.rstrip(".")
                continue
            place = _to_text(row.get(columns.place))
            key = place if columns.key is None else _to_text(row.get(columns.key))
            if not place or not key:
                missing = columns.place if not place else columns.key
                yield b"", number, f"the row has no {missing}"
            else:
                yield key.encode("utf-8", "surrogateescape"), number, row

    def _make_item(self, key: bytes, rows: list[Row]) -> SourceItem | SourceFailure:
        columns = self._columns
        place = _to_text(rows[0][columns.place])
        texts: dict[Text, None] = {}
        for row in rows:
            language = next((str(row[name]) for name in LANGUAGE_COLUMNS if name in row), None)
            for name, kind in columns.texts.items():
                if name in row:
                    texts.update(dict.fromkeys(make_cell_texts(kind, row[name], language)))
        metadata = {
            name: to_metadata(value)
            for name, value in rows[0].items()
            if name not in columns.texts
            and name != columns.key
            and (name != columns.place or columns.key is not None)
        }
        load = partial(self._load, place)
        item = SourceItem(key, b"", load, None, tuple(islice(texts, MAX_ROW_TEXTS)), metadata)
        if self._web is not None:
            return replace(item, stamp=xxh3_128_digest(place.encode("utf-8", "surrogatepass")))
        try:
            stat = os.stat(self._resolve(place))  # noqa: PTH116 - bytes
        except DecodeError as error:
            return SourceFailure(key, error.message)
        except OSError as error:
            failure = decode_error_from_os(error)
            return SourceFailure(key, failure.message, transient=bool(failure.details["transient"]))
        return replace(item, stamp=stat_stamp(stat), size=stat.st_size)

    def _find_place(self, key: bytes) -> str:
        """Return the URL or path of the item with a key."""
        text = key.decode("utf-8", "surrogateescape")
        column = self._columns.key
        if column is None:
            return text
        try:
            for path in self._paths.values():
                rows = self._iter_numbered(TablePart(to_path(path)), where=(column, text))
                for found, _, row in rows:
                    if found == key and not isinstance(row, str):
                        return _to_text(row[self._columns.place])
        except SourceError as error:
            raise DecodeError(error.message.rstrip(".")) from error
        raise DecodeError(_NO_ROW)

    def _load(self, place: str) -> bytes:
        if self._web is not None:
            return self._web.read(place)
        # A link below the base may lead out of it.
        path = self._check_inside(os.path.realpath(self._resolve(place)))
        with open_source_file(path) as file:
            try:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_FILE_BYTES:
                    raise DecodeError(f"it is larger than {MAX_FILE_BYTES >> 30} GiB")
                # The buffer is as large as what is asked for.
                return file.read(size)
            except OSError as error:
                raise decode_error_from_os(error) from error

    def _resolve(self, place: str) -> bytes:
        """Return the absolute path of a picture; DecodeError outside of the base."""
        if "://" in place:
            raise DecodeError("it is a URL, but the column has paths")
        if "\0" in place:
            raise DecodeError("it is not a valid file name")
        path = os.path.normpath(os.path.join(self._base, os.fsencode(place)))  # noqa: PTH118
        return self._check_inside(path)

    def _check_inside(self, path: bytes) -> bytes:
        if os.path.commonpath([path, self._base]) != self._base:
            raise DecodeError(f"it lies outside of {display_path(self._base)}")
        return path


def _to_text(value: Any) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value).strip()
