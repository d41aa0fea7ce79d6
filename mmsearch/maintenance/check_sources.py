"""Check of the pictures themselves: are they still where they were indexed, and the same?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from mmsearch.catalog.rows import locate
from mmsearch.core.catalog import CatalogReader
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError
from mmsearch.core.files import clamped_mtime_ns, hash_source_file, os_error_reason
from mmsearch.core.protocols import Modality
from mmsearch.core.records import FOLDER_KIND, RECORDS_KIND, AssetRecord, SourceRecord
from mmsearch.core.reports import Finding, Severity
from mmsearch.core.sources import Source, SourceFailure, SourceItem, load_items
from mmsearch.factories.sources import open_source
from mmsearch.storage.layout import IndexLayout, original_path

SOURCES = "sources"


def check_folders(
    catalog: CatalogReader, *, content: bool = False, root_id: int | None = None
) -> Iterator[Finding]:
    """Yield a finding for each picture file that is missing or no longer what was indexed.

    Args:
        catalog: Catalog, open for reading.
        content: Read every file and compare its digest, not only its size and time.
        root_id: Id of the only root to check; None checks all roots.
    """
    for root in catalog.roots():
        if root_id not in (None, root.id):
            continue
        if not os.path.isdir(root.path):  # noqa: PTH112 - bytes paths need os.path
            message = f"Folder {display_path(root.path)} does not exist."
            yield Finding(Severity.SOURCE, SOURCES, message)
            continue
        for path, record in sorted(catalog.list_files_under(root.id, b"").items()):
            if record.content_id is None:
                continue
            absolute_path = os.path.join(root.path, path)  # noqa: PTH118
            message = _check_file(
                absolute_path, record.size, record.mtime_ns, record.digest if content else None
            )
            if message:
                yield Finding(Severity.SOURCE, SOURCES, f"{display_path(absolute_path)} {message}.")


def _check_file(path: bytes, size: int, mtime_ns: int, digest: bytes | None) -> str:
    try:
        file_stat = os.stat(path)  # noqa: PTH116
        if (file_stat.st_size, clamped_mtime_ns(file_stat)) != (size, mtime_ns):
            return "has changed since it was indexed"
        if digest is not None and hash_source_file(path) != digest:
            return "has other content than when it was indexed, but the same size and time"
    except OSError as error:
        return f"cannot be read: {os_error_reason(error)}"
    except MMSearchError as error:
        return f"cannot be read: {error.message}"
    return ""


def check_sources(
    layout: IndexLayout,
    catalog: CatalogReader,
    modalities: Sequence[Modality],
    *,
    content: bool = False,
) -> Iterator[Finding]:
    """Yield a finding for each picture of other sources that is missing or has changed.

    What cannot be read now is said to be so, never to be missing.

    Args:
        layout: File layout of the index, which keeps the originals of records.
        catalog: Catalog, open for reading.
        modalities: Readers of pictures, which say what is a picture.
        content: Read every picture and compare its digest, not only its stamp.
    """
    for record in catalog.sources():
        if record.kind == RECORDS_KIND:
            messages = _check_originals(layout, catalog, record) if content else iter(())
        elif record.kind == FOLDER_KIND:
            continue
        else:
            messages = _check_source(catalog, record, modalities, content=content)
        for message in messages:
            yield Finding(Severity.SOURCE, SOURCES, message)


def _check_originals(
    layout: IndexLayout, catalog: CatalogReader, record: SourceRecord
) -> Iterator[str]:
    """Yield a sentence for each kept original of a record that is damaged."""
    for part in catalog.list_part_keys(record.id):
        for asset in catalog.list_assets(record.id, part).values():
            with suppress(FileNotFoundError):
                path = original_path(layout.originals, asset.digest)
                if hashlib.sha256(path.read_bytes()).digest() != asset.digest:
                    yield f"The kept original of the record {display_path(asset.key)} is damaged."


def _check_source(
    catalog: CatalogReader,
    record: SourceRecord,
    modalities: Sequence[Modality],
    *,
    content: bool,
) -> Iterator[str]:
    """Yield a sentence for each picture of a source that is missing or has changed."""
    try:
        source = open_source(record.uri, modalities, record.kind, **record.choices)
    except MMSearchError as error:
        yield f"The source {record.name!r} cannot be opened: {error.message}"
        return
    unseen = set(catalog.list_part_keys(record.id))
    try:
        for part in source.parts():
            unseen.discard(part.key)
            assets = catalog.list_assets(record.id, part.key)
            known = {key: asset for key, asset in assets.items() if asset.error is None}
            if known:
                items = source.items(part)
                yield from _check_part(source, record, items, known, content=content)
        for key in sorted(unseen):
            for asset in catalog.list_assets(record.id, key).values():
                if asset.error is None:
                    yield from _check_missing(source, record, asset.key)
    except MMSearchError as error:
        yield f"The source {record.name!r} cannot be listed: {error.message}"
    finally:
        source.close()


def _check_part(
    source: Source,
    record: SourceRecord,
    items: Iterator[SourceItem | SourceFailure],
    known: dict[bytes, AssetRecord],
    *,
    content: bool,
) -> Iterator[str]:
    """Yield a sentence for each known picture of a part that is missing or has changed."""
    is_whole = True
    wanted = (item for item in items if isinstance(item, SourceFailure) or item.key in known)
    for item, found in _iter_contents(source, wanted, content=content):
        asset = known.pop(item.key, None)
        if isinstance(item, SourceFailure):
            is_whole &= not item.ends_part
            if asset is not None or item.ends_part:
                yield _sentence(record, item.key, f"cannot be read: {item.reason}")
        elif asset is not None and (
            hashlib.sha256(found).digest() != asset.digest
            if found is not None
            else item.stamp and item.stamp != asset.stamp
        ):
            yield _sentence(record, item.key, "has changed since it was indexed")
    # Behind the end of a part that cannot be read to its end, nothing is known to be missing.
    if is_whole:
        for key in known:
            yield from _check_missing(source, record, key)


def _iter_contents(
    source: Source, items: Iterator[SourceItem | SourceFailure], *, content: bool
) -> Iterator[tuple[SourceItem | SourceFailure, bytes | None]]:
    """Yield items and failures, each with its content if that is wanted and can be read."""
    if not content:
        yield from ((item, None) for item in items)
        return
    for loaded in load_items(source, items):
        yield (loaded, None) if isinstance(loaded, SourceFailure) else loaded


def _check_missing(source: Source, record: SourceRecord, key: bytes) -> Iterator[str]:
    """Yield a sentence about a picture that is not where it was, unless it is elsewhere."""
    is_there = source.exists(key)
    if is_there is None:
        yield _sentence(record, key, "cannot be looked up now")
    elif not is_there:
        yield _sentence(record, key, "is not there any more")


def _sentence(record: SourceRecord, key: bytes, message: str) -> str:
    return f"{display_path(locate(record.kind, record.uri, key))} {message}."
