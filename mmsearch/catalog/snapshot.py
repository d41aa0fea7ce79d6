"""One generation, held still: every read of a snapshot is of one SQLite transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Integer, func, literal_column, select

from mmsearch.catalog.filters import allowed_ids
from mmsearch.catalog.full_text import FullText
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.roots import below
from mmsearch.catalog.segment_rows import read_segments
from mmsearch.catalog.statements import chunks
from mmsearch.catalog.tables import (
    BuiltIndexRow,
    FileRow,
    GenerationRow,
    ImageRow,
    RootRow,
    SegmentRow,
    TextRow,
)
from mmsearch.core.evidence import MatchedText, Phrase, TextMatches
from mmsearch.core.queries import Filters
from mmsearch.core.records import BuiltIndex, FileStamp, Identity, Record, Segment
from mmsearch.core.texts import searched_sources
from mmsearch.core.types import Ids, Picture, Text


def read_built(connection: Connection) -> BuiltIndex | None:
    """The built index of the newest generation."""
    newest = select(GenerationRow.built_id).order_by(GenerationRow.number.desc()).limit(1)
    row = connection.execute(
        select(
            BuiltIndexRow.plugin,
            BuiltIndexRow.name,
            BuiltIndexRow.bytes,
            BuiltIndexRow.sha256,
            BuiltIndexRow.rows,
            BuiltIndexRow.covers,
            BuiltIndexRow.settings,
        ).where(BuiltIndexRow.id == newest.scalar_subquery())
    ).first()
    if row is None:
        return None
    plugin, name, size, sha256, count, covers, settings = row
    return BuiltIndex(plugin, FileStamp(name, size, sha256), count, covers, settings)


class SqliteSnapshot:
    """One generation of a catalog; what is not asked for is not read.

    For one thread, and only while it is open.

    Args:
        connection: In a transaction of its own.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # SQLite's snapshot begins with the first read: this one.
        newest = connection.execute(select(func.max(GenerationRow.number))).scalar()
        self.generation: int = newest or 0

    @cached_property
    def identity(self) -> Identity | None:
        """What the index is bound to."""
        return read_identity(self._connection)

    @cached_property
    def built(self) -> BuiltIndex | None:
        """The built index that covers the older segments."""
        return read_built(self._connection)

    @cached_property
    def tail(self) -> Sequence[Segment]:
        """The segments that are in no built index yet, oldest first."""
        covered = 0 if self.built is None else self.built.covers
        return tuple(read_segments(self._connection, after=covered))

    @cached_property
    def dead_ids(self) -> Ids:
        """int64, ascending: the pictures that no file holds any more."""
        # Spelled out: SQLite need not see that a bound 0 is what the partial index is about.
        none = literal_column("0", Integer)
        dead = select(ImageRow.id).where(ImageRow.file_count == none).order_by(ImageRow.id)
        return np.array(self._connection.execute(dead).scalars().all(), dtype=np.int64)

    @cached_property
    def pictures(self) -> int:
        """How many pictures can be found.

        Every picture is a row of a segment, so that the sum of the few segments tells their
        number without a look at each.
        """
        rows = self._connection.execute(select(func.sum(SegmentRow.rows))).scalar()
        return int(rows or 0) - len(self.dead_ids)

    @cached_property
    def _full_text(self) -> FullText:
        sources = self.identity.texts if self.identity else ()
        return FullText(self._connection, searched_sources(sources))

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

    def allowed(self, filters: Filters) -> Ids:
        """The pictures that can be found and pass; int64, ascending."""
        return allowed_ids(self._connection, filters)

    def records(self, ids: Sequence[int]) -> list[Record]:
        """Facts of pictures, in a few queries for all of them.

        Args:
            ids: Any, repeated or not.

        Returns:
            Same order and length as ``ids``. A picture that is dead has no path, and 0 as size
            and modification time.

        Raises:
            KeyError: An id that never was.
        """
        wanted = [int(number) for number in ids]
        found: dict[int, Record] = {}
        for part in chunks(sorted(set(wanted))):
            found.update(self._records(part))
        return [found[number] for number in wanted]

    def _records(self, ids: Sequence[int]) -> dict[int, Record]:
        texts: dict[int, list[Text]] = {}
        rows = self._connection.execute(
            select(TextRow.image_id, TextRow.kind, TextRow.text, TextRow.language, TextRow.source)
            .where(TextRow.image_id.in_(ids))
            .order_by(TextRow.id)
        )
        for image_id, kind, text, language, source in rows:
            texts.setdefault(image_id, []).append(Text(kind, text, language, source))

        places: dict[int, list[tuple[bytes, int, int]]] = {}
        files = self._connection.execute(
            select(FileRow.image_id, RootRow.path, FileRow.path, FileRow.mtime_ns, FileRow.size)
            .join(RootRow, RootRow.id == FileRow.root_id)
            .where(FileRow.image_id.in_(ids))
        )
        for holds, root, path, mtime_ns, size in files:
            if holds is not None:
                places.setdefault(holds, []).append((below(root, path), mtime_ns, size))

        images = self._connection.execute(
            select(
                ImageRow.id,
                ImageRow.width,
                ImageRow.height,
                ImageRow.format,
                ImageRow.taken_at,
                ImageRow.camera,
                ImageRow.latitude,
                ImageRow.longitude,
            ).where(ImageRow.id.in_(ids))
        )
        found = {}
        for number, width, height, form, taken_at, camera, north, east in images:
            own = tuple(texts.get(number, ()))
            picture = Picture(width, height, form, taken_at, own, camera, north, east)
            found[number] = _record(number, sorted(places.get(number, ())), picture)
        return found


def _record(number: int, places: list[tuple[bytes, int, int]], picture: Picture) -> Record:
    _, mtime_ns, size = places[0] if places else (b"", 0, 0)
    return Record(number, tuple(path for path, _, _ in places), picture, mtime_ns, size)
