"""Schema checks and migration of a catalog.

`PRAGMA user_version` holds the number of `MIGRATIONS` applied to a database, so opening one reads
a single number. Each migration and its record are written in one transaction. The database's
`application_id` distinguishes a catalog from other SQLite files.

Catalogs may come from untrusted sources, and a crafted view or trigger could do anything in place
of a table. So every statement of a schema is compared with ours before anything else is read.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.catalog.connection import ReadConnection
from mmsearch.catalog.database import Database
from mmsearch.catalog.migrations import MIGRATIONS, Migration
from mmsearch.catalog.rows import now
from mmsearch.core.errors import DamagedFileError, Hint, SchemaError
from mmsearch.storage.layout import SEGMENT_TOKEN_DIGITS, parse_file_ref

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

APPLICATION_ID = int.from_bytes(b"mmsr")

SCHEMA_SHA256 = "d49edd01d5e38bef69e83fbe2681f9c6c5c7618b733a7f1f8d8e15920ed98f39"
"""Digest of the newest schema's sorted statements; faster than comparing each statement."""

_SQLITE_OWN_TABLES = frozenset(
    {
        "CREATE TABLE sqlite_sequence(name,seq)",
        "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
        "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
    }
)

# SQLite checks the file names of a large index faster than Python. Python then parses only the
# rows that fail this check.
_SIX_DIGITS_GLOB = "[0-9]" * 6
_IS_SEGMENT_NAME_SQL = " OR ".join(
    f"name GLOB 'segments/{_SIX_DIGITS_GLOB}*{ending}'"
    f" AND name NOT GLOB 'segments/*[^0-9]*{ending}'"
    for ending in ("-" + "[0-9a-f]" * SEGMENT_TOKEN_DIGITS + ".vectors", ".vectors", ".npz")
)
_INVALID_FILE_NAMES_SQL = " UNION ALL ".join(
    f"SELECT name, bytes, sha256 FROM {table} WHERE typeof(name) <> 'text'"  # noqa: S608 - our names
    f" OR length(name) <> length(CAST(name AS BLOB)) OR NOT ({is_valid_name})"
    f" OR typeof(bytes) <> 'integer' OR bytes < 0 OR length(sha256) <> 64"
    for table, is_valid_name in (
        ("segments", _IS_SEGMENT_NAME_SQL),
        (
            "built_indexes",
            f"name GLOB 'ann/{_SIX_DIGITS_GLOB}*.[a-z0-9_]*' AND name NOT GLOB 'ann/*[^0-9a-z_.]*'",
        ),
        (
            "derived_files",
            f"name GLOB 'derived/{_SIX_DIGITS_GLOB}*-{'[0-9a-f]' * SEGMENT_TOKEN_DIGITS}.jsonl.gz'"
            " AND name NOT GLOB 'derived/*[^0-9a-f]*.jsonl.gz'",
        ),
    )
)

_REPAIR_HINT = Hint(
    "{} to rebuild the catalog without it.", "Call index.repair()", "Run 'mmsearch repair'"
)


def check_readable(db: Database, path: Path) -> None:
    """Raise an error unless the schema is the newest one that this code knows.

    Raises:
        SchemaError: The schema is newer, or it is older and a writer must migrate it.
        DamagedFileError: The file is not a catalog, or its schema was modified.
    """
    statements = _read_statements(db)
    version = _read_version(db, statements, path)
    expected = len(MIGRATIONS)
    if version > expected:
        raise _newer_schema_error(path, version, expected)
    if version == 0:
        # A new catalog is renamed to this path only after its schema was created.
        raise DamagedFileError(
            f"{path} is an empty database.",
            Hint(
                "{} to rebuild the catalog without encoding pictures again.",
                "Call index.repair()",
                "Run 'mmsearch repair'",
            ),
        )
    if version < expected:
        raise SchemaError(
            f"{path} has schema {version}, of an older mmsearch; this one reads {expected}.",
            Hint(
                "{} once, with the right to write to it: that upgrades it and keeps what it holds.",
                "Open it and call index.status()",
                "Run 'mmsearch status' on it",
            ),
            found=version,
            expected=expected,
        )
    _check_statements(statements, MIGRATIONS, path)
    check_file_names(db)


def check_file_names(db: Database) -> None:
    """Raise an error unless all names of vector files in the catalog are valid.

    Raises:
        DamagedFileError: A name is not one that a writer creates, for example ``../../photo.jpg``.
    """
    for row in db.query(_INVALID_FILE_NAMES_SQL):
        parse_file_ref(*row)


def migrate(engine: Engine, path: Path, migrations: Sequence[Migration] | None = None) -> None:
    """Migrate a database to the newest schema; a migration that fails is rolled back.

    Args:
        engine: A writable engine.
        path: The database, for error messages.
        migrations: All migrations, oldest first; default `MIGRATIONS`.

    Raises:
        SchemaError: The schema is newer than the migrations.
        DamagedFileError: The database is not a catalog, or its schema was modified.
    """
    from mmsearch.catalog.sqlalchemy_engine import (  # noqa: PLC0415 - SQLAlchemy
        as_read_connection,
        read_transaction,
        write_transaction,
    )

    steps = MIGRATIONS if migrations is None else migrations
    with read_transaction(engine) as connection:
        version = _read_checked_version(as_read_connection(connection), steps, path)
    while version < len(steps):
        with write_transaction(engine) as connection:
            version = _read_checked_version(as_read_connection(connection), steps, path)
            if version < len(steps):
                version += 1
                _apply_migration(connection, steps[version - 1], version)


def _read_checked_version(db: Database, steps: Sequence[Migration], path: Path) -> int:
    statements = _read_statements(db)
    version = _read_version(db, statements, path)
    if version > len(steps):
        raise _newer_schema_error(path, version, len(steps))
    _check_statements(statements, steps[:version], path)
    return version


def _apply_migration(connection: Connection, step: Migration, number: int) -> None:
    for statement in step.statements:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(
        "INSERT INTO migrations (name, applied_at) VALUES (?, ?)", (step.name, now())
    )
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {number}")


# --- comparison with the expected schema ---


def _read_statements(db: Database) -> frozenset[str]:
    """Return the statements of a schema, except those of SQLite's internal tables."""
    found = db.query("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    return frozenset(str(sql) for (sql,) in found) - _SQLITE_OWN_TABLES


def schema_sha256(statements: Collection[str]) -> str:
    """Return the SHA-256 of a schema's statements, in hex."""
    return hashlib.sha256("\n".join(sorted(statements)).encode("utf-8", "replace")).hexdigest()


def expected_statements(steps: Sequence[Migration]) -> frozenset[str]:
    """Return the schema that migrations produce in a new database, with this SQLite version."""
    with migrated_database(steps) as db:
        return _read_statements(db)


@contextmanager
def migrated_database(steps: Sequence[Migration]) -> Iterator[ReadConnection]:
    """Open a new database in memory with the schema of migrations."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for step in steps:
            for statement in step.statements:
                connection.execute(statement)
        yield ReadConnection(connection, Path(":memory:"))


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name.
        type: Its declared type: INTEGER, REAL, TEXT, BLOB or JSON.
        nullable: True if it may be NULL.
        is_key: True if it is part of the primary key; an INTEGER key is the rowid.
    """

    name: str
    type: str
    nullable: bool
    is_key: bool


@cache
def table_columns(version: int | None = None) -> dict[str, tuple[Column, ...]]:
    """Return the columns of each table of a schema, without the full-text tables.

    Args:
        version: Number of the schema; None for the newest one.
    """
    with migrated_database(MIGRATIONS[:version]) as db:
        names = db.query(
            # The names of full-text tables are quoted in their statements.
            "SELECT name FROM sqlite_master WHERE sql GLOB 'CREATE TABLE [a-z]*'"
            " AND name <> 'sqlite_sequence'"
        )
        return {
            table: tuple(
                Column(name, declared_type, not not_null, bool(key))
                for _, name, declared_type, not_null, _, key in db.query(
                    f"PRAGMA table_info({table})"
                )
            )
            for (table,) in names
        }


def _check_statements(statements: frozenset[str], steps: Sequence[Migration], path: Path) -> None:
    """Raise an error unless a schema is exactly the one that the migrations produce.

    Raises:
        DamagedFileError: The schema has an unexpected statement, or lacks one.
    """
    if steps is MIGRATIONS and schema_sha256(statements) == SCHEMA_SHA256:
        return
    expected = expected_statements(steps)
    for unexpected in sorted(statements - expected):
        description = unexpected.split("(")[0].split()[:8]
        raise DamagedFileError(
            f"{path} holds an object that mmsearch did not create: {' '.join(description)[:120]}.",
            _REPAIR_HINT,
        )
    for missing in sorted(expected - statements):
        raise DamagedFileError(
            f"{path} lacks a part of its schema: {missing.split('(')[0].strip()}.",
            Hint(
                "{} to rebuild the catalog without encoding pictures again.",
                "Call index.repair()",
                "Run 'mmsearch repair'",
            ),
        )


def _read_version(db: Database, statements: frozenset[str], path: Path) -> int:
    """Return the number of migrations applied to the database; 0 if it is empty.

    Do not select from pragma_user_version: a crafted table of that name would be read instead.

    Raises:
        DamagedFileError: The database is not a catalog.
    """
    ((version,),) = db.query("PRAGMA user_version")
    ((application_id,),) = db.query("PRAGMA application_id")
    if application_id == APPLICATION_ID or not (statements or version or application_id):
        return int(version)
    raise DamagedFileError(
        f"{path} is an SQLite database, but not an mmsearch catalog.",
        "Remove it if nothing else needs it, and index the folder again.",
    )


def _newer_schema_error(path: Path, found: int, expected: int) -> SchemaError:
    return SchemaError(
        f"{path} has schema {found}, of a newer mmsearch; this one knows schemas up to {expected}.",
        "Upgrade mmsearch.",
        found=found,
        expected=expected,
    )
