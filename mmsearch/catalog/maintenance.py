"""Maintenance of a catalog: repairs, recovery of a damaged one, and compaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, text, update

from mmsearch.catalog.commits import add_segment, mark_failed
from mmsearch.catalog.connection import ReadConnection
from mmsearch.catalog.identity import CALIBRATION_KEY, parse_calibration
from mmsearch.catalog.metadata import merge_changed_metadata
from mmsearch.catalog.reader import UNFINISHED_REPAIR_KEY
from mmsearch.catalog.rows import (
    chunks,
    find_image_ids,
    is_root_path,
    is_safe_relative_path,
    read_segment_image_ids,
)
from mmsearch.catalog.salvage import MAX_ROWID, SEQUENCE_COLUMNS, DamagedCatalog, read_settings
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, vacuum, write_transaction
from mmsearch.catalog.tables import FILES, IMAGES, ROOTS, RUNS, SEGMENTS, SETTINGS, STAGED_IMAGES
from mmsearch.catalog.texts import clear_stale, insert_texts
from mmsearch.catalog.writer import SqliteWriter, add_generation, ensure_root
from mmsearch.core.records import EncodedPicture, SalvageResult, Segment
from mmsearch.core.types import Text, TextSource

BATCH_ROWS = 1000

_SEQUENCE_TABLES = ("roots", "segments", "images", "built_indexes", "generations")

_FILE_COLUMNS = {
    "id": "integer",
    "root_id": "integer",
    "path": "blob",
    "size": "integer",
    "mtime_ns": "integer",
    "checked_ns": "integer",
    "digest": "blob",
    "error": "text?",
    "texts_key": "blob",
    "ctime_ns": "integer",
    "metadata": "text?",
}

_TEXT_COLUMNS = {
    "image_id": "integer",
    "file_id": "integer?",
    "kind": "text",
    "text": "text",
    "language": "text?",
    "source": "text",
    "table_path": "blob?",
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
                "UPDATE images SET file_count ="
                " (SELECT count(*) FROM files WHERE files.image_id = images.id)",
            ):
                connection.execute(text(statement))

    # --- segments ---

    def restore_segment(self, segment: Segment, pictures: Sequence[EncodedPicture]) -> None:
        """Add a segment of a lost catalog; its pictures supersede those of equal content."""
        with write_transaction(self._engine) as connection:
            existing_ids = find_image_ids(
                as_read_connection(connection), (item.digest for item in pictures)
            )
            replacements = [
                replace(item, replaces=existing_ids.get(item.digest)) for item in pictures
            ]
            add_segment(connection, segment, replacements)
            add_generation(connection)

    def drop_segment(self, segment_number: int) -> None:
        """Delete a segment and its pictures; the next run retries their files, marked as failed."""
        with write_transaction(self._engine) as connection:
            ids = read_segment_image_ids(as_read_connection(connection), segment_number)
            for chunk in chunks(ids):
                mark_failed(connection, chunk, "its vector was lost")
                connection.execute(delete(STAGED_IMAGES).where(STAGED_IMAGES.c.image_id.in_(chunk)))
                connection.execute(delete(IMAGES).where(IMAGES.c.id.in_(chunk)))
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
            "UPDATE texts SET file_id = (SELECT min(id) FROM files"
            " WHERE files.image_id = texts.image_id) WHERE file_id IS NULL AND source = :table"
        )
        with write_transaction(self._engine) as connection:
            connection.execute(text(statement), {"table": TextSource.TABLE.value})

    def recover_rows(self, damaged: Path, recorded_roots: Sequence[bytes]) -> SalvageResult:
        """Copy the readable rows of a damaged catalog: roots, files, texts and runs.

        Segments and their pictures must be restored first.

        Args:
            damaged: The database to read.
            recorded_roots: The folders in its checksum file.

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
                    connection.execute(update(FILES).values(texts_key=b""))
                merge_changed_metadata(connection)
                stale = as_read_connection(connection).query(
                    "SELECT id FROM images WHERE retell = 1 AND file_count > 0"
                )
                clear_stale(connection, [image_id for (image_id,) in stale])
            unreadable_tables = tuple(sorted(source.unreadable_tables))
        return SalvageResult(num_files, num_texts, num_lost_contents, unreadable_tables)

    def _recover_files(self, damaged: DamagedCatalog) -> tuple[int, int]:
        """Copy the files; return how many, and how many have content without a vector."""
        num_recovered = num_lost = 0
        for rows in _batches(damaged.read_rows("files", _FILE_COLUMNS)):
            with write_transaction(self._engine) as connection:
                db = as_read_connection(connection)
                roots = {root_id for (root_id,) in db.query("SELECT id FROM roots")}
                images = find_image_ids(db, (row[6] for row in rows))
                new_rows = []
                for row in rows:
                    values = dict(zip(_FILE_COLUMNS, row, strict=True))
                    values["image_id"] = images.get(values["digest"])
                    if values["error"] is not None:
                        values["image_id"] = None
                    if not is_safe_relative_path(values["path"]):
                        damaged.unreadable_tables.add("files")
                    elif values["root_id"] not in roots:
                        damaged.unreadable_tables.add("roots")
                    elif values["image_id"] is None and values["error"] is None:
                        num_lost += 1
                    else:
                        new_rows.append(values)
                if new_rows:
                    connection.execute(insert(FILES).prefix_with("OR IGNORE"), new_rows)
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
                files = _load_image_ids(
                    db, "SELECT id, image_id FROM files", [row[1] for row in rows if row[1]]
                )
                images = _load_image_ids(db, "SELECT id, id FROM images", [row[0] for row in rows])
                new_rows: list[tuple[int, int | None, Text, bytes | None]] = []
                for image_id, file_id, kind, text_value, language, source, table in rows:
                    stored_text = Text(kind, text_value, language, source)
                    if source not in known_sources:
                        damaged.unreadable_tables.add("texts")
                    elif files.get(file_id) is not None:
                        new_rows.append((files[file_id], file_id, stored_text, table))
                    elif source == TextSource.TABLE and image_id in images:
                        # `reattach_texts` finds its file again.
                        new_rows.append((image_id, None, stored_text, table))
                insert_texts(connection, new_rows)
            num_recovered += len(new_rows)
        return num_recovered


def _recover_roots(
    damaged: DamagedCatalog, connection: Connection, recorded_roots: Sequence[bytes]
) -> None:
    columns = {"id": "integer", "name": "text", "path": "blob"}
    for number, name, path in damaged.read_rows("roots", columns):
        if not is_root_path(path):
            damaged.unreadable_tables.add("roots")
            continue
        row = {"id": number, "name": name, "path": path}
        connection.execute(insert(ROOTS).prefix_with("OR IGNORE"), row)
    for path in filter(is_root_path, recorded_roots):
        ensure_root(connection, path)


def _recover_history(damaged: DamagedCatalog, connection: Connection) -> None:
    """Copy the creation date, the runs, and the highest number that each table ever used."""
    for (created_at,) in _read_text_setting(damaged, "created_at"):
        statement = update(SETTINGS).where(SETTINGS.c.key == "created_at")
        connection.execute(statement.values(value=created_at))
    calibration = read_settings(damaged).get(CALIBRATION_KEY)
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
            values = {"name": name, "seq": sequence}
            is_present = connection.execute(text(_HAS_SEQUENCE), values).scalar()
            connection.execute(text(_RAISE_SEQUENCE if is_present else _ADD_SEQUENCE), values)


_HAS_SEQUENCE = "SELECT count(*) FROM sqlite_sequence WHERE name = :name"
_RAISE_SEQUENCE = "UPDATE sqlite_sequence SET seq = max(seq, :seq) WHERE name = :name"
_ADD_SEQUENCE = "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"


def _read_text_setting(damaged: DamagedCatalog, key: str) -> Iterator[tuple[str]]:
    value = read_settings(damaged).get(key)
    if isinstance(value, str):
        yield (value,)


def _load_image_ids(db: ReadConnection, statement: str, ids: Sequence[int]) -> dict[int, Any]:
    """Return the picture ids of existing rows, by row id; ``statement`` selects both columns."""
    condition = "WHERE id IN (SELECT value FROM json_each(?))"
    return dict(db.query(f"{statement} {condition}", [json.dumps(ids)]))


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch
