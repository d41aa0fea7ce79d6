"""Derived texts as records; without SQLAlchemy, as all reading."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from mmsearch.catalog.database import Connections, Database
from mmsearch.catalog.dialects import Dialect
from mmsearch.catalog.rows import (
    TEXT_COLUMNS,
    chunks,
    column_values,
    load_pictures,
    make_text,
    qualified,
    scalar,
)
from mmsearch.core.derived import (
    EVERYTHING,
    ContentScope,
    DerivedCounts,
    DerivedFile,
    DerivedState,
    DerivedSummary,
    DerivedTexts,
    FolderScope,
    PendingContent,
)
from mmsearch.core.records import StoredPicture
from mmsearch.core.types import Text
from mmsearch.storage.layout import parse_file_ref


class SqlDerivedReader:
    """Implementation of `mmsearch.core.derived.DerivedReader`; thread-safe.

    Args:
        connections: Connections to a database with the newest schema.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def files(self) -> list[DerivedFile]:
        """Return the files of derived texts, oldest first."""
        with self._connections.read_transaction() as db:
            return [
                DerivedFile(number, parse_file_ref(name, size, sha256), rows)
                for number, name, size, sha256, rows in db.query(
                    "SELECT number, name, bytes, sha256, rows FROM derived_files ORDER BY number"
                )
            ]

    def next_number(self) -> int:
        """Return a number for the next file."""
        with self._connections.read_transaction() as db:
            return scalar(db, f"SELECT {db.dialect.next_id('derived_files', 'number')}")

    def list_texts(
        self, after_id: int, limit: int, *, only_live: bool = False
    ) -> tuple[list[DerivedTexts], int]:
        """Return what was made of contents with an id above one, and the last of their ids."""
        with self._connections.read_transaction() as db:
            return _load_texts(db, after_id, limit, only_live=only_live)

    def find_enrichers(self, digests: Collection[bytes]) -> dict[bytes, set[str]]:
        """Return the enrichers that know each content of the index, by digest."""
        found: dict[bytes, set[str]] = {}
        with self._connections.read_transaction() as db:
            for chunk in chunks(list(digests)):
                marks = ", ".join("?" * len(chunk))
                for digest, enricher in db.query(
                    "SELECT digest, enricher FROM contents"  # noqa: S608
                    " LEFT JOIN derived ON derived.content_id = contents.id"
                    f" WHERE digest IN ({marks})",
                    chunk,
                ):
                    known = found.setdefault(digest, set())
                    if enricher is not None:
                        known.add(enricher)
        return found

    def list_pending(
        self,
        enricher: str,
        made_by: str,
        kinds: Collection[str],
        after_id: int,
        limit: int,
        *,
        retry_failed: bool = False,
        scope: ContentScope = EVERYTHING,
        likely_text: bool = False,
    ) -> list[PendingContent]:
        """Return the live contents that an enricher has not finished, ordered by id."""
        condition, values = _condition(scope)
        finished = [DerivedState.DONE.value, *([] if retry_failed else [DerivedState.FAILED.value])]
        with self._connections.read_transaction() as db:
            sql = db.dialect
            if likely_text:
                condition += _likely_text(sql)
            rows = db.query(
                "SELECT contents.id, max(coalesce(derived.upto_ms, 0)),"  # noqa: S608
                f" {sql.list_of('items.id')}"
                " FROM contents JOIN items ON items.content_id = contents.id"
                " LEFT JOIN derived ON derived.content_id = contents.id"
                " AND derived.enricher = :enricher AND derived.made_by = :made_by"
                " WHERE contents.id > :after AND asset_count > 0"
                f" AND contents.kind {sql.texts(':kinds')}"
                f" AND (derived.state IS NULL OR NOT derived.state {sql.texts(':finished')})"
                f"{condition} GROUP BY contents.id ORDER BY contents.id LIMIT :limit",
                {
                    "enricher": enricher,
                    "made_by": made_by,
                    "after": after_id,
                    "kinds": json.dumps(sorted(kinds)),
                    "finished": json.dumps(finished),
                    "limit": limit,
                    **values,
                },
            )
            item_ids = {content_id: json.loads(ids) for content_id, _, ids in rows}
            pictures = {
                item.id: item
                for item in load_pictures(db, [i for ids in item_ids.values() for i in ids])
            }
        return [
            PendingContent(content_id, _by_part(item_ids[content_id], pictures), upto_ms)
            for content_id, upto_ms, _ in rows
        ]

    def count(
        self,
        enricher: str,
        made_by: str | None,
        kinds: Collection[str],
        scope: ContentScope = EVERYTHING,
    ) -> DerivedCounts:
        """Return the numbers of live contents of some kinds by the state of an enricher."""
        condition, values = _condition(scope)
        statement = (
            "SELECT count(*) FILTER (WHERE state = 'done'),"  # noqa: S608
            " count(*) FILTER (WHERE state = 'failed'),"
            " count(*) FILTER (WHERE state IS NULL OR state = 'partial') FROM contents"
            " LEFT JOIN derived ON content_id = contents.id AND enricher = :enricher"
            " AND made_by = coalesce(:made_by, made_by) WHERE asset_count > 0"
            f" AND kind {{}}{condition}"
        )
        parameters = {
            "enricher": enricher,
            "made_by": made_by,
            "kinds": json.dumps(sorted(kinds)),
            **values,
        }
        with self._connections.read_transaction() as db:
            rows = db.query(statement.format(db.dialect.texts(":kinds")), parameters)
        return DerivedCounts(*rows[0])

    def count_contents(self, kinds: Collection[str]) -> int:
        """Return the number of live contents of some kinds."""
        statement = "SELECT count(*) FROM contents WHERE asset_count > 0 AND kind {}"
        with self._connections.read_transaction() as db:
            return scalar(db, statement.format(db.dialect.texts("?")), [json.dumps(sorted(kinds))])

    def summarize(self) -> list[DerivedSummary]:
        """Return what each enricher has done with the live contents."""
        with self._connections.read_transaction() as db:
            rows = db.query(
                "SELECT enricher, made_by, count(*) FILTER (WHERE state = 'done'),"
                " count(*) FILTER (WHERE state = 'failed'), sum(seconds)"
                " FROM derived JOIN contents ON contents.id = content_id"
                " WHERE asset_count > 0 GROUP BY enricher, made_by ORDER BY enricher, made_by"
            )
        return [
            DerivedSummary(enricher, made_by, done, failed, float(seconds))
            for enricher, made_by, done, failed, seconds in rows
        ]


_NAMES_OF_TEXT = ("screenshot", "screen shot", "screen_shot", "bildschirmfoto", "scan")
"""Parts of the names of files and folders of pictures with text."""


def _likely_text(sql: Dialect) -> str:
    """Return the condition of contents that are likely to have text in them.

    It need not be exact: the others follow. Cameras write no PNG, and programs that make
    screenshots name no camera.
    """
    key = sql.bytes_as_text("key")
    names = " OR ".join(f"{key} {sql.like} '%{name}%'" for name in _NAMES_OF_TEXT)
    return (
        " AND (contents.kind = 'document' OR (items.format = 'PNG' AND items.camera IS NULL)"  # noqa: S608
        f" OR EXISTS (SELECT 1 FROM assets WHERE assets.content_id = contents.id AND ({names})))"
    )


def _condition(scope: ContentScope) -> tuple[str, dict[str, object]]:
    """Return a scope as SQL that follows a condition on ``contents``, and its parameters."""
    values: dict[str, object] = {}

    def name(value: object) -> str:
        values[f"scope{len(values)}"] = value
        return f":scope{len(values) - 1}"

    def below(folder: bytes) -> str:
        # b"0" is the byte after b"/": the bounds enclose all keys that start with the folder.
        return f"key >= {name(folder + b'/')} AND key < {name(folder + b'0')}"

    def one(folder: FolderScope) -> str:
        parts = [f"source_id = {name(folder.source_id)}"]
        parts += [below(folder.folder)] if folder.folder else []
        parts += [f"NOT ({below(other)})" for other in folder.without]
        return f"({' AND '.join(parts)})"

    def has_asset(folders: Iterable[FolderScope]) -> str:
        return (
            "EXISTS (SELECT 1 FROM assets WHERE assets.content_id = contents.id"  # noqa: S608
            f" AND ({' OR '.join(map(one, folders)) or 'FALSE'}))"
        )

    conditions = [f" AND {has_asset(folders)}" for folders in scope.all_of]
    conditions += [f" AND NOT {has_asset(scope.none_of)}"] if scope.none_of else []
    return "".join(conditions), values


def _by_part(
    item_ids: Iterable[int], pictures: Mapping[int, StoredPicture]
) -> tuple[StoredPicture, ...]:
    items = [pictures[item_id] for item_id in item_ids if item_id in pictures]
    return tuple(sorted(items, key=lambda item: item.locator.part))


def _load_texts(
    db: Database, after_id: int, limit: int, *, only_live: bool
) -> tuple[list[DerivedTexts], int]:
    """Return all that was derived of some contents with an id above one, in the order of the ids.

    Returns:
        What was derived of at most ``limit`` contents, and the last of their ids; no rows at the
        end.
    """
    ids = column_values(
        db,
        "SELECT DISTINCT content_id FROM derived JOIN contents ON contents.id = content_id"
        " WHERE content_id > ? AND asset_count >= ? ORDER BY content_id LIMIT ?",
        [after_id, int(only_live), limit],
    )
    if not ids:
        return [], after_id
    json_ids = json.dumps(ids)
    texts: dict[tuple[int, str], dict[int, list[Text]]] = {}
    for content_id, part, *columns in db.query(
        f"SELECT content_id, part, {qualified('texts', TEXT_COLUMNS)} FROM texts"  # noqa: S608
        " JOIN items ON items.id = texts.item_id"
        f" WHERE content_id {db.dialect.in_ids} AND made_by IS NOT NULL ORDER BY texts.id",
        [json_ids],
    ):
        text = make_text(columns)
        parts = texts.setdefault((content_id, text.source), {})
        parts.setdefault(part, []).append(text)
    derived = []
    for digest, content_id, enricher, made_by, state, upto_ms, seconds, error in db.query(
        "SELECT digest, content_id, enricher, made_by, state, upto_ms, seconds, error FROM derived"  # noqa: S608
        f" JOIN contents ON contents.id = content_id WHERE content_id {db.dialect.in_ids}"
        " ORDER BY content_id, enricher",
        [json_ids],
    ):
        own = texts.get((content_id, enricher), {})
        by_part = {part: tuple(values) for part, values in own.items()}
        derived.append(
            DerivedTexts(
                digest, enricher, made_by, by_part, DerivedState(state), 0, upto_ms, seconds, error
            )
        )
    return derived, ids[-1]
