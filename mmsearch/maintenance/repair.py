"""Repair of an index, in this order: catalog, folders, segments, vector index."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.catalog_maintenance import CatalogMaintenance
from mmsearch.core.derived import FolderScope
from mmsearch.core.display import display_path
from mmsearch.core.errors import (
    DamagedFileError,
    Hint,
    InspectionError,
    MissingExtraError,
    MMSearchError,
    SchemaError,
    SourceError,
    StateError,
    UnknownNameError,
    UsageError,
    describe_os_error,
    translate_os_errors,
)
from mmsearch.core.identity import Identity
from mmsearch.core.protocols import Fusion
from mmsearch.core.records import (
    FOLDER_KIND,
    RECORDS_KIND,
    FailedFile,
    SalvageResult,
    Segment,
    SourceRecord,
)
from mmsearch.core.reports import Finding, RepairReport, Severity
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.core.types import EncoderSpec, FusionSpec
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder, make_indexer
from mmsearch.factories.plugins import (
    load_index_encoder,
    load_vector_index_plugin,
    make_fusion,
    make_modalities,
    parse_text_sources,
)
from mmsearch.factories.sources import open_source
from mmsearch.indexing.build import IndexBuilder, is_due
from mmsearch.indexing.compaction import merge_derived
from mmsearch.indexing.orphans import remove_unused_files
from mmsearch.indexing.spaces import SpaceUpdate
from mmsearch.maintenance.check import (
    check_built_index,
    check_catalog,
    check_derived,
    check_segments,
)
from mmsearch.maintenance.check_sources import check_folders
from mmsearch.maintenance.derived import restore_derived, restore_texts
from mmsearch.maintenance.folders import FolderRun, describe_folders, run_folder
from mmsearch.maintenance.quarantine import Quarantine
from mmsearch.maintenance.stored import repair_stored
from mmsearch.storage.atomic import TEMPORARY_SUFFIX, verify_file
from mmsearch.storage.layout import IndexLayout, remove_folder, segment_number
from mmsearch.storage.segments import SegmentMetadata, recover_segment
from mmsearch.storage.stored_files import check_owner, claim_store, fetch_all

REBUILD_FOLDER = "rebuilding"


def repair(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    wait_s: float,
    progress: Callable[[Progress], None],
) -> RepairReport:
    """Repair an index. See `mmsearch.api.index.Index.repair`."""
    started_at = time.monotonic()
    with translate_os_errors():
        with _inspection_errors():
            layout.create()
        with catalogs.writer_lock(layout, wait_s):
            repair_run = _Repair(layout, settings, on_message, progress)
            repair_run.catalog()
            with catalogs.open_locked(layout, create=True) as catalog:
                repair_run.repaired += repair_stored(
                    layout, catalog, is_rebuilt=repair_run.is_rebuilt
                )
                repair_run.folders(catalog)
                repair_run.segments(catalog)
                repair_run.derived(catalog)
                repair_run.built(catalog)
                remove_unused_files(layout, catalog)
                with catalog.snapshot() as snapshot:
                    claim_store(layout, snapshot.generation)
                describe_folders(layout, catalog, settings, on_message, repair_run.scans, progress)
    return RepairReport(
        tuple(repair_run.repaired),
        tuple(repair_run.losses),
        tuple(repair_run.quarantine.files),
        tuple(repair_run.lost),
        tuple(repair_run.failed),
        time.monotonic() - started_at,
    )


class _Repair:
    """One repair and its results so far. The caller holds the writer lock."""

    def __init__(
        self,
        layout: IndexLayout,
        settings: Settings,
        on_message: Callable[[str], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self.repaired: list[str] = []
        self.losses: list[str] = []
        self.lost: list[bytes] = []
        self.failed: list[FailedFile] = []
        self.scans: list[FolderScope] = []
        self.is_rebuilt = False
        self.quarantine = Quarantine(layout)
        self._layout = layout
        self._rebuilt = IndexLayout(layout.folder / REBUILD_FOLDER)
        self._settings = settings
        self._on_message = on_message
        self._progress = progress

    def catalog(self) -> None:
        """Repair the catalog in place, or rebuild it from its readable rows and the segments.

        Raises:
            InspectionError: The catalog could not be checked for damage.
            StateError: There are no vectors to rebuild it from, or no space for the new catalog.
        """
        if catalogs.is_replacement_unfinished(self._layout, self._rebuilt):
            catalogs.replace_catalog(self._layout, self._rebuilt)
            self.repaired.append("Finished a repair that was interrupted earlier.")
        remove_folder(self._rebuilt.folder)
        reason = self._migrate() or self._reason_to_rebuild()
        if reason:
            self._rebuild(reason)

    def _reason_to_rebuild(self) -> str:
        """Return the reason to rebuild the catalog; "" if it is sound or was repaired in place."""
        findings = self._catalog_damage()
        with _inspection_errors():
            if not self._layout.exists():
                return findings[0].message
            try:
                sealed = catalogs.is_checksum_valid(self._layout)
            except DamagedFileError as error:
                if findings or not error.details.get("seal"):
                    return error.message
                catalogs.drop_checksum(self._layout)
                self.repaired.append("The catalog's seal was damaged; the catalog is sound.")
                return ""
            if not sealed and catalogs.count_lost_commits(self._layout):
                return "The end of the catalog's -wal file could not be read."
        if not findings:
            return ""
        with suppress(MMSearchError), catalogs.open_locked(self._layout) as catalog:
            catalog.rebuild_derived()
        findings = self._catalog_damage()
        if not findings:
            self.repaired.append("The catalog's indexes were damaged and have been rebuilt.")
        return findings[0].message if findings else ""

    def _migrate(self) -> str:
        """Migrate a catalog of an earlier version; return what is wrong if it is damaged."""
        is_older = False
        # Other errors are found and explained later.
        with suppress(Exception):
            try:
                with catalogs.open_snapshot(self._layout):
                    pass
            except SchemaError as error:
                found, expected = error.details["found"], error.details["expected"]
                is_older = isinstance(found, int) and isinstance(expected, int) and found < expected
        if is_older:
            try:
                with catalogs.open_locked(self._layout):
                    pass
            except DamagedFileError as error:
                return error.message
        return ""

    def _catalog_damage(self) -> list[Finding]:
        return _proven_damage(check_catalog(self._layout, compare_checksum=False))

    def _rebuild(self, reason: str) -> None:
        """Rebuild the catalog from its readable rows and the segments."""
        catalogs.reject_server(self._layout, "rebuilt")
        check_owner(self._layout)
        fetch_all(self._layout)
        self.is_rebuilt = True
        survey = survey_segments(self._layout)
        salvage = catalogs.salvage(self._layout)
        encoder = salvage.encoder
        surveyed = {spec.fingerprint for spec in survey.encoders}
        if survey.encoders and (encoder is None or encoder.fingerprint not in surveyed):
            encoder = survey.encoders[0]
        if encoder is None:
            raise StateError(
                f"{reason} There are no vectors to rebuild it from.",
                Hint(
                    "Remove the index with {} and index the folder again.",
                    "index.remove()",
                    "'mmsearch remove'",
                ),
            )
        identity, lost = salvage.identity(encoder, self._default_identity(encoder))
        self._rebuilt.create(inherit_permissions=True)
        with catalogs.open_locked(self._rebuilt, create=True) as catalog:
            catalog.set_identity(identity)
            count, other = restore_segments(self._layout, catalog, encoder, salvage.building)
            carried_over = catalog.recover_rows(self._layout.catalog, salvage.checksum_roots)
            damaged_texts = restore_derived(self._layout, catalog)
            unfinished = find_stale_roots(catalog)
            lost_rows = {"sources", "assets", "texts"} & set(carried_over.unreadable_tables)
            has_catalog = self._layout.exists()
            lost_commits = has_catalog and catalogs.count_lost_commits(self._layout) > 0
            if carried_over.lost_files or lost_rows or lost_commits or survey.damaged:
                unfinished = [s.id for s in catalog.sources() if s.kind != RECORDS_KIND]
            catalog.save_unfinished_roots(unfinished)
            roots = catalog.roots()
        for path in self._layout.catalog_files():
            if path != self._layout.format1_catalog:
                self.quarantine.copy(path)
        catalogs.replace_catalog(self._layout, self._rebuilt)
        remove_folder(self._rebuilt.folder)
        for path in (*survey.damaged, *damaged_texts, *other):
            self.quarantine.move(path)
        self.repaired.append(
            f"{reason} It has been rebuilt with {count:,} vectors, {carried_over.files:,} files and"
            f" {carried_over.texts:,} texts of these files."
        )
        self._report_losses(carried_over, lost, identity)
        if damaged_texts:
            self.losses.append(
                "Some texts that models made could not be read. 'mmsearch describe' makes them"
                " again."
            )
        if lost_commits:
            self.losses.append(
                "Captions from a table that were added in the last commits may be missing. Index"
                " with that table again."
            )
        if not roots:
            self.repaired.append(
                "The list of indexed folders is lost. Index them again; nothing has to be encoded."
            )

    def _default_identity(self, encoder: EncoderSpec) -> Identity:
        """Return the identity of an index of which only the encoder is known."""
        spec = FusionSpec(self._settings.fusion, self._settings.text_weight)
        sources = parse_text_sources(self._settings.texts)
        return Identity(encoder, spec, self._settings.vector_index, sources)

    def _report_losses(
        self, carried_over: SalvageResult, lost_settings: Sequence[str], identity: Identity
    ) -> None:
        if carried_over.unreadable_tables:
            tables = ", ".join(repr(table) for table in carried_over.unreadable_tables)
            self.losses.append(f"Some rows of the catalog's tables {tables} could not be read.")
        if {"texts", "assets"} & set(carried_over.unreadable_tables):
            self.losses.append(
                "Captions from tables may be missing. Index with these tables again."
            )
        if carried_over.lost_files:
            self.losses.append(f"{carried_over.lost_files:,} files no longer have a vector.")
        if lost_settings:
            current = {
                "fusion": identity.fusion.name,
                "vector_index": identity.vector_index,
                "texts": ",".join(identity.texts) or "none",
                "goals": f"recall {identity.goals.recall:g}",
            }
            choices = ", ".join(f"{key} ({current[key]})" for key in lost_settings)
            self.losses.append(
                f"Some options of the index were lost and are now set from the settings: {choices}."
            )

    def folders(self, catalog: CatalogMaintenance) -> None:
        """Scan the folders of which rows were lost; content that has a vector is not encoded.

        The catalog stores which folders are left, so that a repair that was killed can continue.
        """
        unfinished = catalog.load_unfinished_roots()
        sources = {source.id: source for source in catalog.sources()}
        for number in unfinished:
            source = sources.get(number)
            if source is not None and (
                self._rescan_folder(catalog, source.uri)
                if source.kind == FOLDER_KIND
                else self._read_source(catalog, source)
            ):
                self.scans.append(FolderScope(number))
                unfinished = [other for other in unfinished if other != number]
                restore_texts(self._layout, catalog)
                catalog.save_unfinished_roots(unfinished)
        catalog.reattach_texts()

    def _rescan_folder(self, catalog: CatalogWriter, root: bytes) -> bool:
        if not os.path.isdir(root):  # noqa: PTH112 - bytes paths need os.path
            self.repaired.append(
                f"Folder {display_path(root)} does not exist. Index it when it is available again."
            )
            return False
        # The path comes from the index, which may not be trustworthy: show it before it is read.
        self._on_message(f"Scanning {display_path(root)} again. Press Ctrl-C to stop.")
        settings, run = self._settings, FolderRun(root, {})
        with make_indexer(self._layout, catalog, settings, self._on_message) as indexer:
            report = run_folder(catalog, indexer, run, settings, self._on_message, self._progress)
        self.failed += report.failed
        self.repaired.append(
            f"Folder {display_path(root)} has been scanned again; {report.encoded:,} pictures"
            " had to be encoded."
        )
        return True

    def _read_source(self, catalog: CatalogWriter, record: SourceRecord) -> bool:
        """Read a source again of which rows were lost; return False if that is not possible now."""
        shown = display_path(record.uri)
        self._on_message(f"Reading {shown} again. Press Ctrl-C to stop.")
        try:
            source = open_source(
                record.uri, make_modalities(self._settings), record.kind, **record.choices
            )
            with (
                closing(source),
                make_indexer(self._layout, catalog, self._settings, self._on_message) as indexer,
            ):
                report = indexer.run_source(source, record, progress=self._progress)
        except (SourceError, MissingExtraError, UsageError, UnknownNameError) as error:
            self.repaired.append(f"{shown} cannot be read now: {error} Index it again later.")
            return False
        self.failed += report.failed
        self.repaired.append(
            f"{shown} has been read again; {report.encoded:,} pictures had to be encoded."
        )
        return True

    def segments(self, catalog: CatalogMaintenance) -> None:
        """Re-encode the pictures of damaged segments."""
        for file_ref in (segment.file_ref for segment in catalog.list_building_segments()):
            try:
                verify_file(self._layout.local_path(file_ref), file_ref)
            except DamagedFileError:
                catalog.discard_building()
                self.repaired.append(
                    "A file of an unfinished encoder change is lost or damaged. Start it again."
                )
                break
        damaged = check_segments(self._layout, catalog)
        _proven_damage(damaged.values())
        if not damaged:
            return
        paths = {s.number: self._layout.path(s.file_ref) for s in catalog.segments()}
        with make_indexer(self._layout, catalog, self._settings, self._on_message) as indexer:
            for number, finding in damaged.items():
                lost, update = reencode_segment(catalog, number, indexer.reencode_stale)
                self.quarantine.move(paths[number])
                self.lost += lost
                self.failed += update.failed.values()
                self.repaired.append(
                    f"{finding.message} {update.updated:,} of its {len(lost):,} pictures were"
                    " encoded again."
                )
                if update.from_copies:
                    self.losses.append(
                        f"{update.from_copies:,} records without an original were encoded from"
                        " their thumbnails. Add them again for exact vectors."
                    )

    def derived(self, catalog: CatalogMaintenance) -> None:
        """Write damaged files of derived texts again, from the catalog."""
        damaged = _proven_damage(check_derived(self._layout, catalog))
        if damaged:
            for name in {finding.part for finding in damaged}:
                self.quarantine.move(self._layout.folder / name)
            merge_derived(self._layout, catalog)
            self.repaired.append("Files of derived texts were damaged and have been written again.")

    def built(self, catalog: CatalogMaintenance) -> None:
        """Rebuild the vector index if it is damaged, or if too many vectors are missing from it."""
        identity = catalog.identity()
        if identity is None or not catalog.segments():
            return
        with catalog.snapshot() as snapshot:
            built, stale = snapshot.built, bool(snapshot.unindexed_segments)
        fusion = make_fusion(identity.fusion)
        damage = check_built_index(self._layout, catalog, load_vector_index_plugin, fusion)
        if built is not None and _proven_damage(damage):
            self.quarantine.move(self._layout.path(built.file_ref))
            catalog.drop_built_index()
            self.repaired.append("The vector index was damaged and has been rebuilt.")
            stale = True
        if stale:
            builder = make_index_builder(
                self._layout,
                catalog,
                lambda: load_index_encoder(identity, self._settings, self._on_message),
                self._settings.device,
            )
            rebuild_if_stale(catalog, builder, fusion, identity)


@contextmanager
def _inspection_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, MemoryError) as error:
        sentence, hint = describe_os_error(error)
        raise InspectionError(sentence, f"Nothing was changed. {hint}") from error


def _proven_damage(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings of proven damage.

    Raises:
        InspectionError: A part could not be checked.
    """
    all_findings = list(findings)
    for finding in all_findings:
        if finding.weight is Severity.UNKNOWN:
            raise InspectionError(f"{finding.part}: {finding.message}", "It was not changed.")
    return [finding for finding in all_findings if finding.weight is Severity.DAMAGE]


@dataclass(frozen=True)
class SegmentSurvey:
    """Summary of the segment files, read without a catalog.

    Attributes:
        encoders: Encoders of all segments, the one with the most vectors first. There are two while
            a change of the encoder is not finished.
        damaged: Files with proven damage.
    """

    encoders: tuple[EncoderSpec, ...]
    damaged: tuple[Path, ...]


def survey_segments(layout: IndexLayout) -> SegmentSurvey:
    """Read every file of segments/ without the help of a catalog; nothing is changed.

    Raises:
        InspectionError: A file cannot be read for a reason other than damage.
    """
    rows: Counter[str] = Counter()
    specs: dict[str, EncoderSpec] = {}
    damaged: list[Path] = []
    for path in _segment_files(layout):
        try:
            segment, facts = _recover_segment(path)
        except DamagedFileError:
            damaged.append(path)
            continue
        specs[facts.encoder.fingerprint] = facts.encoder
        rows[facts.encoder.fingerprint] += segment.rows
    ordered = [specs[fingerprint] for fingerprint, _ in rows.most_common()]
    return SegmentSurvey(tuple(ordered), tuple(damaged))


def restore_segments(
    layout: IndexLayout,
    catalog: CatalogMaintenance,
    encoder: EncoderSpec,
    building: Container[int],
) -> tuple[int, list[Path]]:
    """Fill an empty catalog from the segments of an encoder.

    Of several files with one number, which workers of one shard left, the newest intact one counts.

    Args:
        layout: File layout of the index.
        catalog: The new catalog.
        encoder: Encoder of the index.
        building: Numbers of the segments of a space that was being built.

    Returns:
        The number of recovered vectors, and the segment files of other encoders.
    """
    recovered = 0
    foreign: list[Path] = []
    unfinished: list[Path] = []
    numbers: set[int] = set()
    for path in _segment_files(layout):
        with suppress(DamagedFileError):
            segment, facts = _recover_segment(path)
            if segment.number in numbers:
                continue
            numbers.add(segment.number)
            if segment.number in building:
                unfinished.append(path)
            elif facts.encoder.fingerprint != encoder.fingerprint:
                foreign.append(path)
            else:
                catalog.restore_segment(segment, facts.pictures)
                recovered += segment.rows
    for path in unfinished:
        segment, facts = _recover_segment(path)
        catalog.begin_space(facts.encoder.fingerprint)
        catalog.restore_segment(segment, facts.pictures, building=True)
    return recovered, foreign


def _segment_files(layout: IndexLayout) -> list[Path]:
    """Return the files of segments by number; of those with one number, the newest comes first."""
    paths = [
        path
        for name, path in layout.files()
        if name.startswith("segments/") and path.suffix != TEMPORARY_SUFFIX
    ]
    return sorted(paths, key=lambda path: (segment_number(path), -path.stat().st_mtime_ns))


def _recover_segment(path: Path) -> tuple[Segment, SegmentMetadata]:
    try:
        return recover_segment(path)
    except (OSError, MemoryError) as error:
        sentence, hint = describe_os_error(error)
        raise InspectionError(
            f"{display_path(path)} could not be read. {sentence}", f"Nothing was changed. {hint}"
        ) from error


def find_stale_roots(catalog: CatalogReader) -> list[int]:
    """Return the ids of the roots with files that do not match the catalog.

    Roots whose folder does not exist are left out: their files cannot be compared.
    """
    return [
        root.id
        for root in catalog.roots()
        if os.path.isdir(root.path)  # noqa: PTH112 - bytes paths need os.path
        and next(check_folders(catalog, root_id=root.id), None) is not None
    ]


def reencode_segment(
    catalog: CatalogMaintenance, number: int, reencode_stale: Callable[[], SpaceUpdate]
) -> tuple[list[bytes], SpaceUpdate]:
    """Re-encode the live pictures of a damaged segment, then drop the segment.

    Args:
        catalog: Catalog, open for writing.
        number: Number of the segment.
        reencode_stale: Decodes and encodes the pictures whose embedding is outdated.

    Returns:
        The paths of the segment's live pictures, and what happened to them.
    """
    lost = catalog.list_segment_pictures(number)
    catalog.mark_undecoded(number)
    update = reencode_stale()
    catalog.drop_segment(number)
    return [item.path for item in lost], update


def rebuild_if_stale(
    catalog: CatalogWriter, builder: IndexBuilder, fusion: Fusion, identity: Identity
) -> None:
    """Rebuild the vector index if it is missing, or if too many vectors are missing from it."""
    with catalog.snapshot() as snapshot:
        must_build = is_due(snapshot, builder.plugin_name)
    if must_build:
        catalog.publish(builder.build(catalog.segments(), fusion, identity, catalog.stale_rows()))
