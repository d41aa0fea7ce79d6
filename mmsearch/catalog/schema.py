"""Which schema a database has, and bringing it to the newest.

`PRAGMA user_version` holds how many of the `MIGRATIONS` a database has seen, so that opening one
reads a single number; each is one transaction together with its record. The database's
`application_id` tells a catalog from any other SQLite file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.catalog.clock import now
from mmsearch.catalog.files import Rows
from mmsearch.catalog.migrations import MIGRATIONS, Migration
from mmsearch.core.errors import DamagedFileError, SchemaError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

APPLICATION_ID = int.from_bytes(b"mmsr")

_FACTS = (
    "SELECT user_version, application_id, EXISTS (SELECT 1 FROM sqlite_master)"
    " FROM pragma_user_version, pragma_application_id"
)


def check_readable(rows: Rows, path: Path) -> None:
    """Make sure that the schema is this code's own.

    Raises:
        SchemaError: It is newer, or older and thus in need of a writer.
        DamagedFileError: It is no catalog.
    """
    version = _version(rows.ask(_FACTS)[0], path)
    expected = len(MIGRATIONS)
    if version > expected:
        raise _newer(path, version, expected)
    if version < expected:
        raise SchemaError(
            f"{path} has schema {version}, of an older mmsearch; this one reads {expected}.",
            "Run 'mmsearch index' on it once: a writer upgrades it and keeps what it holds.",
            found=version,
            expected=expected,
        )


def migrate(engine: Engine, path: Path, migrations: Sequence[Migration] | None = None) -> None:
    """Bring a database to the newest schema; a step that fails leaves it as it was.

    Args:
        engine: May write.
        path: The database, for messages.
        migrations: All steps there are, oldest first; default `MIGRATIONS`.

    Raises:
        SchemaError: The schema is newer than the steps.
        DamagedFileError: It is an SQLite database, but no catalog.
    """
    from mmsearch.catalog.connections import writing  # noqa: PLC0415 - costs SQLAlchemy

    steps = MIGRATIONS if migrations is None else migrations
    with engine.connect() as connection:
        version = _version(connection.exec_driver_sql(_FACTS).one(), path)
    while version < len(steps):
        with writing(engine) as connection:
            version = _version(connection.exec_driver_sql(_FACTS).one(), path)
            if version < len(steps):
                version += 1
                _apply(connection, steps[version - 1], version)
    if version > len(steps):
        raise _newer(path, version, len(steps))


def _apply(connection: Connection, step: Migration, number: int) -> None:
    for statement in step.statements:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(
        "INSERT INTO migrations (name, applied_at) VALUES (?, ?)", (step.name, now())
    )
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {number}")


def _version(facts: Any, path: Path) -> int:
    """How many steps the database has seen; 0 for an empty one.

    Args:
        facts: The row of `_FACTS`.
        path: The database, for messages.
    """
    version, application, objects = facts
    if application == APPLICATION_ID or not (objects or version or application):
        return int(version)
    raise DamagedFileError(
        f"{path} is an SQLite database, but not a catalog of mmsearch.",
        "Remove it if nothing else needs it, and index the folder again.",
    )


def _newer(path: Path, found: int, expected: int) -> SchemaError:
    return SchemaError(
        f"{path} has schema {found}, of a newer mmsearch; this one knows schemas up to {expected}.",
        "Upgrade mmsearch.",
        found=found,
        expected=expected,
    )
