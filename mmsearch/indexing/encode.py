"""What one worker does with one shard, the same under every executor.

A shard is a few hundred contents. They are decoded in parallel, encoded in batches on the device
together with their texts, and written as one segment; the driver then commits it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from mmsearch.core.protocols import Encoder, Executor
from mmsearch.core.records import EncodedPicture, Segment, StoredPicture
from mmsearch.core.requests import TaskFailure
from mmsearch.core.types import (
    Kind,
    Picture,
    Prepared,
    Text,
    TextSource,
    TextVectors,
    Vectors,
)
from mmsearch.indexing.decode import DecodeTask, MakeDecoder
from mmsearch.indexing.text_encoder import TextEncoder
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segment_metadata import SegmentFacts
from mmsearch.storage.segments import SegmentVectors, write_segment

PAGE = 256
"""Pictures that are encoded again between two commits."""


@dataclass(frozen=True)
class Content:
    """New content and one file that holds it.

    Attributes:
        digest: Of the content.
        source: The file.
        texts: What is said of it outside the file itself.
        replaces: The former id of a picture that is encoded again.
        id: The id that a picture has and keeps, when it is encoded by another encoder.
    """

    digest: bytes
    source: DecodeTask
    texts: tuple[Text, ...] = ()
    replaces: int | None = None
    id: int | None = None


def content_again(item: StoredPicture) -> Content:
    """Of a picture that has vectors already.

    What the picture itself says is read again; what stands around it is as it was.
    """
    around = tuple(text for text in item.picture.texts if text.source != TextSource.METADATA)
    source = DecodeTask(item.path, item.size, item.mtime_ns)
    return Content(item.digest, source, around)


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
        texts: TextEncoder,
        decode: Executor,
        make_decoder: MakeDecoder,
        on_encoded: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._layout = layout
        self._encoder = encoder
        self._texts = texts
        self._decode = decode
        self._make_decoder = make_decoder
        self._on_encoded = on_encoded
        self._device = Lock()

    def __call__(self, shard: Shard) -> EncodedShard:
        """Decode, encode, write."""
        ids = {
            c.source: shard.first_id + place if c.id is None else c.id
            for place, c in enumerate(shard.contents)
        }
        contents = {content.source: content for content in shard.contents}
        batches = _Batches(self._encode_batch, self._texts.digest, self._encoder.batch_size)
        failed: dict[bytes, TaskFailure] = {}
        for task, outcome in self._decode.run(self._make_decoder, list(ids)):
            if isinstance(outcome, TaskFailure):
                failed[contents[task].digest] = outcome
                self._on_encoded(1)
                continue
            batches.add(ids[task], contents[task], *outcome)
        batches.finish()
        if not batches.pictures:
            return EncodedShard(None, (), failed)
        vectors = SegmentVectors(
            np.array([picture.id for picture in batches.pictures], dtype=np.int64),
            np.concatenate(batches.images),
            batches.texts,
        )
        facts = SegmentFacts(self._encoder.spec, batches.pictures)
        segment = write_segment(self._layout, shard.segment, vectors, facts)
        return EncodedShard(segment, tuple(batches.pictures), failed)

    def _encode_batch(
        self, prepared: list[Prepared], told: list[tuple[Text, ...]]
    ) -> tuple[Vectors, list[TextVectors]]:
        with self._device:
            images = self._encoder.encode(Kind.IMAGE, prepared)
            texts = self._texts.encode(told, images, prepared)
        self._on_encoded(len(prepared))
        return images, texts


class _Batches:
    """Gathers decoded pictures into batches; keeps pictures and vectors in one order."""

    def __init__(
        self,
        encode: Callable[
            [list[Prepared], list[tuple[Text, ...]]], tuple[Vectors, list[TextVectors]]
        ],
        digest: Callable[[Sequence[Text]], bytes],
        size: int,
    ) -> None:
        self.pictures: list[EncodedPicture] = []
        self.images: list[Vectors] = []
        self.texts: list[TextVectors] = []
        self._encode = encode
        self._digest = digest
        self._size = size
        self._waiting: list[tuple[int, Content, Picture, Prepared]] = []

    def add(self, number: int, content: Content, picture: Picture, prepared: Prepared) -> None:
        self._waiting.append((number, content, picture, prepared))
        if len(self._waiting) >= self._size:
            self.finish()

    def finish(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        told = [(*picture.texts, *content.texts) for _, content, picture, _ in waiting]
        images, texts = self._encode([prepared for *_, prepared in waiting], told)
        self.images.append(images)
        self.texts += texts
        self.pictures += [
            EncodedPicture(number, content.digest, picture, self._digest(texts), content.replaces)
            for (number, content, picture, _), texts in zip(waiting, told, strict=True)
        ]
