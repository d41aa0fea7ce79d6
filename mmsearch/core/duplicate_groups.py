"""Groups of duplicates as people and programs see them, with a suggestion of which file to keep."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from mmsearch.core.cursors import decode_cursor, encode_cursor
from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, UsageError
from mmsearch.core.results import JsonObject

DEFAULT_GROUPS: Final = 100
MAX_POSITION: Final = 2**63
MAX_GROUPS: Final = 1000
"""Maximum number of groups of a page."""

# Originals of a camera come first, and what is made for the web last.
_FORMAT_RANKS: Final = {"JPEG": 2, "PNG": 2, "WEBP": 3, "GIF": 3, "BMP": 3}
_RICH_FORMATS: Final = frozenset({"HEIF", "AVIF", "JXL", "TIFF", "JPEG2000", "PSD"})


class DuplicateKind(StrEnum):
    """Kinds of groups.

    ``exact`` is one content in several places, ``near`` are contents that show one picture, such as
    copies of another size, and ``burst`` are pictures of one view, taken within minutes.
    """

    EXACT = "exact"
    NEAR = "near"
    BURST = "burst"


@dataclass(frozen=True, kw_only=True)
class DuplicateFile(JsonObject):
    """A file of a group of duplicates.

    Attributes:
        id: Id of the picture.
        path: Absolute path of the file; a server escapes undecodable bytes.
        uri: Where it is, if it is not a file of an indexed folder; empty for a file.
        width: Width in pixels.
        height: Height in pixels.
        format: ``JPEG``, ``PNG``, ...
        size_bytes: Size of the file.
        modified_at: Modification time of the file, in seconds since the epoch.
        taken_at: ISO 8601 local time, if it is known.
        has_camera: True if the file names the camera that took it.
        keep: True for the file of the group that is suggested to keep.
        reason: Why it is: ``largest`` (in pixels), ``original format``, ``names the camera``,
            ``largest file``, ``oldest`` or ``shortest path``; empty for the others.
    """

    id: int
    path: Path
    uri: str = ""
    width: int
    height: int
    format: str
    size_bytes: int
    modified_at: float
    taken_at: str | None
    has_camera: bool = False
    keep: bool = False
    reason: str = ""

    @property
    def location(self) -> str:
        """Path of the file, or URI of a picture of another source, for display."""
        return self.uri or display_path(self.path)

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return super()._parse(values) | {"path": Path(values["path"])}

    def to_dict(self) -> dict[str, Any]:
        """Return the file as a JSON object."""
        return dict(vars(self)) | {"path": os.fspath(self.path)}


@dataclass(frozen=True)
class DuplicateGroup(JsonObject):
    """Files that are duplicates of each other.

    Attributes:
        kind: Kind of the group, a `DuplicateKind`.
        hits: The files, the one to keep first.
        freed_bytes: Size of the other files, in bytes.
    """

    kind: DuplicateKind
    hits: tuple[DuplicateFile, ...]
    freed_bytes: int

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        hits = tuple(map(DuplicateFile.from_dict, values["hits"]))
        return super()._parse(values) | {"kind": DuplicateKind(values["kind"]), "hits": hits}

    def to_dict(self) -> dict[str, Any]:
        """Return the group as a JSON object."""
        return {
            "kind": str(self.kind),
            "freed_bytes": self.freed_bytes,
            "hits": [hit.to_dict() for hit in self.hits],
        }


@dataclass(frozen=True)
class DuplicateGroups(JsonObject):
    """One page of the groups of an index.

    A file may be in a group of each kind: near duplicates list all files of their contents, and
    bursts all files of their near duplicates.

    Attributes:
        groups: The groups.
        counts: Number of all groups, by kind.
        unhashed: Number of pictures that were indexed without a perceptual hash, which no near
            duplicates and bursts are known of; the next run over their folder makes their hashes.
        next_cursor: Cursor of the next page; None for the last page.
    """

    groups: tuple[DuplicateGroup, ...]
    counts: Mapping[str, int]
    unhashed: int = 0
    next_cursor: str | None = None

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return super()._parse(values) | {
            "groups": tuple(map(DuplicateGroup.from_dict, values["groups"]))
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the page as a JSON object."""
        return dict(vars(self)) | {"groups": [group.to_dict() for group in self.groups]}


def make_group(kind: DuplicateKind, files: Sequence[DuplicateFile]) -> DuplicateGroup:
    """Return a group of files, the one to keep first.

    Args:
        kind: Kind of the group.
        files: At least two files.
    """
    best, *others = sorted(files, key=_preference)
    # Its own copies say nothing about why a picture is better than the others.
    rival = next((file for file in others if file.id != best.id), others[0])
    criteria = zip(_REASONS, _preference(best), _preference(rival), strict=False)
    reason = next((name for name, first, second in criteria if first != second), _REASONS[-1])
    freed = sum(file.size_bytes for file in others)
    return DuplicateGroup(kind, (replace(best, keep=True, reason=reason), *others), freed)


_REASONS: Final = (
    "largest",
    "original format",
    "names the camera",
    "largest file",
    "oldest",
    "shortest path",
)


def _preference(file: DuplicateFile) -> tuple[Any, ...]:
    """Return the order of a file by `_REASONS`, the best first."""
    rank = _FORMAT_RANKS.get(file.format, 1 if file.format in _RICH_FORMATS else 0)
    return (
        -file.width * file.height,
        rank,
        not file.has_camera,
        -file.size_bytes,
        file.modified_at,
        len(file.location),
        file.location,
    )


def check_kind(kind: str | None) -> DuplicateKind | None:
    """Return a kind of groups; None for all kinds.

    Raises:
        UsageError: There is no such kind.
    """
    try:
        return None if kind is None else DuplicateKind(kind)
    except ValueError:
        raise UsageError(
            f"Unknown kind of duplicates {kind!r}.", f"Use {', '.join(DuplicateKind)}."
        ) from None


def check_limit(limit: int) -> None:
    """Check the number of groups of a page.

    Raises:
        UsageError: It is out of range.
    """
    if not 1 <= limit <= MAX_GROUPS:
        raise UsageError(
            f"The limit {limit} is out of range.", f"Use a number from 1 to {MAX_GROUPS}."
        )


def parse_cursor(cursor: str | None, index: str, kind: DuplicateKind | None) -> int:
    """Return the position after which a page of the groups of an index begins.

    Raises:
        UsageError: The cursor is not valid, or is of another index or kind.
    """
    try:
        return decode_cursor(cursor, _list_name(index, kind), MAX_POSITION)
    except InvalidQueryError as error:
        raise UsageError(error.message, error.hint) from None


def make_cursor(position: int, index: str, kind: DuplicateKind | None) -> str:
    """Return the cursor of the page of groups that begins after a position."""
    return encode_cursor(position, _list_name(index, kind))


def _list_name(index: str, kind: DuplicateKind | None) -> str:
    return f"duplicates of {index}, {kind or 'all'}"
