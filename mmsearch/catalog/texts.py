"""The texts of pictures: written with their files, and compared with those that have vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog.full_text import SPACELESS
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.places import below
from mmsearch.catalog.sqlalchemy_engine import rows_of
from mmsearch.catalog.statements import chunks, storable
from mmsearch.catalog.tables import FileRow, ImageRow, RootRow, TagRow, TextRow
from mmsearch.core.records import PlacedFile, ShardCommit, StoredPicture, TableTexts
from mmsearch.core.texts import encoded_texts, texts_digest
from mmsearch.core.types import Picture, Text, TextSource

KEYWORDS = "keywords"


Stored = tuple[Text, bytes | None]
"""A text of a file, and the table that it comes from; None: no table, or an unknown one."""


def insert_texts(
    connection: Connection, rows: Iterable[tuple[int, int | None, Text, bytes | None]]
) -> None:
    """Add texts.

    Args:
        connection: In a transaction.
        rows: The picture, the file that says it (None: the picture itself), the text, and the
            path of the table that it comes from (None: no table).
    """
    # There is one writer, so the next ids are known, and tags can be written with their texts.
    highest = connection.execute(select(func.max(TextRow.id))).scalar() or 0
    texts, tags = [], []
    for number, (image_id, file_id, text, table) in enumerate(rows, start=highest + 1):
        words = storable(text.text)
        texts.append(
            {
                "id": number,
                "image_id": image_id,
                "file_id": file_id,
                "kind": storable(text.kind),
                "source": str(text.source),
                "language": storable(text.language),
                "text": words,
                "spaceless": int(bool(SPACELESS.search(words))),
                "table_path": table,
            }
        )
        if text.kind == KEYWORDS:
            tags += [
                {"text_id": number, "image_id": image_id, "tag": tag} for tag in tags_of(words)
            ]
    for model, values in ((TextRow, texts), (TagRow, tags)):
        if values:
            connection.execute(insert(model), values)


def tags_of(keywords: str) -> list[str]:
    """The keywords of a text of that kind, casefolded."""
    return sorted({part.strip().casefold() for part in keywords.split(";")} - {""})


def drop_own(connection: Connection, image_ids: Sequence[int]) -> None:
    """Remove the texts that pictures' own content holds."""
    for part in chunks(image_ids):
        own = TextRow.file_id.is_(None) & TextRow.image_id.in_(part)
        connection.execute(delete(TextRow).where(own))


def put_file_texts(
    connection: Connection, shard: ShardCommit, image_ids: Mapping[bytes, int]
) -> int:
    """Bring the texts of a shard's files up to date; what has not changed is not written.

    Returns:
        How many captions of tables were removed.
    """
    paths = [placed.file.path for placed in shard.placed]
    failed = [file.path for file, _, _ in shard.failed]
    moved = [placed.moved_from for placed in shard.placed if placed.moved_from is not None]
    ids = _file_ids(connection, shard.root_id, [*paths, *failed, *moved])
    present = _texts_of_files(connection, list(ids.values()))
    stale = [ids[path] for path in failed if ids[path] in present]
    new: list[tuple[int, int | None, Text, bytes | None]] = []
    removed = 0
    for placed in shard.placed:
        file_id, image_id = ids[placed.file.path], image_ids[placed.digest]
        there = present.get(file_id, [])
        earlier = present.get(ids.get(placed.moved_from, 0), [])
        captions = [said for _, said in (*there, *earlier) if said[0].source == TextSource.TABLE]
        wanted = _wanted(placed, captions)
        removed += _removed(captions, wanted)
        if there != [(image_id, said) for said in wanted]:
            stale.append(file_id)
            new += [(image_id, file_id, *said) for said in wanted]
    for part in chunks(stale):
        connection.execute(delete(TextRow).where(TextRow.file_id.in_(part)))
    insert_texts(connection, new)
    return removed


def _wanted(placed: PlacedFile, captions: Sequence[Stored]) -> list[Stored]:
    """Return the texts that a file will have, as they come back from the database.

    Args:
        placed: The file.
        captions: Those that are stored, of all tables.
    """
    told = placed.table
    said: list[Stored] = [(text, None) for text in placed.texts]
    if told is None:
        tables = list(captions)
    else:
        tables = [stored for stored in captions if _stays(stored[1], told)]
        tables += [(text, told.table) for text in told.texts]
    # In an order that does not depend on which table was given last.
    said += sorted(tables, key=lambda stored: stored[1] or b"")
    plain = [
        (
            Text(storable(t.kind), storable(t.text), storable(t.language), TextSource(t.source)),
            table,
        )
        for t, table in said
    ]
    return list(dict.fromkeys(plain))


def _stays(table: bytes | None, told: TableTexts) -> bool:
    """Return whether a caption of a table stays when another table, or the same one, is read."""
    if told.table is None:
        return False
    # Captions of an unknown table stay until any table speaks of the file.
    return not told.texts if table is None else table != told.table


def _removed(before: Iterable[Stored], after: Iterable[Stored]) -> int:
    """Count the captions that no table gives any more, whichever table gave them."""
    left = {(text.kind, text.text) for text, _ in after if text.source == TextSource.TABLE}
    return len({(text.kind, text.text) for text, _ in before} - left)


def settle(connection: Connection, image_ids: Sequence[int]) -> None:
    """Lower the flag of those pictures whose vectors are of the texts they have."""
    for part in chunks(_true_to_texts(connection, image_ids)):
        connection.execute(update(ImageRow).where(ImageRow.id.in_(part)).values(retell=0))


def retold_pictures(connection: Connection, limit: int) -> list[StoredPicture]:
    """Living pictures whose vectors are of other texts than they have, by id.

    Flags that were raised for nothing are lowered on the way.
    """
    flagged = (
        select(ImageRow.id)
        .where(ImageRow.retell == 1, ImageRow.file_count > 0)
        .order_by(ImageRow.id)
    )
    settle(connection, list(connection.execute(flagged).scalars()))
    return stored_pictures(connection, list(connection.execute(flagged.limit(limit)).scalars()))


def superseded_ids(connection: Connection) -> Sequence[int]:
    """Former ids of pictures, in whose place others stand; ascending."""
    former = select(ImageRow.id).where(ImageRow.superseded == 1).order_by(ImageRow.id)
    return connection.execute(former).scalars().all()


def living_pictures(connection: Connection, after: int, limit: int) -> list[StoredPicture]:
    """Pictures that can be found, with a higher id than ``after``, by id."""
    living = (
        select(ImageRow.id)
        .where(ImageRow.id > after, ImageRow.file_count > 0)
        .order_by(ImageRow.id)
        .limit(limit)
    )
    return stored_pictures(connection, list(connection.execute(living).scalars()))


def stored_pictures(connection: Connection, ids: Sequence[int]) -> list[StoredPicture]:
    """Living pictures with their texts and one file each, in the order of their ids."""
    texts = _texts_of(connection, ids)
    found: dict[int, StoredPicture] = {}
    for part in chunks(ids):
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
            .where(ImageRow.id.in_(part))
            .order_by(ImageRow.id, FileRow.id)
        )
        for number, digest, segment, *facts, root, path, size, mtime_ns, told in rows:
            width, height, form, taken_at, camera, north, east = facts
            own = tuple(texts.get(number, ()))
            picture = Picture(width, height, form, taken_at, own, camera, north, east)
            place = below(root, path)
            found.setdefault(
                number,
                StoredPicture(number, digest, picture, segment, place, size, mtime_ns, told),
            )
    return list(found.values())


def _true_to_texts(connection: Connection, image_ids: Sequence[int]) -> list[int]:
    """Those whose flag is raised though the digest of their texts is the one that is stored."""
    identity = read_identity(rows_of(connection))
    sources = identity.texts if identity else ()
    settled = []
    for part in chunks(image_ids):
        rows = connection.execute(
            select(ImageRow.id, ImageRow.texts_digest).where(
                ImageRow.id.in_(part), ImageRow.retell == 1
            )
        )
        stored: dict[int, bytes] = {row.id: row.texts_digest for row in rows}
        texts = _texts_of(connection, list(stored))
        for number, digest in stored.items():
            now = texts_digest(encoded_texts(texts.get(number, ()), sources))
            if now == digest:
                settled.append(number)
    return settled


def _texts_of(connection: Connection, image_ids: Sequence[int]) -> dict[int, list[Text]]:
    found: dict[int, list[Text]] = {}
    for part in chunks(image_ids):
        rows = connection.execute(
            select(TextRow.image_id, TextRow.kind, TextRow.text, TextRow.language, TextRow.source)
            .where(TextRow.image_id.in_(part))
            .order_by(TextRow.id)
        )
        for image_id, kind, text, language, source in rows:
            found.setdefault(image_id, []).append(Text(kind, text, language, TextSource(source)))
    return found


def _texts_of_files(
    connection: Connection, file_ids: Sequence[int]
) -> dict[int, list[tuple[int, Stored]]]:
    """For each file the picture of each of its texts, and the text."""
    found: dict[int, list[tuple[int, Stored]]] = {}
    for part in chunks(file_ids):
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
            .where(TextRow.file_id.in_(part))
            .order_by(TextRow.id)
        )
        for file_id, image_id, kind, text, language, source, table in rows:
            if file_id is not None:
                own = Text(kind, text, language, TextSource(source))
                found.setdefault(file_id, []).append((image_id, (own, table)))
    return found


def _file_ids(
    connection: Connection, root_id: int, paths: Sequence[bytes]
) -> dict[bytes | None, int]:
    found: dict[bytes | None, int] = {}
    for part in chunks(sorted(set(paths))):
        rows = connection.execute(
            select(FileRow.path, FileRow.id).where(
                FileRow.root_id == root_id, FileRow.path.in_(part)
            )
        )
        found.update((path, number) for path, number in rows)
    return found
