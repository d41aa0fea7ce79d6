"""Scan of a folder and its comparison with the catalog, by subfolder and then by file.

Every run reads the name, size and time of every file. A subfolder that has not changed since an
earlier run left nothing to do in it is skipped; only the files of the other subfolders are compared
one by one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.folder_choices import is_below
from mmsearch.core.protocols import Walk
from mmsearch.core.records import (
    MTIME_GRANULARITY_NS,
    FileRecord,
    FolderRecord,
    Root,
    ScannedFile,
    ScannedFolder,
    SkippedFile,
)
from mmsearch.core.reports import SkippedCount
from mmsearch.core.results import IndexRequest, Progress
from mmsearch.indexing.diff import Comparison, FileStatus, compare
from mmsearch.indexing.texts import TextCollector, relative_to_folder
from mmsearch.modalities._other_files import count_skipped

PROGRESS_INTERVAL_FILES = 1000
"""Number of files between two progress calls."""

UNSETTLED_SIZE = -1
"""Size that no file has, of a skipped file that must be opened again if its folder changes."""


class FolderScan:
    """Comparison of the files of one run with the catalog.

    Args:
        request: The folder and how to index it.
        catalog: Catalog, open for writing.
        root: The root that covers the folder of the request.
        subfolder: Path of that folder relative to the root.
        texts: Text collector; its keys show which texts must be read again.
        progress: Receives the number of files scanned.
    """

    def __init__(
        self,
        request: IndexRequest,
        catalog: CatalogWriter,
        root: Root,
        subfolder: bytes,
        texts: TextCollector,
        progress: Callable[[Progress], None],
    ) -> None:
        self.skipped: Mapping[bytes, SkippedFile] = {}
        """Files that are not read by path, without those of skipped folders."""
        self.records: Mapping[bytes, FileRecord] = {}
        """File records of the catalog by path, without the files of skipped folders."""
        self._request = request
        self._catalog = catalog
        self._root = root
        self._subfolder = subfolder
        self._texts = texts
        self._progress = progress
        self._saved_folders = catalog.load_folder_states(root.id, subfolder)
        self._skipped_folders: dict[bytes, FolderRecord] = {}
        # Digest and folder of all others, by path. Their files are listed again each time: a list
        # for a large collection would take more memory than everything else in a run.
        self._changed_folders: dict[bytes, tuple[bytes, ScannedFolder]] = {}
        self._comparison = Comparison(b"", {})
        self._known_skipped: Mapping[bytes, SkippedFile] = {}
        self._has_saved_ctimes = False

    def recall(self, path: bytes, size: int, mtime_ns: int) -> str | None:
        """Return what earlier runs found in a file of the walk; see `walk`."""
        if self._request.verify:
            return None
        path = self._path_in_root(path)
        record = self.records.get(path)
        if record is not None and (record.size, record.mtime_ns) == (size, mtime_ns):
            return ""
        known = self._known_skipped.get(path)
        if known is not None and (known.size, known.mtime_ns) == (size, mtime_ns):
            return known.reason
        return None

    def compare(self, walk: Walk) -> Comparison:
        """Compare the files of a walk with the catalog, without those of skipped folders."""
        config_key = self._texts.config_key
        count, last_reported = 0, -PROGRESS_INTERVAL_FILES
        for folder in walk:
            if count >= last_reported + PROGRESS_INTERVAL_FILES:
                self._progress(Progress("scan", count, None))
                last_reported = count
            count += folder.num_files
            path = self._path_in_root(folder.path)
            digest = sha256(config_key + folder.digest).digest()
            previous = self._saved_folders.get(path)
            if previous is not None and previous.digest == digest and self._can_skip(previous):
                self._skipped_folders[path] = previous
            else:
                self._changed_folders[path] = digest, folder
        total = self._catalog.count_files_under(self._root.id, self._subfolder)
        is_changed = self._changed_folders or len(self._skipped_folders) < len(self._saved_folders)
        if is_changed or total != self.pictures + self.failed:
            self.records = self._catalog.list_files_under(
                self._root.id, self._subfolder, self._skipped_folders
            )
            self._known_skipped = self._catalog.list_skipped_under(
                self._root.id, self._subfolder, self._skipped_folders
            )
            self.skipped = {file.path: file for file in self._iter_skipped()}
        if self._texts.captions is not None:
            self._texts.captions.match(self._iter_paths)
        self._comparison = self._compare(
            self.records,
            self._iter_files(),
            retry_failed=self._request.retry_failed,
            verify=self._request.verify,
        )
        return self._comparison

    @property
    def pictures(self) -> int:
        """Number of unchanged pictures in skipped folders."""
        return sum(folder.pictures for folder in self._skipped_folders.values())

    @property
    def failed(self) -> int:
        """Number of unchanged unreadable files in skipped folders."""
        return sum(folder.failed for folder in self._skipped_folders.values())

    def select(self, status: FileStatus) -> Iterator[ScannedFile]:
        """Return the files that have a status in the comparison."""
        return self._comparison.select(status, self._iter_files())

    def save_skipped(self, *, keep_missing: bool) -> None:
        """Save which files are not read.

        Args:
            keep_missing: Keep those that the walk did not find: a folder could not be listed.
        """
        known = self._known_skipped
        changed = [file for path, file in self.skipped.items() if known.get(path) != file]
        removed = [] if keep_missing else [path for path in known if path not in self.skipped]
        if changed or removed:
            self._catalog.save_skipped(self._root.id, changed, removed)

    def count_skipped(self) -> tuple[SkippedCount, ...]:
        """Return the saved numbers of files that are not read, by kind and reason."""
        folder = self._root.id, self._subfolder
        saved = self._catalog.load_skipped_counts(*folder)
        if saved is not None:
            return tuple(SkippedCount(*row) for row in saved)
        counts = count_skipped(self._catalog.list_skip_reasons(*folder))
        if counts:
            rows = [(count.kind, count.reason, count.files) for count in counts]
            self._catalog.save_skipped_counts(*folder, rows)
        return counts

    def save_ctimes(self) -> None:
        """Save the change times of unchanged files that an earlier version has read."""
        if all(record.ctime_ns for record in self.records.values()):
            return
        ctimes = {
            file.path: file.ctime_ns
            for status in (FileStatus.UNCHANGED, FileStatus.STILL_FAILED)
            for file in self.select(status)
            if file.ctime_ns and not self.records[file.path].ctime_ns
        }
        if ctimes:
            self._catalog.save_ctimes(self._root.id, ctimes)
            self._has_saved_ctimes = True

    def save_folder_state(self, *, changed: bool) -> None:
        """Save the state of the folders that are up to date at the end of a run.

        Args:
            changed: True if files in the catalog have changed during the run.
        """
        if self._texts.captions is not None:
            # Folder digests do not cover the captions of a table.
            return
        folders = dict(self._skipped_folders)
        for path, (digest, folder) in self._changed_folders.items():
            record = self._make_folder_record(path, digest, folder)
            if record is not None:
                folders[path] = record
        if folders != self._saved_folders or changed or self._has_saved_ctimes:
            self._catalog.save_folder_states(self._root.id, self._subfolder, folders)

    def _make_folder_record(
        self, path: bytes, digest: bytes, folder: ScannedFolder
    ) -> FolderRecord | None:
        """Return the state to save for a folder; None if it is not up to date."""
        records = self._catalog.list_files_in(self._root.id, path)
        files = list(self._iter_folder_files(folder))
        comparison = self._compare(records, files, retry_failed=False, verify=False)
        pictures, failed = (
            comparison.count(FileStatus.UNCHANGED),
            comparison.count(FileStatus.STILL_FAILED),
        )
        if comparison.missing or pictures + failed < len(files) or self._has_unstable(folder):
            return None
        return FolderRecord(digest, pictures, failed)

    def _can_skip(self, previous: FolderRecord) -> bool:
        must_retry = self._request.retry_failed and previous.failed
        return not (must_retry or self._request.verify) and self._texts.captions is None

    def _iter_files(self) -> Iterator[ScannedFile]:
        """Yield the files of all folders that are not skipped, with paths relative to the root."""
        for _, folder in self._changed_folders.values():
            yield from self._iter_folder_files(folder)

    def _iter_paths(self) -> Iterator[bytes]:
        """Yield the paths of all files relative to the folder of the request."""
        for _, folder in self._changed_folders.values():
            for file in folder.list_files():
                yield file.path

    def _iter_folder_files(self, folder: ScannedFolder) -> Iterator[ScannedFile]:
        """Yield the files of a folder, except those that are being written."""
        prefix = self._subfolder + b"/" if self._subfolder else b""
        for file in folder.list_files():
            if self._is_unstable(file):
                continue
            if prefix:
                sidecars = tuple(replace(s, path=prefix + s.path) for s in file.sidecars)
                yield replace(file, path=prefix + file.path, sidecars=sidecars)
            else:
                yield file

    def iter_known_paths(self, subfolder: bytes, gone: Container[bytes]) -> Iterator[bytes]:
        """Yield the paths of all files of the root in a folder of it, relative to that folder.

        Args:
            subfolder: The folder, relative to the root.
            gone: Paths of files that no longer exist.
        """
        known = self._catalog.list_files_under(self._root.id, subfolder)
        for path in known:
            if path not in gone:
                yield relative_to_folder(path, subfolder)
        for file in self._iter_files():
            if file.path not in known and is_below(subfolder, file.path):
                yield relative_to_folder(file.path, subfolder)

    def _iter_skipped(self) -> Iterator[SkippedFile]:
        """Yield the files that are not read, except the table of captions of this run."""
        table = self._texts.captions.path if self._texts.captions is not None else None
        # A file that was changed just now may change again without a new modification time.
        settled_ns = time.time_ns() - MTIME_GRANULARITY_NS
        for _, folder in self._changed_folders.values():
            for file in folder.list_skipped():
                path = self._path_in_root(file.path)
                if table is None or table != os.path.join(self._root.path, path):  # noqa: PTH118
                    size = file.size if file.mtime_ns < settled_ns else UNSETTLED_SIZE
                    yield replace(file, path=path, size=size)

    def _is_unstable(self, file: ScannedFile) -> bool:
        if not self._request.unstable_paths:
            return False
        path = os.path.join(self._root.path, self._path_in_root(file.path))  # noqa: PTH118
        return path in self._request.unstable_paths

    def _has_unstable(self, folder: ScannedFolder) -> bool:
        return bool(self._request.unstable_paths) and any(
            map(self._is_unstable, folder.list_files())
        )

    def _compare(
        self,
        records: Mapping[bytes, FileRecord],
        files: Iterable[ScannedFile],
        *,
        retry_failed: bool,
        verify: bool,
    ) -> Comparison:
        return compare(
            records,
            files,
            retry_failed=retry_failed,
            verify=verify,
            texts_key=lambda file: self._texts.expected_texts_key(file, self._subfolder),
        )

    def _path_in_root(self, path: bytes) -> bytes:
        return b"/".join(part for part in (self._subfolder, path) if part)
