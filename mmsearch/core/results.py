"""Results of searches, with their JSON form, and the status of an index."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from mmsearch.core.boxes import parse_boxes
from mmsearch.core.display import display_path, format_place, format_position
from mmsearch.core.query import Band, MatchedText, Mode
from mmsearch.core.types import IMAGE_KIND, ItemLocator, Picture, Text, TimeSpan
from mmsearch.core.understood import Understood

if TYPE_CHECKING:
    from mmsearch.core.derived import DerivedSummary
    from mmsearch.core.folder_choices import WalkOptions
    from mmsearch.core.identity import Identity
    from mmsearch.core.records import (
        BuiltVectorIndex,
        DuplicateRecord,
        FailedFile,
        IndexCalibration,
        PictureRecord,
        Root,
        RunRecord,
        SourceRecord,
    )
    from mmsearch.core.reports import SkippedCount


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
        phase: ``scan``, ``encode``, ``derive``, ``texts``, ``merge``, ``build``, ``hashes``,
            ``duplicates``, ``export``, ``import``, ``migrate``, ``wait`` (for another run), or the
            name of an enricher, such as ``ocr``.
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
        verify: Read every file, even if its size and times have not changed.
        captions: Path of a caption table.
        forget_captions: Remove the captions of the table instead of reading it.
        kept_captions: Paths of further caption tables and the absolute folders that they were given
            for; new files get captions of them.
        options: Options of the walk by folder, relative to the folder of the request, in place of
            the four above; see `mmsearch.modalities._folder.walk`.
        unstable_paths: Absolute paths of files that are still being written; the run ignores them.
    """

    folder: bytes
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False
    hidden: bool = False
    retry_failed: bool = False
    allow_empty: bool = False
    verify: bool = False
    captions: Path | None = None
    forget_captions: bool = False
    kept_captions: tuple[tuple[Path, bytes], ...] = ()
    options: Mapping[bytes, WalkOptions] = field(default_factory=dict, hash=False)
    unstable_paths: frozenset[bytes] = frozenset()


def _members(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a JSON object that are fields of a class.

    Raises:
        KeyError: A field without a default is missing.
    """
    return {
        member.name: values[member.name]
        for member in fields(cls)
        if member.name in values
        or (member.default is MISSING and member.default_factory is MISSING)
    }


class JsonObject:
    """Base class of dataclasses that are sent and read as JSON objects."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the object of a JSON object, whose unknown members are ignored.

        Raises:
            KeyError: A member is missing.
            TypeError: A member has the wrong type.
            ValueError: A member has an invalid value.
        """
        return cls(**cls._parse(values))

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return _members(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Moment(ItemLocator, JsonObject):
    """Another item of the content of a hit, such as another moment of a film.

    Attributes:
        id: Id of the item.
        score: Its score, as that of the hit.
    """

    id: int
    score: float

    @property
    def position(self) -> str:
        """Time or page of the item, for display; see `Item.position`."""
        return format_position(self.start_ms, self.page)


@dataclass(frozen=True, kw_only=True)
class Duplicate(JsonObject):
    """Another picture of the stack of a hit, which the hit stands for.

    Attributes:
        id: Id of the picture.
        path: Path of its file, as `Item.path`.
        kind: ``near`` (resized, recompressed or cropped, or a web export) or ``burst`` (taken
            within the same minutes, with the same look).
        taken_at: When it was taken, as `Picture.taken_at`.
        uri: Its place in a source other than a folder; else empty.
    """

    id: int
    path: Path
    kind: str
    taken_at: str | None = None
    uri: str = ""

    @classmethod
    def from_record(cls, record: DuplicateRecord) -> Self:
        """Return the duplicate of a catalog record."""
        return cls(
            id=record.id,
            path=Path(os.fsdecode(record.path)),
            kind=record.kind,
            taken_at=record.taken_at,
            uri=display_path(record.uri),
        )

    @property
    def location(self) -> str:
        """Path of the file, or URI of a picture of another source, for display."""
        return self.uri or display_path(self.path)

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return super()._parse(values) | {"path": Path(values["path"])}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; its path is the URI of a picture of another source."""
        return super().to_dict() | {"path": self.uri or str(self.path)}


@dataclass(frozen=True, kw_only=True)
class Item(Picture, TimeSpan, JsonObject):
    """An item of an index, with the files that have its content.

    A still picture is one item; a film or a document has several, of which a search returns the
    best one.

    Attributes:
        id: Id of the picture in its index; it stays for as long as its content is in the index.
        path: Absolute path. Undecodable bytes are kept as surrogates (`os.fsencode` reverses it);
            a server escapes them, and its paths are for display.
        texts: Texts of the picture and of its files.
        modified_at: Modification time of the file, in seconds since the epoch.
        size_bytes: Size of the file.
        copies: Paths of other files with the same content.
        key: What the source of the picture calls it: the path relative to the indexed folder, or
            the id that a program gave it.
        keys: The ids of all pictures with this content that programs added; `key` is the first,
            unless it is that of a file.
        metadata: The metadata that its source or a program gave it, as JSON values. If filters on
            metadata leave out some of `keys`, ``key`` and ``metadata`` are those of one that
            passes.
        uri: Where the picture is, if it is not a file of an indexed folder; ``path`` is of no use
            then. Empty for a file.
        links: URL paths on a server: ``self``, ``original`` and ``thumbnail``; empty for a picture
            of a local index.
        kind: Kind of the content: ``image`` for a still picture, or such as ``video``.
        part: Number of the item in its content, from 0.
        start_ms: Start of a moment of a film or a sound in milliseconds, or None. That of a hit is
            the start of the line that matches, if one does.
        end_ms: End of the moment or the line in milliseconds, or None.
        page: Number of a page of a document, from 1, or None.
        place: Where it was taken, for display, such as ``Lisbon, Portugal``; None if it is unknown.
            What the file says comes before the name of its coordinates.
    """

    id: int
    path: Path
    modified_at: float
    size_bytes: int
    copies: tuple[Path, ...] = ()
    key: str = ""
    keys: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    uri: str = ""
    links: Mapping[str, str] = field(default_factory=dict, hash=False)
    kind: str = IMAGE_KIND
    part: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    page: int | None = None
    place: str | None = None

    @classmethod
    def from_record(cls, record: PictureRecord, **scores: Any) -> Self:
        """Return the item of a catalog record; ``scores`` are the other attributes of a hit."""
        path, *copies = (Path(os.fsdecode(path)) for path in record.paths)
        return cls(
            **vars(record.picture),
            id=record.id,
            path=path,
            modified_at=record.mtime_ns / 1e9,
            size_bytes=record.size,
            copies=tuple(copies),
            key=display_path(record.key),
            keys=tuple(map(display_path, record.keys)),
            metadata=record.metadata,
            uri=display_path(record.uri),
            kind=record.kind,
            **vars(record.locator),
            place=format_place(record.picture.texts),
            **scores,
        ).prefer_existing_file()

    @property
    def location(self) -> str:
        """Path of the file, or URI of a picture of another source, for display."""
        return self.uri or display_path(self.path)

    @property
    def position(self) -> str:
        """Time or page of the item, for display: ``1:02:03``, ``p. 7``, or empty."""
        return format_position(self.start_ms, self.page)

    def prefer_existing_file(self) -> Self:
        """Return the item with the path of a file that exists, if one of its copies does.

        Paths that no longer exist are left out. If no file exists, the item stays as it is.
        """
        if not self.copies or self.uri:
            return self
        paths = (self.path, *self.copies)
        states = [_FileState.read(path, self.size_bytes) for path in paths]
        order = [
            position
            for position in sorted(range(len(paths)), key=lambda position: states[position].rank)
            if states[position].rank < _GONE
        ]
        if not order or order == list(range(len(paths))):
            return self
        path, *copies = (paths[position] for position in order)
        modified_at = self.modified_at if path == self.path else states[order[0]].modified_at
        return replace(self, path=path, copies=tuple(copies), modified_at=modified_at)

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return super()._parse(values) | {
            "path": Path(values["path"]),
            "copies": tuple(map(Path, values["copies"])),
            "keys": tuple(values.get("keys", ())),
            "texts": tuple(map(_parse_text, values["texts"])),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the item as a JSON object, which has ``links`` only if there are any."""
        values = {"id": self.id, "path": None, **super().to_dict()}
        values["path"] = self.uri or str(self.path)
        values["copies"] = [str(path) for path in self.copies]
        values["keys"] = list(self.keys)
        values["texts"] = [text.to_dict() for text in self.texts]
        if not self.links:
            del values["links"]
        return values


def _parse_text(values: Mapping[str, Any]) -> Text:
    members = _members(Text, values)
    return Text(**members | {"boxes": parse_boxes(members.get("boxes", ()))})


_GONE = 3


class _FileState(NamedTuple):
    """The state of a file: lower ranks are preferred.

    Attributes:
        rank: 0 for a file of the expected size, 1 for another file, 2 if the system does not say,
            `_GONE` if there is no file.
        modified_at: Modification time, in seconds since the epoch; 0 if unknown.
    """

    rank: int
    modified_at: float

    @classmethod
    def read(cls, path: Path, size: int) -> Self:
        """Return the state of a file, whose size in bytes should be `size`."""
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return cls(_GONE, 0.0)
        except (OSError, ValueError):
            return cls(2, 0.0)
        if not stat.S_ISREG(status.st_mode):
            return cls(_GONE, 0.0)
        return cls(int(status.st_size != size), status.st_mtime)


@dataclass(frozen=True, kw_only=True)
class Hit(Item):
    """One picture of a search result.

    Attributes:
        rank: Rank by score in the result, from 1, whatever the order of the hits.
        score: Score that determines the order, higher is better: the cosine similarity in vector
            mode, the text score in text mode, the blended score in hybrid mode.
        visual: Cosine similarity in [-1, 1] of the (fused) vector; None in text mode.
        text: Text score in [0, 1]: in text mode the weighted share of the query's words found in
            the texts, in hybrid mode how strong their evidence is; 0 without a text search.
        matched: The text that contains most of these words.
        confidence: Probability that the picture matches the query; show it to people only if the
            band is likely or possible, and the result is calibrated.
        band: Verbal level of the confidence: likely, possible or unlikely (a weak match).
        moments: Other items of the same content among the nearest ones, best first; at most five.
        folded: Number of other pictures of its stack, near duplicates and the other pictures of a
            burst, that pass the filters; 0 for a picture that is alone, or if nothing is folded.
        duplicates: At most 20 of them, near duplicates first, by id.
        index: Name of the index that has it, of a search in several indexes; its ids are those of
            that index. None in a search in one.
    """

    rank: int
    score: float
    visual: float | None
    text: float
    matched: MatchedText | None
    confidence: float
    band: Band
    moments: tuple[Moment, ...] = ()
    folded: int = 0
    duplicates: tuple[Duplicate, ...] = ()
    index: str | None = None

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        matched = values["matched"]
        if matched is not None:
            matched_members = _members(MatchedText, matched)
            spans = tuple((start, end) for start, end in matched_members["spans"])
            boxes = parse_boxes(matched_members.get("boxes", ()))
            matched = MatchedText(**matched_members | {"spans": spans, "boxes": boxes})
        return super()._parse(values) | {
            "matched": matched,
            "band": Band(values["band"]),
            "moments": tuple(map(Moment.from_dict, values.get("moments", ()))),
            "duplicates": tuple(map(Duplicate.from_dict, values.get("duplicates", ()))),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the hit as a JSON object; see `Item.to_dict`."""
        matched = None if self.matched is None else self.matched.to_dict()
        first = {"id": self.id, "rank": self.rank, "score": self.score}
        others = {
            "moments": [moment.to_dict() for moment in self.moments],
            "duplicates": [duplicate.to_dict() for duplicate in self.duplicates],
        }
        values = first | super().to_dict() | {"matched": matched, **others}
        if self.index is None:
            del values["index"]
        return values


@dataclass(frozen=True)
class Notice(JsonObject):
    """A sentence about one query, for the person who typed it.

    Attributes:
        code: ``best_guesses`` (no hit is at least possible), ``language`` (the model does not read
            the language of the query), ``spelling`` (a word is unknown), ``older_model`` (the index
            was made with an earlier version of its model), or ``incomplete`` (the vector store
            lacks pictures).
        text: The sentence, with the next step if there is one.
        suggestion: A query to run instead, or None.
    """

    code: str
    text: str
    suggestion: str | None = None


@dataclass(frozen=True)
class SearchResult(JsonObject):
    """The complete result of a search.

    Attributes:
        query: The query as one line of text.
        mode: The ranking mode used.
        hits: Hits, best first.
        match: Band of the best hit found, even if the hit was left out; shows if anything matches
            the query. None if nothing was searched.
        calibrated: True if confidences are fitted for this encoder; otherwise they and the bands
            mean little.
        generation: Generation of the index that was searched.
        pictures: Number of pictures in that generation; each of a stack counts.
        passed: Number of pictures that passed the filters; each of a stack counts.
        encoder: Name of the encoder.
        timings_s: Seconds by step.
        dropped_tokens: Number of query tokens beyond the context length of the text encoder.
        devices: Device that each part ran on, such as ``{"text": "onnxruntime on cpu"}``.
        undated: Number of pictures that pass all filters but those on the date, because their date
            is unknown.
        notices: Sentences about the query; empty if explanations were not requested.
        understood: Filters that were read in the words of the query; None without any.
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
    undated: int = 0
    notices: Sequence[Notice] = ()
    understood: Understood | None = None

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        match, understood = values["match"], values.get("understood")
        return super()._parse(values) | {
            "understood": None if understood is None else Understood.from_dict(understood),
            "notices": tuple(map(Notice.from_dict, values.get("notices", ()))),
            "mode": Mode(values["mode"]),
            "hits": tuple(map(Hit.from_dict, values["hits"])),
            "match": None if match is None else Band(match),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return vars(self) | {
            "hits": [hit.to_dict() for hit in self.hits],
            "notices": [dict(vars(notice)) for notice in self.notices],
            "understood": None if self.understood is None else self.understood.to_dict(),
            "timings_s": dict(self.timings_s),
            "devices": dict(self.devices),
        }


@dataclass(frozen=True, kw_only=True)
class SearchPage(SearchResult):
    """A page of a search result, as a server returns it.

    Attributes:
        next_cursor: Cursor of the next page; None on the last page.
    """

    next_cursor: str | None


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
        calibration: Calibration that was fitted to the texts of this index, without its background;
            it is used if its encoder is that of the index. None if none was fitted.
        damaged: Files whose picture is indexed in part, with what is missing or wrong.
        skipped: Files that are not read, by kind and reason; see `Index.skipped_files`.
        roots: Indexed folders.
        sources: All sources, folders among them.
        built: The vector index that queries use; None if queries scan the segments.
        waiting: Number of pictures in segments newer than the vector index.
        bytes_by_part: Sizes on disk of ``catalog``, ``segments``, ``ann`` and ``derived``.
        last_run: The most recent run.
        derived: What each enricher has done and what is left for it; see `Index.describe`.
        places: URLs of the parts that are outside of the folder, by part: ``catalog``, ``store``
            and ``search``. ``bytes_by_part`` is then the size of the copies in the folder.
        writers: Process, host and start of each writer that is active now, if the catalog is on a
            server.
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
    calibration: IndexCalibration | None = None
    damaged: tuple[FailedFile, ...] = ()
    skipped: tuple[SkippedCount, ...] = ()
    sources: tuple[SourceRecord, ...] = ()
    derived: tuple[DerivedSummary, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    writers: tuple[str, ...] = ()
