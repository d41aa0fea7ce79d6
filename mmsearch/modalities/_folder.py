"""Walk a folder tree and list its files in order."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from mmsearch.core.errors import UsageError
from mmsearch.core.files import clamped_mtime_ns, os_error_reason
from mmsearch.core.globs import GlobError, Globs
from mmsearch.core.records import FailedFile, ScannedFile, ScannedFolder, Sidecar
from mmsearch.modalities._texts.pairing import SIDECAR_SUFFIXES, pair_sidecars

SYSTEM_FOLDERS = frozenset(
    {
        b"@eadir",
        b"#recycle",
        b"__macosx",
        b"$recycle.bin",
        b"system volume information",
        b"lost+found",
    }
)
"""Lower-case names of folders that are skipped like hidden ones."""


_NOT_A_FILE_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def walk(
    folder: bytes,
    *,
    can_read: Callable[[bytes], bool],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow_symlinks: bool = False,
    hidden: bool = False,
) -> FolderWalk:
    """List the files of a folder and of all folders below it.

    Args:
        folder: Absolute path of the folder.
        can_read: Returns True if a file of this name can be read.
        include: Case-insensitive .gitignore patterns; if given, a file must match one of them.
        exclude: Case-insensitive .gitignore patterns of files and whole folders to skip.
        follow_symlinks: Follow symbolic links to files and folders; each real folder is visited
            once.
        hidden: Include names that begin with a dot, and system folders.

    Returns:
        An iterable of `ScannedFolder`, with paths relative to ``folder``.

    Raises:
        UsageError: A pattern is invalid.
    """
    return FolderWalk(folder, can_read, include, exclude, follow_symlinks, hidden)


def _compile_globs(patterns: Sequence[str], folder: bytes) -> Globs | None:
    try:
        return Globs(patterns, folder) if patterns else None
    except GlobError as error:
        raise UsageError(str(error), "Use the pattern syntax of .gitignore.") from error


class FolderWalk:
    """A walk of one folder tree; see `mmsearch.core.protocols.Walk`.

    It never holds the whole tree in memory, only one listing and the folders still to visit.
    """

    def __init__(
        self,
        folder: bytes,
        can_read: Callable[[bytes], bool],
        include: Sequence[str],
        exclude: Sequence[str],
        follow_symlinks: bool,
        hidden: bool,
    ) -> None:
        self.unreadable: list[FailedFile] = []
        self._folder = folder
        self._claims = can_read
        self._include = _compile_globs(include, folder)
        self._exclude = _compile_globs(exclude, folder)
        self._follow_symlinks = follow_symlinks
        self._hidden = hidden
        self._options_key = repr((tuple(include), tuple(exclude), follow_symlinks, hidden)).encode()
        self._visited: set[tuple[int, int]] = set()

    def __iter__(self) -> Iterator[ScannedFolder]:
        self.unreadable = []
        self._visited = set()
        folders = [b""]
        while folders:
            relative = folders.pop()
            listing = self._scan_folder(relative)
            if listing is not None:
                folders.extend(reversed(listing.folders))
                files = partial(self._iter_files, relative, listing)
                digest = listing.digest(self._options_key)
                yield ScannedFolder(relative, digest, len(listing.sizes_and_times) // 2, files)

    def _scan_folder(self, relative: bytes) -> _FolderListing | None:
        """Return the listing of one folder, or None if it cannot be listed or was visited before.

        An unchanged folder needs only this listing, so the work per file is kept minimal.
        """
        path = os.path.join(self._folder, relative) if relative else self._folder  # noqa: PTH118
        try:
            if self._follow_symlinks and not self._mark_visited(path):
                return None
            with os.scandir(path) as entries, _open_dir_fd(path) as dir_fd:
                return self._read_entries(entries, dir_fd, relative)
        except OSError as error:
            self.unreadable.append(FailedFile(path, os_error_reason(error)))
            return None

    def _read_entries(
        self, entries: Iterator[os.DirEntry[bytes]], dir_fd: int | None, relative: bytes
    ) -> _FolderListing:
        names: list[bytes] = []
        sizes_and_times: list[int] = []
        folders: list[bytes] = []
        can_read, follow_symlinks, stat = self._claims, self._follow_symlinks, os.stat
        for entry in entries:
            name = entry.name
            try:
                if entry.is_file(follow_symlinks=follow_symlinks):
                    if can_read(name) or name.lower().endswith(SIDECAR_SUFFIXES):
                        target = entry.path if dir_fd is None else name
                        file_stat = stat(target, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
                        sizes_and_times += (file_stat.st_size, clamped_mtime_ns(file_stat))
                        names.append(name)
                elif entry.is_dir(follow_symlinks=follow_symlinks):
                    folder = relative + b"/" + name if relative else name
                    if self._includes_folder(name, folder):
                        folders.append(folder)
            except OSError as error:
                # Broken links, and files deleted while the folder is listed, are skipped.
                if error.errno not in _NOT_A_FILE_ERRNOS:
                    self.unreadable.append(FailedFile(entry.path, os_error_reason(error)))
        return _FolderListing(b"/".join(names), array("q", sizes_and_times), sorted(folders))

    def _iter_files(self, relative: bytes, listing: _FolderListing) -> Iterator[ScannedFile]:
        prefix = relative + b"/" if relative else b""
        positions = {name: position for position, name in enumerate(listing.split())}
        # A picture that is not included keeps its sidecars, too.
        pairs = pair_sidecars(
            [name for name in positions if self._claims(name)],
            [name for name in positions if name.lower().endswith(SIDECAR_SUFFIXES)],
        )
        for name in sorted(positions):
            if self._includes_file(name, prefix + name):
                sidecars = tuple(
                    Sidecar(prefix + sidecar, *listing.size_and_time(positions[sidecar]))
                    for sidecar in pairs.get(name, ())
                )
                yield ScannedFile(prefix + name, *listing.size_and_time(positions[name]), sidecars)

    def _mark_visited(self, path: bytes) -> bool:
        """Return True if the real folder is visited for the first time."""
        folder_stat = os.stat(path)  # noqa: PTH116 - bytes paths need os
        key = (folder_stat.st_dev, folder_stat.st_ino)
        if key in self._visited:
            return False
        self._visited.add(key)
        return True

    def _includes_folder(self, name: bytes, relative: bytes) -> bool:
        if not self._hidden and (name.startswith(b".") or name.lower() in SYSTEM_FOLDERS):
            return False
        return self._exclude is None or not self._exclude.matches(os.fsdecode(relative) + "/")

    def _includes_file(self, name: bytes, relative: bytes) -> bool:
        if not self._claims(name) or (not self._hidden and name.startswith(b".")):
            return False
        if self._exclude is None and self._include is None:
            return True
        path = os.fsdecode(relative)
        if self._exclude is not None and self._exclude.matches(path):
            return False
        return self._include is None or self._include.matches(path)


@dataclass(frozen=True)
class _FolderListing:
    """The relevant files of one folder and the subfolders to visit.

    Attributes:
        names: Names of pictures and sidecars, joined by slashes in the order of the file system.
            That order is stable while the folder is unchanged, and sorting would take longer than
            everything else that is done with the names.
        sizes_and_times: Size in bytes and modification time in nanoseconds of each file,
            alternating.
        folders: Paths of the subfolders relative to the root of the walk, sorted.
    """

    names: bytes
    sizes_and_times: array[int]
    folders: list[bytes]

    def split(self) -> list[bytes]:
        """Return the names as a list."""
        return self.names.split(b"/") if self.sizes_and_times else []

    def size_and_time(self, position: int) -> tuple[int, int]:
        """Return the size and modification time of one file."""
        return self.sizes_and_times[2 * position], self.sizes_and_times[2 * position + 1]

    def digest(self, options_key: bytes) -> bytes:
        """Return a digest of the walk options and of all names, sizes and times."""
        # The slashes are unambiguous: no file name contains one.
        hasher = sha256(options_key)
        hasher.update(b"/%d/" % len(self.sizes_and_times) + self.names)
        hasher.update(self.sizes_and_times)
        return hasher.digest()


@contextmanager
def _open_dir_fd(path: bytes) -> Iterator[int | None]:
    """Open a folder for lookups relative to it, which are faster than lookups of full paths.

    Yields None on systems that do not support this.
    """
    if os.stat not in os.supports_dir_fd:
        yield None
        return
    dir_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield dir_fd
    finally:
        os.close(dir_fd)
