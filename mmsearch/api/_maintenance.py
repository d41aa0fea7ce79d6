"""The part of an index that does not search: its state, its upkeep and its copies."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mmsearch.api._session import IndexSession, translate_errors
from mmsearch.api.parsing import resolve_folder, to_absolute_path
from mmsearch.api.progress import ProgressOption, open_progress
from mmsearch.core.arguments import StrPath, Texts, to_texts
from mmsearch.core.errors import MMSearchError
from mmsearch.core.files import expand_user
from mmsearch.core.records import FailedFile, Root, SourceRecord, SourceSummary
from mmsearch.core.results import IndexStatus
from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogReader
    from mmsearch.core.derived import DerivedSummary
    from mmsearch.core.identity import Identity
    from mmsearch.core.reports import (
        CheckReport,
        CompactReport,
        CopyReport,
        ExportReport,
        ImportReport,
        RepairReport,
    )


@translate_errors
class MaintainedIndex:
    """The files of an index, with everything that keeps them in order; see `mmsearch.Index`."""

    def __init__(
        self, layout: IndexLayout, settings: Settings, on_message: Callable[[str], None]
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._on_message = on_message
        self._session = IndexSession(layout, settings, on_message)

    def __repr__(self) -> str:
        if not self.exists():
            return f"<Index {self.name!r} in {self.folder}: no pictures yet>"
        try:
            status = self.status()
        except MMSearchError as error:
            return f"<Index {self.name!r} in {self.folder}: {error}>"
        encoder = "no model yet" if status.identity is None else status.identity.encoder.name
        return f"<Index {self.name!r} in {self.folder}: {status.pictures:,} pictures, {encoder}>"

    @property
    def name(self) -> str:
        """Name of the index."""
        return self._layout.name

    @property
    def folder(self) -> Path:
        """Folder of the index's files."""
        return self._layout.folder

    def exists(self) -> bool:
        """Return True if the index exists."""
        return self._layout.exists()

    def status(self) -> IndexStatus:
        """Return the status of the index: counts, folders, failures and sizes.

        Raises:
            UnknownIndexError: The index does not exist.
        """
        from mmsearch.modalities._other_files import count_skipped  # noqa: PLC0415 - searches never need it

        with self._session.catalog() as catalog, catalog.snapshot() as snapshot:
            calibration = snapshot.calibration
            return IndexStatus(
                name=self.name,
                folder=self.folder,
                identity=snapshot.identity,
                generation=snapshot.generation,
                pictures=snapshot.pictures,
                files=catalog.file_count(),
                failures=tuple(catalog.failures()),
                roots=tuple(catalog.roots()),
                sources=tuple(catalog.sources()),
                built=snapshot.built,
                waiting=sum(segment.rows for segment in snapshot.unindexed_segments),
                bytes_by_part=self._layout.bytes_by_part(),
                last_run=catalog.last_run(),
                damaged=tuple(catalog.damaged_files()),
                calibration=calibration and replace(calibration, background=""),
                derived=self._summarize_derived(catalog, snapshot.identity),
                skipped=count_skipped((file.path, file.reason) for file in catalog.skipped_files()),
                places=self._places(),
                writers=catalogs.list_writers(self._layout),
            )

    def _places(self) -> dict[str, str]:
        if not self._layout.has_places():
            return {}
        from mmsearch.storage.places import describe_places  # noqa: PLC0415 - few indexes

        return describe_places(self._layout).urls()

    def _summarize_derived(
        self, catalog: CatalogReader, identity: Identity | None
    ) -> tuple[DerivedSummary, ...]:
        from mmsearch.core.folder_choices import want_texts  # noqa: PLC0415 - not searches

        # Few indexes have texts of models, and their enrichers take long to import.
        if not want_texts(catalog.sources()) and not catalog.derived.summarize():
            return ()
        from mmsearch.maintenance.describe_status import summarize_derived  # noqa: PLC0415

        return summarize_derived(catalog, self._settings, identity)

    def skipped_files(self) -> list[FailedFile]:
        """Return the files below the indexed folders that are not read, with the reasons.

        Folders that are left out as a whole, such as hidden ones, are among them.

        Raises:
            UnknownIndexError: The index does not exist.
        """
        with self._session.catalog() as catalog:
            return catalog.skipped_files()

    def roots(self) -> list[Root]:
        """Return the indexed folders."""
        with self._session.catalog() as catalog:
            return catalog.roots()

    def sources(self) -> list[SourceSummary]:
        """Return where the pictures of the index come from, with choices and numbers of pictures.

        Raises:
            UnknownIndexError: The index does not exist.
        """
        with self._session.catalog() as catalog:
            return catalog.summarize_sources()

    def set_source(
        self,
        name: str,
        *,
        place: StrPath | None = None,
        reset: Texts = (),
        wait_s: float = 0.0,
        **choices: Any,
    ) -> SourceRecord:
        """Change the choices of a source, or the path of a folder that has moved.

        The next `refresh` applies the choices. Nothing is encoded again because of a new path.

        Args:
            name: Name of the source.
            place: Path at which a folder is now.
            reset: Names of choices to set back to the default.
            wait_s: Seconds to wait for another writer.
            **choices: New values of choices: those of `add_folder` or of the kind of the source.

        Raises:
            UnknownNameError: There is no source with that name.
            UsageError: A choice is unknown or not valid.
            SourceError: The folder does not exist, or a table of captions cannot be read.
        """
        from mmsearch.maintenance.sources import set_source  # noqa: PLC0415 - searches never need it

        return set_source(
            self._layout,
            self._settings,
            name,
            place=None if place is None else resolve_folder(place),
            choices=choices,
            reset=to_texts(reset),
            wait_s=wait_s,
        )

    def remove_source(self, name: str, *, wait_s: float = 0.0) -> int:
        """Forget a source and its pictures, unless they are in another source, too.

        Nothing is deleted from the source. Vectors stay in the index until `compact`.

        Args:
            name: Name of the source.
            wait_s: Seconds to wait for another writer.

        Returns:
            The number of files or items that had a picture.

        Raises:
            UnknownNameError: There is no source with that name.
        """
        from mmsearch.maintenance.sources import remove_source  # noqa: PLC0415

        return remove_source(self._layout, name, wait_s)

    def set_root(self, name: str, folder: StrPath, *, wait_s: float = 0.0) -> Root:
        """Set the new path of an indexed folder that has moved, like `set_source`.

        Args:
            name: Name of the root.
            folder: Path at which the folder is now.
            wait_s: Seconds to wait for another writer.

        Raises:
            UnknownNameError: There is no root with that name.
            SourceError: The folder does not exist.
        """
        path = resolve_folder(folder)
        with catalogs.open_write(self._layout, wait_s, create=False) as catalog:
            return catalog.move_root(name, path)

    def check(self, *, sources: bool = False, content: bool = False) -> CheckReport:
        """Check the consistency of the index without changing it.

        The check reads one generation. It can run beside a writer and on a read-only disk. Parts
        that cannot be read, for example because of insufficient memory, missing permission or too
        many open files, are reported as unknown, never as damage.

        Args:
            sources: True to also check that the pictures' files are unchanged.
            content: With ``sources``, True to read the files and compare their digests.

        Returns:
            The verdict and the findings.

        Raises:
            UnknownIndexError: The index does not exist.
        """
        from mmsearch.maintenance.check import check  # noqa: PLC0415 - searches never need it

        self._require_existing()
        return check(
            self._layout, self._settings, self._on_message, sources=sources, content=content
        )

    def repair(self, *, wait_s: float = 0.0, progress: ProgressOption = False) -> RepairReport:
        """Repair the index.

        Derived files are rebuilt, damaged files are set aside, and lost vectors are encoded again.
        Only files with proven damage are changed. Every readable row of a damaged catalog is kept.

        Args:
            wait_s: Seconds to wait for another writer.
            progress: True for a progress bar, or a callable, which is called often with the
                progress.

        Raises:
            UnknownIndexError: The index does not exist.
            InspectionError: A part could not be checked, for example because of insufficient
                memory, missing permission or too many open files, or because a newer version of
                mmsearch wrote it.
            ModelUnavailableError: Pictures must be encoded, and the encoder is not available.
        """
        from mmsearch.maintenance.repair import repair  # noqa: PLC0415 - searches never need it

        self._require_existing()
        self.close()
        with open_progress(progress) as on_progress:
            return repair(self._layout, self._settings, self._on_message, wait_s, on_progress)

    def compact(self, *, wait_s: float = 0.0, progress: ProgressOption = False) -> CompactReport:
        """Remove vectors of deleted pictures, merge segments, and shrink the catalog.

        Queries continue during a compaction, and a compaction that is killed leaves the index
        unchanged. A deleted picture that is added again after a compaction is encoded again.

        Args:
            wait_s: Seconds to wait for another writer.
            progress: True for a progress bar, or a callable, which is called often with the
                progress.

        Raises:
            UnknownIndexError: The index does not exist.
            DamagedFileError: A segment is damaged.
            StateError: A change of the encoder is not finished.
        """
        from mmsearch.maintenance.reindex import compact  # noqa: PLC0415 - searches never need it

        with open_progress(progress) as on_progress:
            return compact(self._layout, self._settings, self._on_message, wait_s, on_progress)

    def backup(self, destination: StrPath) -> CopyReport:
        """Write a verified and consistent copy of the index, even while a writer is active.

        The copy in a folder is itself an index and can be searched in place.

        Args:
            destination: Folder for the copy; it must not exist or must be empty. Or the URI of a
                folder in a store, such as ``s3://bucket/photos``; it needs the extra ``remote``
                and the package of the store (extra ``s3``). A backup there that was interrupted
                goes on with the next call.

        Raises:
            UnknownIndexError: The index does not exist.
            SourceError: The destination exists and is not empty, or is not a store.
            MissingExtraError: The URI needs a package that is not installed.
            DamagedFileError: A file of the index is damaged.
            StateError: Disk space or a permission is missing; a partial copy in a folder is
                removed.
        """
        from mmsearch.maintenance.backup import backup  # noqa: PLC0415 - searches never need it

        with self._session.catalog() as catalog:
            return backup(self._layout, catalog, os.fsdecode(destination))

    def restore_from(self, backup: StrPath, *, replace: bool = False) -> CopyReport:
        """Restore this index from a backup; see `mmsearch.restore_index`."""
        from mmsearch.maintenance.backup import restore  # noqa: PLC0415 - searches never need it

        self.close()
        return restore(self._layout, os.fsdecode(backup), replace=replace)

    def export(
        self,
        destination: StrPath,
        *,
        format: str = "parquet",  # noqa: A002
        progress: ProgressOption = False,
    ) -> ExportReport:
        """Write the vectors, facts and texts of all searchable pictures for other programs.

        Vectors are float16, bit for bit as the index stores them: the image vector of each picture,
        of each moment of a film and of each page of a document, and one vector for each text that
        has one. Fused vectors are not exported: they follow from both. Texts that `describe` has
        made are in a file of their own. The folder appears once it is complete.

        Args:
            destination: Folder for the export; it must not exist or must be empty.
            format: ``parquet`` (lists of fixed size), ``npy`` (arrays and JSON Lines) or
                ``clip-retrieval`` (the layout of that program, without films, documents and the
                texts of `describe`).
            progress: True for a progress bar, or a callable, which is called often with the
                progress.

        Raises:
            UnknownIndexError: The index does not exist.
            UsageError: There is no such format.
            MissingExtraError: The format needs pyarrow, which is not installed.
            SourceError: The destination exists and is not empty.
            StateError: The index has no pictures.
            DamagedFileError: A file of the index is damaged.
        """
        from mmsearch.maintenance.export import export  # noqa: PLC0415 - searches never need it

        with self._session.catalog():  # Upgrade an index of an earlier version.
            pass
        folder = expand_user(os.fsdecode(destination)).absolute()
        with open_progress(progress) as on_progress:
            return export(self._layout, folder, format, on_progress)

    def import_embeddings(
        self,
        folder: StrPath,
        *,
        format: str | None = None,  # noqa: A002
        model: str | None = None,
        root: StrPath | None = None,
        wait_s: float = 0.0,
        progress: ProgressOption = False,
    ) -> ImportReport:
        """Add pictures with vectors that `export` or another program wrote.

        No picture is decoded. Pictures whose content is in the index already stay as they are, and
        so does what the index has at a path. Work is committed often: after an interruption, the
        next call continues. The first run over the folder of the pictures reads each file once to
        compare it with the sha256 in the export, and encodes only those that differ.

        Args:
            folder: Folder of the export.
            format: ``parquet``, ``npy`` or ``clip-retrieval``; None if `export` wrote the folder.
            model: Name of the model that made the vectors; None if `export` wrote the folder.
            root: Folder that contains the pictures; None: the folders that were exported, or, for
                exports of other programs, the folder that all absolute paths have in common.
            wait_s: Seconds to wait for another writer.
            progress: True for a progress bar, or a callable, which is called often with the
                progress.

        Raises:
            UsageError: The format or the model is not known, the vectors have another dimension
                than those of the model, or the folder of the pictures is not known.
            SourceError: The export is damaged or not complete.
            EncoderMismatchError: The vectors are not of the model, or not of that of the index.
            MissingExtraError: The format needs pyarrow, which is not installed.
            ModelUnavailableError: The weights of the model are not available.
            IndexLockedError: Another process is writing the index.
        """
        from mmsearch.maintenance.import_embeddings import (  # noqa: PLC0415 - searches never need it
            ImportRequest,
            import_embeddings,
        )

        request = ImportRequest(
            expand_user(os.fsdecode(folder)).absolute(),
            format,
            model,
            None if root is None else to_absolute_path(root),
        )
        with open_progress(progress) as on_progress:
            return import_embeddings(
                self._layout, self._settings, self._on_message, request, wait_s, on_progress
            )

    def remove(self) -> None:
        """Delete the index, even if it is damaged. The pictures are not deleted.

        A removal that fails can be repeated until no file of the index is left.

        Raises:
            UnknownIndexError: The index does not exist.
            IndexLockedError: Another process is writing it.
        """
        from mmsearch.maintenance.backup import (  # noqa: PLC0415 - searches never need it
            is_partially_removed,
            remove,
        )

        if not self.exists() and not is_partially_removed(self._layout):
            with self._session.catalog():  # Raise the error for an unknown index.
                pass
        self.close()
        remove(self._layout)

    def close(self) -> None:
        """Release files and memory after running calls. The index can be used again."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _require_existing(self) -> None:
        """Raise UnknownIndexError if there are no files of an index at all."""
        # A folder that cannot be read may contain an index.
        with suppress(OSError):
            if not (self.exists() or self._layout.files() or self._layout.has_places()):
                with self._session.catalog():
                    pass
