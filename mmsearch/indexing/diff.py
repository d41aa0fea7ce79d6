"""What a run has to do, decided from what was seen and what is known. Pure.

First by size and time (`compare`), then, for files in doubt, by content (`ContentResolver`): known content
at a new path is a move or a copy, and only content that was never seen is decoded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from mmsearch.core.records import FileRecord, ScannedFile, is_unchanged


class FileStatus(IntEnum):
    """What size and time say of a file."""

    UNCHANGED = 0
    """It need not be opened."""
    STILL_FAILED = 1
    """It failed before and has not changed."""
    NEEDS_READ = 2
    """It must be read."""
    TEXTS_CHANGED = 3
    """It is the same, but not what its texts were made of."""


@dataclass(frozen=True)
class Comparison:
    """What size and time say.

    Attributes:
        statuses: Of each file, one byte, in the order in which they were seen.
        missing: Known files that were not seen, by path.
    """

    statuses: bytes
    missing: Mapping[bytes, FileRecord]

    def count(self, status: FileStatus) -> int:
        """How many files there are of which that is said."""
        return self.statuses.count(status)

    def select(self, status: FileStatus, scanned: Iterable[ScannedFile]) -> Iterator[ScannedFile]:
        """The files of which that is said, of the same files in the same order."""
        pairs = zip(scanned, self.statuses, strict=True)
        return (file for file, file_status in pairs if file_status == status)


def compare(
    records: Mapping[bytes, FileRecord],
    scanned: Iterable[ScannedFile],
    *,
    retry_failed: bool = False,
    texts_key: Callable[[ScannedFile], bytes] = lambda file: b"",
) -> Comparison:
    """Compare files by size and time.

    Args:
        records: By path, what the catalog remembers.
        scanned: What the walk met; every path once.
        retry_failed: Read files again that failed, though they have not changed.
        texts_key: Of a file: `FileRecord.texts_key` as it would be now.
    """
    missing = dict(records)
    statuses = bytearray()
    for file in scanned:
        previous = missing.pop(file.path, None)
        if previous is None or not is_unchanged(previous, file):
            statuses.append(FileStatus.NEEDS_READ)
        elif previous.image_id is not None:
            same = previous.texts_key == texts_key(file)
            statuses.append(FileStatus.UNCHANGED if same else FileStatus.TEXTS_CHANGED)
        elif retry_failed or not previous.digest:
            statuses.append(FileStatus.NEEDS_READ)
        else:
            statuses.append(FileStatus.STILL_FAILED)
    return Comparison(bytes(statuses), missing)


class FileOutcome(StrEnum):
    """What a file that was read turns out to be."""

    UNCHANGED = "unchanged"
    MOVED = "moved"
    COPIED = "copied"
    ADDED = "added"
    CHANGED = "changed"
    STILL_FAILED = "still_failed"


@dataclass
class ContentResolver:
    """Decides, one file after another, what content means.

    Attributes:
        records: By path, what the catalog remembers.
        gone: Files that surely no longer exist, by path; moves take from it.
        retry_failed: Content that failed is tried again.
    """

    records: Mapping[bytes, FileRecord]
    gone: dict[bytes, FileRecord]
    retry_failed: bool = False
    _gone_by_digest: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for path, file in self.gone.items():
            self._gone_by_digest[file.digest].append(path)

    def outcome(self, file: ScannedFile, digest: bytes, *, has_vector: bool) -> FileOutcome:
        """What the file is.

        Args:
            file: As seen.
            digest: Of its content.
            has_vector: Whether content of this digest was encoded already, or is being encoded.
        """
        previous = self.records.get(file.path)
        same = previous is not None and previous.digest == digest
        if previous is not None and same and previous.error is not None and not self.retry_failed:
            return FileOutcome.STILL_FAILED
        if not has_vector:
            return FileOutcome.ADDED if previous is None else FileOutcome.CHANGED
        if same:
            return FileOutcome.UNCHANGED
        if previous is not None:
            return FileOutcome.CHANGED
        return FileOutcome.MOVED if self._gone_by_digest[digest] else FileOutcome.COPIED

    def pop_moved(self, digest: bytes) -> bytes:
        """The old path of a moved file; it no longer counts as gone."""
        path = self._gone_by_digest[digest].pop(0)
        del self.gone[path]
        return path
