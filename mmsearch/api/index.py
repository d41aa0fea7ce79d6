"""The public `Index` class."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mmsearch.api.damage import report_damage
from mmsearch.api.keeping import StrPath, resolve_folder
from mmsearch.api.searching import SearchableIndex
from mmsearch.core.compatibility import require_identity
from mmsearch.core.errors import UsageError
from mmsearch.core.io_errors import translate_method_os_errors
from mmsearch.core.records import Identity
from mmsearch.core.requests import (
    IndexReport,
    IndexRequest,
    Progress,
    ReindexReport,
)
from mmsearch.core.types import DEFAULT_RECALL, FusionSpec, SearchGoals
from mmsearch.factories import catalogs
from mmsearch.factories.plugins import check_vector_index_name, make_fusion
from mmsearch.indexing.build import AUTO

WRITER_WAIT_S = 3600.0
"""Seconds that a run of `Index.watch` waits for another writer."""


@translate_method_os_errors
class Index(SearchableIndex):
    """An index of pictures. Not thread-safe, except as `SearchableIndex.encode` says."""

    @report_damage
    def add_folder(
        self,
        folder: StrPath,
        *,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        follow_symlinks: bool = False,
        hidden: bool = False,
        retry_failed: bool = False,
        allow_empty: bool = False,
        captions: StrPath | None = None,
        texts: str | None = None,
        unstable_paths: frozenset[bytes] = frozenset(),
        wait_s: float = 0.0,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> IndexReport:
        """Bring the index up to date with a folder of pictures.

        Unchanged files are not opened, moved and copied files are not decoded, and deleted files
        are removed from the index. Work is committed every few seconds: after an interruption, the
        next call continues from the last commit.

        Args:
            folder: Folder to index, including its subfolders.
            include: Globs; only files that match one are indexed.
            exclude: Globs; files and folders that match one are left out.
            follow_symlinks: True to enter linked folders, each real folder once.
            hidden: True to include hidden files and folders.
            retry_failed: True to retry unchanged files that failed before.
            allow_empty: True to accept a folder that had pictures and now has none.
            captions: A table of captions: .csv, .tsv, .jsonl or .parquet with columns path and
                caption. A table is identified by its path, and its latest version counts: captions
                that are no longer in it are removed (`IndexReport.captions_removed`). Captions of
                other tables are kept. None leaves all captions unchanged.
            texts: Sources of the texts that are encoded: ``sidecar``, ``metadata``, ``table`` and
                ``filename``, joined by commas, or ``none``; default: those of the index.
            unstable_paths: Absolute paths of files that are being written; they are skipped until
                a later run.
            wait_s: Seconds to wait for another writer.
            progress: Called often with the progress, from several threads.

        Returns:
            A report of the run, with every file that could not be read.

        Raises:
            SourceError: The folder or the table of captions cannot be used.
            IndexLockedError: Another process is writing the index.
            EncoderMismatchError: The index was made with a different encoder.
            ModelUnavailableError: The weights of the encoder are not available.
        """
        from mmsearch.factories.indexing import make_indexer  # noqa: PLC0415 - searches never need it

        request = IndexRequest(
            unstable_paths=unstable_paths,
            folder=resolve_folder(folder),
            include=tuple(include),
            exclude=tuple(exclude),
            follow_symlinks=follow_symlinks,
            hidden=hidden,
            retry_failed=retry_failed,
            allow_empty=allow_empty,
            captions=None if captions is None else Path(os.fsdecode(captions)),
        )
        with (
            catalogs.open_write(self._layout, wait_s, create=True) as catalog,
            make_indexer(
                self._layout,
                catalog,
                self._settings.with_flags(texts=texts),
                self._on_message,
                texts,
            ) as indexer,
        ):
            return indexer.run(request, progress)

    def watch(
        self,
        folder: StrPath,
        *,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        hidden: bool = False,
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
            include: See `add_folder`.
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

        def run(unstable_paths: frozenset[bytes]) -> IndexReport:
            return self.add_folder(
                folder,
                include=include,
                exclude=exclude,
                hidden=hidden,
                unstable_paths=unstable_paths,
                wait_s=WRITER_WAIT_S,
            )

        return watch(
            resolve_folder(folder),
            run,
            index_home=self._layout.folder.parent.absolute(),
            settle_s=settle_s,
            poll=poll,
            on_message=self._on_message,
            stop=stop or threading.Event(),
        )

    @report_damage
    def reindex(
        self,
        *,
        fusion: str | None = None,
        text_weight: float | None = None,
        kind_weights: Mapping[str, float] | None = None,
        vector_index: str | None = None,
        reencode: bool = False,
        model: str | None = None,
        drop_unreadable: bool = False,
        wait_s: float = 0.0,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> ReindexReport:
        """Change the fusion, the vector index or the encoder of the index.

        No picture is decoded, unless the encoder changes or the fusion needs vectors that are not
        stored. Queries use the old state until the new one is complete.

        Args:
            fusion: ``image``, ``weighted``, ``concat`` or ``attention``; None to keep it.
            text_weight: Weight of a picture's texts, 0..1; None to keep it.
            kind_weights: Weight of each kind of text among the texts; None to keep them.
            vector_index: Name of a vector index; None to keep it.
            reencode: True to read every picture again if the fusion needs it.
            model: Name of a new encoder; every picture is read again. After an interruption, the
                next call continues.
            drop_unreadable: With ``model``, True to continue without pictures that cannot be read.
            wait_s: Seconds to wait for another writer.
            progress: Called often with the progress.

        Returns:
            A report of the changes.

        Raises:
            UnknownIndexError: The index does not exist.
            UsageError: A weight is out of range, the fusion needs ``reencode``, or ``model`` is
                combined with another fusion or vector index.
            StateError: The index is empty.
        """
        from mmsearch.factories.indexing import make_indexer  # noqa: PLC0415 - searches never need it

        with catalogs.open_write(self._layout, wait_s, create=False) as catalog:
            identity = require_identity(catalog)
            spec = FusionSpec(
                identity.fusion.name if fusion is None else fusion,
                identity.fusion.text_weight if text_weight is None else text_weight,
                identity.fusion.kind_weights if kind_weights is None else dict(kind_weights),
            )
            name = vector_index or identity.vector_index
            if model is not None:
                _reject_combined_change(identity, spec, name)
            with make_indexer(
                self._layout, catalog, self._settings, self._on_message, model=model
            ) as indexer:
                if model is not None:
                    return indexer.change_encoder(
                        drop_unreadable=drop_unreadable, progress=progress
                    )
                check_vector_index_name(name)
                return indexer.reindex(
                    make_fusion(spec),
                    name,
                    identity.goals,
                    allow_reencode=reencode,
                    progress=progress,
                )

    @report_damage
    def optimize(
        self,
        *,
        recall: float = DEFAULT_RECALL,
        memory_mb: float | None = None,
        latency_ms: float | None = None,
        wait_s: float = 0.0,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> ReindexReport:
        """Rebuild the vector index for a recall, memory or latency target.

        Later builds keep these targets. Small collections are searched exactly, large ones
        approximately. The parameters of an approximate index are tuned on one set of texts and
        measured on another (`ReindexReport.search`).

        Args:
            recall: Target recall@10 of an approximate search, above 0 and at most 1.
            memory_mb: Maximum megabytes that searches may keep in memory; None for no limit.
            latency_ms: Exact search is preferred if it takes at most this many milliseconds; None
                to decide by the size of the collection.
            wait_s: Seconds to wait for another writer.
            progress: Called often with the progress.

        Returns:
            A report of the build.

        Raises:
            UnknownIndexError: The index does not exist.
            UsageError: A target is out of range.
            StateError: The index is empty.
        """
        from mmsearch.factories.indexing import make_indexer  # noqa: PLC0415 - searches never need it

        goals = SearchGoals(recall, memory_mb, latency_ms)
        _check_goals(goals)
        with catalogs.open_write(self._layout, wait_s, create=False) as catalog:
            require_identity(catalog)  # Fail before an encoder is chosen.
            with make_indexer(self._layout, catalog, self._settings, self._on_message) as indexer:
                return indexer.reindex(indexer.fusion, AUTO, goals, progress=progress)


def _reject_combined_change(identity: Identity, fusion: FusionSpec, vector_index: str) -> None:
    if (fusion, vector_index) != (identity.fusion, identity.vector_index):
        raise UsageError(
            "The encoder cannot be changed together with the fusion or the vector index.",
            "Change the encoder first, and the rest in a second step.",
        )


def _check_goals(goals: SearchGoals) -> None:
    if not 0 < goals.recall <= 1:
        raise UsageError(
            f"The recall must be above 0 and at most 1, got {goals.recall:g}.",
            "Use a value such as 0.95.",
        )
    for name, value in (("memory", goals.memory_mb), ("latency", goals.latency_ms)):
        if value is not None and not value > 0:
            raise UsageError(f"The {name} must be above 0, got {value:g}.", "Use a larger value.")
