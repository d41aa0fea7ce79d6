"""Pictures of an export become rows of an index: where they lie, their vectors, texts and facts."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmsearch.catalog.rows import is_safe_relative_path
from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, Hint, SourceError
from mmsearch.core.files import clamped_ctime_ns, clamped_mtime_ns, hash_source_file
from mmsearch.core.identity import Identity
from mmsearch.core.records import (
    CaptionTableTexts,
    EncodedPicture,
    IndexedFile,
    Root,
    ScannedFile,
    Segment,
    ShardCommit,
)
from mmsearch.core.types import CONTENT_SOURCES, TextSource, select_encoded_texts, texts_digest
from mmsearch.exports.kept import iter_kept
from mmsearch.exports.pictures import Asset, ExportBatch, ExportedPicture, Place
from mmsearch.storage.atomic import atomic_write
from mmsearch.storage.layout import IndexLayout, original_path, thumbnail_path
from mmsearch.storage.segments import SegmentMetadata, StoredVectors, write_segment

HASH_THREADS = 4

UNVERIFIED_CTIME_NS = 1
"""Change time of a file that was not read: the next run compares its content with the digest."""

_PlacedFile = tuple[Root, ScannedFile, Asset | None]
"""Root or other source, what is known of the file, and of its asset in another source."""


@dataclass(slots=True)
class _Candidate:
    """A content of an export, with the paths that the index may get.

    Attributes:
        item: Its first item as exported.
        first_row: Row of that item in the batch; the others follow it.
        digest: Digest of its content, or of its path if the content is not known.
        files: The file at each of its places.
        is_verified: False if the content is not known.
    """

    item: ExportedPicture
    first_row: int
    digest: bytes
    files: list[_PlacedFile]
    is_verified: bool = True


class PictureImporter:
    """Writes batches of an export to an index, each as one segment and its rows.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        identity: Identity of the index.
        roots: Folder for the pictures of each exported root.
        sources: The other sources of the export; see `Manifest`.

    Attributes:
        counts: Numbers of contents, by the attributes of `ImportReport`.
    """

    def __init__(
        self,
        layout: IndexLayout,
        catalog: CatalogWriter,
        identity: Identity,
        roots: Mapping[bytes, bytes],
        sources: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._layout = layout
        self._catalog = catalog
        self._identity = identity
        self._folders = roots
        self._roots = {folder: catalog.ensure_root(folder) for folder in roots.values()}
        self._sources = {source["uri"]: _ensure_source(catalog, source) for source in sources}
        self.counts: Counter[str] = Counter()

    @property
    def has_sources(self) -> bool:
        """True if there are other sources than folders."""
        return bool(self._sources)

    def add(self, batch: ExportBatch) -> None:
        """Add the pictures that the index does not have, in one transaction for each root.

        Args:
            batch: Pictures with all items of each content; see `whole_contents`.
        """
        candidates = self._find_candidates(batch.pictures)
        known = set(self._catalog.find_item_ids([each.digest for each in candidates]))
        failed_roots = self._drop_known_files(candidates)
        new = []
        for candidate in candidates:
            is_known = candidate.digest in known
            if not candidate.files:
                self.counts["unchanged" if is_known else "kept"] += 1
            elif is_known:
                self.counts["copied"] += 1
            else:
                known.add(candidate.digest)
                new.append(candidate)
                self.counts["added"] += 1
                self.counts["unverified"] += not candidate.is_verified
        self._commit(batch, candidates, new, failed_roots)

    def _find_candidates(self, pictures: Sequence[ExportedPicture]) -> list[_Candidate]:
        candidates = [
            _Candidate(item, row, item.digest, self._locate_files(item))
            for row, item in enumerate(pictures)
            if item.locator.part == 0
        ]
        unknown = [each for each in candidates if not each.digest]
        if unknown:
            with ThreadPoolExecutor(HASH_THREADS) as pool:
                for _ in pool.map(_identify, unknown):
                    pass
        return candidates

    def _locate_files(self, item: ExportedPicture) -> list[_PlacedFile]:
        """Return the file at each place of a picture, unread."""
        files = []
        for number, place in enumerate(item.places):
            root, path = self._locate(place)
            mtime_ns = item.mtime_ns if number == 0 else 0
            file = (
                ScannedFile(path, item.size, mtime_ns, ctime_ns=UNVERIFIED_CTIME_NS)
                if place.asset is None
                else ScannedFile(path, item.size, 0)
            )
            files.append((root, file, place.asset))
        return files

    def _locate(self, place: Place) -> tuple[Root, bytes]:
        """Return the root of the index and the path below it.

        Raises:
            SourceError: The path is not below a folder of the export.
        """
        if place.asset is not None:
            source = self._sources.get(place.root)
            if source is None or not place.key:
                raise _path_error(place.root)
            return source, place.key
        folder = self._folders.get(place.root)
        if folder is None:
            raise _path_error(place.root)
        path = place.key
        if not is_safe_relative_path(path):
            # Other programs write absolute paths, and relative ones that begin with "./".
            path = os.path.normpath(path)
            path = path.removeprefix(folder.rstrip(b"/") + b"/")
            if not is_safe_relative_path(path):
                raise _path_error(place.key)
        root, subpath = self._roots[folder]
        return root, subpath + b"/" + path if subpath else path

    def _drop_known_files(self, candidates: Sequence[_Candidate]) -> set[int]:
        """Drop the files that the index knows; it keeps what it has at their paths.

        Returns:
            Ids of the roots with a file that could not be read and is imported now.
        """
        paths: dict[int, set[bytes]] = {}
        for candidate in candidates:
            for root, file, _ in candidate.files:
                paths.setdefault(root.id, set()).add(file.path)
        known = {root_id: self._catalog.find_assets(root_id, [*p]) for root_id, p in paths.items()}
        for candidate in candidates:
            new_files = []
            for root, file, asset in candidate.files:
                new = paths[root.id]
                if file.path in new:
                    new.remove(file.path)
                    if known[root.id].get(file.path) is None:
                        new_files.append((root, file, asset))
            candidate.files = new_files
        return {root_id for root_id, items in known.items() if None in items.values()}

    def _commit(
        self,
        batch: ExportBatch,
        candidates: Sequence[_Candidate],
        new: Sequence[_Candidate],
        failed_roots: set[int],
    ) -> None:
        files: dict[int, list[IndexedFile]] = {}
        for candidate in candidates:
            for number, (root, file, asset) in enumerate(candidate.files):
                indexed = (
                    _make_file(candidate, file, with_texts=number == 0)
                    if asset is None
                    else _make_asset(candidate, file, asset)
                )
                files.setdefault(root.id, []).append(indexed)
        first = self._write_segment(batch, new) if new else None
        for root_id, root_files in files.items():
            shard = ShardCommit(root_id, time.time_ns(), indexed=root_files)
            if first is not None:
                shard = replace(shard, segment=first[0], pictures=first[1])
                first = None
            if root_id in failed_roots:
                self._catalog.commit_shard(shard)
            else:
                self._catalog.commit_new(shard)

    def _write_segment(
        self, batch: ExportBatch, new: Sequence[_Candidate]
    ) -> tuple[Segment, list[EncodedPicture]]:
        next_id, number = self._catalog.next_free_ids()
        pictures, text_kinds = [], []
        rows: list[int] = []
        has_texts = np.zeros(len(batch.pictures), dtype=bool)
        for candidate in new:
            for row in range(candidate.first_row, candidate.first_row + candidate.item.parts):
                item = batch.pictures[row]
                kinds, digest = self._match_texts(item)
                has_texts[row] = bool(kinds)
                picture = item.picture
                if picture.texts:
                    embedded = [text for text in picture.texts if text.source in CONTENT_SOURCES]
                    picture = replace(picture, texts=tuple(embedded))
                pictures.append(
                    EncodedPicture(
                        next_id + len(rows),
                        candidate.digest,
                        picture,
                        digest,
                        locator=item.locator,
                        kind=item.kind,
                    )
                )
                text_kinds.append(kinds)
                rows.append(row)
        counts = [len(item.text_kinds) for item in batch.pictures]
        vectors = StoredVectors(
            np.arange(next_id, next_id + len(rows), dtype=np.int64),
            batch.images[rows],
            batch.texts[np.repeat(has_texts, counts)],
            text_kinds,
        )
        metadata = SegmentMetadata(self._identity.encoder, pictures)
        return write_segment(self._layout, number, vectors, metadata), pictures

    def _match_texts(self, item: ExportedPicture) -> tuple[tuple[str, ...], bytes]:
        """Return the kinds of the text vectors that the index keeps, and their texts' digest."""
        if item.digest or not item.text_kinds:
            return item.text_kinds, item.texts_digest
        # The caption of another program's export: the index may not encode captions of tables.
        selected = select_encoded_texts(item.picture.texts, self._identity.texts)
        return (item.text_kinds, texts_digest(selected)) if selected else ((), b"")


def _identify(candidate: _Candidate) -> None:
    """Set digest, size and times of a picture whose digest the export does not have."""
    ((root, file, _),) = candidate.files
    path = _join(root, file)
    try:
        found = os.stat(path)  # noqa: PTH116 - bytes paths need os
        candidate.digest = hash_source_file(path)
    except (OSError, DecodeError):
        candidate.digest = hashlib.sha256(b"path\0" + path).digest()
        candidate.is_verified = False
        return
    seen = ScannedFile(
        file.path, found.st_size, clamped_mtime_ns(found), ctime_ns=clamped_ctime_ns(found)
    )
    candidate.files = [(root, seen, None)]


def _join(root: Root, file: ScannedFile) -> bytes:
    return os.path.join(root.path, file.path)  # noqa: PTH118 - bytes paths need os


def _make_file(candidate: _Candidate, file: ScannedFile, *, with_texts: bool) -> IndexedFile:
    texts = candidate.item.picture.texts if with_texts else ()
    if not texts:
        return IndexedFile(file, candidate.digest)
    # The texts of assets in other sources are written with these.
    elsewhere = {
        text
        for place in candidate.item.places
        if place.asset is not None
        for text in place.asset.texts
    }
    texts = tuple(text for text in texts if text not in elsewhere)
    captions = [text for text in texts if text.source == TextSource.TABLE]
    elsewhere_stored = {TextSource.TABLE, *CONTENT_SOURCES}
    others = [text for text in texts if text.source not in elsewhere_stored]
    # Captions of no known table stay until the index reads a table with captions of the file.
    table = CaptionTableTexts(None, captions) if captions else None
    return IndexedFile(file, candidate.digest, others, table=table)


def _make_asset(candidate: _Candidate, file: ScannedFile, asset: Asset) -> IndexedFile:
    return IndexedFile(
        file,
        candidate.digest,
        asset.texts,
        table=CaptionTableTexts(None),
        part=asset.part,
        stamp=asset.stamp,
        metadata=asset.metadata,
    )


def _ensure_source(catalog: CatalogWriter, source: Mapping[str, Any]) -> Root:
    """Return a source of the export as the index has it; it keeps the choices that it has."""
    known = {record.uri: record for record in catalog.sources()}
    record = known.get(source["uri"])
    if record is None:
        names = {record.name for record in known.values()}
        name = None if source["name"] in names else source["name"]
        record = catalog.ensure_source(source["kind"], source["uri"], source["choices"], name)
    elif record.kind != source["kind"]:
        raise SourceError(
            f"{display_path(record.uri)} is {record.kind!r} in the index, but"
            f" {source['kind']!r} in the export.",
            Hint(
                "Remove it from the index first, or import into another index{}.",
                "",
                " with --index NAME",
            ),
        )
    return Root(record.id, record.name, record.uri)


def import_kept(layout: IndexLayout, folder: Path) -> None:
    """Copy the thumbnails and originals of an export that the index does not have."""
    for kind, digest, part, content in iter_kept(folder):
        if kind == "originals":
            path = original_path(layout.originals, digest)
            if hashlib.sha256(content).digest() != digest:
                raise SourceError(
                    f"The export has a damaged original of {digest.hex()}.",
                    "Copy the folder of the export again.",
                )
        else:
            path = thumbnail_path(layout.thumbnails, digest, part)
        if path.exists():
            continue
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if kind == "originals":
            atomic_write(path, content)
        else:
            # Most indexes have many, and a picture without a thumbnail is still found.
            temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
            temporary.write_bytes(content)
            temporary.replace(path)


def _path_error(path: bytes) -> SourceError:
    return SourceError(
        f"The export names {display_path(path)}, which is not in a folder of the export.",
        Hint("Say which folder the pictures are in: {}.", "root=FOLDER", "--root FOLDER"),
    )
