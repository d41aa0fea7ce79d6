"""Import vectors that mmsearch or another program has exported; no picture is decoded."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mmsearch.catalog.rows import is_root_path
from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.display import display_path
from mmsearch.core.errors import (
    EncoderMismatchError,
    Hint,
    SourceError,
    UsageError,
)
from mmsearch.core.identity import Identity, check_encoder
from mmsearch.core.protocols import Encoder
from mmsearch.core.records import IndexCalibration
from mmsearch.core.reports import ImportReport
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.core.types import (
    EncoderSpec,
    FusionSpec,
)
from mmsearch.core.vectors import as_float32
from mmsearch.exports.foreign import NORM_TOLERANCE
from mmsearch.exports.formats import ExportReader, check_format, load_format
from mmsearch.exports.manifest import NAME, Manifest, read_manifest
from mmsearch.exports.pictures import ExportBatch, check_parts, whole_contents
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
from mmsearch.indexing.orphans import remove_unused_files
from mmsearch.maintenance.derived import import_texts
from mmsearch.maintenance.import_pictures import PictureImporter, import_kept
from mmsearch.maintenance.repair import rebuild_if_stale
from mmsearch.storage.layout import IndexLayout


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
        remove_unused_files(layout, catalog)
        # Another process may have made or changed the index meanwhile.
        stored = catalog.identity()
        if stored is None:
            catalog.set_identity(identity)
            _import_calibration(catalog, manifest)
        else:
            _check_fingerprint(identity.encoder, stored.encoder, _INDEX_HINT)
            identity = stored
        importer = PictureImporter(
            layout, catalog, identity, roots, manifest.sources if manifest else ()
        )
        if importer.has_sources:
            import_kept(layout, request.folder)
        with _recorded_run(catalog, importer.counts):
            done = 0
            with _paused_collection():
                for batch in whole_contents(reader.iter_batches()):
                    _check_vectors(batch, identity.encoder.dim)
                    importer.add(batch)
                    done += len(batch.pictures)
                    progress(Progress("import", done, reader.pictures))
            if manifest is not None:
                import_texts(layout, catalog, request.folder)
            progress(Progress("build", 0, None))
            builder = make_index_builder(layout, catalog, load_encoder, settings.device)
            fusion = make_fusion(identity.fusion)
            rebuild_if_stale(catalog, builder, fusion, identity)
    counts = importer.counts
    return ImportReport(
        sum(counts[kind] for kind in ("added", "copied", "unchanged", "kept")),
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
    reader = load_format(name).open_reader(request.folder, manifest)
    if manifest is not None and manifest.has_parts:
        # Before anything is written: films and documents come whole, or not at all.
        check_parts(reader.iter_parts())
    return manifest, reader


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


# --- the run ---


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


def _import_calibration(catalog: CatalogWriter, manifest: Manifest | None) -> None:
    """Take over the calibration of the exported index; one that is not valid is left out."""
    if manifest is None or manifest.calibration is None:
        return
    with suppress(TypeError, ValueError):
        catalog.save_calibration(IndexCalibration(**manifest.calibration))
