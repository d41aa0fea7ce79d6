"""Groups of pictures that show the same: records, and the protocols that keep and list them.

Three kinds, from the narrowest to the widest. *Exact* duplicates are one content in several places.
*Near* duplicates are contents that show one picture: resized, compressed again, cropped, edited. A
*burst* is a series of pictures of one view, taken within minutes. A *stack* is all of it together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Ids

if TYPE_CHECKING:
    from mmsearch.core.duplicate_groups import DuplicateFile, DuplicateKind

NO_TIME = np.iinfo(np.int64).min
"""Value of `PictureLooks.taken_s` for a picture of which the time is not known."""


@dataclass(frozen=True)
class PictureLooks:
    """Facts that tell whether still pictures are duplicates, apart from their vectors.

    Attributes:
        content_ids: int64 (n,), ascending.
        item_ids: Ids of their items, int64 (n,).
        hashes: Perceptual hashes, int64 (n,); 0 for a picture without one, or that shows nothing.
        taken_s: When they were taken, in seconds since 1970 of local time, int64 (n,); `NO_TIME`
            if the time of day is not known.
        cameras: Numbers of their cameras, int32 (n,); -1 if that is not known.
    """

    content_ids: Ids
    item_ids: Ids
    hashes: NDArray[np.int64]
    taken_s: NDArray[np.int64]
    cameras: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.content_ids)


@dataclass(frozen=True)
class DuplicateState:
    """State of the groups of a catalog, which are made again if the rules or the encoder change.

    Attributes:
        version: Version of the rules.
        encoder: Fingerprint of the encoder whose vectors were compared.
        last_content: The newest content that was compared.
        contents: Number of contents that were compared.
        baseline: Mean similarity of two pictures of the index.
        baseline_contents: Number of contents when that was measured.
        grouped: Number of contents in groups.
        unhashed: Number of still pictures that had no perceptual hash.
    """

    version: int
    encoder: str
    last_content: int
    contents: int
    baseline: float
    baseline_contents: int
    grouped: int
    unhashed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the state as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DuplicateState:
        """Return the state of a JSON object.

        Raises:
            TypeError: It has other members.
        """
        return cls(**values)


@dataclass(frozen=True)
class DuplicateRow:
    """The groups of a content that is not alone.

    Attributes:
        content_id: The content.
        stack_id: Its group by any kind: the smallest id of a content in it.
        near_id: Its group of near duplicates: the smallest id of a content in it.
    """

    content_id: int
    stack_id: int
    near_id: int


@dataclass(frozen=True)
class UnhashedPicture:
    """A still picture that has no perceptual hash yet.

    Attributes:
        content_id: Its content.
        item_id: Its item.
        digest: SHA-256 of the content.
        path: Absolute path of its file; None if it is in no folder.
        size: Size of the file in bytes.
        mtime_ns: Modification time of the file.
    """

    content_id: int
    item_id: int
    digest: bytes
    path: bytes | None
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class GroupPage:
    """One page of groups.

    Attributes:
        groups: Kind and files of each group.
        counts: Number of all groups, by kind.
        unhashed: Number of still pictures without a perceptual hash.
        next_position: Position after which the next page begins; None for the last page.
    """

    groups: list[tuple[DuplicateKind, list[DuplicateFile]]]
    counts: dict[str, int]
    unhashed: int
    next_position: int | None


class DuplicateReader(Protocol):
    """Groups of duplicates in a catalog."""

    def state(self) -> DuplicateState | None:
        """Return what the groups are made of; None if they were never made, or were lost."""

    def last_content(self) -> int:
        """Return the highest id of a content; 0 without any."""

    def load_looks(self) -> PictureLooks:
        """Return the looks of all contents that are one still picture."""

    def rows(self) -> list[DuplicateRow]:
        """Return the groups of all contents that are not alone, by content."""

    def count_unhashed(self, source_id: int | None = None) -> int:
        """Return the number of searchable still pictures without a perceptual hash.

        Args:
            source_id: Count those that `list_unhashed` returns for this source; None for all.
        """

    def list_unhashed(
        self, source_id: int, after_content: int, limit: int
    ) -> list[UnhashedPicture]:
        """Return still pictures without a perceptual hash, by content.

        Those of one folder, and those that are in no folder.

        Args:
            source_id: Source of the folder.
            after_content: Only contents with a higher id count.
            limit: Maximum number of pictures.
        """

    def list_groups(self, kind: DuplicateKind | None, after: int, limit: int) -> GroupPage:
        """Return one page of the groups that have several files.

        Args:
            kind: Kind of the groups; None for all kinds.
            after: Position after which the page begins; 0 for the first page.
            limit: Maximum number of groups.
        """


class DuplicateWriter(DuplicateReader, Protocol):
    """Groups of duplicates in a catalog that is open for writing."""

    def save(self, changed: list[DuplicateRow], state: DuplicateState, *, replace: bool) -> None:
        """Save groups and their state, in one transaction.

        Args:
            changed: Contents with new groups.
            state: What the groups are made of now.
            replace: True if all other rows are to be deleted.
        """

    def save_hashes(self, hashes: Mapping[int, int], *, regroup: bool) -> None:
        """Save perceptual hashes by item, in one transaction.

        Args:
            hashes: The hashes, as signed 64-bit integers.
            regroup: True to forget the state, so that the next run makes all groups again; until
                then, searches use those that there are.
        """
