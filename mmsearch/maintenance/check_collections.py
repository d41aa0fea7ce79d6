"""Collections on search servers as checks of vector indexes see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsearch.core.errors import DamagedFileError, ServerError, UnauthorizedError, UnreachableError
from mmsearch.core.records import BuiltVectorIndex
from mmsearch.core.types import Ids, Ranking, Vectors
from mmsearch.factories.search_servers import open_search_server
from mmsearch.storage.layout import IndexLayout
from mmsearch.vector_stores._pointer import read_pointer

if TYPE_CHECKING:
    from mmsearch.core.vector_servers import VectorCollection


@dataclass(frozen=True)
class CollectionIndex:
    """A collection with the members of a `VectorIndex` that checks use.

    Attributes:
        ids: Ids of all its rows, ascending.
        collection: The collection.
    """

    ids: Ids
    collection: VectorCollection

    score_tolerance = 2e-3

    @property
    def stats(self) -> Mapping[str, Any]:
        """Statistics that say that a search may miss neighbours."""
        return {"recall_low": 0.0}

    def search(self, queries: Vectors, k: int) -> Ranking:
        """Return the nearest rows."""
        return self.collection.search(queries, k)


def open_collection_index(layout: IndexLayout, built: BuiltVectorIndex) -> CollectionIndex:
    """Return the collection of an index, with the ids of all its rows.

    Raises:
        DamagedFileError: The server lacks the collection.
        ServerError: The server cannot be asked, which proves nothing.
    """
    pointer = read_pointer(layout.local_path(built.file_ref), built)
    server = open_search_server(layout, built.plugin_name)
    try:
        collection = server.open(pointer.collection, pointer.dim, pointer.rows)
        ids = [block_ids for block_ids, _ in collection.field_digests()]
    except (UnreachableError, UnauthorizedError):
        raise
    except ServerError as error:
        raise DamagedFileError(
            f"The search server lacks the collection {pointer.collection!r}."
        ) from error
    return CollectionIndex(np.unique(np.concatenate([np.empty(0, np.int64), *ids])), collection)
