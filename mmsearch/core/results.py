"""Results of searches, indexing runs and index maintenance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mmsearch.core.query import Band, MatchedText, Mode
from mmsearch.core.records import BuiltVectorIndex, FailedFile, Identity, Root, RunRecord
from mmsearch.core.types import FusionSpec, Text


@dataclass(frozen=True)
class TaskFailure:
    """A task that its worker could not finish.

    Attributes:
        reason: The reason, as one clause to display.
        crashed: True if the worker process died or hung; False if it refused the item.
        transient: True if a retry may succeed on the unchanged file.
    """

    reason: str
    crashed: bool = False
    transient: bool = False


@dataclass(frozen=True)
class Progress:
    """Progress of an indexing run.

    Attributes:
        phase: ``scan``, ``encode``, ``texts`` or ``build``.
        done: Number of files processed so far.
        total: Number of files to process; None while unknown.
        encoded: Number of pictures encoded so far in this run.
    """

    phase: str
    done: int
    total: int | None
    encoded: int = 0


@dataclass(frozen=True)
class IndexRequest:
    """Request for one run of the indexer.

    Attributes:
        folder: Absolute path of the folder, as bytes.
        include: Globs on the relative path; empty means every picture format.
        exclude: Globs on the relative path.
        follow_symlinks: Enter linked folders (each real folder once).
        hidden: Enter hidden folders and include hidden files.
        retry_failed: Retry files that failed before, even if they have not changed.
        allow_empty: Accept a folder that had pictures before and has none now.
        captions: Path of a caption table.
        unstable_paths: Absolute paths of files that are still being written; the run ignores them.
    """

    folder: bytes
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False
    hidden: bool = False
    retry_failed: bool = False
    allow_empty: bool = False
    captions: Path | None = None
    unstable_paths: frozenset[bytes] = frozenset()


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
        failed: Files that could not be read in this run.
        still_failed: Files that failed before and have not changed.
        unreadable_folders: Folders that could not be listed; no file below them was dropped.
        seconds: Wall time.
        encoded: Number of pictures that were decoded and encoded.
        retold: Number of pictures whose changed texts were re-encoded; their pixels were not.
        unreadable_texts: Text files that could not be read.
        captions_removed: Number of earlier table captions that the table of this run lacks.
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
    """

    pictures: int
    fusion: FusionSpec
    vector_index: str
    reencoded: bool
    failed: tuple[FailedFile, ...]
    seconds: float
    search: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hit:
    """One picture of a search result.

    Attributes:
        id: Id of the picture in its index; valid until its content or its texts change.
        rank: Rank in the result, from 1.
        score: Score that determines the order, higher is better: the cosine similarity in vector
            mode, the text score in text mode, the blended score in hybrid mode.
        visual: Cosine similarity in [-1, 1] of the (fused) vector; None in text mode.
        text: Share of the query's words found in the texts, in [0, 1]; 0 without a text search.
        matched: The text that contains most of these words.
        confidence: Probability that the picture matches the query.
        band: Verbal level of the confidence.
        path: Absolute path. Undecodable bytes are kept as surrogates (`os.fsencode` reverses it).
        width: Width in pixels, upright.
        height: Height in pixels, upright.
        format: ``JPEG``, ``PNG``, ...
        taken_at: ISO 8601 local time, if recorded in the file.
        camera: Maker and model, if recorded in the file.
        latitude: Degrees, north is positive, if recorded in the file.
        longitude: Degrees, east is positive, if recorded in the file.
        modified_at: Modification time of the file, in seconds since the epoch.
        size_bytes: Size of the file.
        texts: Texts of the picture.
        copies: Paths of other files with the same content.
    """

    id: int
    rank: int
    score: float
    visual: float | None
    text: float
    matched: MatchedText | None
    confidence: float
    band: Band
    path: Path
    width: int
    height: int
    format: str
    taken_at: str | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    modified_at: float
    size_bytes: int
    texts: tuple[Text, ...]
    copies: tuple[Path, ...]


@dataclass(frozen=True)
class SearchResult:
    """The complete result of a search.

    Attributes:
        query: The query as one line of text.
        mode: The ranking mode used.
        hits: Hits, best first.
        match: Band of the best hit found, even if the hit was left out; tells if anything matches
            the query. None if nothing was searched.
        calibrated: True if confidences are fitted for this encoder; otherwise they are rough.
        generation: Generation of the index that was searched.
        pictures: Number of pictures in that generation.
        passed: Number of pictures that passed the filters.
        encoder: Name of the encoder.
        timings_s: Seconds by step.
        dropped_tokens: Number of query tokens beyond the context length of the text encoder.
        devices: Device that each part ran on, such as ``{"text": "onnxruntime on cpu"}``.
    """

    query: str
    mode: Mode
    hits: Sequence[Hit]
    match: Band | None
    calibrated: bool
    generation: int
    pictures: int
    passed: int
    encoder: str
    timings_s: Mapping[str, float]
    dropped_tokens: int
    devices: Mapping[str, str]


@dataclass(frozen=True)
class IndexStatus:
    """Summary of the contents of an index.

    Attributes:
        name: Name of the index.
        folder: Folder of its files.
        identity: Encoder, fusion and vector index; None before the first run.
        generation: Generation number; increases with every change.
        pictures: Number of searchable pictures with distinct content.
        files: Number of paths of those pictures.
        failures: Files that could not be read.
        roots: Indexed folders.
        built: The vector index that queries use; None if queries scan the segments.
        waiting: Number of pictures in segments newer than the vector index.
        bytes_by_part: Sizes on disk of ``catalog``, ``segments`` and ``ann``.
        last_run: The most recent run.
    """

    name: str
    folder: Path
    identity: Identity | None
    generation: int
    pictures: int
    files: int
    failures: tuple[FailedFile, ...]
    roots: tuple[Root, ...]
    built: BuiltVectorIndex | None
    waiting: int
    bytes_by_part: Mapping[str, int]
    last_run: RunRecord | None


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
