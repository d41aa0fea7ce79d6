"""Status of the work of enrichers in an index: what is done, what is left, and its estimate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

from mmsearch.core.catalog import CatalogReader
from mmsearch.core.derived import EVERYTHING, ContentScope, DerivedSummary
from mmsearch.core.describe_choices import WantedTexts, list_wanted
from mmsearch.core.errors import MMSearchError
from mmsearch.core.identity import Identity
from mmsearch.core.settings import Settings
from mmsearch.factories.enrichers import load_enricher, make_enricher_options

FIRST_GUESS_S: Final = {"tags": 0.001, "ocr": 0.11, "speech": 25.0, "captions": 2.0}
"""Seconds of processor time for one content of an enricher that has not read any in this index: a
photograph, or five minutes of sound."""

_DEFAULT_GUESS_S: Final = 1.0


def summarize_derived(
    catalog: CatalogReader, settings: Settings, identity: Identity | None
) -> tuple[DerivedSummary, ...]:
    """Return the work of each enricher that a source wants or that has made texts, by name."""
    rows = catalog.derived.summarize()
    wanted = list_wanted(catalog.sources()) if identity is not None else []
    if identity is None or not (rows or wanted):
        return ()
    summaries = [_summarize_wanted(catalog, settings, identity, one, rows) for one in wanted]
    known = {(summary.enricher, summary.made_by) for summary in summaries}
    enrichers = {one.enricher for one in wanted}
    others = (row for row in rows if (row.enricher, row.made_by) not in known)
    summaries += _summarize_others(catalog, others, enrichers)
    return tuple(sorted(summaries, key=lambda one: (one.enricher, not one.is_wanted, one.made_by)))


def _summarize_wanted(
    catalog: CatalogReader,
    settings: Settings,
    identity: Identity,
    wanted: WantedTexts,
    rows: Sequence[DerivedSummary],
) -> DerivedSummary:
    summary = DerivedSummary(wanted.enricher, "", 0, 0, 0.0, is_wanted=True)
    made_by = None
    try:
        plugin = load_enricher(wanted.enricher)
        options = make_enricher_options(settings, wanted.enricher, wanted.options)
        made_by = plugin.fingerprint(options, identity.encoder)
    except MMSearchError as error:
        summary = replace(summary, error=str(error.message))
    else:
        summary = replace(summary, made_by=made_by)
        known = next((row for row in rows if _key(row) == _key(summary)), summary)
        summary = replace(known, is_wanted=True)
    return _add_left(catalog, summary, made_by, wanted.scope, rows)


def _summarize_others(
    catalog: CatalogReader, rows: Iterable[DerivedSummary], wanted: set[str]
) -> Iterator[DerivedSummary]:
    """Yield the work of enrichers that no source wants, and what wanted ones did before."""
    for enricher, group in groupby(rows, key=lambda row: row.enricher):
        *earlier, last = group
        yield from earlier
        # Which fingerprint is the latest is not known, so what is left has none at all.
        yield (
            last
            if enricher in wanted
            else _add_left(catalog, last, None, EVERYTHING, [*earlier, last])
        )


def _add_left(
    catalog: CatalogReader,
    summary: DerivedSummary,
    made_by: str | None,
    scope: ContentScope,
    rows: Sequence[DerivedSummary],
) -> DerivedSummary:
    """Return a summary with what is left in a scope."""
    try:
        kinds = load_enricher(summary.enricher).KINDS
    except MMSearchError as error:
        return replace(summary, error=str(error.message))
    left = catalog.derived.count(summary.enricher, made_by, kinds, scope).left
    return replace(summary, left=left, left_s=left * _seconds_each(summary, rows))


def _key(summary: DerivedSummary) -> tuple[str, str]:
    return summary.enricher, summary.made_by


def _seconds_each(summary: DerivedSummary, rows: Sequence[DerivedSummary]) -> float:
    """Return the seconds for one content: as measured with a fingerprint, with any, or a guess."""
    own = [row for row in rows if row.enricher == summary.enricher]
    for measured in ([row for row in own if row.made_by == summary.made_by], own):
        contents = sum(row.done + row.failed for row in measured)
        seconds = sum(row.seconds for row in measured)
        if contents and seconds:
            return seconds / contents
    return FIRST_GUESS_S.get(summary.enricher, _DEFAULT_GUESS_S)
