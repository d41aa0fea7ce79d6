"""What there is below a folder, beside what is known: whole folders first, then file by file.

Every file's name, size and time are looked at in every run. A folder in which all of that is as a
former run left it, with nothing to do, passes whole; only the others are compared by file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256

from mmsearch.core.catalog import Catalog
from mmsearch.core.protocols import Walk
from mmsearch.core.records import FileRecord, FolderRecord, Root, ScannedFile, ScannedFolder
from mmsearch.core.requests import IndexRequest, Progress
from mmsearch.indexing.diff import Comparison, FileStatus, compare
from mmsearch.indexing.text_collector import TextCollector

PROGRESS_INTERVAL_FILES = 1000
"""Files between two calls for progress."""


class FolderScan:
    """Compares the files of one run.

    Args:
        request: What to index.
        catalog: Open for writing.
        root: Covers the folder of the request.
        subfolder: That folder, relative to the root.
        texts: Tells when the texts of files must be looked for again.
        progress: Receives how many files were seen.
    """

    def __init__(
        self,
        request: IndexRequest,
        catalog: Catalog,
        root: Root,
        subfolder: bytes,
        texts: TextCollector,
        progress: Callable[[Progress], None],
    ) -> None:
        self.records: Mapping[bytes, FileRecord] = {}
        """By path; without files of folders that passed whole."""
        self._request = request
        self._catalog = catalog
        self._root = root
        self._subfolder = subfolder
        self._texts = texts
        self._progress = progress
        self._saved_folders = catalog.load_folder_states(root.id, subfolder)
        self._skipped_folders: dict[bytes, FolderRecord] = {}
        # All others, by path, with a digest. Their files are made anew each time: those of a large
        # collection take more memory than all else in a run.
        self._changed_folders: dict[bytes, tuple[bytes, ScannedFolder]] = {}
        self._comparison = Comparison(b"", {})

    def compare(self, walk: Walk) -> Comparison:
        """Compare what is there with what is known; says nothing of folders that passed whole."""
        config_key = self._texts.config_key
        if self._request.include or self._request.exclude:
            # Patterns speak of paths below the folder of the request.
            config_key += self._subfolder
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
        if self._changed_folders or total != self.pictures + self.failed:
            self.records = self._catalog.list_files_under(
                self._root.id, self._subfolder, self._skipped_folders
            )
        self._comparison = self._compare(
            self.records, self._iter_files(), self._request.retry_failed
        )
        return self._comparison

    @property
    def pictures(self) -> int:
        """Unchanged pictures in folders that passed whole."""
        return sum(folder.pictures for folder in self._skipped_folders.values())

    @property
    def failed(self) -> int:
        """Unchanged files in such folders that cannot be read."""
        return sum(folder.failed for folder in self._skipped_folders.values())

    def select(self, status: FileStatus) -> Iterator[ScannedFile]:
        """The files of which the comparison says that."""
        return self._comparison.select(status, self._iter_files())

    def save_folder_state(self, *, changed: bool) -> None:
        """At the end of a run: note the folders in which nothing is left to do.

        Args:
            changed: Whether the run has changed what is known.
        """
        if self._texts.captions is not None:
            # What a table says is no part of what a walk sees.
            return
        folders = dict(self._skipped_folders)
        for path, (digest, folder) in self._changed_folders.items():
            record = self._make_folder_record(path, digest, folder)
            if record is not None:
                folders[path] = record
        if folders != self._saved_folders or changed:
            self._catalog.save_folder_states(self._root.id, self._subfolder, folders)

    def _make_folder_record(
        self, path: bytes, digest: bytes, folder: ScannedFolder
    ) -> FolderRecord | None:
        """A folder as it is remembered; None if a run would find something to do in it."""
        records = self._catalog.list_files_in(self._root.id, path)
        files = list(self._iter_folder_files(folder))
        comparison = self._compare(records, files, retry_failed=False)
        pictures, failed = (
            comparison.count(FileStatus.UNCHANGED),
            comparison.count(FileStatus.STILL_FAILED),
        )
        if comparison.missing or pictures + failed < len(files) or self._has_unstable(folder):
            return None
        return FolderRecord(digest, pictures, failed)

    def _can_skip(self, previous: FolderRecord) -> bool:
        must_retry = self._request.retry_failed and previous.failed
        return not must_retry and self._texts.captions is None

    def _iter_files(self) -> Iterator[ScannedFile]:
        """Of all folders that did not pass, as paths in the root."""
        for _, folder in self._changed_folders.values():
            yield from self._iter_folder_files(folder)

    def _iter_folder_files(self, folder: ScannedFolder) -> Iterator[ScannedFile]:
        """But those that are being written."""
        prefix = self._subfolder + b"/" if self._subfolder else b""
        for file in folder.list_files():
            if self._is_unstable(file):
                continue
            if prefix:
                sidecars = tuple(replace(s, path=prefix + s.path) for s in file.sidecars)
                yield replace(file, path=prefix + file.path, sidecars=sidecars)
            else:
                yield file

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
        self, records: Mapping[bytes, FileRecord], files: Iterable[ScannedFile], retry_failed: bool
    ) -> Comparison:
        return compare(
            records,
            files,
            retry_failed=retry_failed,
            texts_key=lambda file: self._texts.expected_texts_key(file, self._subfolder),
        )

    def _path_in_root(self, path: bytes) -> bytes:
        return b"/".join(part for part in (self._subfolder, path) if part)
