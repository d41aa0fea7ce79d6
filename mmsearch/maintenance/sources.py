"""Sources of an index: add or refresh one that is not a folder of files, list and remove them."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.derived import FolderScope
from mmsearch.core.display import display_path
from mmsearch.core.errors import (
    DecodeError,
    ForbiddenError,
    GoneError,
    Hint,
    SourceError,
    StorageError,
    UsageError,
)
from mmsearch.core.folder_choices import DESCRIBE, check_reset
from mmsearch.core.records import FOLDER_KIND, RECORDS_KIND, PictureRecord, Root, SourceRecord
from mmsearch.core.reports import IndexReport
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.core.source_lookup import find_named_source, find_source
from mmsearch.factories import catalogs
from mmsearch.factories.cluster import open_cluster
from mmsearch.factories.indexing import make_indexer
from mmsearch.factories.plugins import make_modalities
from mmsearch.factories.sources import (
    choices_to_json,
    guess_kind,
    is_folder_of_files,
    list_choices,
    open_source,
)
from mmsearch.maintenance.folders import (
    change_choices,
    check_describe,
    check_folder_choices,
    describe_folders,
    warn_unavailable_enrichers,
)
from mmsearch.maintenance.renamed import has_moved
from mmsearch.maintenance.suggestions import update_suggestions
from mmsearch.storage.layout import IndexLayout, original_path

_PRIVATE_CHOICES: Final = ("allow_private", "endpoint")
"""Choices with which a source may be at a private address."""

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
    known = _find_known(layout, place)
    kind = kind or (guess_kind(place) if known is None else known.kind)
    check_reset(reset, [*list_choices(kind), DESCRIBE])
    check_describe(choices_to_json(kind, choices), settings)
    is_describe_given = DESCRIBE in choices
    if known is not None and known.kind == kind:
        choices = {**known.choices, **choices}
    choices = {name: value for name, value in choices.items() if name not in reset}
    # A source that cannot be used must not make an index.
    source = open_source(place, make_modalities(settings), kind, **choices)
    try:
        with (
            open_cluster(settings) as cluster,
            catalogs.open_write(layout, wait_s, create=True, source=(kind, place)) as catalog,
        ):
            with make_indexer(layout, catalog, settings, on_message, cluster=cluster) as indexer:
                record = catalog.ensure_source(kind, place, choices_to_json(kind, choices), name)
                if not is_describe_given:
                    warn_unavailable_enrichers(catalog, record.id, settings, on_message)
                try:
                    report = indexer.run_source(
                        source, record, retry_failed=retry_failed, progress=progress
                    )
                except SourceError:
                    # A wrong address is not to be tried again by each later run over all sources.
                    if known is None and not catalog.list_part_keys(record.id):
                        catalog.remove_source(record.id)
                    raise
            described = describe_folders(
                layout,
                catalog,
                settings,
                on_message,
                [FolderScope(record.id)],
                progress,
                retry_failed=retry_failed,
            )
            update_suggestions(layout, catalog, indexer.encoder, settings)
            return replace(report, described=described)
    finally:
        source.close()


def register_source(
    layout: IndexLayout,
    settings: Settings,
    uri: bytes,
    *,
    kind: str | None,
    name: str | None,
    choices: Mapping[str, Any],
    wait_s: float,
) -> None:
    """Add a source that a later run indexes.

    Raises:
        UsageError: The index has the source, or a choice is not valid.
        SourceError: The source cannot be used.
    """
    place = normalize_uri(uri)
    _reject_password(place)
    known = _find_known(layout, place)
    if known is not None:
        raise UsageError(
            f"{display_path(place)} is a source already: {known.name!r}.",
            Hint(
                "Change its choices: {}",
                f"index.set_source({known.name!r}, ...)",
                f"mmsearch sources set {known.name} ...",
            ),
        )
    if kind in (None, FOLDER_KIND) and is_folder_of_files(place):
        check_describe(check_folder_choices(choices), settings)
        with catalogs.open_write(layout, wait_s, create=True) as catalog:
            root, subfolder = catalog.ensure_root(place, name)
            if subfolder:
                raise UsageError(
                    f"{display_path(place)} is in {display_path(root.path)}, which is a source.",
                    Hint(
                        "Choices of a folder in it: {}",
                        "index.add_folder(FOLDER, ...)",
                        "mmsearch index FOLDER ...",
                    ),
                )
            change_choices(catalog, root, settings, choices, ())
        return
    kind = kind or guess_kind(place)
    check_describe(choices_to_json(kind, choices), settings)
    open_source(place, make_modalities(settings), kind, **choices).close()
    with catalogs.open_write(layout, wait_s, create=True) as catalog:
        catalog.ensure_source(kind, place, choices_to_json(kind, choices), name)


def set_source(
    layout: IndexLayout,
    settings: Settings,
    name: str,
    *,
    place: bytes | None,
    choices: Mapping[str, Any],
    reset: Sequence[str],
    wait_s: float,
) -> SourceRecord:
    """Change the place or the choices of a source. See `mmsearch.api.index.Index.set_source`."""
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        source = find_named_source(catalog.sources(), name)
        if source.kind == RECORDS_KIND:
            raise UsageError(f"{name!r} are pictures that a program added: they have no choices.")
        if source.kind == FOLDER_KIND:
            root = Root(source.id, source.name, source.uri)
            change_choices(catalog, root, settings, choices, reset)
            if place is not None:
                _remove_copy(catalog, root, place)
                catalog.move_root(name, place)
        else:
            if place is not None:
                raise UsageError(
                    f"{name!r} is not a folder, so its place cannot be set.",
                    "Index it at its new place, and remove this source; nothing is encoded again.",
                )
            check_reset(reset, [*list_choices(source.kind), DESCRIBE])
            given = choices_to_json(source.kind, choices)
            check_describe(given, settings)
            kept = {**source.choices, **given}
            kept = {option: value for option, value in kept.items() if option not in reset}
            if kept != source.choices:
                catalog.set_choices(source.id, kept)
        return find_named_source(catalog.sources(), name)


def _remove_copy(catalog: CatalogWriter, root: Root, place: bytes) -> None:
    """Remove another root at the place to which the folder of a root has moved."""
    other = find_source(catalog.sources(), uri=place, kind=FOLDER_KIND)
    if other is not None and other.id != root.id and has_moved(catalog, root, place):
        catalog.remove_source(other.id)


def remove_source(layout: IndexLayout, name: str, wait_s: float) -> int:
    """Remove a source. See `mmsearch.api.index.Index.remove_source`."""
    with catalogs.open_write(layout, wait_s, create=False) as catalog:
        return catalog.remove_source(find_named_source(catalog.sources(), name).id)


def read_original(
    layout: IndexLayout,
    settings: Settings,
    catalog: CatalogReader,
    record: PictureRecord,
    *,
    public_only: bool,
) -> bytes:
    """Return the content of a picture that is not in a folder.

    See `mmsearch.api.index.Index.read_original`.
    """
    with suppress(OSError):
        content = original_path(layout.originals, record.digest).read_bytes()
        if hashlib.sha256(content).digest() == record.digest:
            return content
    pictures = catalog.list_live_pictures(record.id - 1, 1)
    place = pictures[0].source if pictures and pictures[0].id == record.id else None
    if place is None or place[0] == RECORDS_KIND:
        raise GoneError(
            f"The index keeps no original of picture {record.id}.",
            "Add it with keep_originals=True, or read it where it is.",
        )
    kind, uri, key = place
    source = find_source(catalog.sources(), kind=kind, uri=uri)
    choices = source.choices if source else {}
    if public_only and any(choices.get(name) for name in _PRIVATE_CHOICES):
        raise ForbiddenError(
            f"The original of picture {record.id} is on a server that may be private.",
            f"Read it there: {display_path(record.uri)}",
        )
    return _read_item(record, kind, uri, key, settings, choices)


def _read_item(
    record: PictureRecord,
    kind: str,
    uri: bytes,
    key: bytes,
    settings: Settings,
    choices: Mapping[str, Any],
) -> bytes:
    where = f"The original of picture {record.id} in {display_path(uri)}"
    try:
        source = open_source(uri, make_modalities(settings), kind, **choices)
        try:
            content = source.read(key)
        finally:
            source.close()
    except (DecodeError, SourceError) as error:
        if isinstance(error, DecodeError) and not error.details.get("transient"):
            raise GoneError(f"{where} is gone: {error.message.rstrip('.')}.") from error
        raise StorageError(
            f"{where} cannot be read now: {error.message.rstrip('.')}.", "Try again later."
        ) from error
    if hashlib.sha256(content).digest() != record.digest:
        raise GoneError(f"{where} has changed since it was indexed.", "Refresh the source.")
    return content


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


def _find_known(layout: IndexLayout, uri: bytes) -> SourceRecord | None:
    if not layout.exists():
        return None
    with catalogs.open_read(layout) as catalog:
        return find_source(catalog.sources(), uri=uri)
