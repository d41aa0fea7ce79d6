"""Shard worker, the same under every executor.

The contents of a shard are decoded in parallel, encoded in batches on the device together with
their texts, and written batch by batch to one segment, which the driver then commits.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import choose_modality, clamped_mtime_ns, content_as_file
from mmsearch.core.protocols import Encoder, Executor, ImagePreprocessor, Modality
from mmsearch.core.records import EncodedPicture, Segment, StoredPicture
from mmsearch.core.results import TaskFailure
from mmsearch.core.types import (
    InputKind,
    ModelInput,
    Picture,
    Text,
    TextSource,
    TextVectors,
    Vectors,
)
from mmsearch.indexing.texts import TextEncoder
from mmsearch.storage.layout import IndexLayout, thumbnail_path
from mmsearch.storage.segments import SegmentVectors, SegmentWriter, segment_writer

THUMBNAIL_PX = 512
"""Longest side of the thumbnails of pictures that have no file of their own."""

REENCODE_PAGE_SIZE = 256
"""Number of pictures to re-encode between two commits."""


@dataclass(frozen=True)
class EncodeTask:
    """New content and where to read it.

    Attributes:
        digest: Digest of the content.
        source: The file to decode, or the content itself.
        texts: Texts from outside the file itself.
        id: Id of a picture that is encoded again.
    """

    digest: bytes
    source: DecodeTask
    texts: tuple[Text, ...] = ()
    id: int | None = None


def reencode_task(item: StoredPicture, content: bytes | None = None) -> EncodeTask:
    """Return the task of re-encoding a picture that already has vectors.

    Texts inside the file are read again; its other texts are taken over from the catalog.

    Args:
        item: The picture.
        content: Its content, if it is not a file.
    """
    external_texts = tuple(
        text for text in item.picture.texts if text.source != TextSource.METADATA
    )
    if content is None:
        source = DecodeTask(item.path, item.size, item.mtime_ns)
    else:
        source = DecodeTask(content=content, name=item.path)
    return EncodeTask(item.digest, source, external_texts, item.id)


@dataclass(frozen=True)
class Shard:
    """One unit of work.

    Attributes:
        segment: Number of the segment to write.
        first_id: Id of the first content; the ids of the others are consecutive.
        contents: Contents to encode; at least one.
    """

    segment: int
    first_id: int
    contents: tuple[EncodeTask, ...]


@dataclass(frozen=True)
class EncodedShard:
    """Result of encoding a shard.

    Attributes:
        segment: The segment written; None if no content could be read.
        pictures: The encoded pictures, in the order of the segment's rows.
        failed: Failures of contents that could not be read, by digest.
    """

    segment: Segment | None
    pictures: tuple[EncodedPicture, ...]
    failed: dict[bytes, TaskFailure]


class ShardEncoder:
    """Worker that encodes shards.

    Threads may share it: they decode in parallel and take turns on the device. It may encode a
    shard twice, also beside another worker: each time it writes another file, and the catalog names
    one of them.
    """

    def __init__(
        self,
        layout: IndexLayout,
        encoder: Encoder,
        texts: TextEncoder,
        decode_executor: Executor,
        make_decoder: DecoderFactory,
        on_encoded: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._layout = layout
        self._encoder = encoder
        self._texts = texts
        self._decode_executor = decode_executor
        self._make_decoder = make_decoder
        self._on_encoded = on_encoded
        self._device_lock = Lock()

    def __call__(self, shard: Shard) -> EncodedShard:
        """Decode and encode a shard, and write its segment."""
        ids = {
            content.source: shard.first_id + offset if content.id is None else content.id
            for offset, content in enumerate(shard.contents)
        }
        contents = {content.source: content for content in shard.contents}
        failed: dict[bytes, TaskFailure] = {}
        pictures: list[EncodedPicture] = []
        with ExitStack() as stack:

            @cache
            def open_writer() -> SegmentWriter:
                # A shard of which no content can be read has no segment.
                return stack.enter_context(
                    segment_writer(self._layout, shard.segment, self._encoder.spec)
                )

            def write(
                batch: Sequence[EncodedPicture], images: Vectors, texts: list[TextVectors]
            ) -> None:
                batch_ids = np.array([picture.id for picture in batch], dtype=np.int64)
                open_writer().append(SegmentVectors(batch_ids, images, texts), batch)
                pictures.extend(batch)

            batches = _Batcher(
                self._encode_batch, self._texts.digest, write, self._encoder.batch_size
            )
            for task, outcome in self._decode_executor.run(self._make_decoder, list(ids)):
                if isinstance(outcome, TaskFailure):
                    failed[contents[task].digest] = outcome
                    self._on_encoded(1)
                    continue
                batches.add(ids[task], contents[task], *outcome)
            batches.flush()
            segment = open_writer().finish() if pictures else None
        return EncodedShard(segment, tuple(pictures), failed)

    def _encode_batch(
        self, model_inputs: list[ModelInput], texts_per_image: list[tuple[Text, ...]]
    ) -> tuple[Vectors, list[TextVectors]]:
        with self._device_lock:
            images = self._encoder.encode(InputKind.IMAGE, model_inputs)
            texts = self._texts.encode(texts_per_image, images, model_inputs)
        self._on_encoded(len(model_inputs))
        return images, texts


_shared_workers: list[tuple[Callable[[], ShardEncoder], ShardEncoder]] = []


@contextmanager
def share_worker(make_worker: Callable[[], ShardEncoder], worker: ShardEncoder) -> Iterator[None]:
    """Let `find_shared_worker` return a worker of this process during the context.

    Args:
        make_worker: Creates an equal worker in other processes.
        worker: The worker, with the parts that this process has open.
    """
    entry = (make_worker, worker)
    _shared_workers.append(entry)
    try:
        yield
    finally:
        _shared_workers.remove(entry)


def find_shared_worker(make_worker: Callable[[], ShardEncoder]) -> ShardEncoder | None:
    """Return the worker that this process shares for an equal ``make_worker``, or None."""
    for known, worker in _shared_workers:
        if known == make_worker:
            return worker
    return None


class _Batcher:
    """Groups decoded pictures into batches, and encodes and writes these in order."""

    def __init__(
        self,
        encode: Callable[
            [list[ModelInput], list[tuple[Text, ...]]], tuple[Vectors, list[TextVectors]]
        ],
        digest: Callable[[Sequence[Text]], bytes],
        write: Callable[[list[EncodedPicture], Vectors, list[TextVectors]], None],
        size: int,
    ) -> None:
        self._encode = encode
        self._write = write
        self._digest = digest
        self._batch_size = size
        self._pending: list[tuple[int, EncodeTask, Picture, ModelInput]] = []

    def add(
        self, image_id: int, content: EncodeTask, picture: Picture, model_input: ModelInput
    ) -> None:
        self._pending.append((image_id, content, picture, model_input))
        if len(self._pending) >= self._batch_size:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        texts_per_image = [(*picture.texts, *content.texts) for _, content, picture, _ in pending]
        images, texts = self._encode([model_input for *_, model_input in pending], texts_per_image)
        pictures = [
            EncodedPicture(image_id, content.digest, picture, self._digest(texts))
            for (image_id, content, picture, _), texts in zip(pending, texts_per_image, strict=True)
        ]
        self._write(pictures, images, texts)


@dataclass(frozen=True)
class DecodeTask:
    """One content that was hashed: a file by its path, or the content itself.

    Attributes:
        path: Absolute path of the file; ignored if there is ``content``.
        size: Size of the file in bytes when it was hashed.
        mtime_ns: Modification time of the file when it was hashed.
        content: The content, for what is not a local file.
        name: File name of the content, which helps to choose a modality.
    """

    path: bytes = b""
    size: int = 0
    mtime_ns: int = 0
    content: bytes | None = field(default=None, repr=False)
    name: bytes = b""


@dataclass(frozen=True)
class DecoderFactory:
    """Factory for the decode worker of a process; it is pickled to get there.

    Attributes:
        modalities: Readers of pictures.
        prepare: Preprocessor of the encoder.
        thumbnails: Folder for thumbnails of contents that are no files; None for none.
    """

    modalities: tuple[Modality, ...]
    prepare: ImagePreprocessor
    thumbnails: Path | None = None

    def __call__(self) -> Callable[[DecodeTask], tuple[Picture, ModelInput]]:
        """Return the worker."""
        return self._decode

    def _decode(self, task: DecodeTask) -> tuple[Picture, ModelInput]:
        if task.content is not None:
            with content_as_file(task.content) as path:
                decoded = self._read(path, task.name)
                if self.thumbnails is not None:
                    self._write_thumbnail(self.thumbnails, path, task)
            return decoded
        decoded = self._read(task.path, task.path)
        _check_unchanged(task)
        return decoded

    def _read(self, path: bytes, name: bytes) -> tuple[Picture, ModelInput]:
        modality = choose_modality(self.modalities, path, name)
        if modality is None:
            raise DecodeError("this type of file is not indexed")
        decoded = modality.read(path, self.prepare.edge_px)
        return decoded.picture, self.prepare(decoded.pixels)

    def _write_thumbnail(self, folder: Path, path: bytes, task: DecodeTask) -> None:
        """Write a thumbnail of a content that will not be at hand later."""
        modality = choose_modality(self.modalities, path, task.name)
        if modality is None or task.content is None:
            return
        target = thumbnail_path(folder, hashlib.sha256(task.content).digest())
        # A picture without a thumbnail is still found.
        with suppress(DecodeError, OSError):
            if target.exists():
                return
            content = modality.thumbnail(path, THUMBNAIL_PX, "JPEG")
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = target.with_name(f"{target.name}.{secrets.token_hex(8)}.tmp")
            temporary.write_bytes(content)
            temporary.replace(target)


def _check_unchanged(task: DecodeTask) -> None:
    """Raise if the file has changed since it was hashed.

    Otherwise its vector would be stored under the digest of the old content.
    """
    try:
        current = os.stat(task.path)  # noqa: PTH116 - bytes paths need os
    except OSError:
        raise DecodeError("the file vanished while it was being read", transient=True) from None
    if (current.st_size, clamped_mtime_ns(current)) != (task.size, task.mtime_ns):
        raise DecodeError("the file changed while it was being read", transient=True)
