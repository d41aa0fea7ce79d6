"""The texts of pictures: storing them with their files, and finding vectors of outdated texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog.full_text import UNSEGMENTED_SCRIPTS
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.paths import join_path
from mmsearch.catalog.sql_utils import chunks, storable
from mmsearch.catalog.sqlalchemy_engine import as_read_connection
from mmsearch.catalog.tables import FileRow, ImageRow, RootRow, TagRow, TextRow
from mmsearch.core.records import CaptionTableTexts, IndexedFile, ShardCommit, StoredPicture
from mmsearch.core.texts import select_encoded_texts, texts_digest
from mmsearch.core.types import Picture, Text, TextSource

KEYWORDS_KIND = "keywords"


StoredText = tuple[Text, bytes | None]
"""A text of a file, and the path of its caption table; None if it has no or an unknown table."""


def insert_texts(
    connection: Connection, rows: Iterable[tuple[int, int | None, Text, bytes | None]]
) -> None:
    """Insert texts, and the tags of keyword texts.

    Args:
        connection: A connection in a transaction.
        rows: The picture id, the file id (None: the text is embedded in the picture), the text,
            and the path of its caption table (None: no table).
    """
    # With a single writer the next ids are known, so tags can be written with their texts.
    max_id = connection.execute(select(func.max(TextRow.id))).scalar() or 0
    texts, tags = [], []
    for text_id, (image_id, file_id, text, table) in enumerate(rows, start=max_id + 1):
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
        if text.kind == KEYWORDS_KIND:
            tags += [
                {"text_id": text_id, "image_id": image_id, "tag": tag}
                for tag in parse_keywords(value)
            ]
    for model, values in ((TextRow, texts), (TagRow, tags)):
        if values:
            connection.execute(insert(model), values)


def parse_keywords(keywords: str) -> list[str]:
    """Return the distinct keywords of a semicolon-separated list, casefolded and sorted."""
    return sorted({keyword.strip().casefold() for keyword in keywords.split(";")} - {""})


def delete_embedded_texts(connection: Connection, image_ids: Sequence[int]) -> None:
    """Delete the texts embedded in the content of pictures."""
    for chunk in chunks(image_ids):
        is_embedded = TextRow.file_id.is_(None) & TextRow.image_id.in_(chunk)
        connection.execute(delete(TextRow).where(is_embedded))


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
    ids = _load_file_ids(connection, shard.root_id, [*paths, *failed, *moved])
    stored_by_file = _load_file_texts(connection, list(ids.values()))
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
        connection.execute(delete(TextRow).where(TextRow.file_id.in_(chunk)))
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
    for chunk in chunks(_find_unchanged(connection, image_ids)):
        connection.execute(update(ImageRow).where(ImageRow.id.in_(chunk)).values(retell=0))


def load_stale_pictures(connection: Connection, limit: int) -> list[StoredPicture]:
    """Return live pictures whose vectors are of outdated texts, by id.

    Also clear the stale flags of pictures whose texts turn out to be unchanged.
    """
    statement = (
        select(ImageRow.id)
        .where(ImageRow.retell == 1, ImageRow.file_count > 0)
        .order_by(ImageRow.id)
    )
    clear_stale(connection, list(connection.execute(statement).scalars()))
    return load_pictures(connection, list(connection.execute(statement.limit(limit)).scalars()))


def superseded_ids(connection: Connection) -> Sequence[int]:
    """Return the ids that newer ids of the same pictures have replaced; ascending."""
    statement = select(ImageRow.id).where(ImageRow.superseded == 1).order_by(ImageRow.id)
    return connection.execute(statement).scalars().all()


def load_live_pictures(connection: Connection, after_id: int, limit: int) -> list[StoredPicture]:
    """Return live pictures with an id above ``after_id``, by id."""
    statement = (
        select(ImageRow.id)
        .where(ImageRow.id > after_id, ImageRow.file_count > 0)
        .order_by(ImageRow.id)
        .limit(limit)
    )
    return load_pictures(connection, list(connection.execute(statement).scalars()))


def load_pictures(connection: Connection, ids: Sequence[int]) -> list[StoredPicture]:
    """Return live pictures with their texts and one file each, by id."""
    texts = _load_texts(connection, ids)
    pictures: dict[int, StoredPicture] = {}
    for chunk in chunks(ids):
        rows = connection.execute(
            select(
                ImageRow.id,
                ImageRow.digest,
                ImageRow.segment,
                ImageRow.width,
                ImageRow.height,
                ImageRow.format,
                ImageRow.taken_at,
                ImageRow.camera,
                ImageRow.latitude,
                ImageRow.longitude,
                RootRow.path,
                FileRow.path,
                FileRow.size,
                FileRow.mtime_ns,
                ImageRow.texts_digest,
            )
            .join(FileRow, FileRow.image_id == ImageRow.id)
            .join(RootRow, RootRow.id == FileRow.root_id)
            .where(ImageRow.id.in_(chunk))
            .order_by(ImageRow.id, FileRow.id)
        )
        for image_id, digest, segment, *metadata, root, path, size, mtime_ns, stored_digest in rows:
            width, height, image_format, taken_at, camera, latitude, longitude = metadata
            image_texts = tuple(texts.get(image_id, ()))
            picture = Picture(
                width, height, image_format, taken_at, image_texts, camera, latitude, longitude
            )
            absolute_path = join_path(root, path)
            pictures.setdefault(
                image_id,
                StoredPicture(
                    image_id, digest, picture, segment, absolute_path, size, mtime_ns, stored_digest
                ),
            )
    return list(pictures.values())


def _find_unchanged(connection: Connection, image_ids: Sequence[int]) -> list[int]:
    """Return the flagged pictures whose texts still have the stored digest."""
    identity = read_identity(as_read_connection(connection))
    sources = identity.texts if identity else ()
    unchanged_ids = []
    for chunk in chunks(image_ids):
        rows = connection.execute(
            select(ImageRow.id, ImageRow.texts_digest).where(
                ImageRow.id.in_(chunk), ImageRow.retell == 1
            )
        )
        stored_digests: dict[int, bytes] = {row.id: row.texts_digest for row in rows}
        texts = _load_texts(connection, list(stored_digests))
        for image_id, digest in stored_digests.items():
            current_digest = texts_digest(select_encoded_texts(texts.get(image_id, ()), sources))
            if current_digest == digest:
                unchanged_ids.append(image_id)
    return unchanged_ids


def _load_texts(connection: Connection, image_ids: Sequence[int]) -> dict[int, list[Text]]:
    texts_by_image: dict[int, list[Text]] = {}
    for chunk in chunks(image_ids):
        rows = connection.execute(
            select(TextRow.image_id, TextRow.kind, TextRow.text, TextRow.language, TextRow.source)
            .where(TextRow.image_id.in_(chunk))
            .order_by(TextRow.id)
        )
        for image_id, kind, text, language, source in rows:
            texts_by_image.setdefault(image_id, []).append(
                Text(kind, text, language, TextSource(source))
            )
    return texts_by_image


def _load_file_texts(
    connection: Connection, file_ids: Sequence[int]
) -> dict[int, list[tuple[int, StoredText]]]:
    """Return, by file id, the picture id and the content of each text."""
    texts_by_file: dict[int, list[tuple[int, StoredText]]] = {}
    for chunk in chunks(file_ids):
        rows = connection.execute(
            select(
                TextRow.file_id,
                TextRow.image_id,
                TextRow.kind,
                TextRow.text,
                TextRow.language,
                TextRow.source,
                TextRow.table_path,
            )
            .where(TextRow.file_id.in_(chunk))
            .order_by(TextRow.id)
        )
        for file_id, image_id, kind, text, language, source, table in rows:
            if file_id is not None:
                file_text = Text(kind, text, language, TextSource(source))
                texts_by_file.setdefault(file_id, []).append((image_id, (file_text, table)))
    return texts_by_file


def _load_file_ids(
    connection: Connection, root_id: int, paths: Sequence[bytes]
) -> dict[bytes | None, int]:
    ids_by_path: dict[bytes | None, int] = {}
    for chunk in chunks(sorted(set(paths))):
        rows = connection.execute(
            select(FileRow.path, FileRow.id).where(
                FileRow.root_id == root_id, FileRow.path.in_(chunk)
            )
        )
        ids_by_path.update((path, file_id) for path, file_id in rows)
    return ids_by_path
