"""Groups of duplicates, read without SQLAlchemy, as all reading."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from mmsearch.catalog.database import Connections, Database
from mmsearch.catalog.rows import column_values, locate, scalar
from mmsearch.core.display import display_path
from mmsearch.core.duplicate_groups import DuplicateFile, DuplicateKind
from mmsearch.core.duplicates import (
    NO_TIME,
    DuplicateRow,
    DuplicateState,
    GroupPage,
    PictureLooks,
    UnhashedPicture,
)
from mmsearch.core.records import FOLDER_KIND

STATE_KEY = "duplicates"
"""Key of the setting with the state of the groups."""

_PAGE_ROWS = 100_000
_ALL_ROWS = 2**62

# A date without a time of day is stored as midnight.
_LOOKS = (
    "SELECT content_id, items.id, coalesce(perceptual_hash, 0), {taken_s}, camera"
    " FROM items JOIN contents ON contents.id = content_id"
    " WHERE content_id > ? AND part = 0 AND has_pixels = 1 AND kind = 'image'"
    " ORDER BY content_id LIMIT ?"
)

_LIVE = "duplicates JOIN contents ON contents.id = content_id WHERE asset_count > 0"
_GROUPS = {
    DuplicateKind.EXACT: "SELECT id AS name FROM contents WHERE asset_count > 1",
    DuplicateKind.NEAR: (
        f"SELECT near_id AS name FROM {_LIVE} GROUP BY near_id HAVING count(*) > 1"  # noqa: S608
    ),
    DuplicateKind.BURST: (
        f"SELECT stack_id AS name FROM {_LIVE} GROUP BY stack_id"  # noqa: S608
        " HAVING count(DISTINCT near_id) > 1"
    ),
}
"""Names of the groups that have several files, by kind."""

_IS_UNHASHED = (
    "items.is_live = 1 AND items.part = 0 AND has_pixels = 1 AND contents.kind = 'image'"
    " AND perceptual_hash IS NULL"
)
_COUNT_UNHASHED = (
    "SELECT count(*) FROM items JOIN contents ON contents.id = content_id"  # noqa: S608
    f" WHERE {_IS_UNHASHED}"
)

# The pages come in the order of an index. Of several assets, a file in a folder is preferred,
# because of the others a copy may be kept or not.
_LIST_UNHASHED = (
    "SELECT items.content_id, items.id, contents.digest, sources.kind, uri, key, assets.size,"  # noqa: S608
    " mtime_ns FROM items {join} contents ON contents.id = items.content_id"
    " {join} assets ON assets.id = (SELECT assets.id FROM assets"
    " JOIN sources ON sources.id = source_id WHERE assets.content_id = items.content_id"
    " AND (source_id = :source OR sources.kind <> :folder)"
    " ORDER BY sources.kind <> :folder, assets.id LIMIT 1)"
    " {join} sources ON sources.id = source_id"
    f" WHERE items.content_id > :after AND {_IS_UNHASHED}"
    " ORDER BY items.content_id LIMIT :limit"
)


class SqlDuplicateReader:
    """Implementation of `mmsearch.core.duplicates.DuplicateReader`; thread-safe.

    Args:
        connections: Connections to a database with the newest schema.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def state(self) -> DuplicateState | None:
        """Return what the groups are made of; None if they were never made, or were lost."""
        with self._connections.read_transaction() as db:
            return read_state(db)

    def last_content(self) -> int:
        """Return the highest id of a content; 0 without any."""
        with self._connections.read_transaction() as db:
            ((last,),) = db.query("SELECT coalesce(max(id), 0) FROM contents")
        return int(last)

    def load_looks(self) -> PictureLooks:
        """Return the looks of all contents that are one still picture."""
        cameras: dict[str | None, int] = {None: -1}
        pages = [np.empty((5, 0), dtype=np.int64)]
        last = 0
        with self._connections.read_transaction() as db:
            statement = _LOOKS.format(taken_s=db.dialect.time_of_day_s("taken_at"))
            while rows := db.query(statement, [last, _PAGE_ROWS]):
                pages.append(
                    np.array(
                        [
                            (
                                content,
                                item,
                                look,
                                NO_TIME if taken is None else taken,
                                cameras.setdefault(camera, len(cameras) - 1),
                            )
                            for content, item, look, taken, camera in rows
                        ],
                        dtype=np.int64,
                    ).T
                )
                last = rows[-1][0]
        contents, items, hashes, taken_s, camera_numbers = np.concatenate(pages, axis=1)
        return PictureLooks(contents, items, hashes, taken_s, camera_numbers.astype(np.int32))

    def rows(self) -> list[DuplicateRow]:
        """Return the groups of all contents that are not alone, by content."""
        statement = "SELECT content_id, stack_id, near_id FROM duplicates ORDER BY content_id"
        with self._connections.read_transaction() as db:
            return [DuplicateRow(*row) for row in db.query(statement)]

    def count_unhashed(self, source_id: int | None = None) -> int:
        """Return the number of searchable still pictures without a perceptual hash."""
        with self._connections.read_transaction() as db:
            if source_id is None:
                return scalar(db, _COUNT_UNHASHED)
            listed = _LIST_UNHASHED.format(join=db.dialect.ordered_join)
            values = {"folder": FOLDER_KIND, "after": 0, "source": source_id, "limit": _ALL_ROWS}
            return scalar(db, f"SELECT count(*) FROM ({listed}) AS listed", values)  # noqa: S608

    def list_unhashed(
        self, source_id: int, after_content: int, limit: int
    ) -> list[UnhashedPicture]:
        """Return still pictures without a perceptual hash, of one folder or of none, by content."""
        values = {
            "folder": FOLDER_KIND,
            "after": after_content,
            "source": source_id,
            "limit": limit,
        }
        with self._connections.read_transaction() as db:
            return [
                UnhashedPicture(
                    content,
                    item,
                    digest,
                    locate(kind, uri, key) if kind == FOLDER_KIND else None,
                    size,
                    mtime_ns,
                )
                for content, item, digest, kind, uri, key, size, mtime_ns in db.query(
                    _LIST_UNHASHED.format(join=db.dialect.ordered_join), values
                )
            ]

    def list_groups(self, kind: DuplicateKind | None, after: int, limit: int) -> GroupPage:
        """Return one page of the groups that have several files."""
        kinds = list(DuplicateKind) if kind is None else [kind]
        positions = " UNION ALL ".join(
            f"SELECT {len(DuplicateKind)} * name + {list(DuplicateKind).index(one)} AS place"  # noqa: S608
            f" FROM ({_GROUPS[one]}) AS named"
            for one in kinds
        )
        with self._connections.read_transaction() as db:
            found = column_values(
                db,
                f"SELECT place FROM ({positions}) AS named WHERE place > ?"  # noqa: S608
                " ORDER BY place LIMIT ?",
                [after, limit + 1],
            )
            page = [divmod(position, len(DuplicateKind)) for position in found[:limit]]
            named = [(list(DuplicateKind)[number], name) for name, number in page]
            members = {
                one: _load_members(db, one, [n for k, n in named if k == one]) for one in kinds
            }
            contents = {
                c for groups in members.values() for group in groups.values() for c in group
            }
            files = _load_files(db, sorted(contents))
            counts = {
                str(one): scalar(db, f"SELECT count(*) FROM ({_GROUPS[one]}) AS named")  # noqa: S608
                for one in kinds
            }
            unhashed = scalar(db, _COUNT_UNHASHED)
        groups = [
            (one, [file for content in members[one][name] for file in files.get(content, ())])
            for one, name in named
        ]
        return GroupPage(groups, counts, unhashed, found[limit - 1] if len(found) > limit else None)


def _load_members(db: Database, kind: DuplicateKind, names: list[int]) -> dict[int, list[int]]:
    """Return the contents of groups by name."""
    if kind == DuplicateKind.EXACT:
        return {name: [name] for name in names}
    column = "near_id" if kind == DuplicateKind.NEAR else "stack_id"
    members: dict[int, list[int]] = {}
    for name, content in db.query(
        f"SELECT {column}, content_id FROM duplicates"  # noqa: S608
        f" WHERE {column} {db.dialect.in_ids} ORDER BY content_id",
        [json.dumps(names)],
    ):
        members.setdefault(name, []).append(content)
    return members


def _load_files(db: Database, contents: list[int]) -> dict[int, list[DuplicateFile]]:
    """Return the files of contents."""
    files: dict[int, list[DuplicateFile]] = {}
    for content, kind, uri, key, item, width, height, form, size, mtime, taken, camera in db.query(
        "SELECT content_id, sources.kind, uri, key, items.id, width, height, format, assets.size,"  # noqa: S608
        " mtime_ns, taken_at, camera FROM items JOIN assets USING (content_id)"
        " JOIN sources ON sources.id = source_id"
        f" WHERE content_id {db.dialect.in_ids} AND items.part = 0",
        [json.dumps(contents)],
    ):
        place = locate(kind, uri, key)
        file = DuplicateFile(
            id=item,
            path=Path(os.fsdecode(place)),
            uri="" if kind == FOLDER_KIND else display_path(place),
            width=width,
            height=height,
            format=form,
            size_bytes=size,
            modified_at=mtime / 1e9,
            taken_at=taken,
            has_camera=camera is not None,
        )
        files.setdefault(content, []).append(file)
    return files


def read_state(db: Database) -> DuplicateState | None:
    """Return the state of the groups; None without one, or if the groups are lost."""
    found = db.query("SELECT value FROM settings WHERE key = ?", [STATE_KEY])
    try:
        state = DuplicateState.from_dict(json.loads(found[0][0])) if found else None
    except (TypeError, ValueError):
        return None
    if state is not None and state.grouped and not db.query("SELECT 1 FROM duplicates LIMIT 1"):
        return None
    return state
