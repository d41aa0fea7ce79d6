"""Creation of the search engine and its components."""

from __future__ import annotations

from mmsearch.core.catalog import Reader
from mmsearch.core.protocols import Executor
from mmsearch.core.records import Identity
from mmsearch.core.settings import Settings
from mmsearch.factories.encoders import OnMessage, load_index_encoder
from mmsearch.factories.plugins import (
    load_vector_index_plugin,
    make_fusion,
    make_modalities,
    make_rank_fusion,
)
from mmsearch.search.engine import SearchEngine
from mmsearch.search.image_loader import SandboxedImageLoader
from mmsearch.search.index_reader import IndexReaderCache
from mmsearch.search.query_encoder import QueryEncoder, StoredVectorLookup, VectorCache
from mmsearch.storage.layout import IndexLayout

TAIL_VECTOR_INDEX = "exact"
"""Vector index that searches the segments added since the last build."""


def make_image_loader(settings: Settings, workers: int = 1) -> SandboxedImageLoader:
    """Return the loader that reads query pictures and makes thumbnails in worker processes.

    The processes start with the first picture.
    """

    def make_executor() -> Executor:
        from mmsearch.executors import processes  # noqa: PLC0415 - most queries need no processes

        return processes.build(workers, settings.decode_timeout_s, settings.decode_memory_mb)

    return SandboxedImageLoader(lambda: make_modalities(settings), make_executor)


def make_search_engine(
    layout: IndexLayout,
    catalog: Reader,
    identity: Identity,
    image_loader: SandboxedImageLoader,
    settings: Settings,
    on_message: OnMessage,
) -> SearchEngine:
    """Return the search engine of an index."""
    encoder = load_index_encoder(identity, settings, on_message)
    return SearchEngine(
        catalog,
        IndexReaderCache(
            layout,
            encoder,
            load_vector_index_plugin,
            TAIL_VECTOR_INDEX,
            settings.device,
            make_fusion,
        ),
        encoder,
        QueryEncoder(
            encoder,
            image_loader.load,
            VectorCache(settings.cache / "vectors", encoder),
            StoredVectorLookup(layout, catalog),
        ),
        make_rank_fusion,
        settings.blend,
    )
