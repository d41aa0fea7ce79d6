"""Export the vectors, facts and texts of an index for other programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mmsearch.core.catalog import CatalogReader, Snapshot
from mmsearch.core.display import display_path
from mmsearch.core.errors import DamagedFileError, SourceError, StateError
from mmsearch.core.records import PictureRecord, Segment, StoredPicture, require_identity
from mmsearch.core.reports import ExportReport
from mmsearch.core.results import Progress
from mmsearch.core.types import Text, TextSource
from mmsearch.exports.formats import check_format, load_format
from mmsearch.exports.manifest import Manifest, write_manifest
from mmsearch.exports.pictures import ExportBatch, ExportedPicture, Place, rebatch
from mmsearch.factories import catalogs
from mmsearch.storage.folders import atomic_folder, is_vacant
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_stored_vectors

MAX_ATTEMPTS = 5

_TEXT_ORDER = {TextSource.METADATA: 0, TextSource.TABLE: 2}
"""Order of texts by source; those of sidecars and file names come between."""


def export(
    layout: IndexLayout, folder: Path, format_name: str, progress: Callable[[Progress], None]
) -> ExportReport:
    """Export an index. See `mmsearch.api.index.Index.export`."""
    started_at = time.monotonic()
    check_format(format_name)
    if not is_vacant(folder):
        raise SourceError(
            f"{display_path(folder)} exists already.", "Choose a new or an empty folder."
        )
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with catalogs.open_snapshot(layout) as catalog, atomic_folder(folder) as staging:
                manifest = _write(layout, catalog, staging, format_name, progress)
            break
        except DamagedFileError as error:
            # A compaction may have removed the file after the catalog was opened.
            if attempt == MAX_ATTEMPTS or not error.details.get("missing"):
                raise
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return ExportReport(
        folder,
        format_name,
        manifest.pictures,
        manifest.text_vectors,
        len(sizes),
        sum(sizes),
        time.monotonic() - started_at,
    )


def _write(
    layout: IndexLayout,
    catalog: CatalogReader,
    folder: Path,
    format_name: str,
    progress: Callable[[Progress], None],
) -> Manifest:
    """Write the files of an export and return its manifest, which is among them."""
    identity = require_identity(catalog)
    with catalog.snapshot() as snapshot:
        calibration, total = snapshot.calibration, snapshot.pictures
        manifest = Manifest(
            format_name,
            identity.encoder,
            catalogs.identity_to_settings(identity),
            tuple(root.path for root in catalog.roots()),
            calibration=None if calibration is None else asdict(calibration),
        )
        pictures = text_vectors = 0
        with load_format(format_name).open_writer(folder, manifest) as write:
            for batch in rebatch(_iter_segments(layout, catalog, snapshot)):
                write(batch)
                pictures += len(batch.pictures)
                text_vectors += len(batch.texts)
                progress(Progress("export", pictures, total))
    if not pictures:
        raise StateError("The index has no pictures to export.", "Index a folder first.")
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = replace(manifest, pictures=pictures, text_vectors=text_vectors, files=files)
    write_manifest(folder, manifest)
    return manifest


def _iter_segments(
    layout: IndexLayout, catalog: CatalogReader, snapshot: Snapshot
) -> Iterator[ExportBatch]:
    """Yield the searchable pictures of each segment, oldest first."""
    for segment in catalog.segments():
        pictures = catalog.list_segment_pictures(segment.number)
        if pictures:
            records = snapshot.records([item.id for item in pictures])
            yield _read_batch(layout, segment, pictures, records)


def _read_batch(
    layout: IndexLayout,
    segment: Segment,
    pictures: Sequence[StoredPicture],
    records: Sequence[PictureRecord],
) -> ExportBatch:
    stored = read_stored_vectors(layout, segment)
    row_by_id = {item_id: row for row, item_id in enumerate(stored.ids.tolist())}
    by_row = sorted(zip(pictures, records, strict=True), key=lambda pair: row_by_id[pair[0].id])
    rows = np.array([row_by_id[item.id] for item, _ in by_row], dtype=np.int64)
    counts = [len(kinds) for kinds in stored.text_kinds]
    is_kept = np.zeros(len(stored.ids), dtype=bool)
    is_kept[rows] = True
    exported = [
        _make_picture(item, record, stored.text_kinds[row])
        for (item, record), row in zip(by_row, rows.tolist(), strict=True)
    ]
    return ExportBatch(exported, stored.images[rows], stored.texts[np.repeat(is_kept, counts)])


def _make_picture(
    item: StoredPicture, record: PictureRecord, text_kinds: tuple[str, ...]
) -> ExportedPicture:
    roots = (record.root, *record.copy_roots)
    places = tuple(
        Place(root, path[len(root.rstrip(b"/")) + 1 :])
        for root, path in zip(roots, record.paths, strict=True)
    )
    return ExportedPicture(
        item.id,
        item.digest,
        places,
        record.size,
        record.mtime_ns,
        replace(item.picture, texts=_order_texts(item.picture.texts)),
        item.texts_digest,
        text_kinds,
    )


def _order_texts(texts: Iterable[Text]) -> tuple[Text, ...]:
    """Return each text once, in an order that an import keeps."""
    unique = dict.fromkeys(texts)
    return tuple(sorted(unique, key=lambda text: _TEXT_ORDER.get(TextSource(text.source), 1)))
