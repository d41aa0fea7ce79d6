"""The half of an `Index` that is filled, and with it the whole."""

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
"""A watcher waits for other writers of the index."""


@translate_method_os_errors
class Index(SearchableIndex):
    """One index. Not for use by several threads at once."""

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

        Unchanged files are not opened, moved and copied ones not decoded, vanished ones forgotten.
        Work is committed every few seconds: after an interruption the next call goes on from there.

        Args:
            folder: With all that lies below it.
            include: Globs; only files that match one are taken.
            exclude: Globs; files and folders that match one are left out.
            follow_symlinks: Enter linked folders, each real folder once.
            hidden: Take hidden files and folders too.
            retry_failed: Read files again that failed, though they have not changed.
            allow_empty: Accept that a folder that had pictures has none now.
            captions: A table of captions: .csv, .tsv, .jsonl or .parquet with columns path and
                caption. The latest version of a table, which is known by its path, counts: captions
                that it gave before and gives no more are removed (`IndexReport.captions_removed`).
                Captions of other tables stay; None leaves all as they are.
            texts: Where texts that get a vector come from: ``sidecar``, ``metadata``, ``table`` and
                ``filename``, joined by commas, or ``none``; default as the index has it.
            unstable_paths: Absolute paths of files that are being written; they are left for later.
            wait_s: How long to wait for another writer, in seconds.
            progress: Called often, from several threads.

        Returns:
            What was done, with every file that could not be read.

        Raises:
            SourceError: The folder or the table of captions cannot be used.
            IndexLockedError: Another process is writing the index.
            EncoderMismatchError: The index belongs to another encoder.
            ModelUnavailableError: The encoder's weights cannot be had.
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
        """Keep the index up to date with a folder: a report for each run, until ``stop`` is set.

        A run begins when what has changed has come to rest; files that are still being written are
        left for the next one. If the folder vanishes, as a drive that is unplugged does, nothing is
        forgotten: it is waited for.

        Args:
            folder: As `add_folder` takes it.
            include: As `add_folder` takes it.
            exclude: As `add_folder` takes it.
            hidden: As `add_folder` takes it.
            settle_s: A file is at rest when it has not changed for so many seconds.
            poll: Look at all files again and again, for file systems that report no changes.
            stop: Ends it; without, it goes on for ever.

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
        """Fuse the stored vectors otherwise, or build another vector index of them.

        No picture is decoded, unless the fusion needs what is not stored. Queries find the index as
        it was until the new one is complete.

        Args:
            fusion: ``image``, ``weighted``, ``concat`` or ``attention``; default as it is.
            text_weight: Share of a picture's texts, 0..1; default as it is.
            kind_weights: How much each kind of text counts among the texts; default as it is.
            vector_index: Name of a vector index; default as it is.
            reencode: Read every picture once more, if the fusion needs it.
            model: Another encoder: every picture is read once more. When that is interrupted, the
                next call goes on from there.
            drop_unreadable: With ``model``: go on without pictures that cannot be read now.
            wait_s: How long to wait for another writer, in seconds.
            progress: Called often.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            UsageError: A weight out of range, or the fusion needs ``reencode``.
            StateError: It holds no pictures.
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
        """Build the vector index anew, as suits the collection and what searches shall be like.

        Later builds keep to it. Small collections are searched exactly; large ones approximately,
        with settings that are tuned on texts, and measured on others (`ReindexReport.search`).

        Args:
            recall: Share of the ten nearest that an approximate search shall find.
            memory_mb: Megabytes that searches may keep in memory; default: as they come.
            latency_ms: Where exact search takes no longer, it is preferred to an approximate one.
            wait_s: How long to wait for another writer, in seconds.
            progress: Called often.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            UsageError: A goal is out of range.
            StateError: It holds no pictures.
        """
        from mmsearch.factories.indexing import make_indexer  # noqa: PLC0415 - searches never need it

        goals = SearchGoals(recall, memory_mb, latency_ms)
        _check_goals(goals)
        with catalogs.open_write(self._layout, wait_s, create=False) as catalog:
            require_identity(catalog)  # Refused before an encoder is chosen.
            with make_indexer(self._layout, catalog, self._settings, self._on_message) as indexer:
                return indexer.reindex(indexer.fusion, AUTO, goals, progress=progress)


def _reject_combined_change(identity: Identity, fusion: FusionSpec, vector_index: str) -> None:
    if (fusion, vector_index) != (identity.fusion, identity.vector_index):
        raise UsageError(
            "The encoder and the fusion or the vector index cannot be changed at once.",
            "Change the encoder first, and the rest in a second step.",
        )


def _check_goals(goals: SearchGoals) -> None:
    if not 0 < goals.recall <= 1:
        raise UsageError(
            f"The recall must be above 0 and at most 1, got {goals.recall:g}.",
            "Give one such as 0.95.",
        )
    for name, value in (("memory", goals.memory_mb), ("latency", goals.latency_ms)):
        if value is not None and not value > 0:
            raise UsageError(f"The {name} must be above 0, got {value:g}.", "Give a larger value.")
