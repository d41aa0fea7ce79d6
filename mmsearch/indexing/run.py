"""One indexing run over one folder, from the walk to the last commit of vectors."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.display import display_path
from mmsearch.core.errors import Hint, MMSearchError, SourceError, StorageError
from mmsearch.core.files import os_error_reason
from mmsearch.core.folder_choices import is_below
from mmsearch.core.protocols import CaptionTable, Executor, Walk
from mmsearch.core.records import (
    CaptionTableTexts,
    CollectedTexts,
    FailedFile,
    IndexedFile,
    ScannedFile,
)
from mmsearch.core.reports import format_skipped
from mmsearch.core.results import IndexRequest, Progress, TaskFailure
from mmsearch.indexing.commit import (
    MAX_SHARD_BYTES,
    CommitBatcher,
    RunStats,
    ShardMaker,
    ShardSizer,
)
from mmsearch.indexing.diff import ContentResolver, FileOutcome, FileStatus
from mmsearch.indexing.encode import DecodeTask, EncodedShard, EncodeTask, Shard, ShardEncoder
from mmsearch.indexing.file_reader import FileContent, FileReader, FileReaders
from mmsearch.indexing.scan import FolderScan
from mmsearch.indexing.texts import TextCollector, relative_to_folder
from mmsearch.modalities._contents import Recall
from mmsearch.modalities._other_files import count_skipped, is_left_out

NO_DIGEST = b""
"""Digest of a file whose content could not be read; every run tries it again."""

HASH_BATCH_SIZE = 64


class IndexRun:
    """One run that indexes the files of one folder.

    Args:
        request: The folder and how to index it.
        catalog: Catalog, open for writing.
        walk: Lists the files of a request; see `mmsearch.modalities._folder.walk`.
        hash_executor: Runs the tasks that read files and compute their digests.
        shard_executor: Runs shard workers.
        make_worker: Creates a shard worker; see `mmsearch.core.protocols.Executor.run`.
        texts: Finds the texts of files.
        progress: Receives the state of the run, from several threads.
        before_encoding: Called before each shard is encoded. At the first call nothing else uses
            the encoder.
        before_changes: Called once before anything is written about files.
        max_items: Maximum number of items of a content, for which ids are reserved.
        readers: Workers on other hosts that read the files instead of ``hash_executor``.
        sizer: Chooses the sizes of shards.

    Attributes:
        stats: Counts of the run so far.
        source_id: Id of the root in the catalog.
    """

    def __init__(
        self,
        request: IndexRequest,
        catalog: CatalogWriter,
        *,
        walk: Callable[[IndexRequest, Recall], Walk],
        hash_executor: Executor,
        shard_executor: Executor,
        make_worker: Callable[[], ShardEncoder],
        texts: TextCollector,
        progress: Callable[[Progress], None],
        before_encoding: Callable[[], None] = lambda: None,
        before_changes: Callable[[], None] = lambda: None,
        max_items: Callable[[DecodeTask], int] = lambda task: 1,
        readers: FileReaders | None = None,
        sizer: ShardSizer | None = None,
    ) -> None:
        self._before_changes = before_changes
        self._request = request
        self._catalog = catalog
        self._hash_executor = hash_executor
        self._shard_executor = shard_executor
        self._make_worker = make_worker
        self._progress = progress
        self.stats = stats = RunStats()
        self._root, self._subfolder = catalog.ensure_root(request.folder)
        self.source_id = self._root.id
        if texts.captions is not None:
            captioned_paths = catalog.list_captioned_files(
                self._root.id, self._subfolder, texts.captions.path
            )
            texts = replace(texts, captioned_paths=captioned_paths)
        self._texts = texts
        self._scan = FolderScan(request, catalog, self._root, self._subfolder, texts, progress)
        self._walk = walk(request, self._scan.recall)
        # Files whose content is being encoded, by digest; the first file of each list is decoded.
        self._pending: dict[bytes, list[tuple[IndexedFile, FileOutcome]]] = {}
        self._failure_by_digest: dict[bytes, str] = {}
        self._kept_tables: list[tuple[bytes, CaptionTable]] = []
        # Digests committed since the last `find_item_ids`.
        self._newly_encoded: set[bytes] = set()
        self._shards = sizer or ShardSizer()
        self._readers = readers
        # By path, for what readers have found to have several items.
        self._num_items: dict[bytes, int] = {}
        self._max_items = max_items if readers is None else self._found_items
        self._make_shard = ShardMaker(catalog, self._shards, before_encoding, self._max_items)
        self._batcher = CommitBatcher(
            catalog, self._root.id, lambda: progress(stats.progress("encode"))
        )

    def execute(self) -> None:
        """Index every file of the folder.

        Raises:
            SourceError: The folder had pictures and has none now.
            StorageError: The folder had pictures and cannot be read now.
            MMSearchError: Texts could not be read.
        """
        comparison = self._scan.compare(self._walk)
        self.stats.unreadable_folders = tuple(self._walk.unreadable)
        left_out = frozenset(filter(self._is_left_out, comparison.missing))
        gone = {
            path: file
            for path, file in comparison.missing.items()
            if path in left_out or self._is_gone(path)
        }
        unchanged = comparison.count(FileStatus.UNCHANGED) + self._scan.pictures
        still_failed = comparison.count(FileStatus.STILL_FAILED) + self._scan.failed
        num_texts_changed = comparison.count(FileStatus.TEXTS_CHANGED)
        num_seen = (
            unchanged + still_failed + num_texts_changed + comparison.count(FileStatus.NEEDS_READ)
        )
        self._check_not_emptied(num_seen, len(gone), len(left_out))
        self._before_changes()
        self._scan.save_skipped(keep_missing=bool(self._walk.unreadable))
        self._scan.save_ctimes()
        self.stats.skipped = self._scan.count_skipped()
        self.stats.outcomes[FileOutcome.UNCHANGED] = unchanged
        self.stats.outcomes[FileOutcome.STILL_FAILED] = still_failed
        self.stats.total = num_seen
        self._progress(self.stats.progress("encode"))
        resolver = ContentResolver(self._scan.records, gone, self._request.retry_failed)
        self._shards.left = num_to_read = comparison.count(FileStatus.NEEDS_READ)
        if num_to_read:
            self._load_kept_tables(gone)
        if num_texts_changed:
            self._refresh_texts(self._scan.select(FileStatus.TEXTS_CHANGED))
        stream = self._shard_executor.run(
            self._make_worker,
            self._iter_new_shards(self._scan.select(FileStatus.NEEDS_READ), resolver),
        )
        for shard, outcome in stream:
            if isinstance(outcome, TaskFailure):
                self._resolve_shard(shard, lose_shard(shard, outcome))
            else:
                self._resolve_shard(shard, outcome)
        self.stats.left_out = sum(path in left_out for path in resolver.gone)
        self.stats.gone = len(resolver.gone) - self.stats.left_out
        self._batcher.removed.extend(resolver.gone)
        self._batcher.commit()
        self.stats.captions_removed = self._batcher.captions_removed

    def save_folder_state(self, *, changed: bool) -> None:
        """Save the state of folders that are up to date, so that the next run can skip them.

        Args:
            changed: True if anything besides this run's commits has changed files in the catalog
                since the run began.
        """
        self._scan.save_folder_state(changed=changed or self._batcher.has_committed)

    def count_encoded(self, count: int) -> None:
        """Add to the number of pictures that a worker of this process has encoded."""
        self.stats.uncommitted += count
        self._progress(self.stats.progress("encode"))

    # --- comparison with the folder ---

    def _is_left_out(self, path: bytes) -> bool:
        """Return True if the choices of the folder leave out a file that the walk did not find."""
        while path:
            skipped = self._scan.skipped.get(path)
            if skipped is not None:
                return is_left_out(skipped.reason)
            path = path.rpartition(b"/")[0]
            if relative_to_folder(path, self._subfolder) in self._request.options:
                break
        return False

    def _is_gone(self, path: bytes) -> bool:
        """Return True if a path certainly is no longer a file, or not a picture of its own.

        Files in a folder that cannot be read may still exist, so they do not count as gone.
        """
        skipped = self._scan.skipped.get(path)
        if skipped is not None and skipped.replaces_picture:
            return True
        try:
            return not stat.S_ISREG(os.stat(self._absolute_path(path)).st_mode)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError as error:
            absolute_path = self._absolute_path(path)
            # What is said of a folder need not be said of each of its files.
            if not any(
                (absolute_path + b"/").startswith(unreadable.path + b"/")
                for unreadable in self._walk.unreadable
            ):
                self.stats.failed.append(FailedFile(absolute_path, os_error_reason(error)))
            return False

    def _check_not_emptied(self, num_seen: int, num_gone: int, num_left_out: int) -> None:
        if num_seen == 0 and num_gone and not self._request.allow_empty:
            folder = display_path(self._request.folder)
            if num_left_out == num_gone:
                raise SourceError(
                    f"The choices for {folder} leave out all {num_gone:,} of its indexed pictures.",
                    Hint(
                        "Nothing was changed. Check the patterns, or pass {}.",
                        "allow_empty=True",
                        "--allow-empty",
                    ),
                )
            if self._walk.unreadable:
                reason = self._walk.unreadable[0].reason
                raise StorageError(
                    f"{folder} could not be read: {reason}.",
                    "Nothing was changed. Check the disk and run again.",
                )
            skipped = count_skipped(
                (file.path, file.reason) for file in self._scan.skipped.values()
            )
            readable = " that can be read" if any(c.is_installable for c in skipped) else ""
            found = f" ({format_skipped(skipped)})" if readable else ""
            raise SourceError(
                f"{folder} contains no pictures{readable} now{found}, but {num_gone:,} of its"
                " pictures are indexed.",
                Hint(
                    "Nothing was changed. If a drive is not mounted, mount it; if the pictures"
                    " were deleted, pass {}.",
                    "allow_empty=True",
                    "--allow-empty",
                ),
            )

    def _absolute_path(self, path: bytes) -> bytes:
        return os.path.join(self._root.path, path)  # noqa: PTH118 - bytes paths need os

    # --- indexing of the files ---

    def _load_kept_tables(self, gone: Container[bytes]) -> None:
        """Read the tables of captions that are kept with the folder, for files that are new."""
        if not self._texts.uses_tables:
            return
        for (path, folder), read_table in zip(
            self._request.kept_captions, self._texts.kept_tables, strict=True
        ):
            try:
                table = read_table()
            except MMSearchError as error:
                problem = FailedFile(os.fsencode(path), error.message.rstrip("."))
                self.stats.add_unreadable_texts([problem])
                continue
            subfolder = folder[len(self._root.path) :].lstrip(b"/")
            table.match(partial(self._scan.iter_known_paths, subfolder, gone))
            self._kept_tables.append((subfolder, table))

    def _find_captions(self, file: ScannedFile) -> Iterator[CaptionTableTexts]:
        """Yield the captions of a file in the tables that are kept with the folder."""
        for subfolder, table in self._kept_tables:
            if is_below(subfolder, file.path):
                captions = table.captions.get(relative_to_folder(file.path, subfolder))
                if captions is not None:
                    yield CaptionTableTexts(table.path, captions)

    def _refresh_texts(self, files: Iterator[ScannedFile]) -> None:
        """Read the texts of unchanged files again."""
        for file, texts in self._hash_executor.run(lambda: self._collect_texts, files):
            self.stats.outcomes[FileOutcome.UNCHANGED] += 1
            digest = self._scan.records[file.path].digest
            self._batcher.indexed.append(self._make_indexed_file(file, digest, texts))
            self._batcher.commit_if_due()

    def _iter_new_shards(
        self, files_to_read: Iterator[ScannedFile], resolver: ContentResolver
    ) -> Iterator[Shard]:
        """Yield shards of new content to encode; files with known content are resolved directly."""
        read = self._read_files(files_to_read)
        contents: list[EncodeTask] = []
        num_bytes = 0
        while chunk := list(islice(read, HASH_BATCH_SIZE)):
            digests = [result.digest for _, result in chunk if not isinstance(result, TaskFailure)]
            self._newly_encoded.clear()
            encoded = self._catalog.find_item_ids(digests)
            for file, result in chunk:
                if isinstance(result, TaskFailure):
                    self._record_unread(file, resolver, result.reason)
                    self._shards.skip_content()
                    continue
                indexed = self._make_indexed_file(file, result.digest, result.texts)
                if self._kept_tables:
                    indexed = replace(indexed, kept_tables=tuple(self._find_captions(file)))
                has_vector = indexed.digest in encoded or indexed.digest in self._newly_encoded
                if self._resolve_known(indexed, resolver, has_vector=has_vector):
                    source = DecodeTask(self._absolute_path(file.path), file.size, file.mtime_ns)
                    tables = filter(None, (indexed.table, *indexed.kept_tables))
                    texts = (*indexed.texts, *(text for table in tables for text in table.texts))
                    contents.append(EncodeTask(indexed.digest, source, texts))
                    if self._max_items(source) > 1:
                        num_bytes += file.size
                else:
                    self._shards.skip_content()
                if len(contents) >= self._shards.size or num_bytes >= MAX_SHARD_BYTES:
                    yield self._make_shard(contents)
                    contents, num_bytes = [], 0
            self._batcher.commit_if_due()
        if contents:
            yield self._make_shard(contents)

    def _read_files(
        self, files: Iterator[ScannedFile]
    ) -> Iterator[tuple[ScannedFile, FileContent | TaskFailure]]:
        """Yield files with what is in them, or why it could not be read."""
        executor, readers, batch_size = self._hash_executor, self._readers, 1
        make_reader = FileReader(self._root.path, self._texts)
        if readers is not None:
            executor, batch_size = readers.executor, readers.batch_size
            make_reader = FileReader.remote(self._root.path, self._texts, readers.make_decoder)
        batches = iter(lambda: tuple(islice(files, batch_size)), ())
        for batch, contents in executor.run(make_reader, batches):
            if isinstance(contents, TaskFailure):
                yield from ((file, contents) for file in batch)
                continue
            for file, content in zip(batch, contents, strict=True):
                if isinstance(content, FileContent) and (content.max_items or 1) > 1:
                    self._num_items[self._absolute_path(file.path)] = content.max_items or 1
                yield file, content

    def _found_items(self, task: DecodeTask) -> int:
        return self._num_items.get(task.path, 1)

    def _collect_texts(self, file: ScannedFile) -> CollectedTexts:
        return self._texts.collect(self._root.path, file)

    def _make_indexed_file(
        self, file: ScannedFile, digest: bytes, result: CollectedTexts | TaskFailure
    ) -> IndexedFile:
        if isinstance(result, TaskFailure):
            raise MMSearchError(f"Texts could not be read: {result.reason}.")
        self.stats.add_unreadable_texts(result.problems)
        return IndexedFile(
            file,
            digest,
            result.texts,
            self._texts.key(file),
            self._texts.table_texts(file, self._subfolder),
            overrides=result.overrides,
            fallbacks=result.fallbacks,
        )

    def _resolve_known(
        self, indexed: IndexedFile, resolver: ContentResolver, *, has_vector: bool
    ) -> bool:
        """Resolve a file without decoding it if possible; return True if it must be decoded."""
        file, digest = indexed.file, indexed.digest
        previous = resolver.records.get(file.path)
        if previous is not None and previous.digest not in (NO_DIGEST, digest):
            same = (previous.size, previous.mtime_ns) == (file.size, file.mtime_ns)
            self.stats.unnoticed += same
        pending = self._pending.get(digest)
        outcome = resolver.outcome(file, digest, has_vector=has_vector or pending is not None)
        if outcome is FileOutcome.MOVED:
            old_path = resolver.pop_moved(digest)
            self._batcher.removed.append(old_path)
            indexed = replace(indexed, moved_from=old_path)
        if pending is not None:
            pending.append((indexed, outcome))
        elif outcome is FileOutcome.STILL_FAILED:
            self.stats.outcomes[outcome] += 1
            error = resolver.records[file.path].error or ""
            self._batcher.failed.append((file, digest, error))
        elif has_vector:
            self.stats.outcomes[outcome] += 1
            self._batcher.indexed.append(indexed)
        elif digest in self._failure_by_digest:
            self._record_failure(file, digest, self._failure_by_digest[digest])
        else:
            self._pending[digest] = [(indexed, outcome)]
            return True
        return False

    def _resolve_shard(self, shard: Shard, encoded: EncodedShard) -> None:
        for content in shard.contents:
            files = self._pending.pop(content.digest)
            failure = encoded.failed.get(content.digest)
            if failure is not None and not failure.transient:
                self._failure_by_digest[content.digest] = failure.reason
            for indexed, outcome in files:
                if failure is None:
                    self.stats.outcomes[outcome] += 1
                    self._batcher.indexed.append(indexed)
                else:
                    digest = NO_DIGEST if failure.transient else content.digest
                    self._record_failure(indexed.file, digest, failure.reason)
        self._newly_encoded |= encoded.digests
        self.stats.encoded += len(encoded.digests)
        self.stats.uncommitted = max(0, self.stats.uncommitted - len(shard.contents))
        self._batcher.commit_shard(encoded)
        self._shards.commit_shard(len(shard.contents))

    def _record_unread(self, file: ScannedFile, resolver: ContentResolver, reason: str) -> None:
        """Record a file whose content could not be read now.

        Size and time of an indexed file prove no change: its picture stays until a run can read
        it, because a changed mode or a restored backup changes the change time, too.
        """
        previous = resolver.records.get(file.path)
        if (
            previous is not None
            and previous.content_id is not None
            and (previous.size, previous.mtime_ns) == (file.size, file.mtime_ns)
        ):
            self.stats.failed.append(FailedFile(self._absolute_path(file.path), reason))
        else:
            self._record_failure(file, NO_DIGEST, reason)

    def _record_failure(self, file: ScannedFile, digest: bytes, reason: str) -> None:
        self.stats.failed.append(FailedFile(self._absolute_path(file.path), reason))
        self._batcher.failed.append((file, digest, reason))


def lose_shard(shard: Shard, failure: TaskFailure) -> EncodedShard:
    """Return the result of a shard whose worker failed; the next run tries its contents again."""
    transient = replace(failure, transient=True)
    return EncodedShard(None, (), {content.digest: transient for content in shard.contents})
