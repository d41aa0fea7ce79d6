"""Export the vectors, facts and texts of an index for other programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mmsearch.core.catalog import CatalogReader, Snapshot
from mmsearch.core.display import display_path
from mmsearch.core.errors import DamagedFileError, SourceError, StateError
from mmsearch.core.records import (
    FOLDER_KIND,
    PictureRecord,
    Segment,
    StoredAsset,
    StoredPicture,
    require_identity,
)
from mmsearch.core.reports import ExportReport
from mmsearch.core.results import Progress
from mmsearch.core.types import CONTENT_SOURCES, IMAGE_KIND, Text, TextSource
from mmsearch.exports import kept
from mmsearch.exports.formats import check_format, load_format
from mmsearch.exports.manifest import Manifest, write_manifest
from mmsearch.exports.pictures import Asset, ExportBatch, ExportedPicture, Place, rebatch
from mmsearch.factories import catalogs
from mmsearch.storage.folders import atomic_folder, is_vacant
from mmsearch.storage.layout import IndexLayout, original_path, thumbnail_path
from mmsearch.storage.segments import read_stored_vectors

MAX_ATTEMPTS = 5

_TEXT_ORDER = {**dict.fromkeys(CONTENT_SOURCES, 0), TextSource.TABLE: 2}
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
            tuple(
                {"kind": known.kind, "name": known.name, "uri": known.uri, "choices": known.choices}
                for known in catalog.sources()
                if known.kind != FOLDER_KIND
            ),
            calibration=None if calibration is None else asdict(calibration),
        )
        pictures = text_vectors = 0
        with ExitStack() as stack:
            write = stack.enter_context(load_format(format_name).open_writer(folder, manifest))
            keep = stack.enter_context(kept.open_writer(folder)) if manifest.sources else None
            for batch in rebatch(_iter_segments(layout, catalog, snapshot)):
                write(batch)
                if keep is not None:
                    _copy_kept(layout, batch, keep)
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


def _copy_kept(
    layout: IndexLayout, batch: ExportBatch, keep: Callable[[str, bytes, bytes], None]
) -> None:
    """Copy the thumbnails and originals that the index keeps of pictures."""
    for item in batch.pictures:
        if all(place.asset is None for place in item.places):
            continue
        for kind, path in (
            ("thumbnails", thumbnail_path(layout.thumbnails, item.digest)),
            ("originals", original_path(layout.originals, item.digest)),
        ):
            with suppress(FileNotFoundError):
                keep(kind, item.digest, path.read_bytes())


def _iter_segments(
    layout: IndexLayout, catalog: CatalogReader, snapshot: Snapshot
) -> Iterator[ExportBatch]:
    """Yield the searchable pictures of each segment, oldest first."""
    kinds = {source.uri: source.kind for source in catalog.sources()}
    for segment in catalog.segments():
        # A file of several items is only complete with all of them, which may be in many segments.
        pictures = [
            item
            for item in catalog.list_segment_pictures(segment.number)
            if item.kind == IMAGE_KIND
        ]
        if pictures:
            ids = [item.id for item in pictures]
            assets = catalog.list_item_assets(ids)
            yield _read_batch(layout, segment, pictures, snapshot.records(ids), assets, kinds)


def _read_batch(
    layout: IndexLayout,
    segment: Segment,
    pictures: Sequence[StoredPicture],
    records: Sequence[PictureRecord],
    assets: Mapping[int, Mapping[tuple[bytes, bytes], StoredAsset]],
    kinds: Mapping[bytes, str],
) -> ExportBatch:
    stored = read_stored_vectors(layout, segment)
    row_by_id = {item_id: row for row, item_id in enumerate(stored.ids.tolist())}
    by_row = sorted(zip(pictures, records, strict=True), key=lambda pair: row_by_id[pair[0].id])
    rows = np.array([row_by_id[item.id] for item, _ in by_row], dtype=np.int64)
    counts = [len(kinds) for kinds in stored.text_kinds]
    is_kept = np.zeros(len(stored.ids), dtype=bool)
    is_kept[rows] = True
    exported = [
        _make_picture(item, record, stored.text_kinds[row], assets.get(item.id, {}), kinds)
        for (item, record), row in zip(by_row, rows.tolist(), strict=True)
    ]
    return ExportBatch(exported, stored.images[rows], stored.texts[np.repeat(is_kept, counts)])


def _make_picture(
    item: StoredPicture,
    record: PictureRecord,
    text_kinds: tuple[str, ...],
    assets: Mapping[tuple[bytes, bytes], StoredAsset],
    kinds: Mapping[bytes, str],
) -> ExportedPicture:
    roots = (record.root, *record.copy_roots)
    places = []
    for root, path in zip(roots, record.paths, strict=True):
        if kinds.get(root) == FOLDER_KIND:
            places.append(Place(root, path[len(root.rstrip(b"/")) + 1 :]))
            continue
        key = path[len(root) + 1 :] if root else path
        stored = assets[root, key]
        asset = Asset(
            kinds[root],
            stored.part,
            stored.asset.stamp,
            dict(stored.metadata) or None,
            tuple(stored.texts),
        )
        places.append(Place(root, key, asset))
    return ExportedPicture(
        item.id,
        item.digest,
        tuple(places),
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
