"""The vocabulary of the catalog: roots, files, segments, generations, and what is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmsearch.core.texts import DEFAULT_SOURCES
from mmsearch.core.types import EncoderSpec, FusionSpec, Picture, SearchGoals, Text, TextSource

MTIME_GRANULARITY_NS = 2_000_000_000
"""A file changed within this time of being read may change again without a new time stamp: FAT
keeps two-second times."""

MAX_CLOCK_SKEW_NS = 2 * 86_400 * 1_000_000_000
"""A file dated further ahead was dated by hand, not by a clock that is ahead or a file system that
keeps local time: a change gives it another date."""


@dataclass(frozen=True)
class Root:
    """A folder that is indexed; files are kept relative to it.

    Attributes:
        id: Given by the catalog.
        name: Unique, for people.
        path: Absolute, as the file system's bytes.
    """

    id: int
    name: str
    path: bytes


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A file beside a picture that may say something of it: its path relative to the root."""

    path: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file that the walk met.

    Attributes:
        path: Relative to the root, as bytes.
        size: Bytes.
        mtime_ns: Modification time.
        sidecars: The files beside it that may hold texts of it, by path.
    """

    path: bytes
    size: int
    mtime_ns: int
    sidecars: tuple[Sidecar, ...] = ()


@dataclass(frozen=True)
class ScannedFolder:
    """A folder that the walk met.

    Attributes:
        path: Relative to where the walk began, as bytes; b"" for that folder itself.
        digest: Of all that `list_files` follows from: names, sizes, times, and how the walk chooses.
        num_files: Files that were looked at.
        list_files: Lists the files in the folder itself, in order; the same each time.
    """

    path: bytes
    digest: bytes
    num_files: int
    list_files: Callable[[], Iterator[ScannedFile]]


@dataclass(frozen=True)
class FolderRecord:
    """A folder in whose files a run has found nothing left to do.

    Attributes:
        digest: Of what the run saw and of what it asked for.
        pictures: Files in it that have a vector.
        failed: Files in it that cannot be read.
    """

    digest: bytes
    pictures: int
    failed: int


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as the catalog remembers it.

    Attributes:
        path: Relative to its root, as bytes.
        size: Bytes.
        mtime_ns: Modification time.
        checked_ns: When the file was read last; a younger mtime than this proves nothing if
            the two are nearly equal.
        digest: sha256 of the content.
        image_id: None if the picture could not be read.
        error: Why it could not be read.
        texts_key: Stands for everything around the file that its texts were made of.
    """

    path: bytes
    size: int
    mtime_ns: int
    checked_ns: int
    digest: bytes
    image_id: int | None
    error: str | None = None
    texts_key: bytes = b""


@dataclass(frozen=True)
class EncodedPicture:
    """A picture whose vector stands in a segment.

    Attributes:
        id: Never used before.
        digest: Of its content.
        picture: What is known of it, with the texts that are in the file itself.
        texts_digest: Of the texts whose vectors stand in the segment (`texts_digest`).
        replaces: The picture's former id, whose place it takes with all files and texts.
        keep_texts: With `replaces`: the texts in the file itself were not read again.
    """

    id: int
    digest: bytes
    picture: Picture
    texts_digest: bytes = b""
    replaces: int | None = None
    keep_texts: bool = False


@dataclass(frozen=True)
class CaptionTableTexts:
    """What a table of captions says of a file.

    Attributes:
        table: Absolute path of the table, as bytes. What it said of the file before is replaced;
            what other tables say stays. None: what any table said is removed.
        texts: May be empty.
    """

    table: bytes | None
    texts: Sequence[Text] = ()


@dataclass(frozen=True)
class IndexedFile:
    """A file whose content has a vector.

    Attributes:
        file: As seen.
        digest: Of its content.
        texts: What its sidecars and its name say.
        texts_key: See `FileRecord`.
        table: None leaves what tables said before.
        moved_from: Its former path, from which it takes what a table said.
    """

    file: ScannedFile
    digest: bytes
    texts: Sequence[Text] = ()
    texts_key: bytes = b""
    table: CaptionTableTexts | None = None
    moved_from: bytes | None = None


@dataclass(frozen=True)
class StoredPicture:
    """A picture that has vectors, with all that it takes to make them again.

    Attributes:
        id: Of the picture.
        digest: Of its content.
        picture: What is known of it, with all its texts, those of its files too.
        segment: Number of the segment that holds its vectors.
        path: Absolute, of one of its files.
        size: Of that file, in bytes.
        mtime_ns: Of that file.
        texts_digest: Of the texts whose vectors stand in the segment.
    """

    id: int
    digest: bytes
    picture: Picture
    segment: int
    path: bytes
    size: int
    mtime_ns: int
    texts_digest: bytes = b""


@dataclass(frozen=True)
class FileRef:
    """A file of the index: its name inside the index folder, its size and its sha256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Segment:
    """An immutable file of vectors.

    Attributes:
        number: Rises with every segment; never reused.
        file_ref: The file.
        rows: Vectors in it.
        dim: Columns.
    """

    number: int
    file_ref: FileRef
    rows: int
    dim: int


@dataclass(frozen=True)
class BuiltVectorIndex:
    """A vector index built from all segments up to ``covers``.

    Attributes:
        plugin_name: The plugin that reads it.
        file_ref: The file.
        rows: Vectors in it.
        covers: Number of the last segment that went into it.
        settings: Build settings and measured recall, as plain values.
    """

    plugin_name: str
    file_ref: FileRef
    rows: int
    covers: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """What an index is bound to for life, or until it is re-encoded.

    Attributes:
        encoder: Makes all vectors.
        fusion: Makes one vector of a picture's; may be changed without encoding.
        vector_index: The plugin that is built; ``auto``: the one that suits the collection.
        texts: Where texts that get a vector come from.
        goals: What searches shall be like.
    """

    encoder: EncoderSpec
    fusion: FusionSpec
    vector_index: str
    texts: tuple[TextSource, ...] = DEFAULT_SOURCES
    goals: SearchGoals = field(default_factory=SearchGoals)


@dataclass(frozen=True)
class PictureRecord:
    """One picture of the catalog, with every place where its content lies.

    Attributes:
        id: The picture.
        paths: Absolute, as bytes; never empty for a picture that is alive.
        picture: What is known of it.
        mtime_ns: Modification time of the first path.
        size: Bytes of the file.
        root: The folder that was indexed, in which the first path lies; b"" without a path.
        digest: sha256 of the content.
    """

    id: int
    paths: tuple[bytes, ...]
    picture: Picture
    mtime_ns: int
    size: int
    root: bytes
    digest: bytes


@dataclass(frozen=True)
class SalvageResult:
    """What a new catalog has taken over from a damaged one.

    Attributes:
        files: Paths, with what is known of them.
        texts: Those around files, such as captions of tables.
        lost_files: Files whose content has no vector any more; they were left out.
        unreadable_tables: Tables of which rows could not be read.
    """

    files: int
    texts: int
    lost_files: int
    unreadable_tables: tuple[str, ...]


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be read: its absolute path as bytes, and why."""

    path: bytes
    reason: str


@dataclass(frozen=True)
class RunRecord:
    """One run of the indexer, as the catalog remembers it."""

    started_at: str
    finished_at: str | None
    outcome: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class ShardCommit:
    """What becomes visible together, in one transaction.

    Attributes:
        root_id: The root that all paths below are relative to.
        segment: The file that holds the vectors of ``pictures``; None if there are none.
        pictures: New contents, in the order of the segment's rows.
        indexed: Files whose content has a vector.
        failed: Files, the digest of their content, and why it cannot be read.
        removed: Paths that are gone.
        checked_ns: When the files were read.
    """

    root_id: int
    checked_ns: int
    segment: Segment | None = None
    pictures: Sequence[EncodedPicture] = ()
    indexed: Sequence[IndexedFile] = ()
    failed: Sequence[tuple[ScannedFile, bytes, str]] = ()
    removed: Sequence[bytes] = ()


@dataclass(frozen=True)
class CollectedTexts:
    """What the files around a picture say of it.

    Attributes:
        texts: In the order of the files; equal ones are not left out.
        problems: Files that should hold texts and cannot be read.
    """

    texts: tuple[Text, ...] = ()
    problems: tuple[FailedFile, ...] = ()


def is_unchanged(known: FileRecord, seen: ScannedFile) -> bool:
    """Whether size and time say that a file holds what it held when it was read."""
    if (known.size, known.mtime_ns) != (seen.size, seen.mtime_ns):
        return False
    age_ns = known.checked_ns - known.mtime_ns
    return age_ns > MTIME_GRANULARITY_NS or age_ns < -MAX_CLOCK_SKEW_NS
