"""Records of the catalog: roots, files, pictures, segments, built indexes and commits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmsearch.core.types import (
    IMAGE_KIND,
    WHOLE,
    ItemLocator,
    Metadata,
    Picture,
    Text,
)

MTIME_GRANULARITY_NS = 2_000_000_000
"""Coarsest resolution of file times: FAT stores them in steps of two seconds.

A file that was read this soon after a change may change again without a new modification time.
"""

MAX_CLOCK_SKEW_NS = 2 * 86_400 * 1_000_000_000
"""Maximum time by which a fast clock, or a file system that stores local time, dates a file ahead.

A modification time further in the future was set by hand, so any change replaces it.
"""


NO_METADATA = Metadata()


@dataclass(frozen=True)
class Root:
    """An indexed folder; the paths of its files are relative to it.

    Attributes:
        id: Id assigned by the catalog.
        name: Unique display name.
        path: Absolute path, as the file system's bytes.
    """

    id: int
    name: str
    path: bytes


FOLDER_KIND = "folder"
"""Kind of the source that is a folder of files."""

RECORDS_KIND = "records"
"""Kind of the source of pictures that a program added."""


@dataclass(frozen=True)
class SourceRecord:
    """A source of the pictures of an index, with the choices that hold for all its runs.

    Attributes:
        id: Id assigned by the catalog.
        kind: ``folder``, ``records`` (pictures that a program added), or the name of a plugin.
        name: Unique name.
        uri: Path or URI; b"" for records.
        choices: The choices, as JSON values.
    """

    id: int
    kind: str
    name: str
    uri: bytes
    choices: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class SourceSummary(SourceRecord):
    """A source with what the index has of it.

    Attributes:
        pictures: Number of its files or items that have a picture.
        last_run: When the last run over it ended, in ISO 8601; None if no run has.
        outcome: How it ended: ``finished``, ``interrupted`` or ``failed``; None without a run.
    """

    pictures: int = 0
    last_run: str | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class AssetRecord:
    """An item of a source other than a folder, as the catalog knows it.

    Attributes:
        key: Name of the item, unique in its source.
        digest: sha256 of the content; b"" if it could not be read.
        stamp: Stamp of the content when it was read; see `mmsearch.core.sources.SourceItem`.
        size: Size of the content in bytes.
        error: The reason why it could not be read.
    """

    key: bytes
    digest: bytes
    stamp: bytes
    size: int
    error: str | None


@dataclass(frozen=True)
class StoredAsset:
    """An item of a source other than a folder, with what belongs to it.

    Attributes:
        asset: The item.
        item_id: Id of its picture; None if it could not be read.
        metadata: Metadata that its source or a program gave it, as JSON values.
        texts: Its texts.
        part: Part of the source that it is in.
    """

    asset: AssetRecord
    item_id: int | None
    metadata: Mapping[str, Any]
    texts: list[Text]
    part: bytes = b""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A file beside a picture that may hold texts about it; its path is relative to the root."""

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int = 0


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or a folder that is not read.

    Attributes:
        path: Path relative to the root, as bytes.
        reason: The reason, as a clause to display.
        size: Size in bytes.
        mtime_ns: Modification time, in nanoseconds.
        replaces_picture: True if the file is certainly not a picture of its own, so that a picture
            of that path is removed from the index.
    """

    path: bytes
    reason: str
    size: int = 0
    mtime_ns: int = 0
    replaces_picture: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file found by the walk.

    Attributes:
        path: Path relative to the root, as bytes.
        size: Size in bytes.
        mtime_ns: Modification time, in nanoseconds.
        sidecars: Files beside it that may hold its texts, those with the closest names first.
        ctime_ns: Time of the last change of the file or its attributes, in nanoseconds; 0 if the
            system does not have it.
    """

    path: bytes
    size: int
    mtime_ns: int
    sidecars: tuple[Sidecar, ...] = ()
    ctime_ns: int = 0


@dataclass(frozen=True)
class ScannedFolder:
    """A folder found by the walk.

    Attributes:
        path: Path relative to the start of the walk, as bytes; b"" for the start itself.
        digest: Digest of everything that determines the result of `list_files`: names, sizes,
            times and the options of the walk.
        num_files: Number of files examined.
        list_files: Lists the pictures directly in the folder, in the same order each time.
        list_skipped: Lists the other files and the folders that are left out.
    """

    path: bytes
    digest: bytes
    num_files: int
    list_files: Callable[[], Iterator[ScannedFile]]
    list_skipped: Callable[[], Iterator[SkippedFile]] = lambda: iter(())


@dataclass(frozen=True)
class FolderRecord:
    """A folder whose files are all up to date.

    Attributes:
        digest: Digest of the folder as the run found it and of the options of the run.
        pictures: Number of files in the folder that have a vector.
        failed: Number of files in the folder that cannot be read.
    """

    digest: bytes
    pictures: int
    failed: int


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as recorded in the catalog.

    Attributes:
        path: Path relative to its root, as bytes.
        size: Size in bytes.
        mtime_ns: Modification time, in nanoseconds.
        checked_ns: Time of the last read. A modification time close to it does not prove that
            the file is unchanged; see `is_unchanged`.
        digest: sha256 of the content.
        content_id: Id of its content; None if it could not be read.
        error: The reason why it could not be read.
        texts_key: Fingerprint of everything outside the file that its texts come from.
        ctime_ns: See `ScannedFile`; 0 also if the file was read by an earlier version.
    """

    path: bytes
    size: int
    mtime_ns: int
    checked_ns: int
    digest: bytes
    content_id: int | None
    error: str | None = None
    texts_key: bytes = b""
    ctime_ns: int = 0


@dataclass(frozen=True)
class EncodedPicture:
    """A picture whose vector is in a segment.

    Attributes:
        id: Id of the picture; that of a new picture was never used before.
        digest: Digest of its content.
        picture: Its metadata, with the texts embedded in the file.
        texts_digest: Digest of the texts whose vectors are in the segment (`texts_digest`).
        keep_texts: True if the picture file was not read again.
        locator: Where the picture is in its content.
        kind: Kind of the content; see `mmsearch.core.protocols.Modality.kind`.
        perceptual_hash: Hash of the look of a still picture, a signed 64-bit integer; None if its
            pixels were not seen.
    """

    id: int
    digest: bytes
    picture: Picture
    texts_digest: bytes = b""
    keep_texts: bool = False
    locator: ItemLocator = WHOLE
    kind: str = IMAGE_KIND
    perceptual_hash: int | None = None


@dataclass(frozen=True)
class CaptionTableTexts:
    """The texts that a caption table gives a file.

    Attributes:
        table: Absolute path of the table, as bytes. Its earlier texts for the file are replaced,
            those of other tables stay. None removes the texts of all tables.
        texts: The texts; may be empty.
    """

    table: bytes | None
    texts: Sequence[Text] = ()


@dataclass(frozen=True)
class IndexedFile:
    """A file whose content has a vector.

    Attributes:
        file: The file as scanned.
        digest: Digest of its content.
        texts: Texts from its sidecars and its name.
        texts_key: See `FileRecord`.
        table: New texts from caption tables; None keeps the existing ones.
        kept_tables: New texts from further tables.
        moved_from: Its former path, whose caption table texts it takes over.
        overrides: See `CollectedTexts`.
        fallbacks: See `CollectedTexts`.
        part: Part of the source that it is in; None in a folder.
        stamp: See `AssetRecord`; None in a folder.
        metadata: Metadata that its source or a program gave it, as JSON values; None without any.
    """

    file: ScannedFile
    digest: bytes
    texts: Sequence[Text] = ()
    texts_key: bytes = b""
    table: CaptionTableTexts | None = None
    moved_from: bytes | None = None
    overrides: Metadata = NO_METADATA
    fallbacks: Metadata = NO_METADATA
    part: bytes | None = None
    stamp: bytes | None = None
    metadata: Mapping[str, Any] | None = field(default=None, hash=False)
    kept_tables: Sequence[CaptionTableTexts] = ()


@dataclass(frozen=True)
class StoredPicture:
    """A picture that has vectors, with everything needed to compute them again.

    Attributes:
        id: Id of the picture.
        digest: Digest of its content.
        picture: Its metadata, with all its texts, including those of its files.
        segment: Number of the segment that holds its vectors; None if it has none in that space.
        path: Absolute path of one of its files.
        size: Size of that file, in bytes.
        mtime_ns: Modification time of that file, in nanoseconds.
        texts_digest: Digest of the texts whose vectors are in the segment.
        must_decode: True if there is no image vector that can be used again.
        source: Kind and URI of its source and the key in it, if it is not a file of a folder.
        locator: Where the picture is in its content.
        kind: Kind of the content.
        perceptual_hash: See `EncodedPicture`.
    """

    id: int
    digest: bytes
    picture: Picture
    segment: int | None
    path: bytes
    size: int
    mtime_ns: int
    texts_digest: bytes = b""
    must_decode: bool = False
    source: tuple[str, bytes, bytes] | None = None
    locator: ItemLocator = WHOLE
    kind: str = IMAGE_KIND
    perceptual_hash: int | None = None


@dataclass(frozen=True)
class FileRef:
    """Reference to a file of the index: its name in the index folder, its size and its sha256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class IndexCalibration:
    """A calibration of an encoder that was fitted on the texts of an index.

    Attributes:
        encoder: Fingerprint of the encoder.
        texts: Number of texts that were searched.
        bias: See `ScoreMap`.
        deviations: See `ScoreMap`.
        margin: See `ScoreMap`.
        nothing: See `Calibration`.
        lost: Share of the texts whose picture was there and that were answered "nothing".
        rejected: Share of the texts whose picture was left out and that were answered "nothing".
        error: Expected calibration error of the first hits.
        background: float16 (1 + rank, dim), little-endian, row after row, in base64: see
            `Background`, the mean first; empty if that of the encoder is used.
        created_at: ISO 8601 time, UTC.
        residual: See `Background`.
    """

    encoder: str
    texts: int
    bias: float
    deviations: float
    margin: float
    nothing: float
    lost: float
    rejected: float
    error: float
    background: str
    created_at: str
    residual: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in ("encoder", "background", "created_at"):
                if not isinstance(value, str):
                    raise TypeError(name)
            elif not (isinstance(value, int | float) and math.isfinite(value)):
                raise ValueError(name)


@dataclass(frozen=True)
class Segment:
    """An immutable file of vectors.

    Attributes:
        number: Increases with every segment; never reused.
        file_ref: The file.
        rows: Number of vectors.
        dim: Dimension of the vectors.
    """

    number: int
    file_ref: FileRef
    rows: int
    dim: int


@dataclass(frozen=True)
class BuiltVectorIndex:
    """A vector index built from all segments up to ``covers``.

    Attributes:
        plugin_name: Name of the plugin that reads it.
        file_ref: The file.
        rows: Number of vectors.
        covers: Number of the last segment that it includes.
        settings: Build settings and measured recall, as plain values.
    """

    plugin_name: str
    file_ref: FileRef
    rows: int
    covers: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PictureRecord:
    """One picture of the catalog, with the paths of all files that have its content.

    Attributes:
        id: Id of the picture.
        paths: Absolute paths, as bytes; never empty for a searchable picture.
        picture: Its metadata.
        mtime_ns: Modification time of the first path, in nanoseconds.
        size: Size of the file, in bytes.
        root: The indexed folder that contains the first path; b"" without a path.
        digest: sha256 of the content.
        copy_roots: The indexed folders that contain the other paths.
        key: What the source calls the first file or record: unique in the source, such as the path
            relative to the indexed folder.
        metadata: The metadata that its source or a program gave it.
        uri: Where it is, if it is not a file of an indexed folder; such a place has no path of its
            own, and ``paths`` names the URI.
        thumbnail: Path of the thumbnail that the index keeps of such a picture.
        locator: Where the picture is in its content.
        kind: Kind of the content.
        keys: Keys of all records of programs with this content.
    """

    id: int
    paths: tuple[bytes, ...]
    picture: Picture
    mtime_ns: int
    size: int
    root: bytes
    digest: bytes
    copy_roots: tuple[bytes, ...] = ()
    key: bytes = b""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    uri: bytes = b""
    thumbnail: bytes = b""
    locator: ItemLocator = WHOLE
    kind: str = IMAGE_KIND
    keys: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class DuplicateRecord:
    """A picture of a stack of duplicates.

    Attributes:
        id: Id of its first item.
        path: Path of its file, or its URI in a source other than a folder.
        kind: ``near`` if it is a near duplicate of the picture that it was looked up for, else
            ``burst``.
        taken_at: When it was taken; see `Picture.taken_at`.
        uri: Its URI if it is in no folder; else empty.
    """

    id: int
    path: bytes
    kind: str
    taken_at: str | None
    uri: bytes = b""


@dataclass(frozen=True)
class StackRecord:
    """The other pictures of the stack of a picture.

    Attributes:
        count: Number of the other pictures.
        duplicates: Some of them, near duplicates first, by id.
    """

    count: int
    duplicates: Sequence[DuplicateRecord]


@dataclass(frozen=True)
class SalvageResult:
    """Counts of the rows that a new catalog recovered from a damaged one.

    Attributes:
        files: Number of recovered file records.
        texts: Number of recovered texts from outside the files, such as table captions.
        lost_files: Number of files left out because their content no longer has a vector.
        unreadable_tables: Catalog tables with rows that could not be read.
    """

    files: int
    texts: int
    lost_files: int
    unreadable_tables: tuple[str, ...]


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be read: its absolute path as bytes, and the reason."""

    path: bytes
    reason: str


@dataclass(frozen=True)
class RunRecord:
    """One run of the indexer, as recorded in the catalog."""

    started_at: str
    finished_at: str | None
    outcome: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class ShardCommit:
    """Changes that are committed and become visible in one transaction.

    Attributes:
        root_id: The root that all paths are relative to.
        segment: The segment with the vectors of ``pictures``; None if ``pictures`` is empty.
        pictures: New pictures, in the order of the segment's rows.
        text_items: New items without pixels, which have no vector.
        indexed: Files whose content is indexed.
        failed: Files that cannot be read, each with the digest of its content and the reason.
        removed: Paths that no longer exist.
        checked_ns: Time at which the files were read.
        failed_parts: Part and stamp of failed items of sources other than folders, by key.
        unused_ids: Ids of other rows of the segment, whose content changed while it was read.
    """

    root_id: int
    checked_ns: int
    segment: Segment | None = None
    pictures: Sequence[EncodedPicture] = ()
    indexed: Sequence[IndexedFile] = ()
    failed: Sequence[tuple[ScannedFile, bytes, str]] = ()
    removed: Sequence[bytes] = ()
    failed_parts: Mapping[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    unused_ids: Sequence[int] = ()
    text_items: Sequence[EncodedPicture] = ()


@dataclass(frozen=True)
class CollectedTexts:
    """The texts and the metadata found around a picture: in its sidecars and in its path.

    Attributes:
        texts: The texts in the order of the files, duplicates included.
        problems: Text files that cannot be read.
        overrides: Metadata without texts that replaces what the picture file says.
        fallbacks: Metadata without texts that is used where nothing else says it.
    """

    texts: tuple[Text, ...] = ()
    problems: tuple[FailedFile, ...] = ()
    overrides: Metadata = NO_METADATA
    fallbacks: Metadata = NO_METADATA


def is_unchanged(known: FileRecord, seen: ScannedFile) -> bool:
    """Return True if size and times prove that a file is unchanged since it was read."""
    if (known.size, known.mtime_ns) != (seen.size, seen.mtime_ns):
        return False
    if known.ctime_ns and seen.ctime_ns and known.ctime_ns != seen.ctime_ns:
        return False
    age_ns = known.checked_ns - known.mtime_ns
    return age_ns > MTIME_GRANULARITY_NS or age_ns < -MAX_CLOCK_SKEW_NS
