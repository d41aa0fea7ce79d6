"""Folders of an index: index one with the choices that are kept for it, or change them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmsearch.core.arguments import check_value, suggest_name
from mmsearch.core.catalog import DESCRIBING, CatalogReader, CatalogWriter
from mmsearch.core.derived import FolderScope
from mmsearch.core.display import display_path
from mmsearch.core.errors import UsageError
from mmsearch.core.folder_choices import (
    CAPTIONS,
    DESCRIBE,
    FLAGS,
    FOLDER_CHOICES,
    FORGOTTEN,
    LISTS,
    FolderChoices,
    KeptTable,
    check_reset,
    describe_choices,
    is_below,
    make_globs,
    want_texts,
)
from mmsearch.core.records import FOLDER_KIND, Root
from mmsearch.core.reports import DescribeReport, IndexReport
from mmsearch.core.results import IndexRequest, Progress
from mmsearch.core.settings import Settings
from mmsearch.core.source_lookup import find_source
from mmsearch.factories import catalogs
from mmsearch.factories.cluster import open_cluster
from mmsearch.factories.indexing import make_indexer
from mmsearch.indexing.indexer import Indexer
from mmsearch.maintenance.renamed import describe_copied, move_renamed
from mmsearch.maintenance.suggestions import update_suggestions
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
    check_reset(run.reset, FOLDER_CHOICES)
    if run.captions is not None:
        _check_caption_table(run.captions)
    check_describe(run.values, settings)
    with (
        open_cluster(settings) as cluster,
        catalogs.open_write(
            layout, wait_s, create=True, source=(FOLDER_KIND, run.folder)
        ) as catalog,
    ):
        with make_indexer(
            layout,
            catalog,
            settings.with_flags(texts=texts),
            on_message,
            texts,
            cluster=cluster,
        ) as indexer:
            report = run_folder(catalog, indexer, run, settings, on_message, progress)
        root, subfolder = catalog.ensure_root(run.folder)
        described = describe_folders(
            layout,
            catalog,
            settings,
            on_message,
            [FolderScope(root.id, subfolder)],
            progress,
            retry_failed=run.retry_failed,
        )
        update_suggestions(layout, catalog, indexer.encoder, settings)
    return replace(report, described=described)


def run_folder(
    catalog: CatalogWriter,
    indexer: Indexer,
    run: FolderRun,
    settings: Settings,
    on_message: Callable[[str], None],
    progress: Callable[[Progress], None],
) -> IndexReport:
    """Index a folder with its choices, and keep those that are given.

    A root whose folder was renamed to this one, or is in it now, moves there first.
    """
    missing = move_renamed(catalog, run.folder, on_message)
    root, subfolder = catalog.ensure_root(run.folder)
    kept = load_choices(catalog, root)
    if DESCRIBE not in run.values:
        warn_unavailable_enrichers(catalog, root.id, settings, on_message)
    choices = _change(kept, root, subfolder, run.values, run.reset)
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

    saved = choices

    def save_choices() -> None:
        if saved != kept:
            catalog.set_choices(root.id, saved.to_json())
            for sentence in _describe_change(kept, saved, root):
                on_message(sentence)

    reports = [indexer.run(request, progress, save_choices)]
    if captions is not None:
        choices = choices.with_table(captions)
    for table in [*_find_forgotten(choices, subfolder), *tables]:
        is_forgotten = table.stamp == FORGOTTEN
        further = _make_request(root, table.folder, choices, table)
        further = replace(further, forget_captions=is_forgotten)
        reports.append(indexer.run(further, progress))
        choices = choices.without_table(table) if is_forgotten else choices.with_table(table)
    if choices != saved:
        catalog.set_choices(root.id, choices.to_json())
    for sentence in describe_copied(catalog, missing):
        on_message(sentence)
    return _join_reports(reports)


def describe_folders(
    layout: IndexLayout,
    catalog: CatalogWriter,
    settings: Settings,
    on_message: Callable[[str], None],
    folders: Sequence[FolderScope],
    progress: Callable[[Progress], None],
    *,
    retry_failed: bool = False,
) -> tuple[DescribeReport, ...]:
    """Make the texts of models that sources want of the contents of sources or folders."""
    if not folders or not want_texts(catalog.sources()):
        return ()
    # Most runs describe nothing.
    from mmsearch.maintenance.describe import describe_wanted  # noqa: PLC0415

    with catalog.one_at_a_time(DESCRIBING, lambda: progress(Progress("wait", 0, None))):
        return describe_wanted(
            layout,
            catalog,
            settings,
            on_message,
            folders,
            progress,
            retry_failed=retry_failed,
        )


def warn_unavailable_enrichers(
    catalog: CatalogReader, source_id: int, settings: Settings, on_message: Callable[[str], None]
) -> None:
    """Send a message about each enricher of a source that cannot work now."""
    source = find_source(catalog.sources(), source_id=source_id)
    if source is None or not want_texts([source]):
        return
    from mmsearch.maintenance.describe import warn_unavailable  # noqa: PLC0415 - as above

    warn_unavailable(source, settings, on_message)


def check_describe(choices: Mapping[str, Any], settings: Settings) -> None:
    """Check a given choice of texts of models, if there is one.

    Raises:
        MMSearchError: See `mmsearch.maintenance.describe.check_describe_choice`.
    """
    if choices.get(DESCRIBE):
        from mmsearch.maintenance.describe import check_describe_choice  # noqa: PLC0415 - as above

        check_describe_choice(choices[DESCRIBE], settings)


def load_choices(catalog: CatalogReader, root: Root) -> FolderChoices:
    """Return the choices that are kept with a root."""
    source = find_source(catalog.sources(), source_id=root.id)
    return FolderChoices.from_json(source.choices if source else {})


def change_choices(
    catalog: CatalogWriter,
    root: Root,
    settings: Settings,
    values: Mapping[str, Any],
    reset: Sequence[str],
) -> None:
    """Change the choices of a root; the next run applies them.

    Raises:
        UsageError: There is no such choice, or a value is not valid.
        SourceError: A table of captions cannot be read.
    """
    check_reset(reset, FOLDER_CHOICES)
    checked = check_folder_choices(values)
    check_describe(checked, settings)
    captions = checked.pop(CAPTIONS, None)
    kept = load_choices(catalog, root)
    choices = _change(kept, root, b"", checked, reset)
    if captions is not None:
        path = os.path.abspath(captions)  # noqa: PTH100 - the same as in runs
        choices = choices.with_table(KeptTable(path, b"", ""))
    if choices != kept:
        catalog.set_choices(root.id, choices.to_json())


def check_folder_choices(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of choices of folders as a run takes them.

    Raises:
        UsageError: There is no such choice, or a value is not valid.
        SourceError: A table of captions cannot be read.
    """
    kinds = {
        **dict.fromkeys(LISTS, "Texts"),
        **dict.fromkeys(FLAGS, "bool"),
        CAPTIONS: "StrPath",
        DESCRIBE: "DescribeValues",
    }
    for name in values:
        if name not in kinds:
            raise UsageError(f"Folders have no choice {name!r}.", suggest_name(name, kinds))
    checked = {name: check_value(name, value, kinds[name]) for name, value in values.items()}
    if CAPTIONS in checked:
        checked[CAPTIONS] = Path(os.fsdecode(checked[CAPTIONS]))
        _check_caption_table(checked[CAPTIONS])
    for name in LISTS:
        make_globs(checked.get(name, ()), b"/")
    return checked


def _check_caption_table(path: Path) -> None:
    # Few runs have a table, and its reader takes as long to import as a small run.
    from mmsearch.modalities._texts.caption_table import check_caption_table  # noqa: PLC0415

    check_caption_table(path)


def _change(
    kept: FolderChoices,
    root: Root,
    subfolder: bytes,
    values: Mapping[str, Any],
    reset: Sequence[str],
) -> FolderChoices:
    """Return the choices with new ones of a folder of a root, which is visited from then on."""
    choices = kept
    others = [name for name in reset if name != CAPTIONS]
    if values or others:
        choices = choices.change(subfolder, values, others)
        if "exclude" in values:
            choices = choices.drop_excluded(root.path, subfolder)
    if CAPTIONS in reset:
        choices = choices.forget_tables(subfolder)
    return choices.visit(root.path, subfolder)


def _make_request(
    root: Root, subfolder: bytes, choices: FolderChoices, captions: KeptTable | None
) -> IndexRequest:
    """Return the request to index a folder of a root with its choices."""
    kept = [
        (Path(table.path), _join(root.path, table.folder))
        for table in choices.tables()
        if table.path != (captions and captions.path)
        and table.stamp != FORGOTTEN
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
        if is_below(subfolder, table.folder) and table.stamp != FORGOTTEN:
            current = _read_stamp(table)
            if not current.stamp:
                on_message(
                    f"The table of captions {display_path(table.path)} cannot be read; its captions"
                    " are kept. --reset captions forgets them."
                )
            elif current != table:
                changed.append(current)
    return sorted(changed, key=lambda table: table.folder != subfolder)


def _find_forgotten(choices: FolderChoices, subfolder: bytes) -> list[KeptTable]:
    """Return the tables in a folder whose captions have to be removed."""
    return [
        table
        for table in choices.tables()
        if table.stamp == FORGOTTEN and is_below(subfolder, table.folder)
    ]


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


def _join_reports(reports: Sequence[IndexReport]) -> IndexReport:
    """Return the report of a run with what further runs did with captions."""
    read = [report.captions for report in reports if report.captions and report.captions.rows]
    return replace(
        reports[0],
        retold=sum(report.retold for report in reports),
        captions_removed=sum(report.captions_removed for report in reports),
        captions=reports[0].captions or (read[0] if read else None),
        seconds=sum(report.seconds for report in reports),
    )


def _join(root: bytes, folder: bytes) -> bytes:
    return root.rstrip(b"/") + b"/" + folder if folder else root
