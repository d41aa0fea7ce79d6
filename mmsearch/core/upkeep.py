"""The vocabulary of looking after an index: findings, and what was mended, merged or copied."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmsearch.core.records import FailedFile


class Weight(StrEnum):
    """How much a finding matters."""

    DAMAGE = "damage"
    SOURCE = "source"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found.

    Attributes:
        weight: Damage to the index, a picture whose file is not as it was, or neither.
        part: ``catalog``, ``encoder``, ``sources``, or the name of a file of the index.
        message: One sentence.
    """

    weight: Weight
    part: str
    message: str


@dataclass(frozen=True)
class RepairReport:
    """What a repair did.

    Attributes:
        mended: A sentence for each step.
        quarantined: Files that were put aside.
        lost: Pictures whose vectors had to be made again.
        failed: Those of them that could not be: they are tried again when the folder is indexed.
        seconds: Wall time.
    """

    mended: tuple[str, ...]
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
