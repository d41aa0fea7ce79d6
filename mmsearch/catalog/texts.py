"""The texts of pictures: storing them with their files, and finding vectors of outdated texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete, update
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog.connection import ReadConnection
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.query_words import UNSEGMENTED_SCRIPTS
from mmsearch.catalog.rows import chunks, fold_text, load_texts, storable
from mmsearch.catalog.sqlalchemy_engine import as_read_connection
from mmsearch.catalog.tables import IMAGES, TAGS, TEXTS
from mmsearch.core.records import CaptionTableTexts, IndexedFile, ShardCommit
from mmsearch.core.types import LIST_KINDS, Text, TextSource, select_encoded_texts, texts_digest

StoredText = tuple[Text, bytes | None]
"""A text of a file, and the path of its caption table; None if it has no or an unknown table."""


def insert_texts(
    connection: Connection, rows: Iterable[tuple[int, int | None, Text, bytes | None]]
) -> None:
    """Insert texts, and the tags of those that hold several values.

    Args:
        connection: A connection in a transaction.
        rows: The picture id, the file id (None: the text is embedded in the picture), the text,
            and the path of its caption table (None: no table).
    """
    # With a single writer the next ids are known, so tags can be written with their texts.
    ((max_id,),) = as_read_connection(connection).query("SELECT max(id) FROM texts")
    texts, tags = [], []
    for text_id, (image_id, file_id, text, table) in enumerate(rows, start=(max_id or 0) + 1):
        value = storable(text.text)
        texts.append(
            {
                "id": text_id,
                "image_id": image_id,
                "file_id": file_id,
                "kind": storable(text.kind),
                "source": str(text.source),
                "language": storable(text.language),
                "text": value,
                "spaceless": int(bool(UNSEGMENTED_SCRIPTS.search(value))),
                "table_path": table,
            }
        )
        if text.kind in LIST_KINDS:
            tags += [
                {"text_id": text_id, "image_id": image_id, "kind": text.kind, "tag": tag}
                for tag in parse_list(value)
            ]
    for model, values in ((TEXTS, texts), (TAGS, tags)):
        if values:
            connection.execute(insert(model), values)


def parse_list(values: str) -> list[str]:
    """Return the distinct values of a semicolon-separated list, normalized and sorted."""
    return sorted({fold_text(value.strip()) for value in values.split(";")} - {""})


def delete_embedded_texts(connection: Connection, image_ids: Sequence[int]) -> None:
    """Delete the texts embedded in the content of pictures."""
    for chunk in chunks(image_ids):
        is_embedded = TEXTS.c.file_id.is_(None) & TEXTS.c.image_id.in_(chunk)
        connection.execute(delete(TEXTS).where(is_embedded))


def update_file_texts(
    connection: Connection, shard: ShardCommit, image_ids: Mapping[bytes, int]
) -> int:
    """Update the texts of a shard's files; unchanged texts are not written.

    Returns:
        Number of captions from tables that were removed.
    """
    paths = [placed.file.path for placed in shard.indexed]
    failed = [file.path for file, _, _ in shard.failed]
    moved = [placed.moved_from for placed in shard.indexed if placed.moved_from is not None]
    db = as_read_connection(connection)
    ids = _load_file_ids(db, shard.root_id, [*paths, *failed, *moved])
    stored_by_file = _load_file_texts(db, ids.values())
    stale = [ids[path] for path in failed if ids[path] in stored_by_file]
    rows: list[tuple[int, int | None, Text, bytes | None]] = []
    removed = 0
    for placed in shard.indexed:
        file_id, image_id = ids[placed.file.path], image_ids[placed.digest]
        current = stored_by_file.get(file_id, [])
        at_old_path = stored_by_file.get(ids.get(placed.moved_from, 0), [])
        captions = [
            stored_text
            for _, stored_text in (*current, *at_old_path)
            if stored_text[0].source == TextSource.TABLE
        ]
        new_texts = _merge_texts(placed, captions)
        removed += _count_removed(captions, new_texts)
        if current != [(image_id, stored_text) for stored_text in new_texts]:
            stale.append(file_id)
            rows += [(image_id, file_id, *stored_text) for stored_text in new_texts]
    for chunk in chunks(stale):
        connection.execute(delete(TEXTS).where(TEXTS.c.file_id.in_(chunk)))
    insert_texts(connection, rows)
    return removed


def _merge_texts(placed: IndexedFile, captions: Sequence[StoredText]) -> list[StoredText]:
    """Return the new texts of a file, in the form in which the database returns them.

    Args:
        placed: The file.
        captions: The stored captions from all tables.
    """
    table_texts = placed.table
    merged: list[StoredText] = [(text, None) for text in placed.texts]
    if table_texts is None:
        tables = list(captions)
    else:
        tables = [stored_text for stored_text in captions if _is_kept(stored_text[1], table_texts)]
        tables += [(text, table_texts.table) for text in table_texts.texts]
    # The order must not depend on which table was read last.
    merged += sorted(tables, key=lambda stored_text: stored_text[1] or b"")
    normalized = [
        (
            Text(storable(t.kind), storable(t.text), storable(t.language), TextSource(t.source)),
            table,
        )
        for t, table in merged
    ]
    return list(dict.fromkeys(normalized))


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


def clear_stale(connection: Connection, image_ids: Sequence[int]) -> None:
    """Clear the stale flag of the pictures whose vectors match their texts."""
    for chunk in chunks(_find_unchanged(as_read_connection(connection), image_ids)):
        connection.execute(update(IMAGES).where(IMAGES.c.id.in_(chunk)).values(retell=0))


def _find_unchanged(db: ReadConnection, image_ids: Sequence[int]) -> list[int]:
    """Return the flagged pictures whose texts still have the stored digest."""
    identity = read_identity(db)
    sources = identity.texts if identity else ()
    stored_digests = dict(
        db.query(
            "SELECT id, texts_digest FROM images WHERE retell = 1"
            " AND id IN (SELECT value FROM json_each(?))",
            [json.dumps(list(image_ids))],
        )
    )
    texts = load_texts(db, json.dumps(list(stored_digests)))
    return [
        image_id
        for image_id, digest in stored_digests.items()
        if texts_digest(select_encoded_texts(texts.get(image_id, ()), sources)) == digest
    ]


def _load_file_texts(
    db: ReadConnection, file_ids: Iterable[int]
) -> dict[int, list[tuple[int, StoredText]]]:
    """Return, by file id, the picture id and the content of each text."""
    texts_by_file: dict[int, list[tuple[int, StoredText]]] = {}
    for file_id, image_id, table, *columns in db.query(
        "SELECT file_id, image_id, table_path, kind, text, language, source FROM texts"
        " WHERE file_id IN (SELECT value FROM json_each(?)) ORDER BY id",
        [json.dumps(list(file_ids))],
    ):
        texts_by_file.setdefault(file_id, []).append((image_id, (Text(*columns), table)))
    return texts_by_file


def _load_file_ids(
    db: ReadConnection, root_id: int, paths: Iterable[bytes]
) -> dict[bytes | None, int]:
    ids_by_path: dict[bytes | None, int] = {}
    for chunk in chunks(sorted(set(paths))):
        marks = ", ".join("?" * len(chunk))
        ids_by_path.update(
            db.query(
                f"SELECT path, id FROM files WHERE root_id = ? AND path IN ({marks})",  # noqa: S608
                [root_id, *chunk],
            )
        )
    return ids_by_path
