"""Compact an index, and change its fusion, vector index or encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from mmsearch.core.errors import UsageError
from mmsearch.core.identity import Identity, require_identity
from mmsearch.core.reports import CompactReport, ReindexReport
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec, SearchGoals
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder, make_indexer
from mmsearch.factories.plugins import load_index_encoder, make_fusion
from mmsearch.indexing import compaction
from mmsearch.indexing.build import AUTO, check_vector_index_name
from mmsearch.maintenance.calibrate import calibrate_catalog
from mmsearch.maintenance.suggestions import update_suggestions
from mmsearch.storage.layout import IndexLayout


def compact(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    wait_s: float,
    progress: Callable[[Progress], None],
) -> CompactReport:
    """Compact an index. See `mmsearch.api.index.Index.compact`."""
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        identity = require_identity(catalog)
        builder = make_index_builder(
            layout,
            catalog,
            lambda: load_index_encoder(identity, settings, on_message),
            settings.device,
        )
        return compaction.compact(layout, catalog, make_fusion(identity.fusion), builder, progress)


def reindex(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    *,
    fusion: str | None,
    text_weight: float | None,
    kind_weights: Mapping[str, float] | None,
    vector_index: str | None,
    reencode: bool,
    model: str | None,
    drop_unreadable: bool,
    wait_s: float,
    progress: Callable[[Progress], None],
) -> ReindexReport:
    """Change an index. See `mmsearch.api.index.Index.reindex`."""
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        identity = require_identity(catalog)
        spec = FusionSpec(
            identity.fusion.name if fusion is None else fusion,
            identity.fusion.text_weight if text_weight is None else text_weight,
            identity.fusion.kind_weights if kind_weights is None else dict(kind_weights),
        )
        name = vector_index or identity.vector_index
        if model is not None:
            _reject_combined_change(identity, spec, name)
        with make_indexer(layout, catalog, settings, on_message, model=model) as indexer:
            if model is not None:
                reason = indexer.explain_decoding()
                if reason is not None:
                    on_message(reason)
                report = indexer.change_encoder(drop_unreadable=drop_unreadable, progress=progress)
                update_suggestions(layout, catalog, indexer.encoder, settings)
            else:
                check_vector_index_name(name)
                report = indexer.reindex(
                    make_fusion(spec),
                    name,
                    identity.goals,
                    allow_reencode=reencode,
                    progress=progress,
                )
    if report.thumbnails_notice is not None:
        on_message(report.thumbnails_notice)
    return report


def optimize(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    goals: SearchGoals,
    wait_s: float,
    progress: Callable[[Progress], None],
) -> ReindexReport:
    """Rebuild the vector index for a target. See `mmsearch.api.index.Index.optimize`."""
    _check_goals(goals)
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        require_identity(catalog)  # Fail before an encoder is chosen.
        with make_indexer(layout, catalog, settings, on_message) as indexer:
            report = indexer.reindex(indexer.fusion, AUTO, goals, progress=progress)
            with catalog.snapshot() as snapshot:
                is_own = snapshot.calibration is not None
            if is_own or not indexer.encoder.calibration.measured:
                calibration = calibrate_catalog(layout, catalog, indexer.encoder, progress)
                report = replace(report, calibration=calibration)
            update_suggestions(layout, catalog, indexer.encoder, settings, force=True)
            return report


def _reject_combined_change(identity: Identity, fusion: FusionSpec, vector_index: str) -> None:
    if (fusion, vector_index) != (identity.fusion, identity.vector_index):
        raise UsageError(
            "The encoder cannot be changed together with the fusion or the vector index.",
            "Change the encoder first, and the rest in a second step.",
        )


def _check_goals(goals: SearchGoals) -> None:
    if not 0 < goals.recall <= 1:
        raise UsageError(
            f"The recall must be above 0 and at most 1, got {goals.recall:g}.",
            "Use a value such as 0.95.",
        )
    for name, value in (("memory", goals.memory_mb), ("latency", goals.latency_ms)):
        if value is not None and not value > 0:
            raise UsageError(f"The {name} must be above 0, got {value:g}.", "Use a larger value.")
