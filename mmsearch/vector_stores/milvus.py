"""Vectors on a Milvus server or cluster.

Each build is a collection of its own, ``<path of the URL>__<name>``, which never changes. It counts
as written when all its rows are flushed, indexed and loaded. The alias that other programs use is
the path of the URL.

A graph that is searched with little effort loses equal vectors and rows that pass a filter; the
parameters here are those that reach a recall of 0.99 with filters of any selectivity.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType, MilvusClient

from mmsearch.core.errors import MMSearchError, ServerError, UnreachableError, UsageError
from mmsearch.core.query import Condition
from mmsearch.core.server_filters import SEARCH_FIELDS
from mmsearch.core.types import Ids, Ranking, Vectors
from mmsearch.core.vector_servers import MAX_EXACT_IDS, MIN_CANDIDATES, VectorBlock
from mmsearch.core.vectors import merge_rankings, stack
from mmsearch.vector_stores._milvus_connection import (
    CollectionGoneError,
    MilvusConnection,
)
from mmsearch.vector_stores._milvus_filter import (
    DIGEST_FIELD,
    ID_FIELD,
    MAX_LIST_VALUES,
    MAX_TEXT_BYTES,
    SPREAD_FIELD,
    VECTOR_FIELD,
    compile_condition,
    compile_ids,
    join_expressions,
    make_row,
)
from mmsearch.vector_stores._pointer import REBUILD_HINT

_SCHEMES: Final = ("milvus+http", "milvus+https")

MAX_LIMIT: Final = 16384
"""Maximum number of rows in an answer of Milvus."""

MAX_FLAT_ROWS: Final = 50_000
"""Rows up to which every search compares all: a graph costs minutes to build and saves little."""

MAX_HNSW_ROWS: Final = 50_000_000
"""Rows up to which a graph is built, whose memory is that of the vectors and a tenth more."""

DEMANDED_VERSION: Final = (2, 6, 10)
OLDEST_VERSION: Final = (2, 3)

_INDEX_TYPES: Final = {"auto": None, "flat": "FLAT", "hnsw": "HNSW", "ivf_sq8": "IVF_SQ8"}
_HNSW: Final = {"M": 48, "efConstruction": 400}
_MIN_EF: Final = 2000
_MAX_IDS: Final = 50_000
"""Maximum number of ids in one expression."""

_MAX_QUERIES: Final = 16
"""Maximum number of queries in a request: for 20 and more, FAISS computes blocks of scores at once,
so that equal vectors no longer score equally."""

_MAX_EXCLUDED: Final = 1000
"""Maximum number of excluded ids for which a search asks for more rows first."""

_REQUEST_BYTES: Final = 8 << 20
_INSERT_TIMEOUT_S: Final = 60.0
_INSERT_TRIES: Final = 3
_BUILD_POLL_S: Final = 0.5
_LOAD_TIMEOUT_S: Final = 1800.0
_SPREAD_BITS: Final = 31
_NUM_SHARDS = 1
"""Parts of a collection that are written at the same time. Each ends with rows that are too few for
an index of their own, and which a server with interim indexes searches with less recall."""

_Answer: TypeAlias = tuple[Ids, NDArray[np.float32]]
"""Ids and scores of rows, best first."""


def build(url: str, index_name: str) -> MilvusServer:
    """Return the server at a URL; see `VectorServerPlugin.build`.

    These variables are read: ``MMSEARCH_SEARCH_TOKEN``, or ``MMSEARCH_SEARCH_PASSWORD`` with the
    name of a user in the URL; ``MMSEARCH_MILVUS_REPLICAS``, the number of copies in memory (2;
    fewer if the server has fewer query nodes); and ``MMSEARCH_MILVUS_INDEX``, which is ``flat``,
    ``hnsw``, ``ivf_sq8``, or ``auto`` (by the number of vectors).

    Args:
        url: ``milvus+http://host:port/collection`` or ``milvus+https://...``.
        index_name: Name of the index, for messages.

    Raises:
        UsageError: The URL or a variable is not valid.
    """
    split = urlsplit(url)
    path = split.path.strip("/")
    scheme = split.scheme.removeprefix("milvus+")
    if split.scheme not in _SCHEMES or not split.hostname or not path:
        raise UsageError(
            f"The search server of index {index_name!r} has an address that is not one of Milvus.",
            "Give one such as milvus+https://host:19530/collection.",
        )
    token = os.environ.get("MMSEARCH_SEARCH_TOKEN", "")
    password = os.environ.get("MMSEARCH_SEARCH_PASSWORD", "")
    if not token and split.username and password:
        token = f"{unquote(split.username)}:{password}"
    host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
    connection = MilvusConnection(f"{scheme}://{host}:{split.port or 19530}", token)
    index_type = os.environ.get("MMSEARCH_MILVUS_INDEX") or "auto"
    if index_type not in _INDEX_TYPES:
        raise UsageError(
            f"MMSEARCH_MILVUS_INDEX is {index_type[:40]!r}, which is not a kind of index.",
            f"Known: {', '.join(_INDEX_TYPES)}.",
        )
    replicas = os.environ.get("MMSEARCH_MILVUS_REPLICAS") or "2"
    if not re.fullmatch(r"[1-9][0-9]?", replicas):
        raise UsageError(
            f"MMSEARCH_MILVUS_REPLICAS is {replicas[:40]!r}, which is not a number from 1 to 99."
        )
    return MilvusServer(connection, path, _INDEX_TYPES[index_type], int(replicas))


@dataclass(frozen=True)
class MilvusCollection:
    """One build; see `VectorCollection`.

    Attributes:
        connection: Connection to the server.
        name: Name of the collection on the server.
        dim: Number of dimensions.
        rows: Number of rows that were written.
        index_type: ``FLAT``, ``HNSW`` or ``IVF_SQ8``.
    """

    connection: MilvusConnection
    name: str
    dim: int
    rows: int
    index_type: str

    def count(self) -> int:
        """Return the number of rows that can be found now."""
        return self._count("Bounded")

    def search(
        self,
        queries: Vectors,
        count: int,
        *,
        condition: Condition | None = None,
        only: Ids | None = None,
        excluded: Ids | None = None,
    ) -> Ranking:
        """Return the nearest rows of each query; see `VectorCollection.search`.

        Raises:
            ServerError: The server fails, or cannot evaluate the condition; see `evaluates`.
        """
        expression = None
        if condition is not None:
            expression = compile_condition(condition)
            if expression is None:
                raise ServerError("Milvus cannot evaluate this filter.")
        excluded = np.empty(0, np.int64) if excluded is None else excluded
        if only is None:
            return self._search(queries, count, expression, excluded)
        only = np.setdiff1d(only, excluded)
        rankings = [_empty_ranking(len(queries), count)]
        for ids in self._split_ids(only):
            given = join_expressions(compile_ids(ids), expression)
            rankings.append(self._search(queries, count, given, excluded[:0], most=len(ids)))
        return merge_rankings(rankings, count)

    def evaluates(self, condition: Condition) -> bool:
        """Return True if `search` can evaluate a condition."""
        return compile_condition(condition) is not None

    def scores(self, queries: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the cosine similarities of (q, dim) queries and n rows, float32 (q, n)."""
        scores = np.full((len(queries), len(ids)), -np.inf, dtype=np.float32)
        order = np.argsort(ids, kind="stable")
        for rows in _split(order, MAX_LIMIT):
            wanted = ids[rows]
            expression = compile_ids(np.unique(wanted))
            for number, (found, found_scores) in enumerate(
                self._request(queries, len(rows), expression)
            ):
                by_id = dict(zip(found.tolist(), found_scores.tolist(), strict=True))
                scores[number, rows] = [by_id.get(i, -np.inf) for i in wanted.tolist()]
        # A graph may miss rows, which have vectors nevertheless.
        if (lost := np.isneginf(scores).any(axis=0)).any():
            exact = np.vecdot(self.vectors(ids[lost]), queries[:, None, :])
            missed = np.isneginf(scores[:, lost]) & ~np.isnan(exact)
            scores[:, lost] = np.where(missed, exact, scores[:, lost])
        return scores

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of ids in their order, float32 (n, dim); NaN for an id it lacks."""
        unique_ids, positions = np.unique(ids, return_inverse=True)
        found = np.full((len(unique_ids), self.dim), np.nan, dtype=np.float32)
        for part in _split(unique_ids, max(1, _REQUEST_BYTES // (4 * self.dim))):
            for row in self._query(compile_ids(part), ID_FIELD, VECTOR_FIELD):
                found[np.searchsorted(unique_ids, row[ID_FIELD])] = row[VECTOR_FIELD]
        return found[positions]

    def sample_ids(self, count: int) -> Ids:
        """Return at most ``count`` ids spread over the collection, ascending; always the same."""
        if not self.rows or count <= 0:
            return np.empty(0, np.int64)
        # A tenth more than on average, and 100, makes fewer than `count` very unlikely.
        share = min(1.0, (1.1 * count + 100) / self.rows)
        expression = f"{SPREAD_FIELD} < {int(share * (1 << _SPREAD_BITS))}"
        drawn = [
            (int(row[SPREAD_FIELD]), int(row[ID_FIELD]))
            for rows in self._iterate(expression, ID_FIELD, SPREAD_FIELD)
            for row in rows
        ]
        return np.array(sorted(row_id for _, row_id in sorted(drawn)[:count]), dtype=np.int64)

    def field_digests(self) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
        """Yield blocks of ids and `VectorBlock.digests`."""
        for rows in self._iterate("", ID_FIELD, DIGEST_FIELD):
            yield (
                np.array([row[ID_FIELD] for row in rows], dtype=np.int64),
                np.array([row[DIGEST_FIELD] for row in rows], dtype=np.int64),
            )

    def check_written(self) -> None:
        """Raise a `ServerError` if the server does not hold all rows that were written."""
        counted = self._count("Strong")
        if counted != self.rows:
            raise ServerError(
                f"The Milvus server holds {counted:,} of {self.rows:,} vectors that were written.",
                "Try again; look at the server's messages if it happens again.",
            )

    def _count(self, consistency: str) -> int:
        answer = self._query("", "count(*)", consistency=consistency)
        return int(answer[0]["count(*)"])

    def _search(
        self,
        queries: Vectors,
        count: int,
        expression: str | None,
        excluded: Ids,
        most: int | None = None,
    ) -> Ranking:
        """Return the nearest rows that pass an expression and are not excluded.

        Args:
            queries: (q, dim).
            count: Number of rows for each query.
            expression: Expression that rows must pass.
            excluded: Ids that must not be returned, ascending.
            most: Maximum number of rows that can pass; None if that is not known.
        """
        wanted = max(count, MIN_CANDIDATES)
        limit = wanted + min(len(excluded), _MAX_EXCLUDED)
        limit = min(limit, MAX_LIMIT, most or MAX_LIMIT)
        rows = []
        answers = self._request(queries, limit, expression)
        for query, answer in zip(queries, answers, strict=True):
            ids, scores, is_all = self._widen(query[None, :], answer, limit, expression)
            is_live = ~np.isin(ids, excluded)
            ids, scores = ids[is_live], scores[is_live]
            while not is_all and len(ids) < min(wanted, most or wanted):
                # Too many neighbours are excluded, or more are wanted than an answer may have.
                more = min(wanted - len(ids), MAX_LIMIT)
                others = compile_ids(np.union1d(excluded, ids), negate=True)
                given = join_expressions(expression, others)
                ((more_ids, more_scores),) = self._request(query[None, :], more, given)
                is_all = len(more_ids) < more
                ids = np.concatenate([ids, more_ids])
                scores = np.concatenate([scores, more_scores])
            rows.append(_first(ids, scores, count))
        return stack(rows, count)

    def _widen(
        self, query: Vectors, answer: _Answer, limit: int, expression: str | None
    ) -> tuple[Ids, NDArray[np.float32], bool]:
        """Return an answer that does not end among equal scores, and if it has all rows.

        Which of equal rows Milvus leaves out does not depend on their ids.
        """
        ids, scores = answer
        while len(ids) == limit < MAX_LIMIT and limit > 1 and scores[-1] == scores[-2]:
            limit = min(4 * limit, MAX_LIMIT)
            ((ids, scores),) = self._request(query, limit, expression)
        return ids, scores, len(ids) < limit

    def _request(self, queries: Vectors, limit: int, expression: str | None) -> Iterator[_Answer]:
        """Yield the ids and scores of the rows that Milvus finds for each query."""
        for start in range(0, len(queries), _MAX_QUERIES):
            answers = self.connection.read(
                "search",
                self.name,
                data=list(np.asarray(queries[start : start + _MAX_QUERIES], dtype=np.float32)),
                limit=limit,
                filter=expression or "",
                anns_field=VECTOR_FIELD,
                search_params={"metric_type": "IP", "params": self._effort(limit)},
                consistency_level="Bounded",
            )
            for hits in answers:
                yield np.array(hits.ids, np.int64), np.array(hits.distances, np.float32)

    def _effort(self, limit: int) -> dict[str, int]:
        if self.index_type == "HNSW":
            return {"ef": max(_MIN_EF, 2 * limit)}
        if self.index_type == "IVF_SQ8":
            return {"nprobe": max(1, _num_lists(self.rows) // 4)}
        return {}

    def _query(
        self, expression: str, *fields: str, consistency: str = "Bounded"
    ) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.connection.read(
            "query",
            self.name,
            filter=expression,
            output_fields=list(fields),
            consistency_level=consistency,
        )
        return answer

    def _split_ids(self, ids: Ids) -> list[Ids]:
        """Split ids so that Milvus compares all of a part, instead of searching a graph.

        It does so if less than a fifteenth of the rows can be found.
        """
        size = _MAX_IDS
        if self.index_type == "HNSW" and len(ids) <= MAX_EXACT_IDS:
            size = max(MIN_CANDIDATES, self.rows // 20)
        num_parts = -(-len(ids) // size)
        return [ids[start::num_parts] for start in range(num_parts)]

    def _iterate(self, expression: str, *fields: str) -> Iterator[list[dict[str, Any]]]:
        """Yield blocks of the rows that pass an expression, by id."""
        last = -1
        while True:
            beyond = join_expressions(f"{ID_FIELD} > {last}", expression)
            rows = self.connection.read(
                "query",
                self.name,
                filter=beyond,
                output_fields=list(fields),
                limit=MAX_LIMIT,
                consistency_level="Bounded",
            )
            rows = sorted(rows, key=lambda row: row[ID_FIELD])
            yield rows
            if len(rows) < MAX_LIMIT:
                return
            last = rows[-1][ID_FIELD]


class MilvusServer:
    """A server; see `VectorServer`.

    Args:
        connection: Connection to the server.
        path: Path of the URL, which is the alias of the newest collection.
        index_type: ``FLAT``, ``HNSW`` or ``IVF_SQ8``; None: by the number of vectors.
        replicas: Number of copies in memory.
    """

    def __init__(
        self, connection: MilvusConnection, path: str, index_type: str | None, replicas: int
    ) -> None:
        self._connection = connection
        self._path = path
        self._index_type = index_type
        self._replicas = replicas

    def check(self) -> Sequence[str]:
        """Check that the server can be used; see `VectorServer.check`."""
        version = str(self._connection.call("get_server_version"))
        numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
        if numbers < OLDEST_VERSION:
            raise ServerError(
                f"The Milvus server has version {version}, which is too old.",
                f"Use {_dotted(DEMANDED_VERSION)} or newer.",
            )
        self.names()
        if numbers < DEMANDED_VERSION:
            return [
                f"The Milvus server has version {version}: versions before"
                f" {_dotted(DEMANDED_VERSION)} are open to anyone who reaches their port 9091"
                " (CVE-2026-26190)."
            ]
        return []

    def create(self, name: str, dim: int, blocks: Iterable[VectorBlock]) -> MilvusCollection:
        """Write a collection durably and return it; see `VectorServer.create`."""
        full_name = self._full_name(name)
        for warning in self.check():
            logging.getLogger("mmsearch").warning("%s", warning)
        self.drop(name)
        try:
            self._create_empty(full_name, dim)
            rows = sum(self._insert(full_name, block) for block in blocks)
            self._connection.call("flush", full_name, timeout_s=_LOAD_TIMEOUT_S)
            collection = MilvusCollection(
                self._connection, full_name, dim, rows, self._choose_index(rows)
            )
            self._build_index(collection)
            self._load(full_name)
            collection.check_written()
        except BaseException:
            self._drop_quietly(full_name)
            raise
        return collection

    def open(self, name: str, dim: int, rows: int) -> MilvusCollection:
        """Return a collection that `create` wrote; see `VectorServer.open`."""
        full_name = self._full_name(name)
        described = self._connection.call("describe_index", full_name, index_name=VECTOR_FIELD)
        if described is None:
            raise CollectionGoneError(
                f"The collection {full_name} of the Milvus server has no index.",
                REBUILD_HINT,
            )
        state = str(self._connection.call("get_load_state", full_name)["state"])
        if state != "Loaded":
            self._load(full_name)
        return MilvusCollection(
            self._connection, full_name, dim, rows, str(described["index_type"])
        )

    def publish(self, name: str) -> None:
        """Let the alias, which is the path of the URL, name a collection."""
        full_name = self._full_name(name)
        try:
            self._connection.call("alter_alias", full_name, self._path)
        except UnreachableError:
            raise
        except ServerError:
            self._connection.call("create_alias", full_name, self._path)

    def names(self) -> list[str]:
        """Return the names of the collections of the index, also of incomplete ones."""
        prefix = self._full_name("")
        return sorted(
            name.removeprefix(prefix)
            for name in self._connection.call("list_collections")
            if name.startswith(prefix) and self._is_own(name)
        )

    def drop(self, name: str) -> None:
        """Drop a collection; do nothing if there is no such collection."""
        full_name = self._full_name(name)
        if not self._connection.call("has_collection", full_name):
            return
        for alias in self._connection.call("list_aliases", full_name)["aliases"]:
            # A collection with an alias cannot be dropped.
            self._connection.call("drop_alias", alias)
        self._connection.call("drop_collection", full_name)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _full_name(self, name: str) -> str:
        return f"{self._path}__{name}"

    def _is_own(self, full_name: str) -> bool:
        """Return True if a collection is of this path, not of another with the same beginning."""
        try:
            described = self._connection.call("describe_collection", full_name)
        except CollectionGoneError:
            return False
        return bool(described.get("description") == self._description())

    def _description(self) -> str:
        return f"Vectors of {self._path} by mmsearch"

    def _create_empty(self, full_name: str, dim: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, description=self._description())
        schema.add_field(ID_FIELD, DataType.INT64, is_primary=True)
        schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dim)
        schema.add_field(DIGEST_FIELD, DataType.INT64)
        schema.add_field(SPREAD_FIELD, DataType.INT64)
        for name, kind in SEARCH_FIELDS.items():
            if kind == "number":
                schema.add_field(name, DataType.DOUBLE)
            elif kind == "text":
                schema.add_field(name, DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
            else:
                schema.add_field(
                    name,
                    DataType.ARRAY,
                    element_type=DataType.VARCHAR,
                    max_length=MAX_TEXT_BYTES,
                    max_capacity=MAX_LIST_VALUES,
                )
        self._connection.call(
            "create_collection",
            full_name,
            schema=schema,
            num_shards=_NUM_SHARDS,
            consistency_level="Bounded",
        )

    def _insert(self, full_name: str, block: VectorBlock) -> int:
        """Insert the rows of a block and return their number."""
        rows = [
            make_row(item, digest) | {VECTOR_FIELD: vector, SPREAD_FIELD: _spread(item.id)}
            for item, digest, vector in zip(
                block.fields, block.digests.tolist(), block.vectors, strict=True
            )
        ]
        num_bytes = block.vectors.nbytes + sum(map(_text_bytes, rows))
        size = max(1, len(rows) * _REQUEST_BYTES // max(num_bytes, 1))
        for start in range(0, len(rows), size):
            self._insert_rows(full_name, rows[start : start + size])
        return len(rows)

    def _insert_rows(self, full_name: str, rows: list[dict[str, Any]]) -> None:
        for tried in range(1, _INSERT_TRIES + 1):
            try:
                # Rows of a failed call may have arrived: `upsert` replaces them.
                method = "insert" if tried == 1 else "upsert"
                self._connection.call(method, full_name, rows, timeout_s=_INSERT_TIMEOUT_S)
            except UnreachableError:
                if tried == _INSERT_TRIES:
                    raise
                time.sleep(tried)
            else:
                return

    def _choose_index(self, rows: int) -> str:
        if self._index_type is not None:
            return self._index_type
        if rows <= MAX_FLAT_ROWS:
            return "FLAT"
        return "HNSW" if rows <= MAX_HNSW_ROWS else "IVF_SQ8"

    def _build_index(self, collection: MilvusCollection) -> None:
        """Build the index of a collection, and wait for it: hours for millions of rows."""
        params: dict[str, int] = {}
        if collection.index_type == "HNSW":
            params = _HNSW
        elif collection.index_type == "IVF_SQ8":
            params = {"nlist": _num_lists(collection.rows)}
        described = MilvusClient.prepare_index_params()
        described.add_index(
            VECTOR_FIELD,
            index_type=collection.index_type,
            index_name=VECTOR_FIELD,
            metric_type="IP",
            params=params,
        )
        self._connection.call("create_index", collection.name, described, sync=False)
        while True:
            state = self._connection.call(
                "describe_index", collection.name, index_name=VECTOR_FIELD
            )
            if str(state.get("state")) == "Failed":
                reason = state.get("index_state_fail_reason")
                raise ServerError(f"The Milvus server could not build an index: {reason}")
            if str(state.get("state")) == "Finished" and not int(state["pending_index_rows"]):
                return
            time.sleep(_BUILD_POLL_S)

    def _load(self, full_name: str) -> None:
        """Load a collection, with fewer replicas if the server has too few query nodes."""
        for replicas in range(self._replicas, 0, -1):
            try:
                self._connection.call(
                    "load_collection",
                    full_name,
                    replica_number=replicas,
                    timeout_s=_LOAD_TIMEOUT_S,
                )
            except (CollectionGoneError, UnreachableError):
                raise
            except ServerError:
                if replicas == 1:
                    raise
            else:
                return

    def _drop_quietly(self, full_name: str) -> None:
        # If this fails, the next build with this name drops it.
        with suppress(MMSearchError):
            self._connection.call("drop_collection", full_name)


def _empty_ranking(num_queries: int, count: int) -> Ranking:
    empty = np.empty(0, np.int64), np.empty(0, np.float32)
    return stack([_first(*empty, count)] * num_queries, count)


def _first(ids: Ids, scores: NDArray[np.float32], count: int) -> tuple[Ids, NDArray[np.float32]]:
    """Return the best rows, ordered by (-score, id), padded with the id -1."""
    order = np.lexsort((ids, -scores))[:count]
    padding = count - len(order)
    return (
        np.pad(ids[order], (0, padding), constant_values=-1),
        np.pad(scores[order], (0, padding), constant_values=-np.inf),
    )


def _split(values: Ids, size: int) -> Iterator[Ids]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _num_lists(rows: int) -> int:
    return int(min(65536, max(1, 4 * rows**0.5)))


def _spread(row_id: int) -> int:
    """Return a number that is spread evenly for any run of ids (Fibonacci hashing)."""
    return (row_id * 0x9E3779B97F4A7C15 % (1 << 64)) >> (64 - _SPREAD_BITS)


def _text_bytes(row: dict[str, Any]) -> int:
    """Return the maximum number of bytes of the texts of a row."""
    values = [value for value in row.values() if isinstance(value, str | list)]
    texts = [[value] if isinstance(value, str) else value for value in values]
    return 4 * sum(len(text) for listed in texts for text in listed)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
