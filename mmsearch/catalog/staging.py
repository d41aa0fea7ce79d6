"""Staged segments, which replace all other segments at once.

Segments are staged one after another, beside those that readers use, and activated in one
transaction. So compaction and a change of the encoder are invisible until they are complete, and
the process may be killed at any time.
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
from mmsearch.catalog.segment_rows import promote_staged, segment_values
from mmsearch.catalog.sql_utils import chunks, storable
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
    BuiltVectorIndex,
    EncodedPicture,
    Identity,
    Segment,
    StoredPicture,
)


def stage_segment(
    connection: Connection, segment: Segment, encoder: str, pictures: Sequence[EncodedPicture]
) -> None:
    """Record a staged segment and the pictures whose vectors it holds."""
    connection.execute(insert(StagedSegmentRow), {**segment_values(segment), "encoder": encoder})
    rows = [
        {"image_id": item.id, "segment": segment.number, "texts_digest": item.texts_digest}
        for item in pictures
    ]
    connection.execute(insert(StagedImageRow), rows)


def staged_encoder(connection: Connection) -> str | None:
    """Return the fingerprint of the staged segments' encoder; None if nothing is staged."""
    return connection.execute(select(StagedSegmentRow.encoder).limit(1)).scalar()


def discard_staged(connection: Connection) -> None:
    """Delete the rows of all staged segments."""
    connection.execute(delete(StagedImageRow))
    connection.execute(delete(StagedSegmentRow))


def load_unstaged_pictures(
    connection: Connection, after_id: int, limit: int
) -> list[StoredPicture]:
    """Return live pictures in no staged segment, with an id above ``after_id``, by id."""
    ids = connection.execute(
        _select_unstaged_ids().where(ImageRow.id > after_id).order_by(ImageRow.id).limit(limit)
    )
    return texts.load_pictures(connection, list(ids.scalars()))


def activate_staged(
    connection: Connection,
    built: BuiltVectorIndex | None,
    new_identity: Identity,
    unreadable: Mapping[int, str],
) -> None:
    """Replace all segments by the staged ones, and delete the pictures that are not staged.

    Args:
        connection: A connection in a write transaction.
        built: Vector index of the staged segments; None if there is nothing to index.
        new_identity: The new identity of the index.
        unreadable: Reasons by id of the pictures that could not be encoded; their files are
            marked as failed.

    Raises:
        ValueError: A live picture is neither staged nor unreadable (a bug).
    """
    for number, reason in unreadable.items():
        connection.execute(
            update(FileRow).where(FileRow.image_id == number).values(_failed_file_values(reason))
        )
    missing_id = connection.execute(_select_unstaged_ids().limit(1)).scalar()
    if missing_id is not None:
        raise ValueError(f"picture {missing_id} is in no staged segment")
    connection.execute(delete(ImageRow).where(~_is_staged()))
    old_segment_numbers = connection.execute(select(SegmentRow.number)).scalars().all()
    promote_staged(connection)
    staged = StagedImageRow
    same_image = staged.image_id == ImageRow.id
    connection.execute(
        update(ImageRow).values(
            segment=select(staged.segment).where(same_image).scalar_subquery(),
            texts_digest=select(staged.texts_digest).where(same_image).scalar_subquery(),
        )
    )
    for chunk in chunks(old_segment_numbers):
        connection.execute(delete(SegmentRow).where(SegmentRow.number.in_(chunk)))
    discard_staged(connection)
    identity.replace_identity(connection, new_identity)
    if built is None:
        drop_built_index(connection)
    else:
        generations.publish(connection, built)
    _delete_old_generations(connection)


def drop_segment(connection: Connection, number: int) -> None:
    """Delete a segment and its pictures; the next run retries their files, marked as failed."""
    ids = load_segment_image_ids(connection, number)
    for chunk in chunks(ids):
        connection.execute(
            update(FileRow)
            .where(FileRow.image_id.in_(chunk))
            .values(_failed_file_values("its vector was lost"))
        )
        connection.execute(delete(StagedImageRow).where(StagedImageRow.image_id.in_(chunk)))
        connection.execute(delete(ImageRow).where(ImageRow.id.in_(chunk)))
    connection.execute(delete(SegmentRow).where(SegmentRow.number == number))
    drop_built_index(connection)


def list_segment_pictures(connection: Connection, segment_number: int) -> list[StoredPicture]:
    """Return the live pictures of a segment, by id."""
    return texts.load_pictures(connection, load_segment_image_ids(connection, segment_number))


def load_segment_image_ids(connection: Connection, number: int) -> Sequence[int]:
    """Return the ids of the pictures whose vectors are in a segment; ascending."""
    statement = select(ImageRow.id).where(ImageRow.segment == number).order_by(ImageRow.id)
    return connection.execute(statement).scalars().all()


def restore_segment(
    connection: Connection, segment: Segment, pictures: Sequence[EncodedPicture]
) -> None:
    """Add a segment of a lost catalog; its pictures supersede existing ones of equal content."""
    existing_ids = commits.find_image_ids(connection, (item.digest for item in pictures))
    replacements = [replace(item, replaces=existing_ids.get(item.digest)) for item in pictures]
    commits.add_segment(connection, segment, replacements)
    generations.add_generation(connection)


def drop_built_index(connection: Connection) -> None:
    """Add a generation without a built index; readers search the segments until there is one."""
    connection.execute(insert(GenerationRow), {"created_at": now(), "built_id": None})


def _delete_old_generations(connection: Connection) -> None:
    """Delete the rows of earlier generations and of their built indexes.

    The files of these indexes are gone.
    """
    newest = connection.execute(select(func.max(GenerationRow.number))).scalar()
    connection.execute(
        delete(GenerationRow).where(GenerationRow.number < bindparam("newest")),
        {"newest": newest or 0},
    )
    is_current = exists().where(GenerationRow.built_id == BuiltIndexRow.id)
    connection.execute(delete(BuiltIndexRow).where(~is_current))


def _failed_file_values(reason: str) -> dict[str, Any]:
    """Return the column values that mark a file for a retry by the next run."""
    return {"image_id": None, "error": storable(reason), "digest": b""}


def _select_unstaged_ids() -> Select[int]:
    return select(ImageRow.id).where(ImageRow.file_count > literal_column("0"), ~_is_staged())


def _is_staged() -> Exists:
    return exists().where(StagedImageRow.image_id == ImageRow.id)
