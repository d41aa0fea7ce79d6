"""Reports of index maintenance: checks, repairs, compactions and copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmsearch.core.records import FailedFile


class Severity(StrEnum):
    """Severity of a finding."""

    DAMAGE = "damage"
    UNKNOWN = "unknown"
    SOURCE = "source"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One finding of a check.

    Attributes:
        weight: Severity: proven damage to the index, a part that could not be checked, a picture
            whose file has changed, or a note.
        part: ``catalog``, ``encoder``, ``sources``, or the name of a file of the index.
        message: One sentence.
    """

    weight: Severity
    part: str
    message: str


class Verdict(StrEnum):
    """Verdict of a check on an index.

    ``DAMAGED`` is proven by a checksum, by SQLite, or by a contradiction. ``UNKNOWN`` means that no
    damage was found, but that something could not be checked.
    """

    SOUND = "sound"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class CheckReport:
    """The result of a check; iterating over it yields the findings.

    Attributes:
        verdict: Sound, damaged or unknown.
        findings: Damage, parts that could not be checked, changed source files, and notes.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]

    @classmethod
    def from_findings(cls, findings: Iterable[Finding]) -> CheckReport:
        """Return the report of the findings, in their order."""
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
    """Result of a repair.

    Attributes:
        mended: One sentence for each repair step.
        not_kept: One sentence for each part of the index that could not be recovered.
        quarantined: Files that were moved aside.
        lost: Pictures whose vectors had to be computed again.
        failed: Lost pictures that could not be encoded; the next indexing run retries them.
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
    """Result of a compaction.

    Attributes:
        dropped: Number of removed vectors, whose pictures are no longer searchable.
        segments_before: Number of segments before.
        segments_after: Number of segments after.
        bytes_before: Size of the whole index before.
        bytes_after: Size of the whole index after.
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
    """Result of a backup or a restore.

    Attributes:
        folder: Folder of the copy.
        pictures: Number of searchable pictures in it.
        files: Number of vector files.
        bytes: Total size of all files.
        seconds: Wall time.
    """

    folder: Path
    pictures: int
    files: int
    bytes: int
    seconds: float
