"""Creation of the indexer and its components."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.gpu_memory import gpu_memory_bytes
from mmsearch.core.protocols import Encoder, Modality, Walk
from mmsearch.core.records import describe_older_model
from mmsearch.core.results import IndexRequest
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec, TextSource
from mmsearch.executors import processes, threads
from mmsearch.factories.plugins import (
    OnMessage,
    choose_model,
    load_index_encoder,
    load_vector_index_plugin,
    make_encoder,
    make_fusion,
    make_modalities,
    parse_text_sources,
)
from mmsearch.indexing.build import EXACT, IndexBuilder, check_vector_index_name
from mmsearch.indexing.encode import DecoderFactory
from mmsearch.indexing.indexer import Indexer
from mmsearch.indexing.texts import TextCollector
from mmsearch.indexing.tuning_queries import encode_queries, sample_tuning_queries
from mmsearch.modalities import _texts
from mmsearch.modalities._contents import Recall
from mmsearch.modalities._folder import walk
from mmsearch.storage.layout import IndexLayout

SHARD_THREADS = 2
"""Number of shards in progress: one is encoded while the next is decoded."""

HASH_THREADS = 4


@contextmanager
def make_indexer(
    layout: IndexLayout,
    catalog: CatalogWriter,
    settings: Settings,
    on_message: OnMessage,
    texts: str | None = None,
    model: str | None = None,
) -> Iterator[Indexer]:
    """Create an indexer; its processes and threads end with the context.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        settings: Settings; they also decide the identity of a new index.
        on_message: Called with a message before slow one-time work.
        texts: Text sources to use instead of those of the index; see `parse_text_sources`.
        model: Model to use instead of that of the index, for `Indexer.change_encoder`.
    """
    identity = catalog.identity()
    if identity is None:
        fusion = make_fusion(FusionSpec(settings.fusion, settings.text_weight))
        vector_index = settings.vector_index
        check_vector_index_name(vector_index)
        sources = parse_text_sources(settings.texts)
        encoder = make_encoder(choose_model(settings, on_message), settings, on_message)
    else:
        encoder = (
            make_encoder(model, settings, on_message)
            if model
            else load_index_encoder(identity, settings, on_message)
        )
        if encoder.spec.is_superseded:
            on_message(describe_older_model(encoder.spec))
        fusion, vector_index = make_fusion(identity.fusion), identity.vector_index
        sources = identity.texts if texts is None else parse_text_sources(texts)
    modalities = make_modalities(settings)
    with ExitStack() as stack:
        hash_executor = threads.build(HASH_THREADS)
        stack.callback(hash_executor.close)
        shard_executor = threads.build(SHARD_THREADS)
        stack.callback(shard_executor.close)
        # Closed first, so that no thread keeps waiting for a decoder.
        decode_executor = processes.build(
            settings.workers, settings.decode_timeout_s, settings.decode_memory_mb
        )
        stack.callback(decode_executor.close)
        yield Indexer(
            layout=layout,
            catalog=catalog,
            encoder=encoder,
            fusion=fusion,
            vector_index=vector_index,
            builder=make_index_builder(layout, catalog, lambda: encoder, settings.device),
            sources=sources,
            walk=lambda request, recall: walk_request(request, modalities, recall),
            make_text_collector=lambda request: make_text_collector(request, sources),
            make_decoder=DecoderFactory(modalities, encoder.batch_preprocessor),
            decode_executor=decode_executor,
            shard_executor=shard_executor,
            hash_executor=hash_executor,
        )


def make_index_builder(
    layout: IndexLayout,
    catalog: CatalogReader,
    load_encoder: Callable[[], Encoder],
    device: str = "cpu",
) -> IndexBuilder:
    """Return the builder of vector indexes.

    Args:
        layout: File layout of the index.
        catalog: Catalog; its captions are among the tuning queries of an approximate index.
        load_encoder: Returns the index's encoder; called only if an index has to be tuned.
        device: Device that searches will run on; see `Settings.device`.
    """

    def gpu_bytes() -> int:
        return gpu_memory_bytes() if load_vector_index_plugin(EXACT).uses_gpu(device) else 0

    return IndexBuilder(
        layout,
        load_vector_index_plugin,
        lambda: encode_queries(load_encoder(), sample_tuning_queries(catalog)),
        gpu_bytes,
    )


def walk_request(
    request: IndexRequest,
    modalities: tuple[Modality, ...],
    recall: Recall = lambda path, size, mtime_ns: None,
) -> Walk:
    """Return the walk over the files of a request; see `mmsearch.modalities._folder.walk`."""
    return walk(
        request.folder,
        modalities=modalities,
        include=request.include,
        exclude=request.exclude,
        follow_symlinks=request.follow_symlinks,
        hidden=request.hidden,
        recall=recall,
    )


def make_text_collector(request: IndexRequest, sources: tuple[TextSource, ...]) -> TextCollector:
    """Return the text collector of a request.

    Raises:
        SourceError: The caption table cannot be read.
    """
    captions = None
    if request.captions is not None:
        # Few runs have a table.
        from mmsearch.modalities._texts.caption_table import read_captions  # noqa: PLC0415

        captions = read_captions(request.captions, request.folder)
    return TextCollector(sources, _texts.collect_texts, captions)
