"""plan -> encode -> commit -> build -> publish. Safe to kill and to run again at any moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmsearch.core.errors import EncoderMismatchError
from mmsearch.core.layout import IndexLayout
from mmsearch.core.protocols import (
    Catalog,
    Encoder,
    Executor,
    Fusion,
    VectorIndexPlugin,
    Walk,
)
from mmsearch.core.records import BuiltIndex, Identity
from mmsearch.core.requests import IndexReport, IndexRequest, Progress
from mmsearch.core.segments import read_segment
from mmsearch.core.types import IndexSpec
from mmsearch.engine.decode import MakeDecoder
from mmsearch.engine.encode_shard import ShardEncoder
from mmsearch.engine.run import FolderRun


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
        walk: Lists the files of a request.
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
    walk: Callable[[IndexRequest], Walk]
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
            SourceError: The folder had pictures and has none now.
        """
        self._bind()
        self.layout.remove_orphans(self.catalog.referenced_files())
        run_id = self.catalog.begin_run()
        run = FolderRun(
            request,
            self.catalog,
            self.walk,
            self.hashing,
            self.shards,
            lambda on_encoded: ShardEncoder(
                self.layout, self.encoder, self.fusion, self.decode, self.make_decoder, on_encoded
            ),
            progress,
        )
        outcome = "failed"
        try:
            run.carry_out()
            progress(run.state("build"))
            self.publish()
            outcome = "finished"
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            self.catalog.finish_run(run_id, outcome, run.counts())
        return run.report()

    def publish(self) -> None:
        """Build the vector index anew if there are segments that the present one lacks."""
        with self.catalog.snapshot() as snapshot:
            stale = bool(snapshot.tail)
        segments = self.catalog.segments()
        if not stale or not segments:
            return
        spec = IndexSpec(self.vector_index, segments[0].dim, "cpu")
        index = self.vector_indexes.build(
            spec, (read_segment(self.layout, segment) for segment in segments)
        )
        number = self.layout.next_built_number()
        stamp = index.save(self.layout.built(number, self.vector_indexes.SUFFIX))
        self.catalog.publish(
            BuiltIndex(
                spec_name=self.vector_index,
                stamp=stamp,
                rows=len(index.ids),
                covers=segments[-1].number,
                settings={"dim": spec.dim, "recall": 1.0, "reason": "exact search"},
            )
        )

    def _bind(self) -> None:
        bound = self.catalog.identity()
        if bound is None:
            self.catalog.bind(Identity(self.encoder.spec, self.fusion.name, self.vector_index))
        else:
            check_encoder(bound, self.encoder)


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
