"""One generation, held still: every read of a snapshot is of one SQLite transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.connection import Rows
from mmsearch.catalog.full_text import FullText
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.places import below, rest_below
from mmsearch.core.queries import Filters
from mmsearch.core.records import BuiltIndex, Identity, KnownFile, Record, Segment
from mmsearch.core.text_matches import MatchedText, Phrase, TextMatches
from mmsearch.core.texts import searched_sources
from mmsearch.core.types import Ids, Picture, Text
from mmsearch.storage.layout import stored_stamp


def read_built(rows: Rows) -> BuiltIndex | None:
    """The built index of the newest generation."""
    found = rows.ask(
        "SELECT plugin, name, bytes, sha256, rows, covers, settings FROM built_indexes"
        " WHERE id = (SELECT built_id FROM generations ORDER BY number DESC LIMIT 1)"
    )
    if not found:
        return None
    plugin, name, size, sha256, count, covers, settings = found[0]
    return BuiltIndex(plugin, stored_stamp(name, size, sha256), count, covers, json.loads(settings))


class SqliteSnapshot:
    """One generation of a catalog; what is not asked for is not read.

    For one thread, and only while it is open.

    Args:
        rows: In a transaction of its own.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        # SQLite's snapshot begins with the first read: this one.
        newest = rows.ask("SELECT max(number) FROM generations")[0][0]
        self.generation: int = newest or 0

    @cached_property
    def identity(self) -> Identity | None:
        """What the index is bound to."""
        return read_identity(self._rows)

    @cached_property
    def built(self) -> BuiltIndex | None:
        """The built index that covers the older segments."""
        return read_built(self._rows)

    @cached_property
    def tail(self) -> Sequence[Segment]:
        """The segments that are in no built index yet, oldest first."""
        covered = 0 if self.built is None else self.built.covers
        rows = self._rows.ask(
            "SELECT number, name, bytes, sha256, rows, dim FROM segments"
            " WHERE number > ? ORDER BY number",
            [covered],
        )
        return tuple(
            Segment(number, stored_stamp(name, size, sha256), count, dim)
            for number, name, size, sha256, count, dim in rows
        )

    @cached_property
    def dead_ids(self) -> Ids:
        """int64, ascending: the pictures that no file holds any more."""
        # A bound 0 would hide from SQLite that this is what the partial index is about.
        dead = self._rows.ask("SELECT id FROM images WHERE file_count = 0 ORDER BY id")
        return np.array([number for (number,) in dead], dtype=np.int64)

    @cached_property
    def pictures(self) -> int:
        """How many pictures can be found.

        Every picture is a row of a segment, so that the sum of the few segments tells their
        number without a look at each.
        """
        rows = self._rows.ask("SELECT sum(rows) FROM segments")[0][0]
        return int(rows or 0) - len(self.dead_ids)

    @cached_property
    def _full_text(self) -> FullText:
        sources = self.identity.texts if self.identity else ()
        return FullText(self._rows, searched_sources(sources))

    @property
    def has_texts(self) -> bool:
        """Whether any text can be searched for words, file names aside."""
        return self._full_text.has_texts

    def with_texts(self, ids: Ids) -> NDArray[np.bool_]:
        """Bool (n,): which pictures have a text that can be searched, file names aside."""
        return self._full_text.with_texts(ids)

    def match(self, phrases: Sequence[Phrase], limit: int, allowed: Ids | None) -> TextMatches:
        """The pictures whose texts hold most of the words, ``limit`` at most."""
        return self._full_text.match(phrases, limit, allowed)

    def matched_texts(
        self, ids: Sequence[int], phrases: Sequence[Phrase]
    ) -> list[MatchedText | None]:
        """For each picture, the text that holds most of the words; None if no text holds any."""
        return self._full_text.matched_texts(ids, phrases)

    def segments_of(self, ids: Sequence[int]) -> dict[int, Segment]:
        """For each of the pictures that can be found, the segment that holds its vectors."""
        rows = self._rows.ask(
            "SELECT images.id, number, name, bytes, sha256, rows, dim"
            " FROM images JOIN segments ON segments.number = images.segment"
            " WHERE images.id IN (SELECT value FROM json_each(?)) AND file_count > 0",
            [json.dumps(list(ids))],
        )
        return {
            picture: Segment(number, stored_stamp(name, size, sha256), count, dim)
            for picture, number, name, size, sha256, count, dim in rows
        }

    def file_at(self, path: bytes) -> KnownFile | None:
        """What is known of a file by its absolute path; None: it is not in the index."""
        for root, folder in self._rows.ask("SELECT id, path FROM roots"):
            rest = rest_below(folder, path)
            if rest is None:
                continue
            for row in self._rows.ask(
                "SELECT path, size, mtime_ns, checked_ns, digest, image_id, error, texts_key"
                " FROM files WHERE root_id = ? AND path = ?",
                [root, rest],
            ):
                return KnownFile(*row)
        return None

    def allowed(self, filters: Filters) -> Ids:
        """The pictures that can be found and pass; int64, ascending."""
        from mmsearch.catalog.filters import allowed_ids  # noqa: PLC0415 - costs SQLAlchemy

        return allowed_ids(self._rows, filters)

    def records(self, ids: Sequence[int]) -> list[Record]:
        """Facts of pictures, in three statements for all of them.

        Args:
            ids: Any, repeated or not.

        Returns:
            Same order and length as ``ids``. A picture that is dead has no path, and 0 as size
            and modification time.

        Raises:
            KeyError: An id that never was.
        """
        wanted = [int(number) for number in ids]
        found = self._records(json.dumps(sorted(set(wanted))))
        return [found[number] for number in wanted]

    def _records(self, ids: str) -> dict[int, Record]:
        """By id; the ids as a list in JSON."""
        texts: dict[int, list[Text]] = {}
        for image_id, kind, text, language, source in self._rows.ask(
            "SELECT image_id, kind, text, language, source FROM texts"
            " WHERE image_id IN (SELECT value FROM json_each(?)) ORDER BY id",
            [ids],
        ):
            texts.setdefault(image_id, []).append(Text(kind, text, language, source))

        places: dict[int, list[tuple[bytes, int, int, bytes]]] = {}
        for holds, root, path, mtime_ns, size in self._rows.ask(
            "SELECT files.image_id, roots.path, files.path, files.mtime_ns, files.size"
            " FROM files JOIN roots ON roots.id = files.root_id"
            " WHERE files.image_id IN (SELECT value FROM json_each(?))",
            [ids],
        ):
            places.setdefault(holds, []).append((below(root, path), mtime_ns, size, root))

        images = self._rows.ask(
            "SELECT id, digest, width, height, format, taken_at, camera, latitude, longitude"
            " FROM images WHERE id IN (SELECT value FROM json_each(?))",
            [ids],
        )
        found = {}
        for number, digest, width, height, form, taken_at, camera, north, east in images:
            own = tuple(texts.get(number, ()))
            picture = Picture(width, height, form, taken_at, own, camera, north, east)
            found[number] = _record(number, sorted(places.get(number, ())), picture, digest)
        return found


def _record(
    number: int, places: list[tuple[bytes, int, int, bytes]], picture: Picture, digest: bytes
) -> Record:
    _, mtime_ns, size, root = places[0] if places else (b"", 0, 0, b"")
    paths = tuple(path for path, *_ in places)
    return Record(number, paths, picture, mtime_ns, size, root, digest)
