"""Vectors in PostgreSQL with the extension pgvector: https://github.com/pgvector/pgvector.

A collection is a table of vectors in float16 with an HNSW graph
(https://arxiv.org/abs/1603.09320), built in one transaction after COPY. A search takes 1,000
candidates of the graph, or compares all rows where they are few, and scores them in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from mmsearch.core.errors import ServerError, UsageError
from mmsearch.core.server_filters import SEARCH_FIELDS, FieldKind
from mmsearch.core.types import Ids, Ranking, Vectors
from mmsearch.core.vector_servers import MAX_EXACT_IDS, MIN_CANDIDATES, VectorBlock
from mmsearch.core.vectors import stack, top_k
from mmsearch.vector_stores._pgvector_connection import (
    CANDIDATES,
    ConnectionPool,
    from_halfvecs,
    missing_extension_error,
    to_halfvec,
    to_vector,
)
from mmsearch.vector_stores._pgvector_filter import field_column, translate_condition
from mmsearch.vector_stores._pointer import REBUILD_HINT

if TYPE_CHECKING:
    import psycopg

    from mmsearch.core.query import Condition

RECOMMENDED_VERSION = (0, 8, 7)
"""Earlier versions have buffer overflows and damage to graphs under vacuum (changelog)."""

MINIMUM_VERSION = (0, 8, 0)
"""The first version that goes on through the graph until enough rows pass a filter."""

MAX_DIM = 4000
"""Maximum number of dimensions of a graph of ``halfvec``."""

MAX_PLAIN_DIM = 3000
"""Maximum number of dimensions of vectors that are kept in the rows: a page has 8 kB."""

MIN_GRAPH_SHARE = 0.05
"""Minimum share of the rows in a list of ids to search the graph; fewer are compared."""

MAX_BUILD_MEMORY_KB = 1_000_000
"""Maximum memory to ask for to build a graph."""

MAX_NAME_BYTES = 63
"""Maximum length of a name in PostgreSQL."""

_COMMENT = "mmsearch vectors"
_DIGEST_BLOCK = 50_000
_COLUMN_TYPES: dict[FieldKind, tuple[str, str]] = {
    "number": ("float8", "float8"),
    "text": ('text COLLATE "C"', "text"),
    "texts": ('text[] COLLATE "C" NOT NULL', "text[]"),
}


def build(url: str, index_name: str) -> PgvectorServer:
    """Return the server at a URL; see `VectorServerPlugin.build`.

    Args:
        url: ``postgresql+psycopg://user@host:port/database``, with ``?schema=NAME`` if the schema
            of the tables is not the name of the index.
        index_name: Name of the index.

    Raises:
        UsageError: The name of the index is too long for a schema.
    """
    schema = dict(parse_qsl(urlsplit(url).query)).get("schema", index_name)
    if len(schema.encode()) > MAX_NAME_BYTES or schema.startswith("pg_"):
        raise UsageError(
            f"{schema!r} cannot be the name of a schema of PostgreSQL.",
            "Name another one in the URL of the search server: ?schema=NAME.",
        )
    return PgvectorServer(ConnectionPool(url), schema)


class PgvectorServer:
    """A schema of a database, with a table for each collection; a `VectorServer`.

    Args:
        pool: Connections to the database.
        schema: Name of the schema.
    """

    def __init__(self, pool: ConnectionPool, schema: str) -> None:
        self._pool = pool
        self._schema = schema

    def check(self) -> Sequence[str]:
        """Check the version of pgvector and the rights of the user; return warnings.

        Raises:
            ServerError: pgvector is missing or too old, or the user may not create the schema.
        """
        with self._pool.connection() as connection:
            self._prepare_schema(connection)
            ((text,),) = connection.execute(
                "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
            ).fetchall()
        version = tuple(map(int, text.split(".")[:3]))
        if version < MINIMUM_VERSION:
            raise ServerError(
                f"The search server {self._pool.address} has pgvector {text}, which is too old.",
                f"Install {_dotted(RECOMMENDED_VERSION)} or newer.",
            )
        if version < RECOMMENDED_VERSION:
            return [
                f"The search server {self._pool.address} has pgvector {text}, which has known"
                f" faults. Install {_dotted(RECOMMENDED_VERSION)} or newer."
            ]
        return []

    def create(self, name: str, dim: int, blocks: Iterable[VectorBlock]) -> PgvectorCollection:
        """Write a collection in one transaction; see `VectorServer.create`."""
        if dim > MAX_DIM:
            raise ServerError(
                f"pgvector searches vectors of at most {MAX_DIM:,} dimensions; these have {dim:,}.",
                "Use another search server, or a fusion with shorter vectors.",
            )
        with self._pool.connection(timeout_s=None) as connection:
            self._prepare_schema(connection)
        # Types of an extension that has just been made are known to new connections only.
        self._pool.forget_idle()
        with self._pool.connection(timeout_s=None) as connection, connection.transaction():
            rows = self._write(connection, name, dim, blocks)
        return self.open(name, dim, rows)

    def _prepare_schema(self, connection: psycopg.Connection[Any]) -> None:
        if not connection.execute("SELECT FROM pg_extension WHERE extname = 'vector'").fetchall():
            available = "SELECT FROM pg_available_extensions WHERE name = 'vector'"
            if not connection.execute(available).fetchall():
                raise missing_extension_error(self._pool.address)
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        schema = sql.Identifier(self._schema)
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))

    def _write(
        self,
        connection: psycopg.Connection[Any],
        name: str,
        dim: int,
        blocks: Iterable[VectorBlock],
    ) -> int:
        table = self._table(name)
        columns = [
            sql.SQL("{} {}").format(field_column(field), sql.SQL(_COLUMN_TYPES[kind][0]))
            for field, kind in SEARCH_FIELDS.items()
        ]
        for statement in (
            "DROP TABLE IF EXISTS {table}",
            "CREATE TABLE {table} (id bigint NOT NULL, embedding halfvec({dim}) NOT NULL,"
            " digest bigint NOT NULL, {columns})",
            "ALTER TABLE {table} ALTER COLUMN embedding SET STORAGE {storage}",
            "COMMENT ON TABLE {table} IS {comment}",
        ):
            connection.execute(
                sql.SQL(statement).format(
                    table=table,
                    dim=sql.Literal(dim),
                    columns=sql.SQL(", ").join(columns),
                    # Rows outside of their page would be read apart, one by one.
                    storage=sql.SQL("PLAIN" if dim <= MAX_PLAIN_DIM else "EXTERNAL"),
                    comment=sql.Literal(_COMMENT),
                )
            )
        rows = self._copy(connection, table, blocks)
        memory_kb = min(MAX_BUILD_MEMORY_KB, 65_536 + rows * (2 * dim + 500) // 1000)
        for statement in (
            "SET LOCAL maintenance_work_mem = {memory}",
            "ALTER TABLE {table} ADD PRIMARY KEY (id)",
            "CREATE INDEX ON {table} USING hnsw (embedding halfvec_ip_ops)",
        ):
            connection.execute(
                sql.SQL(statement).format(table=table, memory=sql.Literal(memory_kb))
            )
        return rows

    def _copy(
        self,
        connection: psycopg.Connection[Any],
        table: sql.Identifier,
        blocks: Iterable[VectorBlock],
    ) -> int:
        rows = 0
        halfvec = connection.adapters.types["halfvec"].oid
        kinds = [_COLUMN_TYPES[kind][1] for kind in SEARCH_FIELDS.values()]
        statement = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(table)
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(["int8", halfvec, "int8", *kinds])
            for block in blocks:
                for item_id, vector, digest, item in zip(
                    block.ids.tolist(),
                    block.vectors,
                    block.digests.tolist(),
                    block.fields,
                    strict=True,
                ):
                    values = (_column_value(item.values[name]) for name in SEARCH_FIELDS)
                    copy.write_row((item_id, to_halfvec(vector), digest, *values))
                rows += len(block.ids)
        return rows

    def open(self, name: str, dim: int, rows: int) -> PgvectorCollection:
        """Return a collection that `create` wrote; `ServerError` if it does not exist."""
        collection = PgvectorCollection(self._pool, self._table(name), dim, rows)
        if collection.count() != rows:
            raise ServerError(
                f"The search server {self._pool.address} lacks the collection {name!r}.",
                REBUILD_HINT,
            )
        return collection

    def publish(self, name: str) -> None:
        """Let the view ``vectors`` of the schema show a collection."""
        view = sql.Identifier(self._schema, "vectors")
        with self._pool.connection() as connection, connection.transaction():
            # A view cannot be replaced by one whose vectors have another number of dimensions.
            connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
            connection.execute(
                sql.SQL("CREATE VIEW {} AS SELECT * FROM {}").format(view, self._table(name))
            )

    def names(self) -> list[str]:
        """Return the names of the collections of the schema."""
        statement = (
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
            " AND relkind = 'r' AND obj_description(oid, 'pg_class') = %s ORDER BY relname"
        )

        def read(connection: psycopg.Connection[Any]) -> list[str]:
            schema = sql.Identifier(self._schema).as_string(connection)
            return [name for (name,) in connection.execute(statement, [schema, _COMMENT])]

        return self._pool.run(read)

    def drop(self, name: str) -> None:
        """Drop a collection; do nothing if there is no such collection."""
        statement = sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(self._table(name))
        with self._pool.connection(timeout_s=None) as connection:
            connection.execute(statement)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _table(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._schema, name)


@dataclass(frozen=True)
class PgvectorCollection:
    """A table of vectors; a `VectorCollection`.

    Attributes:
        pool: Connections to the database.
        table: Name of the table with that of its schema.
        dim: Number of dimensions.
        rows: Number of rows that were written.
    """

    pool: ConnectionPool
    table: sql.Identifier
    dim: int
    rows: int

    def count(self) -> int:
        """Return the number of rows: all are there if the table is, as one transaction wrote it."""
        name = self.table.as_string(None)
        statement = sql.SQL("SELECT to_regclass(%s) IS NOT NULL")
        ((exists,),) = self.pool.run(partial(_fetch, statement, [name]))
        return self.rows if exists else 0

    def evaluates(self, condition: Condition) -> bool:
        """Return True: it can evaluate every condition."""
        return True

    def search(
        self,
        queries: Vectors,
        count: int,
        *,
        condition: Condition | None = None,
        only: Ids | None = None,
        excluded: Ids | None = None,
    ) -> Ranking:
        """Return the nearest rows of each query; see `VectorCollection.search`."""
        depth = max(count, MIN_CANDIDATES)
        values: dict[str, Any] = {"depth": depth}
        where = []
        if condition is not None:
            where.append(translate_condition(condition, values))
        if only is not None:
            values["only"] = only.tolist()
            where.append(sql.SQL("id = ANY(%(only)s::int8[])"))
        if excluded is not None and len(excluded):
            values["excluded"] = excluded.tolist()
            where.append(sql.SQL("id <> ALL(%(excluded)s::int8[])"))
        uses_graph = self._uses_graph(only)
        statement = sql.SQL(_GRAPH_SEARCH if uses_graph else _EXACT_SEARCH).format(
            table=self.table,
            where=sql.SQL(" AND ").join(where) if where else sql.SQL("true"),
        )
        # Without filters, the first candidates of the graph are enough, and always the same.
        iterates = uses_graph and (bool(where) or depth > CANDIDATES)

        def read(connection: psycopg.Connection[Any]) -> list[tuple[Ids, NDArray[np.float32]]]:
            mode = "relaxed_order" if iterates else "off"
            connection.execute(f"SET hnsw.iterative_scan = {mode}".encode())
            found = []
            for query in queries:
                vectors = {"query": to_vector(query), "nearest_to": to_halfvec(query)}
                rows = connection.execute(statement, values | vectors).fetchall()
                ids = np.array([row[0] for row in rows], dtype=np.int64)
                scores = np.array([row[1] for row in rows], dtype=np.float32)
                found.append(top_k(ids, scores, count))
            return found

        return stack(self.pool.run(read), count)

    def _uses_graph(self, only: Ids | None) -> bool:
        """Return True if the graph is searched; few rows are compared with the query instead."""
        if self.rows <= MAX_EXACT_IDS:
            return False
        return only is None or len(only) > max(MAX_EXACT_IDS, MIN_GRAPH_SHARE * self.rows)

    def scores(self, queries: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the cosine similarities of queries and rows; see `VectorCollection.scores`."""
        statement = sql.SQL(
            "SELECT id, -(embedding::vector <#> %(query)s) FROM {} WHERE id = ANY(%(ids)s::int8[])"
        ).format(self.table)

        def read(connection: psycopg.Connection[Any]) -> NDArray[np.float32]:
            scores = np.full((len(queries), len(ids)), -np.inf, dtype=np.float32)
            for row, query in enumerate(queries):
                values = {"query": to_vector(query), "ids": ids.tolist()}
                known = dict(connection.execute(statement, values).fetchall())
                scores[row] = [known.get(item_id, -np.inf) for item_id in ids.tolist()]
            return scores

        return self.pool.run(read)

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of ids in their order; see `VectorCollection.vectors`."""
        statement = sql.SQL(
            "SELECT id, embedding FROM {} WHERE id = ANY(%s::int8[]) ORDER BY id"
        ).format(self.table)

        def read(connection: psycopg.Connection[Any]) -> list[Any]:
            with connection.cursor(binary=True) as cursor:
                return cursor.execute(statement, [ids.tolist()]).fetchall()

        stored = self.pool.run(read)
        found = np.full((len(ids), self.dim), np.nan, dtype=np.float32)
        if stored:
            known_ids = np.array([row[0] for row in stored], dtype=np.int64)
            positions = np.minimum(np.searchsorted(known_ids, ids), len(known_ids) - 1)
            is_known = known_ids[positions] == ids
            known = from_halfvecs([row[1] for row in stored], self.dim)
            found[is_known] = known[positions[is_known]]
        return found

    def sample_ids(self, count: int) -> Ids:
        """Return at most ``count`` ids spread over the table, ascending."""
        if self.rows <= count:
            statement = sql.SQL("SELECT id FROM {} ORDER BY id").format(self.table)
        else:
            statement = sql.SQL(
                "SELECT DISTINCT (SELECT id FROM {0} WHERE id >= start ORDER BY id LIMIT 1) AS id"
                " FROM (SELECT min(id) AS low, max(id) AS high FROM {0}) AS bounds,"
                " generate_series(low, high, greatest(1, (high - low) / {1} + 1)) AS start"
                " ORDER BY id"
            ).format(self.table, sql.Literal(count))
        rows = self.pool.run(partial(_fetch, statement, []))
        return np.array([item_id for (item_id,) in rows], dtype=np.int64)

    def field_digests(self) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
        """Yield blocks of ids and digests of their fields, ordered by id."""
        statement = sql.SQL("SELECT id, digest FROM {} WHERE id > %s ORDER BY id LIMIT {}").format(
            self.table, sql.Literal(_DIGEST_BLOCK)
        )
        last_id = -1
        while True:
            rows = self.pool.run(partial(_fetch, statement, [last_id]))
            if not rows:
                return
            block = np.array(rows, dtype=np.int64)
            yield block[:, 0], block[:, 1]
            last_id = int(block[-1, 0])


_GRAPH_SEARCH = (
    "SELECT id, -(embedding::vector <#> %(query)s) FROM (SELECT id, embedding FROM {table}"
    " WHERE {where} ORDER BY embedding <#> %(nearest_to)s LIMIT %(depth)s) AS candidates"
)
# The graph does not serve an order by vectors in float32.
_EXACT_SEARCH = (
    "SELECT id, -(embedding::vector <#> %(query)s) AS score FROM {table} WHERE {where}"
    " ORDER BY score DESC, id LIMIT %(depth)s"
)


def _fetch(
    statement: sql.SQL | sql.Composed, values: Sequence[Any], connection: psycopg.Connection[Any]
) -> list[Any]:
    rows: list[Any] = connection.execute(statement, values).fetchall()
    return rows


def _column_value(value: Any) -> Any:
    """Return a value of a field as psycopg writes it: numbers as floats, texts as lists."""
    if isinstance(value, tuple):
        return list(value)
    return float(value) if isinstance(value, int) else value


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
