"""Rows written to PostgreSQL: copied (COPY) to a temporary table, then moved by one statement.

Rows are moved in their own order (``ctid``), so that ids are given in the same order as by SQLite.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from psycopg import errors
from sqlalchemy import Table

from mmsearch.catalog.database import Database
from mmsearch.catalog.dialects import FOLDED_COLUMNS
from mmsearch.catalog.folding import fold_record, index_text
from mmsearch.catalog.postgres import PostgresDatabase, translated_errors
from mmsearch.catalog.tables import JsonText
from mmsearch.core.query import fold_text

_INDEXED_TEXT = "indexed_text"
"""Column of the temporary table of texts from which ``texts.words`` is made."""

_Row = Mapping[str, Any]


class RowCopier:
    """Writes rows in a transaction of PostgreSQL; see `mmsearch.catalog.row_writes`.

    Args:
        db: A database in a transaction.
        is_encoded: True if values of JSON are texts already.
    """

    def __init__(self, db: Database, *, is_encoded: bool = False) -> None:
        if not isinstance(db, PostgresDatabase):
            raise TypeError("not a database of PostgreSQL")
        self._db = db
        self._is_encoded = is_encoded

    def insert(self, table: Table, rows: Sequence[_Row]) -> None:
        """Insert rows.

        Raises:
            RowConflictError: A key is taken.
        """
        from mmsearch.catalog.row_writes import RowConflictError  # noqa: PLC0415 - imports this

        try:
            if table.name == "texts":
                self._move_texts(table, rows)
            else:
                self._copy(table.name, table, rows)
        except errors.IntegrityError as error:
            raise RowConflictError(str(error.diag.message_primary)) from error

    def insert_new(self, table: Table, rows: Sequence[_Row]) -> None:
        """Insert the rows whose keys are not taken."""
        columns = self._stage(table, rows)
        names = ", ".join(columns)
        self._db.query(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM copied_{table.name}"  # noqa: S608
            " ORDER BY ctid ON CONFLICT DO NOTHING"
        )

    def upsert(
        self, table: Table, rows: Sequence[_Row], key: Sequence[str], *, changed: bool
    ) -> None:
        """Insert rows, or replace the values of those whose key is known."""
        # One statement cannot write a row twice; the last one counts.
        last = {tuple(row[name] for name in key): row for row in rows}
        columns = self._stage(table, list(last.values()))
        names, others = ", ".join(columns), [name for name in columns if name not in key]
        assigned = ", ".join(f"{name} = excluded.{name}" for name in others)
        condition = ""
        if changed:
            old, new = (
                ", ".join(f"{source}.{name}" for name in others) for source in ("known", "excluded")
            )
            condition = f" WHERE ({old}) IS DISTINCT FROM ({new})"
        self._db.query(
            f"INSERT INTO {table.name} AS known ({names}) SELECT {names} FROM copied_{table.name}"  # noqa: S608
            " ORDER BY ctid"
            f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {assigned}{condition}"
        )

    def update(self, table: Table, rows: Sequence[_Row], key: Sequence[str]) -> None:
        """Write the other values of rows that are found by a key."""
        columns = self._stage(table, rows)
        assigned = ", ".join(f"{name} = new.{name}" for name in columns if name not in key)
        self._db.query(
            f"UPDATE {table.name} SET {assigned} FROM copied_{table.name} AS new"  # noqa: S608
            f" WHERE {_equal(table.name, 'new', key)}"
        )

    def delete(self, table: Table, rows: Sequence[_Row]) -> None:
        """Delete the rows that have these values."""
        self._stage(table, rows)
        self._db.query(
            f"DELETE FROM {table.name} USING copied_{table.name} AS old"  # noqa: S608
            f" WHERE {_equal(table.name, 'old', list(rows[0]))}"
        )

    def reserve(self, table: str, column: str, count: int) -> int:
        """Return the first of some ids that no row ever had; the caller holds the writer's lock."""
        sequence = f"pg_get_serial_sequence('{table}', '{column}')"
        ((first,),) = self._db.query(f"SELECT nextval({sequence})")
        self._db.query(f"SELECT setval({sequence}, ?)", [first + max(count, 1) - 1])
        return int(first)

    def _move_texts(self, table: Table, rows: Sequence[_Row]) -> None:
        columns = self._stage(table, rows)
        names = ", ".join(name for name in columns if name != _INDEXED_TEXT)
        self._db.query(
            f"INSERT INTO texts ({names}, words)"  # noqa: S608
            f" SELECT {names}, to_tsvector('mmsearch_words', {_INDEXED_TEXT}) FROM copied_texts"
            " ORDER BY ctid"
        )

    def _stage(self, table: Table, rows: Sequence[_Row]) -> list[str]:
        """Copy rows to the temporary table of a table, and return their columns."""
        name = f"copied_{table.name}"
        extra = f", CAST(NULL AS TEXT) AS {_INDEXED_TEXT}" if table.name == "texts" else ""
        self._db.query(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ON COMMIT DELETE ROWS"  # noqa: S608
            f" AS SELECT *{extra} FROM {table.name} WITH NO DATA"
        )
        self._db.query(f"TRUNCATE {name}")
        return self._copy(name, table, rows)

    def _copy(self, target: str, table: Table, rows: Sequence[_Row]) -> list[str]:
        makers = _makers(table, rows[0], is_encoded=self._is_encoded)
        with translated_errors(self._db.place), self._db.connection.cursor() as cursor:
            statement = f"COPY {target} ({', '.join(makers)}) FROM STDIN"
            with cursor.copy(statement.encode()) as copy:
                for row in rows:
                    copy.write_row([make(row) for make in makers.values()])
        return list(makers)


_Maker = Callable[[_Row], Any]
"""Function that returns the value of a column, given a row."""


def _makers(table: Table, row: _Row, *, is_encoded: bool) -> dict[str, _Maker]:
    """Return the columns that are written for rows like this one."""
    makers: dict[str, _Maker] = {}
    for name in row:
        is_json = not is_encoded and isinstance(table.c[name].type, JsonText)
        makers[name] = _json_maker(name) if is_json else itemgetter(name)
    if table.name == "items":
        makers |= {f"{name}_folded": _fold_maker(name) for name in FOLDED_COLUMNS if name in row}
    elif table.name == "assets" and "record" in row:
        makers["record_folded"] = lambda row: fold_record(row["record"])
    elif table.name == "texts" and "text" in row:
        makers[_INDEXED_TEXT] = lambda row: index_text(row["text"])
        makers["spaceless_text"] = lambda row: fold_text(row["text"]) if row["spaceless"] else None
    return makers


def _json_maker(name: str) -> _Maker:
    return lambda row: json.dumps(row[name])


def _fold_maker(name: str) -> _Maker:
    return lambda row: fold_text(row[name])


def _equal(table: str, other: str, columns: Sequence[str]) -> str:
    return " AND ".join(f"{table}.{name} = {other}.{name}" for name in columns)
