"""One indexing run over a source other than a folder: archives, tables, stores, data sets.

Parts whose stamp is as in the last run are passed. Items with a known stamp are not loaded, and
known content is not decoded. Memory does not grow with the number of parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mmsearch.catalog.rows import locate
from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.protocols import Executor
from mmsearch.core.records import (
    AssetRecord,
    CaptionTableTexts,
    FailedFile,
    FolderRecord,
    IndexedFile,
    ScannedFile,
    SourceRecord,
)
from mmsearch.core.results import Progress, TaskFailure
from mmsearch.core.sources import Source, SourceFailure, SourceItem, SourcePart, load_items
from mmsearch.core.types import Text, TextSource
from mmsearch.indexing.commit import (
    MAX_SHARD_BYTES,
    CommitBatcher,
    RunStats,
    ShardMaker,
    ShardSizer,
)
from mmsearch.indexing.diff import FileOutcome
from mmsearch.indexing.encode import DecodeTask, EncodedShard, EncodeTask, Shard, ShardEncoder
from mmsearch.indexing.run import NO_DIGEST, lose_shard


@dataclass
class _Part:
    """State of a part in this run.

    Attributes:
        key: Name of the part.
        stamp: Its stamp.
        known: Items of the last run that this run has not seen yet, by key.
        pending: Number of contents that are being encoded.
        items: Number of items with a picture.
        failed: Number of items that cannot be read.
        is_listed: True if all its items have been seen.
        ended_early: True if it could not be read to its end.
        must_retry: True if an item should be tried again.
    """

    key: bytes
    stamp: bytes
    known: dict[bytes, AssetRecord]
    pending: int = 0
    items: int = 0
    failed: int = 0
    is_listed: bool = False
    ended_early: bool = False
    must_retry: bool = False


class SourceRun:
    """One run that brings the index up to date with a source.

    Args:
        source: The source.
        record: What the catalog knows of it.
        catalog: Catalog, open for writing.
        shard_executor: Runs shard workers.
        make_worker: Creates a shard worker; see `mmsearch.core.protocols.Executor.run`.
        text_sources: Sources of the texts that are kept.
        retry_failed: Try unchanged items again that failed before.
        is_partial: True if the source yields only some of its items: others are not gone.
        on_content: Called with the digest and the bytes of each content that was read, before its
            item is committed.
        on_replaced: Called with the digest of the content that an item had before.
        progress: Receives the state of the run, from several threads.
        before_encoding: Called before each shard is encoded.
        max_items: Maximum number of items of a content, for which ids are reserved.
        sizer: Chooses the sizes of shards.

    Attributes:
        stats: Counts of the run so far.
        source_id: Id of the source in the catalog.
    """

    def __init__(
        self,
        source: Source,
        record: SourceRecord,
        catalog: CatalogWriter,
        *,
        shard_executor: Executor,
        make_worker: Callable[[], ShardEncoder],
        text_sources: frozenset[TextSource],
        retry_failed: bool,
        is_partial: bool = False,
        on_content: Callable[[bytes, bytes], None] = lambda digest, content: None,
        on_replaced: Callable[[bytes], None] = lambda digest: None,
        progress: Callable[[Progress], None],
        before_encoding: Callable[[], None] = lambda: None,
        max_items: Callable[[DecodeTask], int] = lambda task: 1,
        sizer: ShardSizer | None = None,
    ) -> None:
        self._source = source
        self._record = record
        self.source_id = record.id
        self._catalog = catalog
        self._shard_executor = shard_executor
        self._make_worker = make_worker
        self._text_sources = text_sources
        self._retry_failed = retry_failed
        self._is_partial = is_partial
        self._on_content = on_content
        self._on_replaced = on_replaced
        self._progress = progress
        self.stats = RunStats()
        # Items whose content is being encoded, by digest.
        self._pending: dict[bytes, list[tuple[_Part, IndexedFile, FileOutcome]]] = {}
        self._open_parts: list[_Part] = []
        # Keys of the last run that this run did not find, by part.
        self._missing: dict[bytes, set[bytes]] = {}
        self._sizer = sizer or ShardSizer()
        self._make_shard = ShardMaker(catalog, self._sizer, before_encoding, max_items)
        self._batcher = CommitBatcher(catalog, record.id, self._on_commit)

    def execute(self) -> None:
        """Index every item of the source.

        Raises:
            SourceError: The source cannot be listed. What was read before is kept.
        """
        try:
            stream = self._shard_executor.run(self._make_worker, self._iter_shards())
            for shard, outcome in stream:
                lost = lose_shard(shard, outcome) if isinstance(outcome, TaskFailure) else outcome
                self._resolve_shard(shard, lost)
            self._batcher.commit()
            self._remove_missing()
            self._save_parts()
        finally:
            self._batcher.close()

    def count_encoded(self, count: int) -> None:
        """Add to the number of pictures that a worker of this process has encoded."""
        self.stats.uncommitted += count
        self._progress(self.stats.progress("encode"))

    # --- listing ---

    def _iter_shards(self) -> Iterator[Shard]:
        saved = self._catalog.load_folder_states(self._record.id, b"")
        missing = set(saved)
        if not self._is_partial:
            missing |= set(self._catalog.list_part_keys(self._record.id))
        contents: list[EncodeTask] = []
        num_bytes = 0
        for listed in self._source.parts():
            missing.discard(listed.key)
            before = saved.get(listed.key)
            if before is not None and self._passes(before, listed):
                self.stats.outcomes[FileOutcome.UNCHANGED] += before.pictures
                self.stats.outcomes[FileOutcome.STILL_FAILED] += before.failed
                continue
            for task in self._iter_new_contents(listed):
                contents.append(task)
                num_bytes += len(task.source.content or b"")
                if len(contents) >= self._sizer.size or num_bytes >= MAX_SHARD_BYTES:
                    yield self._make_shard(contents)
                    contents, num_bytes = [], 0
            self._batcher.commit_if_due()
        if contents:
            yield self._make_shard(contents)
        for key in missing:
            self._missing[key] = set(self._catalog.list_assets(self._record.id, key))
            self._catalog.save_part(self._record.id, key, None)

    def _passes(self, before: FolderRecord, listed: SourcePart) -> bool:
        """Return True if nothing is left to do in a part since the last run."""
        must_retry = self._retry_failed and before.failed
        return bool(listed.stamp) and before.digest == listed.stamp and not must_retry

    def _iter_new_contents(self, listed: SourcePart) -> Iterator[EncodeTask]:
        """Yield the contents of a part that must be decoded; other items are resolved at once."""
        known: dict[bytes, AssetRecord] = {}
        if not self._is_partial:
            known = self._catalog.list_assets(self._record.id, listed.key)
        part = _Part(listed.key, listed.stamp, dict(known))
        self._open_parts.append(part)
        self._catalog.save_part(self._record.id, listed.key, None)
        unread = self._iter_unread(part, self._source.items(listed))
        for loaded in load_items(self._source, unread):
            if isinstance(loaded, SourceFailure):
                self._record_failure(part, loaded, known.get(loaded.key))
                continue
            item, content = loaded
            if self._is_partial:
                stored = self._catalog.load_assets(self._record.id, [item.key])
                known = {key: asset.asset for key, asset in stored.items()}
            digest = hashlib.sha256(content).digest()
            before = known.get(item.key)
            outcome = _outcome(before, digest)
            if outcome is FileOutcome.CHANGED and before is not None:
                self._on_replaced(before.digest)
            indexed = self._make_indexed(part, item, digest, len(content))
            if digest in self._pending:
                part.pending += 1
                self._pending[digest].append((part, indexed, outcome))
            elif self._catalog.find_item_ids([digest]):
                is_copy = outcome is FileOutcome.ADDED
                self._on_content(digest, content)
                self._resolve(part, indexed, FileOutcome.COPIED if is_copy else outcome)
            else:
                part.pending += 1
                self._pending[digest] = [(part, indexed, outcome)]
                source = DecodeTask(content=content, name=item.key)
                yield EncodeTask(digest, source, tuple(indexed.texts))
        part.is_listed = True
        # Of a part that ended early, nothing is known to be gone.
        if part.known and not part.ended_early:
            self._missing[part.key] = set(part.known)

    def _iter_unread(
        self, part: _Part, items: Iterator[SourceItem | SourceFailure]
    ) -> Iterator[SourceItem | SourceFailure]:
        """Yield the items that must be loaded, and the failures of the source."""
        for item in items:
            before = part.known.pop(item.key, None)
            if (
                isinstance(item, SourceFailure)
                or before is None
                or not item.stamp
                or before.stamp != item.stamp
            ):
                yield item
            elif before.error is None:
                size = before.size if item.size is None else item.size
                indexed = self._make_indexed(part, item, before.digest, size)
                self._resolve(part, indexed, FileOutcome.UNCHANGED)
            elif self._retry_failed:
                yield item
            else:
                part.failed += 1
                self.stats.outcomes[FileOutcome.STILL_FAILED] += 1
            self._batcher.commit_if_due()

    def _remove_missing(self) -> None:
        """Remove the items that are no longer in their part, nor in another one."""
        for key, missing in self._missing.items():
            # Items that are in another part now are not listed in the former one any more.
            listed = self._catalog.list_assets(self._record.id, key)
            gone = [asset for asset in listed.values() if asset.key in missing]
            self._batcher.removed.extend(asset.key for asset in gone)
            self.stats.gone += sum(asset.error is None for asset in gone)
            self._batcher.commit()

    def _make_indexed(self, part: _Part, item: SourceItem, digest: bytes, size: int) -> IndexedFile:
        texts: tuple[Text, ...] = tuple(t for t in item.texts if t.source in self._text_sources)
        return IndexedFile(
            ScannedFile(item.key, size, 0),
            digest,
            texts,
            # The texts of the source replace all that were stored.
            table=CaptionTableTexts(None),
            part=part.key,
            stamp=item.stamp,
            metadata=dict(item.metadata) or None,
        )

    # --- results ---

    def _resolve(self, part: _Part, indexed: IndexedFile, outcome: FileOutcome) -> None:
        part.items += 1
        self.stats.outcomes[outcome] += 1
        self._batcher.indexed.append(indexed)

    def _resolve_shard(self, shard: Shard, encoded: EncodedShard) -> None:
        for content in shard.contents:
            failure = encoded.failed.get(content.digest)
            if failure is None and content.source.content is not None:
                self._on_content(content.digest, content.source.content)
            for part, indexed, outcome in self._pending.pop(content.digest):
                part.pending -= 1
                if failure is None:
                    self._resolve(part, indexed, outcome)
                else:
                    stamp = b"" if failure.transient else indexed.stamp or b""
                    is_transient = failure.transient
                    key = indexed.file.path
                    self._record_failure(
                        part, SourceFailure(key, failure.reason, stamp, is_transient)
                    )
        self.stats.encoded += len(encoded.digests)
        self.stats.uncommitted = max(0, self.stats.uncommitted - len(shard.contents))
        self._batcher.commit_shard(encoded)
        self._sizer.commit_shard(len(shard.contents))

    def _record_failure(
        self, part: _Part, failure: SourceFailure, before: AssetRecord | None = None
    ) -> None:
        """Record an item that cannot be read; a picture of the last run stays if that may pass."""
        part.ended_early |= failure.ends_part
        part.must_retry |= failure.transient
        location = locate(self._record.kind, self._record.uri, failure.key)
        self.stats.failed.append(FailedFile(location, failure.reason))
        if self._is_partial and before is None:
            stored = self._catalog.load_assets(self._record.id, [failure.key])
            before = stored[failure.key].asset if failure.key in stored else None
        # Someone who replaces a picture by one that cannot be read keeps the former one.
        may_keep = failure.transient or self._is_partial
        is_kept = may_keep and before is not None and before.error is None
        if not failure.ends_part and not is_kept:
            part.failed += 1
            file = ScannedFile(failure.key, 0, 0)
            self._batcher.failed.append((file, NO_DIGEST, failure.reason))
            self._batcher.failed_parts[failure.key] = part.key, failure.stamp

    def _on_commit(self) -> None:
        self._save_parts()
        self._progress(self.stats.progress("encode"))

    def _save_parts(self) -> None:
        """Save that the parts are up to date whose items are all committed."""
        finished = [part for part in self._open_parts if part.is_listed and not part.pending]
        if not finished or self._batcher.has_pending:
            return
        for part in finished:
            self._open_parts.remove(part)
            if part.stamp and not (part.ended_early or part.must_retry):
                state = FolderRecord(part.stamp, part.items, part.failed)
                self._catalog.save_part(self._record.id, part.key, state)


def _outcome(before: AssetRecord | None, digest: bytes) -> FileOutcome:
    if before is None:
        return FileOutcome.ADDED
    return FileOutcome.UNCHANGED if before.digest == digest else FileOutcome.CHANGED
