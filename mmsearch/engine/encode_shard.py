"""What one worker does with one shard, the same under every executor.

A shard is a few hundred new contents. They are decoded in parallel, encoded in batches on the
device, fused, and written as one segment; the driver then commits it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

import numpy as np

from mmsearch.core.layout import IndexLayout
from mmsearch.core.protocols import Encoder, Executor, Fusion
from mmsearch.core.records import EncodedPicture, Segment
from mmsearch.core.requests import TaskFailure
from mmsearch.core.segments import write_segment
from mmsearch.core.types import Kind, Picture, Prepared, Vectors
from mmsearch.engine.decode import DecodeTask, MakeDecoder


@dataclass(frozen=True)
class Content:
    """New content and one file that holds it."""

    digest: bytes
    source: DecodeTask


@dataclass(frozen=True)
class Shard:
    """The unit of work.

    Attributes:
        segment: Number of the segment to write.
        first_id: Id of the first content; the others follow.
        contents: At least one.
    """

    segment: int
    first_id: int
    contents: tuple[Content, ...]


@dataclass(frozen=True)
class EncodedShard:
    """What came of a shard.

    Attributes:
        segment: None if no content could be read.
        pictures: In the order of the segment's rows.
        failed: By digest, why content could not be read.
    """

    segment: Segment | None
    pictures: tuple[EncodedPicture, ...]
    failed: dict[bytes, TaskFailure]


class ShardEncoder:
    """The worker. Threads may share it: decoding overlaps, the device is used by one at a time."""

    def __init__(
        self,
        layout: IndexLayout,
        encoder: Encoder,
        fusion: Fusion,
        decode: Executor,
        make_decoder: MakeDecoder,
        on_encoded: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._layout = layout
        self._encoder = encoder
        self._fusion = fusion
        self._decode = decode
        self._make_decoder = make_decoder
        self._on_encoded = on_encoded
        self._device = Lock()

    def __call__(self, shard: Shard) -> EncodedShard:
        """Decode, encode, fuse, write."""
        ids = {c.source: shard.first_id + place for place, c in enumerate(shard.contents)}
        digests = {content.source: content.digest for content in shard.contents}
        pictures: list[EncodedPicture] = []
        vectors: list[Vectors] = []
        failed: dict[bytes, TaskFailure] = {}
        batch: list[Prepared] = []
        for task, outcome in self._decode.run(self._make_decoder, list(ids)):
            if isinstance(outcome, TaskFailure):
                failed[digests[task]] = outcome
                self._on_encoded(1)
                continue
            facts: Picture
            facts, prepared = outcome
            pictures.append(EncodedPicture(ids[task], digests[task], facts))
            batch.append(prepared)
            if len(batch) == self._encoder.batch_size:
                vectors.append(self._encode(batch))
                batch = []
        if batch:
            vectors.append(self._encode(batch))
        segment = self._write(shard.segment, pictures, vectors) if pictures else None
        return EncodedShard(segment, tuple(pictures), failed)

    def _encode(self, batch: list[Prepared]) -> Vectors:
        with self._device:
            vectors = self._encoder.encode(Kind.IMAGE, batch)
        self._on_encoded(len(batch))
        return vectors

    def _write(
        self, number: int, pictures: list[EncodedPicture], vectors: list[Vectors]
    ) -> Segment:
        image = np.concatenate(vectors)
        no_texts = [np.empty((0, image.shape[1]), dtype=np.float32)] * len(image)
        fused = self._fusion.fuse(image, no_texts)
        ids = np.array([picture.id for picture in pictures], dtype=np.int64)
        return write_segment(
            self._layout, number, ids, image, fused=None if fused is image else fused
        )
