"""An index to look after: what it holds, whether it is sound, mending it, copying it."""

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
    """The half of `Index` that neither indexes nor searches."""

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
        """The index's name."""
        return self._layout.name

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._layout.folder

    def exists(self) -> bool:
        """Whether anything was ever indexed into it."""
        return self._layout.exists()

    @report_damage
    def status(self) -> IndexStatus:
        """What the index holds.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
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
        """The folders that are indexed."""
        return self._reader().roots()

    @report_damage
    def set_root(self, name: str, folder: StrPath, *, wait_s: float = 0.0) -> Root:
        """Say where a folder lies now; nothing is encoded again.

        Raises:
            UnknownNameError: No root of that name.
            SourceError: The folder does not exist.
        """
        path = resolve_folder(folder)
        with catalogs.open_write(self._layout, wait_s, create=False) as catalog:
            return catalog.move_root(name, path)

    def remove(self) -> None:
        """Delete the index, a damaged one too; the pictures stay.

        A removal that fails can be repeated until no file of the index is left.

        Raises:
            UnknownIndexError: There is none.
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

    # --- whether it is sound ---

    def check(self, *, sources: bool = False, content: bool = False) -> CheckReport:
        """Compare everything in the index with everything else in it; nothing is changed.

        Works beside a writer, and on a disk that cannot be written: one generation is compared.
        Whatever could not be read, such as for want of memory, of permission or of open files, is
        reported as unknown, never as damage.

        Args:
            sources: Also whether the pictures' files are still as they were.
            content: With ``sources``: read them and compare their digests.

        Returns:
            The verdict, what is wrong, and what is worth knowing.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
        """
        from mmsearch.maintenance.check import check  # noqa: PLC0415 - searches never need it

        self._require_existing()
        return check(
            self._layout, self._settings, self._on_message, sources=sources, content=content
        )

    def repair(
        self, *, wait_s: float = 0.0, progress: Callable[[Progress], None] = lambda state: None
    ) -> RepairReport:
        """Make again what is derived, put aside what is damaged, encode again what is lost.

        Only what is proved to be damaged is changed; every row of a damaged catalog that can still
        be read is carried over.

        Args:
            wait_s: How long to wait for a writer, in seconds.
            progress: Called often.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            InspectionError: Something could not be checked, such as for want of memory, of
                permission or of open files, or because a newer mmsearch made it.
            ModelUnavailableError: Pictures must be encoded, and the encoder cannot be had.
        """
        from mmsearch.maintenance.repair import repair  # noqa: PLC0415 - searches never need it

        self._require_existing()
        self.close()
        return repair(self._layout, self._settings, self._on_message, wait_s, progress)

    # --- its size and its copies ---

    @report_damage
    def compact(
        self, *, wait_s: float = 0.0, progress: Callable[[Progress], None] = lambda state: None
    ) -> CompactReport:
        """Drop vectors of pictures that are gone, merge segments, and shrink the catalog.

        Queries go on meanwhile, and a compaction that is killed leaves the index as it was. A
        picture that was removed and comes back later is then encoded again.

        Args:
            wait_s: How long to wait for another writer, in seconds.
            progress: Called often.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            DamagedFileError: A segment is damaged.
            StateError: A change of the encoder is not finished.
        """
        # Searches never need these.
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
        """Copy the index, verified and consistent, also while a writer is at work.

        The copy is an index itself: it can be searched where it lies.

        Args:
            destination: A folder that does not exist yet, or is empty.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            SourceError: The destination is not free.
            DamagedFileError: A file of the index is damaged.
            StateError: There is no room, or no permission; nothing is left behind.
        """
        from mmsearch.maintenance.backup import backup  # noqa: PLC0415 - searches never need it

        folder = expand_user(os.fsdecode(destination)).absolute()
        return backup(self._layout, self._reader(), folder)

    def restore_from(self, backup: Path, *, replace: bool = False) -> CopyReport:
        """See `mmsearch.restore_index`."""
        from mmsearch.maintenance.backup import restore  # noqa: PLC0415 - searches never need it

        self.close()
        return restore(self._layout, backup, replace=replace)

    def close(self) -> None:
        """Free files and memory; the index may be used again afterwards."""
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
        """Where there is not even a rest of an index."""
        # What cannot be looked at may be an index.
        with suppress(OSError):
            if not self.exists() and not self._layout.files():
                self._reader()

    def _reader(self) -> Catalog:
        if self._catalog is None:
            self._catalog = self._resources.enter_context(catalogs.open_read(self._layout))
        return self._catalog


def resolve_folder(folder: StrPath) -> bytes:
    """An existing folder as an absolute path.

    Raises:
        SourceError: It is none.
    """
    path = os.path.abspath(os.path.expanduser(os.fsencode(folder)))  # noqa: PTH100, PTH111
    display = display_path(path)
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes paths need os
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise SourceError(f"There is no folder {display}.") from None
    if not stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{display} is a file, not a folder.", "Name the folder that holds it.")
    return path
