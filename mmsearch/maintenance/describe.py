"""Texts that enrichers make about an index: on request, and those that sources want."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.derived import (
    EVERYTHING,
    ContentScope,
    EnricherInput,
    EnricherOptions,
    FolderScope,
)
from mmsearch.core.describe_choices import WantedTexts, list_wanted
from mmsearch.core.enrichers import (
    EnricherPlugin,
    PixelEnricherPlugin,
    SoundEnricherPlugin,
    VectorEnricher,
)
from mmsearch.core.errors import MMSearchError, UsageError
from mmsearch.core.identity import Identity, require_identity
from mmsearch.core.records import SourceRecord
from mmsearch.core.reports import DescribeReport
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.core.source_lookup import find_named_source
from mmsearch.core.threads import available_cpus
from mmsearch.core.types import EncoderSpec, TextSource
from mmsearch.executors import processes
from mmsearch.factories import catalogs
from mmsearch.factories.enrichers import (
    build_pixel_enricher,
    build_sound_enricher,
    load_enricher,
    make_enricher_options,
    open_sound,
    with_index_encoder,
)
from mmsearch.factories.plugins import make_modalities
from mmsearch.factories.sources import SourceItemLoader
from mmsearch.factories.speech import MAX_THREADS
from mmsearch.factories.warm_parts import count_workers, make_decode_executor
from mmsearch.indexing.compaction import remove_derived
from mmsearch.indexing.enrich import (
    PIXEL_PAGE_SIZE,
    VECTOR_PAGE_SIZE,
    EnrichJob,
    EnrichStats,
    MakeTexts,
    PixelReaderFactory,
    describe_vectors,
    enrich,
    read_pixels,
)
from mmsearch.indexing.orphans import remove_unused_files
from mmsearch.indexing.sound_tracks import SOUND_PAGE_SIZE, SoundReaderFactory, read_sounds
from mmsearch.storage.layout import IndexLayout

DEFAULT_ENRICHER = TextSource.TAGS

_ANY_ENCODER = EncoderSpec("", 0, "", {}, 0, 0)
"""An encoder for checks of options: whether they are valid does not depend on it."""


def describe(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    enrichers: Sequence[str] | None,
    *,
    sources: Sequence[str],
    vocabulary: Path | None,
    language: str | None,
    caption_model: Path | None,
    retry_failed: bool,
    wait_s: float,
    progress: Callable[[Progress], None],
) -> list[DescribeReport]:
    """Make texts about an index. See `mmsearch.api.index.Index.describe`."""
    if enrichers is not None and not enrichers:
        raise UsageError("No enricher was named.", "Name one, such as 'tags'.")
    if vocabulary is not None and TextSource.TAGS not in (enrichers or (TextSource.TAGS,)):
        raise UsageError("The vocabulary is for tags, but no tags are made.", "Leave it out.")
    if language is not None and TextSource.SPEECH not in (enrichers or ()):
        raise UsageError("The language is for speech, but none is transcribed.", "Leave it out.")
    if caption_model is not None and TextSource.CAPTIONS not in (enrichers or ()):
        raise UsageError(
            "A captioning model was named, but no captions are made.",
            "Leave it out, or add the enricher 'captions'.",
        )
    for name in enrichers or ():
        load_enricher(name)
    given = {
        TextSource.CAPTIONS: {} if caption_model is None else {"model_folder": str(caption_model)},
        TextSource.TAGS: {} if vocabulary is None else {"vocabulary": str(vocabulary)},
        TextSource.SPEECH: {} if language is None else {"language": language},
    }
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        require_identity(catalog)
        known = catalog.sources()
        folders = [FolderScope(find_named_source(known, name).id) for name in sources]
        wanted = list_wanted(known) if enrichers is None and vocabulary is None else []
        if not wanted:
            wanted = [
                WantedTexts(name, given.get(TextSource(name), {}), EVERYTHING)
                for name in dict.fromkeys(enrichers or (DEFAULT_ENRICHER,))
            ]
        work = Describing(layout, catalog, settings, on_message)
        # Errors of all enrichers come before the work of the first one.
        jobs = [
            work.prepare(one, one.within(*folders) if folders else one.scope, retry_failed)
            for one in wanted
        ]
        remove_unused_files(layout, catalog)
        return [work.run(job, progress) for job in jobs]


def describe_wanted(
    layout: IndexLayout,
    catalog: CatalogWriter,
    settings: Settings,
    on_message: Callable[[str], None],
    folders: Sequence[FolderScope],
    progress: Callable[[Progress], None],
    *,
    retry_failed: bool,
) -> tuple[DescribeReport, ...]:
    """Make the texts that sources want of the contents of folders; an error is in its report."""
    reports = []
    work = Describing(layout, catalog, settings, on_message)
    for wanted in list_wanted(catalog.sources()):
        scope = wanted.within(*folders)
        try:
            reports.append(work.run(work.prepare(wanted, scope, retry_failed), progress))
        except MMSearchError as error:
            kinds = load_enricher(wanted.enricher).KINDS
            left = catalog.derived.count(wanted.enricher, None, kinds, scope).left
            if left:
                report = DescribeReport(wanted.enricher, "", 0, 0, (), left, 0.0)
                reports.append(replace(report, error=str(error.message)))
    return tuple(reports)


def remove_model_texts(
    layout: IndexLayout,
    enrichers: Sequence[str],
    on_message: Callable[[str], None],
    wait_s: float,
) -> int:
    """Remove the texts of enrichers. See `mmsearch.api.index.Index.remove_model_texts`."""
    if not enrichers:
        raise UsageError("No enricher was named.", "Name one, such as 'tags'.")
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        made = {summary.enricher for summary in catalog.derived.summarize()}
        for name in enrichers:
            if name not in made:
                load_enricher(name)
        count = sum(remove_derived(layout, catalog, name) for name in dict.fromkeys(enrichers))
        for source in catalog.sources():
            names = {one.enricher for one in list_wanted([source])}.intersection(enrichers)
            if names:
                on_message(
                    f"The source {source.name!r} wants {' and '.join(sorted(names))}, so the next"
                    " run makes them again."
                )
    return count


def warn_unavailable(
    source: SourceRecord, settings: Settings, on_message: Callable[[str], None]
) -> None:
    """Send a message about each enricher of a source that cannot work now."""
    for wanted in list_wanted([source]):
        try:
            check_describe_choice({wanted.enricher: wanted.options}, settings)
        except MMSearchError as error:
            on_message(f"{wanted.enricher}: {error} Pictures are indexed without it.")


def check_describe_choice(choice: Mapping[str, Mapping[str, str]], settings: Settings) -> None:
    """Check that the enrichers of a choice exist and can work with their options.

    Raises:
        UnknownNameError: There is no such enricher.
        MissingExtraError: The extra of an enricher is not installed.
        ModelUnavailableError: A model is not available.
        SourceError: The vocabulary cannot be read.
        UsageError: The vocabulary has no tag, or too many.
    """
    for name, options in choice.items():
        plugin = load_enricher(name)
        plugin.fingerprint(make_enricher_options(settings, name, options), _ANY_ENCODER)


def _page_size(reads: EnricherInput) -> int:
    match reads:
        case EnricherInput.VECTORS:
            return VECTOR_PAGE_SIZE
        case EnricherInput.PIXELS:
            return PIXEL_PAGE_SIZE
        case EnricherInput.SOUND:
            return SOUND_PAGE_SIZE


@dataclass(frozen=True)
class PreparedJob:
    """Work of an enricher whose options are valid."""

    plugin: EnricherPlugin
    options: EnricherOptions
    job: EnrichJob


@dataclass(frozen=True)
class Describing:
    """The parts that all enrichers of a call use.

    Attributes:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        settings: Settings of this process.
        on_message: Called with a message before slow one-time work.
    """

    layout: IndexLayout
    catalog: CatalogWriter
    settings: Settings
    on_message: Callable[[str], None]

    def prepare(self, wanted: WantedTexts, scope: ContentScope, retry_failed: bool) -> PreparedJob:
        """Return the work of an enricher in a scope.

        Raises:
            MMSearchError: It cannot work; see `check_describe_choice`.
        """
        plugin = load_enricher(wanted.enricher)
        options = make_enricher_options(self.settings, wanted.enricher, wanted.options)
        made_by = plugin.fingerprint(options, self._identity.encoder)
        job = EnrichJob(
            wanted.enricher,
            made_by,
            plugin.KINDS,
            _page_size(plugin.READS),
            retry_failed,
            scope,
            text_first=getattr(plugin, "TEXT_FIRST", False),
        )
        return PreparedJob(plugin, options, job)

    def run(self, prepared: PreparedJob, progress: Callable[[Progress], None]) -> DescribeReport:
        """Run one enricher on the contents that it has not finished."""
        job = prepared.job
        stats = EnrichStats()
        derived = self.catalog.derived
        if derived.list_pending(
            job.enricher,
            job.made_by,
            job.kinds,
            0,
            1,
            retry_failed=job.retry_failed,
            scope=job.scope,
        ):
            with ExitStack() as stack:
                make_texts = self._make_texts(prepared, stack)
                stats = enrich(self.layout, self.catalog, job, make_texts, progress)
        left = derived.count(job.enricher, job.made_by, job.kinds, job.scope).left
        return DescribeReport(
            job.enricher,
            job.made_by,
            stats.done,
            stats.texts,
            tuple(stats.failed),
            left,
            stats.seconds,
            notes=tuple(stats.notes),
        )

    @property
    def _identity(self) -> Identity:
        return require_identity(self.catalog)

    def _make_texts(self, prepared: PreparedJob, stack: ExitStack) -> MakeTexts:
        if prepared.plugin.READS is EnricherInput.VECTORS:
            options = with_index_encoder(
                prepared.options, self.catalog, self._identity, self.settings, self.on_message
            )
            enricher = cast("VectorEnricher", prepared.plugin.build(options))
            return describe_vectors(self.layout, self.catalog, enricher)
        if prepared.plugin.READS is EnricherInput.SOUND:
            return self._read_sounds(prepared, stack)
        reader = cast("PixelEnricherPlugin", prepared.plugin)
        modalities = make_modalities(self.settings)
        executor = make_decode_executor(
            self.settings,
            reader.memory_mb(prepared.options),
            on_gpu=reader.uses_gpu(prepared.options.device),
        )
        stack.callback(executor.close)
        load_item = SourceItemLoader(self.layout, self.catalog, modalities)
        stack.callback(load_item.close)
        build = partial(build_pixel_enricher, prepared.job.enricher, prepared.options)
        factory = PixelReaderFactory(modalities, build)
        return read_pixels(executor, factory, load_item, reader.wants)

    def _read_sounds(self, prepared: PreparedJob, stack: ExitStack) -> MakeTexts:
        plugin, job = cast("SoundEnricherPlugin", prepared.plugin), prepared.job
        cpus = available_cpus()
        contents = self.catalog.derived.list_pending(
            job.enricher,
            job.made_by,
            job.kinds,
            0,
            cpus,
            retry_failed=job.retry_failed,
            scope=job.scope,
        )
        # Processors that have no content of their own help with the others.
        workers = min(count_workers(self.settings, plugin.MEMORY_MB) or cpus, len(contents))
        options = replace(prepared.options, threads=max(1, min(cpus // workers, MAX_THREADS)))
        executor = processes.build(
            workers,
            max(self.settings.decode_timeout_s, plugin.WINDOW_TIMEOUT_S),
            self.settings.decode_memory_mb,
        )
        stack.callback(executor.close)
        load_item = SourceItemLoader(self.layout, self.catalog, make_modalities(self.settings))
        stack.callback(load_item.close)
        build = partial(build_sound_enricher, job.enricher, options)
        factory = SoundReaderFactory(build, open_sound)
        return read_sounds(executor, factory, load_item, job.made_by, options.language)
