"""Indexing pipeline: plan, encode, commit, build, publish.

The process may be killed at any time and run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from mmsearch.core.catalog import PUBLISHING, CatalogWriter
from mmsearch.core.display import display_path
from mmsearch.core.errors import Hint, IndexLockedError, StateError, UsageError
from mmsearch.core.identity import Identity, check_encoder, empty_index_error, require_identity
from mmsearch.core.protocols import DerivedEncoder, Encoder, Executor, Fusion, Walk
from mmsearch.core.records import BuiltVectorIndex, SourceRecord
from mmsearch.core.reports import IndexReport, ReindexReport
from mmsearch.core.results import IndexRequest, Progress
from mmsearch.core.sources import Source
from mmsearch.core.types import SearchGoals, TextSource, collected_sources
from mmsearch.indexing.build import (
    REBUILD_BELOW,
    SMALL_ADDITION_ROWS,
    BackgroundBuild,
    IndexBuilder,
    ShouldStop,
    is_due,
)
from mmsearch.indexing.commit import ShardSizer
from mmsearch.indexing.duplicates import update_duplicates
from mmsearch.indexing.encode import REENCODE_PAGE_SIZE, DecoderFactory, ShardEncoder, share_worker
from mmsearch.indexing.file_reader import FileReaders
from mmsearch.indexing.hashes import HasherFactory, add_missing_hashes
from mmsearch.indexing.orphans import remove_unused_files
from mmsearch.indexing.run import IndexRun
from mmsearch.indexing.spaces import (
    COPY_PAGE_SIZE,
    DERIVE_PAGE_SIZE,
    TEXT_PAGE_SIZE,
    SpaceUpdate,
    activate_space,
    copy_page,
    decode_page,
    derive_page,
    text_page,
    update_space,
)
from mmsearch.indexing.texts import TextCollector, TextEncoder
from mmsearch.modalities._contents import Recall
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stored_files import open_store

if TYPE_CHECKING:
    from mmsearch.indexing.source_run import SourceRun


@dataclass(frozen=True)
class Indexer:
    """Indexer that brings an index up to date with a folder. The caller holds the writer lock.

    Attributes:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        encoder: The index's encoder.
        fusion: The index's fusion.
        vector_index: Vector index of a new index; see `Identity.vector_index`.
        builder: Builds the vector index at the end.
        sources: Sources of the texts that are encoded.
        walk: Lists the files of a request; see `mmsearch.modalities._folder.walk`.
        make_text_collector: Returns the text collector of a request.
        make_worker: Creates shard workers in other processes, from plain values.
        make_decoder: Creates decode workers.
        load_item: Returns the content of an item by kind and URI of its source, key and digest.
        decode_executor: Runs decode workers.
        shard_executor: Runs shard workers.
        hash_executor: Runs the tasks that read files and compute their digests.
        readers: Workers on other hosts that read the files of folders; None for this one.
        make_sizer: Chooses the sizes of the shards of a run.
    """

    layout: IndexLayout
    catalog: CatalogWriter
    encoder: Encoder
    fusion: Fusion
    vector_index: str
    builder: IndexBuilder
    sources: tuple[TextSource, ...]
    walk: Callable[[IndexRequest, Recall], Walk]
    make_text_collector: Callable[[IndexRequest], TextCollector]
    make_worker: Callable[[], ShardEncoder]
    make_decoder: DecoderFactory
    load_item: Callable[[str, bytes, bytes, bytes], bytes]
    decode_executor: Executor
    shard_executor: Executor
    hash_executor: Executor
    readers: FileReaders | None = None
    make_sizer: Callable[[], ShardSizer] = ShardSizer

    def run(
        self,
        request: IndexRequest,
        progress: Callable[[Progress], None] = lambda state: None,
        before_changes: Callable[[], None] = lambda: None,
    ) -> IndexReport:
        """Index new and changed files below a folder, and remove deleted ones.

        Args:
            request: The folder and how to walk it.
            progress: Called often, from several threads.
            before_changes: Called once the folder has been listed, before files are written.

        Returns:
            The report of the run.

        Raises:
            EncoderMismatchError: The index was built with another encoder.
            SourceError: The folder had pictures and has none now, or the caption table cannot be
                read.
        """
        texts = self.make_text_collector(request)
        self._ensure_identity()
        background_build = BackgroundBuild(self._prepare_background_build)
        run = IndexRun(
            request,
            self.catalog,
            walk=self.walk,
            hash_executor=self.hash_executor,
            shard_executor=self.shard_executor,
            make_worker=self.make_worker,
            texts=texts,
            progress=progress,
            before_encoding=background_build.start,
            before_changes=before_changes,
            max_items=self.make_decoder.max_items,
            readers=self.readers,
            sizer=self.make_sizer(),
        )
        report = self._execute(
            run,
            background_build,
            progress,
            lambda texts_changed: run.save_folder_state(changed=texts_changed),
        )
        captions = texts.captions.report if texts.captions is not None else None
        return replace(report, captions=captions)

    def run_source(
        self,
        source: Source,
        record: SourceRecord,
        *,
        retry_failed: bool = False,
        is_partial: bool = False,
        on_content: Callable[[bytes, bytes], None] = lambda digest, content: None,
        on_replaced: Callable[[bytes], None] = lambda digest: None,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> IndexReport:
        """Index the new and changed items of a source, and remove those that are gone.

        Args:
            source: The source.
            record: What the catalog knows of it.
            retry_failed: Try unchanged items again that failed before.
            is_partial: True if the source yields only some of its items: others are not gone.
            on_content: See `SourceRun`.
            on_replaced: See `SourceRun`.
            progress: Called often, from several threads.

        Returns:
            The report of the run.

        Raises:
            EncoderMismatchError: The index was built with another encoder.
            SourceError: The source cannot be listed.
        """
        from mmsearch.indexing.source_run import SourceRun  # noqa: PLC0415 - folders do not need it

        self._ensure_identity()
        background_build = BackgroundBuild(self._prepare_background_build)
        run = SourceRun(
            source,
            record,
            self.catalog,
            shard_executor=self.shard_executor,
            make_worker=self.make_worker,
            text_sources=collected_sources(self.sources),
            retry_failed=retry_failed,
            is_partial=is_partial,
            on_content=on_content,
            on_replaced=on_replaced,
            progress=progress,
            before_encoding=background_build.start,
            max_items=self.make_decoder.max_items,
            sizer=self.make_sizer(),
        )
        return self._execute(run, background_build, progress, is_addition=is_partial)

    def _execute(
        self,
        run: IndexRun | SourceRun,
        background_build: BackgroundBuild,
        progress: Callable[[Progress], None],
        on_texts_refreshed: Callable[[bool], None] = lambda texts_changed: None,
        *,
        is_addition: bool = False,
    ) -> IndexReport:
        """Execute a run, encode changed texts, and publish a vector index if it is due."""
        remove_unused_files(self.layout, self.catalog)
        run_id = self.catalog.begin_run()
        outcome = "failed"
        retold = 0
        try:
            worker = self._shard_encoder(self.fusion, run.count_encoded)
            with share_worker(self.make_worker, worker):
                run.execute()
            built = background_build.wait()
            # One run after another: the last one covers all that is committed.
            with self.catalog.one_at_a_time(
                PUBLISHING, lambda: progress(Progress("wait", 0, None))
            ):
                if built is not None:
                    self._publish_built(built)
                progress(run.stats.progress("texts"))
                retold = self._refresh_text_vectors()
                on_texts_refreshed(retold > 0)
                progress(run.stats.progress("build"))
                self.publish(is_small=is_addition and run.stats.encoded <= SMALL_ADDITION_ROWS)
                if not is_addition:
                    make_hasher = HasherFactory(
                        self.make_decoder.modalities, self.make_decoder.prepare.edge_px
                    )
                    add_missing_hashes(
                        self.layout,
                        self.catalog,
                        run.source_id,
                        self.decode_executor,
                        make_hasher,
                        progress,
                    )
                update_duplicates(
                    self.layout,
                    self.catalog,
                    may_wait=is_addition,
                    on_start=lambda: progress(run.stats.progress("duplicates")),
                )
            outcome = "finished"
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            background_build.cancel()
            counts = {**run.stats.counts(), "retold": retold}
            self.catalog.finish_run(run_id, outcome, counts, run.source_id)
        return replace(run.stats.report(), retold=retold)

    def publish(self, *, is_small: bool = False) -> None:
        """Rebuild and publish the vector index if enough vectors are missing from it.

        Args:
            is_small: True after a small addition or change, for which a small index is not rebuilt.
        """
        with self.catalog.snapshot() as snapshot:
            must_build = is_due(snapshot, self.builder.plugin_name, is_small=is_small)
        if must_build:
            self._publish(self.fusion)

    def _publish_built(self, built: BuiltVectorIndex) -> None:
        """Publish an index, unless another run has published one that covers more: an orphan."""
        with self.catalog.snapshot() as snapshot:
            covered = snapshot.built.covers if snapshot.built is not None else 0
        if covered <= built.covers:
            self.catalog.publish(built)

    def _prepare_background_build(self) -> Callable[[ShouldStop], BuiltVectorIndex] | None:
        """Return a function that rebuilds the index from all current segments.

        None if the index is new or small, if all segments are in it, or if another run might drop
        the collection before it is published.
        """
        with self.catalog.snapshot() as snapshot:
            tail_rows = sum(segment.rows for segment in snapshot.unindexed_segments)
            built_rows = snapshot.built.rows if snapshot.built else 0
            is_waiting = not is_due(snapshot, self.builder.plugin_name)
        if self.builder.collections is not None and (is_waiting or self.catalog.is_shared):
            return None
        identity = self.catalog.identity()
        if identity is None or not tail_rows or built_rows + tail_rows <= REBUILD_BELOW:
            return None
        segments, stale_rows = self.catalog.segments(), self.catalog.stale_rows()
        return self.builder.prepare(segments, self.fusion, identity, stale_rows)

    def reindex(
        self,
        fusion: Fusion,
        vector_index: str,
        goals: SearchGoals,
        *,
        allow_reencode: bool = False,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> ReindexReport:
        """Apply another fusion to the stored vectors and rebuild the vector index.

        Readers switch to the new index in one step.

        Args:
            fusion: The new fusion.
            vector_index: See `Identity.vector_index`.
            goals: Recall, memory and latency goals for searches.
            allow_reencode: Decode and encode every picture if the fusion needs vectors that are not
                stored.
            progress: Called often.

        Returns:
            The report of the change.

        Raises:
            UsageError: The fusion needs vectors that are not stored, and ``allow_reencode`` is not
                set.
            StateError: The index is empty.
        """
        started_at = time.monotonic()
        current_identity = require_identity(self.catalog)
        if not self.catalog.segments():
            raise empty_index_error()
        update = SpaceUpdate()
        must_reencode = (
            fusion.cross_attend is not None and current_identity.fusion.name != fusion.spec.name
        )
        if must_reencode and not allow_reencode:
            raise UsageError(
                f"The fusion {fusion.spec.name!r} needs patch and token vectors,"
                " which the index does not store.",
                Hint(
                    "{} to read and encode every picture again.",
                    "Pass reencode=True",
                    "Add --reencode",
                ),
            )
        remove_unused_files(self.layout, self.catalog)
        identity = replace(
            current_identity, fusion=fusion.spec, vector_index=vector_index, goals=goals
        )
        if must_reencode:
            update = self._reencode_all(fusion, identity, progress)
        else:
            progress(Progress("build", 0, None))
            self._publish(fusion, identity)
        with self.catalog.snapshot() as snapshot:
            pictures, built = snapshot.pictures, snapshot.built
        return ReindexReport(
            pictures,
            fusion.spec,
            built.plugin_name if built else vector_index,
            must_reencode,
            tuple(update.failed.values()),
            time.monotonic() - started_at,
            built.settings if built else {},
            from_thumbnails=update.from_copies,
        )

    def change_encoder(
        self,
        *,
        drop_unreadable: bool = False,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> ReindexReport:
        """Replace the encoder of the index and all vectors by those of this indexer's encoder.

        The vectors are derived from those of the index if the encoder can do that; see
        `explain_decoding`. If not, every picture is decoded and encoded. Progress survives an
        interruption; the next call continues from there. Readers use the old vectors until all
        pictures are done.

        Args:
            drop_unreadable: Drop the pictures that cannot be read now.
            progress: Called often.

        Returns:
            The report of the change.

        Raises:
            StateError: There are no pictures, or some cannot be read and ``drop_unreadable`` is not
                set.
        """
        started_at = time.monotonic()
        current_identity = require_identity(self.catalog)
        remove_unused_files(self.layout, self.catalog)
        derived_encoder = self._as_derived_encoder()
        if (
            derived_encoder
            and current_identity.encoder.fingerprint == self.encoder.spec.fingerprint
        ):
            # Its file may have moved.
            self.catalog.set_identity(replace(current_identity, encoder=self.encoder.spec))
            return self._report_change(started_at)
        self.catalog.begin_space(self.encoder.spec.fingerprint)
        derived = 0
        if derived_encoder is not None:
            derived = self._derive_space(derived_encoder, progress)
        update = self._fill_space(self.fusion, progress)
        failed = update.failed
        if failed and not drop_unreadable:
            first = next(iter(failed.values()))
            raise StateError(
                f"{len(failed):,} pictures cannot be read now, such as {display_path(first.path)}:"
                f" {first.reason}.",
                Hint(
                    "The index was not changed. {} to drop these pictures.",
                    "Call index.add_folder(FOLDER) first, mount missing drives, or pass"
                    " drop_unreadable=True",
                    "Run 'mmsearch index' on the folder first, mount missing drives, or add"
                    " --drop-unreadable",
                ),
            )
        progress(Progress("build", 0, None))
        identity = replace(current_identity, encoder=self.encoder.spec, fusion=self.fusion.spec)
        activate_space(
            self.layout,
            self.catalog,
            self.fusion,
            self.builder,
            identity,
            {image_id: file.reason for image_id, file in failed.items()},
        )
        report = self._report_change(started_at)
        return replace(
            report,
            reencoded=derived_encoder is None,
            failed=tuple(failed.values()),
            derived=derived,
            decoded=update.updated,
            from_thumbnails=update.from_copies,
        )

    def explain_decoding(self) -> str | None:
        """Return why `change_encoder` decodes pictures although the encoder derives its vectors.

        A sentence; None if it decodes none, or if the encoder always needs the pictures.
        """
        base = getattr(self.encoder, "base_spec", None)
        serving = require_identity(self.catalog).encoder
        if base is None or serving.fingerprint == self.encoder.spec.fingerprint:
            return None
        if self.fusion.cross_attend is not None:
            return (
                f"The fusion {self.fusion.spec.name!r} needs patch and token vectors, which are not"
                " stored, so every picture is decoded again."
            )
        if serving.fingerprint != base.fingerprint:
            return (
                f"The index has vectors of {serving.name}, not of {base.name}, so every picture is"
                " decoded again."
            )
        return None

    def refresh(self) -> int:
        """Encode the texts that a program has changed, and publish a vector index if it is due.

        Returns:
            The number of pictures with new embeddings.
        """
        with self.catalog.one_at_a_time(PUBLISHING):
            count = self._refresh_text_vectors()
            self.publish(is_small=True)
        return count

    def reencode_stale(self) -> SpaceUpdate:
        """Decode and encode the pictures whose embedding is missing or outdated."""
        return update_space(
            self.catalog,
            decode_page(self._shard_encoder(self.fusion), self.load_item),
            REENCODE_PAGE_SIZE,
        )

    def _publish(self, fusion: Fusion, identity: Identity | None = None) -> BuiltVectorIndex:
        build_identity = identity or self.catalog.identity()
        if build_identity is None:
            raise ValueError("an index without an identity has nothing to build from")
        built = self.builder.build(
            self.catalog.segments(), fusion, build_identity, self.catalog.stale_rows()
        )
        self.catalog.publish(built, identity)
        return built

    def _shard_encoder(
        self, fusion: Fusion, on_encoded: Callable[[int], None] = lambda count: None
    ) -> ShardEncoder:
        texts = TextEncoder(self.encoder, fusion, self.sources)
        return ShardEncoder(
            open_store(self.layout),
            self.encoder,
            texts,
            self.decode_executor,
            self.make_decoder,
            on_encoded,
        )

    def _refresh_text_vectors(self) -> int:
        """Re-encode changed texts and return the number of pictures that have them."""
        if self.fusion.cross_attend is not None:
            return self.reencode_stale().updated
        texts = TextEncoder(self.encoder, self.fusion, self.sources)
        encode_page = text_page(self.layout, self.catalog, texts)
        return update_space(self.catalog, encode_page, TEXT_PAGE_SIZE).updated

    def _report_change(self, started_at: float) -> ReindexReport:
        """Return the report of a change of the encoder, without what it did."""
        with self.catalog.snapshot() as snapshot:
            pictures, built = snapshot.pictures, snapshot.built
        return ReindexReport(
            pictures,
            self.fusion.spec,
            built.plugin_name if built else self.vector_index,
            reencoded=False,
            failed=(),
            seconds=time.monotonic() - started_at,
        )

    def _as_derived_encoder(self) -> DerivedEncoder | None:
        """Return the encoder if it derives its vectors from those of the index, or None."""
        base = getattr(self.encoder, "base_spec", None)
        if base is None or self.explain_decoding() is not None:
            return None
        return cast("DerivedEncoder", self.encoder)

    def _derive_space(self, encoder: DerivedEncoder, progress: Callable[[Progress], None]) -> int:
        """Fill the space being built from stored vectors; return the number of new vectors."""
        with self.catalog.snapshot() as snapshot:
            total = snapshot.items_with_pixels
        done = sum(segment.rows for segment in self.catalog.list_building_segments())
        num_vectors = 0

        def on_page(count: int) -> None:
            nonlocal done
            done += count
            progress(Progress("derive", done, total, done))

        def on_derived(count: int) -> None:
            nonlocal num_vectors
            num_vectors += count

        texts = TextEncoder(self.encoder, self.fusion, self.sources)
        encode_page = derive_page(self.layout, self.catalog, encoder, texts, on_derived)
        update_space(self.catalog, encode_page, DERIVE_PAGE_SIZE, building=True, on_page=on_page)
        return num_vectors

    def _fill_space(self, fusion: Fusion, progress: Callable[[Progress], None]) -> SpaceUpdate:
        """Decode and encode the pictures that are missing in the space being built."""
        with self.catalog.snapshot() as snapshot:
            total = snapshot.items_with_pixels
        done = sum(segment.rows for segment in self.catalog.list_building_segments())

        def on_page(count: int) -> None:
            nonlocal done
            done += count
            progress(Progress("encode", done, total, done))

        encode_page = decode_page(self._shard_encoder(fusion), self.load_item)
        return update_space(
            self.catalog, encode_page, REENCODE_PAGE_SIZE, building=True, on_page=on_page
        )

    def _reencode_all(
        self, fusion: Fusion, identity: Identity, progress: Callable[[Progress], None]
    ) -> SpaceUpdate:
        """Replace the embeddings by those of a fusion that needs the pictures themselves.

        Pictures that cannot be read keep their vectors.
        """
        self.catalog.begin_space(f"{self.encoder.spec.fingerprint}+{fusion.spec.name}")
        update = self._fill_space(fusion, progress)
        if update.failed:
            copy = copy_page(self.layout, self.catalog, self.encoder.spec)
            update_space(self.catalog, copy, COPY_PAGE_SIZE, building=True)
        progress(Progress("build", 0, None))
        activate_space(self.layout, self.catalog, fusion, self.builder, identity, {})
        return update

    def _ensure_identity(self) -> None:
        identity = Identity(self.encoder.spec, self.fusion.spec, self.vector_index, self.sources)
        with self.catalog.one_at_a_time("identity"):
            current_identity = self.catalog.identity()
            if current_identity is None:
                self.catalog.set_identity(identity)
                return
        check_encoder(current_identity, self.encoder)
        if self.catalog.is_shared and current_identity.fusion != self.fusion.spec:
            raise IndexLockedError(
                "Another run has created the index with another fusion meanwhile.", "Run again."
            )
        if current_identity.texts != self.sources:
            with self.catalog.alone() as is_alone:
                if not is_alone:
                    raise IndexLockedError(
                        "The texts that count cannot change while another run is active.",
                        "Wait until it finishes, or leave the choice of texts out.",
                    )
                self.catalog.set_identity(replace(current_identity, texts=self.sources))
