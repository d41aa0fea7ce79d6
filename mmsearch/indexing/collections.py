"""Building a collection on a search server instead of a file, and dropping unused ones."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.records import BuiltVectorIndex, Segment
from mmsearch.core.server_filters import SEARCH_FIELDS, FieldValue, ItemFields
from mmsearch.core.types import Ids, Vectors
from mmsearch.core.vector_servers import VectorBlock, VectorServer
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import fused_dim, iter_fused_blocks
from mmsearch.vector_stores._pointer import Pointer, digest_segments, write_pointer

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogWriter, Snapshot
    from mmsearch.core.protocols import Fusion

GRACE_S = 60.0
"""Seconds for which a collection stays after a newer one is published: longer than a search, which
may still read the former generation."""

MAX_WAITING_ROWS = 1_000
"""Number of new or changed items that may wait beside a collection of any size: to build one takes
a server far longer than a file."""

FIELDS_PAGE = 5_000
"""Number of items whose fields are read at a time."""

_MISSING_VALUES: dict[str, FieldValue] = {
    name: () if kind == "texts" else None for name, kind in SEARCH_FIELDS.items()
}


@dataclass(frozen=True)
class CollectionBuilder:
    """Builds collections of one index.

    Attributes:
        layout: Files of the index.
        plugin_name: Name of the server's plugin.
        open_server: Returns the server.
        catalog: Catalog of the index, for any thread.
    """

    layout: IndexLayout
    plugin_name: str
    open_server: Callable[[], VectorServer]
    catalog: CatalogWriter

    def build(
        self,
        segments: Sequence[Segment],
        fusion: Fusion,
        stale_rows: Mapping[int, Ids],
        check_stop: Callable[[], None],
    ) -> BuiltVectorIndex:
        """Build a collection, and write the file that names it.

        Readers use it once it is published in the catalog. Until then, neither is referenced.

        Args:
            segments: Segments to index; at least one.
            fusion: Combines the vectors of a picture into one.
            stale_rows: Ids whose rows are left out, by number of the segment.
            check_stop: Raises an error if the build should be cancelled.

        Raises:
            ServerError: The server cannot be used.
            DamagedFileError: A segment is missing or does not match the catalog.
        """
        server = self.open_server()
        dim = fused_dim(fusion, segments[0].dim)
        name = self._new_name()
        # Before any field is read: what changes meanwhile is in the log.
        begun = self.catalog.begin_collection()
        fused = iter_fused_blocks(self.layout, segments, fusion, stale_rows)
        collection = server.create(name, dim, self._iter_blocks(fused, check_stop))
        pointer = Pointer(name, dim, collection.rows, digest_segments(segments))
        file_ref = write_pointer(self.layout, self.plugin_name, pointer)
        server.publish(name)
        return BuiltVectorIndex(
            self.plugin_name,
            file_ref,
            collection.rows,
            segments[-1].number,
            {
                "dim": dim,
                "collection": name,
                "built_at_s": int(time.time()),
                "reason": "approximate search on the server",
                **begun,
            },
        )

    def _new_name(self) -> str:
        """Return the name of a new collection.

        Its random part keeps a copy of the index from writing to the same collection.
        """
        with self.catalog.snapshot() as snapshot:
            return f"{_prefix(snapshot)}{os.urandom(8).hex()}"

    def _iter_blocks(
        self, fused: Iterable[tuple[Ids, Vectors]], check_stop: Callable[[], None]
    ) -> Iterator[VectorBlock]:
        for ids, vectors in fused:
            for start in range(0, len(ids), FIELDS_PAGE):
                check_stop()
                page = ids[start : start + FIELDS_PAGE]
                rows = vectors[start : start + FIELDS_PAGE]
                yield VectorBlock(page, rows, *self._read_fields(page))

    def _read_fields(self, ids: Ids) -> tuple[list[ItemFields], NDArray[np.int64]]:
        with self.catalog.snapshot() as snapshot:
            known = {item.id: item for item in snapshot.item_fields(ids.tolist())}
        digests = [known[number].digest if number in known else 0 for number in ids.tolist()]
        # What a server cannot keep is filtered by the catalog: it counts as changed.
        if unfit := [number for number, item in known.items() if not item.digest]:
            self.catalog.add_changed_fields(unfit)
        fields = [
            known[number] if digest else ItemFields(number, _MISSING_VALUES)
            for number, digest in zip(ids.tolist(), digests, strict=True)
        ]
        return fields, np.array(digests, dtype=np.int64)


def drop_unused(catalog: CatalogWriter, server: VectorServer) -> list[str]:
    """Drop the collections that no generation uses, after a grace time; return their names.

    Only the writer of the index may call this.

    Raises:
        ServerError: The server cannot be used.
    """
    with catalog.snapshot() as snapshot:
        settings = snapshot.built.settings if snapshot.built is not None else {}
        prefix = _prefix(snapshot)
    age_s = time.time() - float(settings.get("built_at_s", 0))
    if 0 <= age_s < GRACE_S:
        return []
    names = [name for name in server.names() if name.startswith(prefix)]
    dropped = [name for name in names if name != settings.get("collection")]
    for name in dropped:
        server.drop(name)
    return dropped


def _prefix(snapshot: Snapshot) -> str:
    """Return the start of the names of the collections of an index.

    Other indexes may have collections in the same place, and even the same name.
    """
    digest = hashlib.sha256(snapshot.created_at.encode()).hexdigest()
    return f"c{digest[:8]}_"
