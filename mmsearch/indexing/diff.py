"""What a run has to do, decided from what was seen and what is known. Pure.

First by size and time (`compare`), then, for files in doubt, by content (`Settling`): known content
at a new path is a move or a copy, and only content that was never seen is decoded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from mmsearch.core.records import KnownFile, SeenFile, surely_same


class Verdict(IntEnum):
    """What size and time say of a file."""

    UNCHANGED = 0
    """It need not be opened."""
    STILL_FAILED = 1
    """It failed before and has not changed."""
    DOUBTFUL = 2
    """It must be read."""
    RETOLD = 3
    """It is the same, but not what its texts were made of."""


@dataclass(frozen=True)
class Comparison:
    """What size and time say.

    Attributes:
        verdicts: Of each file, one byte, in the order in which they were seen.
        missing: Known files that were not seen, by path.
    """

    verdicts: bytes
    missing: Mapping[bytes, KnownFile]

    def count(self, verdict: Verdict) -> int:
        """How many files there are of which that is said."""
        return self.verdicts.count(verdict)

    def those(self, verdict: Verdict, seen: Iterable[SeenFile]) -> Iterator[SeenFile]:
        """The files of which that is said, of the same files in the same order."""
        pairs = zip(seen, self.verdicts, strict=True)
        return (file for file, said in pairs if said == verdict)


def compare(
    known: Mapping[bytes, KnownFile],
    seen: Iterable[SeenFile],
    *,
    retry_failed: bool = False,
    texts_key: Callable[[SeenFile], bytes] = lambda file: b"",
) -> Comparison:
    """Compare files by size and time.

    Args:
        known: By path, what the catalog remembers.
        seen: What the walk met; every path once.
        retry_failed: Read files again that failed, though they have not changed.
        texts_key: Of a file: `KnownFile.texts_key` as it would be now.
    """
    missing = dict(known)
    verdicts = bytearray()
    for file in seen:
        before = missing.pop(file.path, None)
        if before is None or not surely_same(before, file):
            verdicts.append(Verdict.DOUBTFUL)
        elif before.image_id is not None:
            same = before.texts_key == texts_key(file)
            verdicts.append(Verdict.UNCHANGED if same else Verdict.RETOLD)
        elif retry_failed or not before.digest:
            verdicts.append(Verdict.DOUBTFUL)
        else:
            verdicts.append(Verdict.STILL_FAILED)
    return Comparison(bytes(verdicts), missing)


class Fate(StrEnum):
    """What a file that was read turns out to be."""

    UNCHANGED = "unchanged"
    MOVED = "moved"
    COPIED = "copied"
    ADDED = "added"
    CHANGED = "changed"
    STILL_FAILED = "still_failed"


@dataclass
class Settling:
    """Decides, one file after another, what content means.

    Attributes:
        known: By path, what the catalog remembers.
        gone: Files that surely no longer exist, by path; moves take from it.
        retry_failed: Content that failed is tried again.
    """

    known: Mapping[bytes, KnownFile]
    gone: dict[bytes, KnownFile]
    retry_failed: bool = False
    _gone_by_digest: dict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for path, file in self.gone.items():
            self._gone_by_digest[file.digest].append(path)

    def fate(self, file: SeenFile, digest: bytes, *, has_vector: bool) -> Fate:
        """What the file is.

        Args:
            file: As seen.
            digest: Of its content.
            has_vector: Whether content of this digest was encoded already, or is being encoded.
        """
        before = self.known.get(file.path)
        same = before is not None and before.digest == digest
        if before is not None and same and before.error is not None and not self.retry_failed:
            return Fate.STILL_FAILED
        if not has_vector:
            return Fate.ADDED if before is None else Fate.CHANGED
        if same:
            return Fate.UNCHANGED
        if before is not None:
            return Fate.CHANGED
        return Fate.MOVED if self._gone_by_digest[digest] else Fate.COPIED

    def take_moved(self, digest: bytes) -> bytes:
        """The old path of a moved file; it no longer counts as gone."""
        path = self._gone_by_digest[digest].pop(0)
        del self.gone[path]
        return path
