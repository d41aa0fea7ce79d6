"""Search servers: which one an index has, and what writers do there."""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from mmsearch.core import plugins
from mmsearch.core.catalog import PUBLISHING
from mmsearch.core.errors import MMSearchError, StateError
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.places import read_places

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogWriter
    from mmsearch.core.vector_servers import VectorServer, VectorServerPlugin
    from mmsearch.indexing.collections import CollectionBuilder

PLUGIN_BY_SCHEME = {
    "postgresql+psycopg": "pgvector",
    "milvus+http": "milvus",
    "milvus+https": "milvus",
}
"""Name of the plugin of vector_stores/ by the scheme of the URL of a search server."""

# Connections are kept for all indexes and threads of the process; a child opens its own.
_servers: dict[tuple[int, str, str], VectorServer] = {}
_lock = threading.Lock()


def find_plugin_name(layout: IndexLayout) -> str | None:
    """Return the name of the plugin of the search server of an index; None if it has none."""
    if not os.path.lexists(layout.places):
        return None
    url = read_places(layout).search
    return None if url is None else PLUGIN_BY_SCHEME[urlsplit(url).scheme.lower()]


def open_search_server(layout: IndexLayout, plugin_name: str) -> VectorServer:
    """Return the search server of an index, which stays open until the process ends.

    Args:
        layout: Files of the index.
        plugin_name: Name of the plugin whose collections are to be used.

    Raises:
        StateError: The index has no such search server.
        MissingExtraError: The plugin needs a library that is not installed.
    """
    url = read_places(layout).search
    if url is None or find_plugin_name(layout) != plugin_name:
        raise StateError(
            f"The vectors of index {layout.name!r} are on a {plugin_name} server, which"
            f" {layout.places.name} does not name.",
            f"Name it there, or remove {layout.places.name} and run again to search in files.",
        )
    key = os.getpid(), url, layout.name
    with _lock:
        if key not in _servers:
            plugin = cast("VectorServerPlugin", plugins.load("vector_stores", plugin_name))
            _servers[key] = plugin.build(url, layout.name)
        return _servers[key]


def check_server(url: str) -> str:
    """Check that a server can be used; return its plugin's name, with warnings.

    Raises:
        ServerError: It cannot be used.
    """
    name = PLUGIN_BY_SCHEME[urlsplit(url).scheme.lower()]
    server = cast("VectorServerPlugin", plugins.load("vector_stores", name)).build(url, "mmsearch")
    try:
        return " ".join([f"{name} answers.", *server.check()])
    finally:
        server.close()


@atexit.register
def close_search_servers() -> None:
    """Close the search servers that this process has opened."""
    with _lock:
        opened = dict(_servers)
        _servers.clear()
    for (process_id, *_), server in opened.items():
        # Those of a parent are still used there.
        if process_id == os.getpid():
            server.close()


def make_collection_builder(
    layout: IndexLayout, catalog: CatalogWriter
) -> CollectionBuilder | None:
    """Return the builder of collections of an index; None if it has no search server."""
    plugin_name = find_plugin_name(layout)
    if plugin_name is None:
        return None
    from mmsearch.indexing.collections import CollectionBuilder  # noqa: PLC0415 - few indexes

    return CollectionBuilder(
        layout, plugin_name, lambda: open_search_server(layout, plugin_name), catalog
    )


def drop_unused_collections(layout: IndexLayout, catalog: CatalogWriter) -> None:
    """Drop the collections of an index on its search server that no generation uses.

    Called at the end of each write. If the server does not answer, they stay for the next one.
    """
    plugin_name = find_plugin_name(layout)
    if plugin_name is None:
        return
    from mmsearch.indexing.collections import drop_unused  # noqa: PLC0415 - few

    # Another run may be building a collection.
    with suppress(MMSearchError), catalog.one_at_a_time(PUBLISHING):
        drop_unused(catalog, open_search_server(layout, plugin_name))
