"""The vocabulary of looking after an index: findings, and what was mended, merged or copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmsearch.core.records import FailedFile


class Severity(StrEnum):
    """How much a finding matters."""

    DAMAGE = "damage"
    UNKNOWN = "unknown"
    SOURCE = "source"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found.

    Attributes:
        weight: Proved damage to the index, a part that could not be checked, a picture whose file
            is not as it was, or a note.
        part: ``catalog``, ``encoder``, ``sources``, or the name of a file of the index.
        message: One sentence.
    """

    weight: Severity
    part: str
    message: str


class Verdict(StrEnum):
    """What a check says of an index.

    ``DAMAGED`` is proved: by a checksum, by SQLite, or by a contradiction. ``UNKNOWN`` means that
    nothing wrong was found, and that something could not be checked.
    """

    SOUND = "sound"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class CheckReport:
    """The result of a check; iterating over it yields the findings.

    Attributes:
        verdict: Sound, damaged or unknown.
        findings: What is wrong, what could not be checked, and what is worth knowing.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]

    @classmethod
    def from_findings(cls, findings: Iterable[Finding]) -> CheckReport:
        """Return the report of some findings, in their order."""
        all_findings = tuple(findings)
        severities = {finding.weight for finding in all_findings}
        if Severity.DAMAGE in severities:
            return cls(Verdict.DAMAGED, all_findings)
        return cls(
            Verdict.UNKNOWN if Severity.UNKNOWN in severities else Verdict.SOUND, all_findings
        )

    def __iter__(self) -> Iterator[Finding]:
        """Iterate over the findings."""
        return iter(self.findings)

    def __len__(self) -> int:
        """Return the number of findings."""
        return len(self.findings)


@dataclass(frozen=True)
class RepairReport:
    """What a repair did.

    Attributes:
        mended: A sentence for each step.
        not_kept: A sentence for everything that was in the index and could not be carried over.
        quarantined: Files that were put aside.
        lost: Pictures whose vectors had to be made again.
        failed: Those of them that could not be: they are tried again when the folder is indexed.
        seconds: Wall time.
    """

    mended: tuple[str, ...]
    not_kept: tuple[str, ...]
    quarantined: tuple[Path, ...]
    lost: tuple[bytes, ...]
    failed: tuple[FailedFile, ...]
    seconds: float


@dataclass(frozen=True)
class CompactReport:
    """What a compaction did.

    Attributes:
        dropped: Vectors of pictures that can no longer be found.
        segments_before: Files of vectors.
        segments_after: The same, now.
        bytes_before: Of the whole index.
        bytes_after: The same, now.
        seconds: Wall time.
    """

    dropped: int
    segments_before: int
    segments_after: int
    bytes_before: int
    bytes_after: int
    seconds: float


@dataclass(frozen=True)
class CopyReport:
    """What a backup or a restoration copied.

    Attributes:
        folder: Where the copy is.
        pictures: That can be found in it.
        files: Files of vectors.
        bytes: Of all files.
        seconds: Wall time.
    """

    folder: Path
    pictures: int
    files: int
    bytes: int
    seconds: float
