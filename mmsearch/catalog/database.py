"""The protocol of a connection that catalogs read from, of SQLite or of PostgreSQL.

Statements are written once, in SQLite's SQL; see `mmsearch.catalog.dialects`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from mmsearch.catalog.dialects import Dialect

Parameters = Mapping[str, object] | Sequence[object]
"""Values of ``:name`` or of ``?`` in a statement."""


class Database(Protocol):
    """A connection in a transaction. It translates errors, and each statement has a timeout.

    Attributes:
        path: The catalog, beside the other files of the index; a server has no such file.
        dialect: What its SQL writes in another way.
    """

    path: Path
    dialect: Dialect

    def query(self, statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return all its rows; none for one that changes rows.

        Raises:
            MMSearchError: The database reports an error that the user can act on.
        """

    def count_changes(self) -> int:
        """Return the number of rows that the transaction has changed, or earlier ones, too."""

    def attempt(self) -> AbstractContextManager[None]:
        """Begin a part of a transaction that may fail without ending the transaction."""

    def enable_folding(self) -> None:
        """Enable the SQL function that folds case, where the database has none."""

    def iterate(self, statement: str, parameters: Parameters = ()) -> Iterator[tuple[Any, ...]]:
        """Run a statement and yield its rows, without holding all of them.

        Raises:
            MMSearchError: The database reports an error that the user can act on.
        """


class Connections(Protocol):
    """Connections to a database, for one read after another."""

    def read_transaction(self) -> AbstractContextManager[Database]:
        """Open a read transaction, which sees one state from its first read on.

        Raises:
            MMSearchError: The database cannot be read.
        """

    def close(self) -> None:
        """Close idle connections."""
