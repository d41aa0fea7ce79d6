"""Small files that are kept on disk up to a limit: those that were used longest ago go first."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mmsearch.core.files import create_folder, open_regular_file

BLOCK = 4096
"""Bytes: files take whole blocks of a disk."""

LEFT = 0.9
"""Of the limit is left when files are removed, so that it need not be done for each new one."""

UNCOUNTED = 1 / 16
"""Of the limit may be written before the folder is counted again: others write there, too."""

USED_AGAIN_S = 60.0
"""A use is noted if the last one was longer ago."""

UNFINISHED = ".unfinished-"
"""Files that are being written begin so."""

UNFINISHED_S = 3600.0
"""Nobody is writing to one that is older."""


class KeptFiles:
    """Files by name. Threads and processes may share the folder.

    Nobody locks anything: each file is read or written at once, whoever removes files removes the
    same ones, and anything in the folder may be deleted at any time. When a file was used is its
    access time, which is set here, for file systems keep none or a rough one.

    Args:
        folder: Holds nothing else.
        limit_bytes: Room that all files together may take on the disk; while processes write at
            the same time, each may exceed it by a sixteenth. 0: nothing is kept, and what an
            earlier program left there is not used.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._counting = threading.Lock()
        self._counted: int | None = None
        self._written = 0

    def get(self, name: str) -> bytes | None:
        """The content of a file; None if it is not kept."""
        if not self._limit:
            return None
        path = self._path(name)
        try:
            with open_regular_file(path, follow_links=False) as file:
                content, facts = file.read(), os.fstat(file.fileno())
        except OSError:
            return None
        now_ns = time.time_ns()
        if now_ns - facts.st_atime_ns > USED_AGAIN_S * 1e9:
            with suppress(OSError):
                os.utime(path, ns=(now_ns, facts.st_mtime_ns))
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keep a file, and remove others if it must be.

        Args:
            name: Of a file; its first two characters name the folder that it is put in.
            content: Whole.

        Raises:
            OSError: It cannot be written.
        """
        room = _room(len(content))
        if room > self._limit:
            return
        path = self._path(name)
        create_folder(self._folder)
        create_folder(path.parent)
        _write(path, content)
        with self._counting:
            self._written += room
            if self._is_due():
                self._counted, self._written = self._shrunk(), 0

    def _is_due(self) -> bool:
        if self._counted is None or self._written > UNCOUNTED * self._limit:
            return True
        return self._counted + self._written > self._limit

    def _shrunk(self) -> int:
        """Remove what is too much; the bytes that are left."""
        files = sorted(self._files())
        left = sum(room for _, room, _ in files)
        if left <= self._limit:
            return left
        written_ns = time.time_ns() - UNFINISHED_S * 1e9
        for used_ns, room, path in files:
            if left <= LEFT * self._limit:
                break
            if path.name.startswith(UNFINISHED) and used_ns > written_ns:
                continue
            # Somebody else was faster, or reads it where that forbids it.
            with suppress(OSError):
                path.unlink()
            left -= room
        return left

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """When each was used, the room that it takes, and where it is; others are left alone."""
        for path in self._folder.glob("??/*"):
            with suppress(OSError):
                facts = path.lstat()
                own = path.name.startswith((path.parent.name, UNFINISHED))
                if own and stat.S_ISREG(facts.st_mode) and not path.parent.is_symlink():
                    yield facts.st_atime_ns, _room(facts.st_size), path

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


def _room(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=UNFINISHED, delete=False) as file:
        unfinished = Path(file.name)
        try:
            file.write(content)
            file.close()
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
