"""Whether a catalog agrees with itself, and making again what is derived within it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from mmsearch.catalog.connections import reading, writing
from mmsearch.core.errors import MMSearchError

# What must select nothing, and what it means if it does.
_LAWS = (
    (
        "SELECT id FROM images WHERE file_count <>"
        " (SELECT count(*) FROM files WHERE files.image_id = images.id)",
        "{count} pictures have a wrong count of files",
    ),
    (
        "SELECT number FROM segments WHERE rows <>"
        " (SELECT count(*) FROM images WHERE images.segment = segments.number)",
        "{count} segments have another number of pictures than of vectors",
    ),
    (
        "SELECT texts.id FROM texts JOIN files ON files.id = texts.file_id"
        " WHERE files.image_id IS NOT texts.image_id",
        "{count} texts belong to another picture than their file",
    ),
    (
        "SELECT tags.id FROM tags JOIN texts ON texts.id = tags.text_id"
        " WHERE tags.image_id <> texts.image_id",
        "{count} keywords belong to another picture than their text",
    ),
    (
        "SELECT id FROM files WHERE image_id IS NOT NULL AND length(digest) <> 32",
        "{count} files have a digest that is none",
    ),
    (
        "SELECT images.id FROM files JOIN images ON images.id = files.image_id"
        " WHERE images.digest <> files.digest",
        "{count} files have another content than their picture",
    ),
)
_FULL_TEXT = ("words", "trigrams")


def findings(engine: Engine) -> list[str]:
    """What is wrong, a sentence each.

    Args:
        engine: Of a private copy: the full-text check is a write to SQLite.
    """
    found: list[str] = []
    for look in (_structure, _foreign_keys, _laws):
        try:
            with reading(engine) as connection:
                found += look(connection)
        except (MMSearchError, DatabaseError, sqlite3.Error) as error:
            found.append(f"The catalog cannot be read: {_said(error)}.")
            break
    for table in _FULL_TEXT:
        try:
            with writing(engine) as connection:
                _compare_full_text(connection, table)
        except (MMSearchError, DatabaseError, sqlite3.Error):
            found.append(f"The catalog's full-text table {table!r} does not fit its texts.")
    return found


def mend(connection: Connection) -> None:
    """Make B-tree indexes and full-text tables again from the rows."""
    connection.exec_driver_sql("REINDEX")
    for table in _FULL_TEXT:
        connection.exec_driver_sql(f"INSERT INTO {table} ({table}) VALUES ('delete-all')")  # noqa: S608 - our names
    connection.exec_driver_sql("INSERT INTO words (rowid, text) SELECT id, text FROM texts")
    connection.exec_driver_sql(
        "INSERT INTO trigrams (rowid, text) SELECT id, text FROM texts WHERE spaceless"
    )
    connection.exec_driver_sql(
        "UPDATE images SET file_count ="
        " (SELECT count(*) FROM files WHERE files.image_id = images.id)"
    )


def _structure(connection: Connection) -> Iterator[str]:
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check(20)"):
        if line != "ok":
            yield f"The catalog's structure is damaged: {line}."


def _foreign_keys(connection: Connection) -> Iterator[str]:
    rows = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    for table in sorted({row[0] for row in rows}):
        count = sum(row[0] == table for row in rows)
        yield f"The catalog's table {table!r} has {count} rows that point at nothing."


def _laws(connection: Connection) -> Iterator[str]:
    for statement, meaning in _LAWS:
        count = len(connection.exec_driver_sql(statement).all())
        if count:
            yield f"The catalog contradicts itself: {meaning.format(count=count)}."


def _compare_full_text(connection: Connection, table: str) -> None:
    """FTS5's own check, and whether every text is in it.

    ``trigrams`` holds some of the texts only, so that FTS5 cannot compare it with all of them:
    https://www.sqlite.org/fts5.html#the_integrity_check_command.
    """
    whole = ", rank" if table == "words" else ""
    value = ", 1" if table == "words" else ""
    connection.exec_driver_sql(
        f"INSERT INTO {table} ({table}{whole}) VALUES ('integrity-check'{value})"  # noqa: S608
    )


def _said(error: Exception) -> str:
    if isinstance(error, MMSearchError):
        return error.message.rstrip(".")
    return str(getattr(error, "orig", error))
