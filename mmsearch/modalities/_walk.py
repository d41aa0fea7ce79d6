"""The files below a folder, in order, as they are met."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

import pathspec

from mmsearch.core.errors import UsageError
from mmsearch.core.files import reason_of
from mmsearch.core.records import FailedFile, SeenFile, Sidecar
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
        claims: Says by its path whether a file is of a kind that is read.
        include: Patterns as in .gitignore, without regard to case; a file must match one, if any.
        exclude: Patterns as in .gitignore; what matches is left out, folders with all below them.
        follow_symlinks: Take linked files, and enter linked folders, each real folder once.
        hidden: Take what begins with a dot, and folders that belong to the system.

    Returns:
        An iterable of `SeenFile`, with paths relative to ``folder``.

    Raises:
        UsageError: A pattern that makes no sense.
    """
    return FolderWalk(
        folder, claims, _patterns(include), _patterns(exclude), follow_symlinks, hidden
    )


def _patterns(globs: Sequence[str]) -> pathspec.GitIgnoreSpec | None:
    for glob in globs:
        try:
            pathspec.GitIgnoreSpec.from_lines([_comparable(glob)])
        except (ValueError, re.error) as error:
            raise UsageError(
                f"{glob!r} is not a pattern of file names.", "Patterns are those of .gitignore."
            ) from error
    return pathspec.GitIgnoreSpec.from_lines(map(_comparable, globs)) if globs else None


class FolderWalk:
    """See `mmsearch.core.protocols.Walk`. Holds one listing a level, not the whole tree."""

    def __init__(
        self,
        folder: bytes,
        claims: Callable[[bytes], bool],
        include: pathspec.GitIgnoreSpec | None,
        exclude: pathspec.GitIgnoreSpec | None,
        follow_symlinks: bool,
        hidden: bool,
    ) -> None:
        self.unreadable: list[FailedFile] = []
        self._folder = folder
        self._claims = claims
        self._include = include
        self._exclude = exclude
        self._follow = follow_symlinks
        self._hidden = hidden
        self._entered: set[tuple[int, int]] = set()

    def __iter__(self) -> Iterator[SeenFile]:
        self.unreadable = []
        self._entered = set()
        folders = [b""]
        while folders:
            relative = folders.pop()
            below: list[bytes] = []
            yield from self._files(relative, below)
            folders.extend(reversed(below))

    def _files(self, relative: bytes, below: list[bytes]) -> Iterator[SeenFile]:
        """The files of one folder; its folders are added to ``below``."""
        path = os.path.join(self._folder, relative) if relative else self._folder  # noqa: PTH118
        try:
            if self._follow and not self._enter(path):
                return
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            self.unreadable.append(FailedFile(path, reason_of(error)))
            return
        beside = {
            entry.name.lower(): entry for entry in entries if entry.name.lower().endswith(SUFFIXES)
        }
        for entry in entries:
            name = relative + b"/" + entry.name if relative else entry.name
            # A broken link, or a file that vanished while the folder was listed, is no file.
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=self._follow):
                    if self._wants_folder(entry.name, name):
                        below.append(name)
                elif self._wants_file(entry.name, name):
                    facts = entry.stat(follow_symlinks=self._follow)
                    if stat.S_ISREG(facts.st_mode):
                        sidecars = self._sidecars(relative, entry.name, beside)
                        yield SeenFile(name, facts.st_size, facts.st_mtime_ns, sidecars)

    def _sidecars(
        self, relative: bytes, picture: bytes, beside: Mapping[bytes, os.DirEntry[bytes]]
    ) -> tuple[Sidecar, ...]:
        """The files beside a picture that may hold texts of it, by path."""
        found = []
        for lower in sidecars_of(picture, beside):
            # As with pictures: what is gone by now, or is no file, says nothing.
            with suppress(OSError):
                facts = beside[lower].stat(follow_symlinks=self._follow)
                if stat.S_ISREG(facts.st_mode):
                    name = beside[lower].name
                    path = relative + b"/" + name if relative else name
                    found.append(Sidecar(path, facts.st_size, facts.st_mtime_ns))
        return tuple(found)

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
        return self._exclude is None or not self._exclude.match_file(_pattern_path(relative) + "/")

    def _wants_file(self, name: bytes, relative: bytes) -> bool:
        if not self._claims(relative) or (not self._hidden and name.startswith(b".")):
            return False
        path = _pattern_path(relative)
        if self._exclude is not None and self._exclude.match_file(path):
            return False
        return self._include is None or self._include.match_file(path)


def _pattern_path(relative: bytes) -> str:
    return _comparable(os.fsdecode(relative))


def _comparable(text: str) -> str:
    """Without regard to case; pathspec takes a line break for the end of a path."""
    return text.lower().replace("\n", "\ue000")
