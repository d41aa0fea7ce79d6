"""Base class of `Index`: status, check, repair, compaction, backup and removal."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mmsearch.api.damage import report_damage
from mmsearch.core.catalog import Catalog
from mmsearch.core.compatibility import require_identity
from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.core.files import expand_user
from mmsearch.core.records import Root
from mmsearch.core.reports import CheckReport, CompactReport, CopyReport, RepairReport
from mmsearch.core.requests import IndexStatus, Progress
from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.factories.encoders import load_index_encoder
from mmsearch.factories.plugins import make_fusion
from mmsearch.storage.layout import IndexLayout

StrPath = str | bytes | os.PathLike[str]


class BaseIndex:
    """The methods of `Index` that neither index nor search."""

    def __init__(
        self, layout: IndexLayout, settings: Settings, on_message: Callable[[str], None]
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._on_message = on_message
        self._resources = ExitStack()
        self._catalog: Catalog | None = None

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

    @report_damage
    def status(self) -> IndexStatus:
        """Return the status of the index: counts, folders, failures and sizes.

        Raises:
            UnknownIndexError: The index does not exist.
        """
        catalog = self._reader()
        with catalog.snapshot() as snapshot:
            return IndexStatus(
                name=self.name,
                folder=self.folder,
                identity=snapshot.identity,
                generation=snapshot.generation,
                pictures=snapshot.pictures,
                files=catalog.file_count(),
                failures=tuple(catalog.failures()),
                roots=tuple(catalog.roots()),
                built=snapshot.built,
                waiting=sum(segment.rows for segment in snapshot.unindexed_segments),
                bytes_by_part=self._layout.bytes_by_part(),
                last_run=catalog.last_run(),
            )

    @report_damage
    def roots(self) -> list[Root]:
        """Return the indexed folders."""
        return self._reader().roots()

    @report_damage
    def set_root(self, name: str, folder: StrPath, *, wait_s: float = 0.0) -> Root:
        """Set the new path of an indexed folder that has moved; nothing is encoded again.

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
            self._reader()
        self.close()
        remove(self._layout)

    # --- integrity ---

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

    def repair(
        self, *, wait_s: float = 0.0, progress: Callable[[Progress], None] = lambda state: None
    ) -> RepairReport:
        """Repair the index.

        Derived files are rebuilt, damaged files are set aside, and lost vectors are encoded again.
        Only files with proven damage are changed. Every readable row of a damaged catalog is kept.

        Args:
            wait_s: Seconds to wait for another writer.
            progress: Called often with the progress.

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
        return repair(self._layout, self._settings, self._on_message, wait_s, progress)

    # --- compaction and copies ---

    @report_damage
    def compact(
        self, *, wait_s: float = 0.0, progress: Callable[[Progress], None] = lambda state: None
    ) -> CompactReport:
        """Remove vectors of deleted pictures, merge segments, and shrink the catalog.

        Queries continue during a compaction, and a compaction that is killed leaves the index
        unchanged. A deleted picture that is added again after a compaction is encoded again.

        Args:
            wait_s: Seconds to wait for another writer.
            progress: Called often with the progress.

        Raises:
            UnknownIndexError: The index does not exist.
            DamagedFileError: A segment is damaged.
            StateError: A change of the encoder is not finished.
        """
        # Searches do not need these imports.
        from mmsearch.factories.indexing import make_index_builder  # noqa: PLC0415
        from mmsearch.indexing.staging import compact  # noqa: PLC0415

        with catalogs.open_write(self._layout, wait_s, create=False) as catalog:
            identity = require_identity(catalog)
            return compact(
                self._layout,
                catalog,
                make_fusion(identity.fusion),
                make_index_builder(
                    self._layout,
                    catalog,
                    lambda: load_index_encoder(identity, self._settings, self._on_message),
                    self._settings.device,
                ),
                progress,
            )

    @report_damage
    def backup(self, destination: StrPath) -> CopyReport:
        """Write a verified and consistent copy of the index, even while a writer is active.

        The copy is itself an index and can be searched in place.

        Args:
            destination: Folder for the copy; it must not exist or must be empty.

        Raises:
            UnknownIndexError: The index does not exist.
            SourceError: The destination exists and is not empty.
            DamagedFileError: A file of the index is damaged.
            StateError: Disk space or a permission is missing; the partial copy is removed.
        """
        from mmsearch.maintenance.backup import backup  # noqa: PLC0415 - searches never need it

        folder = expand_user(os.fsdecode(destination)).absolute()
        return backup(self._layout, self._reader(), folder)

    def restore_from(self, backup: Path, *, replace: bool = False) -> CopyReport:
        """Restore this index from a backup; see `mmsearch.restore_index`."""
        from mmsearch.maintenance.backup import restore  # noqa: PLC0415 - searches never need it

        self.close()
        return restore(self._layout, backup, replace=replace)

    def close(self) -> None:
        """Release files and memory. The index can be used again afterwards."""
        self._resources.close()
        self._catalog = None

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
            if not self.exists() and not self._layout.files():
                self._reader()

    def _reader(self) -> Catalog:
        if self._catalog is None:
            self._catalog = self._resources.enter_context(catalogs.open_read(self._layout))
        return self._catalog


def resolve_folder(folder: StrPath) -> bytes:
    """Return the absolute path of an existing folder.

    Raises:
        SourceError: The path does not exist or is not a folder.
    """
    path = os.path.abspath(os.path.expanduser(os.fsencode(folder)))  # noqa: PTH100, PTH111
    display = display_path(path)
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes paths need os
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise SourceError(f"There is no folder {display}.") from None
    if not stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{display} is a file, not a folder.", "Use the folder that contains it.")
    return path
