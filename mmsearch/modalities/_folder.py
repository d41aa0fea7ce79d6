"""Walk a folder tree and list its files in order."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from mmsearch.core.errors import UsageError
from mmsearch.core.files import (
    clamped_ctime_ns,
    clamped_mtime_ns,
    os_error_reason,
    special_file_kind,
)
from mmsearch.core.folder_choices import WalkOptions, is_hidden_folder
from mmsearch.core.globs import GlobError, Globs
from mmsearch.core.protocols import Modality
from mmsearch.core.records import FailedFile, ScannedFile, ScannedFolder, Sidecar, SkippedFile
from mmsearch.modalities._contents import STATS, Contents, FolderExaminer, Recall
from mmsearch.modalities._other_files import (
    BROKEN_LINK,
    EXCLUDED,
    EXCLUDED_FOLDER,
    HIDDEN,
    HIDDEN_FOLDER,
    INDEX_FOLDER,
    LINK,
    NOT_A_PICTURE,
    SYSTEM_FOLDER,
    missing_extra_reason,
    replaces_picture,
)

WALK_VERSION = 2
"""Version of the walk; raised when it finds other files, so that folders are examined again."""

_INDEX_FILE = b"catalog.sqlite"
_NOT_A_FILE_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR})


def walk(
    folder: bytes,
    *,
    modalities: Sequence[Modality],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow_symlinks: bool = False,
    hidden: bool = False,
    options: Mapping[bytes, WalkOptions] | None = None,
    recall: Recall = lambda path, size, mtime_ns: None,
) -> FolderWalk:
    """List the files of a folder and of all folders below it.

    A file is a picture if a modality reads files of its name, or recognizes its first bytes.

    Args:
        folder: Absolute path of the folder.
        modalities: Readers of pictures.
        include: Case-insensitive .gitignore patterns; if given, a file must match one of them.
        exclude: Case-insensitive .gitignore patterns of files and whole folders to skip.
        follow_symlinks: Follow symbolic links to files and folders; each real folder is visited
            once.
        hidden: Include names that begin with a dot, and system folders.
        options: Options of folders by relative path, in place of the four above; each holds for all
            folders below up to one with its own options. Such a folder is always visited.
        recall: Returns what an earlier walk found, so that files are not opened again.

    Returns:
        An iterable of `ScannedFolder`, with paths relative to ``folder``.

    Raises:
        UsageError: A pattern is invalid.
    """
    own = WalkOptions(
        tuple(include),
        tuple(exclude),
        follow_symlinks,
        hidden,
        include_base=folder,
        exclude_base=folder,
    )
    return FolderWalk(folder, modalities, {b"": own, **(options or {})}, recall)


class _Rules:
    """The options of a walk for one folder and those below it.

    Args:
        options: The options.
        folder: Absolute path of the start of the walk.
        key: What else determines the result of a walk.
    """

    def __init__(self, options: WalkOptions, folder: bytes, key: tuple[object, ...]) -> None:
        self.follow_symlinks = options.follow_symlinks
        self.hidden = options.hidden
        self._include = _Patterns(options.include, options.include_base, folder)
        self._exclude = _Patterns(options.exclude, options.exclude_base, folder)
        patterns = (self._include.key, self._exclude.key)
        self.key = repr((WALK_VERSION, patterns, self.follow_symlinks, self.hidden, *key)).encode()

    def folder_omission(self, name: bytes, relative: bytes) -> str | None:
        """Return the reason not to visit a folder; None for a folder to visit."""
        if not self.hidden and is_hidden_folder(name):
            return HIDDEN_FOLDER if name.startswith(b".") else SYSTEM_FOLDER
        return EXCLUDED_FOLDER if self._exclude.matches(relative + b"/") else None

    def file_omission(self, name: bytes, relative: bytes) -> str | None:
        """Return the reason to leave out a file of any kind; None if it has to be examined."""
        if not self.hidden and name.startswith(b"."):
            return HIDDEN
        if self._exclude.matches(relative):
            return EXCLUDED
        return EXCLUDED if self._include.key and not self._include.matches(relative) else None


class _Patterns:
    """Patterns that are relative to a folder at, above or below the start of a walk."""

    def __init__(self, patterns: Sequence[str], base: bytes, folder: bytes) -> None:
        self.key = (tuple(patterns), base) if patterns else ()
        self._start, self._skipped = "", 0
        if len(base) < len(folder):
            self._start = os.fsdecode(folder[len(base) :].lstrip(b"/") + b"/")
        elif len(base) > len(folder):
            self._skipped = len(os.fsdecode(base[len(folder) :].lstrip(b"/"))) + 1
        try:
            self._globs = Globs(patterns, base) if patterns else None
        except GlobError as error:
            raise UsageError(str(error), "Use the pattern syntax of .gitignore.") from error

    def matches(self, relative: bytes) -> bool:
        """Return True if a path matches that is relative to the start of the walk."""
        if self._globs is None:
            return False
        return self._globs.matches(self._start + os.fsdecode(relative)[self._skipped :])


class FolderWalk:
    """A walk of one folder tree; see `mmsearch.core.protocols.Walk`.

    It never holds the whole tree in memory, only one listing and the folders still to visit.
    """

    def __init__(
        self,
        folder: bytes,
        modalities: Sequence[Modality],
        options: Mapping[bytes, WalkOptions],
        recall: Recall,
    ) -> None:
        self.unreadable: list[FailedFile] = []
        self._folder = folder
        # Finding out whether an extra is installed takes long.
        extras = [modality.missing_extra for modality in modalities]
        pairs = list(zip(modalities, extras, strict=True))
        self._readers = [modality for modality, extra in pairs if extra is None]
        self._missing = [
            (modality, missing_extra_reason(extra))
            for modality, extra in pairs
            if extra is not None
        ]
        self._recall = recall
        kinds = [type(modality).__qualname__ for modality in modalities]
        self._rules = {
            path: _Rules(own, folder, (kinds, extras)) for path, own in sorted(options.items())
        }
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
                yield ScannedFolder(
                    relative,
                    listing.digest(self._rules_of(relative).key),
                    len(listing.stats) // STATS,
                    partial(self._iter_files, relative, listing),
                    partial(self._iter_skipped, relative, listing),
                )

    def _scan_folder(self, relative: bytes) -> _FolderListing | None:
        """Return the listing of one folder, or None if it cannot be listed or was visited before.

        An unchanged folder needs only this listing, so the work per file is kept minimal.
        """
        path = os.path.join(self._folder, relative) if relative else self._folder  # noqa: PTH118
        try:
            if self._rules_of(relative).follow_symlinks and not self._mark_visited(path):
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
        stats: list[int] = []
        folders: list[bytes] = []
        omitted: dict[bytes, str] = {}
        rules, stat = self._rules_of(relative), os.stat
        follow_symlinks = rules.follow_symlinks
        for entry in entries:
            name = entry.name
            try:
                if entry.is_file(follow_symlinks=follow_symlinks):
                    target = entry.path if dir_fd is None else name
                    file_stat = stat(target, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
                    stats += (
                        file_stat.st_size,
                        clamped_mtime_ns(file_stat),
                        clamped_ctime_ns(file_stat),
                    )
                    names.append(name)
                elif entry.is_dir(follow_symlinks=follow_symlinks):
                    folder = relative + b"/" + name if relative else name
                    reason = None
                    if folder not in self._rules:
                        reason = rules.folder_omission(name, folder)
                    if reason is None:
                        folders.append(folder)
                    else:
                        omitted[name] = reason
                        folders += self._visited_below(folder)
                else:
                    omitted[name] = _special_reason(entry, follow_symlinks=follow_symlinks)
            except OSError as error:
                # Files deleted while the folder is listed need no reason.
                if error.errno == errno.ELOOP:
                    omitted[name] = BROKEN_LINK
                elif error.errno not in _NOT_A_FILE_ERRNOS:
                    self.unreadable.append(FailedFile(entry.path, os_error_reason(error)))
        if _INDEX_FILE in names and os.path.join(relative, b"segments") in folders:  # noqa: PTH118
            # Its files change in every run.
            return _FolderListing(b"", array("q"), [], {_INDEX_FILE: INDEX_FOLDER})
        return _FolderListing(b"/".join(names), array("q", stats), sorted(folders), omitted)

    def _iter_files(self, relative: bytes, listing: _FolderListing) -> Iterator[ScannedFile]:
        prefix = relative + b"/" if relative else b""
        names = listing.split()
        for position, sidecar_positions in self._examine(prefix, listing).iter_pictures():
            size, mtime_ns, ctime_ns = listing.stat(position)
            sidecars = tuple(
                Sidecar(prefix + names[sidecar], *listing.stat(sidecar))
                for sidecar in sidecar_positions
            )
            yield ScannedFile(prefix + names[position], size, mtime_ns, sidecars, ctime_ns)

    def _iter_skipped(self, relative: bytes, listing: _FolderListing) -> Iterator[SkippedFile]:
        prefix = relative + b"/" if relative else b""
        names = listing.split()
        contents = self._examine(prefix, listing)
        for position, reason in zip(contents.skipped, contents.reasons, strict=True):
            size, mtime_ns, _ = listing.stat(position)
            yield SkippedFile(
                prefix + names[position], reason, size, mtime_ns, replaces_picture(reason)
            )
        for name, reason in sorted(listing.omitted.items()):
            yield SkippedFile(prefix + name, reason)

    def _examine(self, prefix: bytes, listing: _FolderListing) -> Contents:
        """Return which files of a listing are pictures; unknown files are opened only once."""
        if listing.contents is None:
            rules = self._rules_of(prefix[:-1])
            listing.contents = FolderExaminer(
                self._readers,
                self._missing,
                lambda name, size, mtime_ns: self._recall(prefix + name, size, mtime_ns),
                lambda name: rules.file_omission(name, prefix + name),
                os.path.join(self._folder, prefix),  # noqa: PTH118 - bytes paths need os
                listing.split(),
                listing.stats,
            ).examine()
        return listing.contents

    def _mark_visited(self, path: bytes) -> bool:
        """Return True if the real folder is visited for the first time."""
        folder_stat = os.stat(path)  # noqa: PTH116 - bytes paths need os
        key = (folder_stat.st_dev, folder_stat.st_ino)
        if key in self._visited:
            return False
        self._visited.add(key)
        return True

    def _rules_of(self, relative: bytes) -> _Rules:
        """Return the options of a folder: its own, or those of the nearest folder above."""
        if len(self._rules) == 1:
            return self._rules[b""]
        while relative not in self._rules:
            relative = relative.rpartition(b"/")[0]
        return self._rules[relative]

    def _visited_below(self, omitted: bytes) -> list[bytes]:
        """Return the existing folders with their own options below one that is not visited."""
        below = [path for path in self._rules if path.startswith(omitted + b"/")]
        outermost = [
            path for path in below if not any(path.startswith(other + b"/") for other in below)
        ]
        return [path for path in outermost if os.path.isdir(os.path.join(self._folder, path))]  # noqa: PTH112, PTH118


def _special_reason(entry: os.DirEntry[bytes], *, follow_symlinks: bool) -> str:
    if entry.is_symlink() and not follow_symlinks:
        return LINK
    try:
        return special_file_kind(entry.stat().st_mode) or NOT_A_PICTURE
    except FileNotFoundError:
        return BROKEN_LINK


@dataclass
class _FolderListing:
    """The files of one folder and the subfolders to visit.

    Attributes:
        names: Names of files, joined by slashes in the order of the file system. That order is
            stable while the folder is unchanged, and sorting would take longer than everything
            else that is done with the names.
        stats: Size in bytes, modification time and change time in nanoseconds of each file, one
            after the other.
        folders: Paths of the subfolders relative to the root of the walk, sorted.
        omitted: Links, special files and folders that are not visited, with the reasons.
        contents: Which files are pictures; None until that is needed.
    """

    names: bytes
    stats: array[int]
    folders: list[bytes]
    omitted: dict[bytes, str]
    contents: Contents | None = None

    def split(self) -> list[bytes]:
        """Return the names as a list."""
        return self.names.split(b"/") if self.stats else []

    def stat(self, position: int) -> tuple[int, int, int]:
        """Return the size, the modification time and the change time of one file."""
        size, mtime_ns, ctime_ns = self.stats[STATS * position : STATS * (position + 1)]
        return size, mtime_ns, ctime_ns

    def digest(self, options_key: bytes) -> bytes:
        """Return a digest of the walk options and of all names, sizes and times."""
        # The slashes are unambiguous: no file name contains one.
        hasher = sha256(options_key)
        hasher.update(b"/%d/" % len(self.stats) + self.names)
        hasher.update(self.stats)
        hasher.update(repr(sorted(self.omitted.items())).encode())
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
