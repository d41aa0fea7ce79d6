"""Reading of the readable rows of a damaged catalog.

SQLite fails on a damaged page, but not on the pages around it. So tables are read in the order of
their rowids, and after an error reading continues after the smallest gap that SQLite can skip.
Rows that SQLite cannot reach at all are searched for in the raw pages. This may bring back deleted
rows, which is better than losing live ones.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S, TimeoutConnection, connect_read_only
from mmsearch.catalog.migrations import FORMAT1_SCHEMA
from mmsearch.catalog.page_scan import Blob, scan_pages
from mmsearch.catalog.rows import BUILDING
from mmsearch.catalog.schema import Column, table_columns
from mmsearch.core.errors import InspectionError

MAX_ROWID = 2**63 - 1

_DEFAULT_SQL = {
    "texts_key": "x''",
    "source": "'metadata'",
    "ctime_ns": "0",
    "kind": "'folder'",
    "choices": "'{}'",
}
"""Default values, as SQL, of columns missing from older schemas."""

_DEFAULT_VALUES: dict[str, Any] = {
    "texts_key": b"",
    "source": b"metadata",
    "asset_id": None,
    "spaceless": 0,
    "table_path": None,
    "ctime_ns": 0,
    "metadata": None,
    "part": None,
    "stamp": None,
    "record": None,
    "space_id": None,
    "kind": b"folder",
    "choices": b"{}",
    "made_by": None,
    "confidence": None,
    "start_ms": None,
    "end_ms": None,
    "boxes": None,
    "perceptual_hash": None,
}
"""Default values, as Python objects, for rows older than these columns."""

SEQUENCE_COLUMNS = {"name": "text", "seq": "integer"}

_FORMAT1_TABLES = {"assets": "files", "sources": "roots"}
_FORMAT1_COLUMNS = {
    "assets": {"source_id": "root_id", "key": "path"},
    "sources": {"uri": "path"},
    "texts": {"item_id": "image_id", "asset_id": "file_id"},
}
"""Names of tables and of their columns in format 1."""


class DamagedCatalog:
    """Reader of the rows of a damaged catalog; close it after use.

    Args:
        path: The database.

    Attributes:
        unreadable_tables: Names of the tables with rows that could not be read so far.
        is_format1: True if it has the tables of format 1.

    Raises:
        InspectionError: The database cannot be opened for a reason other than damage.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unreadable_tables: set[str] = set()
        self.is_format1 = False
        self._connection: TimeoutConnection | None = None
        if not path.exists():
            return
        try:
            self._connection = connect_read_only(path)
            # SQLite then skips schema entries that it cannot parse.
            self._connection.execute("PRAGMA writable_schema = ON")
            self._connection.text_factory = bytes
            self._connection.set_timeout(MAINTENANCE_TIMEOUT_S)
            ((version,),) = self._connection.execute("PRAGMA user_version").fetchall()
            self.is_format1 = 0 < version <= FORMAT1_SCHEMA
        except sqlite3.Error as error:
            self._raise_unless_damaged(error)

    def read_rows(self, table: str, columns: dict[str, str]) -> Iterator[tuple[Any, ...]]:
        """Yield the readable rows of a table: first in rowid order, then those of raw pages.

        Rows with values of the wrong type are skipped.

        Args:
            table: Name of the table, as it is now.
            columns: Required result of SQLite's typeof by column; ``text?`` allows NULL.
        """
        stored_table, stored_columns = table, columns
        if self.is_format1:
            stored_table = _FORMAT1_TABLES.get(table, table)
            names = _FORMAT1_COLUMNS.get(table, {})
            stored_columns = {names.get(name, name): kind for name, kind in columns.items()}
        rowids_read = _RowidRanges()
        unreadable_before = len(self.unreadable_tables)
        if self._connection is not None:
            rows = self._read_reachable(self._connection, stored_table, stored_columns, rowids_read)
            yield from rows
        else:
            self.unreadable_tables.add(stored_table)
        is_incomplete = (
            stored_table in self.unreadable_tables
            or len(self.unreadable_tables) > unreadable_before
        )
        if stored_table != table and stored_table in self.unreadable_tables:
            self.unreadable_tables.remove(stored_table)
            self.unreadable_tables.add(table)
        if is_incomplete and self._path.exists():
            yield from self._read_from_pages(stored_table, stored_columns, rowids_read)

    def _read_reachable(
        self,
        connection: sqlite3.Connection,
        table: str,
        columns: dict[str, str],
        rowids_read: _RowidRanges,
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that SQLite can reach."""
        if not self._is_table(connection, table):
            self.unreadable_tables.add(table)
            return
        existing_columns = self._column_names(connection, table)
        names = ", ".join(
            name if name in existing_columns else _DEFAULT_SQL.get(name, "NULL") for name in columns
        )
        statement = f"SELECT rowid, {names} FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid"  # noqa: S608 - our names
        last_rowid = -1
        while last_rowid < MAX_ROWID:
            start_rowid = last_rowid
            try:
                with closing(connection.execute(statement, [last_rowid])) as cursor:
                    for rowid, *values in cursor:
                        last_rowid = max(last_rowid, rowid)
                        row = _decode_row(values, columns)
                        if row is None:
                            self.unreadable_tables.add(table)
                        else:
                            yield row
            except sqlite3.Error as error:
                self._raise_unless_damaged(error)
                self.unreadable_tables.add(table)
                rowids_read.add(start_rowid, last_rowid)
                last_rowid = self._skip_damaged(connection, table, last_rowid)
            else:
                rowids_read.add(start_rowid, MAX_ROWID)
                return

    def _read_from_pages(
        self, table: str, columns: dict[str, str], rowids_read: _RowidRanges
    ) -> Iterator[tuple[Any, ...]]:
        """Yield rows that SQLite cannot reach, recognized by the types of their columns."""
        known_columns = table_columns(FORMAT1_SCHEMA if self.is_format1 else None).get(table, ())
        column_types = {
            column.name: _column_type(column) for column in known_columns
        } or SEQUENCE_COLUMNS
        rowid_column = next(
            (column.name for column in known_columns if column.is_key and column.type == "INTEGER"),
            "",
        )
        for rowid, values in scan_pages(self._path):
            values_by_name = dict(zip(column_types, values, strict=False))
            if len(values) > len(column_types) or rowid in rowids_read:
                continue
            if rowid_column:
                if values_by_name.get(rowid_column) is not None:
                    continue
                values_by_name[rowid_column] = rowid
            if not set(column_types) - set(values_by_name) <= set(_DEFAULT_VALUES):
                continue
            values_by_name = {**_DEFAULT_VALUES, **values_by_name}
            row_values = [values_by_name[name] for name in column_types]
            if _decode_row(row_values, column_types) is None or not all(
                isinstance(value, Blob) == (column_type.removesuffix("?") == "blob")
                for value, column_type in zip(row_values, column_types.values(), strict=True)
                if isinstance(value, bytes) and value
            ):
                continue
            row = _decode_row([values_by_name[name] for name in columns], columns)
            if row is not None:
                yield row

    def _is_table(self, connection: sqlite3.Connection, table: str) -> bool:
        """Return True if a name is a table: a view in a crafted schema may yield endless rows."""
        statement = "SELECT sql FROM sqlite_master WHERE name = ?"
        try:
            definitions = connection.execute(statement, [table]).fetchall()
        except sqlite3.Error as error:
            self._raise_unless_damaged(error)
            return True
        return all(sql is None or sql.upper().startswith(b"CREATE TABLE") for (sql,) in definitions)

    def _column_names(self, connection: sqlite3.Connection, table: str) -> set[str]:
        """Return the names of a table's columns; an empty set if the schema cannot be read."""
        try:
            rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
        except sqlite3.Error as error:
            self._raise_unless_damaged(error)
            rows = []
        return {name.decode(errors="replace") for _, name, *_ in rows}

    def close(self) -> None:
        """Close the database."""
        if self._connection is not None:
            self._connection.close()

    def _skip_damaged(self, connection: sqlite3.Connection, table: str, last_rowid: int) -> int:
        """Return the lowest rowid after which the next row can be read."""
        step = 1
        while not self._can_read_after(connection, table, min(last_rowid + step, MAX_ROWID)):
            if last_rowid + step >= MAX_ROWID:
                return MAX_ROWID
            step *= 2
        low, high = last_rowid + step // 2, min(last_rowid + step, MAX_ROWID)
        while high - low > 1:
            middle = (low + high) // 2
            if self._can_read_after(connection, table, middle):
                high = middle
            else:
                low = middle
        return high

    def _can_read_after(self, connection: sqlite3.Connection, table: str, rowid: int) -> bool:
        statement = f"SELECT * FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT 1"  # noqa: S608
        try:
            connection.execute(statement, [rowid]).fetchall()
        except sqlite3.Error as error:
            self._raise_unless_damaged(error)
            return False
        return True

    def _raise_unless_damaged(self, error: sqlite3.Error) -> None:
        """Raise an error unless SQLite reports damage; other unreadable data is not lost.

        Raises:
            InspectionError: SQLite reports an error other than damage.
        """
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        # SQLITE_ERROR means that the damaged schema lacks the table.
        if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise InspectionError(
                f"{self._path} cannot be read: {error}.", "Nothing was changed. Run it again later."
            ) from error


class _RowidRanges:
    """Ranges of rowids whose rows were all read."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, after_rowid: int, last_rowid: int) -> None:
        """Add the rowids above ``after_rowid``, up to and including ``last_rowid``."""
        self._ranges.append((after_rowid, last_rowid))

    def __contains__(self, rowid: int) -> bool:
        """Return True if the row was read or does not exist."""
        return any(after_rowid < rowid <= last_rowid for after_rowid, last_rowid in self._ranges)


def _column_type(column: Column) -> str:
    type_name = {"INTEGER": "integer", "BLOB": "blob"}.get(column.type, "text")
    return type_name + "?" * column.nullable


def _decode_row(values: Sequence[Any], columns: dict[str, str]) -> tuple[Any, ...] | None:
    """Return a row with its texts decoded; None if a value has the wrong type."""
    row = []
    value: Any
    for value, column_type in zip(values, columns.values(), strict=True):
        base_type = column_type.removesuffix("?")
        if value is None:
            if base_type == column_type:
                return None
        elif not isinstance(value, int if base_type == "integer" else bytes):
            return None
        elif base_type == "text" and isinstance(value, bytes):
            try:
                value = value.decode()  # noqa: PLW2901
            except UnicodeDecodeError:
                return None
        row.append(value)
    return tuple(row)


def read_settings(damaged: DamagedCatalog) -> dict[str, Any]:
    """Return the readable settings with valid JSON, by key."""
    settings: dict[str, Any] = {}
    for key, value in damaged.read_rows("settings", {"key": "text", "value": "text"}):
        try:
            settings.setdefault(key, json.loads(value))
        except (ValueError, RecursionError):
            damaged.unreadable_tables.add("settings")
    return settings


def read_building(damaged: DamagedCatalog) -> set[int]:
    """Return the readable numbers of the segments of a space that was being built."""
    if damaged.is_format1:
        return {number for (number,) in damaged.read_rows("staged_segments", {"number": "integer"})}
    spaces = {
        space_id
        for space_id, state in damaged.read_rows("spaces", {"id": "integer", "state": "text"})
        if state == BUILDING
    }
    columns = {"number": "integer", "space_id": "integer?"}
    return {
        number for number, space_id in damaged.read_rows("segments", columns) if space_id in spaces
    }
