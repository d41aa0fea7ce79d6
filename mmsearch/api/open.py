"""Indexes by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mmsearch.api.index import Index
from mmsearch.core.errors import MMSearchError
from mmsearch.core.files import expand_user
from mmsearch.core.hardware import available_cpus
from mmsearch.core.io_errors import translate_os_errors
from mmsearch.core.reports import CopyReport
from mmsearch.core.requests import IndexStatus
from mmsearch.core.settings import Settings, load_settings
from mmsearch.factories.search import make_image_loader
from mmsearch.search.image_loader import SandboxedImageLoader
from mmsearch.storage.layout import IndexLayout, list_index_names


@translate_os_errors()
def open_index(
    name: str = "default",
    *,
    home: str | os.PathLike[str] | None = None,
    model: str | None = None,
    device: str | None = None,
    settings: Settings | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Index:
    """Open an index by name; it comes into being with the first folder that is added.

    Args:
        name: Letters, digits, ``.``, ``_`` and ``-``.
        home: Folder of the indexes; default as in `Settings.indexes_home`.
        model: Encoder of a new index: ``auto``, ``starter``, ``open_clip:ARCH/TAG`` or
            ``open_clip:ARCH@FILE``. An index that exists has its own for life.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        settings: Instead of the settings file and the environment.
        on_message: Receives a line about anything slow that happens once.

    Raises:
        UsageError: The name cannot be an index's name.
    """
    resolved_settings = (settings or load_settings()).with_flags(
        home=None if home is None else Path(home), model=model, device=device
    )
    return Index(
        IndexLayout.for_name(resolved_settings.indexes_home(), name),
        resolved_settings,
        on_message or (lambda line: None),
    )


@translate_os_errors()
def restore_index(
    backup: str | os.PathLike[str],
    name: str = "default",
    *,
    home: str | os.PathLike[str] | None = None,
    replace: bool = False,
) -> CopyReport:
    """Make an index from a backup; every file is verified before anything is replaced.

    Args:
        backup: What `Index.backup` made.
        name: Of the index.
        home: Folder of the indexes; default as in `Settings.indexes_home`.
        replace: Put it in the place of an index of that name.

    Raises:
        UsageError: There is such an index, and ``replace`` is not set.
        SourceError: The folder holds no backup.
        DamagedFileError: The backup is damaged.
    """
    with open_index(name, home=home) as index:
        return index.restore_from(expand_user(backup).absolute(), replace=replace)


@translate_os_errors()
def list_indexes(
    home: str | os.PathLike[str] | None = None,
    *,
    on_error: Callable[[str, MMSearchError], None] | None = None,
) -> list[IndexStatus]:
    """Return the status of each index of a folder, by name.

    Args:
        home: The folder; None: where indexes are by default.
        on_error: Gets the name of an index that cannot be read, and the error; the others are
            returned.

    Raises:
        MMSearchError: An index cannot be read, and there is no ``on_error``.
    """
    folder = load_settings().with_flags(home=None if home is None else Path(home)).indexes_home()
    statuses = []
    for name in list_index_names(folder):
        try:
            with open_index(name, home=folder) as index:
                statuses.append(index.status())
        except MMSearchError as error:
            if on_error is None:
                raise
            on_error(name, error)
    return statuses


def open_image_loader(settings: Settings, workers: int = 0) -> SandboxedImageLoader:
    """Makes thumbnails, for several threads at once; to be closed.

    Args:
        settings: Limits of decoding.
        workers: Processes that decode; 0: one a processor.
    """
    return make_image_loader(settings, workers or available_cpus())
