"""Choices of indexed folders: which files count, tables of captions, and texts of models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mmsearch.core.errors import UsageError
from mmsearch.core.globs import GlobError, Globs, escape_glob

if TYPE_CHECKING:
    from mmsearch.core.records import SourceRecord

LISTS: Final = ("include", "exclude")
FLAGS: Final = ("hidden", "follow_symlinks")
CAPTIONS: Final = "captions"
DESCRIBE: Final = "describe"
"""Name of the choice of texts that models make; see `mmsearch.core.describe_choices`."""

FOLDER_CHOICES: Final = (*LISTS, *FLAGS, CAPTIONS, DESCRIBE)
"""Names of the choices of a folder."""

MAPPINGS: Final = (CAPTIONS, DESCRIBE)

FORGOTTEN: Final = "forgotten"

_BELOW: Final = "folders"

SYSTEM_FOLDERS: Final = frozenset(
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


@dataclass(frozen=True)
class WalkOptions:
    """Options of a walk of a folder.

    Attributes:
        include: Patterns; if given, a file must match one of them.
        exclude: Patterns of files and whole folders to skip.
        follow_symlinks: Follow links to files and folders.
        hidden: Include names that begin with a dot, and system folders.
        include_base: Absolute path of the folder that ``include`` is relative to.
        exclude_base: Absolute path of the folder that ``exclude`` is relative to.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False
    hidden: bool = False
    include_base: bytes = b""
    exclude_base: bytes = b""


class KeptTable(NamedTuple):
    """A table of captions that is kept with a folder.

    Attributes:
        path: Absolute path of the table.
        folder: The folder that it was given for, relative to the indexed folder.
        stamp: Size and time of the table when it was read; empty if it was not, and `FORGOTTEN` if
            the next run has to remove its captions.
    """

    path: str
    folder: bytes
    stamp: str


@dataclass(frozen=True)
class FolderChoices:
    """The choices of an indexed folder, and those of folders below it that have their own.

    A choice of a folder holds for all folders below it, up to one that has that choice itself.

    Attributes:
        values: Choices by name, by folder relative to the indexed one; b"" is that folder itself.
            Choices that are as by default are left out.
    """

    values: Mapping[bytes, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, choices: Mapping[str, Any]) -> FolderChoices:
        """Return the choices that the catalog stores; values that are not valid are left out."""
        below = choices.get(_BELOW)
        folders = {b"": _valid_values(choices)}
        if isinstance(below, dict):
            for folder, values in below.items():
                if isinstance(values, dict) and folder:
                    folders[os.fsencode(folder)] = _valid_values(values)
        return cls(folders)

    def to_json(self) -> dict[str, Any]:
        """Return the choices as JSON values."""
        below = {
            os.fsdecode(folder): dict(values) for folder, values in self.values.items() if folder
        }
        own = dict(self.values.get(b"", {}))
        return {**own, _BELOW: dict(sorted(below.items()))} if below else own

    def get(self, folder: bytes, name: str) -> Any:
        """Return the value of a choice in a folder; the default if no folder above has it."""
        return self._find(folder, name)[1]

    def change(
        self, folder: bytes, values: Mapping[str, Any], reset: Sequence[str] = ()
    ) -> FolderChoices:
        """Return the choices with new ones of a folder.

        Args:
            folder: The folder, relative to the indexed one.
            values: New values by name, except for tables of captions.
            reset: Names of choices that become those of the folder above, or the default ones.
        """
        kept = {name: v for name, v in self.values.get(folder, {}).items() if name not in reset}
        changed = {**self.values, folder: {**kept, **_valid_values(values)}}
        if folder == b"":
            changed[b""] = {name: value for name, value in changed[b""].items() if value}
        return FolderChoices(changed)

    def drop_excluded(self, root: bytes, folder: bytes) -> FolderChoices:
        """Return the choices without those of folders below that are excluded now.

        Args:
            root: Absolute path of the indexed folder.
            folder: The folder whose patterns have changed, relative to it.
        """
        patterns = self.values.get(folder, {}).get("exclude", ())
        globs = make_globs(patterns, _join(root, folder))
        return FolderChoices(
            {
                other: values
                for other, values in self.values.items()
                if other == folder
                or not is_below(folder, other)
                or not _matches_folder(globs, _relative(other, folder))
            }
        )

    def visit(self, root: bytes, folder: bytes) -> FolderChoices:
        """Return the choices with a folder that is indexed by itself, whatever those above say.

        Args:
            root: Absolute path of the indexed folder.
            folder: The folder, relative to it.
        """
        if not folder or folder in self.values:
            return self
        base, exclude = self._find(folder, "exclude")
        if _matches_folder(make_globs(exclude, _join(root, base)), _relative(folder, base)):
            return FolderChoices({**self.values, folder: {"exclude": []}})
        names = _relative(folder, self._nearest(folder)).split(b"/")
        if not self.get(folder, "hidden") and any(map(is_hidden_folder, names)):
            return FolderChoices({**self.values, folder: {}})
        return self

    def absorb(self, folder: bytes, inner: FolderChoices) -> FolderChoices:
        """Return the choices with those of another indexed folder, which lies in this one."""
        added = {
            b"/".join(filter(None, (folder, below))): values
            for below, values in inner.values.items()
            if values or below
        }
        return FolderChoices({**self.values, **added})

    def move(self, old: bytes, new: bytes) -> FolderChoices:
        """Return the choices after a move of the indexed folder, given its absolute paths."""
        return FolderChoices(
            {
                folder: {
                    name: [_move_pattern(pattern, old, new) for pattern in value]
                    if name in LISTS
                    else _move_tables(value, old, new)
                    if name == CAPTIONS
                    else _move_options(value, old, new)
                    if name == DESCRIBE
                    else value
                    for name, value in values.items()
                }
                for folder, values in self.values.items()
            }
        )

    def walk_options(self, root: bytes, folder: bytes) -> dict[bytes, WalkOptions]:
        """Return the options of a walk of a folder and of the folders below that have their own.

        Args:
            root: Absolute path of the indexed folder.
            folder: The folder to walk, relative to it.

        Returns:
            The options by folder, relative to the one to walk.
        """
        own = {
            _relative(other, folder): self._options(root, other)
            for other in self.values
            if is_below(folder, other)
        }
        return {**own, b"": self._options(root, folder)}

    def tables(self) -> Iterator[KeptTable]:
        """Yield all tables of captions."""
        for folder, values in self.values.items():
            for path, stamp in values.get(CAPTIONS, {}).items():
                yield KeptTable(path, folder, stamp)

    def with_table(self, table: KeptTable) -> FolderChoices:
        """Return the choices with a table of captions, or with its new stamp."""
        values = self.values.get(table.folder, {})
        tables = {**values.get(CAPTIONS, {}), table.path: table.stamp}
        return FolderChoices({**self.values, table.folder: {**values, CAPTIONS: tables}})

    def without_table(self, table: KeptTable) -> FolderChoices:
        """Return the choices without a table of captions."""
        values = dict(self.values.get(table.folder, {}))
        tables = {path: v for path, v in values.pop(CAPTIONS, {}).items() if path != table.path}
        own = {**values, CAPTIONS: tables} if tables else values
        return FolderChoices({**self.values, table.folder: own})

    def forget_tables(self, folder: bytes) -> FolderChoices:
        """Return the choices in which the tables of a folder are to be forgotten."""
        choices = self
        for table in self.tables():
            if table.folder == folder:
                choices = choices.with_table(table._replace(stamp=FORGOTTEN))
        return choices

    def _options(self, root: bytes, folder: bytes) -> WalkOptions:
        include_base, include = self._find(folder, "include")
        exclude_base, exclude = self._find(folder, "exclude")
        return WalkOptions(
            tuple(include),
            tuple(exclude),
            bool(self.get(folder, "follow_symlinks")),
            bool(self.get(folder, "hidden")),
            _join(root, include_base),
            _join(root, exclude_base),
        )

    def _find(self, folder: bytes, name: str) -> tuple[bytes, Any]:
        """Return the nearest folder at or above that has a choice, and its value there."""
        while True:
            values = self.values.get(folder, {})
            if name in values:
                return folder, values[name]
            if not folder:
                return b"", False if name in FLAGS else {} if name in MAPPINGS else []
            folder = folder.rpartition(b"/")[0]

    def _nearest(self, folder: bytes) -> bytes:
        """Return the nearest folder above that has choices."""
        while folder:
            folder = folder.rpartition(b"/")[0]
            if folder in self.values:
                break
        return folder


def is_below(folder: bytes, path: bytes) -> bool:
    """Return True if a relative path is a folder's or lies below it."""
    return not folder or path == folder or path.startswith(folder + b"/")


def is_hidden_folder(name: bytes) -> bool:
    """Return True for names of folders that are skipped unless hidden ones are included."""
    return name.startswith(b".") or name.lower() in SYSTEM_FOLDERS


def check_reset(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise an error unless all names are those of choices.

    Raises:
        UsageError: There is no such choice.
    """
    for name in names:
        if name not in known:
            raise UsageError(
                f"There is no choice {name!r} to reset.", f"Use one of: {', '.join(known)}."
            )


def describe_choices(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of choices as texts for people, by name."""
    texts = {}
    for name, value in values.items():
        if name == _BELOW:
            for folder, own in value.items():
                texts.update(
                    {f"{folder}/ {key}": text for key, text in describe_choices(own).items()}
                )
        elif name == CAPTIONS and isinstance(value, dict):
            paths = [path for path, stamp in value.items() if stamp != FORGOTTEN]
            texts.update({name: ",".join(paths)} if paths else {})
        elif name == DESCRIBE and isinstance(value, dict):
            texts[name] = ",".join(map(_describe_enricher, value.items())) or "none"
        elif isinstance(value, list | tuple):
            texts[name] = ",".join(map(str, value)) or "none"
        else:
            texts[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return texts


def want_texts(sources: Iterable[SourceRecord]) -> bool:
    """Return True if any source wants texts that models make."""
    return any(
        own.get(DESCRIBE)
        for source in sources
        for own in FolderChoices.from_json(source.choices).values.values()
    )


def without_describe(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choices of a source without those of texts that models make."""
    kept = {name: value for name, value in choices.items() if name not in (DESCRIBE, _BELOW)}
    below = choices.get(_BELOW)
    if isinstance(below, dict):
        folders = {
            folder: without_describe(values) if isinstance(values, dict) else values
            for folder, values in below.items()
        }
        # A folder without another choice counts: it is indexed although one above is left out.
        kept[_BELOW] = folders
    return kept


def _describe_enricher(enricher: tuple[str, Mapping[str, str]]) -> str:
    name, options = enricher
    texts = [f"{option} {value}" for option, value in options.items()]
    return f"{name} ({', '.join(texts)})" if texts else name


def _valid_values(values: Mapping[str, Any]) -> dict[str, Any]:
    valid: dict[str, Any] = {}
    for name in LISTS:
        patterns = values.get(name)
        if isinstance(patterns, list | tuple) and all(isinstance(p, str) for p in patterns):
            valid[name] = list(patterns)
    for name in FLAGS:
        if isinstance(values.get(name), bool):
            valid[name] = values[name]
    tables = values.get(CAPTIONS)
    if isinstance(tables, dict) and all(isinstance(stamp, str) for stamp in tables.values()):
        valid[CAPTIONS] = dict(tables)
    enrichers = values.get(DESCRIBE)
    if isinstance(enrichers, dict) and all(map(_are_texts, enrichers.values())):
        valid[DESCRIBE] = {name: dict(options) for name, options in enrichers.items()}
    return valid


def _are_texts(options: Any) -> bool:
    return isinstance(options, dict) and all(isinstance(text, str) for text in options.values())


def make_globs(patterns: Sequence[str], folder: bytes) -> Globs | None:
    """Return compiled patterns that are relative to a folder; None without patterns.

    Raises:
        UsageError: A pattern is not valid.
    """
    try:
        return Globs(patterns, folder) if patterns else None
    except GlobError as error:
        raise UsageError(str(error), "Use the pattern syntax of .gitignore.") from error


def _matches_folder(globs: Globs | None, path: bytes) -> bool:
    """Return True if patterns match a folder or one above it."""
    if globs is None or not path:
        return False
    parts = os.fsdecode(path).split("/")
    return any(globs.matches("/".join(parts[:end]) + "/") for end in range(1, len(parts) + 1))


def _join(root: bytes, folder: bytes) -> bytes:
    return root.rstrip(b"/") + b"/" + folder if folder else root


def _relative(path: bytes, folder: bytes) -> bytes:
    """Return a path below a folder, given both relative to the same folder."""
    return path[len(folder) + 1 :] if folder else path


def _move_pattern(pattern: str, old: bytes, new: bytes) -> str:
    sign, body = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    for before in (os.fsdecode(old), escape_glob(os.fsdecode(old))):
        if body == before or body.startswith(before.rstrip("/") + "/"):
            return sign + escape_glob(os.fsdecode(new)) + body[len(before) :]
    return pattern


def _move_tables(tables: Mapping[str, str], old: bytes, new: bytes) -> dict[str, str]:
    return {_move_path(path, old, new): stamp for path, stamp in tables.items()}


def _move_options(
    enrichers: Mapping[str, Mapping[str, str]], old: bytes, new: bytes
) -> dict[str, dict[str, str]]:
    return {
        name: {option: _move_path(value, old, new) for option, value in options.items()}
        for name, options in enrichers.items()
    }


def _move_path(path: str, old: bytes, new: bytes) -> str:
    before = os.fsdecode(old).rstrip("/") + "/"
    after = os.fsdecode(new).rstrip("/") + "/"
    return after + path[len(before) :] if path.startswith(before) else path
