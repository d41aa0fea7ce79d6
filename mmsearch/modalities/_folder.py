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
from mmsearch.core.files import reason_of, stored_mtime_ns
from mmsearch.core.globs import GlobError, Globs
from mmsearch.core.records import FailedFile, SeenFile, SeenFolder, Sidecar
from mmsearch.modalities._texts.sidecar import SUFFIXES, sidecars_of

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


_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


def walk(
    folder: bytes,
    *,
    claims: Callable[[bytes], bool],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow_symlinks: bool = False,
    hidden: bool = False,
) -> FolderWalk:
    """List the files of a folder and of all folders below it.

    Args:
        folder: Absolute.
        claims: Says by its name whether a file is of a kind that is read.
        include: Patterns as in .gitignore, without regard to case; a file must match one, if any.
        exclude: Patterns as in .gitignore; what matches is left out, folders with all below them.
        follow_symlinks: Take linked files, and enter linked folders, each real folder once.
        hidden: Take what begins with a dot, and folders that belong to the system.

    Returns:
        An iterable of `SeenFolder`, with paths relative to ``folder``.

    Raises:
        UsageError: A pattern that makes no sense.
    """
    return FolderWalk(folder, claims, include, exclude, follow_symlinks, hidden)


def _globs(patterns: Sequence[str]) -> Globs | None:
    try:
        return Globs(patterns) if patterns else None
    except GlobError as error:
        raise UsageError(str(error), "Patterns are those of .gitignore.") from error


class FolderWalk:
    """See `mmsearch.core.protocols.Walk`. Holds one listing a level, not the whole tree."""

    def __init__(
        self,
        folder: bytes,
        claims: Callable[[bytes], bool],
        include: Sequence[str],
        exclude: Sequence[str],
        follow_symlinks: bool,
        hidden: bool,
    ) -> None:
        self.unreadable: list[FailedFile] = []
        self._folder = folder
        self._claims = claims
        self._include = _globs(include)
        self._exclude = _globs(exclude)
        self._follow = follow_symlinks
        self._hidden = hidden
        self._choice = repr((tuple(include), tuple(exclude), follow_symlinks, hidden)).encode()
        self._entered: set[tuple[int, int]] = set()

    def __iter__(self) -> Iterator[SeenFolder]:
        self.unreadable = []
        self._entered = set()
        folders = [b""]
        while folders:
            relative = folders.pop()
            listing = self._list(relative)
            if listing is not None:
                folders.extend(reversed(listing.folders))
                files = partial(self._files, relative, listing)
                digest = listing.digest(self._choice)
                yield SeenFolder(relative, digest, len(listing.facts) // 2, files)

    def _list(self, relative: bytes) -> _Listing | None:
        """One folder; None if it cannot be listed, or is met again.

        What is unchanged costs no more than this: nothing here looks at a file longer than it must.
        """
        path = os.path.join(self._folder, relative) if relative else self._folder  # noqa: PTH118
        try:
            if self._follow and not self._enter(path):
                return None
            with os.scandir(path) as entries, _place(path) as place:
                return self._read(entries, place, relative)
        except OSError as error:
            self.unreadable.append(FailedFile(path, reason_of(error)))
            return None

    def _read(
        self, entries: Iterator[os.DirEntry[bytes]], place: int | None, relative: bytes
    ) -> _Listing:
        names: list[bytes] = []
        pairs: list[int] = []
        folders: list[bytes] = []
        claims, follow, look = self._claims, self._follow, os.stat
        for entry in entries:
            name = entry.name
            try:
                if entry.is_file(follow_symlinks=follow):
                    if claims(name) or name.lower().endswith(SUFFIXES):
                        where = entry.path if place is None else name
                        facts = look(where, dir_fd=place, follow_symlinks=follow)
                        pairs += (facts.st_size, stored_mtime_ns(facts))
                        names.append(name)
                elif entry.is_dir(follow_symlinks=follow):
                    folder = relative + b"/" + name if relative else name
                    if self._wants_folder(name, folder):
                        folders.append(folder)
            except OSError as error:
                # A broken link, or a file that vanished while the folder was listed, is no file.
                if error.errno not in _NO_FILE:
                    self.unreadable.append(FailedFile(entry.path, reason_of(error)))
        return _Listing(b"/".join(names), array("q", pairs), sorted(folders))

    def _files(self, relative: bytes, listing: _Listing) -> Iterator[SeenFile]:
        prefix = relative + b"/" if relative else b""
        ordered = sorted((name, at) for at, name in enumerate(listing.split()))
        beside = {
            name.lower(): (name, at) for name, at in ordered if name.lower().endswith(SUFFIXES)
        }
        for name, at in ordered:
            if self._wants_file(name, prefix + name):
                around = sidecars_of(name, beside) if beside else ()
                sidecars = tuple(
                    Sidecar(prefix + beside[lower][0], *listing.facts_of(beside[lower][1]))
                    for lower in around
                )
                yield SeenFile(prefix + name, *listing.facts_of(at), sidecars)

    def _enter(self, path: bytes) -> bool:
        """Whether a real folder is met for the first time."""
        facts = os.stat(path)  # noqa: PTH116 - bytes paths need os
        key = (facts.st_dev, facts.st_ino)
        if key in self._entered:
            return False
        self._entered.add(key)
        return True

    def _wants_folder(self, name: bytes, relative: bytes) -> bool:
        if not self._hidden and (name.startswith(b".") or name.lower() in SYSTEM_FOLDERS):
            return False
        return self._exclude is None or not self._exclude.matches(os.fsdecode(relative) + "/")

    def _wants_file(self, name: bytes, relative: bytes) -> bool:
        if not self._claims(name) or (not self._hidden and name.startswith(b".")):
            return False
        if self._exclude is None and self._include is None:
            return True
        path = os.fsdecode(relative)
        if self._exclude is not None and self._exclude.matches(path):
            return False
        return self._include is None or self._include.matches(path)


@dataclass(frozen=True)
class _Listing:
    """Of one folder: the files that may matter, by name, and the folders that are entered.

    Attributes:
        names: Of pictures, and of what may say something of them, with a slash between two; as the
            file system lists them: in one order as long as a folder stays as it is, and sorting
            them would take longer than all else that is done with them.
        facts: Size and time of each, one after the other.
        folders: Relative to where the walk began.
    """

    names: bytes
    facts: array[int]
    folders: list[bytes]

    def split(self) -> list[bytes]:
        """The names, one by one."""
        return self.names.split(b"/") if self.facts else []

    def facts_of(self, at: int) -> tuple[int, int]:
        """Size and time of one file."""
        return self.facts[2 * at], self.facts[2 * at + 1]

    def digest(self, choice: bytes) -> bytes:
        """Of all that the files which the walk gives follow from. No name holds a slash."""
        found = sha256(choice)
        found.update(b"/%d/" % len(self.facts) + self.names)
        found.update(self.facts)
        return found.digest()


@contextmanager
def _place(path: bytes) -> Iterator[int | None]:
    """An open folder, below which files are found sooner than by their whole paths."""
    if os.stat not in os.supports_dir_fd:
        yield None
        return
    place = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield place
    finally:
        os.close(place)
