"""plan -> encode -> commit -> build -> publish. Safe to kill and to run again at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mmsearch.core.catalog import Catalog
from mmsearch.core.compatibility import bound_identity, check_encoder, no_pictures
from mmsearch.core.display import display_path
from mmsearch.core.errors import StateError, UsageError
from mmsearch.core.protocols import Encoder, Executor, Fusion, Walk
from mmsearch.core.records import BuiltIndex, FailedFile, Identity, StoredPicture
from mmsearch.core.requests import IndexReport, IndexRequest, Progress, ReindexReport
from mmsearch.core.types import SearchGoals, TextSource
from mmsearch.indexing.background_build import Merge
from mmsearch.indexing.build import ALWAYS_MERGED, IndexBuilder, Stopped, is_due
from mmsearch.indexing.decode import MakeDecoder
from mmsearch.indexing.encode import PAGE, ShardEncoder
from mmsearch.indexing.reencode import reencode
from mmsearch.indexing.refresh_texts import retell
from mmsearch.indexing.run import FolderRun
from mmsearch.indexing.staging import adopt_staged, stage_encodings
from mmsearch.indexing.text_collector import FileTexts
from mmsearch.indexing.text_encoder import TextEncoder
from mmsearch.storage.layout import IndexLayout


@dataclass(frozen=True)
class Indexer:
    """Brings an index up to date with a folder. The caller holds the writer's lock.

    Attributes:
        layout: Where the index is.
        catalog: Open for writing.
        encoder: Must be the index's own.
        fusion: Must be the index's own.
        vector_index: Of a new index; see `Identity.vector_index`.
        builder: Builds the vector index at the end.
        sources: Where texts that get a vector come from.
        walk: Lists the files of a request.
        find_texts: Finds the texts of the files of a request.
        make_decoder: Makes decode workers.
        decode: Runs them.
        shards: Runs shard workers.
        hashing: Runs the readers that compute digests.
    """

    layout: IndexLayout
    catalog: Catalog
    encoder: Encoder
    fusion: Fusion
    vector_index: str
    builder: IndexBuilder
    sources: tuple[TextSource, ...]
    walk: Callable[[IndexRequest], Walk]
    find_texts: Callable[[IndexRequest], FileTexts]
    make_decoder: MakeDecoder
    decode: Executor
    shards: Executor
    hashing: Executor

    def run(
        self, request: IndexRequest, progress: Callable[[Progress], None] = lambda state: None
    ) -> IndexReport:
        """Index what is new or changed below a folder, and forget what is gone.

        Args:
            request: The folder and how to walk it.
            progress: Called often, from several threads.

        Returns:
            What was done.

        Raises:
            EncoderMismatchError: The index belongs to another encoder.
            SourceError: The folder had pictures and has none now, or the table of captions cannot
                be read.
        """
        texts = self.find_texts(request)
        self._bind()
        self.layout.remove_orphans(self.catalog.referenced_files())
        run_id = self.catalog.begin_run()
        merge = Merge(self._prepare_merge)
        run = FolderRun(
            request,
            self.catalog,
            walk=self.walk,
            hashing=self.hashing,
            shards=self.shards,
            make_shard_encoder=lambda on_encoded: self._shard_encoder(self.fusion, on_encoded),
            texts=texts,
            progress=progress,
            before_encoding=merge.begin,
        )
        outcome = "failed"
        retold = 0
        try:
            run.carry_out()
            merged = merge.finish()
            if merged is not None:
                self.catalog.publish(merged)
            progress(run.tally.state("texts"))
            retold = self._retell()
            run.remember(changed=retold > 0)
            progress(run.tally.state("build"))
            self.publish()
            outcome = "finished"
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            merge.give_up()
            counts = {**run.tally.counts(), "retold": retold}
            self.catalog.finish_run(run_id, outcome, counts)
        return replace(run.tally.report(), retold=retold)

    def publish(self) -> None:
        """Build the vector index anew if the present one lacks so many vectors that it pays."""
        with self.catalog.snapshot() as snapshot:
            held = snapshot.built.rows if snapshot.built else 0
            added = sum(segment.rows for segment in snapshot.tail)
        if is_due(held, added):
            self._publish(self.fusion)

    def _prepare_merge(self) -> Callable[[Stopped], BuiltIndex] | None:
        """What builds the index anew of all there is now, if some of it waits beside it."""
        with self.catalog.snapshot() as snapshot:
            waiting = sum(segment.rows for segment in snapshot.tail)
            held = snapshot.built.rows if snapshot.built else 0
        bound = self.catalog.identity()
        if bound is None or not waiting or held + waiting <= ALWAYS_MERGED:
            return None
        segments, left_out = self.catalog.segments(), self.catalog.superseded()
        return self.builder.prepared(segments, self.fusion, bound, left_out)

    def reindex(
        self,
        fusion: Fusion,
        vector_index: str,
        goals: SearchGoals,
        *,
        encode_again: bool = False,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> ReindexReport:
        """Fuse stored vectors otherwise and build the vector index anew; readers see it at once.

        Args:
            fusion: The new one.
            vector_index: See `Identity.vector_index`.
            goals: What searches shall be like.
            encode_again: Decode and encode every picture, if the fusion needs what is not stored.
            progress: Called often.

        Raises:
            UsageError: The fusion needs what is not stored, and ``encode_again`` is not set.
            StateError: There is nothing to fuse.
        """
        began = time.monotonic()
        bound = bound_identity(self.catalog)
        if not self.catalog.segments():
            raise no_pictures()
        failed: list[FailedFile] = []
        lacking = fusion.needs_parts and bound.fusion.name != fusion.spec.name
        if lacking and not encode_again:
            raise UsageError(
                f"The fusion {fusion.spec.name!r} looks at parts of pictures and words of texts,"
                " which an index does not keep.",
                "Add --reencode: every picture is then read once more.",
            )
        self.layout.remove_orphans(self.catalog.referenced_files())
        if lacking:
            failed = self._reencode_all(fusion, progress)
        progress(Progress("build", 0, None))
        identity = replace(bound, fusion=fusion.spec, vector_index=vector_index, goals=goals)
        built = self._publish(fusion, identity)
        with self.catalog.snapshot() as snapshot:
            pictures = snapshot.pictures
        return ReindexReport(
            pictures,
            fusion.spec,
            built.spec_name,
            lacking,
            tuple(failed),
            time.monotonic() - began,
            built.settings,
        )

    def change_encoder(
        self,
        *,
        drop_unreadable: bool = False,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> ReindexReport:
        """Encode every picture with this indexer's encoder, which is not the index's own.

        What is done is kept when this is interrupted, and the next call goes on from there. Readers
        find the index as it was until all of it is done.

        Args:
            drop_unreadable: Go on without the pictures that cannot be read now.
            progress: Called often.

        Raises:
            StateError: There are no pictures, or some cannot be read.
        """
        began = time.monotonic()
        bound = bound_identity(self.catalog)
        self.layout.remove_orphans(self.catalog.referenced_files())
        encode = self._shard_encoder(self.fusion)
        failed = stage_encodings(self.catalog, encode, self.encoder.spec, progress)
        if failed and not drop_unreadable:
            first = next(iter(failed.values()))
            raise StateError(
                f"{len(failed):,} pictures cannot be read now, such as {display_path(first.path)}:"
                f" {first.reason}.",
                "The index stays as it was. Run 'mmsearch index' on the folder first, mount what is"
                " not mounted, or add --drop-unreadable to go on without them.",
            )
        progress(Progress("build", 0, None))
        identity = replace(bound, encoder=self.encoder.spec, fusion=self.fusion.spec)
        adopt_staged(
            self.layout,
            self.catalog,
            self.fusion,
            self.builder,
            identity,
            {number: file.reason for number, file in failed.items()},
        )
        with self.catalog.snapshot() as snapshot:
            pictures = snapshot.pictures
            built = snapshot.built
        return ReindexReport(
            pictures,
            self.fusion.spec,
            built.spec_name if built else bound.vector_index,
            reencoded=True,
            failed=tuple(failed.values()),
            seconds=time.monotonic() - began,
        )

    def encode_again(self, pages: Iterable[Sequence[StoredPicture]]) -> list[FailedFile]:
        """Make the vectors of pictures anew; each page is committed. See `reencode`."""
        return reencode(self.catalog, self._shard_encoder(self.fusion), pages)

    def _publish(self, fusion: Fusion, identity: Identity | None = None) -> BuiltIndex:
        bound = identity or self.catalog.identity()
        if bound is None:
            raise ValueError("an index without an identity has nothing to build from")
        built = self.builder.build(
            self.catalog.segments(), fusion, bound, self.catalog.superseded()
        )
        self.catalog.publish(built, identity)
        return built

    def _shard_encoder(
        self, fusion: Fusion, on_encoded: Callable[[int], None] = lambda count: None
    ) -> ShardEncoder:
        texts = TextEncoder(self.encoder, fusion, self.sources)
        return ShardEncoder(
            self.layout, self.encoder, texts, self.decode, self.make_decoder, on_encoded
        )

    def _retell(self) -> int:
        """Renew the vectors of texts that have changed; returns of how many pictures."""
        count = 0
        if self.fusion.needs_parts:
            encode = self._shard_encoder(self.fusion)
            while page := self.catalog.retold(PAGE):
                if reencode(self.catalog, encode, [page]):
                    break  # Files that cannot be read now: their pictures stay in the page.
                count += len(page)
        texts = TextEncoder(self.encoder, self.fusion, self.sources)
        return count + retell(self.layout, self.catalog, texts)

    def _reencode_all(
        self, fusion: Fusion, progress: Callable[[Progress], None]
    ) -> list[FailedFile]:
        with self.catalog.snapshot() as snapshot:
            total = snapshot.pictures
        last = self.catalog.next_numbers()[0]

        def pages() -> Iterator[list[StoredPicture]]:
            after = done = 0
            while page := self.catalog.living(after, PAGE):
                # What this run has encoded itself has higher ids.
                page = [item for item in page if item.id < last]
                if not page:
                    return
                yield page
                after, done = page[-1].id, done + len(page)
                progress(Progress("encode", done, total, done))

        return reencode(self.catalog, self._shard_encoder(fusion), pages())

    def _bind(self) -> None:
        bound = self.catalog.identity()
        identity = Identity(self.encoder.spec, self.fusion.spec, self.vector_index, self.sources)
        if bound is None:
            self.catalog.bind(identity)
            return
        check_encoder(bound, self.encoder)
        if bound.texts != self.sources:
            self.catalog.bind(replace(bound, texts=self.sources))
