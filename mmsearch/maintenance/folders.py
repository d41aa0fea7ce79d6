"""Folders of an index: index one with the choices that are kept for it, or change them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.display import display_path
from mmsearch.core.folder_choices import (
    CAPTIONS,
    FOLDER_CHOICES,
    FolderChoices,
    KeptTable,
    check_reset,
    describe_choices,
    is_below,
)
from mmsearch.core.records import FOLDER_KIND, Root
from mmsearch.core.reports import IndexReport
from mmsearch.core.results import IndexRequest, Progress
from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_indexer
from mmsearch.indexing.indexer import Indexer
from mmsearch.storage.layout import IndexLayout


@dataclass(frozen=True)
class FolderRun:
    """One run over a folder, with the choices that are given for it.

    Attributes:
        folder: Absolute path of the folder.
        values: Choices given for this run by name; they replace the kept ones.
        captions: A table of captions, which is added to the kept ones.
        reset: Names of choices that become the default ones.
        retry_failed: See `IndexRequest`.
        allow_empty: See `IndexRequest`.
        verify: See `IndexRequest`.
        unstable_paths: See `IndexRequest`.
    """

    folder: bytes
    values: Mapping[str, Any]
    captions: Path | None = None
    reset: tuple[str, ...] = ()
    retry_failed: bool = False
    allow_empty: bool = False
    verify: bool = False
    unstable_paths: frozenset[bytes] = frozenset()


def add_folder(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    run: FolderRun,
    texts: str | None,
    wait_s: float,
    progress: Callable[[Progress], None],
) -> IndexReport:
    """Index a folder. See `mmsearch.api.index.Index.add_folder`."""
    from mmsearch.modalities._texts.caption_table import check_caption_table  # noqa: PLC0415 - rare

    check_reset(run.reset, FOLDER_CHOICES)
    if run.captions is not None:
        check_caption_table(run.captions)
    with (
        catalogs.open_write(layout, wait_s, create=True) as catalog,
        make_indexer(
            layout, catalog, settings.with_flags(texts=texts), on_message, texts
        ) as indexer,
    ):
        return run_folder(catalog, indexer, run, on_message, progress)


def run_folder(
    catalog: CatalogWriter,
    indexer: Indexer,
    run: FolderRun,
    on_message: Callable[[str], None],
    progress: Callable[[Progress], None],
) -> IndexReport:
    """Index a folder with its choices, and keep those that are given."""
    root, subfolder = catalog.ensure_root(run.folder)
    kept = load_choices(catalog, root)
    choices, forgotten = _change(kept, root, subfolder, run)
    tables = _find_changed(choices, subfolder, on_message)
    if run.captions is not None:
        given = _read_stamp(KeptTable(os.path.abspath(run.captions), subfolder, ""))  # noqa: PTH100
        tables = [given, *(table for table in tables if table[:2] != given[:2])]
        choices = choices.with_table(given._replace(stamp=""))
    captions = tables.pop(0) if tables and tables[0].folder == subfolder else None
    request = replace(
        _make_request(root, subfolder, choices, captions),
        retry_failed=run.retry_failed,
        allow_empty=run.allow_empty,
        verify=run.verify,
        unstable_paths=run.unstable_paths,
    )

    def save_choices() -> None:
        if choices != kept:
            _save(catalog, root, choices)
            for sentence in _describe_change(kept, choices, root):
                on_message(sentence)

    report = indexer.run(request, progress, save_choices)
    for table in forgotten:
        removal = replace(_make_request(root, table.folder, choices, table), forget_captions=True)
        report = _add_captions(report, indexer.run(removal, progress))
    for table in tables:
        again = _make_request(root, table.folder, choices, table)
        report = _add_captions(report, indexer.run(again, progress))
    read = [table for table in (captions, *tables) if table is not None]
    if read:
        for table in read:
            choices = choices.with_table(table)
        _save(catalog, root, choices)
    return report


def load_choices(catalog: CatalogReader, root: Root) -> FolderChoices:
    """Return the choices that are kept with a root."""
    (choices,) = (source.choices for source in catalog.sources() if source.id == root.id)
    return FolderChoices.from_json(choices)


def _save(catalog: CatalogWriter, root: Root, choices: FolderChoices) -> None:
    catalog.ensure_source(FOLDER_KIND, root.path, choices.to_json())


def _change(
    kept: FolderChoices, root: Root, subfolder: bytes, run: FolderRun
) -> tuple[FolderChoices, Sequence[KeptTable]]:
    """Return the choices of a run, and the tables of captions that it forgets."""
    forgotten: list[KeptTable] = []
    choices = kept
    if run.values or run.reset:
        choices = choices.change(subfolder, run.values, run.reset)
        if "exclude" in run.values:
            choices = choices.drop_excluded(root.path, subfolder)
    if CAPTIONS in run.reset:
        forgotten = [table for table in kept.tables() if table.folder == subfolder]
    return choices.visit(root.path, subfolder), forgotten


def _make_request(
    root: Root, subfolder: bytes, choices: FolderChoices, captions: KeptTable | None
) -> IndexRequest:
    """Return the request to index a folder of a root with its choices."""
    kept = [
        (Path(table.path), _join(root.path, table.folder))
        for table in choices.tables()
        if table.path != (captions and captions.path)
        and (is_below(subfolder, table.folder) or is_below(table.folder, subfolder))
    ]
    return IndexRequest(
        folder=_join(root.path, subfolder),
        captions=None if captions is None else Path(captions.path),
        kept_captions=tuple(kept),
        options=choices.walk_options(root.path, subfolder),
    )


def _find_changed(
    choices: FolderChoices, subfolder: bytes, on_message: Callable[[str], None]
) -> list[KeptTable]:
    """Return the tables of captions that have changed since they were read, its own first."""
    changed = []
    for table in choices.tables():
        if is_below(subfolder, table.folder):
            current = _read_stamp(table)
            if not current.stamp:
                on_message(
                    f"The table of captions {display_path(table.path)} cannot be read; its captions"
                    " are kept. --reset captions forgets them."
                )
            elif current != table:
                changed.append(current)
    return sorted(changed, key=lambda table: table.folder != subfolder)


def _read_stamp(table: KeptTable) -> KeptTable:
    try:
        status = os.stat(table.path)  # noqa: PTH116 - may not be a valid path
    except (OSError, ValueError):
        return table._replace(stamp="")
    return table._replace(stamp=f"{status.st_size}-{status.st_mtime_ns}")


def _describe_change(kept: FolderChoices, choices: FolderChoices, root: Root) -> Sequence[str]:
    before = describe_choices(kept.to_json())
    after = describe_choices(choices.to_json())
    return [
        f"{display_path(root.path)}: {name} is now {after.get(name, 'as by default')}; before, it"
        f" was {before[name]}."
        for name in before
        if before[name] != after.get(name) and not name.endswith(CAPTIONS)
    ]


def _add_captions(report: IndexReport, other: IndexReport) -> IndexReport:
    """Return the report of a run with what a further run did with captions."""
    return replace(
        report,
        retold=report.retold + other.retold,
        captions_removed=report.captions_removed + other.captions_removed,
        captions=report.captions
        or (other.captions if other.captions and other.captions.rows else None),
        seconds=report.seconds + other.seconds,
    )


def _join(root: bytes, folder: bytes) -> bytes:
    return root.rstrip(b"/") + b"/" + folder if folder else root
