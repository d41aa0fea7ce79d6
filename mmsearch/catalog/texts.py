"""The texts of pictures: storing them with their files, and finding vectors of outdated texts."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete

from mmsearch.catalog.database import Database
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.query_words import UNSEGMENTED_SCRIPTS
from mmsearch.catalog.row_writes import insert_rows, update_rows
from mmsearch.catalog.rows import TEXTS_CHANGED, chunks, load_texts, storable
from mmsearch.catalog.sqlalchemy_engine import as_read_connection
from mmsearch.catalog.tables import EMBEDDINGS, TAGS, TEXTS
from mmsearch.core.boxes import dump_boxes
from mmsearch.core.query import fold_text
from mmsearch.core.records import CaptionTableTexts, IndexedFile, ShardCommit
from mmsearch.core.types import LIST_KINDS, Text, TextSource, select_encoded_texts, texts_digest

_COLUMNS = "kind, text, language, source, start_ms, end_ms"

StoredText = tuple[Text, bytes | None]
"""A text of a file, and the path of its caption table; None if it has no or an unknown table."""


def insert_texts(
    connection: Connection, rows: Sequence[tuple[int, int | None, Text, bytes | None]]
) -> None:
    """Insert texts, and the tags of those that hold several values.

    Args:
        connection: A connection in a transaction.
        rows: The picture id, the file id (None: the text is embedded in the picture), the text,
            and the path of its caption table (None: no table).
    """
    if not rows:
        return
    # With a single writer the next ids are known, so tags can be written with their texts.
    ((max_id,),) = as_read_connection(connection).query("SELECT max(id) FROM texts")
    texts, tags = [], []
    for text_id, (item_id, asset_id, text, table) in enumerate(rows, start=(max_id or 0) + 1):
        value = storable(text.text)
        texts.append(
            {
                "id": text_id,
                "item_id": item_id,
                "asset_id": asset_id,
                "kind": storable(text.kind),
                "source": str(text.source),
                "language": storable(text.language),
                "text": value,
                "spaceless": int(bool(UNSEGMENTED_SCRIPTS.search(value))),
                "table_path": table,
                "made_by": storable(text.made_by),
                "confidence": text.confidence,
                "start_ms": text.start_ms,
                "end_ms": text.end_ms,
                "boxes": dump_boxes(text.boxes),
            }
        )
        if text.kind in LIST_KINDS:
            tags += [
                {"text_id": text_id, "item_id": item_id, "kind": text.kind, "tag": tag}
                for tag in parse_list(value)
            ]
    insert_rows(connection, TEXTS, texts)
    insert_rows(connection, TAGS, tags)


def parse_list(values: str) -> list[str]:
    """Return the distinct values of a semicolon-separated list, normalized and sorted."""
    return sorted({fold_text(value.strip()) for value in values.split(";")} - {""})


def replace_embedded_texts(
    connection: Connection,
    texts_by_item: Mapping[int, Sequence[Text]],
    existing: Container[int],
) -> None:
    """Write the texts embedded in the contents of items; unchanged texts are not written.

    Args:
        connection: A connection in a transaction.
        texts_by_item: The texts by item.
        existing: Ids of the items that may have texts already.
    """
    stored: dict[int, list[Text]] = {}
    known_ids = [item_id for item_id in texts_by_item if item_id in existing]
    if known_ids:
        db = as_read_connection(connection)
        for item_id, *columns in db.query(
            f"SELECT item_id, {_COLUMNS} FROM texts WHERE asset_id IS NULL"  # noqa: S608 - our names
            f" AND made_by IS NULL AND item_id {db.dialect.in_ids} ORDER BY id",
            [json.dumps(known_ids)],
        ):
            stored.setdefault(item_id, []).append(_to_text(*columns))
    changed = {
        item_id: texts
        for item_id, texts in texts_by_item.items()
        if [_stored_form(text) for text in texts] != stored.get(item_id, [])
    }
    for chunk in chunks([item_id for item_id in changed if item_id in stored]):
        is_embedded = TEXTS.c.asset_id.is_(None) & TEXTS.c.made_by.is_(None)
        is_embedded &= TEXTS.c.item_id.in_(chunk)
        connection.execute(delete(TEXTS).where(is_embedded))
    insert_texts(
        connection,
        [(item_id, None, text, None) for item_id, texts in changed.items() for text in texts],
    )


def _to_text(
    kind: str,
    text: str,
    language: str | None,
    source: str,
    start_ms: int | None,
    end_ms: int | None,
) -> Text:
    """Return a text, given `_COLUMNS`."""
    return Text(kind, text, language, source, start_ms=start_ms, end_ms=end_ms)


def _stored_form(text: Text) -> Text:
    """Return a text as the database returns it."""
    return Text(
        storable(text.kind),
        storable(text.text),
        storable(text.language),
        TextSource(text.source),
        start_ms=text.start_ms,
        end_ms=text.end_ms,
    )


def update_asset_texts(
    connection: Connection, shard: ShardCommit, item_ids: Mapping[bytes, int]
) -> int:
    """Update the texts of a shard's files; unchanged texts are not written.

    Returns:
        Number of captions from tables that were removed.
    """
    paths = [placed.file.path for placed in shard.indexed]
    failed = [file.path for file, _, _ in shard.failed]
    moved = [placed.moved_from for placed in shard.indexed if placed.moved_from is not None]
    db = as_read_connection(connection)
    ids = _load_asset_ids(db, shard.root_id, [*paths, *failed, *moved])
    stored_by_asset = _load_asset_texts(db, ids.values())
    find_item = item_finder(db, shard.indexed, item_ids)
    stale = [ids[path] for path in failed if ids[path] in stored_by_asset]
    rows: list[tuple[int, int | None, Text, bytes | None]] = []
    removed = 0
    for placed in shard.indexed:
        asset_id, item_id = ids[placed.file.path], item_ids[placed.digest]
        current = stored_by_asset.get(asset_id, [])
        at_old_path = stored_by_asset.get(ids.get(placed.moved_from, 0), [])
        captions = [
            stored_text
            for _, stored_text in (*current, *at_old_path)
            if stored_text[0].source == TextSource.TABLE
        ]
        new_texts = merge_texts(placed, captions)
        removed += _count_removed(captions, new_texts)
        placed_texts = [(find_item(item_id, text), (text, table)) for text, table in new_texts]
        if current != placed_texts:
            stale.append(asset_id)
            rows += [(own_id, asset_id, *stored_text) for own_id, stored_text in placed_texts]
    for chunk in chunks(stale):
        connection.execute(delete(TEXTS).where(TEXTS.c.asset_id.in_(chunk)))
    insert_texts(connection, rows)
    return removed


def item_finder(
    db: Database, indexed: Sequence[IndexedFile], item_ids: Mapping[bytes, int]
) -> Callable[[int, Text], int]:
    """Return a function that finds the item of a text, given the first item of its content.

    A text with a time, such as a line of subtitles beside a film, belongs to the moment in which it
    starts, or to the nearest one; the others belong to the first item.

    Args:
        db: A connection.
        indexed: The files whose texts are to be placed.
        item_ids: Ids of the first items of their contents, by digest.
    """
    timed = {
        item_ids[placed.digest]
        for placed in indexed
        if any(text.start_ms is not None for text in placed.texts)
    }
    moments: dict[int, list[tuple[int, int, int]]] = {}
    if timed:
        for first_id, *moment in db.query(
            "SELECT first.id, items.start_ms, coalesce(items.end_ms, items.start_ms), items.id"  # noqa: S608
            " FROM items AS first JOIN items USING (content_id)"
            f" WHERE first.id {db.dialect.in_ids} AND items.start_ms IS NOT NULL ORDER BY 1, 2",
            [json.dumps(sorted(timed))],
        ):
            moments.setdefault(first_id, []).append((moment[0], moment[1], moment[2]))

    def find(first_id: int, text: Text) -> int:
        spans = moments.get(first_id)
        if text.start_ms is None or not spans:
            return first_id
        place = max(0, bisect_right(spans, text.start_ms, key=lambda span: span[0]) - 1)
        _, end_ms, item_id = spans[place]
        if place + 1 < len(spans) and spans[place + 1][0] - text.start_ms < text.start_ms - end_ms:
            return spans[place + 1][2]
        return item_id

    return find


def merge_texts(placed: IndexedFile, captions: Sequence[StoredText]) -> list[StoredText]:
    """Return the new texts of a file, in the form in which the database returns them.

    Args:
        placed: The file.
        captions: The stored captions from all tables.
    """
    merged: list[StoredText] = [(text, None) for text in placed.texts]
    tables = list(captions)
    for table_texts in (placed.table, *placed.kept_tables):
        if table_texts is not None:
            tables = [stored for stored in tables if _is_kept(stored[1], table_texts)]
            tables += [(text, table_texts.table) for text in table_texts.texts]
    # The order must not depend on which table was read last.
    merged += sorted(tables, key=lambda stored_text: stored_text[1] or b"")
    return list(dict.fromkeys((_stored_form(text), table) for text, table in merged))


def _is_kept(table: bytes | None, table_texts: CaptionTableTexts) -> bool:
    """Return True if a stored caption stays when a table is read.

    Args:
        table: Table of the stored caption; None if it is unknown.
        table_texts: Captions of the file in the table that is read.
    """
    if table_texts.table is None:
        return False
    # Captions of an unknown table stay until any table has captions of the file.
    return not table_texts.texts if table is None else table != table_texts.table


def _count_removed(before: Iterable[StoredText], after: Iterable[StoredText]) -> int:
    """Return the number of captions that are no longer in any table."""
    remaining = {(text.kind, text.text) for text, _ in after if text.source == TextSource.TABLE}
    return len({(text.kind, text.text) for text, _ in before} - remaining)


def clear_stale(connection: Connection, item_ids: Sequence[int]) -> None:
    """Clear the stale flag of the embeddings that match the texts of their items."""
    unchanged = _find_unchanged(as_read_connection(connection), item_ids)
    rows = [{"item_id": item, "space_id": space, "stale": 0} for item, space in unchanged]
    update_rows(connection, EMBEDDINGS, rows, ("item_id", "space_id"))


def _find_unchanged(db: Database, item_ids: Sequence[int]) -> list[tuple[int, int]]:
    """Return item and space of the flagged embeddings whose texts still have the stored digest."""
    flagged = db.query(
        "SELECT item_id, space_id, texts_digest FROM embeddings WHERE stale = ?"  # noqa: S608
        f" AND item_id {db.dialect.in_ids}",
        [TEXTS_CHANGED, json.dumps(list(item_ids))],
    )
    if not flagged:
        return []
    digests = _load_digests(db, [item_id for item_id, *_ in flagged])
    return [
        (item_id, space_id)
        for item_id, space_id, digest in flagged
        if digests.get(item_id, _NO_TEXTS) == digest
    ]


def find_outdated(db: Database, digests: Mapping[int, bytes]) -> set[int]:
    """Return the items with texts whose digest is not the given one."""
    stored = _load_digests(db, list(digests))
    return {item_id for item_id, digest in stored.items() if digest != digests[item_id]}


_NO_TEXTS = texts_digest(())


def _load_digests(db: Database, item_ids: Sequence[int]) -> dict[int, bytes]:
    """Return the digest of the texts that are encoded, of each item with texts."""
    texts = load_texts(db, json.dumps(item_ids))
    identity = read_identity(db) if texts else None
    sources = identity.texts if identity else ()
    return {
        item_id: texts_digest(select_encoded_texts(item_texts, sources))
        for item_id, item_texts in texts.items()
    }


def _load_asset_texts(
    db: Database, asset_ids: Iterable[int]
) -> dict[int, list[tuple[int, StoredText]]]:
    """Return, by file id, the picture id and the content of each text."""
    texts_by_asset: dict[int, list[tuple[int, StoredText]]] = {}
    for asset_id, item_id, table, *columns in db.query(
        f"SELECT asset_id, item_id, table_path, {_COLUMNS} FROM texts"  # noqa: S608 - our names
        f" WHERE asset_id {db.dialect.in_ids} ORDER BY id",
        [json.dumps(list(asset_ids))],
    ):
        texts_by_asset.setdefault(asset_id, []).append((item_id, (_to_text(*columns), table)))
    return texts_by_asset


def _load_asset_ids(db: Database, root_id: int, paths: Iterable[bytes]) -> dict[bytes | None, int]:
    ids_by_path: dict[bytes | None, int] = {}
    for chunk in chunks(sorted(set(paths))):
        marks = ", ".join("?" * len(chunk))
        ids_by_path.update(
            db.query(
                f"SELECT key, id FROM assets WHERE source_id = ? AND key IN ({marks})",  # noqa: S608
                [root_id, *chunk],
            )
        )
    return ids_by_path
