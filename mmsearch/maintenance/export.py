"""Export the vectors, facts and texts of an index for other programs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np

from mmsearch.core.catalog import CatalogReader, Snapshot
from mmsearch.core.display import display_path
from mmsearch.core.errors import DamagedFileError, Hint, SourceError, StateError
from mmsearch.core.identity import require_identity
from mmsearch.core.records import FOLDER_KIND, PictureRecord, Segment, StoredAsset, StoredPicture
from mmsearch.core.reports import ExportReport
from mmsearch.core.results import Progress
from mmsearch.core.types import CONTENT_SOURCES, IMAGE_KIND, MADE_SOURCES, Text, TextSource
from mmsearch.exports import kept
from mmsearch.exports.derived import write_texts
from mmsearch.exports.formats import PART_FORMATS, check_format, load_format
from mmsearch.exports.manifest import Manifest, write_manifest
from mmsearch.exports.pictures import (
    Asset,
    ExportBatch,
    ExportedPicture,
    HalfVectors,
    Place,
    rebatch,
)
from mmsearch.factories import catalogs
from mmsearch.indexing.compaction import iter_derived
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
                manifest, counts = _write(layout, catalog, staging, format_name, progress)
            break
        except DamagedFileError as error:
            # A compaction may have removed the file after the catalog was opened.
            if attempt == MAX_ATTEMPTS or not error.details.get("missing"):
                raise
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return ExportReport(
        folder,
        format_name,
        counts["contents"],
        manifest.text_vectors,
        len(sizes),
        sum(sizes),
        time.monotonic() - started_at,
        manifest.pictures,
        counts["left_out"],
    )


def _write(
    layout: IndexLayout,
    catalog: CatalogReader,
    folder: Path,
    format_name: str,
    progress: Callable[[Progress], None],
) -> tuple[Manifest, Counter[str]]:
    """Write the files of an export; return its manifest, which is among them, and counts."""
    identity = require_identity(catalog)
    with catalog.snapshot() as snapshot:
        calibration, total = snapshot.calibration, snapshot.items_with_pixels
        others = snapshot.pictures - catalog.derived.count_contents({IMAGE_KIND})
        has_parts = others > 0 and format_name in PART_FORMATS
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
            has_parts=has_parts,
        )
        uris = {source["uri"] for source in manifest.sources}
        pictures = text_vectors = 0
        without_vectors = snapshot.count_contents(snapshot.ids_without_pixels)
        counts = Counter(left_out=without_vectors if has_parts else others)
        with ExitStack() as stack:
            write = stack.enter_context(load_format(format_name).open_writer(folder, manifest))
            keep = stack.enter_context(kept.open_writer(folder)) if manifest.sources else None
            for batch in rebatch(_SegmentReader(layout, catalog, snapshot, has_parts).batches()):
                write(batch)
                if keep is not None:
                    _copy_kept(layout, batch, keep, uris)
                counts["contents"] += sum(item.locator.part == 0 for item in batch.pictures)
                pictures += len(batch.pictures)
                text_vectors += len(batch.texts)
                progress(Progress("export", pictures, total))
            if format_name in PART_FORMATS:
                write_texts(folder, iter_derived(catalog.derived, only_live=True))
    if not pictures:
        if counts["left_out"] and format_name not in PART_FORMATS:
            raise StateError(
                f"The index has films and documents only, which {format_name} does not hold.",
                Hint("Export it as {}.", "format='parquet'", "--format parquet"),
            )
        raise StateError("The index has no pictures to export.", "Index a folder first.")
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = replace(manifest, pictures=pictures, text_vectors=text_vectors, files=files)
    write_manifest(folder, manifest)
    return manifest, counts


def _copy_kept(
    layout: IndexLayout, batch: ExportBatch, keep: kept.Keep, uris: Collection[bytes]
) -> None:
    """Copy the thumbnails and originals that the index keeps of pictures in some sources."""
    for item in batch.pictures:
        if all(place.root not in uris for place in item.places):
            continue
        part = item.locator.part
        paths = {"thumbnails": thumbnail_path(layout.thumbnails, item.digest, part)}
        if part == 0:
            paths["originals"] = original_path(layout.originals, item.digest)
        for kind, path in paths.items():
            with suppress(FileNotFoundError):
                keep(kind, item.digest, part, path.read_bytes())


class _StoredRows:
    """The vectors of a segment, by the ids of its rows."""

    def __init__(self, layout: IndexLayout, segment: Segment) -> None:
        self._stored = read_stored_vectors(layout, segment)
        self._row_by_id = {item_id: row for row, item_id in enumerate(self._stored.ids.tolist())}
        self._counts = np.array([len(kinds) for kinds in self._stored.text_kinds], dtype=np.int64)
        self._starts = np.cumsum(self._counts) - self._counts

    def row(self, item_id: int) -> int:
        """Return the row of an item."""
        return self._row_by_id[item_id]

    def take(self, ids: Sequence[int]) -> tuple[HalfVectors, HalfVectors, list[tuple[str, ...]]]:
        """Return image vectors, text vectors and their kinds of some items, in their order."""
        rows = np.array([self._row_by_id[item_id] for item_id in ids], dtype=np.int64)
        counts = self._counts[rows]
        offsets = self._starts[rows] - (np.cumsum(counts) - counts)
        text_rows = np.repeat(offsets, counts) + np.arange(counts.sum())
        kinds = [self._stored.text_kinds[row] for row in rows.tolist()]
        return self._stored.images[rows], self._stored.texts[text_rows], kinds


class _SegmentReader:
    """Reader of the searchable pictures of an index, segment by segment.

    Args:
        layout: File layout of the index.
        catalog: The catalog.
        snapshot: Its snapshot.
        has_parts: True to read other contents than still pictures, too.
    """

    def __init__(
        self, layout: IndexLayout, catalog: CatalogReader, snapshot: Snapshot, has_parts: bool
    ) -> None:
        self._catalog = catalog
        self._snapshot = snapshot
        self._has_parts = has_parts
        self._kinds = {source.uri: source.kind for source in catalog.sources()}
        self._segments = {segment.number: segment for segment in catalog.segments()}
        # Few contents have items in several segments.
        self._read = lru_cache(maxsize=2)(
            lambda number: _StoredRows(layout, self._segments[number])
        )

    def batches(self) -> Iterator[ExportBatch]:
        """Yield the pictures of each segment, oldest first; a content is with its first item."""
        for number in self._segments:
            pictures = self._catalog.list_segment_pictures(number)
            first = [
                item
                for item in pictures
                if item.locator.part == 0 and (self._has_parts or item.kind == IMAGE_KIND)
            ]
            if not first:
                continue
            stored = self._read(number)
            first.sort(key=lambda item: stored.row(item.id))
            contents = self._find_contents(first, pictures)
            places = self._locate([items[0] for items in contents])
            pairs = [
                (item, _make_picture(item, len(items), at))
                for items, at in zip(contents, places, strict=True)
                for item in items
            ]
            for segment, group in groupby(pairs, key=lambda pair: pair[0].segment):
                yield self._make_batch(segment, list(group))

    def _find_contents(
        self, first: Sequence[StoredPicture], pictures: Sequence[StoredPicture]
    ) -> list[list[StoredPicture]]:
        """Return all items of the contents of some first items, by part.

        Contents that lack an item or a vector are left out: the next run encodes them again.
        """
        several = [item.id for item in first if item.kind != IMAGE_KIND]
        if not several:
            return [[item] for item in first]
        by_id = {item.id: item for item in pictures}
        siblings = self._snapshot.sibling_ids(np.array(several, dtype=np.int64)).tolist()
        for item in self._load([item_id for item_id in siblings if item_id not in by_id]):
            by_id[item.id] = item
        parts: dict[bytes, list[StoredPicture]] = {}
        for item in (by_id[item_id] for item_id in siblings if item_id in by_id):
            parts.setdefault(item.digest, []).append(item)
        contents = []
        for item in first:
            items = sorted(parts.get(item.digest, [item]), key=lambda each: each.locator.part)
            numbers = [each.locator.part for each in items]
            if numbers == list(range(len(items))) and all(
                each.segment is not None for each in items
            ):
                contents.append(items)
        return contents

    def _load(self, ids: Sequence[int]) -> Iterator[StoredPicture]:
        """Yield items by ids, which ascend."""
        runs = groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0])
        for _, run in runs:
            wanted = [item_id for _, item_id in run]
            yield from self._catalog.list_live_pictures(wanted[0] - 1, len(wanted))

    def _locate(self, first: Sequence[StoredPicture]) -> list[_Location]:
        """Return the places of the contents of some first items."""
        ids = [item.id for item in first]
        assets = self._catalog.list_item_assets(ids)
        return [
            _Location(
                _list_places(record, assets.get(item_id, {}), self._kinds),
                record.size,
                record.mtime_ns,
            )
            for item_id, record in zip(ids, self._snapshot.records(ids), strict=True)
        ]

    def _make_batch(
        self, number: int | None, pairs: Sequence[tuple[StoredPicture, ExportedPicture]]
    ) -> ExportBatch:
        images, texts, kinds = self._read(number).take([item.id for item, _ in pairs])
        pictures = [
            replace(picture, text_kinds=own) if own else picture
            for (_, picture), own in zip(pairs, kinds, strict=True)
        ]
        return ExportBatch(pictures, images, texts)


@dataclass(frozen=True)
class _Location:
    """The places of a content, and the size and the time of its first file."""

    places: tuple[Place, ...]
    size: int
    mtime_ns: int


def _list_places(
    record: PictureRecord,
    assets: Mapping[tuple[bytes, bytes], StoredAsset],
    kinds: Mapping[bytes, str],
) -> tuple[Place, ...]:
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
    return tuple(places)


def _make_picture(item: StoredPicture, parts: int, location: _Location) -> ExportedPicture:
    places = location.places
    if item.locator.part:
        places = tuple(Place(place.root, place.key) for place in places)
    return ExportedPicture(
        item.id,
        item.digest,
        places,
        location.size,
        location.mtime_ns,
        replace(item.picture, texts=_order_texts(item.picture.texts)),
        item.texts_digest,
        kind=item.kind,
        locator=item.locator,
        parts=parts,
    )


def _order_texts(texts: Iterable[Text]) -> tuple[Text, ...]:
    """Return each text once that was not made, in an order that an import keeps."""
    unique = dict.fromkeys(text for text in texts if text.source not in MADE_SOURCES)
    return tuple(sorted(unique, key=lambda text: _TEXT_ORDER.get(TextSource(text.source), 1)))
