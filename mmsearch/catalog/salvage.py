"""Every row of a damaged catalog that can still be read, and carrying rows over into a new one.

SQLite refuses a damaged page, not the pages around it. So a table is read in the order of its
rowids, and where SQLite refuses, reading goes on behind the smallest gap that it can be made to
step over. What it does not reach at all is looked for in the pages themselves, where rows that were
deleted before may be found again: that is better than to lose those that were not.
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
from mmsearch.catalog.commits import images_of
from mmsearch.catalog.connection import connect_for_reading
from mmsearch.catalog.limits import MAINTENANCE_S, LimitedConnection
from mmsearch.catalog.pages import rows_in_pages
from mmsearch.catalog.places import is_path_below, is_root
from mmsearch.catalog.roots import ensure_root
from mmsearch.catalog.sqlalchemy_engine import writing
from mmsearch.catalog.statements import chunks
from mmsearch.catalog.tables import Base, FileRow, ImageRow, RootRow, RunRow, SettingRow, TextRow
from mmsearch.core.errors import InspectionError
from mmsearch.core.records import CarriedOver
from mmsearch.core.types import Text, TextSource

HIGHEST_ROWID = 2**63 - 1
BATCH = 1000

UNFINISHED = "unfinished_repair"
"""The setting that lists the roots, by id, whose folders a repair has yet to look through."""

_DEFAULTS = {"texts_key": "x''", "source": "'metadata'"}
"""Default values, as SQL, of columns that an older schema does not have."""

_ADDED: dict[str, Any] = {
    "texts_key": b"",
    "source": b"metadata",
    "file_id": None,
    "spaceless": 0,
    "table_path": None,
}
"""The same as values, for rows that are older than these columns."""

_SEQUENCE = {"name": "text", "seq": "integer"}

_SEQUENCES = ("roots", "segments", "images", "built_indexes", "generations")

_FILES = {
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
_TEXTS = {
    "image_id": "integer",
    "file_id": "integer?",
    "kind": "text",
    "text": "text",
    "language": "text?",
    "source": "text",
    "table_path": "blob?",
}
_RUNS = {"started_at": "text", "finished_at": "text?", "outcome": "text", "counts": "text"}


class DamagedCatalog:
    """Reads the rows of a damaged catalog; to be closed.

    Args:
        path: The database.

    Attributes:
        incomplete: Tables of which rows could not be read so far.

    Raises:
        InspectionError: It cannot be opened for another reason than damage.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.incomplete: set[str] = set()
        self._connection: LimitedConnection | None = None
        if not path.exists():
            return
        try:
            self._connection = connect_for_reading(path)
            # Entries of the schema that cannot be understood are passed over.
            self._connection.execute("PRAGMA writable_schema = ON")
            self._connection.text_factory = bytes
            self._connection.limit(MAINTENANCE_S)
        except sqlite3.Error as error:
            self._refuse_other(error)

    def rows(self, table: str, columns: dict[str, str]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table that can be read, in the order of their rowids.

        Rows with values of another kind are left out.

        Args:
            table: Its name.
            columns: By name, what SQLite's typeof must say; ``text?`` is a text or NULL.
        """
        read = _Intervals()
        before = len(self.incomplete)
        if self._connection is not None:
            yield from self._reachable(self._connection, table, columns, read)
        else:
            self.incomplete.add(table)
        is_incomplete = table in self.incomplete or len(self.incomplete) > before
        if is_incomplete and self._path.exists():
            yield from self._in_pages(table, columns, read)

    def _reachable(
        self,
        connection: sqlite3.Connection,
        table: str,
        columns: dict[str, str],
        read: _Intervals,
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that SQLite reaches."""
        if not self._is_table(connection, table):
            self.incomplete.add(table)
            return
        held = self._columns(connection, table)
        names = ", ".join(n if n in held else _DEFAULTS.get(n, "NULL") for n in columns)
        statement = f"SELECT rowid, {names} FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid"  # noqa: S608 - our names
        last = -1
        while last < HIGHEST_ROWID:
            start = last
            try:
                with closing(connection.execute(statement, [last])) as cursor:
                    for rowid, *values in cursor:
                        last = max(last, rowid)
                        row = _of_kinds(values, columns)
                        if row is None:
                            self.incomplete.add(table)
                        else:
                            yield row
            except sqlite3.Error as error:
                self._refuse_other(error)
                self.incomplete.add(table)
                read.add(start, last)
                last = self._behind_gap(connection, table, last)
            else:
                read.add(start, HIGHEST_ROWID)
                return

    def _in_pages(
        self, table: str, columns: dict[str, str], read: _Intervals
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table that SQLite does not reach, by the look of their columns."""
        shape = Base.metadata.tables.get(table)
        described = [] if shape is None else list(shape.columns)
        every = {column.name: _kind_of(column) for column in described} or _SEQUENCE
        alias = next((column.name for column in described if _is_rowid(column)), "")
        for rowid, values in rows_in_pages(self._path):
            whole = dict(zip(every, values, strict=False))
            if len(values) > len(every) or rowid in read:
                continue
            if alias:
                if whole.get(alias) is not None:
                    continue
                whole[alias] = rowid
            if not set(every) - set(whole) <= set(_ADDED):
                continue
            whole = {**_ADDED, **whole}
            if _of_kinds([whole[name] for name in every], every) is None:
                continue
            row = _of_kinds([whole[name] for name in columns], columns)
            if row is not None:
                yield row

    def _is_table(self, connection: sqlite3.Connection, table: str) -> bool:
        """Return whether a name is a table: a view in a crafted schema may yield rows for ever."""
        statement = "SELECT sql FROM sqlite_master WHERE name = ?"
        try:
            found = connection.execute(statement, [table]).fetchall()
        except sqlite3.Error as error:
            self._refuse_other(error)
            return True
        return all(sql is None or sql.upper().startswith(b"CREATE TABLE") for (sql,) in found)

    def _columns(self, connection: sqlite3.Connection, table: str) -> set[str]:
        """Return the names of the columns of a table; all it may have, if the schema is lost."""
        try:
            rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
        except sqlite3.Error as error:
            self._refuse_other(error)
            rows = []
        return {name.decode(errors="replace") for _, name, *_ in rows}

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()

    def _behind_gap(self, connection: sqlite3.Connection, table: str, last: int) -> int:
        """Return the lowest rowid after which the next row can be read."""
        step = 1
        while not self._can_read_after(connection, table, min(last + step, HIGHEST_ROWID)):
            if last + step >= HIGHEST_ROWID:
                return HIGHEST_ROWID
            step *= 2
        low, high = last + step // 2, min(last + step, HIGHEST_ROWID)
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
            self._refuse_other(error)
            return False
        return True

    def _refuse_other(self, error: sqlite3.Error) -> None:
        """Go on after damage only: what cannot be read for another reason is not lost.

        Raises:
            InspectionError: SQLite says that something else than damage is in the way.
        """
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        # A table that the damaged schema lacks is SQLITE_ERROR.
        if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise InspectionError(
                f"{self._path} cannot be read: {error}.", "Nothing was changed; run it again later."
            ) from error


class _Intervals:
    """Rowids of which all rows were read."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def add(self, after: int, last: int) -> None:
        """Add those above ``after``, up to ``last``."""
        self._spans.append((after, last))

    def __contains__(self, rowid: int) -> bool:
        """Return whether the row was read, or does not exist."""
        return any(after < rowid <= last for after, last in self._spans)


def _kind_of(column: Column[Any]) -> str:
    if isinstance(column.type, Integer):
        kind = "integer"
    else:
        kind = "blob" if isinstance(column.type, LargeBinary) else "text"
    return kind + "?" * bool(column.nullable)


def _is_rowid(column: Column[Any]) -> bool:
    return column.primary_key and isinstance(column.type, Integer)


def _of_kinds(values: Sequence[Any], columns: dict[str, str]) -> tuple[Any, ...] | None:
    """Return a row with its texts decoded; None if a value is of another kind."""
    row = []
    value: Any
    for value, kind in zip(values, columns.values(), strict=True):
        plain = kind.removesuffix("?")
        if value is None:
            if plain == kind:
                return None
        elif not isinstance(value, int if plain == "integer" else bytes):
            return None
        elif plain == "text" and isinstance(value, bytes):
            try:
                value = value.decode()  # noqa: PLW2901
            except UnicodeDecodeError:
                return None
        row.append(value)
    return tuple(row)


def read_settings(damaged: DamagedCatalog) -> dict[str, Any]:
    """Return the settings that can be read and are JSON, by key."""
    found: dict[str, Any] = {}
    for key, value in damaged.rows("settings", {"key": "text", "value": "text"}):
        try:
            found.setdefault(key, json.loads(value))
        except (ValueError, RecursionError):
            damaged.incomplete.add("settings")
    return found


def read_staged(damaged: DamagedCatalog) -> set[int]:
    """Return the numbers of the segments that are staged, as far as they can be read."""
    return {number for (number,) in damaged.rows("staged_segments", {"number": "integer"})}


def carry_over(
    damaged: DamagedCatalog, engine: Engine, sealed_roots: Sequence[bytes]
) -> CarriedOver:
    """Write rows of a damaged catalog into a new one, whose segments and pictures are there.

    Args:
        damaged: The source.
        engine: Of the new catalog; may write.
        sealed_roots: The folders that the seal of the damaged catalog names.

    Raises:
        InspectionError: The source cannot be read for another reason than damage.
    """
    with writing(engine) as connection:
        _carry_roots(damaged, connection, sealed_roots)
        _carry_history(damaged, connection)
    files, lost_contents = _carry_files(damaged, engine)
    carried_texts = _carry_texts(damaged, engine)
    with writing(engine) as connection:
        if "texts" in damaged.incomplete:
            # A run then reads the texts around files again; tables' texts stay.
            connection.execute(update(FileRow).values(texts_key=b""))
        flagged = select(ImageRow.id).where(ImageRow.retell == 1, ImageRow.file_count > 0)
        texts.settle(connection, connection.execute(flagged).scalars().all())
    return CarriedOver(files, carried_texts, lost_contents, tuple(sorted(damaged.incomplete)))


def _carry_roots(
    damaged: DamagedCatalog, connection: Connection, sealed_roots: Sequence[bytes]
) -> None:
    columns = {"id": "integer", "name": "text", "path": "blob"}
    for number, name, path in damaged.rows("roots", columns):
        if not is_root(path):
            damaged.incomplete.add("roots")
            continue
        row = {"id": number, "name": name, "path": path}
        connection.execute(insert(RootRow).prefix_with("OR IGNORE"), row)
    for path in filter(is_root, sealed_roots):
        ensure_root(connection, path)


def _carry_history(damaged: DamagedCatalog, connection: Connection) -> None:
    """Carry over what runs left, and the highest number that each table ever had."""
    for (created,) in _values_of(damaged, "created_at"):
        made = update(SettingRow).where(SettingRow.key == "created_at")
        connection.execute(made.values(value=created))
    for started, finished, outcome, counts in damaged.rows("runs", _RUNS):
        try:
            plain = dict(json.loads(counts))
        except (ValueError, TypeError, RecursionError):
            damaged.incomplete.add("runs")
            continue
        row = {"started_at": started, "finished_at": finished, "outcome": outcome, "counts": plain}
        connection.execute(insert(RunRow), row)
    for name, highest in damaged.rows("sqlite_sequence", _SEQUENCE):
        if name in _SEQUENCES and 0 < highest < HIGHEST_ROWID // 2:
            values = {"name": name, "seq": highest}
            there = connection.execute(_sql(_HAS_SEQUENCE), values).scalar()
            connection.execute(_sql(_RAISE_SEQUENCE if there else _ADD_SEQUENCE), values)


_HAS_SEQUENCE = "SELECT count(*) FROM sqlite_sequence WHERE name = :name"
_RAISE_SEQUENCE = "UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = :name"
_ADD_SEQUENCE = "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"


def _values_of(damaged: DamagedCatalog, key: str) -> Iterator[tuple[str]]:
    value = read_settings(damaged).get(key)
    if isinstance(value, str):
        yield (value,)


def _carry_files(damaged: DamagedCatalog, engine: Engine) -> tuple[int, int]:
    """Return how many files were carried over, and how many have a content without a vector."""
    carried = lost = 0
    for rows in _batches(damaged.rows("files", _FILES)):
        with writing(engine) as connection:
            roots = set(connection.execute(select(RootRow.id)).scalars())
            images = images_of(connection, (row[6] for row in rows))
            kept = []
            for row in rows:
                values = dict(zip(_FILES, row, strict=True))
                values["image_id"] = images.get(values["digest"])
                if values["error"] is not None:
                    values["image_id"] = None
                if not is_path_below(values["path"]):
                    damaged.incomplete.add("files")
                elif values["root_id"] not in roots:
                    damaged.incomplete.add("roots")
                elif values["image_id"] is None and values["error"] is None:
                    lost += 1
                else:
                    kept.append(values)
            if kept:
                connection.execute(insert(FileRow).prefix_with("OR IGNORE"), kept)
        carried += len(kept)
    return carried, lost


def _carry_texts(damaged: DamagedCatalog, engine: Engine) -> int:
    """Carry over the texts around files; those within pictures are in the segments."""
    carried = 0
    known = {source.value for source in TextSource}
    for rows in _batches(damaged.rows("texts", _TEXTS)):
        with writing(engine) as connection:
            files = _images_of_rows(connection, FileRow, [row[1] for row in rows if row[1]])
            images = _images_of_rows(connection, ImageRow, [row[0] for row in rows])
            kept: list[tuple[int, int | None, Text, bytes | None]] = []
            for image_id, file_id, kind, words, language, source, table in rows:
                text = Text(kind, words, language, source)
                if source not in known:
                    damaged.incomplete.add("texts")
                elif files.get(file_id) is not None:
                    kept.append((files[file_id], file_id, text, table))
                elif source == TextSource.TABLE and image_id in images:
                    # Its file is found again by `attach_texts`.
                    kept.append((image_id, None, text, table))
            texts.insert_texts(connection, kept)
        carried += len(kept)
    return carried


def _images_of_rows(
    connection: Connection, table: type[FileRow] | type[ImageRow], ids: Sequence[int]
) -> dict[int, Any]:
    """Return the pictures of files, or of themselves, by the ids of those that exist."""
    image = table.image_id if table is FileRow else ImageRow.id
    found: dict[int, Any] = {}
    for part in chunks(sorted(set(ids))):
        rows = connection.execute(select(table.id, image).where(table.id.in_(part)))
        found.update((number, held) for number, held in rows)
    return found


def attach_texts(connection: Connection) -> None:
    """Give the texts of tables whose files were lost to a file of the same picture, if there is."""
    first = select(func.min(FileRow.id)).where(FileRow.image_id == TextRow.image_id)
    connection.execute(
        update(TextRow)
        .where(TextRow.file_id.is_(None), TextRow.source == TextSource.TABLE.value)
        .values(file_id=first.scalar_subquery())
    )


def unfinished_roots(connection: Connection) -> list[int]:
    """Return the ids of the roots whose folders a repair has yet to look through."""
    setting = select(SettingRow.value).where(SettingRow.key == UNFINISHED)
    return list(connection.execute(setting).scalar() or ())


def note_unfinished_roots(connection: Connection, ids: Sequence[int]) -> None:
    """Write down the roots whose folders a repair has yet to look through."""
    connection.execute(delete(SettingRow).where(SettingRow.key == UNFINISHED))
    if ids:
        connection.execute(insert(SettingRow), {"key": UNFINISHED, "value": list(ids)})


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := list(islice(rows, BATCH)):
        yield batch
