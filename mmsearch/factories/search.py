"""Creation of the search engine and its components."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.core.identity import Identity
from mmsearch.core.settings import Settings
from mmsearch.core.types import ModelInput
from mmsearch.factories.plugins import (
    OnMessage,
    load_index_encoder,
    load_vector_index_plugin,
    make_fusion,
    make_modalities,
    make_rank_fusion,
)
from mmsearch.search.engine import SearchEngine
from mmsearch.search.query_encoder import QueryEncoder, StoredVectorLookup
from mmsearch.storage.layout import IndexLayout
from mmsearch.vector_stores.files import IndexReaderCache, read_stored_image_vectors

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogReader, Snapshot
    from mmsearch.core.protocols import Encoder, Executor, ImagePreprocessor, VectorStore
    from mmsearch.search.image_loader import SandboxedImageLoader
    from mmsearch.vector_stores._served import CollectionReaderCache

TAIL_VECTOR_INDEX = "exact"
"""Vector index that searches the segments added since the last build."""


def make_image_loader(settings: Settings, workers: int = 1) -> SandboxedImageLoader:
    """Return the loader that reads query pictures and makes thumbnails in worker processes.

    The processes start with the first picture.
    """

    def make_executor() -> Executor:
        from mmsearch.executors import processes  # noqa: PLC0415 - most queries need no processes

        return processes.build(workers, settings.decode_timeout_s, settings.decode_memory_mb)

    from mmsearch.search.image_loader import SandboxedImageLoader  # noqa: PLC0415 - texts need none

    return SandboxedImageLoader(lambda: make_modalities(settings), make_executor)


def check_search_server(url: str) -> str:
    """Check that a server can search a new index; return what was found there.

    Raises:
        ServerError: It cannot.
    """
    from mmsearch.factories.search_servers import check_server  # noqa: PLC0415 - only new indexes

    return check_server(url)


def make_search_engine(
    layout: IndexLayout,
    catalog: CatalogReader,
    identity: Identity,
    load_image: Callable[[Path, ImagePreprocessor], ModelInput],
    settings: Settings,
    on_message: OnMessage,
) -> SearchEngine:
    """Return the search engine of an index; ``load_image`` reads the pictures of queries."""
    encoder = load_index_encoder(identity, settings, on_message)
    return SearchEngine(
        catalog,
        StoreOpener(layout, encoder, settings.device).open_store,
        partial(read_stored_image_vectors, layout),
        encoder,
        QueryEncoder(
            encoder,
            load_image,
            StoredVectorLookup(layout, catalog),
        ),
        make_fusion=make_fusion,
        make_rank_fusion=make_rank_fusion,
        default_rank_fusion=settings.blend,
    )


class StoreOpener:
    """Opens the vectors of a generation: files, or a collection on a search server.

    Args:
        layout: Files of the index.
        encoder: Encoder that the vectors of the index must come from.
        device: Device of a built index in a file; see `Settings.device`.
    """

    def __init__(self, layout: IndexLayout, encoder: Encoder, device: str) -> None:
        self._layout = layout
        self._encoder = encoder
        self._files = IndexReaderCache(
            layout, encoder, load_vector_index_plugin, TAIL_VECTOR_INDEX, device, make_fusion
        )
        self._collections: CollectionReaderCache | None = None

    def open_store(self, snapshot: Snapshot) -> VectorStore:
        """Return the vectors of a generation.

        Raises:
            EncoderMismatchError: The vectors come from a different encoder.
            DamagedFileError: A file is missing or does not match the catalog.
            ServerError: The search server cannot be used.
        """
        built = snapshot.built
        if built is None or "collection" not in built.settings:
            return self._files.open_store(snapshot)
        if self._collections is None:
            # Most indexes have no search server.
            from mmsearch.factories.search_servers import open_search_server  # noqa: PLC0415
            from mmsearch.vector_stores._served import CollectionReaderCache  # noqa: PLC0415

            self._collections = CollectionReaderCache(
                self._layout,
                self._encoder,
                partial(open_search_server, self._layout),
                load_vector_index_plugin,
                TAIL_VECTOR_INDEX,
                make_fusion,
            )
        return self._collections.open_store(snapshot, built)
