"""Reads from a large catalog: records by id, and the pictures that match a filter."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.compare import compare, machine, row, table
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import Filters
from mmsearch.core.query import Compare, FieldName
from mmsearch.core.records import PictureRecord
from mmsearch.core.types import Picture, Text
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout

PICTURES = 100_000
COUNTS = (10, 1_000, 10_000)
WIDTHS = 1_000
SHARES = {"1%": WIDTHS // 100, "10%": WIDTHS // 10}
ROUNDS = 7
SEGMENT_NAME = f"segments/000001-{0:016x}.vectors"


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the CPU time of each read."""
    with tempfile.TemporaryDirectory() as name:
        layout = IndexLayout.for_name(Path(name), "default")
        widths = _fill_catalog(layout)
        with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
            connection = sqlite3.connect(layout.catalog)
            rows = []
            random = np.random.default_rng(1)
            for count in COUNTS:
                ids = (random.permutation(PICTURES)[:count] + 1).tolist()
                result = compare(
                    lambda ids=ids: snapshot.records(ids),
                    lambda ids=ids: _records_one_by_one(connection, ids),
                    rounds=ROUNDS,
                )
                same = _count_same(snapshot.records(ids), _records_one_by_one(connection, ids))
                rows.append(row(f"{count:,} records", result, None, f"{same:,} the same"))
            filters = []
            for share, width in SHARES.items():
                width_filter = Filters(where=Compare(FieldName("width"), "<=", width))
                started_s = time.process_time()
                found = snapshot.filter_ids(make_filter_tree(width_filter))
                elapsed_s = time.process_time() - started_s
                expected_ids = np.flatnonzero(widths <= width) + 1
                recall = len(np.intersect1d(found, expected_ids)) / len(expected_ids)
                filters.append(
                    {"share": share, "ms": elapsed_s * 1e3, "found": len(found), "recall": recall}
                )
            connection.close()
    return {"machine": machine(), "rows": rows, "filters": filters}


def _fill_catalog(layout: IndexLayout) -> NDArray[np.int64]:
    """Fill a catalog with pictures of one file each and return their widths, int64 (n,)."""
    widths = np.random.default_rng(0).integers(1, WIDTHS + 1, PICTURES)
    with catalogs.open_write(layout, 0, create=True) as catalog:
        catalog.ensure_root(b"/photos")
    connection = sqlite3.connect(layout.catalog)
    with connection:
        connection.execute(
            "INSERT INTO segments VALUES (1, ?, 1, ?, ?, 512, 1)",
            [SEGMENT_NAME, "0" * 64, PICTURES],
        )
        connection.executemany(
            "INSERT INTO contents (id, digest, kind) VALUES (?, ?, 'image')",
            ((at + 1, at.to_bytes(32, "big")) for at in range(PICTURES)),
        )
        connection.executemany(
            "INSERT INTO items (id, content_id, width, height, format)"
            " VALUES (?, ?, ?, 768, 'JPEG')",
            ((at + 1, at + 1, int(width)) for at, width in enumerate(widths)),
        )
        connection.executemany(
            "INSERT INTO embeddings (item_id, space_id, segment, texts_digest)"
            " VALUES (?, 1, 1, x'')",
            ((at + 1,) for at in range(PICTURES)),
        )
        connection.executemany(
            "INSERT INTO assets (source_id, key, size, mtime_ns, checked_ns, digest, content_id)"
            " VALUES (1, ?, 1000, 1, 9, ?, ?)",
            ((_path(at), at.to_bytes(32, "big"), at + 1) for at in range(PICTURES)),
        )
        connection.executemany(
            "INSERT INTO texts (item_id, kind, text, source) VALUES (?, 'title', ?, 'metadata')",
            ((at + 1, f"picture {at}") for at in range(PICTURES)),
        )
    connection.close()
    return widths


def _path(at: int) -> bytes:
    return b"%d/IMG_%07d.jpg" % (at // 1000, at)


def _records_one_by_one(connection: sqlite3.Connection, ids: Sequence[int]) -> list[PictureRecord]:
    """Return the same records with sqlite3, using one statement per table and id."""
    records = []
    for number in ids:
        (facts,) = connection.execute(
            "SELECT width, height, format, taken_at, camera, latitude, longitude"
            " FROM items WHERE id = ?",
            [number],
        )
        texts = connection.execute(
            "SELECT kind, text, language, source FROM texts WHERE item_id = ? ORDER BY id",
            [number],
        )
        files = connection.execute(
            "SELECT sources.uri, assets.key, mtime_ns, size, assets.digest FROM assets"
            " JOIN sources ON sources.id = source_id JOIN items USING (content_id)"
            " WHERE items.id = ?",
            [number],
        ).fetchall()
        names = ("width", "height", "format", "taken_at", "camera", "latitude", "longitude")
        picture = Picture(
            **dict(zip(names, facts, strict=True)), texts=tuple(Text(*text) for text in texts)
        )
        paths = tuple(b"%b/%b" % (bytes(root), key) for root, key, *_ in files)
        root, key, mtime_ns, size, digest = files[0]
        records.append(PictureRecord(number, paths, picture, mtime_ns, size, root, digest, key=key))
    return records


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    filters = "; ".join(
        f"{f['share']}: {f['found']:,} found in {f['ms']:.0f} ms, recall {f['recall']:g}"
        for f in results["filters"]
    )
    return f"""\
## What the catalog says

Processor time of the records of some pictures by their ids, out of a catalog of {PICTURES:,} with a file and a title each: mmsearch
in a few statements for all, beside one statement a table and id on Python's sqlite3. The guard: records that are the same.

{table(results["rows"], "mmsearch", "one by one")}
Pictures that pass a filter on the width, out of all: {filters}.
"""


def _count_same(one: Sequence[PictureRecord], other: Sequence[PictureRecord]) -> int:
    return sum(mine == theirs for mine, theirs in zip(one, other, strict=True))
