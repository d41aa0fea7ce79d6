"""Writing and maintenance of a catalog in an SQLite file; recovery of a damaged one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, text, update

from mmsearch.catalog import checksum
from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S, ReadPool
from mmsearch.catalog.database import Database
from mmsearch.catalog.identity import CALIBRATION_KEY, parse_calibration
from mmsearch.catalog.maintenance import SqlMaintenance
from mmsearch.catalog.metadata import merge_changed_metadata
from mmsearch.catalog.place_texts import update_places
from mmsearch.catalog.rows import (
    LAST_RUN_KEY,
    find_contents,
    is_root_path,
    is_safe_relative_path,
    read_roots,
    read_sources,
)
from mmsearch.catalog.salvage import MAX_ROWID, SEQUENCE_COLUMNS, DamagedCatalog, read_settings
from mmsearch.catalog.source_writes import ensure_root
from mmsearch.catalog.sqlalchemy_engine import (
    as_read_connection,
    checkpoint_wal,
    vacuum,
    write_transaction,
)
from mmsearch.catalog.tables import (
    ASSETS,
    RUNS,
    SETTINGS,
    SOURCES,
)
from mmsearch.catalog.texts import clear_stale, insert_texts
from mmsearch.core.folder_choices import FolderChoices
from mmsearch.core.records import FOLDER_KIND, SalvageResult
from mmsearch.core.types import Text, TextSource
from mmsearch.storage.failpoints import FailPoint, hit_failpoint

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


class SqliteMaintenance(SqlMaintenance):
    """Implementation of `mmsearch.core.catalog_maintenance.CatalogMaintenance`; thread-safe.

    Args:
        path: The database, with the newest schema.
        engine: Its engine from `open_engine`; `close` disposes of it.
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        super().__init__(ReadPool(path, timeout_s=MAINTENANCE_TIMEOUT_S), engine)
        self._path = path
        self._is_open = True

    def close(self) -> None:
        """Close the connections and write the checksum. All snapshots must be closed before."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            folders = self._folders()
            self._connections.close()
            checkpoint_wal(self._engine)
        finally:
            super().close()
        hit_failpoint(FailPoint.CATALOG_CLOSED)
        checksum.mark_clean(self._path, folders)

    def _record_roots(self) -> None:
        """Record the indexed folders and their choices in the checksum file, too."""
        checksum.mark_dirty(self._path, self._folders())

    def _folders(self) -> dict[bytes, Mapping[str, Any]]:
        """Return the paths of the indexed folders with their choices."""
        return {s.uri: s.choices for s in self.sources() if s.kind == FOLDER_KIND}

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
            ):
                connection.execute(text(statement))
            self._recount(as_read_connection(connection))

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


def _load_pairs(db: Database, statement: str, ids: Sequence[int]) -> dict[int, int]:
    """Return two columns of the rows whose id is among ``ids``; ``statement`` ends with the id."""
    return dict(db.query(f"{statement} {db.dialect.in_ids}", [json.dumps(ids)]))


def _batches(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch
