"""Recovery of the readable rows of a damaged catalog, and copying them into a new one.

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
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import text as _sql

from mmsearch.catalog import texts
from mmsearch.catalog.commits import find_image_ids
from mmsearch.catalog.connection import connect_read_only
from mmsearch.catalog.page_scan import scan_pages
from mmsearch.catalog.paths import is_root_path, is_safe_relative_path
from mmsearch.catalog.roots import ensure_root
from mmsearch.catalog.sql_utils import chunks
from mmsearch.catalog.sqlalchemy_engine import write_transaction
from mmsearch.catalog.tables import Base, FileRow, ImageRow, RootRow, RunRow, SettingRow, TextRow
from mmsearch.catalog.timeouts import MAINTENANCE_TIMEOUT_S, TimeoutConnection
from mmsearch.core.errors import InspectionError
from mmsearch.core.records import SalvageResult
from mmsearch.core.types import Text, TextSource

MAX_ROWID = 2**63 - 1
BATCH_ROWS = 1000

UNFINISHED_REPAIR_KEY = "unfinished_repair"
"""Key of the setting with the ids of the roots that a repair has yet to scan."""

_DEFAULT_SQL = {"texts_key": "x''", "source": "'metadata'"}
"""Default values, as SQL, of columns missing from older schemas."""

_DEFAULT_VALUES: dict[str, Any] = {
    "texts_key": b"",
    "source": b"metadata",
    "file_id": None,
    "spaceless": 0,
    "table_path": None,
}
"""Default values, as Python objects, for rows older than these columns."""

_SEQUENCE_COLUMNS = {"name": "text", "seq": "integer"}

_SEQUENCE_TABLES = ("roots", "segments", "images", "built_indexes", "generations")

_FILE_COLUMNS = {
    "id": "integer",
    "root_id": "integer",
    "path": "blob",
    "size": "integer",
    "mtime_ns": "integer",
    "checked_ns": "integer",
    "digest": "blob",
    "error": "text?",
    "texts_key": "blob",
}
_TEXT_COLUMNS = {
    "image_id": "integer",
    "file_id": "integer?",
    "kind": "text",
    "text": "text",
    "language": "text?",
    "source": "text",
    "table_path": "blob?",
}
_RUN_COLUMNS = {"started_at": "text", "finished_at": "text?", "outcome": "text", "counts": "text"}


class DamagedCatalog:
    """Reader of the rows of a damaged catalog; close it after use.

    Args:
        path: The database.

    Attributes:
        unreadable_tables: Names of the tables with rows that could not be read so far.

    Raises:
        InspectionError: The database cannot be opened for a reason other than damage.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unreadable_tables: set[str] = set()
        self._connection: TimeoutConnection | None = None
        if not path.exists():
            return
        try:
            self._connection = connect_read_only(path)
            # SQLite then skips schema entries that it cannot parse.
            self._connection.execute("PRAGMA writable_schema = ON")
            self._connection.text_factory = bytes
            self._connection.set_timeout(MAINTENANCE_TIMEOUT_S)
        except sqlite3.Error as error:
            self._raise_unless_damaged(error)

    def read_rows(self, table: str, columns: dict[str, str]) -> Iterator[tuple[Any, ...]]:
        """Yield the readable rows of a table: first in rowid order, then those of raw pages.

        Rows with values of the wrong type are skipped.

        Args:
            table: Name of the table.
            columns: Required result of SQLite's typeof by column; ``text?`` allows NULL.
        """
        rowids_read = _RowidRanges()
        num_incomplete = len(self.unreadable_tables)
        if self._connection is not None:
            yield from self._read_reachable(self._connection, table, columns, rowids_read)
        else:
            self.unreadable_tables.add(table)
        is_incomplete = (
            table in self.unreadable_tables or len(self.unreadable_tables) > num_incomplete
        )
        if is_incomplete and self._path.exists():
            yield from self._read_from_pages(table, columns, rowids_read)

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
        table_model = Base.metadata.tables.get(table)
        model_columns = [] if table_model is None else list(table_model.columns)
        column_types = {
            column.name: _column_type(column) for column in model_columns
        } or _SEQUENCE_COLUMNS
        rowid_column = next(
            (column.name for column in model_columns if _is_rowid_alias(column)), ""
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
            if _decode_row([values_by_name[name] for name in column_types], column_types) is None:
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


def _column_type(column: Column[Any]) -> str:
    if isinstance(column.type, Integer):
        type_name = "integer"
    else:
        type_name = "blob" if isinstance(column.type, LargeBinary) else "text"
    return type_name + "?" * bool(column.nullable)


def _is_rowid_alias(column: Column[Any]) -> bool:
    return column.primary_key and isinstance(column.type, Integer)


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


def read_staged(damaged: DamagedCatalog) -> set[int]:
    """Return the readable numbers of staged segments."""
    return {number for (number,) in damaged.read_rows("staged_segments", {"number": "integer"})}


def recover_rows(
    damaged: DamagedCatalog, engine: Engine, recorded_roots: Sequence[bytes]
) -> SalvageResult:
    """Copy the readable rows of a damaged catalog into a new one.

    The new catalog must already contain the segments and pictures.

    Args:
        damaged: The source.
        engine: Writable engine of the new catalog.
        recorded_roots: The folders in the checksum file of the damaged catalog.

    Raises:
        InspectionError: The source cannot be read for a reason other than damage.
    """
    with write_transaction(engine) as connection:
        _recover_roots(damaged, connection, recorded_roots)
        _recover_history(damaged, connection)
    num_files, num_lost_contents = _recover_files(damaged, engine)
    num_texts = _recover_texts(damaged, engine)
    with write_transaction(engine) as connection:
        if "texts" in damaged.unreadable_tables:
            # An empty key makes the next run read the texts beside files again. Caption-table
            # texts stay.
            connection.execute(update(FileRow).values(texts_key=b""))
        stale_ids = select(ImageRow.id).where(ImageRow.retell == 1, ImageRow.file_count > 0)
        texts.clear_stale(connection, connection.execute(stale_ids).scalars().all())
    return SalvageResult(
        num_files, num_texts, num_lost_contents, tuple(sorted(damaged.unreadable_tables))
    )


def _recover_roots(
    damaged: DamagedCatalog, connection: Connection, recorded_roots: Sequence[bytes]
) -> None:
    columns = {"id": "integer", "name": "text", "path": "blob"}
    for number, name, path in damaged.read_rows("roots", columns):
        if not is_root_path(path):
            damaged.unreadable_tables.add("roots")
            continue
        row = {"id": number, "name": name, "path": path}
        connection.execute(insert(RootRow).prefix_with("OR IGNORE"), row)
    for path in filter(is_root_path, recorded_roots):
        ensure_root(connection, path)


def _recover_history(damaged: DamagedCatalog, connection: Connection) -> None:
    """Copy the creation date, the runs, and the highest number that each table ever used."""
    for (created_at,) in _read_text_setting(damaged, "created_at"):
        statement = update(SettingRow).where(SettingRow.key == "created_at")
        connection.execute(statement.values(value=created_at))
    for started_at, finished_at, outcome, counts in damaged.read_rows("runs", _RUN_COLUMNS):
        try:
            parsed_counts = dict(json.loads(counts))
        except (ValueError, TypeError, RecursionError):
            damaged.unreadable_tables.add("runs")
            continue
        row = {
            "started_at": started_at,
            "finished_at": finished_at,
            "outcome": outcome,
            "counts": parsed_counts,
        }
        connection.execute(insert(RunRow), row)
    for name, sequence in damaged.read_rows("sqlite_sequence", _SEQUENCE_COLUMNS):
        if name in _SEQUENCE_TABLES and 0 < sequence < MAX_ROWID // 2:
            values = {"name": name, "seq": sequence}
            is_present = connection.execute(_sql(_HAS_SEQUENCE), values).scalar()
            connection.execute(_sql(_RAISE_SEQUENCE if is_present else _ADD_SEQUENCE), values)


_HAS_SEQUENCE = "SELECT count(*) FROM sqlite_sequence WHERE name = :name"
_RAISE_SEQUENCE = "UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = :name"
_ADD_SEQUENCE = "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"


def _read_text_setting(damaged: DamagedCatalog, key: str) -> Iterator[tuple[str]]:
    value = read_settings(damaged).get(key)
    if isinstance(value, str):
        yield (value,)


def _recover_files(damaged: DamagedCatalog, engine: Engine) -> tuple[int, int]:
    """Copy the files; return how many were copied and how many have content without a vector."""
    num_recovered = num_lost = 0
    for rows in _batches(damaged.read_rows("files", _FILE_COLUMNS)):
        with write_transaction(engine) as connection:
            roots = set(connection.execute(select(RootRow.id)).scalars())
            images = find_image_ids(connection, (row[6] for row in rows))
            new_rows = []
            for row in rows:
                values = dict(zip(_FILE_COLUMNS, row, strict=True))
                values["image_id"] = images.get(values["digest"])
                if values["error"] is not None:
                    values["image_id"] = None
                if not is_safe_relative_path(values["path"]):
                    damaged.unreadable_tables.add("files")
                elif values["root_id"] not in roots:
                    damaged.unreadable_tables.add("roots")
                elif values["image_id"] is None and values["error"] is None:
                    num_lost += 1
                else:
                    new_rows.append(values)
            if new_rows:
                connection.execute(insert(FileRow).prefix_with("OR IGNORE"), new_rows)
        num_recovered += len(new_rows)
    return num_recovered, num_lost


def _recover_texts(damaged: DamagedCatalog, engine: Engine) -> int:
    """Copy the texts of files; texts embedded in pictures are in the segments.

    Return the number of copied texts.
    """
    num_recovered = 0
    known_sources = {source.value for source in TextSource}
    for rows in _batches(damaged.read_rows("texts", _TEXT_COLUMNS)):
        with write_transaction(engine) as connection:
            files = _load_image_ids(connection, FileRow, [row[1] for row in rows if row[1]])
            images = _load_image_ids(connection, ImageRow, [row[0] for row in rows])
            new_rows: list[tuple[int, int | None, Text, bytes | None]] = []
            for image_id, file_id, kind, text_value, language, source, table in rows:
                text = Text(kind, text_value, language, source)
                if source not in known_sources:
                    damaged.unreadable_tables.add("texts")
                elif files.get(file_id) is not None:
                    new_rows.append((files[file_id], file_id, text, table))
                elif source == TextSource.TABLE and image_id in images:
                    # `reattach_texts` finds its file again.
                    new_rows.append((image_id, None, text, table))
            texts.insert_texts(connection, new_rows)
        num_recovered += len(new_rows)
    return num_recovered


def _load_image_ids(
    connection: Connection, table: type[FileRow] | type[ImageRow], ids: Sequence[int]
) -> dict[int, Any]:
    """Return the picture ids of existing rows, by row id."""
    image_column = table.image_id if table is FileRow else ImageRow.id
    image_ids: dict[int, Any] = {}
    for chunk in chunks(sorted(set(ids))):
        rows = connection.execute(select(table.id, image_column).where(table.id.in_(chunk)))
        image_ids.update((row_id, image_id) for row_id, image_id in rows)
    return image_ids


def reattach_texts(connection: Connection) -> None:
    """Attach caption-table texts whose files were lost to a file of the same picture, if any."""
    first_file_id = select(func.min(FileRow.id)).where(FileRow.image_id == TextRow.image_id)
    connection.execute(
        update(TextRow)
        .where(TextRow.file_id.is_(None), TextRow.source == TextSource.TABLE.value)
        .values(file_id=first_file_id.scalar_subquery())
    )


def load_unfinished_roots(connection: Connection) -> list[int]:
    """Return the ids of the roots that a repair has yet to scan."""
    statement = select(SettingRow.value).where(SettingRow.key == UNFINISHED_REPAIR_KEY)
    return list(connection.execute(statement).scalar() or ())


def save_unfinished_roots(connection: Connection, ids: Sequence[int]) -> None:
    """Store the ids of the roots that a repair has yet to scan."""
    connection.execute(delete(SettingRow).where(SettingRow.key == UNFINISHED_REPAIR_KEY))
    if ids:
        connection.execute(insert(SettingRow), {"key": UNFINISHED_REPAIR_KEY, "value": list(ids)})


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch
