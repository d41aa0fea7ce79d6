"""Creation of the indexer and its components."""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mmsearch
from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.errors import EncoderMismatchError, StateError, StorageError
from mmsearch.core.gpu_memory import gpu_memory_bytes
from mmsearch.core.identity import describe_older_model
from mmsearch.core.protocols import CaptionTable, Encoder, Executor, Fusion, Modality, Store, Walk
from mmsearch.core.results import IndexRequest
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec, TextSource
from mmsearch.executors import threads
from mmsearch.factories.cluster import Cluster
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
from mmsearch.factories.search_servers import make_collection_builder
from mmsearch.factories.sources import SourceItemLoader
from mmsearch.factories.warm_parts import WarmParts, make_decode_executor
from mmsearch.indexing.build import EXACT, IndexBuilder, check_vector_index_name
from mmsearch.indexing.commit import ShardSizer
from mmsearch.indexing.encode import DecoderFactory, Shard, ShardEncoder, find_shared_worker
from mmsearch.indexing.file_reader import FileReaders
from mmsearch.indexing.indexer import Indexer
from mmsearch.indexing.texts import TextCollector, TextEncoder
from mmsearch.indexing.tuning_queries import encode_queries, sample_tuning_queries
from mmsearch.modalities import _texts
from mmsearch.modalities._contents import Recall
from mmsearch.modalities._folder import walk
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.places import read_places
from mmsearch.storage.stores.local import LocalStore

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
    warm_parts: WarmParts | None = None,
    *,
    cluster: Cluster | None = None,
) -> Iterator[Indexer]:
    """Create an indexer; its threads end with the context, and its processes if they are its own.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        settings: Settings; they also decide the identity of a new index.
        on_message: Called with a message before slow one-time work.
        texts: Text sources to use instead of those of the index; see `parse_text_sources`.
        model: Model to use instead of that of the index, for `Indexer.change_encoder`.
        warm_parts: Model and decoders of earlier calls, which stay for later ones.
        cluster: Workers that read and encode pictures; None for processes of this host.
    """
    identity = catalog.identity()
    modalities = warm_parts.modalities() if warm_parts else make_modalities(settings)
    if identity is None:
        fusion = make_fusion(FusionSpec(settings.fusion, settings.text_weight))
        vector_index = settings.vector_index
        check_vector_index_name(vector_index)
        sources = parse_text_sources(settings.texts)
        encoder = make_encoder(choose_model(settings, on_message), settings, on_message)
        if warm_parts is not None:
            warm_parts.keep(encoder)
    else:
        encoder = (
            make_encoder(model, settings, on_message)
            if model
            else load_index_encoder(identity, settings, on_message)
            if warm_parts is None
            else warm_parts.encoder(identity)
        )
        if encoder.spec.is_superseded:
            on_message(describe_older_model(encoder.spec))
        fusion, vector_index = make_fusion(identity.fusion), identity.vector_index
        sources = identity.texts if texts is None else parse_text_sources(texts)
    with ExitStack() as stack:
        hash_executor = threads.build(HASH_THREADS)
        stack.callback(hash_executor.close)
        shard_executor: Executor
        if cluster is None:
            shard_executor = threads.build(SHARD_THREADS)
            stack.callback(shard_executor.close)
        else:
            shard_executor = cluster.executor
        # Closed first, so that no thread keeps waiting for a decoder.
        if warm_parts is None:
            decode_executor = make_decode_executor(settings)
            stack.callback(decode_executor.close)
        else:
            decode_executor = stack.enter_context(warm_parts.decoders())
        item_loader = SourceItemLoader(layout, catalog, modalities)
        stack.callback(item_loader.close)
        make_decoder = DecoderFactory(modalities, encoder.batch_preprocessor, layout.thumbnails)
        make_worker = EncodeWorkerSpec.of(layout, encoder, fusion, sources, settings)
        if cluster is not None:
            make_worker = stack.enter_context(cluster.adapt(make_worker, layout))
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
            make_worker=make_worker,
            make_decoder=make_decoder,
            load_item=item_loader,
            decode_executor=decode_executor,
            shard_executor=shard_executor,
            hash_executor=hash_executor,
            readers=None if cluster is None else FileReaders(cluster.executor, make_decoder),
            make_sizer=partial(ShardSizer, cluster.workers if cluster else 0),
        )


_WORKER_SETTINGS = (
    "cache",
    "decode_memory_mb",
    "decode_timeout_s",
    "device",
    "max_pixels",
    "offline",
    "precision",
    "workers",
)


@dataclass(frozen=True)
class EncodeWorkerSpec:
    """Plain values from which any process with the same models makes an equal encode worker.

    It is pickled to get there. In a process that shares such a worker (`share_worker`), calling it
    returns that one, so that no model is loaded twice.

    Attributes:
        folder: Absolute path of the index, to which the worker writes segments.
        model: Name of the model.
        fingerprint: Fingerprint that the encoder must have.
        fusion: Fusion of the index.
        sources: Sources of the texts that are encoded.
        settings: The settings that encoding depends on; the others have their defaults.
        store: URL of the store to which a worker on another host writes segments; None: to the
            folder.
        version: Version of mmsearch that the worker must have.
        folder_mark: Name of a file in the folder that only hosts which share the folder see; empty
            for a worker on this host.
    """

    folder: str
    model: str
    fingerprint: str
    fusion: FusionSpec
    sources: tuple[TextSource, ...]
    settings: Settings
    store: str | None = None
    version: str = mmsearch.__version__
    folder_mark: str = ""

    @classmethod
    def of(
        cls,
        layout: IndexLayout,
        encoder: Encoder,
        fusion: Fusion,
        sources: tuple[TextSource, ...],
        settings: Settings,
    ) -> EncodeWorkerSpec:
        """Return the spec of workers for an index."""
        return cls(
            os.fspath(layout.folder.absolute()),
            encoder.spec.name,
            encoder.spec.fingerprint,
            fusion.spec,
            sources,
            Settings(**{name: getattr(settings, name) for name in _WORKER_SETTINGS}),
            read_places(layout).store,
        )

    def __call__(self) -> ShardEncoder:
        """Return the worker.

        Raises:
            StateError: This process has another version of mmsearch.
            StorageError: This process does not see the folder of the index.
            EncoderMismatchError: The model of this process has other weights.
            ModelUnavailableError: This process has no weights of the model.
        """
        return find_shared_worker(self) or self._make_worker()

    def time_limit_s(self, shard: Shard) -> float:
        """Return the seconds that a worker may take for a shard, beside another one.

        On average, an item may take a tenth of what the slowest one may take to be decoded.
        """
        num_items = max(len(shard.contents), shard.num_ids or 0)
        return self.settings.decode_timeout_s * (10 + num_items / 10)

    def _make_worker(self) -> ShardEncoder:
        if mmsearch.__version__ != self.version:
            raise StateError(
                f"This worker has mmsearch {mmsearch.__version__}, but its work comes from"
                f" mmsearch {self.version}.",
                "Install the same version for both.",
            )
        if self.store is None and not self._sees_folder():
            raise StorageError(
                f"The worker on {socket.gethostname()} does not see the folder of the index,"
                f" {self.folder}.",
                "Mount the folder at the same path on all hosts, or keep the files in a store.",
            )
        encoder = make_encoder(self.model, self.settings, lambda message: None, self.fingerprint)
        if encoder.spec.fingerprint != self.fingerprint:
            raise EncoderMismatchError(
                f"The model {self.model!r} of this worker has other weights than the index.",
                "Give the worker the same weights.",
                index=self.fingerprint,
                encoder=encoder.spec.fingerprint,
            )
        decode_executor = make_decode_executor(self.settings)
        layout = IndexLayout(Path(self.folder))
        worker = ShardEncoder(
            self._open_store(layout),
            encoder,
            TextEncoder(encoder, make_fusion(self.fusion), self.sources),
            decode_executor,
            DecoderFactory(
                make_modalities(self.settings),
                encoder.batch_preprocessor,
                layout.thumbnails if self._sees_folder() else None,
            ),
        )
        # Decode processes that outlive the worker would keep its process from ending.
        weakref.finalize(worker, decode_executor.close)
        return worker

    def _open_store(self, layout: IndexLayout) -> Store:
        local = LocalStore(layout.folder)
        if self.store is None:
            return local
        from mmsearch.storage.stored_files import CachedStore  # noqa: PLC0415 - few indexes
        from mmsearch.storage.stores.remote import RemoteStore  # noqa: PLC0415 - few indexes

        # The process that indexes has checked that the user knows the server.
        remote = RemoteStore(self.store)
        return CachedStore(local, remote) if self._sees_folder() else remote

    def _sees_folder(self) -> bool:
        return (Path(self.folder) / self.folder_mark).exists()


def make_index_builder(
    layout: IndexLayout,
    catalog: CatalogWriter,
    load_encoder: Callable[[], Encoder],
    device: str = "cpu",
) -> IndexBuilder:
    """Return the builder of vector indexes.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing; its captions are among the tuning queries of an
            approximate index.
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
        make_collection_builder(layout, catalog),
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
        options=request.options,
        recall=recall,
    )


def make_text_collector(request: IndexRequest, sources: tuple[TextSource, ...]) -> TextCollector:
    """Return the text collector of a request.

    Raises:
        SourceError: The caption table cannot be read.
    """
    captions: CaptionTable | None = None
    if request.captions is not None:
        # Few runs have a table.
        from mmsearch.modalities._texts import caption_matching  # noqa: PLC0415

        if request.forget_captions:
            path = os.fsencode(request.captions)
            captions = caption_matching.CaptionTable(path, request.folder)
        else:
            captions = _read_captions(request.captions, request.folder)
    kept = [partial(_read_captions, *table) for table in request.kept_captions]
    return TextCollector(sources, _texts.collect_texts, captions, kept)


def _read_captions(path: Path, folder: bytes) -> CaptionTable:
    from mmsearch.modalities._texts.caption_table import read_captions  # noqa: PLC0415

    return read_captions(path, folder)
