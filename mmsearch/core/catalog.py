"""Protocols of the catalog: snapshots of a generation, reading and writing.

A function declares the smallest protocol that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.derived import DerivedReader, DerivedWriter
from mmsearch.core.duplicates import DuplicateReader, DuplicateWriter
from mmsearch.core.facets import Facet
from mmsearch.core.filter_tree import FilterTree
from mmsearch.core.filters import Filters
from mmsearch.core.identity import Identity
from mmsearch.core.query import MatchedText, TextMatches, TextTerm
from mmsearch.core.records import (
    AssetRecord,
    BuiltVectorIndex,
    EncodedPicture,
    FailedFile,
    FileRecord,
    FolderRecord,
    IndexCalibration,
    PictureRecord,
    Root,
    RunRecord,
    Segment,
    ShardCommit,
    SkippedFile,
    SourceRecord,
    SourceSummary,
    StackRecord,
    StoredAsset,
    StoredPicture,
)
from mmsearch.core.suggestions import Suggestion, SuggestionKind, SuggestionWriter
from mmsearch.core.types import Ids

if TYPE_CHECKING:
    from mmsearch.core.server_filters import ItemFields


PUBLISHING: Final = "publish"
DESCRIBING: Final = "describe"
"""Work that runs do one after another; see `CatalogWriter.one_at_a_time`."""


class Snapshot(Protocol):
    """A consistent view of one generation of a catalog while it is open."""

    @property
    def generation(self) -> int: ...

    @property
    def identity(self) -> Identity | None: ...

    @property
    def created_at(self) -> str:
        """Time at which the index was created, ISO 8601 in UTC; empty before its first run."""

    @property
    def calibration(self) -> IndexCalibration | None:
        """The index's own calibration; None if it has none, or a damaged one."""

    @property
    def items(self) -> int:
        """Number of searchable items: pictures, moments of films, pages of documents, sounds."""

    @property
    def items_with_pixels(self) -> int:
        """Number of searchable items that have a vector."""

    @property
    def ids_without_pixels(self) -> Ids:
        """Ids of searchable items that have no vector, and are only found by words; ascending."""

    @property
    def pictures(self) -> int:
        """Number of searchable contents: a film or a document counts once."""

    @property
    def has_moments(self) -> bool:
        """True if a content has several items."""

    def content_ids(self, ids: Ids) -> Ids:
        """Return a number for each item, int64 (n,), that is equal for items of one content."""

    def count_facets(
        self, fields: Sequence[str], ids: Ids | None, filters: Filters, *, limit: int, fold: bool
    ) -> tuple[int, list[Facet]]:
        """Return the number of pictures, and how many of them have each value of some fields.

        Args:
            fields: Names of fields, of `mmsearch.core.facets.FACET_FIELDS`.
            ids: Ids of the items that count; None for all searchable ones.
            filters: The filters that they passed, which `FacetValue.filter` narrows.
            limit: Maximum number of values of a field.
            fold: True to count a stack of duplicates once.
        """

    def count_contents(self, ids: Ids) -> int:
        """Return the number of contents of different items: a film or a document counts once."""

    def sibling_ids(self, ids: Ids) -> Ids:
        """Return the ids of all items of the contents of some items, ascending."""

    @property
    def has_stacks(self) -> bool:
        """True if contents are known to be near duplicates, or of one burst."""

    def stack_ids(self, ids: Ids) -> Ids:
        """Return a number for each item, int64 (n,), that is equal for items of one stack.

        A content that has no duplicates is a stack of its own.
        """

    def stack_item_ids(self, ids: Ids) -> Ids:
        """Return the ids of all items of the stacks of some items, ascending."""

    def stacks(self, ids: Sequence[int], allowed: Ids | None, limit: int) -> dict[int, StackRecord]:
        """Return the other searchable contents of the stack of each item that has some.

        Args:
            ids: Ids of items.
            allowed: Ids of items that pass the filters, ascending; None for all. A content counts
                if one of its items passes.
            limit: Maximum number of contents that are listed of a stack; all are counted.
        """

    def sample_ids(self, count: int) -> Ids:
        """Return ids of at most ``count`` items of different contents, spread over the index.

        Those with pixels. Searchable ones only, ascending; fewer if the ids of contents have gaps.
        """

    @property
    def built(self) -> BuiltVectorIndex | None: ...

    @property
    def unindexed_segments(self) -> Sequence[Segment]:
        """Segments that the built index does not cover."""

    @property
    def deleted_ids(self) -> Ids:
        """Tombstones: ids of pictures without any file left, ascending."""

    def records(self, ids: Sequence[int], filters: FilterTree | None = None) -> list[PictureRecord]:
        """Return the records of ids, in the same order; KeyError for an id that never existed.

        Of a content in several places, the record has the key and the metadata of the first place
        whose metadata passes the filters.
        """

    def stale_rows(self, *, above: int = 0) -> dict[int, Ids]:
        """Return the ids of pictures whose rows are stale, by number of a segment ``above``.

        A row is stale if the embedding of its picture is in a newer segment.
        """

    def moved_ids(self, covers: int) -> Ids:
        """Return the pictures with a row in segments up to ``covers`` that is stale since then.

        A vector index built from those segments holds a former embedding of them. Ascending.
        """

    def find_segments(self, ids: Sequence[int]) -> dict[int, Segment]:
        """Return the segment with the vectors of each picture that is searchable."""

    def find_item(self, path: bytes) -> tuple[FileRecord, int] | None:
        """Return the record of a file by its absolute path, and the id of its picture.

        None if the file is not in the index or could not be read.
        """

    def list_ids(self, after_id: int, limit: int) -> list[int]:
        """Return the id of the first item of each searchable content, above an id, ascending."""

    def filter_ids(self, filters: FilterTree) -> Ids:
        """Return the ids of the searchable pictures that pass the filters, ascending.

        Raises:
            InvalidQueryError: A pattern or a value is invalid.
        """

    def item_fields(self, ids: Sequence[int]) -> list[ItemFields]:
        """Return the values of the fields of items, for search servers, ordered by id.

        Those of deleted items are among them, but not those of ids that never existed.
        """

    @property
    def changed_fields(self) -> Ids | None:
        """The items whose fields may differ from those in the collection on a search server.

        int64 (n,), ascending; deleted items may be among them, and items that the collection lacks.
        None if it is not known, or if the built index is no collection.
        """

    @property
    def has_texts(self) -> bool:
        """True if any text other than a file name or a tag is in the full-text index."""

    def has_text_mask(self, ids: Ids) -> NDArray[np.bool_]:
        """Return a bool (n,) mask of pictures with a searchable text by a person.

        File names do not count, and neither does what a model has made.
        """

    def match(self, terms: Sequence[TextTerm], limit: int, allowed: Ids | None) -> TextMatches:
        """Return the pictures whose texts contain the largest share of the words.

        To a moment of a film or a sound, the texts of the moments before and after it count at a
        lower weight. Words that say nothing are left out, unless there are no others: then texts
        must contain them as a phrase.

        Args:
            terms: The text terms of a query.
            limit: Maximum number of pictures.
            allowed: Ids to search; None: all searchable pictures.
        """

    def matched_texts(
        self, ids: Sequence[int], terms: Sequence[TextTerm]
    ) -> list[MatchedText | None]:
        """Return each picture's text that contains the most words; None without any match.

        A moment without such a text has one of the moments before and after it.
        """

    def has_dates(self) -> bool:
        """Return True if the date of a searchable picture is known."""

    def list_people(self) -> list[str]:
        """Return the names of the people in searchable pictures, as they are written."""

    def has_places(self, names: Sequence[str] | None = None) -> bool:
        """Return True if a searchable picture has a text of the kind ``place``.

        Args:
            names: Names, one of which it has; None for any.
        """

    def has_located(self, south: float, north: float, west: float, east: float) -> bool:
        """Return True if a searchable picture was taken between degrees of latitude and longitude.

        The longitudes are -180 to 180, ``west`` below ``east``.
        """

    def newest_ids(self, limit: int, filters: FilterTree | None = None) -> Ids:
        """Return the ids of the newest searchable items that pass filters, int64 (n,).

        Those without a date come last; equal ones in the order of their ids.
        """

    def has_word(self, word: str) -> bool:
        """Return True if a text contains the word or a form of it with the same stem."""

    def closest_word(self, word: str) -> str | None:
        """Return the word of the texts that a misspelt word is closest to; None without any."""

    def suggest(
        self, prefix: str, limit: int, kinds: frozenset[SuggestionKind]
    ) -> list[Suggestion]:
        """Return texts that complete a prefix and find a picture, the most useful ones first."""


class SnapshotReader(Protocol):
    """The part of a catalog, or of several, that queries read."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Open the newest generation for reading."""


class CatalogReader(Protocol):
    """Reading part of the metadata store of an index; any number may work beside a writer."""

    def identity(self) -> Identity | None:
        """Return the identity of the index; None before its first run."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Open the newest generation for reading."""

    def segments(self) -> list[Segment]: ...

    def list_building_segments(self) -> list[Segment]:
        """Return the segments of the space being built, oldest first."""

    def building_key(self) -> str | None:
        """Return the key of the space being built; None if there is no such space."""

    def stale_rows(self) -> dict[int, Ids]:
        """Return the ids of pictures whose rows are stale, by number of the segment."""

    def referenced_files(self) -> set[str]:
        """Return the names of the index files that the catalog refers to."""

    def next_free_ids(self) -> tuple[int, int]:
        """Return the first free picture id and the first free segment number."""

    def find_item_ids(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Return the ids of pictures by the digest of their content, including deleted ones."""

    def list_live_pictures(self, after_id: int, limit: int) -> list[StoredPicture]:
        """Return searchable pictures with an id above ``after_id``, ordered by id."""

    def list_segment_pictures(self, segment_number: int) -> list[StoredPicture]:
        """Return the searchable pictures whose embedding is in a segment, ordered by id."""

    def segment_item_ids(self, segment_number: int) -> Ids:
        """Return the ids of the pictures with a row in a segment, stale or not, ascending."""

    def sources(self) -> list[SourceRecord]:
        """Return all sources, folders among them, oldest first."""

    def summarize_sources(self) -> list[SourceSummary]:
        """Return all sources with their numbers of pictures and last runs, oldest first."""

    def count_elsewhere(self, source_id: int) -> int:
        """Return the number of files or items whose picture another source has, too."""

    def list_part_keys(self, source_id: int) -> list[bytes]:
        """Return the parts that the items of a source are in."""

    def list_assets(self, source_id: int, part: bytes) -> dict[bytes, AssetRecord]:
        """Return the items of a part of a source other than a folder, by key."""

    def load_assets(self, source_id: int, keys: Sequence[bytes]) -> dict[bytes, StoredAsset]:
        """Return what is stored of the known keys of a source other than a folder."""

    def list_item_assets(
        self, ids: Sequence[int]
    ) -> dict[int, dict[tuple[bytes, bytes], StoredAsset]]:
        """Return the assets of items in sources other than folders, by URI and key."""

    def find_assets(self, source_id: int, keys: Sequence[bytes]) -> dict[bytes, int | None]:
        """Return the picture of each known key of a source; None for one that cannot be read."""

    def roots(self) -> list[Root]:
        """Return the indexed folders, oldest first."""

    def list_files_under(
        self, root_id: int, subpath: bytes, skip_folders: Container[bytes] = ()
    ) -> dict[bytes, FileRecord]:
        """Return the files of a root whose relative path is ``subpath`` or below it.

        Files directly in one of ``skip_folders`` are left out.
        """

    def list_files_in(self, root_id: int, folder: bytes) -> dict[bytes, FileRecord]:
        """Return the files of a root directly in a folder, without those in subfolders."""

    def list_captioned_files(self, root_id: int, subpath: bytes, table: bytes) -> frozenset[bytes]:
        """Return the paths of `list_files_under` that have captions from a table.

        Args:
            root_id: The root of the paths.
            subpath: A folder relative to the root.
            table: Absolute path of the table.
        """

    def count_files_under(self, root_id: int, subpath: bytes) -> int:
        """Return the number of files that `list_files_under` returns."""

    def file_count(self) -> int:
        """Return the number of paths of searchable pictures."""

    def failures(self) -> list[FailedFile]: ...

    def damaged_files(self) -> list[FailedFile]:
        """Return the files whose picture is indexed in part, with what is missing or wrong."""

    def load_folder_states(self, root_id: int, subpath: bytes) -> dict[bytes, FolderRecord]:
        """Return the up-to-date folders at ``subpath`` or below it."""

    def list_skipped_under(
        self, root_id: int, subpath: bytes, skip_folders: Container[bytes] = ()
    ) -> dict[bytes, SkippedFile]:
        """Return the files of a root at ``subpath`` or below it that are not read.

        Those directly in one of ``skip_folders`` are left out.
        """

    def list_skip_reasons(self, root_id: int, subpath: bytes) -> list[tuple[bytes, str]]:
        """Return path and reason of the files of `list_skipped_under`."""

    def load_skipped_counts(
        self, root_id: int, subpath: bytes
    ) -> list[tuple[str, str, int]] | None:
        """Return what `save_skipped_counts` saved; None if files have changed since."""

    def skipped_files(self) -> list[FailedFile]:
        """Return the files that are not read, with their absolute paths and the reasons."""

    @property
    def derived(self) -> DerivedReader:
        """The texts that enrichers have made."""

    @property
    def duplicates(self) -> DuplicateReader:
        """The groups of duplicates."""

    def last_run(self) -> RunRecord | None: ...

    def load_unfinished_roots(self) -> list[int]:
        """Return the ids of the roots that an unfinished repair still has to scan."""

    def find_problems(self) -> Iterator[str]:
        """Yield one sentence for each proven problem of the catalog, without writing anything.

        Raises:
            MMSearchError: Something could not be read, which does not prove damage.
        """

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy of the catalog to another file, even while a writer works."""

    def close(self) -> None: ...


class CatalogWriter(CatalogReader, Protocol):
    """Writing part. Every write is one transaction."""

    @property
    def is_shared(self) -> bool:
        """True if others may write at the same time, so that ids have to be reserved."""

    def alone(self) -> AbstractContextManager[bool]:
        """Keep other runs from starting for a moment; yield False if one is active."""

    def one_at_a_time(
        self, work: str, on_wait: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[None]:
        """Wait until no other run does the same work; ``on_wait`` is called before a wait."""

    @property
    def derived(self) -> DerivedWriter:
        """The texts that enrichers have made."""

    @property
    def suggestions(self) -> SuggestionWriter:
        """The words that suggestions are chosen from."""

    @property
    def duplicates(self) -> DuplicateWriter:
        """The groups of duplicates."""

    def set_identity(self, identity: Identity) -> None:
        """Set the identity of a new index, or replace the parts that may change."""

    def ensure_root(self, path: bytes, name: str | None = None) -> tuple[Root, bytes]:
        """Return the root that contains ``path``, and the path below it (b"" for the root itself).

        Create the root if needed, with a name if one is given. A new root takes over the files of
        roots inside it.
        """

    def ensure_source(
        self, kind: str, uri: bytes, choices: Mapping[str, Any], name: str | None = None
    ) -> SourceRecord:
        """Return the source with a URI, with these choices; add it if it is not known.

        SourceError if a source of another kind has that URI.
        """

    def remove_source(self, source_id: int) -> int:
        """Remove a source and its assets; return the number of assets that had a picture."""

    def save_part(self, source_id: int, key: bytes, part: FolderRecord | None) -> None:
        """Save that a part of a source is up to date; None: that it is not."""

    def set_choices(self, source_id: int, choices: Mapping[str, Any]) -> None:
        """Replace the choices of a source, so that the next run looks through all of it."""

    def move_root(self, name: str, path: bytes) -> Root:
        """Move a root to another folder. UnknownNameError if no root has that name."""

    def begin_run(self) -> int:
        """Record the start of a run; return its id."""

    def finish_run(
        self, run_id: int, outcome: str, counts: Mapping[str, int], source_id: int | None = None
    ) -> None:
        """Record the end of a run, and of which source, and its outcome."""

    def save_folder_states(
        self, root_id: int, subpath: bytes, folders: Mapping[bytes, FolderRecord]
    ) -> None:
        """Replace all folder states that `load_folder_states` returns by these, keyed by path.

        They are deleted as soon as any file of the root changes.
        """

    def save_skipped(
        self, root_id: int, changed: Sequence[SkippedFile], removed: Sequence[bytes]
    ) -> None:
        """Add or replace files of a root that are not read, and delete those of other paths."""

    def save_skipped_counts(
        self, root_id: int, subpath: bytes, counts: Sequence[tuple[str, str, int]]
    ) -> None:
        """Save the kinds, reasons and numbers of files below a folder that are not read."""

    def save_ctimes(self, root_id: int, ctimes: Mapping[bytes, int]) -> None:
        """Set the change times of files of a root, by path."""

    def reserve_ids(self, items: int, segments: int) -> tuple[int, int]:
        """Reserve ids of items and numbers of segments; return the first of each.

        No other writer gets them. Those that are not used leave a gap.
        """

    def commit_shard(self, shard: ShardCommit) -> int:
        """Commit a shard in one transaction and create a new generation; idempotent.

        Returns:
            The number of table captions that were removed from files.
        """

    def commit_new(self, shard: ShardCommit) -> None:
        """Write a shard of new pictures and new assets as `commit_shard` does, but faster."""

    def list_stale(
        self, after_id: int, limit: int, *, building: bool = False
    ) -> list[StoredPicture]:
        """Return searchable pictures whose embedding is missing or outdated, ordered by id.

        They have the segment of their serving embedding.

        Args:
            after_id: Only pictures with a higher id are returned.
            limit: Maximum number of pictures.
            building: Look in the space being built instead of the serving one.
        """

    def mark_undecoded(self, segment_number: int) -> None:
        """Mark the pictures of a segment to be decoded and encoded again."""

    def publish(self, built: BuiltVectorIndex, identity: Identity | None = None) -> int:
        """Publish a built index to readers; return the new generation.

        If an identity is given, it is replaced in the same transaction: its fusion has changed.
        """

    def save_calibration(self, calibration: IndexCalibration) -> int:
        """Replace the index's own calibration; return the new generation."""

    def begin_collection(self) -> Mapping[str, Any]:
        """Keep track of the items whose fields change from now on.

        Returns:
            Settings of `BuiltVectorIndex` for a collection whose fields are read after this call.
        """

    def add_changed_fields(self, ids: Sequence[int]) -> None:
        """Add items to `Snapshot.changed_fields` of a collection that has been begun."""

    def begin_space(self, key: str) -> None:
        """Begin to build a space of embeddings, or go on with it if it has the same key.

        Args:
            key: What makes its vectors. A space with another key is discarded.
        """

    def commit_embeddings(
        self,
        segment: Segment,
        pictures: Sequence[EncodedPicture],
        unused_ids: Sequence[int] = (),
        *,
        building: bool = False,
    ) -> None:
        """Record a segment with new embeddings of pictures, and create a new generation.

        Readers do not see embeddings of the space being built yet.

        Args:
            segment: The segment.
            pictures: The pictures, in the order of its rows.
            unused_ids: See `ShardCommit`.
            building: True if the segment belongs to the space being built.
        """

    def discard_building(self) -> None:
        """Discard the space being built."""

    def activate_space(
        self, built: BuiltVectorIndex | None, identity: Identity, unreadable: Mapping[int, str]
    ) -> None:
        """Replace the serving space by the one being built, in one transaction.

        Pictures that are not in it are removed; the files of unreadable ones count as failed.
        """
