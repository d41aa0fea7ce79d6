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
from mmsearch.core.records import KnownFile, KnownFolder, Root, SeenFile, SeenFolder
from mmsearch.core.requests import IndexRequest, Progress
from mmsearch.indexing.diff import Comparison, Verdict, compare
from mmsearch.indexing.text_collector import FileTexts

TELL_EVERY = 1000
"""Files between two calls for progress."""


class Scan:
    """Compares the files of one run.

    Args:
        request: What to index.
        catalog: Open for writing.
        root: Covers the folder of the request.
        below: That folder, relative to the root.
        texts: Tells when the texts of files must be looked for again.
        progress: Receives how many files were seen.
    """

    def __init__(
        self,
        request: IndexRequest,
        catalog: Catalog,
        root: Root,
        below: bytes,
        texts: FileTexts,
        progress: Callable[[Progress], None],
    ) -> None:
        self.known: Mapping[bytes, KnownFile] = {}
        """By path; without files of folders that passed whole."""
        self._request = request
        self._catalog = catalog
        self._root = root
        self._below = below
        self._texts = texts
        self._progress = progress
        self._remembered = catalog.known_folders(root.id, below)
        self._passed: dict[bytes, KnownFolder] = {}
        # All others, by path, with a digest. Their files are made anew each time: those of a large
        # collection take more memory than all else in a run.
        self._compared: dict[bytes, tuple[bytes, SeenFolder]] = {}
        self._found = Comparison(b"", {})

    def compare(self, walk: Walk) -> Comparison:
        """Compare what is there with what is known; says nothing of folders that passed whole."""
        choice = self._texts.choice
        if self._request.include or self._request.exclude:
            # Patterns speak of paths below the folder of the request.
            choice += self._below
        count, told = 0, -TELL_EVERY
        for folder in walk:
            if count >= told + TELL_EVERY:
                self._progress(Progress("scan", count, None))
                told = count
            count += folder.count
            path = self._in_root(folder.path)
            digest = sha256(choice + folder.digest).digest()
            before = self._remembered.get(path)
            if before is not None and before.digest == digest and self._may_pass(before):
                self._passed[path] = before
            else:
                self._compared[path] = digest, folder
        total = self._catalog.count_files(self._root.id, self._below)
        if self._compared or total != self.pictures + self.failed:
            self.known = self._catalog.known_files(self._root.id, self._below, self._passed)
        self._found = self._compare(self.known, self._files(), self._request.retry_failed)
        return self._found

    @property
    def pictures(self) -> int:
        """Unchanged pictures in folders that passed whole."""
        return sum(folder.pictures for folder in self._passed.values())

    @property
    def failed(self) -> int:
        """Unchanged files in such folders that cannot be read."""
        return sum(folder.failed for folder in self._passed.values())

    def those(self, verdict: Verdict) -> Iterator[SeenFile]:
        """The files of which the comparison says that."""
        return self._found.those(verdict, self._files())

    def remember(self, *, changed: bool) -> None:
        """At the end of a run: note the folders in which nothing is left to do.

        Args:
            changed: Whether the run has changed what is known.
        """
        if self._texts.captions is not None:
            # What a table says is no part of what a walk sees.
            return
        folders = dict(self._passed)
        for path, (digest, folder) in self._compared.items():
            finished = self._finished(path, digest, folder)
            if finished is not None:
                folders[path] = finished
        if folders != self._remembered or changed:
            self._catalog.remember_folders(self._root.id, self._below, folders)

    def _finished(self, path: bytes, digest: bytes, folder: SeenFolder) -> KnownFolder | None:
        """A folder as it is remembered; None if a run would find something to do in it."""
        known = self._catalog.files_in(self._root.id, path)
        files = list(self._files_of(folder))
        found = self._compare(known, files, retry_failed=False)
        pictures, failed = found.count(Verdict.UNCHANGED), found.count(Verdict.STILL_FAILED)
        if found.missing or pictures + failed < len(files) or self._has_unsettled(folder):
            return None
        return KnownFolder(digest, pictures, failed)

    def _may_pass(self, before: KnownFolder) -> bool:
        retried = self._request.retry_failed and before.failed
        return not retried and self._texts.captions is None

    def _files(self) -> Iterator[SeenFile]:
        """Of all folders that did not pass, as paths in the root."""
        for _, folder in self._compared.values():
            yield from self._files_of(folder)

    def _files_of(self, folder: SeenFolder) -> Iterator[SeenFile]:
        """But those that are being written."""
        prefix = self._below + b"/" if self._below else b""
        for file in folder.files():
            if self._is_unsettled(file):
                continue
            if prefix:
                sidecars = tuple(replace(s, path=prefix + s.path) for s in file.sidecars)
                yield replace(file, path=prefix + file.path, sidecars=sidecars)
            else:
                yield file

    def _is_unsettled(self, file: SeenFile) -> bool:
        if not self._request.unsettled:
            return False
        path = os.path.join(self._root.path, self._in_root(file.path))  # noqa: PTH118
        return path in self._request.unsettled

    def _has_unsettled(self, folder: SeenFolder) -> bool:
        return bool(self._request.unsettled) and any(map(self._is_unsettled, folder.files()))

    def _compare(
        self, known: Mapping[bytes, KnownFile], files: Iterable[SeenFile], retry_failed: bool
    ) -> Comparison:
        return compare(
            known,
            files,
            retry_failed=retry_failed,
            texts_key=lambda file: self._texts.expected_key(file, self._below),
        )

    def _in_root(self, path: bytes) -> bytes:
        return b"/".join(part for part in (self._below, path) if part)
