"""Sources of an index: add or refresh one that is not a folder of files, list and remove them."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from mmsearch.core.catalog import CatalogReader
from mmsearch.core.errors import Hint, UnknownNameError, UsageError
from mmsearch.core.folder_choices import check_reset
from mmsearch.core.records import RECORDS_KIND, SourceRecord
from mmsearch.core.reports import IndexReport
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_indexer
from mmsearch.factories.plugins import make_modalities
from mmsearch.factories.sources import (
    choices_to_json,
    guess_kind,
    list_choices,
    open_source,
)
from mmsearch.storage.layout import IndexLayout

_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]+://")


def add_source(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    uri: bytes,
    *,
    kind: str | None,
    name: str | None,
    choices: Mapping[str, Any],
    retry_failed: bool,
    wait_s: float,
    progress: Callable[[Progress], None],
    reset: Sequence[str] = (),
) -> IndexReport:
    """Index a source. See `mmsearch.api.index.Index.add_source`."""
    place = normalize_uri(uri)
    _reject_password(place)
    known = _find_by_uri(layout, place)
    kind = kind or (guess_kind(place) if known is None else known.kind)
    check_reset(reset, list(list_choices(kind)))
    if known is not None and known.kind == kind:
        choices = {**known.choices, **choices}
    choices = {name: value for name, value in choices.items() if name not in reset}
    # A source that cannot be used must not make an index.
    source = open_source(place, make_modalities(settings), kind, **choices)
    try:
        with (
            catalogs.open_write(layout, wait_s, create=True) as catalog,
            make_indexer(layout, catalog, settings, on_message) as indexer,
        ):
            record = catalog.ensure_source(kind, place, choices_to_json(kind, choices), name)
            return indexer.run_source(source, record, retry_failed=retry_failed, progress=progress)
    finally:
        source.close()


def choose_sources(known: Sequence[SourceRecord], names: Sequence[str]) -> list[SourceRecord]:
    """Return the sources with some names; without names, all that a run can refresh.

    Raises:
        UnknownNameError: There is no source with one of the names.
        UsageError: There is no source, or a program added its pictures.
    """
    if not names:
        refreshed = [source for source in known if source.kind != RECORDS_KIND]
        if not refreshed:
            raise UsageError(
                "The index has no source to refresh.",
                Hint(
                    "Index a folder first: {}", "index.add_folder(FOLDER)", "mmsearch index FOLDER"
                ),
            )
        return refreshed
    chosen = [_find_by_name(known, name) for name in names]
    for source in chosen:
        if source.kind == RECORDS_KIND:
            raise UsageError(
                f"{source.name!r} are pictures that a program added.",
                "Add them again with Index.add.",
            )
    return chosen


def remove_source(layout: IndexLayout, name: str, wait_s: float) -> int:
    """Remove a source. See `mmsearch.api.index.Index.remove_source`."""
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        return catalog.remove_source(find_source(catalog, name).id)


def find_source(catalog: CatalogReader, name: str) -> SourceRecord:
    """Return the source with a name.

    Raises:
        UnknownNameError: There is no such source.
    """
    return _find_by_name(catalog.sources(), name)


def _find_by_name(sources: Sequence[SourceRecord], name: str) -> SourceRecord:
    for source in sources:
        if source.name == name:
            return source
    known = ", ".join(source.name for source in sources) or "none"
    raise UnknownNameError(f"There is no source named {name!r}.", f"Known: {known}.")


def normalize_uri(uri: bytes) -> bytes:
    """Return a URI unchanged, and a path as an absolute path."""
    if _SCHEME.match(uri):
        return uri
    return os.path.abspath(os.path.expanduser(uri))  # noqa: PTH100, PTH111 - bytes paths


def _reject_password(uri: bytes) -> None:
    """Raise an error for a URI with a password, which the index would keep and show.

    Raises:
        UsageError: There is a password.
    """
    with suppress(ValueError):
        if urllib.parse.urlsplit(uri).password is None:
            return
        raise UsageError(
            "The URI contains a password, which the index would keep.",
            "Leave it out, and set the credentials as the tools of the store do.",
        )


def _find_by_uri(layout: IndexLayout, uri: bytes) -> SourceRecord | None:
    if not layout.exists():
        return None
    with catalogs.open_read(layout) as catalog:
        return next((source for source in catalog.sources() if source.uri == uri), None)
