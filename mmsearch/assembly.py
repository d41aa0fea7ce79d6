"""The composition root: settings and names -> working parts. Only this module knows them all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.core import plugins
from mmsearch.core.catalog import Catalog, Reader
from mmsearch.core.errors import (
    EncoderMismatchError,
    MMSearchError,
    StateError,
    UnknownIndexError,
    UsageError,
)
from mmsearch.core.layout import IndexLayout
from mmsearch.core.locking import writer_lock
from mmsearch.core.protocols import (
    Blend,
    Encoder,
    EncoderPlugin,
    Executor,
    Fusion,
    FusionPlugin,
    Modality,
    VectorIndexPlugin,
    Walk,
)
from mmsearch.core.records import Identity
from mmsearch.core.requests import IndexRequest
from mmsearch.core.settings import Settings
from mmsearch.core.types import (
    EncoderOptions,
    FusionSpec,
    ModelInfo,
    TextSource,
)
from mmsearch.engine.binding import check_encoder
from mmsearch.engine.build_index import AUTO
from mmsearch.engine.encode_query import QueryEncoder
from mmsearch.engine.kept_vectors import KeptVectors
from mmsearch.engine.pictures import PictureReader
from mmsearch.engine.searcher import SearchEngine
from mmsearch.engine.stored_pictures import StoredPictures
from mmsearch.engine.view import ViewLoader

if TYPE_CHECKING:
    from mmsearch.engine.build_index import IndexBuilder
    from mmsearch.engine.file_texts import FileTexts
    from mmsearch.engine.indexer import Indexer

Say = Callable[[str], None]

TAIL_INDEX = "exact"
"""Searches the segments that a built index does not hold yet."""

SHARD_THREADS = 2
"""While one shard is encoded the next is decoded."""

HASH_THREADS = 4

PRECISIONS = ("auto", "float32")


# --- plugins by name ---


def encoder_plugin(name: str) -> EncoderPlugin:
    """The module of encoders/ of that name."""
    plugin: EncoderPlugin = plugins.load("encoders", name)
    return plugin


def vector_index_plugin(name: str) -> VectorIndexPlugin:
    """The module of vector_indexes/ of that name."""
    plugin: VectorIndexPlugin = plugins.load("vector_indexes", name)
    return plugin


def refuse_unknown_vector_index(name: str) -> None:
    """Before any work is done for it.

    Raises:
        UnknownNameError: Neither a module of vector_indexes/ nor ``auto``.
    """
    if name != AUTO:
        vector_index_plugin(name)


def make_fusion(spec: FusionSpec) -> Fusion:
    """The fusion of that name and with those weights.

    Raises:
        UsageError: A weight out of range.
    """
    plugin: FusionPlugin = plugins.load("fusions", spec.name)
    return plugin.build(spec)


def make_blend(name: str) -> Blend:
    """The ranking of that name."""
    blend: Blend = plugins.load("rankings", name).build()
    return blend


def text_sources(texts: str) -> tuple[TextSource, ...]:
    """The sources of a setting such as ``sidecar,metadata``, in one order; none for ``none``.

    Raises:
        UsageError: There is no such source.
    """
    names = {name.strip().lower() for name in texts.split(",")} - {""}
    known = [source.value for source in TextSource]
    unknown = names - {*known, "none"}
    if unknown or ("none" in names and len(names) > 1) or not names:
        raise UsageError(
            f"{texts!r} does not say where texts come from.",
            f"Name some of {', '.join(known)}, or none.",
        )
    return tuple(source for source in TextSource if source.value in names)


def make_modalities(settings: Settings) -> tuple[Modality, ...]:
    """Every modality."""
    return tuple(
        plugins.load("modalities", name).build(max_pixels=settings.max_pixels)
        for name in plugins.names("modalities")
    )


# --- encoders ---


def encoder_options(variant: str, settings: Settings, say: Say) -> EncoderOptions:
    """What an encoder plugin needs to know."""
    offline = settings.offline or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    if settings.precision not in PRECISIONS:
        raise UsageError(
            f"{settings.precision!r} is no precision.", f"Choose one of {', '.join(PRECISIONS)}."
        )
    return EncoderOptions(
        variant, settings.device, settings.cache, offline, say, settings.precision
    )


def split_model(model: str) -> tuple[str, str]:
    """``plugin:variant`` in two; a name that is no plugin's is a variant of open_clip."""
    plugin, _, variant = model.partition(":")
    if plugins.exists("encoders", plugin):
        return plugin, variant
    return "open_clip", model


def make_encoder(model: str, settings: Settings, say: Say) -> Encoder:
    """The encoder of that name.

    Raises:
        UnknownNameError: There is no such model.
        ModelUnavailableError: Its weights cannot be had.
    """
    plugin, variant = split_model(model)
    return encoder_plugin(plugin).build(encoder_options(variant, settings, say))


def choose_model(settings: Settings, say: Say) -> str:
    """The model of a new index: the one that is set, or the best that can be had now."""
    if settings.model != "auto":
        return settings.model
    from mmsearch.encoders import open_clip  # noqa: PLC0415 - only a new index asks for it

    if open_clip.available(encoder_options("", settings, say)):
        return f"open_clip:{open_clip.RECOMMENDED}"
    say(
        f"Using the built-in model 'starter': the recommended open_clip:{open_clip.RECOMMENDED} is "
        "not on this machine and the model hub does not answer. It finds more; see "
        "'mmsearch models list'."
    )
    return "starter"


def models(settings: Settings, say: Say) -> list[ModelInfo]:
    """Every model that the encoders offer."""
    found = []
    for name in sorted(plugins.names("encoders"), key=lambda name: name != "starter"):
        found += encoder_plugin(name).models(encoder_options("", settings, say))
    return found


# --- indexes ---


@contextmanager
def reading(layout: IndexLayout) -> Iterator[Catalog]:
    """The catalog of an index, for whoever changes nothing.

    Raises:
        UnknownIndexError: There is no such index.
    """
    from mmsearch.catalog.sqlite import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

    _refuse_unknown(layout)
    catalog = open_catalog(layout.catalog, read_only=True)
    try:
        yield catalog
    finally:
        catalog.close()


def open_reader(layout: IndexLayout) -> Reader:
    """The catalog of an index, for queries.

    Raises:
        UnknownIndexError: There is no such index.
    """
    from mmsearch.catalog import reader  # noqa: PLC0415 - only queries need it

    _refuse_unknown(layout)
    return reader.open_reader(layout.catalog)


def _refuse_unknown(layout: IndexLayout) -> None:
    if not layout.exists():
        raise UnknownIndexError(
            f"There is no index named {layout.name!r} in {layout.folder.parent}.",
            _other_indexes(layout),
        )


@contextmanager
def writing(layout: IndexLayout, wait_s: float, *, create: bool) -> Iterator[Catalog]:
    """The catalog of an index, under the writer's lock.

    Raises:
        IndexLockedError: Another writer is at work.
        UnknownIndexError: There is no such index and it shall not be made.
    """
    if not create:
        with reading(layout):
            pass
    layout.create()
    with writer_lock(layout, wait_s), opened(layout, create=True) as catalog:
        yield catalog


@contextmanager
def opened(layout: IndexLayout, *, create: bool = False) -> Iterator[Catalog]:
    """The catalog of an index, for whoever holds the writer's lock or is alone with a copy.

    Raises:
        StateError: There are vectors, and no catalog.
    """
    from mmsearch.catalog.sqlite import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

    if create and not layout.exists() and layout.files():
        raise StateError(
            f"The catalog of index {layout.name!r} is missing, but its vectors are there.",
            "Run 'mmsearch repair': it makes the catalog again without encoding.",
        )
    catalog = open_catalog(layout.catalog, create=create)
    try:
        yield catalog
    finally:
        catalog.close()


@contextmanager
def private_copy(layout: IndexLayout) -> Iterator[Catalog]:
    """A copy of one state of a catalog, which nobody else changes.

    Raises:
        DamagedFileError: The catalog cannot be read.
        UnknownIndexError: There is no such index.
    """
    import tempfile  # noqa: PLC0415 - only checks and repairs need it

    from mmsearch.catalog.sqlite import open_catalog  # noqa: PLC0415 - costs SQLAlchemy

    with tempfile.TemporaryDirectory(prefix="mmsearch-") as folder:
        path = Path(folder) / "copy.sqlite"
        with reading(layout) as catalog:
            catalog.copy_to(path)
        copy = open_catalog(path, sealed=False)
        try:
            yield copy
        finally:
            copy.close()


def is_sealed(layout: IndexLayout) -> bool:
    """Whether a catalog is what its last writer left; False if that one works or was killed.

    Raises:
        DamagedFileError: It is not.
    """
    from mmsearch.catalog.seal import check_seal  # noqa: PLC0415

    return check_seal(layout.catalog)


def has_lost_commits(layout: IndexLayout) -> bool:
    """Whether a killed writer left commits that cannot be read.

    After a power cut that may be the one commit that was not acknowledged. No writer may be at
    work.
    """
    from mmsearch.catalog.wal import commits_passed_over  # noqa: PLC0415

    return commits_passed_over(layout.catalog) > 0


def salvage(layout: IndexLayout) -> tuple[Identity | None, tuple[bytes, ...]]:
    """What can still be read of a damaged catalog: what it is bound to, and its folders."""
    from mmsearch.catalog.seal import read_seal  # noqa: PLC0415

    identity: Identity | None = None
    roots: tuple[bytes, ...] = ()
    with suppress(MMSearchError):
        seal = read_seal(layout.catalog)
        roots = seal.roots if seal else ()
    # What damage makes of a catalog's values may break anything that reads them.
    with suppress(Exception), reading(layout) as catalog:
        identity = catalog.identity()
        roots = tuple({*roots, *(root.path for root in catalog.roots())})
    return identity, roots


def drop_seal(layout: IndexLayout) -> None:
    """Let the next writer make a new seal."""
    from mmsearch.catalog.seal import seal_path  # noqa: PLC0415

    seal_path(layout.catalog).unlink(missing_ok=True)


def _other_indexes(layout: IndexLayout) -> str:
    home = layout.folder.parent
    others = (
        sorted(p.parent.name for p in home.glob("[!.]*/catalog.sqlite")) if home.is_dir() else []
    )
    if others:
        return f"There are: {', '.join(others)}. Choose one with --index NAME."
    return "Index a folder first: mmsearch index ./photos"


def encoder_of(identity: Identity, settings: Settings, say: Say) -> Encoder:
    """The encoder that an index is bound to.

    Raises:
        EncoderMismatchError: Settings ask for another one, or its weights have changed.
    """
    name = identity.encoder.name
    if settings.model not in ("auto", name) and split_model(settings.model) != split_model(name):
        raise EncoderMismatchError(
            f"This index was built with {name!r}, not with {settings.model!r}.",
            "Leave --model away, or choose another index with --index NAME.",
        )
    encoder = make_encoder(name, settings, say)
    check_encoder(identity, encoder)
    return encoder


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
    # Queries need none of this.
    from mmsearch.engine.decode import MakeDecoder  # noqa: PLC0415
    from mmsearch.engine.indexer import Indexer  # noqa: PLC0415
    from mmsearch.executors import local, processes  # noqa: PLC0415

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
    from mmsearch.core.hardware import gpu_memory_bytes  # noqa: PLC0415 - queries build nothing
    from mmsearch.engine.asked_texts import asked_texts, encode_asked  # noqa: PLC0415
    from mmsearch.engine.build_index import EXACT, IndexBuilder  # noqa: PLC0415

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
    from mmsearch.modalities._walk import walk  # noqa: PLC0415 - queries walk nowhere

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
    # Queries look at no files.
    from mmsearch.engine.file_texts import FileTexts  # noqa: PLC0415
    from mmsearch.modalities import _texts  # noqa: PLC0415
    from mmsearch.modalities._texts.table import read_captions  # noqa: PLC0415

    captions = None
    if request.captions is not None:
        captions = read_captions(request.captions, request.folder)
    return FileTexts(sources, _texts.gather, captions)


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
