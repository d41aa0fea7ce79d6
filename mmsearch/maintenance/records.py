"""Records of an index: pictures that a program added by ids of its own, with texts and metadata."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mmsearch.core.catalog import CatalogReader
from mmsearch.core.errors import DecodeError, UnknownNameError
from mmsearch.core.records import (
    RECORDS_KIND,
    CaptionTableTexts,
    IndexedFile,
    ScannedFile,
    ShardCommit,
    SourceRecord,
    StoredAsset,
)
from mmsearch.core.reports import IndexReport
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.core.source_lookup import find_source
from mmsearch.core.sources import SourceItem, SourcePart
from mmsearch.core.types import Text
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_indexer
from mmsearch.factories.warm_parts import WarmParts
from mmsearch.maintenance.suggestions import update_suggestions
from mmsearch.storage.atomic import atomic_write
from mmsearch.storage.layout import IndexLayout, original_path

_SOURCE = (RECORDS_KIND, b"")


@dataclass(frozen=True)
class Record:
    """A picture to add.

    Attributes:
        key: Id that the program gives it; None: the sha256 of its content.
        load: Returns its content; DecodeError if it cannot be read.
        texts: Its texts.
        metadata: Its metadata, as JSON values.
    """

    key: str | None
    load: Callable[[], bytes]
    texts: tuple[Text, ...] = ()
    metadata: Mapping[str, Any] | None = None


class RecordSource:
    """Records as a source; see `mmsearch.core.sources.Source`.

    Args:
        records: The records.
    """

    kind = RECORDS_KIND
    uri = b""
    parallel_loads = 1

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records

    def parts(self) -> Iterator[SourcePart]:
        """Yield one part, which never passes."""
        yield SourcePart(b"", b"")

    def items(self, part: SourcePart) -> Iterator[SourceItem]:
        """Yield the records."""
        seen: set[str] = set()
        for record in self._records:
            load, key = record.load, record.key
            if key is None:
                content = _load_or_none(load)
                key = hashlib.sha256(content or b"").hexdigest()
                if content is not None:
                    load = _Loaded(content)
                if key in seen:
                    continue
                seen.add(key)
            yield SourceItem(
                key.encode(), b"", load, texts=record.texts, metadata=record.metadata or {}
            )

    def read(self, key: bytes) -> bytes:
        """Raise an error: records are passed once."""
        raise DecodeError("records are passed once")

    def exists(self, key: bytes) -> bool | None:
        """Return None: records are passed once."""
        return None

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class _Loaded:
    """Returns a content that is loaded already."""

    content: bytes

    def __call__(self) -> bytes:
        return self.content


class KeptOriginals:
    """The contents of records that the index keeps on request.

    Args:
        layout: File layout of the index.
    """

    def __init__(self, layout: IndexLayout) -> None:
        self._folder = layout.originals
        self._unused: set[bytes] = set()

    def save(self, digest: bytes, content: bytes) -> None:
        """Keep a content; it is on the disk when this returns."""
        path = original_path(self._folder, digest)
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_write(path, content)

    def mark_unused(self, digest: bytes) -> None:
        """Note that a record does not have a content any more."""
        if digest and original_path(self._folder, digest).exists():
            self._unused.add(digest)

    def remove_unused(self, catalog: CatalogReader) -> None:
        """Remove the noted contents that no other record or file has."""
        if not self._unused:
            return
        digests = {item_id: key for key, item_id in catalog.find_item_ids([*self._unused]).items()}
        with catalog.snapshot() as snapshot:
            records = snapshot.records(list(digests))
        for record in records:
            if not record.paths:
                # Compaction removes what cannot be removed now.
                with suppress(OSError):
                    original_path(self._folder, digests[record.id]).unlink()


def _load_or_none(load: Callable[[], bytes]) -> bytes | None:
    with suppress(DecodeError):
        return load()
    return None


def add_records(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    records: Iterable[Record],
    warm_parts: WarmParts,
    *,
    keep_originals: bool,
    wait_s: float,
    progress: Callable[[Progress], None],
) -> IndexReport:
    """Add or replace records. See `mmsearch.api.index.Index.add`."""
    with (
        warm_parts.use(),
        catalogs.open_write(layout, wait_s, create=True, source=_SOURCE) as catalog,
        make_indexer(layout, catalog, settings, on_message, warm_parts=warm_parts) as indexer,
    ):
        originals = KeptOriginals(layout)
        report = indexer.run_source(
            RecordSource(records),
            catalog.ensure_source(RECORDS_KIND, b"", {}, RECORDS_KIND),
            is_partial=True,
            on_content=originals.save if keep_originals else lambda digest, content: None,
            on_replaced=originals.mark_unused,
            progress=progress,
        )
        originals.remove_unused(catalog)
        update_suggestions(layout, catalog, indexer.encoder, settings, is_addition=True)
        return report


def update_records(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    keys: Sequence[str],
    texts: Sequence[tuple[Text, ...]] | None,
    metadata: Sequence[Mapping[str, Any]] | None,
    *,
    warm_parts: WarmParts,
    wait_s: float,
) -> None:
    """Replace the texts or the metadata of records. See `mmsearch.api.index.Index.update`."""
    with (
        warm_parts.use(),
        catalogs.open_write(layout, wait_s, create=False, source=_SOURCE) as catalog,
    ):
        source = find_records_source(catalog)
        stored = load_records(catalog, keys)
        unknown = [key for key in keys if key not in stored or stored[key].item_id is None]
        if source is None or unknown:
            raise UnknownNameError(
                f"The index has no record {unknown[0]!r}.", "Add it with index.add first."
            )
        indexed = [
            _changed(
                stored[key],
                stored[key].texts if texts is None else texts[row],
                stored[key].metadata if metadata is None else metadata[row],
            )
            for row, key in enumerate(keys)
        ]
        catalog.commit_shard(ShardCommit(source.id, time.time_ns(), indexed=indexed))
        if texts is not None:
            with make_indexer(
                layout, catalog, settings, on_message, warm_parts=warm_parts
            ) as indexer:
                indexer.refresh()


def _changed(
    stored: StoredAsset, texts: Sequence[Text], metadata: Mapping[str, Any]
) -> IndexedFile:
    return IndexedFile(
        ScannedFile(stored.asset.key, stored.asset.size, 0),
        stored.asset.digest,
        tuple(texts),
        table=CaptionTableTexts(None),
        part=b"",
        stamp=stored.asset.stamp,
        metadata=dict(metadata) or None,
    )


def delete_records(
    layout: IndexLayout, keys: Sequence[str], warm_parts: WarmParts, wait_s: float
) -> int:
    """Delete records; return how many there were. See `mmsearch.api.index.Index.delete`."""
    with (
        warm_parts.use(),
        catalogs.open_write(layout, wait_s, create=False, source=_SOURCE) as catalog,
    ):
        source = find_records_source(catalog)
        stored = load_records(catalog, keys)
        if source is None or not stored:
            return 0
        removed = [key.encode() for key in stored]
        catalog.commit_shard(ShardCommit(source.id, time.time_ns(), removed=removed))
        originals = KeptOriginals(layout)
        for asset in stored.values():
            originals.mark_unused(asset.asset.digest)
        originals.remove_unused(catalog)
        return len(removed)


def find_records_source(catalog: CatalogReader) -> SourceRecord | None:
    """Return the source of the records; None if none was ever added."""
    return find_source(catalog.sources(), kind=RECORDS_KIND)


def load_records(catalog: CatalogReader, keys: Sequence[str]) -> dict[str, StoredAsset]:
    """Return what is stored of the known records."""
    source = find_records_source(catalog)
    if source is None:
        return {}
    stored = catalog.load_assets(source.id, [key.encode() for key in keys])
    return {key.decode(): asset for key, asset in stored.items()}
