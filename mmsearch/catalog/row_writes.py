"""Rows written by a transaction: one statement for many rows, by SQLite or by PostgreSQL.

To SQLite, a statement is repeated with the values of each row. To PostgreSQL, rows are copied
(COPY) to a temporary table, and one statement moves them: see `mmsearch.catalog.postgres_rows`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, bindparam, delete, or_, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError

from mmsearch.catalog.database import Database
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, is_postgres
from mmsearch.catalog.tables import SETTINGS, JsonText

if TYPE_CHECKING:
    from mmsearch.catalog.postgres_rows import RowCopier

Rows = Sequence[Mapping[str, Any]]
"""Rows with the same columns; none are fine."""


class RowConflictError(ValueError):
    """A row has a key that another one has, or refers to a row that does not exist."""


def insert_rows(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows.

    Args:
        connection: A connection in a transaction.
        table: A table of `mmsearch.catalog.tables`.
        rows: The rows.

    Raises:
        RowConflictError: A key is taken.
    """
    if not rows:
        return
    if is_postgres(connection):
        _copier(connection).insert(table, rows)
        return
    try:
        _insert(connection, "INSERT", table, rows)
    except IntegrityError as error:
        raise RowConflictError(str(error.orig)) from error


def insert_new_rows(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert the rows whose keys are not taken."""
    if not rows:
        return
    if is_postgres(connection):
        _copier(connection).insert_new(table, rows)
    else:
        _insert(connection, "INSERT OR IGNORE", table, rows)


def upsert_rows(
    connection: Connection, table: Table, rows: Rows, key: Sequence[str], *, changed: bool = False
) -> None:
    """Insert rows, or replace the values of those whose key is known.

    Args:
        connection: A connection in a transaction.
        table: A table of `mmsearch.catalog.tables`.
        rows: The rows.
        key: The columns of a unique key.
        changed: True to write only rows that differ from those that are stored.
    """
    if not rows:
        return
    if is_postgres(connection):
        _copier(connection).upsert(table, rows, key, changed=changed)
        return
    upsert = sqlite.insert(table)
    new_values = upsert.excluded
    columns = [name for name in rows[0] if name not in key]
    where = or_(*(table.c[n].is_distinct_from(new_values[n]) for n in columns)) if changed else None
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=list(key), set_={name: new_values[name] for name in columns}, where=where
        ),
        list(rows),
    )


def update_rows(connection: Connection, table: Table, rows: Rows, key: Sequence[str]) -> None:
    """Write the other values of rows that are found by a key."""
    if not rows:
        return
    if is_postgres(connection):
        _copier(connection).update(table, rows, key)
        return
    statement = update(table)
    for name in key:
        statement = statement.where(table.c[name] == bindparam(f"of_{name}"))
    values: dict[str, Any] = {name: bindparam(f"of_{name}") for name in rows[0] if name not in key}
    connection.execute(statement.values(values), _prefixed(rows))


def delete_rows(connection: Connection, table: Table, rows: Rows) -> None:
    """Delete the rows that have these values."""
    if not rows:
        return
    if is_postgres(connection):
        _copier(connection).delete(table, rows)
        return
    statement = delete(table)
    for name in rows[0]:
        statement = statement.where(table.c[name] == bindparam(f"of_{name}"))
    connection.execute(statement, _prefixed(rows))


def save_setting(connection: Connection, key: str, value: object) -> None:
    """Write a setting; the value is stored as JSON."""
    upsert_rows(connection, SETTINGS, [{"key": key, "value": value}], ["key"])


def reserve_numbers(connection: Connection, table: Table, count: int) -> int:
    """Return the first of some ids of a table that no row ever had; ``count`` of them are free."""
    (column,) = table.primary_key.columns
    db = as_read_connection(connection)
    if is_postgres(connection):
        return _copier(connection).reserve(table.name, column.name, count)
    rows = db.query(
        "SELECT max((SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?),"  # noqa: S608
        f" (SELECT coalesce(max({column.name}), 0) FROM {table.name})) + 1",
        [table.name],
    )
    return int(rows[0][0])


def reserve_ids(db: Database, table: str, count: int) -> int:
    """Return the first of some ids that no row will have, unless the caller writes it.

    Ids that are reserved and not used leave a gap.
    """
    ((first,),) = db.query(f"SELECT {db.dialect.next_id(table, 'id')}")
    if db.dialect.name == "postgresql":
        ((last,),) = db.query(
            "INSERT INTO sqlite_sequence AS known (name, seq) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET seq = known.seq + excluded.seq RETURNING seq",
            [table, count],
        )
        return int(last) - count + 1
    exists = db.query("SELECT 1 FROM sqlite_sequence WHERE name = ?", [table])
    statement = "UPDATE sqlite_sequence SET seq = :seq WHERE name = :name"
    if not exists:
        statement = "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"
    db.query(statement, {"name": table, "seq": first + count - 1})
    return int(first)


def _insert(connection: Connection, verb: str, table: Table, rows: Rows) -> None:
    """Insert rows without SQLAlchemy's work on each value."""
    columns = list(rows[0])
    is_json = [isinstance(table.c[name].type, JsonText) for name in columns]
    marks = ", ".join("?" * len(columns))
    statement = f"{verb} INTO {table.name} ({', '.join(columns)}) VALUES ({marks})"
    if any(is_json):
        values = [
            tuple(
                json.dumps(row[name]) if is_encoded else row[name]
                for name, is_encoded in zip(columns, is_json, strict=True)
            )
            for row in rows
        ]
    else:
        values = [tuple([row[name] for name in columns]) for row in rows]
    connection.exec_driver_sql(statement, values)


def _prefixed(rows: Rows) -> list[dict[str, Any]]:
    # SQLAlchemy reserves the names of columns for the values of an update.
    return [{f"of_{name}": value for name, value in row.items()} for row in rows]


def _copier(connection: Connection) -> RowCopier:
    from mmsearch.catalog.postgres_rows import RowCopier  # noqa: PLC0415 - costs psycopg

    return RowCopier(as_read_connection(connection))
