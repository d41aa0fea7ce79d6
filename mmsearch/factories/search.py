"""Everything that a query takes."""

from __future__ import annotations

from mmsearch.core.catalog import Reader
from mmsearch.core.protocols import Executor
from mmsearch.core.records import Identity
from mmsearch.core.settings import Settings
from mmsearch.factories.encoders import Say, encoder_of
from mmsearch.factories.plugins import make_blend, make_fusion, make_modalities, vector_index_plugin
from mmsearch.search.engine import SearchEngine
from mmsearch.search.image_loader import PictureReader
from mmsearch.search.index_reader import ViewLoader
from mmsearch.search.query_encoder import QueryEncoder
from mmsearch.search.stored_vectors import StoredPictures
from mmsearch.search.vector_cache import KeptVectors
from mmsearch.storage.layout import IndexLayout

TAIL_INDEX = "exact"
"""Searches the segments that a built index does not hold yet."""


def picture_reader(settings: Settings, workers: int = 1) -> PictureReader:
    """Reads the pictures of queries, and makes thumbnails; its processes start with the first."""

    def make_executor() -> Executor:
        from mmsearch.executors import processes  # noqa: PLC0415 - most queries need none

        return processes.build(workers, settings.decode_timeout_s, settings.decode_memory_mb)

    return PictureReader(lambda: make_modalities(settings), make_executor)


def make_search_engine(
    layout: IndexLayout,
    catalog: Reader,
    identity: Identity,
    pictures: PictureReader,
    settings: Settings,
    say: Say,
) -> SearchEngine:
    """Everything that a query takes."""
    encoder = encoder_of(identity, settings, say)
    return SearchEngine(
        catalog,
        ViewLoader(layout, vector_index_plugin, TAIL_INDEX, settings.device, make_fusion),
        encoder,
        QueryEncoder(
            encoder,
            pictures.prepared,
            KeptVectors(settings.cache / "vectors", encoder),
            StoredPictures(layout, catalog),
        ),
        make_fusion,
        make_blend,
        settings.blend,
    )
