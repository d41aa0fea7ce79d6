"""plan -> encode -> commit -> build -> publish. Safe to kill and to run again at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mmsearch.core.catalog import Catalog
from mmsearch.core.errors import EncoderMismatchError, StateError, UsageError
from mmsearch.core.layout import IndexLayout
from mmsearch.core.protocols import Encoder, Executor, Fusion, VectorIndexPlugin, Walk
from mmsearch.core.records import BuiltIndex, FailedFile, Identity, StoredPicture
from mmsearch.core.requests import IndexReport, IndexRequest, Progress, ReindexReport
from mmsearch.core.types import TextSource
from mmsearch.engine.build_index import build_index
from mmsearch.engine.decode import MakeDecoder
from mmsearch.engine.encode_shard import ShardEncoder
from mmsearch.engine.encode_texts import TextEncoder
from mmsearch.engine.file_texts import FileTexts
from mmsearch.engine.reencode import reencode
from mmsearch.engine.retell import retell
from mmsearch.engine.run import FolderRun

REENCODED_AT_ONCE = 256


@dataclass(frozen=True)
class Indexer:
    """Brings an index up to date with a folder. The caller holds the writer's lock.

    Attributes:
        layout: Where the index is.
        catalog: Open for writing.
        encoder: Must be the index's own.
        fusion: Must be the index's own.
        vector_index: Name of the plugin that is built at the end.
        vector_indexes: That plugin.
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
    vector_indexes: VectorIndexPlugin
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
        run = FolderRun(
            request,
            self.catalog,
            walk=self.walk,
            hashing=self.hashing,
            shards=self.shards,
            make_shard_encoder=lambda on_encoded: self._shard_encoder(self.fusion, on_encoded),
            texts=texts,
            progress=progress,
        )
        outcome = "failed"
        retold = 0
        try:
            run.carry_out()
            progress(run.state("texts"))
            retold = self._retell()
            progress(run.state("build"))
            self.publish()
            outcome = "finished"
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            counts = {**run.counts(), "retold": retold}
            self.catalog.finish_run(run_id, outcome, counts)
        return replace(run.report(), retold=retold)

    def publish(self) -> None:
        """Build the vector index anew if there are segments that the present one lacks."""
        with self.catalog.snapshot() as snapshot:
            stale = bool(snapshot.tail)
        if stale:
            self._publish(self.fusion, self.vector_index, self.vector_indexes)

    def reindex(
        self,
        fusion: Fusion,
        vector_index: str,
        vector_indexes: VectorIndexPlugin,
        *,
        encode_again: bool = False,
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> ReindexReport:
        """Fuse stored vectors otherwise and build the vector index anew; readers see it at once.

        Args:
            fusion: The new one.
            vector_index: Name of the new plugin.
            vector_indexes: That plugin.
            encode_again: Decode and encode every picture, if the fusion needs what is not stored.
            progress: Called often.

        Raises:
            UsageError: The fusion needs what is not stored, and ``encode_again`` is not set.
            StateError: There is nothing to fuse.
        """
        began = time.monotonic()
        bound = self.catalog.identity()
        if bound is None or not self.catalog.segments():
            raise StateError("This index holds no pictures yet.", "Run: mmsearch index FOLDER")
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
        self._publish(
            fusion,
            vector_index,
            vector_indexes,
            replace(bound, fusion=fusion.spec, vector_index=vector_index),
        )
        with self.catalog.snapshot() as snapshot:
            pictures = snapshot.pictures
        return ReindexReport(
            pictures, fusion.spec, vector_index, lacking, tuple(failed), time.monotonic() - began
        )

    def _publish(
        self,
        fusion: Fusion,
        name: str,
        plugin: VectorIndexPlugin,
        identity: Identity | None = None,
    ) -> None:
        segments = self.catalog.segments()
        left_out = self.catalog.superseded()
        index = build_index(self.layout, segments, fusion, name, plugin, left_out)
        number = self.layout.next_built_number()
        stamp = index.save(self.layout.built(number, plugin.SUFFIX))
        self.catalog.publish(
            BuiltIndex(
                spec_name=name,
                stamp=stamp,
                rows=len(index.ids),
                covers=segments[-1].number,
                settings={"dim": index.spec.dim, "recall": 1.0, "reason": "exact search"},
            ),
            identity,
        )

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
            while page := self.catalog.retold(REENCODED_AT_ONCE):
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
            while page := self.catalog.living(after, REENCODED_AT_ONCE):
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


def check_encoder(identity: Identity, encoder: Encoder) -> None:
    """Refuse an encoder whose vectors cannot be compared with those of the index.

    Raises:
        EncoderMismatchError: It is another one.
    """
    if identity.encoder.fingerprint == encoder.spec.fingerprint:
        return
    mine, theirs = encoder.spec, identity.encoder
    if mine.name != theirs.name:
        message = f"This index was built with {theirs.name!r}, not with {mine.name!r}."
        hint = "Leave --model away, or choose another index with --index NAME."
    else:
        message = (
            f"The weights or the code of {mine.name!r} are not those this index was built with."
        )
        hint = (
            "Index the folder into another index with --index NAME, or remove this one with "
            "'mmsearch remove' and index again."
        )
    raise EncoderMismatchError(message, hint, index=theirs.fingerprint, encoder=mine.fingerprint)
