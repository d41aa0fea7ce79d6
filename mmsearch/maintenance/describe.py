"""Texts that enrichers make about an index: tags, and what is written on pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.derived import EnricherInput, EnricherOptions
from mmsearch.core.enrichers import EnricherPlugin, PixelEnricherPlugin, VectorEnricher
from mmsearch.core.errors import UsageError
from mmsearch.core.identity import Identity, require_identity
from mmsearch.core.reports import DescribeReport
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.core.types import TextSource
from mmsearch.factories import catalogs
from mmsearch.factories.enrichers import build_pixel_enricher, load_enricher, with_index_encoder
from mmsearch.factories.plugins import make_modalities
from mmsearch.factories.sources import SourceItemLoader
from mmsearch.factories.warm_parts import make_decode_executor
from mmsearch.indexing.enrich import (
    PIXEL_PAGE_SIZE,
    VECTOR_PAGE_SIZE,
    EnrichJob,
    EnrichStats,
    MakeTexts,
    PixelReaderFactory,
    count_finished,
    describe_vectors,
    enrich,
    read_pixels,
)
from mmsearch.storage.layout import IndexLayout


def describe(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    enrichers: Sequence[str],
    *,
    vocabulary: Path | None,
    retry_failed: bool,
    wait_s: float,
    progress: Callable[[Progress], None],
) -> list[DescribeReport]:
    """Make texts about an index. See `mmsearch.api.index.Index.describe`."""
    if not enrichers:
        raise UsageError("No enricher was named.", "Name one, such as 'tags'.")
    if vocabulary is not None and TextSource.TAGS not in enrichers:
        raise UsageError("The vocabulary is for tags, but no tags are made.", "Leave it out.")
    loaded = {name: load_enricher(name) for name in dict.fromkeys(enrichers)}
    options = EnricherOptions(vocabulary=vocabulary, cache=settings.cache)
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        identity = require_identity(catalog)
        # Errors of all enrichers come before the work of the first one.
        makers = {
            name: plugin.fingerprint(options, identity.encoder) for name, plugin in loaded.items()
        }
        layout.remove_orphans(catalog.referenced_files())
        work = _Describing(layout, catalog, settings, on_message, options, identity)
        reports = []
        for name, plugin in loaded.items():
            page_size = (
                VECTOR_PAGE_SIZE if plugin.READS is EnricherInput.VECTORS else PIXEL_PAGE_SIZE
            )
            job = EnrichJob(name, makers[name], plugin.KINDS, page_size, retry_failed)
            reports.append(work.run(plugin, job, progress))
        return reports


@dataclass(frozen=True)
class _Describing:
    """The parts that all enrichers of a call use."""

    layout: IndexLayout
    catalog: CatalogWriter
    settings: Settings
    on_message: Callable[[str], None]
    options: EnricherOptions
    identity: Identity

    def run(
        self, plugin: EnricherPlugin, job: EnrichJob, progress: Callable[[Progress], None]
    ) -> DescribeReport:
        """Run one enricher on the contents that it has not finished."""
        stats = EnrichStats()
        if self.catalog.derived.list_pending(
            job.enricher, job.made_by, job.kinds, 0, 1, retry_failed=job.retry_failed
        ):
            with ExitStack() as stack:
                make_texts = self._make_texts(plugin, job, stack)
                stats = enrich(self.layout, self.catalog, job, make_texts, progress)
        finished = count_finished(self.catalog, job, with_failed=True)
        return DescribeReport(
            job.enricher,
            job.made_by,
            stats.done,
            stats.texts,
            tuple(stats.failed),
            self.catalog.derived.count_contents(job.kinds) - finished,
            stats.seconds,
        )

    def _make_texts(self, plugin: EnricherPlugin, job: EnrichJob, stack: ExitStack) -> MakeTexts:
        if plugin.READS is EnricherInput.VECTORS:
            options = with_index_encoder(
                self.options, self.catalog, self.identity, self.settings, self.on_message
            )
            enricher = cast("VectorEnricher", plugin.build(options))
            return describe_vectors(self.layout, self.catalog, enricher)
        reader = cast("PixelEnricherPlugin", plugin)
        modalities = make_modalities(self.settings)
        executor = make_decode_executor(self.settings, reader.MEMORY_MB)
        stack.callback(executor.close)
        load_item = SourceItemLoader(self.layout, self.catalog, modalities)
        stack.callback(load_item.close)
        build = partial(build_pixel_enricher, job.enricher, self.options)
        factory = PixelReaderFactory(modalities, build)
        return read_pixels(executor, factory, load_item, reader.wants)
