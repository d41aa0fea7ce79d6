"""Collections on search servers as checks of vector indexes see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError, ServerError, UnauthorizedError, UnreachableError
from mmsearch.core.records import BuiltVectorIndex
from mmsearch.core.types import Ids, Ranking, Vectors
from mmsearch.factories.search_servers import open_search_server
from mmsearch.indexing.collections import FIELDS_PAGE
from mmsearch.storage.layout import IndexLayout
from mmsearch.vector_stores._pointer import read_pointer

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogReader
    from mmsearch.core.vector_servers import VectorCollection


@dataclass(frozen=True)
class CollectionIndex:
    """A collection with the members of a `VectorIndex` that checks use.

    Attributes:
        ids: Ids of all its rows, ascending.
        digests: int64 (n,), digests of the fields of its rows.
        collection: The collection.
    """

    ids: Ids
    digests: NDArray[np.int64]
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
        blocks = [(np.empty(0, np.int64), np.empty(0, np.int64)), *collection.field_digests()]
    except (UnreachableError, UnauthorizedError):
        raise
    except ServerError as error:
        raise DamagedFileError(
            f"The search server lacks the collection {pointer.collection!r}."
        ) from error
    ids, digests = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    ids, rows = np.unique(ids, return_index=True)
    return CollectionIndex(ids, digests[rows], collection)


def find_changed_fields(catalog: CatalogReader, index: CollectionIndex) -> Ids:
    """Return the live items whose fields differ from those on the server, but count as unchanged.

    Returns:
        int64 (n,), ascending; none if the catalog does not know which items have changed, and
        evaluates all filters itself.
    """
    found = [np.empty(0, np.int64)]
    with catalog.snapshot() as snapshot:
        changed = snapshot.changed_fields
        if changed is None:
            return found[0]
        is_known = np.isin(index.ids, np.union1d(changed, snapshot.deleted_ids))
        ids, digests = index.ids[~is_known], index.digests[~is_known]
        for start in range(0, len(ids), FIELDS_PAGE):
            page, stored = ids[start:][:FIELDS_PAGE], digests[start:][:FIELDS_PAGE]
            present = {item.id: item.digest for item in snapshot.item_fields(page.tolist())}
            # Rows without an item are found by their ids.
            present_or_own = [
                present.get(number, own)
                for number, own in zip(page.tolist(), stored.tolist(), strict=True)
            ]
            current = np.array(present_or_own, np.int64)
            found.append(page[(current != stored) | (current == 0)])
    return np.concatenate(found)
