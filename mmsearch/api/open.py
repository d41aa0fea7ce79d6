"""Functions that open, restore and list indexes by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.api._log import log_message
from mmsearch.api.index import Index
from mmsearch.api.progress import ProgressOption, open_progress
from mmsearch.core.arguments import StrPath, Texts, check_arguments, to_texts
from mmsearch.core.errors import MMSearchError, translate_os_errors
from mmsearch.core.results import IndexStatus
from mmsearch.core.settings import Settings, load_settings
from mmsearch.core.threads import available_cpus
from mmsearch.storage.layout import IndexLayout, list_index_names

if TYPE_CHECKING:
    from mmsearch.api.federation import FederatedIndex
    from mmsearch.core.reports import CopyReport, InitReport, MigrationReport
    from mmsearch.search.image_loader import SandboxedImageLoader
    from mmsearch.search.listener import Listener


@translate_os_errors()
@check_arguments()
def open_index(
    name: str = "default",
    *,
    home: StrPath | None = None,
    model: str | None = None,
    device: str | None = None,
    settings: Settings | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Index:
    """Open an index by name. A new index is created when the first folder is added.

    Args:
        name: Name of the index: letters, digits, ``.``, ``_`` and ``-``.
        home: Folder of the indexes; default: `Settings.indexes_home`.
        model: Encoder of a new index: ``auto``, ``starter``, ``open_clip:ARCH/TAG``,
            ``open_clip:ARCH@FILE`` or ``adapted:FILE``. An existing index keeps its encoder.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        settings: Settings to use in place of the settings file and the environment.
        on_message: Called with a message before slow one-time work; default: the logger
            ``mmsearch``, at level INFO.

    Raises:
        UsageError: The name is not a valid index name.
    """
    resolved_settings = (settings or load_settings()).with_flags(
        home=None if home is None else Path(os.fsdecode(home)), model=model, device=device
    )
    return Index(
        IndexLayout.for_name(resolved_settings.indexes_home(), name),
        resolved_settings,
        on_message or log_message,
    )


@translate_os_errors()
@check_arguments()
def open_indexes(
    names: Texts,
    *,
    home: StrPath | None = None,
    device: str | None = None,
    settings: Settings | None = None,
    on_message: Callable[[str], None] | None = None,
) -> FederatedIndex:
    """Open several indexes that are searched as one; their models must be the same.

    Args:
        names: Names of the indexes. Equal hits are listed in this order.
        home: See `open_index`.
        device: See `open_index`.
        settings: See `open_index`.
        on_message: See `open_index`.

    Raises:
        UsageError: A name is not valid, or is given twice.
    """
    from mmsearch.api.federation import FederatedIndex, check_names  # noqa: PLC0415 - of few searches

    resolved_settings = (settings or load_settings()).with_flags(
        home=None if home is None else Path(os.fsdecode(home)), device=device
    )
    names = to_texts(names)
    check_names(names)
    layouts = [IndexLayout.for_name(resolved_settings.indexes_home(), name) for name in names]
    on_message = on_message or log_message
    indexes = [Index(layout, resolved_settings, on_message) for layout in layouts]
    return FederatedIndex(indexes, layouts, resolved_settings, on_message)


@translate_os_errors()
@check_arguments()
def restore_index(
    backup: StrPath,
    name: str = "default",
    *,
    home: StrPath | None = None,
    replace: bool = False,
) -> CopyReport:
    """Restore an index from a backup. Every file is verified before anything is replaced.

    Args:
        backup: Folder or URI that `Index.backup` wrote.
        name: Name of the restored index.
        home: Folder of the indexes; default: `Settings.indexes_home`.
        replace: True to replace an existing index of that name.

    Raises:
        UsageError: The index exists, and ``replace`` is not set.
        SourceError: The folder or the store does not contain a complete backup.
        DamagedFileError: The backup is damaged.
    """
    with open_index(name, home=home) as index:
        return index.restore_from(backup, replace=replace)


@translate_os_errors()
@check_arguments()
def init_index(
    name: str,
    *,
    home: StrPath | None = None,
    catalog: str | None = None,
    store: str | None = None,
    search: str | None = None,
) -> InitReport:
    """Create an empty index whose parts may be outside of its folder.

    The URLs contain no passwords; credentials come from the environment. The servers count as known
    on this machine from then on: credentials may be sent there.

    Args:
        name: Name of the index.
        home: Folder of the indexes; default: `Settings.indexes_home`.
        catalog: URL of the catalog: ``postgresql+psycopg://user@host/database``.
        store: URL of the vector files: ``s3://bucket/prefix``, or another one of fsspec.
        search: URL of the search server: ``milvus+https://host:19530/collection``, or one of
            PostgreSQL with pgvector.

    Raises:
        UsageError: The index exists, or a URL is not allowed.
        SourceError: The store has files of an index, or cannot be opened.
        StateError: A server cannot be used.
        MissingExtraError: A package is not installed.
    """
    from mmsearch.maintenance import places  # noqa: PLC0415 - only new indexes
    from mmsearch.storage.places import Places  # noqa: PLC0415 - only new indexes

    layout = _find_layout(name, home)
    return places.init_index(layout, Places(catalog, store, search))


@translate_os_errors()
@check_arguments()
def trust_index(name: str, *, home: StrPath | None = None) -> dict[str, str]:
    """Confirm that credentials of this machine may be sent to the servers of an index.

    Args:
        name: Name of the index.
        home: Folder of the indexes; default: `Settings.indexes_home`.

    Returns:
        The servers by part: ``catalog``, ``store`` and ``search``.

    Raises:
        UnknownIndexError: There is no such index, or all of its parts are in its folder.
    """
    from mmsearch.maintenance import places  # noqa: PLC0415 - few indexes

    return places.trust_index(_find_layout(name, home))


@translate_os_errors()
@check_arguments()
def migrate_index(
    name: str,
    to: str,
    *,
    home: StrPath | None = None,
    progress: ProgressOption = False,
) -> MigrationReport:
    """Copy an index to another place, without encoding; the index itself stays as it is.

    Numbers and the answers to sample queries are compared before the new index appears. After an
    interruption, the same call goes on.

    Args:
        name: Name of the index.
        to: Name of a new index, or of an empty one that `init_index` made.
        home: Folder of the indexes; default: `Settings.indexes_home`.
        progress: True shows a progress bar; or a function that is called with each `Progress`.

    Raises:
        UnknownIndexError: There is no such index.
        UsageError: The index ``to`` is not empty, or both name one place on a search server.
        DamagedFileError: A file of the index does not match its catalog.
        StateError: A server cannot be used, the index is being written, or the copy differs.
    """
    from mmsearch.maintenance.migrate import migrate  # noqa: PLC0415 - few indexes

    with open_progress(progress) as on_progress:
        return migrate(
            _find_layout(name, home), _find_layout(to, home), load_settings(), on_progress
        )


def _find_layout(name: str, home: StrPath | None) -> IndexLayout:
    settings = load_settings().with_flags(home=None if home is None else Path(os.fsdecode(home)))
    return IndexLayout.for_name(settings.indexes_home(), name)


@translate_os_errors()
@check_arguments()
def list_indexes(
    home: StrPath | None = None,
    *,
    on_error: Callable[[str, MMSearchError], None] | None = None,
) -> list[IndexStatus]:
    """Return the status of each index in a folder.

    Args:
        home: Folder of the indexes; default: `Settings.indexes_home`.
        on_error: Called with the name of each index that cannot be read, and the error. Such an
            index is left out.

    Raises:
        MMSearchError: An index cannot be read, and ``on_error`` is not given.
    """
    folder = (
        load_settings()
        .with_flags(home=None if home is None else Path(os.fsdecode(home)))
        .indexes_home()
    )
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
    """Return a thread-safe image loader for thumbnails; the caller must close it.

    Args:
        settings: Settings with the limits of decoding.
        workers: Number of decoding processes; 0 for one per available CPU.
    """
    from mmsearch.factories.search import make_image_loader  # noqa: PLC0415 - only servers need it

    return make_image_loader(settings, workers or available_cpus())


def open_listener(settings: Settings) -> Listener:
    """Return a thread-safe listener for spoken queries of all indexes; the caller must close it.

    Args:
        settings: Settings with the model and the limits of decoding.
    """
    from mmsearch.factories.speech import make_listener  # noqa: PLC0415 - only servers need it

    return make_listener(settings)
