"""What there is below a folder, beside what is known: whole folders first, then file by file.

Every file's name, size and time are looked at in every run. A folder in which all of that is as a
former run left it, with nothing to do, passes whole; only the others are compared by file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256

from mmsearch.core.catalog import Catalog
from mmsearch.core.protocols import Walk
from mmsearch.core.records import KnownFile, KnownFolder, Root, SeenFile, SeenFolder
from mmsearch.core.requests import IndexRequest, Progress
from mmsearch.engine.file_texts import FileTexts
from mmsearch.engine.plan import Comparison, compare

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
        self._told = 0
        self._remembered = catalog.known_folders(root.id, below)
        self._passed: dict[bytes, KnownFolder] = {}
        # Of all others: their digests, and their files.
        self._digests: dict[bytes, bytes] = {}
        self._files: list[SeenFile] = []
        self._found = Comparison(0, 0, (), (), {})
        # Folders with files that were not looked at.
        self._unsettled: set[bytes] = set()

    def compare(self, walk: Walk) -> Comparison:
        """Compare what is there with what is known."""
        choice = self._texts.choice
        if self._request.include or self._request.exclude:
            # Patterns speak of paths below the folder of the request.
            choice += self._below
        count = 0
        for folder in walk:
            if count >= self._told + TELL_EVERY or not count:
                self._told = count
                self._progress(Progress("scan", count, None))
            path = self._in_root(folder.path)
            digest = sha256(choice + folder.digest).digest()
            before = self._remembered.get(path)
            if before is not None and before.digest == digest and self._may_pass(before):
                self._passed[path] = before
                count += before.pictures + before.failed
            else:
                self._digests[path] = digest
                files = len(self._files)
                self._files.extend(self._settled(path, folder))
                count += len(self._files) - files
        pictures = sum(folder.pictures for folder in self._passed.values())
        failed = sum(folder.failed for folder in self._passed.values())
        total = self._catalog.count_files(self._root.id, self._below)
        if self._files or total != pictures + failed:
            self.known = self._known()
        self._found = self._compare(self.known)
        return replace(
            self._found,
            unchanged=self._found.unchanged + pictures,
            still_failed=self._found.still_failed + failed,
        )

    def remember(self, *, changed: bool) -> None:
        """At the end of a run: note the folders in which nothing is left to do.

        Args:
            changed: Whether the run has changed what is known.
        """
        if self._texts.captions is not None:
            # What a table says is no part of what a walk sees.
            return
        folders = dict(self._passed)
        if self._digests and changed:
            known = self._known()
            folders |= self._finished(known, self._compare(known))
        elif self._digests:
            folders |= self._finished(self.known, self._found)
        if folders != self._remembered or changed:
            self._catalog.remember_folders(self._root.id, self._below, folders)

    def _finished(
        self, known: Mapping[bytes, KnownFile], found: Comparison
    ) -> dict[bytes, KnownFolder]:
        """Of the folders that were compared by file, those that would bring up nothing again."""
        unfinished = self._unsettled | {folder_of(path) for path in found.missing}
        unfinished |= {folder_of(file.path) for file in found.doubtful}
        unfinished |= {folder_of(file.path) for file, _ in found.retold}
        files = Counter(folder_of(path) for path in known)
        failed = Counter(folder_of(path) for path, file in known.items() if file.image_id is None)
        return {
            path: KnownFolder(digest, files[path] - failed[path], failed[path])
            for path, digest in self._digests.items()
            if path not in unfinished
        }

    def _may_pass(self, before: KnownFolder) -> bool:
        retried = self._request.retry_failed and before.failed
        return not retried and self._texts.captions is None

    def _settled(self, path: bytes, folder: SeenFolder) -> Iterator[SeenFile]:
        """The files of a folder but those that are being written, as paths in the root."""
        prefix = self._below + b"/" if self._below else b""
        unsettled = self._request.unsettled
        for file in folder.files():
            if unsettled and os.path.join(self._root.path, prefix + file.path) in unsettled:  # noqa: PTH118
                self._unsettled.add(path)
            elif prefix:
                sidecars = tuple(replace(s, path=prefix + s.path) for s in file.sidecars)
                yield replace(file, path=prefix + file.path, sidecars=sidecars)
            else:
                yield file

    def _known(self) -> Mapping[bytes, KnownFile]:
        return self._catalog.known_files(self._root.id, self._below, self._passed)

    def _compare(self, known: Mapping[bytes, KnownFile]) -> Comparison:
        return compare(
            known,
            self._files,
            retry_failed=self._request.retry_failed,
            texts_key=lambda file: self._texts.expected_key(file, self._below),
        )

    def _in_root(self, path: bytes) -> bytes:
        return b"/".join(part for part in (self._below, path) if part)


def folder_of(path: bytes) -> bytes:
    """Where a file lies, relative to its root."""
    return path.rpartition(b"/")[0]
