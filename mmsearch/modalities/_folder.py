"""The files below a folder, in order, as they are met."""

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
from mmsearch.modalities._texts.sidecar import SUFFIXES, find_sidecars

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
        folder: Absolute.
        can_read: Says by its name whether a file is of a kind that is read.
        include: Patterns as in .gitignore, without regard to case; a file must match one, if any.
        exclude: Patterns as in .gitignore; what matches is left out, folders with all below them.
        follow_symlinks: Take linked files, and enter linked folders, each real folder once.
        hidden: Take what begins with a dot, and folders that belong to the system.

    Returns:
        An iterable of `ScannedFolder`, with paths relative to ``folder``.

    Raises:
        UsageError: A pattern that makes no sense.
    """
    return FolderWalk(folder, can_read, include, exclude, follow_symlinks, hidden)


def _compile_globs(patterns: Sequence[str]) -> Globs | None:
    try:
        return Globs(patterns) if patterns else None
    except GlobError as error:
        raise UsageError(str(error), "Patterns are those of .gitignore.") from error


class FolderWalk:
    """See `mmsearch.core.protocols.Walk`. Holds one listing a level, not the whole tree."""

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
        self._include = _compile_globs(include)
        self._exclude = _compile_globs(exclude)
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
        """One folder; None if it cannot be listed, or is met again.

        What is unchanged costs no more than this: nothing here looks at a file longer than it must.
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
                    if can_read(name) or name.lower().endswith(SUFFIXES):
                        target = entry.path if dir_fd is None else name
                        file_stat = stat(target, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
                        sizes_and_times += (file_stat.st_size, clamped_mtime_ns(file_stat))
                        names.append(name)
                elif entry.is_dir(follow_symlinks=follow_symlinks):
                    folder = relative + b"/" + name if relative else name
                    if self._includes_folder(name, folder):
                        folders.append(folder)
            except OSError as error:
                # A broken link, or a file that vanished while the folder was listed, is no file.
                if error.errno not in _NOT_A_FILE_ERRNOS:
                    self.unreadable.append(FailedFile(entry.path, os_error_reason(error)))
        return _FolderListing(b"/".join(names), array("q", sizes_and_times), sorted(folders))

    def _iter_files(self, relative: bytes, listing: _FolderListing) -> Iterator[ScannedFile]:
        prefix = relative + b"/" if relative else b""
        ordered = sorted((name, position) for position, name in enumerate(listing.split()))
        sidecar_positions = {
            name.lower(): (name, position)
            for name, position in ordered
            if name.lower().endswith(SUFFIXES)
        }
        for name, position in ordered:
            if self._includes_file(name, prefix + name):
                sidecar_names = find_sidecars(name, sidecar_positions) if sidecar_positions else ()
                sidecars = tuple(
                    Sidecar(
                        prefix + sidecar_positions[lower][0],
                        *listing.size_and_time(sidecar_positions[lower][1]),
                    )
                    for lower in sidecar_names
                )
                yield ScannedFile(prefix + name, *listing.size_and_time(position), sidecars)

    def _mark_visited(self, path: bytes) -> bool:
        """Whether a real folder is met for the first time."""
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
    """Of one folder: the files that may matter, by name, and the folders that are entered.

    Attributes:
        names: Of pictures, and of what may say something of them, with a slash between two; as the
            file system lists them: in one order as long as a folder stays as it is, and sorting
            them would take longer than all else that is done with them.
        sizes_and_times: Size and time of each, one after the other.
        folders: Relative to where the walk began.
    """

    names: bytes
    sizes_and_times: array[int]
    folders: list[bytes]

    def split(self) -> list[bytes]:
        """The names, one by one."""
        return self.names.split(b"/") if self.sizes_and_times else []

    def size_and_time(self, position: int) -> tuple[int, int]:
        """Size and time of one file."""
        return self.sizes_and_times[2 * position], self.sizes_and_times[2 * position + 1]

    def digest(self, options_key: bytes) -> bytes:
        """Of all that the files which the walk gives follow from. No name holds a slash."""
        hasher = sha256(options_key)
        hasher.update(b"/%d/" % len(self.sizes_and_times) + self.names)
        hasher.update(self.sizes_and_times)
        return hasher.digest()


@contextmanager
def _open_dir_fd(path: bytes) -> Iterator[int | None]:
    """An open folder, below which files are found sooner than by their whole paths."""
    if os.stat not in os.supports_dir_fd:
        yield None
        return
    dir_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield dir_fd
    finally:
        os.close(dir_fd)
