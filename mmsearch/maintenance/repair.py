"""The steps of a repair, in their order: catalog, segments, built index."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from mmsearch.core.catalog import Catalog
from mmsearch.core.display import display_path
from mmsearch.core.errors import DamagedFileError, InspectionError, MMSearchError, StateError
from mmsearch.core.io_errors import readable_os_errors, sentence_of
from mmsearch.core.records import CarriedOver, FailedFile, Identity
from mmsearch.core.reports import Finding, RepairReport, Weight
from mmsearch.core.requests import IndexRequest, Progress
from mmsearch.core.settings import Settings
from mmsearch.core.types import EncoderSpec, FusionSpec
from mmsearch.factories import catalogs
from mmsearch.factories.encoders import encoder_of
from mmsearch.factories.indexing import index_builder, make_indexer
from mmsearch.factories.plugins import make_fusion, text_sources, vector_index_plugin
from mmsearch.maintenance.check import check_catalog
from mmsearch.maintenance.checks import check_built, check_segments
from mmsearch.maintenance.repairs import (
    Quarantine,
    build_again,
    renew_segment,
    restore_segments,
    roots_in_doubt,
    survey_segments,
)
from mmsearch.storage.atomic import verify_file
from mmsearch.storage.layout import IndexLayout, remove_folder
from mmsearch.storage.lock import writer_lock

REBUILDING = "rebuilding"


def repair(
    layout: IndexLayout,
    settings: Settings,
    say: Callable[[str], None],
    wait_s: float,
    progress: Callable[[Progress], None],
) -> RepairReport:
    """See `mmsearch.api.keeping.KeptIndex.repair`."""
    began = time.monotonic()
    with readable_os_errors():
        with _inspecting():
            layout.create()
        with writer_lock(layout, wait_s):
            mending = _Mending(layout, settings, say, progress)
            mending.catalog()
            with catalogs.opened(layout, create=True) as catalog:
                mending.folders(catalog)
                mending.segments(catalog)
                mending.built(catalog)
                layout.remove_orphans(catalog.referenced_files())
    return RepairReport(
        tuple(mending.mended),
        tuple(mending.not_kept),
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
        self.not_kept: list[str] = []
        self.lost: list[bytes] = []
        self.failed: list[FailedFile] = []
        self.quarantine = Quarantine(layout)
        self._layout = layout
        self._fresh = IndexLayout(layout.folder / REBUILDING)
        self._settings = settings
        self._say = say
        self._progress = progress

    def catalog(self) -> None:
        """Mend the catalog in its place, or make a new one of it and of the segments.

        Raises:
            InspectionError: Whether it is damaged could not be found out.
        """
        if catalogs.is_half_replaced(self._layout, self._fresh):
            catalogs.replace_catalog(self._layout, self._fresh)
            self.mended.append("A repair that was interrupted is finished.")
        remove_folder(self._fresh.folder)
        reason = self._reason_to_rebuild()
        if reason:
            self._rebuild(reason)

    def _reason_to_rebuild(self) -> str:
        """Return why a new catalog is needed; "" if it is sound, or could be mended."""
        findings = self._findings()
        with _inspecting():
            if not self._layout.exists():
                return findings[0].message
            try:
                sealed = catalogs.is_sealed(self._layout)
            except DamagedFileError as error:
                if findings or not error.facts.get("seal"):
                    return error.message
                catalogs.drop_seal(self._layout)
                self.mended.append("The catalog's seal was damaged; the catalog is sound.")
                return ""
            if not sealed and catalogs.count_lost_commits(self._layout):
                return "The end of the catalog's -wal file could not be read."
        if not findings:
            return ""
        with suppress(MMSearchError), catalogs.opened(self._layout) as catalog:
            catalog.mend()
        findings = self._findings()
        if not findings:
            self.mended.append("The catalog's indexes were damaged and are made again.")
        return findings[0].message if findings else ""

    def _findings(self) -> list[Finding]:
        return _refuse_unknown(check_catalog(self._layout, seal=False))

    def _rebuild(self, reason: str) -> None:
        """Make another catalog of what can be read of this one and of the segments."""
        survey = survey_segments(self._layout)
        salvage = catalogs.salvage(self._layout)
        encoder = salvage.encoder
        known = {spec.fingerprint for spec in survey.encoders}
        if survey.encoders and (encoder is None or encoder.fingerprint not in known):
            encoder = survey.encoders[0]
        if encoder is None:
            raise StateError(
                f"{reason} There are no vectors from which it could be made again.",
                "Remove the index with 'mmsearch remove' and index the folder again.",
            )
        identity, lost = salvage.identity(encoder, self._otherwise(encoder))
        self._fresh.create(shared_as_parent=True)
        with catalogs.opened(self._fresh, create=True) as catalog:
            catalog.bind(identity)
            count, other = restore_segments(self._layout, catalog, encoder, salvage.staged)
            carried = catalog.carry_over(self._layout.catalog, salvage.sealed_roots)
            unfinished = roots_in_doubt(catalog)
            lost_rows = {"roots", "files", "texts"} & set(carried.incomplete)
            has_catalog = self._layout.exists()
            lost_commits = has_catalog and catalogs.count_lost_commits(self._layout) > 0
            if carried.lost_contents or lost_rows or lost_commits or survey.damaged:
                unfinished = [root.id for root in catalog.roots()]
            catalog.note_unfinished_roots(unfinished)
            roots = catalog.roots()
        for path in self._layout.catalog_files():
            self.quarantine.copy(path)
        catalogs.replace_catalog(self._layout, self._fresh)
        remove_folder(self._fresh.folder)
        for path in (*survey.damaged, *other):
            self.quarantine.take(path)
        self.mended.append(
            f"{reason} It was made again; {count:,} vectors, {carried.files:,} files and"
            f" {carried.texts:,} texts around them were kept."
        )
        self._tell_losses(carried, lost, identity)
        if lost_commits:
            self.not_kept.append(
                "Captions that a table gave in the last commits may be missing: index with that"
                " table again."
            )
        if not roots:
            self.mended.append(
                "Which folders were indexed is not known: index them again, nothing is encoded."
            )

    def _otherwise(self, encoder: EncoderSpec) -> Identity:
        """Return the identity of an index of which nothing is known but the encoder."""
        spec = FusionSpec(self._settings.fusion, self._settings.text_weight)
        sources = text_sources(self._settings.texts)
        return Identity(encoder, spec, self._settings.vector_index, sources)

    def _tell_losses(self, carried: CarriedOver, lost: Sequence[str], identity: Identity) -> None:
        if carried.incomplete:
            tables = ", ".join(repr(table) for table in carried.incomplete)
            self.not_kept.append(f"Rows of the catalog's tables {tables} could not all be read.")
        if {"texts", "files"} & set(carried.incomplete):
            self.not_kept.append(
                "Captions that only a table gave may be missing: index with that table again."
            )
        if carried.lost_contents:
            self.not_kept.append(f"{carried.lost_contents:,} files have no vector any more.")
        if lost:
            now = {
                "fusion": identity.fusion.name,
                "vector_index": identity.vector_index,
                "texts": ",".join(identity.texts) or "none",
                "goals": f"recall {identity.goals.recall:g}",
            }
            chosen = ", ".join(f"{key} ({now[key]})" for key in lost)
            self.not_kept.append(f"Choices of the index, now as in the settings: {chosen}.")

    def folders(self, catalog: Catalog) -> None:
        """Look through folders of which rows were lost; content that has a vector is not encoded.

        What is left to do is in the catalog, so that a repair that was killed goes on.
        """
        unfinished = catalog.unfinished_roots()
        roots = {root.id: root.path for root in catalog.roots()}
        for number in unfinished:
            if number in roots and self._look_through(catalog, roots[number]):
                unfinished = [other for other in unfinished if other != number]
                catalog.note_unfinished_roots(unfinished)
        catalog.attach_texts()

    def _look_through(self, catalog: Catalog, root: bytes) -> bool:
        if not os.path.isdir(root):  # noqa: PTH112 - bytes paths need os.path
            self.mended.append(f"Folder {display_path(root)} is not there; index it when it is.")
            return False
        # The folder is one that the index names, which may be anybody's.
        self._say(f"Looking through {display_path(root)} again; Ctrl-C ends that.")
        with make_indexer(self._layout, catalog, self._settings, self._say) as indexer:
            report = indexer.run(IndexRequest(root), self._progress)
        self.failed += report.failed
        self.mended.append(
            f"Folder {display_path(root)} was looked through again: {report.encoded:,} pictures"
            " had to be encoded."
        )
        return True

    def segments(self, catalog: Catalog) -> None:
        """Encode again what stood in damaged segments."""
        for stamp in (segment.stamp for segment in catalog.staged()):
            try:
                verify_file(self._layout.path(stamp), stamp)
            except DamagedFileError:
                catalog.unstage()
                self.mended.append("A change of the encoder has lost a file and must begin again.")
                break
        found = check_segments(self._layout, catalog)
        _refuse_unknown(found.values())
        if not found:
            return
        paths = {s.number: self._layout.path(s.stamp) for s in catalog.segments()}
        with make_indexer(self._layout, catalog, self._settings, self._say) as indexer:
            for number, finding in found.items():
                lost, failed = renew_segment(catalog, number, indexer.encode_again)
                self.quarantine.take(paths[number])
                self.lost += lost
                self.failed += failed
                self.mended.append(
                    f"{finding.message} Its {len(lost):,} pictures were encoded again."
                )

    def built(self, catalog: Catalog) -> None:
        """Build the vector index again if it is damaged or lags behind."""
        identity = catalog.identity()
        if identity is None or not catalog.segments():
            return
        with catalog.snapshot() as snapshot:
            built, stale = snapshot.built, bool(snapshot.tail)
        fusion = make_fusion(identity.fusion)
        found = check_built(self._layout, catalog, vector_index_plugin, fusion)
        if built is not None and _refuse_unknown(found):
            self.quarantine.take(self._layout.path(built.stamp))
            catalog.withdraw_built()
            self.mended.append("The vector index was damaged and is built again.")
            stale = True
        if stale:
            builder = index_builder(
                self._layout,
                catalog,
                lambda: encoder_of(identity, self._settings, self._say),
                self._settings.device,
            )
            build_again(catalog, builder, fusion, identity)


@contextmanager
def _inspecting() -> Iterator[None]:
    try:
        yield
    except (OSError, MemoryError) as error:
        sentence, hint = sentence_of(error)
        raise InspectionError(sentence, f"Nothing was changed. {hint}") from error


def _refuse_unknown(findings: Iterable[Finding]) -> list[Finding]:
    """Return proved damage.

    Raises:
        InspectionError: Something could not be checked.
    """
    found = list(findings)
    for finding in found:
        if finding.weight is Weight.UNKNOWN:
            raise InspectionError(f"{finding.part}: {finding.message}", "It was not changed.")
    return [finding for finding in found if finding.weight is Weight.DAMAGE]
