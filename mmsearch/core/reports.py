"""Reports of runs and of the maintenance of an index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.core.display import display_path

if TYPE_CHECKING:
    from mmsearch.core.records import FailedFile
    from mmsearch.core.types import FusionSpec

MAX_EXAMPLES = 3
"""Maximum number of examples of one outcome."""

MAX_EXAMPLE_CHARS = 200


@dataclass(frozen=True)
class DescribeReport:
    """Work of one enricher in a run.

    Attributes:
        enricher: Its name.
        made_by: Its fingerprint: what it makes with another one is made again.
        described: Number of pictures or files that it read in this run.
        texts: Number of texts that it made of them.
        failed: Files that it could not read.
        left: Number of pictures or files that it has not read yet, such as missing files.
        seconds: Duration in seconds.
        error: Why it could not work; None if it could.
        notes: Files of which it read less than all, and why: a film with subtitles in its language
            needs no transcript.
    """

    enricher: str
    made_by: str
    described: int
    texts: int
    failed: tuple[FailedFile, ...]
    left: int
    seconds: float
    error: str | None = None
    notes: tuple[FailedFile, ...] = ()


@dataclass(frozen=True)
class RowSample:
    """Rows of a table with the same outcome.

    Attributes:
        rows: Number of rows.
        examples: Paths of the first of them as they are written, at most three.
    """

    rows: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CaptionsReport:
    """Rows of a caption table by outcome.

    Attributes:
        path: Absolute path of the table.
        rows: Number of rows.
        matched: Number of rows whose picture is in the folder.
        encoding: Encoding that the table was read in: ``UTF-8``, ``Windows-1252``; None if the
            format has no choice.
        without_text: Number of these rows that have no text.
        unmatched: Rows whose path fits no picture.
        ambiguous: Rows whose path fits several pictures.
        left_out: Rows whose path is a file outside the folder, or one that the run left out.
        matched_by_end: Matched rows of which only the end of the path fits, as paths of another
            computer do; the examples are ``path = picture``.
    """

    path: str
    rows: int
    matched: int
    encoding: str | None = None
    without_text: int = 0
    unmatched: RowSample = RowSample()
    ambiguous: RowSample = RowSample()
    left_out: RowSample = RowSample()
    matched_by_end: RowSample = RowSample()

    def describe(self) -> Iterator[str]:
        """Yield sentences for people; the first one has the numbers of rows."""
        name = display_path(Path(self.path).name)
        if self.encoding not in (None, "UTF-8"):
            name += f" (read as {self.encoding})"
        failed = (*self.unmatched.examples, *self.ambiguous.examples, *self.left_out.examples)
        if not self.rows:
            yield f"{name} has no rows."
            return
        rest = self.rows - self.matched
        others = f"; {rest:,} did not{_such_as(failed)}" if rest else ""
        yield f"{name}: {self.matched:,} of {self.rows:,} rows matched a picture{others}."
        if not self.matched:
            yield "Write paths relative to the indexed folder or to the table's own folder."
        for sample, outcome, hint in (
            (self.ambiguous, "could mean several pictures", "; write their folders, too"),
            (self.left_out, "named files that this run left out", ""),
            (self.matched_by_end, "matched by the end of their paths", "; check them"),
        ):
            if sample.rows:
                yield f"{sample.rows:,} {outcome}{_such_as(sample.examples)}{hint}."
        if self.without_text:
            yield f"{self.without_text:,} of the matched rows had no text."


def _such_as(examples: Iterable[str]) -> str:
    quoted = [f"'{display_path(example[:MAX_EXAMPLE_CHARS])}'" for example in examples]
    return f", such as {', '.join(quoted[:MAX_EXAMPLES])}" if quoted else ""


OF_ANOTHER_FILE = "of another file"
"""End of the reason of files that belong to another one, as a RAW file to the JPEG of its shot."""

LINKS = "links not followed"
NO_ENDING = "files without ending"


@dataclass(frozen=True)
class SkippedCount:
    """Number of files of one kind that are not read for one reason.

    Attributes:
        kind: Ending of the names in capitals, ``MOV``, or the kind in words, ``hidden files``.
        reason: The reason, as a clause: ``video``, ``install '.[raw]'``, ``RAW of another file``.
        files: Number of files.
    """

    kind: str
    reason: str
    files: int

    @property
    def is_companion(self) -> bool:
        """True for files that belong to another file, so that nothing is missed without them."""
        return self.reason.endswith(OF_ANOTHER_FILE)

    @property
    def is_installable(self) -> bool:
        """True for files that an extra of mmsearch can read."""
        return self.reason.startswith("install ")

    def __str__(self) -> str:
        """Return the count in words, ``9 CR2 (install '.[raw]')``."""
        kind = self.kind
        if self.files == 1 and kind.islower():
            kind = re.sub(r"(file|folder|link)s", r"\1", kind)
        if self.kind == LINKS:
            return f"{self.files:,} {kind} (add --follow-symlinks)"
        if self.kind.islower() and self.kind != NO_ENDING:
            return f"{self.files:,} {kind}"
        return f"{self.files:,} {kind} ({self.reason})"


MAX_SHOWN_KINDS = 6


def format_skipped(counts: Sequence[SkippedCount]) -> str:
    """Return the files that are not read in words, without those that belong to other files.

    First come those that an extra reads, then links. Without such files, the result is empty.
    """
    missed = [count for count in counts if not count.is_companion]
    missed.sort(key=lambda count: (not count.is_installable, count.kind != LINKS))
    shown = [str(count) for count in missed[:MAX_SHOWN_KINDS]]
    others = sum(count.files for count in missed[MAX_SHOWN_KINDS:])
    if others:
        shown.append(f"and {others:,} others")
    total = sum(count.files for count in missed)
    companions = sum(count.files for count in counts if count.is_companion)
    parts = [f"{total:,} not read: {', '.join(shown)}"] if missed else []
    if companions:
        plural = "belongs to another file" if companions == 1 else "belong to other files"
        parts.append(f"{companions:,} {plural}")
    return "; ".join(parts)


@dataclass(frozen=True)
class IndexReport:
    """Result of one run of the indexer; counts are numbers of files.

    Attributes:
        added: Files with new content, which was encoded.
        changed: Files with a known path and new content, which was encoded.
        unchanged: Files that were not read, or were read and are the same.
        moved: Files with known content at a new path, whose old path is gone; not decoded.
        copied: Files with known content at an additional path; not decoded.
        gone: Paths that no longer exist.
        left_out: Paths that were indexed and that the choices of the folder leave out now.
        failed: Files that could not be read in this run.
        still_failed: Files that failed before and have not changed.
        unreadable_folders: Folders that could not be listed; no file below them was dropped.
        seconds: Wall time.
        encoded: Number of pictures that were decoded and encoded.
        retold: Number of pictures whose changed texts were re-encoded; their pixels were not.
        unreadable_texts: Text files that could not be read.
        captions_removed: Number of earlier table captions that the table of this run lacks.
        skipped: Files that are not read, by kind and reason, most frequent first.
        unnoticed: Number of changed files with the same size and modification time as before.
            Their change time gives them away, or, on Windows, only a run that reads every file.
        captions: What became of the rows of the caption table; None without a table.
        described: What enrichers did after the pictures were encoded; see `Index.describe`.
    """

    added: int
    changed: int
    unchanged: int
    moved: int
    copied: int
    gone: int
    failed: tuple[FailedFile, ...]
    still_failed: int
    unreadable_folders: tuple[FailedFile, ...]
    seconds: float
    encoded: int
    retold: int = 0
    unreadable_texts: tuple[FailedFile, ...] = ()
    captions_removed: int = 0
    skipped: tuple[SkippedCount, ...] = ()
    unnoticed: int = 0
    captions: CaptionsReport | None = None
    left_out: int = 0
    described: tuple[DescribeReport, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of files by outcome, without the lists of the failed ones."""
        return {
            "added": self.added,
            "changed": self.changed,
            "moved": self.moved,
            "copied": self.copied,
            "gone": self.gone,
            "left_out": self.left_out,
            "unchanged": self.unchanged,
            "failed": len(self.failed),
            "still_failed": self.still_failed,
            "retold": self.retold,
            "captions_removed": self.captions_removed,
        }


NOTHING_DONE = IndexReport(0, 0, 0, 0, 0, 0, (), 0, (), 0.0, 0)
"""Report without any file."""


@dataclass(frozen=True)
class CalibrationReport:
    """Result of fitting the confidences of an index to its own texts.

    Attributes:
        texts: Number of pictures with a text of their own that was searched.
        is_calibrated: False if there were too few of them, and nothing was changed.
        lost: Share of the texts whose picture was there and that were answered "nothing".
        rejected: Share of the texts whose picture was left out and that were answered "nothing".
        error: Expected calibration error of the first hits: the mean difference between the
            confidence and the share of right hits.
        seconds: Wall time.
    """

    texts: int
    is_calibrated: bool = False
    lost: float = 0.0
    rejected: float = 0.0
    error: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class ReindexReport:
    """Result of changing the encoder, the fusion or the vector index.

    Attributes:
        pictures: Number of searchable pictures.
        fusion: The new fusion.
        vector_index: Name of the new vector index plugin.
        reencoded: True if every picture was decoded and encoded again.
        failed: Files that could not be read for it; their pictures keep their vectors.
        seconds: Wall time.
        search: Build settings and measured recall; see `BuiltVectorIndex.settings`.
        calibration: Calibration of the confidences; None if it was not part of the change.
        derived: Number of vectors of pictures and texts that this call derived from stored ones.
        decoded: Number of items that this call decoded for another encoder.
        from_thumbnails: Number of items that this call encoded from their thumbnails, because the
            index keeps no originals of them.
    """

    pictures: int
    fusion: FusionSpec
    vector_index: str
    reencoded: bool
    failed: tuple[FailedFile, ...]
    seconds: float
    search: Mapping[str, Any] = field(default_factory=dict)
    calibration: CalibrationReport | None = None
    derived: int = 0
    decoded: int = 0
    from_thumbnails: int = 0

    @property
    def thumbnails_notice(self) -> str | None:
        """A line about pictures that were encoded from their thumbnails; None without any."""
        if not self.from_thumbnails:
            return None
        return (
            f"{self.from_thumbnails:,} pictures were encoded from their thumbnails, because the"
            " index keeps no originals of them. Add them again with keep_originals for vectors of"
            " full detail."
        )


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
class InitReport:
    """Result of the creation of an empty index.

    Attributes:
        name: Name of the index.
        folder: Its folder.
        places: URLs of the parts that are outside of the folder, by part: ``catalog``, ``store``
            and ``search``.
        found: What was found at each URL, by part.
    """

    name: str
    folder: Path
    places: Mapping[str, str]
    found: Mapping[str, str]


@dataclass(frozen=True)
class MigrationReport:
    """Result of a migration.

    Attributes:
        name: Name of the index.
        to: Name of the index that is equal to it now.
        folder: Folder of that index.
        pictures: Number of searchable pictures in it.
        files: Number of vector files.
        bytes: Total size of these files.
        seconds: Wall time.
    """

    name: str
    to: str
    folder: Path
    pictures: int
    files: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class CopyReport:
    """Result of a backup or a restore.

    Attributes:
        folder: Folder of the copy; None for a backup at a URI.
        pictures: Number of searchable pictures in it.
        files: Number of vector files.
        bytes: Total size of all files.
        seconds: Wall time.
        uri: Address of the backup, without a password; None for a folder.
    """

    folder: Path | None
    pictures: int
    files: int
    bytes: int
    seconds: float
    uri: str | None = None


@dataclass(frozen=True)
class ExportReport:
    """Result of an export.

    Attributes:
        folder: Folder of the export.
        format: ``parquet``, ``npy`` or ``clip-retrieval``.
        pictures: Number of pictures; a film or a document counts once.
        text_vectors: Number of text vectors.
        files: Number of files.
        bytes: Total size of all files.
        seconds: Wall time.
        items: Number of image vectors: one of each picture, of each moment of a film and of each
            page of a document.
        left_out: Number of films and documents that the format does not hold, and of files without
            pictures, such as sounds.
    """

    folder: Path
    format: str
    pictures: int
    text_vectors: int
    files: int
    bytes: int
    seconds: float
    items: int
    left_out: int = 0


@dataclass(frozen=True)
class ImportReport:
    """Result of an import.

    Attributes:
        pictures: Number of pictures in the export; a film or a document counts once.
        added: Pictures that are new in the index.
        copied: Pictures whose content was in the index, and that have a new path.
        unchanged: Pictures whose content and paths were in the index.
        kept: Pictures that were left out, because the index has other content at their paths.
        unverified: Added pictures whose content is not known: neither does the export have its
            sha256, nor can their file be read now. They are encoded once their file is indexed.
        seconds: Wall time.
    """

    pictures: int
    added: int
    copied: int
    unchanged: int
    kept: int
    unverified: int
    seconds: float
