"""Snapshots of a catalog: one generation, which queries read.

Everything is SQL text on Python's sqlite3, because importing SQLAlchemy takes longer than a query.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.catalog.database import Database
from mmsearch.catalog.full_text import FullText, TextSearch
from mmsearch.catalog.identity import read_calibration, read_identity
from mmsearch.catalog.names import has_names, list_names, load_dates, newest_ids
from mmsearch.catalog.rows import (
    FILE_COLUMNS,
    SEGMENT_COLUMNS,
    SERVING,
    SPACE_IN,
    column_values,
    find_content_ids,
    load_records,
    make_built_index,
    make_segment,
    qualified,
    read_ids,
    read_segments,
    read_stale_rows,
    relative_to,
    scalar,
)
from mmsearch.catalog.stacks import (
    find_stack_ids,
    find_stack_item_ids,
    has_stacks,
    load_stacks,
)
from mmsearch.catalog.vocabulary import Vocabulary, closest_word
from mmsearch.core.identity import Identity
from mmsearch.core.records import (
    BuiltVectorIndex,
    FileRecord,
    IndexCalibration,
    PictureRecord,
    Segment,
    StackRecord,
)
from mmsearch.core.types import Ids, TextSource, full_text_sources

if TYPE_CHECKING:
    from mmsearch.catalog.facets import FacetTables, FacetValues
    from mmsearch.catalog.suggestions import Suggestions
    from mmsearch.core.facets import Facet
    from mmsearch.core.federated_ids import ItemDigests
    from mmsearch.core.filter_tree import FilterTree
    from mmsearch.core.filters import Filters
    from mmsearch.core.server_filters import ItemFields
    from mmsearch.core.suggestions import Suggestion, SuggestionKind

_BUILT_COLUMNS = "plugin, name, bytes, sha256, rows, covers, settings"
_SERVING_ID = SPACE_IN.format(SERVING)


class SqlSnapshot(TextSearch):
    """One generation of a catalog, read lazily.

    It may be used by one thread, and only while it is open.

    Args:
        db: A connection in a transaction of its own.
        load_facet_tables: Returns the values of facets that snapshots share; None to share none.
    """

    def __init__(
        self,
        db: Database,
        load_facet_tables: Callable[[], FacetTables] | None = None,
    ) -> None:
        self._db = db
        self._load_facet_tables = load_facet_tables
        # SQLite's snapshot begins with the first read, which is this one. Every item with pixels is
        # a row of a segment, so the sum over the few segments, less their stale rows, gives their
        # number.
        rows = db.query(
            "SELECT number, (SELECT coalesce(sum(rows), 0) FROM segments"  # noqa: S608
            f" WHERE space_id = {_SERVING_ID}) - (SELECT count(*) FROM stale_rows WHERE segment IN"
            f" (SELECT number FROM segments WHERE space_id = {_SERVING_ID})), built_id,"
            f" {qualified('built_indexes', _BUILT_COLUMNS)} FROM generations"
            " LEFT JOIN built_indexes ON built_indexes.id = built_id"
            " WHERE number = (SELECT max(number) FROM generations)"
        )
        self.generation: int
        self.generation, num_rows, built_id, *built = rows[0] if rows else (0, 0, None)
        self._num_rows = int(num_rows)
        # By the identity of the tree, which is kept so that no other one gets it.
        self._filtered: dict[int, tuple[FilterTree, Ids]] = {}
        self._built_row = None if built_id is None else built

    @cached_property
    def identity(self) -> Identity | None:
        """The identity of the index; None before its first run."""
        return read_identity(self._db)

    @property
    def created_at(self) -> str:
        """Time at which the index was created; empty before its first run."""
        stored = self._db.query("SELECT value FROM settings WHERE key = 'created_at'")
        return str(json.loads(stored[0][0])) if stored else ""

    @cached_property
    def calibration(self) -> IndexCalibration | None:
        """The index's own calibration; None if it has none."""
        return read_calibration(self._db)

    @cached_property
    def built(self) -> BuiltVectorIndex | None:
        """The built index, which covers the older segments; None if there is no built index."""
        return None if self._built_row is None else make_built_index(tuple(self._built_row))

    @cached_property
    def unindexed_segments(self) -> Sequence[Segment]:
        """The segments that are in no built index yet, oldest first."""
        return read_segments(self._db, above=0 if self.built is None else self.built.covers)

    def stale_rows(self, *, above: int = 0) -> dict[int, Ids]:
        """Return the ids of the items whose rows are stale, by number of the segment.

        Args:
            above: Only segments with a higher number are included.
        """
        return read_stale_rows(self._db, above)

    def moved_ids(self, covers: int) -> Ids:
        """Return the items of segments up to ``covers`` whose embedding is in a newer segment.

        A vector index built from those segments holds a former embedding of them.

        Returns:
            int64 (n,), ascending.
        """
        return read_ids(
            self._db,
            "SELECT DISTINCT item_id FROM stale_rows JOIN embeddings USING (item_id)"  # noqa: S608
            f" WHERE stale_rows.segment <= ? AND space_id = {_SERVING_ID}"
            " AND embeddings.segment > ? ORDER BY item_id",
            [covers, covers],
        )

    @cached_property
    def deleted_ids(self) -> Ids:
        """Ids of the items without assets (tombstones); int64, ascending."""
        # With a bound parameter for 0, SQLite could not use the partial index.
        return read_ids(self._db, "SELECT id FROM items WHERE is_live = 0 ORDER BY id")

    @cached_property
    def _text_items(self) -> dict[bool, Ids]:
        """Ids of the items without pixels, by whether they are live; int64, ascending."""
        statement = "SELECT id FROM items WHERE has_pixels = 0 AND is_live = {} ORDER BY id"
        return {live: read_ids(self._db, statement.format(int(live))) for live in (True, False)}

    @property
    def ids_without_pixels(self) -> Ids:
        """Ids of the live items without pixels, which have no vector; int64, ascending."""
        return self._text_items[True]

    @property
    def items(self) -> int:
        """Number of live items."""
        return self.items_with_pixels + len(self.ids_without_pixels)

    @property
    def items_with_pixels(self) -> int:
        """Number of live items that have a vector."""
        return self._num_rows - len(self.deleted_ids) + len(self._text_items[False])

    @property
    def pictures(self) -> int:
        """Number of live contents: a film or a document counts once."""
        return self.items - self._num_moments

    @cached_property
    def _num_moments(self) -> int:
        """Number of live items beyond the first one of their content."""
        # With bound parameters, SQLite could not use the partial index.
        statement = "SELECT count(*) FROM items WHERE part > 0 AND is_live = 1"
        return scalar(self._db, statement)

    @property
    def has_moments(self) -> bool:
        """True if a content has several items."""
        return self._num_moments > 0

    def content_ids(self, ids: Ids) -> Ids:
        """Return the id of the content of each item, int64 (n,), in the order of ``ids``."""
        if not self.has_moments:
            # Ids of contents are only compared with each other.
            return ids
        return find_content_ids(self._db, ids)

    def count_contents(self, ids: Ids) -> int:
        """Return the number of contents of different items."""
        if not self.has_moments:
            return len(ids)
        statement = (
            f"SELECT count(DISTINCT content_id) FROM items WHERE id {self._db.dialect.in_ids}"  # noqa: S608
        )
        return scalar(self._db, statement, [json.dumps(ids.tolist())])

    def sibling_ids(self, ids: Ids) -> Ids:
        """Return the ids of all items of the contents of some items, int64 (n,), ascending."""
        statement = (
            "SELECT id FROM items WHERE content_id IN"  # noqa: S608
            f" (SELECT content_id FROM items WHERE id {self._db.dialect.in_ids}) ORDER BY id"
        )
        return read_ids(self._db, statement, [json.dumps(ids.tolist())])

    @cached_property
    def has_stacks(self) -> bool:
        """True if the catalog lists duplicates."""
        return has_stacks(self._db)

    def stack_ids(self, ids: Ids) -> Ids:
        """Return the number of the stack or content of each item, int64 (n,)."""
        return find_stack_ids(self._db, ids)

    def stack_item_ids(self, ids: Ids) -> Ids:
        """Return the ids of all items of the stacks and contents of some items, ascending."""
        return find_stack_item_ids(self._db, ids)

    def stacks(self, ids: Sequence[int], allowed: Ids | None, limit: int) -> dict[int, StackRecord]:
        """Return the other contents of the stacks of some items."""
        return load_stacks(self._db, ids, allowed, limit)

    def sample_ids(self, count: int) -> Ids:
        """Return the first items of contents with pixels, spread evenly over the index.

        Args:
            count: Maximum number of ids.

        Returns:
            int64 (n,), ascending.
        """
        ((first, last),) = self._db.query("SELECT min(id), max(id) FROM contents")
        if first is None:
            return np.empty(0, np.int64)
        starts = np.unique(np.linspace(first, last, count).astype(np.int64))
        statement = (
            "SELECT (SELECT id FROM items WHERE content_id >= value AND part = 0 AND is_live = 1"  # noqa: S608
            f" AND has_pixels = 1 ORDER BY content_id LIMIT 1) FROM {self._db.dialect.id_rows('?')}"
        )
        found = column_values(self._db, statement, [json.dumps(starts.tolist())])
        return np.unique(np.array([i for i in found if i is not None], dtype=np.int64))

    @cached_property
    def full_text(self) -> FullText:
        """Full-text search in the texts of this generation."""
        sources = self.identity.texts if self.identity else ()
        return FullText(
            self._db,
            full_text_sources(sources),
            self.pictures,
            self.deleted_ids,
            self.content_ids if self.has_moments else None,
            self.count_contents,
        )

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the texts of this generation."""
        sources = self.identity.texts if self.identity else ()
        return Vocabulary(self._db, full_text_sources(sources))

    @cached_property
    def has_texts(self) -> bool:
        """True if a live item has a searchable text other than file names and tags."""
        sources = self.identity.texts if self.identity else ()
        sql = self._db.dialect
        # SQLite must not begin with the items.
        statement = (
            "SELECT EXISTS (SELECT 1 FROM texts JOIN items ON items.id = texts.item_id"  # noqa: S608
            f" WHERE texts.source <> 'filename' AND texts.source {sql.texts('?')}"
            f" AND {sql.unindexed}is_live = 1)"
        )
        searched = full_text_sources(sources) - {TextSource.FILENAME, TextSource.TAGS}
        return bool(self._db.query(statement, [json.dumps(sorted(searched))])[0][0])

    def has_dates(self) -> bool:
        """Return True if the date of a live picture is known."""
        rows = self._db.query(
            "SELECT EXISTS (SELECT 1 FROM items WHERE is_live = 1 AND taken_at IS NOT NULL)"
        )
        return bool(rows[0][0])

    def list_people(self) -> list[str]:
        """Return the names of the people in live pictures, as they are written."""
        return list_names(self._db, "people")

    def has_places(self, names: Sequence[str] | None = None) -> bool:
        """Return True if a live picture has a place, or one of some names of places."""
        return has_names(self._db, "place", names)

    def has_located(self, south: float, north: float, west: float, east: float) -> bool:
        """Return True if a live picture was taken between degrees of latitude and longitude."""
        rows = self._db.query(
            "SELECT EXISTS (SELECT 1 FROM items WHERE latitude BETWEEN ? AND ?"
            " AND longitude BETWEEN ? AND ? AND is_live = 1)",
            [south, north, west, east],
        )
        return bool(rows[0][0])

    def newest_ids(self, limit: int, filters: FilterTree | None = None) -> Ids:
        """Return the ids of the newest live items that pass filters; see `Snapshot.newest_ids`."""
        allowed = None if filters is None else self.filter_ids(filters)
        return newest_ids(self._db, limit, allowed)

    def dates(self, ids: Ids) -> dict[int, str | None]:
        """Return when items were taken, by their ids; None for an unknown date."""
        return load_dates(self._db, ids)

    def item_digests(self) -> ItemDigests:
        """Return which content each live item is."""
        from mmsearch.core.federated_ids import DIGEST_BYTES, ItemDigests  # noqa: PLC0415 - rare

        rows = self._db.query(
            "SELECT items.id, items.part, contents.digest FROM items"
            " JOIN contents ON contents.id = items.content_id WHERE items.is_live = 1"
            " ORDER BY items.id"
        )
        digests = np.frombuffer(b"".join(bytes(row[2]) for row in rows), np.uint8)
        numbers = np.array([row[:2] for row in rows], dtype=np.int64).reshape(-1, 2)
        return ItemDigests(numbers[:, 0], numbers[:, 1], digests.reshape(len(rows), DIGEST_BYTES))

    def has_word(self, word: str) -> bool:
        """Return True if a text holds the word or a form of it with the same stem."""
        return self.vocabulary.has_word(word)

    def closest_word(self, word: str) -> str | None:
        """Return the word of a text that a misspelt word is closest to; None without any."""
        return closest_word(word, [self.vocabulary])

    def suggest(
        self, prefix: str, limit: int, kinds: frozenset[SuggestionKind]
    ) -> list[Suggestion]:
        """Return texts that complete a prefix and find a picture, the most useful ones first."""
        return self.suggestions.suggest(prefix, limit, kinds)

    @property
    def suggestions(self) -> Suggestions:
        """The suggestions of this generation."""
        from mmsearch.catalog.suggestions import Suggestions  # noqa: PLC0415 - searches need none

        sources = self.identity.texts if self.identity else ()
        return Suggestions(self._db, full_text_sources(sources))

    def find_segments(self, ids: Sequence[int]) -> dict[int, Segment]:
        """Return, for each live picture, the segment that holds its vectors."""
        rows = self._db.query(
            f"SELECT items.id, {qualified('segments', SEGMENT_COLUMNS)}"  # noqa: S608
            " FROM items JOIN embeddings ON embeddings.item_id = items.id"
            " JOIN segments ON segments.number = embeddings.segment"
            f" WHERE items.id {self._db.dialect.in_ids} AND is_live = 1"
            f" AND embeddings.space_id = {_SERVING_ID}",
            [json.dumps(list(ids))],
        )
        return {item_id: make_segment(row) for item_id, *row in rows}

    def find_item(self, path: bytes) -> tuple[FileRecord, int] | None:
        """Return the record of a file by its absolute path, and its item; None without an item."""
        for root_id, folder in self._db.query("SELECT id, uri FROM sources WHERE kind = 'folder'"):
            relative_path = relative_to(folder, path)
            if relative_path is None:
                continue
            for row in self._db.query(
                f"SELECT items.id, {FILE_COLUMNS} FROM assets JOIN items USING (content_id)"  # noqa: S608
                " WHERE source_id = ? AND key = ? AND items.part = 0",
                [root_id, relative_path],
            ):
                return FileRecord(*row[1:]), row[0]
        return None

    def list_ids(self, after_id: int, limit: int) -> list[int]:
        """Return the ids of the first items of live contents, above an id, ascending."""
        statement = (
            "SELECT id FROM items WHERE id > ? AND is_live = 1 AND part = 0 ORDER BY id LIMIT ?"
        )
        return column_values(self._db, statement, [after_id, limit])

    def filter_ids(self, filters: FilterTree) -> Ids:
        """Return the ids of the live pictures that pass the filters; int64, ascending."""
        from mmsearch.catalog.filters import filter_ids  # noqa: PLC0415 - most queries have none

        # A search passes one tree to count pictures, to search vectors and to search texts.
        known = self._filtered.get(id(filters))
        if known is None:
            known = self._filtered[id(filters)] = filters, filter_ids(self._db, filters)
        return known[1]

    def count_facets(
        self, fields: Sequence[str], ids: Ids | None, filters: Filters, *, limit: int, fold: bool
    ) -> tuple[int, list[Facet]]:
        """Return the number of pictures, and how many of them have each value of some fields."""
        from mmsearch.catalog.facets import count_facets  # noqa: PLC0415 - searches never need it

        return count_facets(self.facet_values(ids), fields, ids, filters, limit=limit, fold=fold)

    def facet_values(self, ids: Ids | None) -> FacetValues:
        """Return the values of facets of some live items, or of all for None."""
        from mmsearch.catalog.facets import CatalogFacetValues, FacetTables  # noqa: PLC0415 - as above

        load_tables = self._load_facet_tables or FacetTables
        return CatalogFacetValues(self._db, load_tables().get(self.generation, ids))

    def item_fields(self, ids: Sequence[int]) -> list[ItemFields]:
        """Return the values of the fields of items, deleted ones included, ordered by id."""
        from mmsearch.catalog.item_fields import read_item_fields  # noqa: PLC0415 - only servers

        return read_item_fields(self._db, ids)

    @cached_property
    def changed_fields(self) -> Ids | None:
        """The items whose fields may differ from those in the collection on a search server."""
        from mmsearch.catalog.field_changes import read_changes  # noqa: PLC0415 - only servers

        return None if self.built is None else read_changes(self._db, self.built.settings)

    def records(self, ids: Sequence[int], filters: FilterTree | None = None) -> list[PictureRecord]:
        """Load the records of pictures, with a few statements for all of them.

        Args:
            ids: Ids of pictures, in any order; they may repeat.
            filters: Filters that the pictures pass. Of a content in several places, the record has
                the key and the metadata of the first place whose metadata passes them.

        Returns:
            Records in the same order and number as ``ids``. A deleted picture (tombstone) has no
            paths, and 0 as size and modification time.

        Raises:
            KeyError: An id does not exist.
        """
        if filters is None or not filters.uses_metadata:
            return load_records(self._db, ids)
        from mmsearch.catalog.filters import find_passing_places  # noqa: PLC0415 - rare

        return load_records(self._db, ids, find_passing_places(self._db, filters, ids))
