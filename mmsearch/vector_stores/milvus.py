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
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pymilvus import DataType, MilvusClient

from mmsearch.core.errors import MMSearchError, ServerError, UnreachableError, UsageError
from mmsearch.core.server_filters import SEARCH_FIELDS
from mmsearch.core.vector_servers import VectorBlock
from mmsearch.vector_stores._milvus_collection import MilvusCollection, num_lists, spread
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
    make_row,
)
from mmsearch.vector_stores._pointer import REBUILD_HINT

_SCHEMES: Final = ("milvus+http", "milvus+https")

MAX_FLAT_ROWS: Final = 50_000
"""Rows up to which every search compares all: a graph costs minutes to build and saves little."""

MAX_HNSW_ROWS: Final = 50_000_000
"""Rows up to which a graph is built, whose memory is that of the vectors and a tenth more."""

DEMANDED_VERSION: Final = (2, 6, 10)
OLDEST_VERSION: Final = (2, 3)

_INDEX_TYPES: Final = {"auto": None, "flat": "FLAT", "hnsw": "HNSW", "ivf_sq8": "IVF_SQ8"}
_HNSW: Final = {"M": 48, "efConstruction": 400}
_REQUEST_BYTES: Final = 8 << 20
_INSERT_TIMEOUT_S: Final = 60.0
_INSERT_TRIES: Final = 3
_BUILD_POLL_S: Final = 0.5
_LOAD_TIMEOUT_S: Final = 1800.0
_NUM_SHARDS = 1
"""Parts of a collection that are written at the same time. Each ends with rows that are too few for
an index of their own, and which a server with interim indexes searches with less recall."""


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
            make_row(item, digest) | {VECTOR_FIELD: vector, SPREAD_FIELD: spread(item.id)}
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
            params = {"nlist": num_lists(collection.rows)}
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


def _text_bytes(row: dict[str, Any]) -> int:
    """Return the maximum number of bytes of the texts of a row."""
    values = [value for value in row.values() if isinstance(value, str | list)]
    texts = [[value] if isinstance(value, str) else value for value in values]
    return 4 * sum(len(text) for listed in texts for text in listed)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
