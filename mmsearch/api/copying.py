"""Copies of an index: to another folder, and from there into the place of an index."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from mmsearch.assembly import catalogs
from mmsearch.core.catalog import Catalog
from mmsearch.core.display import display_path
from mmsearch.core.durable import sync_folder
from mmsearch.core.errors import SourceError, UsageError
from mmsearch.core.layout import IndexLayout
from mmsearch.core.locking import writer_lock
from mmsearch.core.upkeep import CopyReport
from mmsearch.engine.copy_index import copy_index


def backup(layout: IndexLayout, catalog: Catalog, folder: Path) -> CopyReport:
    """See `mmsearch.api.keeping.KeptIndex.backup`."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists():
        raise SourceError(f"{display_path(folder)} exists already.", "Name a folder that does not.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    return copy_index(layout, catalog, IndexLayout(folder), catalogs.opened)


def restore(layout: IndexLayout, folder: Path, *, replace: bool) -> CopyReport:
    """See `mmsearch.restore_index`."""
    source = IndexLayout(folder)
    if not source.exists():
        raise SourceError(f"{display_path(folder)} holds no backup of an index.")
    if layout.exists() and not replace:
        raise UsageError(
            f"There is an index {layout.name!r} already.",
            "Restore under another name with --index NAME, or add --replace.",
        )
    catalogs.is_sealed(source)
    home = layout.folder.parent
    home.mkdir(parents=True, exist_ok=True)
    fresh = IndexLayout(home / f".{layout.name}.restored")
    shutil.rmtree(fresh.folder, ignore_errors=True)
    with catalogs.reading(source) as catalog:
        report = copy_index(source, catalog, fresh, catalogs.opened)
    if layout.folder.exists():
        with writer_lock(layout):
            former = layout.folder.with_name(f".{layout.name}.replaced")
            shutil.rmtree(former, ignore_errors=True)
            layout.folder.rename(former)
            fresh.folder.rename(layout.folder)
        shutil.rmtree(former)
    else:
        fresh.folder.rename(layout.folder)
    sync_folder(home)
    return dataclasses.replace(report, folder=layout.folder)
