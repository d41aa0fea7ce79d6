"""Import vectors that mmsearch or another program has exported; no picture is decoded."""

from __future__ import annotations

import gc
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from mmsearch.catalog.rows import is_root_path, is_safe_relative_path
from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.display import display_path
from mmsearch.core.errors import (
    DecodeError,
    EncoderMismatchError,
    Hint,
    SourceError,
    UsageError,
)
from mmsearch.core.files import clamped_ctime_ns, clamped_mtime_ns, hash_source_file
from mmsearch.core.protocols import Encoder
from mmsearch.core.records import (
    CaptionTableTexts,
    EncodedPicture,
    Identity,
    IndexCalibration,
    IndexedFile,
    Root,
    ScannedFile,
    Segment,
    ShardCommit,
    check_encoder,
)
from mmsearch.core.reports import ImportReport
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.core.types import (
    EncoderSpec,
    FusionSpec,
    TextSource,
    select_encoded_texts,
    texts_digest,
)
from mmsearch.core.vectors import as_float32
from mmsearch.exports.foreign import NORM_TOLERANCE
from mmsearch.exports.formats import ExportReader, check_format, load_format
from mmsearch.exports.manifest import NAME, Manifest, read_manifest
from mmsearch.exports.pictures import ExportBatch, ExportedPicture, Place
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import (
    OnMessage,
    load_index_encoder,
    make_encoder,
    make_fusion,
    parse_text_sources,
)
from mmsearch.indexing.build import check_vector_index_name
from mmsearch.maintenance.repair import rebuild_if_stale
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import SegmentMetadata, StoredVectors, write_segment

HASH_THREADS = 4

UNVERIFIED_CTIME_NS = 1
"""Change time of a file that was not read: the next run compares its content with the digest."""


@dataclass(frozen=True)
class ImportRequest:
    """Request for an import.

    Attributes:
        folder: Folder of the export.
        format: Format of the export; None: that in its manifest.
        model: Name of the model that made the vectors; None: that in the manifest.
        root: Absolute path of the folder that contains the pictures; None: as exported.
    """

    folder: Path
    format: str | None = None
    model: str | None = None
    root: bytes | None = None


def import_embeddings(
    layout: IndexLayout,
    settings: Settings,
    on_message: OnMessage,
    request: ImportRequest,
    wait_s: float,
    progress: Callable[[Progress], None],
) -> ImportReport:
    """Import an export. See `mmsearch.api.index.Index.import_embeddings`."""
    started_at = time.monotonic()
    manifest, reader = _open_export(request)
    roots = _find_roots(request, manifest, reader)
    current = _read_identity(layout)
    load_encoder = _encoder_loader(request, manifest, current, settings, on_message)
    identity = current or _new_identity(manifest, load_encoder().spec, settings)
    _check_vectors_fit(
        identity.encoder, request, manifest, reader, load_encoder, is_new=current is None
    )
    with catalogs.open_write(layout, wait_s, create=True) as catalog:
        layout.remove_orphans(catalog.referenced_files())
        # Another process may have made or changed the index meanwhile.
        stored = catalog.identity()
        if stored is None:
            catalog.set_identity(identity)
            _import_calibration(catalog, manifest)
        else:
            _check_fingerprint(identity.encoder, stored.encoder, _INDEX_HINT)
            identity = stored
        importer = _Importer(layout, catalog, identity, roots)
        with _recorded_run(catalog, importer.counts):
            done = 0
            with _paused_collection():
                for batch in reader.iter_batches():
                    _check_vectors(batch, identity.encoder.dim)
                    importer.add(batch)
                    done += len(batch.pictures)
                    progress(Progress("import", done, reader.pictures))
            progress(Progress("build", 0, None))
            builder = make_index_builder(layout, catalog, load_encoder, settings.device)
            fusion = make_fusion(identity.fusion)
            rebuild_if_stale(catalog, builder, fusion, identity)
    counts = importer.counts
    return ImportReport(
        done,
        counts["added"],
        counts["copied"],
        counts["unchanged"],
        counts["kept"],
        counts["unverified"],
        time.monotonic() - started_at,
    )


# --- the export, the encoder and the folders ---


def _open_export(request: ImportRequest) -> tuple[Manifest | None, ExportReader]:
    if not request.folder.is_dir():
        raise SourceError(
            f"{display_path(request.folder)} is not a folder.", "Pass the folder of an export."
        )
    if request.format is not None:
        check_format(request.format)
    manifest = read_manifest(request.folder)
    name = manifest.format if request.format is None and manifest else request.format
    if name is None:
        raise UsageError(
            f"{display_path(request.folder)} has no {NAME}, so its format is not known.",
            Hint("Name the format: {}.", "format='clip-retrieval'", "--format clip-retrieval"),
        )
    if manifest is not None and manifest.format != name:
        raise UsageError(
            f"{display_path(request.folder)} has the format {manifest.format}, not {name}.",
            "Leave out the format, or pass another folder.",
        )
    check_format(name)
    return manifest, load_format(name).open_reader(request.folder, manifest)


def _read_identity(layout: IndexLayout) -> Identity | None:
    if not layout.exists():
        return None
    with catalogs.open_read(layout) as catalog:
        return catalog.identity()


def _encoder_loader(
    request: ImportRequest,
    manifest: Manifest | None,
    current: Identity | None,
    settings: Settings,
    on_message: OnMessage,
) -> Callable[[], Encoder]:
    """Return the function that loads the encoder of the vectors."""
    if manifest is None and request.model is None:
        raise UsageError(
            f"{display_path(request.folder)} does not say which model made its vectors.",
            Hint("Name the model with {}.", "model='open_clip:ARCH/TAG'", "--model NAME"),
        )

    @cache
    def load() -> Encoder:
        if current is not None and request.model is None:
            return load_index_encoder(current, settings, on_message)
        spec = current.encoder if current else (manifest.encoder if manifest else None)
        name = request.model or (spec.name if spec else "")
        return make_encoder(name, settings, on_message, spec.fingerprint if spec else "")

    return load


def _new_identity(manifest: Manifest | None, encoder: EncoderSpec, settings: Settings) -> Identity:
    """Return the identity of a new index: that of the exported one, or that of the settings."""
    defaults = Identity(
        encoder,
        FusionSpec(settings.fusion, settings.text_weight),
        settings.vector_index,
        parse_text_sources(settings.texts),
    )
    if manifest is None:
        return defaults
    identity = catalogs.settings_to_identity(manifest.settings, encoder, defaults)
    # Fail before any work if this machine lacks a part that the settings name.
    make_fusion(identity.fusion)
    check_vector_index_name(identity.vector_index)
    return identity


def _check_vectors_fit(
    encoder: EncoderSpec,
    request: ImportRequest,
    manifest: Manifest | None,
    reader: ExportReader,
    load_encoder: Callable[[], Encoder],
    *,
    is_new: bool,
) -> None:
    """Refuse vectors that cannot be compared with those of the index or of the model.

    Raises:
        EncoderMismatchError: They are of another encoder.
        UsageError: They have another dimension.
    """
    if manifest is not None:
        _check_fingerprint(manifest.encoder, encoder, _MODEL_HINT if is_new else _INDEX_HINT)
    if request.model is not None:
        check_encoder(Identity(encoder, FusionSpec(), ""), load_encoder())
    if reader.dim != encoder.dim:
        raise UsageError(
            f"The vectors have {reader.dim:,} dimensions, but those of {encoder.name} have"
            f" {encoder.dim:,}.",
            "Name the model that made them.",
            expected=encoder.dim,
            got=reader.dim,
        )


_INDEX_HINT = Hint(
    "Import it into another index{}, or export vectors of the same model.",
    "",
    " with --index NAME",
)
_MODEL_HINT = Hint(
    "Use the model and the version of mmsearch that made the export{}.",
    "",
    ", without --model",
)


def _check_fingerprint(exported: EncoderSpec, encoder: EncoderSpec, hint: Hint) -> None:
    """Refuse vectors of another encoder.

    Raises:
        EncoderMismatchError: They cannot be compared with those of ``encoder``.
    """
    if exported.fingerprint != encoder.fingerprint:
        raise EncoderMismatchError(
            f"The export has vectors of {exported.name} ({exported.fingerprint}), which cannot be"
            f" compared with those of {encoder.name} ({encoder.fingerprint}).",
            hint,
            index=encoder.fingerprint,
            encoder=exported.fingerprint,
        )


def _find_roots(
    request: ImportRequest, manifest: Manifest | None, reader: ExportReader
) -> Mapping[bytes, bytes]:
    """Return the folder for the pictures of each exported root."""
    if manifest is None:
        root = request.root or _common_folder(reader.iter_paths())
        return {b"": root}
    if request.root is None:
        roots = {root: root for root in manifest.roots}
    elif len(manifest.roots) == 1:
        roots = {manifest.roots[0]: request.root}
    else:
        listed = ", ".join(display_path(root) for root in manifest.roots[:3])
        raise UsageError(
            f"The export has pictures of {len(manifest.roots)} folders: {listed}.",
            Hint(
                "Import it without a root, and set the new place of each folder with {}.",
                "index.set_root(NAME, FOLDER)",
                "'mmsearch roots set NAME FOLDER'",
            ),
        )
    for root in roots.values():
        if not is_root_path(root):
            raise SourceError(
                f"The export names the folder {display_path(root)}, which is not an absolute path"
                " of this system.",
                Hint("Say where the pictures are: {}.", "root=FOLDER", "--root FOLDER"),
            )
    return roots


def _common_folder(paths: Iterable[bytes]) -> bytes:
    """Return the deepest folder that contains all paths.

    Raises:
        UsageError: A path is relative, or there is only the top of the file system.
    """
    common: bytes | None = None
    hint = Hint("Say which folder they are in: {}.", "root=FOLDER", "--root FOLDER")
    for path in paths:
        if not os.path.isabs(path):  # noqa: PTH117 - bytes paths need os
            raise UsageError(f"The path {display_path(path)} in the export is not absolute.", hint)
        folder = os.path.dirname(os.path.normpath(path))  # noqa: PTH120 - bytes paths need os
        common = folder if common is None else os.path.commonpath([common, folder])
    if common is None or os.path.dirname(common) == common:  # noqa: PTH120 - bytes paths need os
        raise UsageError("The paths in the export have no folder in common.", hint)
    return common


def _check_vectors(batch: ExportBatch, dim: int) -> None:
    for vectors in (batch.images, batch.texts):
        if vectors.dtype != np.float16 or vectors.ndim != 2 or vectors.shape[1] != dim:
            raise SourceError(
                f"The export has vectors of {vectors.dtype} and shape {vectors.shape}.",
                "Copy the folder of the export again.",
            )
        rows = as_float32(vectors)
        # The square of a norm near 1 is twice as far from 1.
        if not (np.abs(np.vecdot(rows, rows) - 1) <= 4 * NORM_TOLERANCE).all():
            raise SourceError(
                "The export has vectors whose norm is not 1.", "Copy the folder again."
            )
    if len(batch.texts) != sum(len(item.text_kinds) for item in batch.pictures):
        raise SourceError(
            "The export has another number of text vectors than of texts.",
            "Copy the folder of the export again.",
        )


# --- writing ---


@contextmanager
def _recorded_run(catalog: CatalogWriter, counts: Counter[str]) -> Iterator[None]:
    """Record the import as a run of the index."""
    run_id = catalog.begin_run()
    outcome = "failed"
    try:
        yield
        outcome = "finished"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        kinds = ("added", "copied", "unchanged")
        catalog.finish_run(run_id, outcome, {kind: counts[kind] for kind in kinds})


@contextmanager
def _paused_collection() -> Iterator[None]:
    """Pause the search for reference cycles, which takes a fifth of an import and finds none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(slots=True)
class _Candidate:
    """A picture of an export, with the paths that the index may get.

    Attributes:
        item: The picture as exported.
        digest: Digest of its content, or of its path if the content is not known.
        files: The file at each of its places.
        is_verified: False if the content is not known.
    """

    item: ExportedPicture
    digest: bytes
    files: list[tuple[Root, ScannedFile]]
    is_verified: bool = True


class _Importer:
    """Writes batches of an export to an index, each as one segment and its rows.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        identity: Identity of the index.
        roots: Folder for the pictures of each exported root.

    Attributes:
        counts: Numbers of pictures, by the attributes of `ImportReport`.
    """

    def __init__(
        self,
        layout: IndexLayout,
        catalog: CatalogWriter,
        identity: Identity,
        roots: Mapping[bytes, bytes],
    ) -> None:
        self._layout = layout
        self._catalog = catalog
        self._identity = identity
        self._folders = roots
        self._roots = {folder: catalog.ensure_root(folder) for folder in roots.values()}
        self.counts: Counter[str] = Counter()

    def add(self, batch: ExportBatch) -> None:
        """Add the pictures that the index does not have, in one transaction for each root."""
        candidates = self._find_candidates(batch.pictures)
        known = set(self._catalog.find_item_ids([each.digest for each in candidates]))
        failed_roots = self._drop_known_files(candidates)
        rows = []
        for row, candidate in enumerate(candidates):
            is_known = candidate.digest in known
            if not candidate.files:
                self.counts["unchanged" if is_known else "kept"] += 1
            elif is_known:
                self.counts["copied"] += 1
            else:
                known.add(candidate.digest)
                rows.append(row)
                self.counts["added"] += 1
                self.counts["unverified"] += not candidate.is_verified
        self._commit(batch, candidates, rows, failed_roots)

    def _find_candidates(self, pictures: Sequence[ExportedPicture]) -> list[_Candidate]:
        candidates = [_Candidate(item, item.digest, self._locate_files(item)) for item in pictures]
        unknown = [each for each in candidates if not each.digest]
        if unknown:
            with ThreadPoolExecutor(HASH_THREADS) as pool:
                for _ in pool.map(_identify, unknown):
                    pass
        return candidates

    def _locate_files(self, item: ExportedPicture) -> list[tuple[Root, ScannedFile]]:
        """Return the file at each place of a picture, unread."""
        files = []
        for number, place in enumerate(item.places):
            root, path = self._locate(place)
            mtime_ns = item.mtime_ns if number == 0 else 0
            file = ScannedFile(path, item.size, mtime_ns, ctime_ns=UNVERIFIED_CTIME_NS)
            files.append((root, file))
        return files

    def _locate(self, place: Place) -> tuple[Root, bytes]:
        """Return the root of the index and the path below it.

        Raises:
            SourceError: The path is not below a folder of the export.
        """
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
            for root, file in candidate.files:
                paths.setdefault(root.id, set()).add(file.path)
        known = {root_id: self._catalog.find_assets(root_id, [*p]) for root_id, p in paths.items()}
        for candidate in candidates:
            new_files = []
            for root, file in candidate.files:
                new = paths[root.id]
                if file.path in new:
                    new.remove(file.path)
                    if known[root.id].get(file.path) is None:
                        new_files.append((root, file))
            candidate.files = new_files
        return {root_id for root_id, items in known.items() if None in items.values()}

    def _commit(
        self,
        batch: ExportBatch,
        candidates: Sequence[_Candidate],
        rows: Sequence[int],
        failed_roots: set[int],
    ) -> None:
        files: dict[int, list[IndexedFile]] = {}
        for candidate in candidates:
            for number, (root, file) in enumerate(candidate.files):
                indexed = _make_file(candidate, file, with_texts=number == 0)
                files.setdefault(root.id, []).append(indexed)
        first = self._write_segment(batch, candidates, rows) if rows else None
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
        self, batch: ExportBatch, candidates: Sequence[_Candidate], rows: Sequence[int]
    ) -> tuple[Segment, list[EncodedPicture]]:
        next_id, number = self._catalog.next_free_ids()
        pictures, text_kinds = [], []
        has_texts = np.zeros(len(candidates), dtype=bool)
        for image_id, row in enumerate(rows, next_id):
            item = candidates[row].item
            kinds, digest = self._match_texts(item)
            has_texts[row] = bool(kinds)
            picture = item.picture
            if picture.texts:
                embedded = [text for text in picture.texts if text.source == TextSource.METADATA]
                picture = replace(picture, texts=tuple(embedded))
            pictures.append(EncodedPicture(image_id, candidates[row].digest, picture, digest))
            text_kinds.append(kinds)
        counts = [len(candidate.item.text_kinds) for candidate in candidates]
        vectors = StoredVectors(
            np.arange(next_id, next_id + len(rows), dtype=np.int64),
            batch.images[list(rows)],
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
    ((root, file),) = candidate.files
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
    candidate.files = [(root, seen)]


def _join(root: Root, file: ScannedFile) -> bytes:
    return os.path.join(root.path, file.path)  # noqa: PTH118 - bytes paths need os


def _make_file(candidate: _Candidate, file: ScannedFile, *, with_texts: bool) -> IndexedFile:
    texts = candidate.item.picture.texts if with_texts else ()
    if not texts:
        return IndexedFile(file, candidate.digest)
    captions = [text for text in texts if text.source == TextSource.TABLE]
    others = [text for text in texts if text.source not in (TextSource.TABLE, TextSource.METADATA)]
    # Captions of no known table stay until the index reads a table with captions of the file.
    table = CaptionTableTexts(None, captions) if captions else None
    return IndexedFile(file, candidate.digest, others, table=table)


def _path_error(path: bytes) -> SourceError:
    return SourceError(
        f"The export names {display_path(path)}, which is not in a folder of the export.",
        Hint("Say which folder the pictures are in: {}.", "root=FOLDER", "--root FOLDER"),
    )


def _import_calibration(catalog: CatalogWriter, manifest: Manifest | None) -> None:
    """Take over the calibration of the exported index; one that is not valid is left out."""
    if manifest is None or manifest.calibration is None:
        return
    with suppress(TypeError, ValueError):
        catalog.save_calibration(IndexCalibration(**manifest.calibration))
