"""New indexes with parts outside of their folder, and trust in the servers of existing ones."""

from __future__ import annotations

import secrets
from dataclasses import replace

from mmsearch.core.errors import Hint, SourceError, UnknownIndexError, UsageError
from mmsearch.core.reports import InitReport
from mmsearch.factories import catalogs
from mmsearch.factories.search import check_search_server
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.places import Places, describe_places, remember_servers, write_places
from mmsearch.storage.stored_files import is_in_use, write_owner
from mmsearch.storage.stores.remote import RemoteStore


def init_index(layout: IndexLayout, places: Places) -> InitReport:
    """Create an empty index. See `mmsearch.init_index`."""
    if layout.exists():
        raise UsageError(
            f"An index named {layout.name!r} exists already.", "Choose another name, or remove it."
        )
    places = replace(places, id=secrets.token_hex(16))
    found: dict[str, str] = {}
    if places.catalog is not None:
        found["catalog"] = catalogs.check_catalog_server(layout, places.catalog)
    if places.search is not None:
        found["search"] = check_search_server(places.search)
    if places.store is not None:
        found["store"] = _claim_store(places.store, places.id)
    layout.create()
    if found:
        write_places(layout, places)
    with catalogs.open_write(layout, 0, create=True):
        pass
    return InitReport(layout.name, layout.folder, places.urls(), found)


def _claim_store(url: str, index_id: str | None) -> str:
    remote = RemoteStore(url)
    if is_in_use(remote):
        raise SourceError(
            f"{remote.name} contains the files of an index.", "Choose another prefix."
        )
    write_owner(remote, index_id, 0)
    return f"empty, can be read and written by {remote.library}"


def trust_index(layout: IndexLayout) -> dict[str, str]:
    """Remember the servers of an index as known. See `mmsearch.trust_index`."""
    if not layout.has_places():
        raise UnknownIndexError(
            f"{layout.folder} names no servers.",
            Hint(
                "Call {} to create an index with parts on servers.",
                "mmsearch.init_index",
                "'mmsearch init'",
            ),
        )
    places = describe_places(layout)
    remember_servers(places)
    return places.servers()
