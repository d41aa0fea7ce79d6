"""Maintenance of a catalog: repairs, recovery of a damaged one, and compaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text, update

from mmsearch.catalog.commits import add_segment, delete_items, mark_failed
from mmsearch.catalog.connection import ReadConnection
from mmsearch.catalog.generations import add_generation
from mmsearch.catalog.identity import CALIBRATION_KEY, parse_calibration
from mmsearch.catalog.metadata import merge_changed_metadata
from mmsearch.catalog.place_texts import update_places
from mmsearch.catalog.reader import UNFINISHED_REPAIR_KEY
from mmsearch.catalog.rows import (
    BUILDING,
    IN_IDS,
    LAST_RUN_KEY,
    chunks,
    find_contents,
    find_items,
    is_root_path,
    is_safe_relative_path,
    read_roots,
    read_segment_item_ids,
    read_sources,
)
from mmsearch.catalog.salvage import MAX_ROWID, SEQUENCE_COLUMNS, DamagedCatalog, read_settings
from mmsearch.catalog.source_writes import ensure_root
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, vacuum, write_transaction
from mmsearch.catalog.tables import (
    ASSETS,
    EMBEDDINGS,
    ITEMS,
    RUNS,
    SEGMENTS,
    SETTINGS,
    SOURCES,
    STALE_ROWS,
)
from mmsearch.catalog.texts import clear_stale, insert_texts
from mmsearch.catalog.writer import SqliteWriter
from mmsearch.core.folder_choices import FolderChoices
from mmsearch.core.records import FOLDER_KIND, EncodedPicture, SalvageResult, Segment
from mmsearch.core.types import Text, TextSource

BATCH_ROWS = 1000

_SEQUENCE_TABLES = {
    name: name
    for name in ("sources", "segments", "contents", "items", "built_indexes", "generations")
} | {"roots": "sources", "images": "items"}
"""Tables by the name of their sequence, now or in format 1."""

_ASSET_COLUMNS = {
    "id": "integer",
    "source_id": "integer",
    "key": "blob",
    "size": "integer",
    "mtime_ns": "integer",
    "checked_ns": "integer",
    "digest": "blob",
    "error": "text?",
    "texts_key": "blob",
    "ctime_ns": "integer",
    "metadata": "text?",
    "part": "blob?",
    "stamp": "blob?",
    "record": "text?",
}

_TEXT_COLUMNS = {
    "item_id": "integer",
    "asset_id": "integer?",
    "kind": "text",
    "text": "text",
    "language": "text?",
    "source": "text",
    "table_path": "blob?",
    "start_ms": "integer?",
    "end_ms": "integer?",
}

_RUN_COLUMNS = {"started_at": "text", "finished_at": "text?", "outcome": "text", "counts": "text"}


class SqliteMaintenance(SqliteWriter):
    """Implementation of `mmsearch.core.catalog.CatalogMaintenance`; thread-safe."""

    def vacuum(self) -> None:
        """Free the space of deleted rows (VACUUM)."""
        vacuum(self._engine)

    def rebuild_derived(self) -> None:
        """Rebuild B-tree indexes, full-text tables and file counts from the rows."""
        with write_transaction(self._engine) as connection:
            for statement in (
                "REINDEX",
                "INSERT INTO words (words) VALUES ('delete-all')",
                "INSERT INTO trigrams (trigrams) VALUES ('delete-all')",
                "INSERT INTO words (rowid, text) SELECT id, text FROM texts",
                "INSERT INTO trigrams (rowid, text) SELECT id, text FROM texts WHERE spaceless",
                "UPDATE contents SET asset_count ="
                " (SELECT count(*) FROM assets WHERE assets.content_id = contents.id)",
                "UPDATE items SET is_live ="
                " (SELECT asset_count > 0 FROM contents WHERE contents.id = content_id)",
            ):
                connection.execute(text(statement))

    # --- segments ---

    def restore_segment(
        self, segment: Segment, pictures: Sequence[EncodedPicture], *, building: bool = False
    ) -> None:
        """Add a segment of a lost catalog.

        Its pictures supersede those of equal content. A segment of the space being built adds no
        pictures; rows of others are stale.
        """
        with write_transaction(self._engine) as connection:
            former_ids = find_items(
                as_read_connection(connection), (item.digest for item in pictures)
            )
            if building:
                known = [
                    replace(item, keep_texts=True)
                    for item in pictures
                    if former_ids.get((item.digest, item.locator.part)) == item.id
                ]
                other_ids = {item.id for item in pictures} - {item.id for item in known}
                add_segment(connection, segment, known, BUILDING, stale_ids=sorted(other_ids))
                return
            # Format 1 gave a picture another id when its texts changed.
            replaced = sorted(set(former_ids.values()) - {item.id for item in pictures})
            for chunk in chunks(replaced):
                connection.execute(
                    insert(STALE_ROWS).from_select(
                        ["segment", "item_id"],
                        select(EMBEDDINGS.c.segment, EMBEDDINGS.c.item_id).where(
                            EMBEDDINGS.c.item_id.in_(chunk)
                        ),
                    )
                )
                connection.execute(delete(ITEMS).where(ITEMS.c.id.in_(chunk)))
            add_segment(connection, segment, pictures)
            add_generation(connection)

    def drop_segment(self, segment_number: int) -> None:
        """Delete a segment and its pictures; the next run retries their files, marked as failed."""
        with write_transaction(self._engine) as connection:
            ids = read_segment_item_ids(as_read_connection(connection), segment_number)
            for chunk in chunks(ids):
                mark_failed(connection, chunk, "its vector was lost")
                delete_items(connection, chunk)
            connection.execute(delete(SEGMENTS).where(SEGMENTS.c.number == segment_number))
            add_generation(connection, None)

    def drop_built_index(self) -> None:
        """Add a generation without a built index; readers then search the segments."""
        with write_transaction(self._engine) as connection:
            add_generation(connection, None)

    # --- repairs ---

    def save_unfinished_roots(self, ids: Sequence[int]) -> None:
        """Store the ids of the roots that a repair has yet to scan."""
        with write_transaction(self._engine) as connection:
            connection.execute(delete(SETTINGS).where(SETTINGS.c.key == UNFINISHED_REPAIR_KEY))
            if ids:
                row = {"key": UNFINISHED_REPAIR_KEY, "value": list(ids)}
                connection.execute(insert(SETTINGS), row)

    def reattach_texts(self) -> None:
        """Attach caption-table texts whose files were lost to a file of the same picture."""
        statement = (
            "UPDATE texts SET asset_id = (SELECT min(assets.id) FROM assets JOIN items"
            " USING (content_id) WHERE items.id = texts.item_id)"
            " WHERE asset_id IS NULL AND source = :table"
        )
        with write_transaction(self._engine) as connection:
            connection.execute(text(statement), {"table": TextSource.TABLE.value})

    def recover_rows(
        self, damaged: Path, recorded_roots: Mapping[bytes, Mapping[str, Any]]
    ) -> SalvageResult:
        """Copy the readable rows of a damaged catalog: roots, files, texts and runs.

        Segments and their pictures must be restored first.

        Args:
            damaged: The database to read.
            recorded_roots: The folders in its checksum file, with their choices.

        Raises:
            InspectionError: It cannot be read for a reason other than damage.
        """
        with closing(DamagedCatalog(damaged)) as source:
            with write_transaction(self._engine) as connection:
                _recover_roots(source, connection, recorded_roots)
                _recover_history(source, connection)
            num_files, num_lost_contents = self._recover_files(source)
            num_texts = self._recover_texts(source)
            with write_transaction(self._engine) as connection:
                if "texts" in source.unreadable_tables:
                    # An empty key makes the next run read the texts beside files again.
                    # Caption-table texts stay.
                    connection.execute(update(ASSETS).values(texts_key=b""))
                update_places(connection, merge_changed_metadata(connection))
                stale = as_read_connection(connection).query(
                    "SELECT item_id FROM embeddings WHERE stale > 0"
                )
                clear_stale(connection, [item_id for (item_id,) in stale])
            unreadable_tables = tuple(sorted(source.unreadable_tables))
        return SalvageResult(num_files, num_texts, num_lost_contents, unreadable_tables)

    def _recover_files(self, damaged: DamagedCatalog) -> tuple[int, int]:
        """Copy the files; return how many, and how many have content without a vector."""
        num_recovered = num_lost = 0
        for rows in _batches(damaged.read_rows("assets", _ASSET_COLUMNS)):
            with write_transaction(self._engine) as connection:
                db = as_read_connection(connection)
                kinds = dict(db.query("SELECT id, kind FROM sources"))
                contents = find_contents(db, (row[6] for row in rows))
                new_rows = []
                for row in rows:
                    values = dict(zip(_ASSET_COLUMNS, row, strict=True))
                    values["content_id"], _ = contents.get(values["digest"], (None, None))
                    if values["error"] is not None:
                        values["content_id"] = None
                    kind = kinds.get(values["source_id"])
                    if kind == FOLDER_KIND and not is_safe_relative_path(values["key"]):
                        damaged.unreadable_tables.add("assets")
                    elif kind is None:
                        damaged.unreadable_tables.add("sources")
                    elif values["content_id"] is None and values["error"] is None:
                        num_lost += 1
                    else:
                        new_rows.append(values)
                if new_rows:
                    connection.execute(insert(ASSETS).prefix_with("OR IGNORE"), new_rows)
            num_recovered += len(new_rows)
        return num_recovered, num_lost

    def _recover_texts(self, damaged: DamagedCatalog) -> int:
        """Copy the texts of files; texts embedded in pictures are in the segments.

        Return the number of copied texts.
        """
        num_recovered = 0
        known_sources = {source.value for source in TextSource}
        for rows in _batches(damaged.read_rows("texts", _TEXT_COLUMNS)):
            with write_transaction(self._engine) as connection:
                db = as_read_connection(connection)
                items_by_asset = _load_pairs(
                    db,
                    "SELECT assets.id, items.id FROM assets JOIN items USING (content_id)"
                    " WHERE items.part = 0 AND assets.id",
                    [row[1] for row in rows if row[1]],
                )
                items = _load_pairs(
                    db, "SELECT id, id FROM items WHERE id", [row[0] for row in rows]
                )
                new_rows: list[tuple[int, int | None, Text, bytes | None]] = []
                for item_id, asset_id, kind, value, language, source, table, *times in rows:
                    stored_text = Text(kind, value, language, source, None, None, *times)
                    if source not in known_sources:
                        damaged.unreadable_tables.add("texts")
                    elif asset_id in items_by_asset:
                        is_moment = times[0] is not None and item_id in items
                        own_id = item_id if is_moment else items_by_asset[asset_id]
                        new_rows.append((own_id, asset_id, stored_text, table))
                    elif source == TextSource.TABLE and item_id in items:
                        # `reattach_texts` finds its file again.
                        new_rows.append((item_id, None, stored_text, table))
                insert_texts(connection, new_rows)
            num_recovered += len(new_rows)
        return num_recovered


def _recover_roots(
    damaged: DamagedCatalog,
    connection: Connection,
    recorded_roots: Mapping[bytes, Mapping[str, Any]],
) -> None:
    columns = {"id": "integer", "kind": "text", "name": "text", "uri": "blob", "choices": "text"}
    for number, kind, name, uri, choices in damaged.read_rows("sources", columns):
        try:
            parsed_choices = dict(json.loads(choices))
        except (ValueError, TypeError, RecursionError):
            parsed_choices = None
        if parsed_choices is None or (kind == FOLDER_KIND and not is_root_path(uri)):
            damaged.unreadable_tables.add("sources")
            continue
        row = {"id": number, "kind": kind, "name": name, "uri": uri, "choices": parsed_choices}
        connection.execute(insert(SOURCES).prefix_with("OR IGNORE"), row)
    recovered = {root.path for root in read_roots(as_read_connection(connection))}
    for path in filter(is_root_path, recorded_roots):
        root, subfolder = ensure_root(connection, path)
        if path not in recovered and not subfolder:
            choices = FolderChoices.from_json(recorded_roots[path]).to_json()
            statement = update(SOURCES).where(SOURCES.c.id == root.id)
            connection.execute(statement.values(choices=choices))


def _recover_history(damaged: DamagedCatalog, connection: Connection) -> None:
    """Copy the creation date, the runs, and the highest number that each table ever used."""
    for (created_at,) in _read_text_setting(damaged, "created_at"):
        statement = update(SETTINGS).where(SETTINGS.c.key == "created_at")
        connection.execute(statement.values(value=created_at))
    settings = read_settings(damaged)
    for source in read_sources(as_read_connection(connection)):
        key = f"{LAST_RUN_KEY}{source.id}"
        run = settings.get(key)
        if isinstance(run, dict) and all(isinstance(value, str) for value in run.values()):
            connection.execute(insert(SETTINGS), {"key": key, "value": run})
    calibration = settings.get(CALIBRATION_KEY)
    if parse_calibration(json.dumps(calibration)) is not None:
        connection.execute(insert(SETTINGS), {"key": CALIBRATION_KEY, "value": calibration})
    for started_at, finished_at, outcome, counts in damaged.read_rows("runs", _RUN_COLUMNS):
        try:
            parsed_counts = dict(json.loads(counts))
        except (ValueError, TypeError, RecursionError):
            damaged.unreadable_tables.add("runs")
            continue
        row = {
            "started_at": started_at,
            "finished_at": finished_at,
            "outcome": outcome,
            "counts": parsed_counts,
        }
        connection.execute(insert(RUNS), row)
    for name, sequence in damaged.read_rows("sqlite_sequence", SEQUENCE_COLUMNS):
        if name in _SEQUENCE_TABLES and 0 < sequence < MAX_ROWID // 2:
            values = {"name": _SEQUENCE_TABLES[name], "seq": sequence}
            is_present = connection.execute(text(_HAS_SEQUENCE), values).scalar()
            connection.execute(text(_RAISE_SEQUENCE if is_present else _ADD_SEQUENCE), values)


_HAS_SEQUENCE = "SELECT count(*) FROM sqlite_sequence WHERE name = :name"
_RAISE_SEQUENCE = "UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = :name"
_ADD_SEQUENCE = "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"


def _read_text_setting(damaged: DamagedCatalog, key: str) -> Iterator[tuple[str]]:
    value = read_settings(damaged).get(key)
    if isinstance(value, str):
        yield (value,)


def _load_pairs(db: ReadConnection, statement: str, ids: Sequence[int]) -> dict[int, int]:
    """Return two columns of the rows whose id is among ``ids``; ``statement`` ends with the id."""
    return dict(db.query(f"{statement} {IN_IDS}", [json.dumps(ids)]))


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch
