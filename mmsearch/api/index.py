"""The half of an `Index` that is filled, and with it the whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mmsearch.api.damage import proves_damage
from mmsearch.api.keeping import StrPath, folder_bytes
from mmsearch.api.searching import SearchedIndex
from mmsearch.core.compatibility import bound_identity
from mmsearch.core.errors import UsageError
from mmsearch.core.io_errors import with_readable_os_errors
from mmsearch.core.records import Identity
from mmsearch.core.requests import (
    IndexReport,
    IndexRequest,
    Progress,
    ReindexReport,
)
from mmsearch.core.types import RECALL, FusionSpec, SearchGoals
from mmsearch.factories import catalogs
from mmsearch.factories.plugins import make_fusion, refuse_unknown_vector_index
from mmsearch.indexing.build import AUTO

WATCH_WAITS_S = 3600.0
"""A watcher waits for other writers of the index."""


@with_readable_os_errors
class Index(SearchedIndex):
    """One index. Not for use by several threads at once."""

    @proves_damage
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
        unsettled: frozenset[bytes] = frozenset(),
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
            unsettled: Absolute paths of files that are being written; they are left for later.
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
            unsettled=unsettled,
            folder=folder_bytes(folder),
            include=tuple(include),
            exclude=tuple(exclude),
            follow_symlinks=follow_symlinks,
            hidden=hidden,
            retry_failed=retry_failed,
            allow_empty=allow_empty,
            captions=None if captions is None else Path(os.fsdecode(captions)),
        )
        with (
            catalogs.writing(self._layout, wait_s, create=True) as catalog,
            make_indexer(
                self._layout, catalog, self._settings.with_flags(texts=texts), self._say, texts
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

        def run(unsettled: frozenset[bytes]) -> IndexReport:
            return self.add_folder(
                folder,
                include=include,
                exclude=exclude,
                hidden=hidden,
                unsettled=unsettled,
                wait_s=WATCH_WAITS_S,
            )

        return watch(
            folder_bytes(folder),
            run,
            own=self._layout.folder.parent.absolute(),
            settle_s=settle_s,
            poll=poll,
            say=self._say,
            stop=stop or threading.Event(),
        )

    @proves_damage
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

        with catalogs.writing(self._layout, wait_s, create=False) as catalog:
            bound = bound_identity(catalog)
            spec = FusionSpec(
                bound.fusion.name if fusion is None else fusion,
                bound.fusion.text_weight if text_weight is None else text_weight,
                bound.fusion.kind_weights if kind_weights is None else dict(kind_weights),
            )
            name = vector_index or bound.vector_index
            if model is not None:
                _refuse_both(bound, spec, name)
            with make_indexer(
                self._layout, catalog, self._settings, self._say, model=model
            ) as indexer:
                if model is not None:
                    return indexer.change_encoder(
                        drop_unreadable=drop_unreadable, progress=progress
                    )
                refuse_unknown_vector_index(name)
                return indexer.reindex(
                    make_fusion(spec),
                    name,
                    bound.goals,
                    encode_again=reencode,
                    progress=progress,
                )

    @proves_damage
    def optimize(
        self,
        *,
        recall: float = RECALL,
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
        _refuse_goals(goals)
        with catalogs.writing(self._layout, wait_s, create=False) as catalog:
            bound_identity(catalog)  # Refused before an encoder is chosen.
            with make_indexer(self._layout, catalog, self._settings, self._say) as indexer:
                return indexer.reindex(indexer.fusion, AUTO, goals, progress=progress)


def _refuse_both(bound: Identity, fusion: FusionSpec, vector_index: str) -> None:
    if (fusion, vector_index) != (bound.fusion, bound.vector_index):
        raise UsageError(
            "The encoder and the fusion or the vector index cannot be changed at once.",
            "Change the encoder first, and the rest in a second step.",
        )


def _refuse_goals(goals: SearchGoals) -> None:
    if not 0 < goals.recall <= 1:
        raise UsageError(
            f"The recall must be above 0 and at most 1, got {goals.recall:g}.",
            "Give one such as 0.95.",
        )
    for name, value in (("memory", goals.memory_mb), ("latency", goals.latency_ms)):
        if value is not None and not value > 0:
            raise UsageError(f"The {name} must be above 0, got {value:g}.", "Give a larger value.")
