"""Everything that indexing takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from mmsearch.core.catalog import Catalog
from mmsearch.core.hardware import gpu_memory_bytes
from mmsearch.core.protocols import Encoder, Modality, Walk
from mmsearch.core.requests import IndexRequest
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec, TextSource
from mmsearch.executors import local, processes
from mmsearch.factories.encoders import Say, choose_model, encoder_of, make_encoder
from mmsearch.factories.plugins import (
    make_fusion,
    make_modalities,
    refuse_unknown_vector_index,
    text_sources,
    vector_index_plugin,
)
from mmsearch.indexing.build import EXACT, IndexBuilder
from mmsearch.indexing.decode import MakeDecoder
from mmsearch.indexing.indexer import Indexer
from mmsearch.indexing.text_collector import CaptionTable, FileTexts
from mmsearch.indexing.tuning_queries import asked_texts, encode_asked
from mmsearch.modalities import _texts
from mmsearch.modalities._folder import walk
from mmsearch.modalities._texts.table import read_captions
from mmsearch.storage.layout import IndexLayout

SHARD_THREADS = 2
"""While one shard is encoded the next is decoded."""

HASH_THREADS = 4


@contextmanager
def make_indexer(
    layout: IndexLayout,
    catalog: Catalog,
    settings: Settings,
    say: Say,
    texts: str | None = None,
    model: str | None = None,
) -> Iterator[Indexer]:
    """Everything that indexing takes; processes and threads are freed at the end.

    Args:
        layout: The index.
        catalog: Open for writing.
        settings: What is not bound yet comes from them.
        say: Receives a line about anything slow that happens once.
        texts: Another choice of texts than the index has; see `text_sources`.
        model: Another encoder than the index has, for `Indexer.change_encoder`.
    """
    bound = catalog.identity()
    if bound is None:
        fusion = make_fusion(FusionSpec(settings.fusion, settings.text_weight))
        vector_index = settings.vector_index
        refuse_unknown_vector_index(vector_index)
        sources = text_sources(settings.texts)
        encoder = make_encoder(choose_model(settings, say), settings, say)
    else:
        encoder = make_encoder(model, settings, say) if model else encoder_of(bound, settings, say)
        fusion, vector_index = make_fusion(bound.fusion), bound.vector_index
        sources = bound.texts if texts is None else text_sources(texts)
    modalities = make_modalities(settings)
    with ExitStack() as stack:
        hashing = local.build(HASH_THREADS)
        stack.callback(hashing.close)
        shards = local.build(SHARD_THREADS)
        stack.callback(shards.close)
        # Closed first: threads that wait for a decoder must not outlive it.
        decode = processes.build(
            settings.workers, settings.decode_timeout_s, settings.decode_memory_mb
        )
        stack.callback(decode.close)
        yield Indexer(
            layout=layout,
            catalog=catalog,
            encoder=encoder,
            fusion=fusion,
            vector_index=vector_index,
            builder=index_builder(layout, catalog, lambda: encoder, settings.device),
            sources=sources,
            walk=lambda request: walk_of(request, modalities),
            find_texts=lambda request: file_texts(request, sources),
            make_decoder=MakeDecoder(modalities, encoder.bulk_preparation),
            decode=decode,
            shards=shards,
            hashing=hashing,
        )


def index_builder(
    layout: IndexLayout,
    catalog: Catalog,
    find_encoder: Callable[[], Encoder],
    device: str = "cpu",
) -> IndexBuilder:
    """Builds vector indexes.

    Args:
        layout: The index.
        catalog: Its captions are among the texts that an approximate index is tuned on.
        find_encoder: The index's own, asked for when there is something to tune.
        device: Where searches will run; see `Settings.device`.
    """

    def gpu_bytes() -> int:
        return gpu_memory_bytes() if vector_index_plugin(EXACT).uses_gpu(device) else 0

    return IndexBuilder(
        layout,
        vector_index_plugin,
        lambda: encode_asked(find_encoder(), asked_texts(catalog)),
        gpu_bytes,
    )


def walk_of(request: IndexRequest, modalities: tuple[Modality, ...]) -> Walk:
    """The files of a request."""
    each = [modality.claims for modality in modalities]
    return walk(
        request.folder,
        # Asked of every file of a collection: where one modality knows, it is asked itself.
        claims=each[0] if len(each) == 1 else lambda name: any(claims(name) for claims in each),
        include=request.include,
        exclude=request.exclude,
        follow_symlinks=request.follow_symlinks,
        hidden=request.hidden,
    )


def file_texts(request: IndexRequest, sources: tuple[TextSource, ...]) -> FileTexts:
    """Finds the texts of the files of a request.

    Raises:
        SourceError: The table of captions cannot be read.
    """
    captions = None
    if request.captions is not None:
        table = os.path.abspath(os.fsencode(request.captions))  # noqa: PTH100 - bytes
        captions = CaptionTable(table, read_captions(request.captions, request.folder))
    return FileTexts(sources, _texts.gather, captions)
