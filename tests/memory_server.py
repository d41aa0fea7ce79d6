"""A search server in memory, which is also the oracle of others: plain numpy and one loop."""

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np

from mmsearch.core.errors import ServerError
from mmsearch.core.query import AllOf, AnyOf, Compare, Contains, FieldName, IsMissing, Not, OneOf
from mmsearch.core.types import Ranking
from mmsearch.factories import search_servers
from mmsearch.storage.places import KNOWN_SERVERS_VARIABLE

URL = "milvus+http://memory:19530/toys"

_COMPARISONS = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def passes(values, condition):  # noqa: PLR0911 - one return per case
    """Return True if the values of the fields of an item pass a condition for servers."""
    match condition:
        case AllOf(parts):
            return all(passes(values, part) for part in parts)
        case AnyOf(parts):
            return any(passes(values, part) for part in parts)
        case Not(part):
            return not passes(values, part)
        case IsMissing(name):
            return values[name] is None or values[name] == ()
        case Compare(FieldName(name), symbol, other):
            return values[name] is not None and _COMPARISONS[symbol](values[name], other)
        case Contains("people" | "place" as name, part):
            return any(part in value for value in values[name])
        case Contains(name, part):
            return values[name] is not None and part in values[name]
        case OneOf(name, others):
            value = values[name]
            return any(v in others for v in (value if isinstance(value, tuple) else (value,)))
    raise NotImplementedError(condition)


@dataclass
class MemoryCollection:
    """Rows of a collection, ordered by id.

    Attributes:
        dim: Number of dimensions.
        ids: int64 (n,).
        data: float32 (n, dim).
        fields: Fields of each row.
        digests: int64 (n,), their digests.
        lost_rows: Number of rows that a part of the server which has failed would hold.
        searches: The arguments of all searches.
    """

    dim: int
    ids: np.ndarray
    data: np.ndarray
    fields: list
    digests: np.ndarray
    lost_rows: int = 0
    searches: list = field(default_factory=list)

    @property
    def rows(self):
        return len(self.ids)

    def count(self):
        return self.rows - self.lost_rows

    def search(self, queries, count, *, condition=None, only=None, excluded=None):
        self.searches.append((count, condition, only, excluded))
        mask = np.ones(self.rows, bool) if only is None else np.isin(self.ids, only)
        if excluded is not None:
            mask &= ~np.isin(self.ids, excluded)
        if condition is not None:
            mask &= np.array([passes(item.values, condition) for item in self.fields], bool)
        ids, rows = self.ids[mask], self.data[mask]
        found = Ranking(
            np.full((len(queries), count), -1), np.full((len(queries), count), -np.inf, "f4")
        )
        for row, query in enumerate(queries):
            scores = np.vecdot(rows, query)
            order = np.lexsort((ids, -scores))[:count]
            found.ids[row, : len(order)] = ids[order]
            found.scores[row, : len(order)] = scores[order]
        return found

    def evaluates(self, condition):
        return True

    def scores(self, queries, ids):
        scores = np.vecdot(self.vectors(ids), queries[:, None, :])
        return np.where(np.isnan(scores), -np.inf, scores)

    def vectors(self, ids):
        found = np.full((len(ids), self.dim), np.nan, np.float32)
        known = np.isin(ids, self.ids)
        found[known] = self.data[np.searchsorted(self.ids, ids[known])]
        return found

    def sample_ids(self, count):
        return self.ids[:: max(1, -(-self.rows // count))]

    def field_digests(self):
        yield self.ids, self.digests


class MemoryServer:
    """Collections by name."""

    def __init__(self):
        self.collections = {}
        self.published = None

    def check(self):
        return []

    def create(self, name, dim, blocks):
        ids, vectors, fields, digests = [], [np.empty((0, dim), np.float32)], [], []
        for block in blocks:
            assert [item.id for item in block.fields] == block.ids.tolist()
            ids += block.ids.tolist()
            vectors.append(block.vectors)
            fields += block.fields
            digests += block.digests.tolist()
        order = np.argsort(ids)
        self.collections[name] = MemoryCollection(
            dim,
            np.array(ids, np.int64)[order],
            np.concatenate(vectors)[order],
            [fields[row] for row in order],
            np.array(digests, np.int64)[order],
        )
        return self.collections[name]

    def open(self, name, dim, rows):
        collection = self.collections.get(name)
        if collection is None:
            raise ServerError(f"There is no collection {name}.")
        assert (collection.dim, collection.rows) == (dim, rows)
        return collection

    def publish(self, name):
        self.published = name

    def names(self):
        return sorted(self.collections)

    def drop(self, name):
        self.collections.pop(name, None)

    def close(self):
        pass


@contextmanager
def served_by(server, layout):
    """Give an index a search server within this context."""
    layout.folder.mkdir(parents=True, exist_ok=True)
    layout.places.write_text(f'search = "{URL}"\n')
    known = {KNOWN_SERVERS_VARIABLE: URL}
    with (
        patch.dict(os.environ, known),
        patch.object(search_servers, "open_search_server", lambda layout, plugin_name: server),
    ):
        yield
