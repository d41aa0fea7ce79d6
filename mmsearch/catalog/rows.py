"""Rows of the catalog as records, for readers and for a writer within its transaction.

Also the values in them: text that SQLite can store, times, and file paths. A file path is bytes: an
absolute folder, and a path relative to it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import numpy as np

from mmsearch.catalog.database import Database, Parameters
from mmsearch.core.boxes import load_boxes
from mmsearch.core.errors import DamagedFileError, Hint
from mmsearch.core.records import (
    FOLDER_KIND,
    RECORDS_KIND,
    AssetRecord,
    BuiltVectorIndex,
    PictureRecord,
    Root,
    Segment,
    SourceRecord,
    SourceSummary,
    StoredAsset,
    StoredPicture,
)
from mmsearch.core.types import WHOLE, Ids, ItemLocator, Picture, Text
from mmsearch.storage.layout import IndexLayout, parse_file_ref, thumbnail_path

Item = TypeVar("Item")

MAX_SQL_PARAMETERS = 900
"""Maximum number of parameters in one statement; SQLite before 3.32 allows at most 999."""


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield ``items`` in chunks that fit into one statement."""
    for start in range(0, len(items), MAX_SQL_PARAMETERS):
        yield items[start : start + MAX_SQL_PARAMETERS]


def storable(value: Any) -> Any:
    """Return text that can be encoded as UTF-8, and other values unchanged.

    Lone surrogates, as in file names with invalid UTF-8, become '?'.
    """
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "replace").decode()


def now() -> str:
    """Return the current time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


SEGMENT_COLUMNS = "number, name, bytes, sha256, rows, dim"
SERVING, BUILDING = "serving", "building"
"""States of the space that readers search, and of the one that will replace it."""

TEXTS_CHANGED, MUST_DECODE = 1, 2
"""Values of ``embeddings.stale``."""

SPACE_IN = "(SELECT id FROM spaces WHERE state = '{}')"
"""SQL of the id of a space, by its state."""

PICTURE_COLUMNS = (
    "width, height, format, damage, taken_at, taken_from, camera, lens, latitude, longitude,"
    " rating, label"
)
TEXT_COLUMNS = "kind, text, language, source, made_by, confidence, start_ms, end_ms, boxes"
"""Columns of ``texts`` in the order of the fields of `Text`; see `make_text`."""

FILE_COLUMNS = "key, size, mtime_ns, checked_ns, digest, content_id, error, texts_key, ctime_ns"
LOCATOR_COLUMNS = "items.part, start_ms, end_ms, page"

_REPAIR_HINT = Hint(
    "{} to rebuild the catalog; it reuses all the vectors it can.",
    "Call index.repair()",
    "Run 'mmsearch repair'",
)

# An empty, "." or ".." component, or the NUL byte, which no path can contain.
_UNSAFE_PATH = re.compile(rb"(?:^|/)\.{0,2}(?:/|\Z)|\0")


def join_path(folder: bytes, relative_path: bytes) -> bytes:
    """Join a folder and a relative path; return the folder itself for b"".

    Raises:
        DamagedFileError: The folder is not an absolute path, or the relative path leads out of it.
    """
    check_root_path(folder)
    if relative_path == b"":
        return folder
    check_relative_path(relative_path)
    return folder.rstrip(b"/") + b"/" + relative_path


def locate(kind: str, uri: bytes, key: bytes) -> bytes:
    """Return the path of a file of a folder, or the URI of an item of another source.

    Raises:
        DamagedFileError: The source is a folder, and the path would lead out of it.
    """
    if kind == FOLDER_KIND:
        return join_path(uri, key)
    return uri + b"/" + key if uri and key else uri or key


def is_safe_relative_path(path: object) -> bool:
    """Return True if this is a normalized path below a root, which cannot lead out of it."""
    return isinstance(path, bytes) and not _UNSAFE_PATH.search(path)


def is_root_path(path: object) -> bool:
    """Return True if this is an absolute and normalized path of a folder."""
    return isinstance(path, bytes) and _is_normalized(path)


# All hits of a search share a few roots: the cache saves 5% of a warm search.
@lru_cache(maxsize=256)
def _is_normalized(path: bytes) -> bool:
    if b"\0" in path:
        return False
    return os.path.isabs(path) and os.path.normpath(path) == path  # noqa: PTH117 - bytes paths


def check_relative_path(path: object) -> None:
    """Raise an error unless a value read from a catalog is a path below a root.

    Raises:
        DamagedFileError: It leads out of its root, is absolute, or is not a path.
    """
    if not is_safe_relative_path(path):
        raise DamagedFileError(
            f"The catalog names a file {_abbreviate(path)}, which is not a path below a folder.",
            _REPAIR_HINT,
        )


def check_root_path(path: object) -> None:
    """Raise an error unless a value read from a catalog is the path of an indexed folder.

    Raises:
        DamagedFileError: It is not absolute and normalized, or is not a path.
    """
    if not is_root_path(path):
        raise DamagedFileError(
            f"The catalog names a folder {_abbreviate(path)}, which is not an absolute path.",
            _REPAIR_HINT,
        )


def _abbreviate(path: object) -> str:
    text = repr(path)
    return text if len(text) <= 80 else f"{text[:80]}..."


def relative_to(folder: bytes, path: bytes) -> bytes | None:
    """Return ``path`` relative to a folder; b"" if it is that folder, None if it is outside."""
    if path == folder:
        return b""
    prefix = folder.rstrip(b"/") + b"/"
    return path.removeprefix(prefix) if path.startswith(prefix) else None


_Location: TypeAlias = tuple[bytes, int, int, bytes, bytes, str | None, int, str]
"""Path, times, size, root, key, metadata, id and kind of the source of an asset."""

_NO_LOCATION: _Location = (b"", 0, 0, b"", b"", None, 0, FOLDER_KIND)


def load_records(
    db: Database, ids: Sequence[int], passing_places: Set[int] = frozenset()
) -> list[PictureRecord]:
    """Return the records of pictures; see `SqlSnapshot.records`.

    Args:
        db: A connection.
        ids: Ids of pictures.
        passing_places: Ids of assets whose key and metadata a record has rather than those of the
            others.
    """
    requested_ids = [int(item_id) for item_id in ids]
    unique_ids = json.dumps(sorted(set(requested_ids)))
    texts = load_texts(db, unique_ids)
    locations: dict[int, list[_Location]] = {}
    for item_id, root, path, mtime_ns, size, metadata, asset_id, kind in db.query(
        "SELECT items.id, sources.uri, assets.key, mtime_ns, size, record, assets.id, sources.kind"  # noqa: S608
        " FROM items JOIN assets ON assets.content_id = items.content_id"
        f" JOIN sources ON sources.id = assets.source_id WHERE items.id {db.dialect.in_ids}",
        [unique_ids],
    ):
        location = (locate(kind, root, path), mtime_ns, size, root, path, metadata, asset_id, kind)
        locations.setdefault(item_id, []).append(location)
    rows = db.query(
        f"SELECT items.id, digest, kind, {LOCATOR_COLUMNS}, {PICTURE_COLUMNS} FROM items"  # noqa: S608
        f" JOIN contents ON contents.id = content_id WHERE items.id {db.dialect.in_ids}",
        [unique_ids],
    )
    pictures = [
        Picture(
            width,
            height,
            image_format,
            damage=damage,
            taken_at=taken_at,
            taken_from=taken_from,
            camera=camera,
            lens=lens,
            latitude=latitude,
            longitude=longitude,
            rating=rating,
            label=label,
            texts=tuple(texts.get(item_id, ())),
        )
        for (
            item_id,
            *_,
            width,
            height,
            image_format,
            damage,
            taken_at,
            taken_from,
            camera,
            lens,
            latitude,
            longitude,
            rating,
            label,
        ) in rows
    ]
    records = {}
    for (item_id, digest, content_kind, *locator), picture in zip(rows, pictures, strict=True):
        # Files of folders come first: they can be opened.
        files = sorted(locations.get(item_id, ()), key=_location_order)
        place = next((file for file in files if file[-2] in passing_places), None)
        if place is not None and files[0][-1] != FOLDER_KIND:
            files.sort(key=lambda file: file is not place)
        path, mtime_ns, size, root, *_, kind = files[0] if files else _NO_LOCATION
        key, metadata = (place or files[0] if files else _NO_LOCATION)[4:6]
        is_file = kind == FOLDER_KIND
        paths: tuple[bytes, ...] = next(zip(*files, strict=True), ())
        records[item_id] = PictureRecord(
            item_id,
            paths,
            picture,
            mtime_ns,
            size,
            root,
            digest,
            tuple(copy[3] for copy in files[1:]),
            key,
            _load_object(metadata),
            b"" if is_file else path,
            b"" if is_file else _thumbnail_path(db, digest, locator[0]),
            _make_locator(*locator[:4]),
            content_kind,
            _record_keys(files, place),
        )
    return [records[item_id] for item_id in requested_ids]


def _record_keys(files: Sequence[_Location], first: _Location | None) -> tuple[bytes, ...]:
    """Return the keys that programs gave a content; that of the first place is the first."""
    records = [file for file in files if file[-1] == RECORDS_KIND]
    return tuple(file[4] for file in sorted(records, key=lambda file: file is not first))


def _load_object(stored: str | None) -> dict[str, Any]:
    """Return a stored JSON object; an empty one if nothing is stored, or if it is damaged."""
    try:
        value = {} if stored is None else json.loads(stored)
    except (ValueError, TypeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _make_locator(
    part: int, start_ms: int | None, end_ms: int | None, page: int | None
) -> ItemLocator:
    # Nearly all items are still pictures.
    return (
        ItemLocator(part, start_ms, end_ms, page) if part or page or end_ms is not None else WHOLE
    )


def _thumbnail_path(db: Database, digest: bytes, part: int) -> bytes:
    layout = IndexLayout(db.path.parent)
    return os.fsencode(thumbnail_path(layout.thumbnails, digest, part))


def _location_order(location: _Location) -> tuple[bool, bytes]:
    return location[-1] != FOLDER_KIND, location[0]


def read_segments(db: Database, state: str = SERVING, *, above: int = 0) -> list[Segment]:
    """Return the segments of a space, oldest first.

    Args:
        db: A connection.
        state: State of the space.
        above: Only segments with a higher number are returned.
    """
    rows = db.query(
        f"SELECT {SEGMENT_COLUMNS} FROM segments WHERE number > ?"  # noqa: S608
        f" AND space_id = {SPACE_IN.format(state)} ORDER BY number",
        [above],
    )
    return [make_segment(row) for row in rows]


def read_segment_item_ids(db: Database, number: int) -> list[int]:
    """Return the ids of the items whose embedding is in a segment; ascending."""
    statement = "SELECT item_id FROM embeddings WHERE segment = ? ORDER BY item_id"
    return column_values(db, statement, [number])


def read_stale_rows(db: Database, above: int = 0) -> dict[int, Ids]:
    """Return the ids of the items whose rows are stale, by number of a segment above a number."""
    ids_by_segment: dict[int, list[int]] = {}
    statement = "SELECT segment, item_id FROM stale_rows WHERE segment > ?"
    for segment, item_id in db.query(statement, [above]):
        ids_by_segment.setdefault(segment, []).append(item_id)
    return {number: np.array(ids, dtype=np.int64) for number, ids in ids_by_segment.items()}


def read_sources(db: Database) -> list[SourceRecord]:
    """Return all sources, oldest first."""
    return [
        SourceRecord(source_id, kind, name, uri, _load_object(choices))
        for source_id, kind, name, uri, choices in db.query(
            "SELECT id, kind, name, uri, choices FROM sources ORDER BY id"
        )
    ]


LAST_RUN_KEY = "last_run:"
"""Start of the key of the setting with the end of the last run over a source."""


def summarize_sources(db: Database) -> list[SourceSummary]:
    """Return all sources with their numbers of pictures and last runs, oldest first."""
    counts = dict(db.query("SELECT source_id, count(content_id) FROM assets GROUP BY source_id"))
    runs = {
        key.removeprefix(LAST_RUN_KEY): _load_object(value)
        for key, value in db.query(
            "SELECT key, value FROM settings WHERE key >= ? AND key < ?",
            # ";" is the character after ":".
            [LAST_RUN_KEY, f"{LAST_RUN_KEY[:-1]};"],
        )
    }
    summaries = []
    for source in read_sources(db):
        run = runs.get(str(source.id), {})
        facts = {
            "pictures": counts.get(source.id, 0),
            "last_run": run.get("finished_at"),
            "outcome": run.get("outcome"),
        }
        summaries.append(SourceSummary(**vars(source), **facts))
    return summaries


def read_roots(db: Database) -> list[Root]:
    """Return all roots, oldest first.

    Raises:
        DamagedFileError: The path of a root is not an absolute path.
    """
    roots = [
        Root(*row)
        for row in db.query("SELECT id, name, uri FROM sources WHERE kind = 'folder' ORDER BY id")
    ]
    for root in roots:
        check_root_path(root.path)
    return roots


def find_contents(db: Database, digests: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
    """Return the ids of contents and of their first items, by digest."""
    ids: dict[bytes, tuple[int, int]] = {}
    for chunk in chunks(list(set(digests))):
        marks = ", ".join("?" * len(chunk))
        rows = db.query(
            "SELECT digest, contents.id, items.id FROM contents"  # noqa: S608
            f" JOIN items ON content_id = contents.id AND part = 0 WHERE digest IN ({marks})",
            chunk,
        )
        ids.update((digest, (content_id, item_id)) for digest, content_id, item_id in rows)
    return ids


def find_content_ids(db: Database, ids: Ids) -> Ids:
    """Return the id of the content of each item, int64 (n,), in the order of ``ids``."""
    unique_ids, places = np.unique(ids, return_inverse=True)
    found = read_ids(
        db,
        f"SELECT content_id FROM items WHERE id {db.dialect.in_ids} ORDER BY id",  # noqa: S608
        [json.dumps(unique_ids.tolist())],
    )
    return found[places]


def find_items(db: Database, digests: Iterable[bytes]) -> dict[tuple[bytes, int], int]:
    """Return the ids of all items of contents, by digest and part."""
    ids: dict[tuple[bytes, int], int] = {}
    for chunk in chunks(list(set(digests))):
        marks = ", ".join("?" * len(chunk))
        rows = db.query(
            "SELECT digest, part, items.id FROM contents"  # noqa: S608
            f" JOIN items ON content_id = contents.id WHERE digest IN ({marks})",
            chunk,
        )
        ids.update(((digest, part), item_id) for digest, part, item_id in rows)
    return ids


def load_texts(db: Database, ids: str) -> dict[int, list[Text]]:
    """Return the texts of pictures in the order of their ids; ``ids`` is a JSON list."""
    texts: dict[int, list[Text]] = {}
    for item_id, *columns in db.query(
        f"SELECT item_id, {TEXT_COLUMNS} FROM texts WHERE item_id {db.dialect.in_ids} ORDER BY id",  # noqa: S608
        [ids],
    ):
        texts.setdefault(item_id, []).append(make_text(columns))
    return texts


def make_text(columns: Sequence[Any]) -> Text:
    """Return the text of a row of `TEXT_COLUMNS`."""
    *others, boxes = columns
    return Text(*(*others, load_boxes(boxes)))


def load_pictures(db: Database, ids: Sequence[int]) -> list[StoredPicture]:
    """Return live items with their texts, one asset each and their serving embedding, by id."""
    json_ids = json.dumps(ids)
    texts = load_texts(db, json_ids)
    pictures: dict[int, StoredPicture] = {}
    rows = db.query(
        "SELECT items.id, contents.digest, embeddings.segment, embeddings.texts_digest,"  # noqa: S608
        " embeddings.stale, sources.kind, sources.uri, assets.key, assets.size, assets.mtime_ns,"
        f" contents.kind, perceptual_hash, {LOCATOR_COLUMNS}, {PICTURE_COLUMNS} FROM items"
        " JOIN contents ON contents.id = items.content_id"
        " JOIN assets ON assets.content_id = contents.id"
        " JOIN sources ON sources.id = assets.source_id"
        " LEFT JOIN embeddings ON embeddings.item_id = items.id"
        f" AND embeddings.space_id = {SPACE_IN.format(SERVING)}"
        f" WHERE items.id {db.dialect.in_ids} ORDER BY items.id, assets.id",
        [json_ids],
    )
    for item_id, digest, segment, texts_digest, stale, kind, uri, key, *rest in rows:
        size, mtime_ns, content_kind, look, part, start_ms, end_ms, page, *metadata = rest
        if item_id not in pictures:
            pictures[item_id] = StoredPicture(
                item_id,
                digest,
                _make_picture(metadata, texts.get(item_id, ())),
                segment,
                locate(kind, uri, key),
                size,
                mtime_ns,
                texts_digest or b"",
                must_decode=segment is None or stale == MUST_DECODE,
                source=None if kind == FOLDER_KIND else (kind, uri, key),
                locator=_make_locator(part, start_ms, end_ms, page),
                kind=content_kind,
                perceptual_hash=look,
            )
    return list(pictures.values())


def load_assets(db: Database, source_id: int, keys: Iterable[bytes]) -> dict[bytes, StoredAsset]:
    """Return what is stored of the known keys of a source other than a folder."""
    assets: dict[bytes, StoredAsset] = {}
    ids: dict[int, bytes] = {}
    for chunk in chunks(list(keys)):
        marks = ", ".join("?" * len(chunk))
        for asset_id, item_id, record, part, key, digest, stamp, *columns in db.query(
            "SELECT assets.id, items.id, record, assets.part, key, digest,"  # noqa: S608
            " stamp, size, error"
            " FROM assets LEFT JOIN items"
            " ON items.content_id = assets.content_id AND items.part = 0"
            f" WHERE source_id = ? AND key IN ({marks})",
            [source_id, *chunk],
        ):
            asset = AssetRecord(key, digest, stamp or b"", *columns)
            ids[asset_id] = key
            assets[key] = StoredAsset(asset, item_id, _load_object(record), [], part or b"")
    for asset_id, *columns in db.query(
        "SELECT asset_id, kind, text, language, source FROM texts"  # noqa: S608
        f" WHERE asset_id {db.dialect.in_ids} ORDER BY id",
        [json.dumps(list(ids))],
    ):
        assets[ids[asset_id]].texts.append(Text(*columns))
    return assets


def load_item_assets(
    db: Database, ids: Sequence[int]
) -> dict[int, dict[tuple[bytes, bytes], StoredAsset]]:
    """Return the assets of items in sources other than folders, by URI of the source and key."""
    items: dict[int, dict[bytes, list[tuple[int, bytes]]]] = {}
    for item_id, source_id, uri, key in db.query(
        "SELECT items.id, sources.id, uri, key FROM items"  # noqa: S608
        " JOIN assets ON assets.content_id = items.content_id"
        " JOIN sources ON sources.id = source_id"
        f" WHERE sources.kind <> '{FOLDER_KIND}' AND items.id {db.dialect.in_ids}",
        [json.dumps(list(ids))],
    ):
        items.setdefault(source_id, {}).setdefault(key, []).append((item_id, uri))
    assets: dict[int, dict[tuple[bytes, bytes], StoredAsset]] = {}
    for source_id, items_by_key in items.items():
        for key, asset in load_assets(db, source_id, items_by_key).items():
            for item_id, uri in items_by_key[key]:
                assets.setdefault(item_id, {})[uri, key] = asset
    return assets


def subtree_condition(root_id: int, subpath: bytes) -> tuple[str, list[Any]]:
    """Return the condition on ``source_id`` and ``key`` of a path and all below it, and its values.

    Args:
        root_id: Id of the root.
        subpath: Path relative to the root; b"" for the whole root.
    """
    if not subpath:
        return "source_id = ?", [root_id]
    # b"0" is the byte after b"/": the bounds enclose all keys that start with subpath + b"/".
    condition = "source_id = ? AND (key = ? OR (key >= ? AND key < ?))"
    return condition, [root_id, subpath, subpath + b"/", subpath + b"0"]


def qualified(table: str, columns: str) -> str:
    """Return a list of columns with the name of their table before each."""
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


def column_values(db: Database, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """Return the first column of the rows of a statement."""
    return [row[0] for row in db.query(statement, parameters)]


def scalar(db: Database, statement: str, parameters: Parameters = ()) -> int:
    """Return the integer that is the only value of a statement's only row."""
    return int(db.query(statement, parameters)[0][0])


def read_ids(db: Database, statement: str, parameters: Sequence[Any] = ()) -> Ids:
    """Return the first column of the rows of a statement as int64 (n,)."""
    return np.array(column_values(db, statement, parameters), dtype=np.int64)


def make_segment(row: Sequence[Any]) -> Segment:
    """Return the segment of a row with `SEGMENT_COLUMNS`."""
    number, name, size, sha256, num_rows, dim = row
    return Segment(number, parse_file_ref(name, size, sha256), num_rows, dim)


# Every search reads the same row.
@lru_cache(maxsize=16)
def make_built_index(row: tuple[Any, ...]) -> BuiltVectorIndex:
    """Return the built index of a row of the table ``built_indexes``."""
    plugin, name, size, sha256, num_rows, covers, settings = row
    file_ref = parse_file_ref(name, size, sha256)
    return BuiltVectorIndex(plugin, file_ref, num_rows, covers, json.loads(settings))


_PICTURE_FIELDS = PICTURE_COLUMNS.split(", ")


def _make_picture(metadata: Sequence[Any], texts: Iterable[Text]) -> Picture:
    values = dict(zip(_PICTURE_FIELDS, metadata, strict=True))
    return Picture(**values, texts=tuple(texts))
