"""A vector store in memory, which is also the oracle of the others: plain numpy and one loop."""

from dataclasses import dataclass

import numpy as np

from mmsearch.core.filter_tree import MatchesPath, TakenBetween, TakenNear
from mmsearch.core.query import AllOf, AnyOf, Compare, FieldName, Not
from mmsearch.core.types import Ranking
from mmsearch.vector_stores.files import read_stored_image_vectors


@dataclass
class MemoryVectorStore:
    """Vectors of the searchable items of an index of toys, with their files."""

    ids: np.ndarray
    vectors: np.ndarray
    records: list
    content_ids: np.ndarray
    complete: bool = True
    device: str = "memory"

    @classmethod
    def open(cls, layout, snapshot):
        """Return the store of a snapshot whose fusion is image."""
        candidates = np.arange(1, 10_000)
        ids = np.array(sorted(snapshot.find_segments(candidates.tolist())), dtype=np.int64)
        vectors = np.empty((0, 1), np.float32)
        if len(ids):
            vectors = read_stored_image_vectors(layout, snapshot, ids)
        return cls(ids, vectors, snapshot.records(ids.tolist()), snapshot.content_ids(ids))

    @property
    def size(self):
        return len(self.ids)

    def search(self, queries, k, filters=None, excluded=None):
        mask = ~np.isin(self.ids, [] if excluded is None else excluded)
        if filters is not None:
            mask &= [all(passes(record, part) for part in filters.parts) for record in self.records]
        ids, rows = self.ids[mask], self.vectors[mask]
        found = Ranking(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf, "f4"))
        for row, query in enumerate(queries):
            scores = np.vecdot(rows, query)
            order = np.lexsort((ids, -scores))[:k]
            found.ids[row, : len(order)] = ids[order]
            found.scores[row, : len(order)] = scores[order]
        return found

    def scores(self, queries, ids):
        rows = self.vectors[np.searchsorted(self.ids, ids)]
        return np.vecdot(rows, queries[:, None, :])

    def sample(self, count):
        _, firsts = np.unique(self.content_ids, return_index=True)
        return self.vectors[np.sort(firsts)[:: max(1, -(-len(firsts) // count))]]


def passes(record, node):
    """Return True if a toy passes a node of a tree: sizes of files and endings of paths."""
    match node:
        case AllOf(parts):
            return all(passes(record, part) for part in parts)
        case AnyOf(parts):
            return any(passes(record, part) for part in parts)
        case Not(inner):
            return not passes(record, inner)
        case Compare(FieldName("size_bytes"), ">", bound):
            return record.size > bound
        case MatchesPath(patterns):
            endings = tuple(pattern.removeprefix("*").encode() for pattern in patterns)
            return any(path.endswith(endings) for path in record.paths)
        case TakenBetween() | TakenNear():
            return False  # No toy has a date or a place.
    raise NotImplementedError(node)
