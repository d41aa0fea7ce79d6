"""Protocols of servers that keep and search the vectors of an index.

A *collection* is one build: it never changes, as a file of `VectorIndex` never does, and a file of
the index names it. What has changed since (newer segments, deleted items, other values of fields)
is composed with it by `mmsearch.vector_stores._served`. A module of vector_stores/ that has
``build`` is a plugin; see `VectorServerPlugin`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.query import Condition
from mmsearch.core.server_filters import ItemFields
from mmsearch.core.types import Ids, Ranking, Vectors

MIN_CANDIDATES = 1000
"""Number of candidates that every search of a collection retrieves, with the same effort, however
few are wanted: so the top 10 is a prefix of the top 100."""

MAX_EXACT_IDS = 10_000
"""Maximum number of ids among which `VectorCollection.search` must search exactly."""


@dataclass(frozen=True)
class VectorBlock:
    """Rows of a collection.

    Attributes:
        ids: int64 (n,), unique in the collection.
        vectors: float32 (n, dim), unit vectors; a server may keep them as float16.
        fields: Fields of each row, in the same order.
        digests: int64 (n,), digest of the fields of each row; 0 if they are not known.
    """

    ids: Ids
    vectors: Vectors
    fields: Sequence[ItemFields]
    digests: NDArray[np.int64]


class VectorCollection(Protocol):
    """One build of vectors on a server; it never changes. Safe for threads.

    Methods raise `UnreachableError` if the server does not answer, `ServerError` for other errors
    of it, such as a collection that is gone, and `DeadlineError` after the deadline of
    `mmsearch.core.deadlines`.
    """

    @property
    def rows(self) -> int:
        """Number of rows that were written."""

    @property
    def dim(self) -> int:
        """Number of dimensions."""

    def count(self) -> int:
        """Return the number of rows that can be found now; fewer than `rows` if parts are missing.

        It asks the server each time.
        """

    def search(
        self,
        queries: Vectors,
        count: int,
        *,
        condition: Condition | None = None,
        only: Ids | None = None,
        excluded: Ids | None = None,
    ) -> Ranking:
        """Return the nearest rows of each query, ordered by (-score, id).

        Scores are cosine similarities; equal vectors score equally. The effort does not depend on
        ``count`` up to `MIN_CANDIDATES`, so a shorter result is a prefix of a longer one. Recall
        is at least 0.99 of that of an exact search, with filters as without.

        Args:
            queries: float32 (q, dim), unit vectors.
            count: Number of rows for each query; short ones are padded with the id -1 and the score
                -inf.
            condition: Condition that rows must pass, as `make_server_condition` returns it.
            only: Ids that may be returned, ascending, also such as the collection lacks; None for
                all. The search is exact up to `MAX_EXACT_IDS`.
            excluded: Ids that must not be returned, ascending.
        """

    def evaluates(self, condition: Condition) -> bool:
        """Return False if `search` cannot evaluate a condition, such as a part of a text."""

    def scores(self, queries: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the cosine similarities of (q, dim) queries and n rows, float32 (q, n).

        They are those of `search`. -inf for an id that the collection lacks.
        """

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of ids in their order, float32 (n, dim); NaN for an id it lacks."""

    def sample_ids(self, count: int) -> Ids:
        """Return at most ``count`` ids spread over the collection, ascending; always the same."""

    def field_digests(self) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
        """Yield blocks of ids and `VectorBlock.digests`, in any order."""


class VectorServer(Protocol):
    """A server on which an index has collections. Safe for threads.

    Methods raise `UnreachableError`, `UnauthorizedError`, or another `ServerError`.
    """

    def check(self) -> Sequence[str]:
        """Check that the server can be used; return warnings, each one sentence.

        Raises:
            ServerError: It is too old, lacks an extension, or refuses the user.
        """

    def create(self, name: str, dim: int, blocks: Iterable[VectorBlock]) -> VectorCollection:
        """Write a collection durably and return it; memory does not depend on the number of rows.

        A collection with that name, which an interrupted call has left, is replaced. The errors
        of ``blocks`` are raised unchanged, and nothing is left then.

        Args:
            name: A new name: lower-case letters, digits and underscores, at most 40 characters.
            dim: Number of dimensions.
            blocks: Rows in blocks.
        """

    def open(self, name: str, dim: int, rows: int) -> VectorCollection:
        """Return a collection that `create` wrote; `ServerError` if it does not exist.

        Args:
            name: Name of the collection.
            dim: Number of dimensions.
            rows: Number of rows that were written.
        """

    def publish(self, name: str) -> None:
        """Give a collection the fixed name that other programs use, such as an alias or a view."""

    def names(self) -> list[str]:
        """Return the names of the collections of the index, also of incomplete ones."""

    def drop(self, name: str) -> None:
        """Drop a collection; do nothing if there is no such collection."""

    def close(self) -> None:
        """Close the connections."""


class VectorServerPlugin(Protocol):
    """Interface of a module in vector_stores/ for a search server."""

    def build(self, url: str, index_name: str) -> VectorServer:
        """Return the server at a URL, without connecting to it yet.

        Passwords come from the environment.

        Args:
            url: URL without a password, as in index.toml.
            index_name: Name of the index, by which its collections are known.

        Raises:
            UsageError: The URL is not valid.
        """
