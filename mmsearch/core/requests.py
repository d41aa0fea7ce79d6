"""The vocabulary of work and answers: what is asked of the engine, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.queries import Band, Mode, Query
from mmsearch.core.records import BuiltVectorIndex, FailedFile, Identity, Root, RunRecord
from mmsearch.core.text_matches import MatchedText
from mmsearch.core.types import FusionSpec, Text, Vectors


@dataclass(frozen=True)
class TaskFailure:
    """A task that its worker could not finish.

    Attributes:
        reason: One clause for a person.
        crashed: The worker process died or hung, rather than refusing the item.
        transient: Another attempt may go well though the file does not change.
    """

    reason: str
    crashed: bool = False
    transient: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        phase: ``scan``, ``encode``, ``texts`` or ``build``.
        done: Files settled so far.
        total: Files to settle; None while it is unknown.
        encoded: Pictures encoded so far in this run.
    """

    phase: str
    done: int
    total: int | None
    encoded: int = 0


@dataclass(frozen=True)
class IndexRequest:
    """What one run of the indexer shall do.

    Attributes:
        folder: Absolute path of the folder, as bytes.
        include: Globs on the relative path; empty means every picture format.
        exclude: Globs on the relative path.
        follow_symlinks: Enter linked folders (each real folder once).
        hidden: Enter hidden folders and take hidden files.
        retry_failed: Try again what failed, though it has not changed.
        allow_empty: Accept that a folder that had pictures has none now.
        captions: A table of captions.
        unstable_paths: Absolute paths of files that are being written: as if they had not been seen.
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
    """What one run of the indexer did; counts are files.

    Attributes:
        added: New content, encoded.
        changed: Known path with new content, encoded.
        unchanged: Not read, or read and found the same.
        moved: Known content at a new path, its old path gone; not decoded.
        copied: Known content at one more path; not decoded.
        gone: Paths that no longer exist.
        failed: Files that could not be read in this run.
        still_failed: Files that failed before and have not changed.
        unreadable_folders: Folders that could not be listed; nothing below them was dropped.
        seconds: Wall time.
        encoded: Pictures that were decoded and encoded.
        retold: Pictures whose texts had changed and were encoded anew, their pixels not.
        unreadable_texts: Files of texts that could not be read.
        captions_removed: Captions that tables gave before and that this run's table does not.
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
    """What a change of fusion or vector index did.

    Attributes:
        pictures: That can be found.
        fusion: What it is now.
        vector_index: The plugin's name now.
        reencoded: Every picture was decoded and encoded once more.
        failed: Files that could not be read then; their pictures keep their vectors.
        seconds: Wall time.
        search: What is known of searches; see `BuiltVectorIndex.settings`.
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
    """One picture of an answer.

    Attributes:
        id: The picture in its index, for as long as neither its content nor its texts change.
        rank: From 1.
        score: What the order goes by, higher is better: the cosine similarity in vector mode, the
            text score in text mode, the blend's in hybrid mode.
        visual: Cosine similarity in [-1, 1] of the (fused) vector; None in text mode.
        text: Share of the query's words that the texts hold, in [0, 1]; 0 if they were not asked.
        matched: The text that holds most of them.
        confidence: Probability that the picture shows what was asked for.
        band: A word for that.
        path: Absolute. Undecodable bytes are kept as surrogates (`os.fsencode` undoes it).
        width: Pixels, upright.
        height: Pixels, upright.
        format: ``JPEG``, ``PNG``, ...
        taken_at: ISO 8601 local time, if the file says.
        camera: Maker and model, if the file says.
        latitude: Degrees, north is positive, if the file says.
        longitude: Degrees, east is positive, if the file says.
        modified_at: Seconds since the epoch.
        size_bytes: Of the file.
        texts: Texts of the picture.
        copies: Other places with the same content.
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
class SearchRequest:
    """What shall be answered.

    Attributes:
        query: What is looked for.
        k: How many hits at most.
        min_score: Hits with a lower `Hit.score` are left out.
        min_confidence: Hits with a lower `Hit.confidence` are left out.
        explain: Say of each hit how sure it is and which text speaks for it; without, both are
            left empty, and no least confidence can be asked for.
    """

    query: Query
    k: int = 10
    min_score: float | None = None
    min_confidence: float | None = None
    explain: bool = True


@dataclass(frozen=True)
class EncodedQuery:
    """A search whose terms are vectors.

    Attributes:
        request: What was asked.
        encoder: Fingerprint of what encoded it.
        seconds: What that took, with all that was encoded together.
        vectors: (n, dim), a row a term; None if words alone decide.
        null_vector: float32 (dim,), mean vector of prompts that describe nothing; None if no hit is to
            be compared with them.
        dropped_tokens: Beyond what the encoder reads.
        devices: Where each kind was encoded.
    """

    request: SearchRequest
    encoder: str
    seconds: float
    vectors: Vectors | None = None
    null_vector: NDArray[np.float32] | None = None
    dropped_tokens: int = 0
    devices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchResult:
    """A whole answer.

    Attributes:
        query: As a line.
        mode: What decided the order.
        hits: Best first.
        match: Whether anything here seems to be what was asked for: the band of the best hit that
            was found, whether it was left out or not; None if nothing was searched.
        calibrated: Whether confidences were fitted for this encoder; else they are a rough guess.
        generation: The state of the index that was searched.
        pictures: How many pictures that state holds.
        passed: How many of them passed the filters.
        encoder: Name of the encoder.
        timings_s: Seconds by step.
        dropped_tokens: Tokens of the query beyond what the text tower reads.
        devices: Where each part ran, such as ``{"text": "onnxruntime on cpu"}``.
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
    """What an index holds.

    Attributes:
        name: Of the index.
        folder: Where its files are.
        identity: Encoder, fusion and vector index; None before the first run.
        generation: Rises with every change.
        pictures: Distinct contents that can be found.
        files: Paths of those pictures.
        failures: Files that could not be read.
        roots: Folders that are indexed.
        built: The vector index that queries use; None if all is searched in segments.
        waiting: Pictures in segments that came after it.
        bytes_by_part: Sizes on disk of ``catalog``, ``segments`` and ``ann``.
        last_run: The newest run.
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
