"""The steps of a repair, in their order: catalog, segments, built index."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from mmsearch.assembly import catalogs
from mmsearch.assembly.indexing import make_indexer
from mmsearch.assembly.parts import make_fusion, text_sources, vector_index_plugin
from mmsearch.core.catalog import Catalog
from mmsearch.core.display import display_path
from mmsearch.core.durable import read_verified, sync_folder
from mmsearch.core.errors import DamagedFileError, MMSearchError, StateError
from mmsearch.core.layout import IndexLayout
from mmsearch.core.locking import writer_lock
from mmsearch.core.records import FailedFile, Identity
from mmsearch.core.requests import IndexRequest, Progress
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec
from mmsearch.core.upkeep import RepairReport
from mmsearch.engine.check import built_is_sound, damaged_segments
from mmsearch.engine.repair import (
    Quarantine,
    commonest_encoder,
    renew_segment,
    restore_segments,
)


def repair(
    layout: IndexLayout,
    settings: Settings,
    say: Callable[[str], None],
    wait_s: float,
    progress: Callable[[Progress], None],
) -> RepairReport:
    """See `mmsearch.api.keeping.KeptIndex.repair`."""
    began = time.monotonic()
    layout.create()
    with writer_lock(layout, wait_s):
        mending = _Mending(layout, settings, say, progress)
        roots = mending.catalog()
        with catalogs.opened(layout, create=True) as catalog:
            mending.index_again(catalog, roots)
            mending.segments(catalog)
            mending.built(catalog)
            layout.remove_orphans(catalog.referenced_files())
    return RepairReport(
        tuple(mending.mended),
        tuple(mending.quarantine.files),
        tuple(mending.lost),
        tuple(mending.failed),
        time.monotonic() - began,
    )


class _Mending:
    """What one repair has done so far. The caller holds the writer's lock."""

    def __init__(
        self,
        layout: IndexLayout,
        settings: Settings,
        say: Callable[[str], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self.mended: list[str] = []
        self.lost: list[bytes] = []
        self.failed: list[FailedFile] = []
        self.quarantine = Quarantine(layout)
        self._layout = layout
        self._settings = settings
        self._say = say
        self._progress = progress

    def catalog(self) -> tuple[bytes, ...]:
        """Mend the catalog, or make a new one from the segments.

        Returns:
            Folders that must be looked through again.
        """
        reason = self._reason_to_rebuild()
        return self._rebuild(reason) if reason else ()

    def _reason_to_rebuild(self) -> str:
        """Why the catalog must be made anew; "" if it is sound, or could be mended in its place."""
        try:
            sealed = catalogs.is_sealed(self._layout)
        except DamagedFileError as error:
            if not error.facts.get("seal") or self._findings():
                return error.message
            catalogs.drop_seal(self._layout)
            self.mended.append("The catalog's seal was damaged; the catalog is sound.")
            return ""
        except FileNotFoundError:
            return "The catalog was missing."
        if not sealed and catalogs.has_lost_commits(self._layout):
            return "The end of the catalog's -wal file could not be read."
        if not self._findings():
            return ""
        with suppress(MMSearchError), catalogs.opened(self._layout) as catalog:
            catalog.mend()
        findings = self._findings()
        if not findings:
            self.mended.append("The catalog's indexes were damaged and are made again.")
        return findings[0] if findings else ""

    def index_again(self, catalog: Catalog, roots: tuple[bytes, ...]) -> None:
        """Find the files of pictures again; content that has a vector is not encoded."""
        if not roots and catalog.segments() and not catalog.file_count():
            # A repair was killed after it had made the catalog again.
            roots = tuple(root.path for root in catalog.roots())
        for root in roots:
            if not os.path.isdir(root):  # noqa: PTH112 - bytes paths need os.path
                self.mended.append(
                    f"Folder {display_path(root)} is not there; index it when it is."
                )
                continue
            with make_indexer(self._layout, catalog, self._settings, self._say) as indexer:
                report = indexer.run(IndexRequest(root), self._progress)
            self.failed += report.failed
            self.mended.append(
                f"Folder {display_path(root)} was looked through again: {report.encoded:,} pictures"
                " had to be encoded."
            )

    def segments(self, catalog: Catalog) -> None:
        """Encode again what stood in damaged segments."""
        for stamp in (segment.stamp for segment in catalog.staged()):
            try:
                read_verified(self._layout.path(stamp), stamp)
            except DamagedFileError:
                catalog.unstage()
                self.mended.append("A change of the encoder has lost a file and must begin anew.")
                break
        damaged = damaged_segments(self._layout, catalog)
        if not damaged:
            return
        paths = {s.number: self._layout.path(s.stamp) for s in catalog.segments()}
        with make_indexer(self._layout, catalog, self._settings, self._say) as indexer:
            for number, reason in damaged.items():
                lost, failed = renew_segment(catalog, number, indexer.encode_again)
                self.quarantine.take(paths[number])
                self.lost += lost
                self.failed += failed
                self.mended.append(f"{reason} Its {len(lost):,} pictures were encoded again.")

    def built(self, catalog: Catalog) -> None:
        """Build the vector index again if it is damaged or lags behind."""
        identity = catalog.identity()
        if identity is None or not catalog.segments():
            return
        with catalog.snapshot() as snapshot:
            built, stale = snapshot.built, bool(snapshot.tail)
        fusion = make_fusion(identity.fusion)
        if built is not None and not built_is_sound(
            self._layout, catalog, vector_index_plugin, fusion
        ):
            self.quarantine.take(self._layout.path(built.stamp))
            catalog.withdraw_built()
            self.mended.append("The vector index was damaged and is built again.")
            stale = True
        if stale:
            with make_indexer(self._layout, catalog, self._settings, self._say) as indexer:
                indexer.publish()

    def _findings(self) -> list[str]:
        try:
            with catalogs.private_copy(self._layout) as copy:
                return copy.findings()
        except Exception as error:  # noqa: BLE001 - damage may break anything that reads it
            return [str(error)]

    def _rebuild(self, reason: str) -> tuple[bytes, ...]:
        """Put the catalog aside and make another one of what the segments say of themselves."""
        identity, roots = catalogs.salvage(self._layout)
        known = identity.encoder if identity else None
        encoder = commonest_encoder(self._layout, self.quarantine, known) or known
        if encoder is None:
            raise StateError(
                f"{reason} There are no vectors from which it could be made again.",
                "Remove the index with 'mmsearch remove' and index the folder again.",
            )
        if identity is None:
            spec = FusionSpec(self._settings.fusion, self._settings.text_weight)
            sources = text_sources(self._settings.texts)
            identity = Identity(encoder, spec, self._settings.vector_index, sources)
        fresh = IndexLayout(self._layout.folder / "rebuilding")
        shutil.rmtree(fresh.folder, ignore_errors=True)
        fresh.create()
        with catalogs.opened(fresh, create=True) as catalog:
            catalog.bind(replace(identity, encoder=encoder))
            count = restore_segments(self._layout, catalog, self.quarantine, encoder)
            for root in roots:
                catalog.ensure_root(root)
        for path in sorted(self._layout.folder.glob(f"{self._layout.catalog.stem}.*")):
            self.quarantine.copy(path)
            if path != self._layout.catalog:
                path.unlink()
        # At every moment there is a catalog, a damaged one or the new one.
        fresh.catalog.replace(self._layout.catalog)
        sync_folder(self._layout.folder)
        shutil.rmtree(fresh.folder)
        self.mended.append(f"{reason} It was made again; {count:,} vectors were kept.")
        if not roots:
            self.mended.append(
                "Which folders were indexed is not known: index them again, nothing is encoded."
            )
        return roots
