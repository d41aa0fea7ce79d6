"""Segments that take the place of all others, at once.

They are staged one after another, beside those that readers use, and adopted in one transaction:
so that compaction and another encoder are invisible until they are complete, and may be killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    Connection,
    Exists,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)

from mmsearch.catalog import commits, generations, identity, texts
from mmsearch.catalog.clock import now
from mmsearch.catalog.segment_rows import segment_values, show_staged
from mmsearch.catalog.statements import chunks, storable
from mmsearch.catalog.tables import (
    BuiltIndexRow,
    FileRow,
    GenerationRow,
    ImageRow,
    SegmentRow,
    StagedImageRow,
    StagedSegmentRow,
)
from mmsearch.core.records import (
    BuiltIndex,
    EncodedPicture,
    Identity,
    Segment,
    StoredPicture,
)


def stage(
    connection: Connection, segment: Segment, encoder: str, pictures: Sequence[EncodedPicture]
) -> None:
    """Note a segment and whose vectors it holds."""
    connection.execute(insert(StagedSegmentRow), {**segment_values(segment), "encoder": encoder})
    rows = [
        {"image_id": item.id, "segment": segment.number, "texts_digest": item.texts_digest}
        for item in pictures
    ]
    connection.execute(insert(StagedImageRow), rows)


def staged_encoder(connection: Connection) -> str | None:
    """The fingerprint of the encoder of what is staged; None if nothing is."""
    return connection.execute(select(StagedSegmentRow.encoder).limit(1)).scalar()


def unstage(connection: Connection) -> None:
    """Forget what is staged."""
    connection.execute(delete(StagedImageRow))
    connection.execute(delete(StagedSegmentRow))


def unstaged_pictures(connection: Connection, after: int, limit: int) -> list[StoredPicture]:
    """Pictures that can be found and are in no staged segment, with a higher id than ``after``."""
    ids = connection.execute(
        _unstaged().where(ImageRow.id > after).order_by(ImageRow.id).limit(limit)
    )
    return texts.stored_pictures(connection, list(ids.scalars()))


def adopt(
    connection: Connection,
    built: BuiltIndex | None,
    bound: Identity,
    unreadable: Mapping[int, str],
) -> None:
    """Put the staged segments in the place of all others; pictures in none of them are forgotten.

    Args:
        connection: Of a transaction that writes.
        built: Of the staged segments; None if there are none.
        bound: The identity from now on.
        unreadable: Pictures that could not be encoded, and why: their files count as failed.

    Raises:
        ValueError: A picture that can be found is neither staged nor unreadable; a bug.
    """
    for number, reason in unreadable.items():
        connection.execute(
            update(FileRow).where(FileRow.image_id == number).values(_failed(reason))
        )
    lost = connection.execute(_unstaged().limit(1)).scalar()
    if lost is not None:
        raise ValueError(f"picture {lost} is in no staged segment")
    connection.execute(delete(ImageRow).where(~_is_staged()))
    former = connection.execute(select(SegmentRow.number)).scalars().all()
    show_staged(connection)
    staged = StagedImageRow
    mine = staged.image_id == ImageRow.id
    connection.execute(
        update(ImageRow).values(
            segment=select(staged.segment).where(mine).scalar_subquery(),
            texts_digest=select(staged.texts_digest).where(mine).scalar_subquery(),
        )
    )
    for part in chunks(former):
        connection.execute(delete(SegmentRow).where(SegmentRow.number.in_(part)))
    unstage(connection)
    identity.replace_identity(connection, bound)
    if built is None:
        withdraw_built(connection)
    else:
        generations.publish(connection, built)
    _forget_history(connection)


def forget_segment(connection: Connection, number: int) -> None:
    """Drop a segment and its pictures; their files count as failed and will be tried again."""
    ids = ids_of(connection, number)
    for part in chunks(ids):
        connection.execute(
            update(FileRow).where(FileRow.image_id.in_(part)).values(_failed("its vector was lost"))
        )
        connection.execute(delete(StagedImageRow).where(StagedImageRow.image_id.in_(part)))
        connection.execute(delete(ImageRow).where(ImageRow.id.in_(part)))
    connection.execute(delete(SegmentRow).where(SegmentRow.number == number))
    withdraw_built(connection)


def pictures_of(connection: Connection, number: int) -> list[StoredPicture]:
    """The pictures of a segment that can be found, by id."""
    return texts.stored_pictures(connection, ids_of(connection, number))


def ids_of(connection: Connection, number: int) -> Sequence[int]:
    """The pictures whose vectors stand in a segment; ascending."""
    held = select(ImageRow.id).where(ImageRow.segment == number).order_by(ImageRow.id)
    return connection.execute(held).scalars().all()


def restore_segment(
    connection: Connection, segment: Segment, pictures: Sequence[EncodedPicture]
) -> None:
    """Take up a segment of a lost catalog again; of content that is there already, it is newer."""
    present = commits.images_of(connection, (item.digest for item in pictures))
    renewed = [replace(item, replaces=present.get(item.digest)) for item in pictures]
    commits.add_segment(connection, segment, renewed)
    generations.add_generation(connection)


def withdraw_built(connection: Connection) -> None:
    """A generation without a built index: readers search the segments until there is one."""
    connection.execute(insert(GenerationRow), {"created_at": now(), "built_id": None})


def _forget_history(connection: Connection) -> None:
    """The rows of former generations: their files are gone."""
    newest = connection.execute(select(func.max(GenerationRow.number))).scalar()
    connection.execute(
        delete(GenerationRow).where(GenerationRow.number < bindparam("newest")),
        {"newest": newest or 0},
    )
    kept = exists().where(GenerationRow.built_id == BuiltIndexRow.id)
    connection.execute(delete(BuiltIndexRow).where(~kept))


def _failed(reason: str) -> dict[str, Any]:
    """Of a file to be read again by the next run."""
    return {"image_id": None, "error": storable(reason), "digest": b""}


def _unstaged() -> Select[int]:
    return select(ImageRow.id).where(ImageRow.file_count > literal_column("0"), ~_is_staged())


def _is_staged() -> Exists:
    return exists().where(StagedImageRow.image_id == ImageRow.id)
