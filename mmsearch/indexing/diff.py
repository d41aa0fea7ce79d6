"""Diff between the files of a folder and the catalog, as pure functions.

Files are compared by size and time first (`compare`), then, where that does not decide, by content
(`ContentResolver`): known content at a new path is a move or a copy, and only new content is
decoded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from mmsearch.core.records import FileRecord, ScannedFile, is_unchanged


class FileStatus(IntEnum):
    """Status of a file, judged by its size and time."""

    UNCHANGED = 0
    """The file need not be opened."""
    STILL_FAILED = 1
    """The file failed before and has not changed."""
    NEEDS_READ = 2
    """The file must be read."""
    TEXTS_CHANGED = 3
    """The file is unchanged, but the sources of its texts are not."""


@dataclass(frozen=True)
class Comparison:
    """Result of comparing files by size and time.

    Attributes:
        statuses: Status of each scanned file, one byte each, in scan order.
        missing: Known files that were not found, by path.
    """

    statuses: bytes
    missing: Mapping[bytes, FileRecord]

    def count(self, status: FileStatus) -> int:
        """Return the number of files with a status."""
        return self.statuses.count(status)

    def select(self, status: FileStatus, scanned: Iterable[ScannedFile]) -> Iterator[ScannedFile]:
        """Return the files that have a status.

        Args:
            status: Status to select.
            scanned: The files that were compared, in the same order.
        """
        pairs = zip(scanned, self.statuses, strict=True)
        return (file for file, file_status in pairs if file_status == status)


def compare(
    records: Mapping[bytes, FileRecord],
    scanned: Iterable[ScannedFile],
    *,
    retry_failed: bool = False,
    verify: bool = False,
    texts_key: Callable[[ScannedFile], bytes] = lambda file: b"",
) -> Comparison:
    """Compare files by size and time.

    Args:
        records: The catalog's file records, by path.
        scanned: The files that the walk found; every path once.
        retry_failed: Read failed files again even if they have not changed.
        verify: Read all files again.
        texts_key: Returns the `FileRecord.texts_key` that a file would get now.
    """
    missing = dict(records)
    statuses = bytearray()
    for file in scanned:
        previous = missing.pop(file.path, None)
        if verify or previous is None or not is_unchanged(previous, file):
            statuses.append(FileStatus.NEEDS_READ)
        elif previous.content_id is not None:
            same = previous.texts_key == texts_key(file)
            statuses.append(FileStatus.UNCHANGED if same else FileStatus.TEXTS_CHANGED)
        elif retry_failed or not previous.digest:
            statuses.append(FileStatus.NEEDS_READ)
        else:
            statuses.append(FileStatus.STILL_FAILED)
    return Comparison(bytes(statuses), missing)


class FileOutcome(StrEnum):
    """Outcome for a file whose content was read."""

    UNCHANGED = "unchanged"
    MOVED = "moved"
    COPIED = "copied"
    ADDED = "added"
    CHANGED = "changed"
    STILL_FAILED = "still_failed"


@dataclass
class ContentResolver:
    """Decides the outcome of each file from its content.

    Attributes:
        records: The catalog's file records, by path.
        gone: Files that are known to be deleted, by path; a move removes its old path.
        retry_failed: Retry content that failed before.
    """

    records: Mapping[bytes, FileRecord]
    gone: dict[bytes, FileRecord]
    retry_failed: bool = False
    _gone_by_digest: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for path, file in self.gone.items():
            self._gone_by_digest[file.digest].append(path)

    def outcome(self, file: ScannedFile, digest: bytes, *, has_vector: bool) -> FileOutcome:
        """Return the outcome of a file.

        Args:
            file: The file as scanned.
            digest: Digest of its content.
            has_vector: True if content with this digest was or is being encoded.
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
        """Return the old path of a moved file and remove it from the deleted files."""
        path = self._gone_by_digest[digest].pop(0)
        del self.gone[path]
        return path
