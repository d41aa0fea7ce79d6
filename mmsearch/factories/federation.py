"""Creation of the search engine of several indexes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from mmsearch.catalog.federated import FederatedReader, FederatedSnapshot
from mmsearch.core.errors import Hint, UsageError
from mmsearch.core.federated_ids import split_id
from mmsearch.core.identity import Identity
from mmsearch.core.query import Term
from mmsearch.core.settings import Settings
from mmsearch.core.types import Ids, ModelInput, Vectors
from mmsearch.factories.catalogs import open_reader
from mmsearch.factories.plugins import (
    OnMessage,
    load_index_encoder,
    make_fusion,
    make_rank_fusion,
)
from mmsearch.factories.search import StoreOpener
from mmsearch.search.engine import SearchEngine
from mmsearch.search.query_encoder import QueryEncoder, StoredVectorLookup, StoredVectors
from mmsearch.storage.layout import IndexLayout
from mmsearch.vector_stores._federated import FederatedVectorStore
from mmsearch.vector_stores.files import read_stored_image_vectors

if TYPE_CHECKING:
    from mmsearch.catalog.reader import SqlReader
    from mmsearch.core.catalog import CatalogReader, Snapshot
    from mmsearch.core.protocols import Encoder, ImagePreprocessor, VectorStore


def open_catalogs(layouts: Sequence[IndexLayout]) -> FederatedReader:
    """Open the catalogs of several indexes as one for reading; close it after use.

    Raises:
        UnknownIndexError: There is no such index.
        UsageError: Their vectors cannot be compared.
    """
    catalogs: list[SqlReader] = []
    try:
        catalogs += (cast("SqlReader", open_reader(layout)) for layout in layouts)
        names = [layout.name for layout in layouts]
        _check_identities(names, [catalog.identity() for catalog in catalogs])
    except BaseException:
        for catalog in catalogs:
            catalog.close()
        raise
    return FederatedReader(catalogs)


def _check_identities(names: Sequence[str], identities: Sequence[Identity | None]) -> None:
    known = [pair for pair in zip(names, identities, strict=True) if pair[1] is not None]
    for name, identity in known[1:]:
        first_name, first = known[0]
        if identity is None or first is None:
            continue
        if identity.encoder.fingerprint != first.encoder.fingerprint:
            raise UsageError(
                f"Indexes {first_name!r} and {name!r} cannot be searched together: their models"
                f" are {first.encoder.name} and {identity.encoder.name}"
                + (" of another version." if first.encoder.name == identity.encoder.name else "."),
                Hint(
                    f"Search one at a time, or encode {name!r} again: {{}}",
                    f"index.reindex(model={first.encoder.name!r})",
                    f"mmsearch reindex --index {name} --model {first.encoder.name}",
                ),
            )
        if identity.fusion != first.fusion:
            raise UsageError(
                f"Indexes {first_name!r} and {name!r} cannot be searched together: their fusions"
                f" are {first.fusion.name} and {identity.fusion.name}, or have other weights.",
                Hint(
                    "Search one at a time, or give both the same one with {}.",
                    "index.reindex(fusion=...)",
                    "mmsearch reindex --fusion",
                ),
            )


def make_federated_engine(
    layouts: Sequence[IndexLayout],
    catalog: FederatedReader,
    identity: Identity,
    load_image: Callable[[Path, ImagePreprocessor], ModelInput],
    settings: Settings,
    on_message: OnMessage,
) -> SearchEngine:
    """Return the search engine of several indexes.

    Args:
        layouts: Their files.
        catalog: Their catalogs, from `open_catalogs`.
        identity: The identity that they share.
        load_image: Reads the pictures of queries.
        settings: Settings of this process.
        on_message: Called with a message before slow one-time work.
    """
    encoder = load_index_encoder(identity, settings, on_message)
    stores = _Stores(layouts, encoder, settings)
    return SearchEngine(
        catalog,
        stores.open_store,
        stores.read_image_vectors,
        encoder,
        QueryEncoder(encoder, load_image, _Lookup(layouts, catalog.catalogs)),
        make_fusion=make_fusion,
        make_rank_fusion=make_rank_fusion,
        default_rank_fusion=settings.blend,
    )


class _Stores:
    """Opens the vectors of several indexes, and keeps their readers until their files change."""

    def __init__(
        self, layouts: Sequence[IndexLayout], encoder: Encoder, settings: Settings
    ) -> None:
        self._layouts = layouts
        self._openers = [StoreOpener(layout, encoder, settings.device) for layout in layouts]

    def open_store(self, snapshot: Snapshot) -> VectorStore:
        federated = cast("FederatedSnapshot", snapshot)
        members = [
            opener.open_store(member)
            for opener, member in zip(self._openers, federated.members, strict=True)
        ]
        return FederatedVectorStore(members, federated)

    def read_image_vectors(self, snapshot: Snapshot, ids: Ids) -> Vectors:
        """Return the image vectors of ids in their order, float32 (n, dim)."""
        federated = cast("FederatedSnapshot", snapshot)
        rows: list[Vectors] = []
        places: list[int] = []
        for index, positions, own in federated.ids.own(ids):
            member = federated.members[index]
            rows.append(read_stored_image_vectors(self._layouts[index], member, own))
            places += positions.tolist()
        return np.concatenate(rows)[np.argsort(places)]


class _Lookup:
    """Finds the stored vectors of pictures in several indexes."""

    def __init__(self, layouts: Sequence[IndexLayout], catalogs: Sequence[CatalogReader]) -> None:
        self._lookups = [
            StoredVectorLookup(layout, catalog)
            for layout, catalog in zip(layouts, catalogs, strict=True)
        ]

    def vectors(self, terms: Sequence[Term], encoder: Encoder) -> StoredVectors:
        """Return the vector of each term that names a picture; see `StoredVectorLookup.vectors`."""
        found: StoredVectors = {}
        for term in terms:
            if term.picture is not None:
                index, item_id = split_id(term.picture)
                local = replace(term, picture=item_id)
                found[term] = self._lookups[index].vectors([local], encoder)[local]
            elif term.image is not None:
                for lookup in self._lookups:
                    stored = lookup.vectors([term], encoder)
                    if term in stored:
                        found[term] = stored[term]
                        break
        return found
