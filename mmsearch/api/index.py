"""The public `Index` class."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch.api._duplicates import IndexDuplicates
from mmsearch.api._facets import IndexFacets
from mmsearch.api._items import IndexItems
from mmsearch.api._log import log_captions
from mmsearch.api._model_tasks import IndexModelTasks
from mmsearch.api._search import IndexSearch
from mmsearch.api._session import translate_errors
from mmsearch.api._suggestions import IndexSuggestions
from mmsearch.api.parsing import is_folder, resolve_folder
from mmsearch.api.progress import ProgressOption, open_progress
from mmsearch.core.arguments import (
    DescribeValues,
    StrPath,
    Texts,
    check_value,
    to_texts,
)
from mmsearch.core.errors import (
    MissingExtraError,
    MMSearchError,
    SourceError,
    StorageError,
)
from mmsearch.core.records import FOLDER_KIND
from mmsearch.core.results import Hit

if TYPE_CHECKING:
    from mmsearch.core.reports import IndexReport

WRITER_WAIT_S = 3600.0
"""Seconds that a run of `Index.watch` waits for another writer."""


@translate_errors
class Index(
    IndexSearch, IndexFacets, IndexSuggestions, IndexDuplicates, IndexItems, IndexModelTasks
):
    """An index of pictures.

    Many threads may use one `Index`, and search it while a thread adds pictures. `close` waits for
    the calls that are running.
    """

    def _thumbnail(self, hit: Hit, edge_px: int) -> bytes | None:
        return self.thumbnail(hit, edge_px)

    # --- indexing ---

    def add_folder(
        self,
        folder: StrPath,
        *,
        include: Texts | None = None,
        exclude: Texts | None = None,
        follow_symlinks: bool | None = None,
        hidden: bool | None = None,
        retry_failed: bool = False,
        allow_empty: bool = False,
        verify: bool = False,
        captions: StrPath | None = None,
        describe: DescribeValues | None = None,
        reset: Texts = (),
        texts: str | None = None,
        unstable_paths: frozenset[bytes] = frozenset(),
        wait_s: float = 0.0,
        progress: ProgressOption = False,
    ) -> IndexReport:
        """Bring the index up to date with a folder of pictures.

        Unchanged files are not opened, moved and copied files are not decoded, and deleted files
        are removed from the index. Work is committed every few seconds: after an interruption, the
        next call continues from the last commit.

        The index keeps the choices ``include``, ``exclude``, ``follow_symlinks``, ``hidden``,
        ``captions`` and ``describe`` with the folder. They hold for later runs and for folders
        below it, up to one that is given that choice itself; None keeps them. Pictures that they
        leave out now are removed from the index (`IndexReport.left_out`); their vectors are used
        again if they come back.

        Args:
            folder: Folder to index, including its subfolders.
            include: Globs; only files that match one are indexed.
            exclude: Globs; files and folders that match one are left out.
            follow_symlinks: True to enter linked folders, each real folder once.
            hidden: True to include hidden files and folders.
            retry_failed: True to retry unchanged files that failed before.
            allow_empty: True to accept a folder that had pictures and now has none.
            verify: True to read every file, even if its size and times are as before
                (`IndexReport.unnoticed`).
            captions: A table of captions: .csv, .tsv, .json, .jsonl or .parquet with columns path
                and caption. A table is identified by its path, and its latest version counts:
                captions that are no longer in it are removed (`IndexReport.captions_removed`).
                Captions of other tables are kept. Later runs read the table again if it has
                changed, and look for captions of new pictures in it.
            describe: Enrichers that make texts of the pictures once they can be found; see the
                method `describe`. Names, or a mapping of names to options, such as
                ``{"tags": {"vocabulary": "tags.txt"}}``; ``"none"`` for none. This run and later
                ones do what is missing (`IndexReport.described`), and an error of an enricher is
                no error of a run.
            reset: Names of choices to set back to the default, such as ``"exclude"``; with
                ``"captions"``, the tables and their captions are forgotten.
            texts: Sources of the texts that are encoded: ``sidecar``, ``metadata``, ``table``,
                ``filename`` and ``document`` (the words of pages), joined by commas, or ``none``;
                default: those of the index.
            unstable_paths: Absolute paths of files that are being written; they are skipped until
                a later run.
            wait_s: Seconds to wait for another writer.
            progress: True for a progress bar, or a callable, which is called often with the
                progress, from several threads.

        Returns:
            A report of the run, with every file that could not be read and, in
            `IndexReport.captions`, how many rows of the table of captions matched a picture. The
            logger ``mmsearch`` gets the latter, too.

        Raises:
            SourceError: The folder, the table of captions or the vocabulary cannot be used.
            UnknownNameError: There is no such enricher.
            MissingExtraError: The extra of an enricher in ``describe`` is not installed.
            IndexLockedError: Another process is writing the index.
            EncoderMismatchError: The index was made with a different encoder.
            ModelUnavailableError: The weights of the encoder are not available.
        """
        from mmsearch.maintenance.folders import FolderRun, add_folder  # noqa: PLC0415 - not searches

        values = {
            "include": None if include is None else to_texts(include),
            "exclude": None if exclude is None else to_texts(exclude),
            "follow_symlinks": follow_symlinks,
            "hidden": hidden,
            "describe": describe,
        }
        run = FolderRun(
            resolve_folder(folder),
            {name: value for name, value in values.items() if value is not None},
            None if captions is None else Path(os.fsdecode(captions)),
            to_texts(reset),
            retry_failed=retry_failed,
            allow_empty=allow_empty,
            verify=verify,
            unstable_paths=unstable_paths,
        )
        with open_progress(progress) as on_progress:
            report = add_folder(
                self._layout, self._settings, self._on_message, run, texts, wait_s, on_progress
            )
        if report.captions is not None:
            log_captions(report.captions)
        return report

    def add_source(
        self,
        uri: StrPath,
        *,
        kind: str | None = None,
        name: str | None = None,
        refresh: bool = True,
        reset: Texts = (),
        retry_failed: bool = False,
        wait_s: float = 0.0,
        progress: ProgressOption = False,
        **choices: Any,
    ) -> IndexReport:
        """Bring the index up to date with a source, which is added if it is new.

        Parts of a source that have not changed, such as tars, are passed; known contents are not
        decoded. Pictures that are gone from the source are removed from the index. The index keeps
        the choices for later runs, and a thumbnail of each picture.

        Args:
            uri: A folder (see `add_folder`), a zip or tar, several of them
                (``{00000..00999}.tar``), a table of paths or URLs (.csv, .jsonl, .parquet), a store
                that fsspec opens (``s3://bucket/pictures``), or a data set of Hugging Face on disk.
            kind: ``archive``, ``table``, ``remote`` or ``dataset``; default: guessed from the URI.
            name: Name of a new source, for `remove_source` and `refresh`.
            refresh: False to add the source only; `refresh` indexes it later.
            reset: Names of choices to set back to the default.
            retry_failed: True to retry unchanged items that failed before.
            wait_s: Seconds to wait for another writer.
            progress: See `add_folder`.
            **choices: Choices of the kind, such as ``url_column`` of a table; each replaces the one
                of the last run. Every kind takes ``describe``; see `add_folder`.

        Returns:
            A report of the run, with every item that could not be read.

        Raises:
            SourceError: The source cannot be used.
            UsageError: A choice is unknown or not valid, or, with ``refresh=False``, the index has
                the source.
            IndexLockedError: Another process is writing the index.
            MissingExtraError: A library is not installed.
        """
        from mmsearch.maintenance.sources import add_source, register_source  # noqa: PLC0415

        raw_uri = os.fsencode(check_value("uri", uri, "StrPath"))
        is_of_files = kind in (None, FOLDER_KIND) and is_folder(raw_uri)
        if is_of_files:
            resolve_folder(raw_uri)
        if not refresh or (is_of_files and name is not None):
            register_source(
                self._layout,
                self._settings,
                raw_uri,
                kind=kind,
                name=name,
                choices=choices,
                wait_s=wait_s,
            )
        if not refresh:
            from mmsearch.core.reports import NOTHING_DONE  # noqa: PLC0415 - searches never need it

            return NOTHING_DONE
        if is_of_files:
            return self.add_folder(
                uri,
                reset=reset,
                retry_failed=retry_failed,
                wait_s=wait_s,
                progress=progress,
                **choices,
            )
        with open_progress(progress) as on_progress:
            return add_source(
                self._layout,
                self._settings,
                self._on_message,
                raw_uri,
                kind=kind,
                name=name,
                choices=choices,
                reset=to_texts(reset),
                retry_failed=retry_failed,
                wait_s=wait_s,
                progress=on_progress,
            )

    def refresh(
        self,
        names: Texts = (),
        *,
        retry_failed: bool = False,
        verify: bool = False,
        wait_s: float = 0.0,
        progress: ProgressOption = False,
    ) -> dict[str, IndexReport | MMSearchError]:
        """Bring the index up to date with its sources, with the choices that it keeps.

        Args:
            names: Names of sources; default: all but pictures that a program added.
            retry_failed: See `add_folder`.
            verify: See `add_folder`; for folders.
            wait_s: See `add_folder`.
            progress: See `add_folder`.

        Returns:
            The report of each source by name; the error of one that cannot be read now, whose
            pictures stay.

        Raises:
            UnknownIndexError: The index does not exist.
            UnknownNameError: There is no source with one of the names.
            UsageError: There is no source, or a program added its pictures.
            IndexLockedError: Another process is writing the index.
        """
        from mmsearch.core.source_lookup import choose_sources  # noqa: PLC0415 - not searches

        reports: dict[str, IndexReport | MMSearchError] = {}
        with self._session.catalog() as catalog:
            known = catalog.sources()
        for source in choose_sources(known, to_texts(names)):
            try:
                if source.kind == FOLDER_KIND:
                    reports[source.name] = self.add_folder(
                        source.uri,
                        retry_failed=retry_failed,
                        verify=verify,
                        wait_s=wait_s,
                        progress=progress,
                    )
                else:
                    reports[source.name] = self.add_source(
                        source.uri,
                        kind=source.kind,
                        retry_failed=retry_failed,
                        wait_s=wait_s,
                        progress=progress,
                    )
            except (SourceError, StorageError, MissingExtraError) as error:
                reports[source.name] = error
        return reports

    def watch(
        self,
        folder: StrPath,
        *,
        include: Texts | None = None,
        exclude: Texts | None = None,
        hidden: bool | None = None,
        settle_s: float = 2.0,
        poll: bool = False,
        stop: threading.Event | None = None,
    ) -> Iterator[IndexReport]:
        """Keep the index up to date with a folder until ``stop`` is set.

        A run starts when the changed files are stable; files that are still being written are left
        for the next run. If the folder disappears, for example because a drive is unplugged, the
        index keeps its pictures and the watch waits for the folder.

        Args:
            folder: See `add_folder`.
            include: See `add_folder`; the choices hold from the first run on.
            exclude: See `add_folder`.
            hidden: See `add_folder`.
            settle_s: Seconds without a change after which a file is stable.
            poll: True to poll all files, for file systems that do not report changes.
            stop: Event that ends the watch; None to watch without end.

        Returns:
            An iterator that yields the report of each run.

        Raises:
            SourceError: The folder does not exist.
        """
        from mmsearch.api.watch import watch  # noqa: PLC0415 - nothing else needs watchfiles

        # The index keeps the choices of the first run, and they may be changed during the watch.
        given: dict[str, Any] = {"include": include, "exclude": exclude, "hidden": hidden}

        def run(unstable_paths: frozenset[bytes]) -> IndexReport:
            report = self.add_folder(
                folder, **given, unstable_paths=unstable_paths, wait_s=WRITER_WAIT_S
            )
            given.clear()
            return report

        return watch(
            resolve_folder(folder),
            run,
            index_home=self._layout.folder.parent.absolute(),
            settle_s=settle_s,
            poll=poll,
            on_message=self._on_message,
            stop=stop or threading.Event(),
        )
