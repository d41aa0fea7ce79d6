"""Snapshots of one generation: all reads of a snapshot use one SQLite transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.connection import ReadConnection
from mmsearch.catalog.full_text import FullText
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.paths import join_path, relative_to
from mmsearch.core.filters import Filters
from mmsearch.core.query import MatchedText, TextMatches, TextTerm
from mmsearch.core.records import BuiltVectorIndex, FileRecord, Identity, PictureRecord, Segment
from mmsearch.core.texts import full_text_sources
from mmsearch.core.types import Ids, Picture, Text
from mmsearch.storage.layout import parse_file_ref


def read_built_index(db: ReadConnection) -> BuiltVectorIndex | None:
    """Return the built index of the newest generation; None if it has none."""
    built_rows = db.query(
        "SELECT plugin, name, bytes, sha256, rows, covers, settings FROM built_indexes"
        " WHERE id = (SELECT built_id FROM generations ORDER BY number DESC LIMIT 1)"
    )
    if not built_rows:
        return None
    plugin, name, size, sha256, num_rows, covers, settings = built_rows[0]
    return BuiltVectorIndex(
        plugin, parse_file_ref(name, size, sha256), num_rows, covers, json.loads(settings)
    )


class SqliteSnapshot:
    """One generation of a catalog, read lazily.

    It may be used by one thread, and only while it is open.

    Args:
        db: A connection in a transaction of its own.
    """

    def __init__(self, db: ReadConnection) -> None:
        self._db = db
        # SQLite's snapshot begins with the first read, which is this one.
        latest = db.query("SELECT max(number) FROM generations")[0][0]
        self.generation: int = latest or 0

    @cached_property
    def identity(self) -> Identity | None:
        """The identity of the index; None before its first run."""
        return read_identity(self._db)

    @cached_property
    def built(self) -> BuiltVectorIndex | None:
        """The built index, which covers the older segments; None if there is no built index."""
        return read_built_index(self._db)

    @cached_property
    def unindexed_segments(self) -> Sequence[Segment]:
        """The segments that are in no built index yet, oldest first."""
        last_covered = 0 if self.built is None else self.built.covers
        rows = self._db.query(
            "SELECT number, name, bytes, sha256, rows, dim FROM segments"
            " WHERE number > ? ORDER BY number",
            [last_covered],
        )
        return tuple(
            Segment(number, parse_file_ref(name, size, sha256), num_rows, dim)
            for number, name, size, sha256, num_rows, dim in rows
        )

    @cached_property
    def deleted_ids(self) -> Ids:
        """Ids of the pictures without files (tombstones); int64, ascending."""
        # With a bound parameter for 0, SQLite could not use the partial index.
        deleted = self._db.query("SELECT id FROM images WHERE file_count = 0 ORDER BY id")
        return np.array([image_id for (image_id,) in deleted], dtype=np.int64)

    @cached_property
    def pictures(self) -> int:
        """Number of live pictures.

        Every picture is a row of a segment, so the sum over the few segments gives their number
        without reading each picture.
        """
        rows = self._db.query("SELECT sum(rows) FROM segments")[0][0]
        return int(rows or 0) - len(self.deleted_ids)

    @cached_property
    def _full_text(self) -> FullText:
        sources = self.identity.texts if self.identity else ()
        return FullText(self._db, full_text_sources(sources))

    @property
    def has_texts(self) -> bool:
        """True if there is any searchable text other than file names."""
        return self._full_text.has_texts

    def has_text_mask(self, ids: Ids) -> NDArray[np.bool_]:
        """Return a bool mask (n,) of the pictures with a searchable text other than file names."""
        return self._full_text.has_text_mask(ids)

    def match(self, terms: Sequence[TextTerm], limit: int, allowed: Ids | None) -> TextMatches:
        """Return at most ``limit`` pictures whose texts hold most of the words."""
        return self._full_text.match(terms, limit, allowed)

    def matched_texts(
        self, ids: Sequence[int], terms: Sequence[TextTerm]
    ) -> list[MatchedText | None]:
        """Return, for each picture, the text that holds most of the words; None if none match."""
        return self._full_text.matched_texts(ids, terms)

    def find_segments(self, ids: Sequence[int]) -> dict[int, Segment]:
        """Return, for each live picture, the segment that holds its vectors."""
        rows = self._db.query(
            "SELECT images.id, number, name, bytes, sha256, rows, dim"
            " FROM images JOIN segments ON segments.number = images.segment"
            " WHERE images.id IN (SELECT value FROM json_each(?)) AND file_count > 0",
            [json.dumps(list(ids))],
        )
        return {
            image_id: Segment(segment_number, parse_file_ref(name, size, sha256), num_rows, dim)
            for image_id, segment_number, name, size, sha256, num_rows, dim in rows
        }

    def find_file(self, path: bytes) -> FileRecord | None:
        """Return the record of a file by its absolute path; None if it is not in the index."""
        for root_id, folder in self._db.query("SELECT id, path FROM roots"):
            relative_path = relative_to(folder, path)
            if relative_path is None:
                continue
            for row in self._db.query(
                "SELECT path, size, mtime_ns, checked_ns, digest, image_id, error, texts_key"
                " FROM files WHERE root_id = ? AND path = ?",
                [root_id, relative_path],
            ):
                return FileRecord(*row)
        return None

    def filter_ids(self, filters: Filters) -> Ids:
        """Return the ids of the live pictures that pass the filters; int64, ascending."""
        from mmsearch.catalog.filters import filter_ids  # noqa: PLC0415 - not for every query

        return filter_ids(self._db, filters)

    def records(self, ids: Sequence[int]) -> list[PictureRecord]:
        """Load the records of pictures, with three statements for all of them.

        Args:
            ids: Ids of pictures, in any order; they may repeat.

        Returns:
            Records in the same order and number as ``ids``. A deleted picture (tombstone) has no
            paths, and 0 as size and modification time.

        Raises:
            KeyError: An id does not exist.
        """
        requested_ids = [int(image_id) for image_id in ids]
        records_by_id = self._load_records(json.dumps(sorted(set(requested_ids))))
        return [records_by_id[image_id] for image_id in requested_ids]

    def _load_records(self, ids: str) -> dict[int, PictureRecord]:
        """Return the records by id; ``ids`` is a JSON list."""
        texts: dict[int, list[Text]] = {}
        for image_id, kind, text, language, source in self._db.query(
            "SELECT image_id, kind, text, language, source FROM texts"
            " WHERE image_id IN (SELECT value FROM json_each(?)) ORDER BY id",
            [ids],
        ):
            texts.setdefault(image_id, []).append(Text(kind, text, language, source))

        locations: dict[int, list[tuple[bytes, int, int, bytes]]] = {}
        for holder_id, root, path, mtime_ns, size in self._db.query(
            "SELECT files.image_id, roots.path, files.path, files.mtime_ns, files.size"
            " FROM files JOIN roots ON roots.id = files.root_id"
            " WHERE files.image_id IN (SELECT value FROM json_each(?))",
            [ids],
        ):
            locations.setdefault(holder_id, []).append(
                (join_path(root, path), mtime_ns, size, root)
            )

        images = self._db.query(
            "SELECT id, digest, width, height, format, taken_at, camera, latitude, longitude"
            " FROM images WHERE id IN (SELECT value FROM json_each(?))",
            [ids],
        )
        records_by_id = {}
        for (
            record_id,
            digest,
            width,
            height,
            image_format,
            taken_at,
            camera,
            latitude,
            longitude,
        ) in images:
            image_texts = tuple(texts.get(record_id, ()))
            picture = Picture(
                width, height, image_format, taken_at, image_texts, camera, latitude, longitude
            )
            records_by_id[record_id] = _make_record(
                record_id, sorted(locations.get(record_id, ())), picture, digest
            )
        return records_by_id


def _make_record(
    image_id: int, locations: list[tuple[bytes, int, int, bytes]], picture: Picture, digest: bytes
) -> PictureRecord:
    _, mtime_ns, size, root = locations[0] if locations else (b"", 0, 0, b"")
    paths = tuple(path for path, *_ in locations)
    return PictureRecord(image_id, paths, picture, mtime_ns, size, root, digest)
