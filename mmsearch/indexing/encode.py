"""Shard worker, the same under every executor.

The contents of a shard are decoded in parallel, encoded in batches on the device together with
their texts, and written batch by batch to one segment, which the driver then commits.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import (
    HEAD_BYTES,
    choose_modality,
    clamped_mtime_ns,
    content_as_file,
)
from mmsearch.core.protocols import Encoder, Executor, ImagePreprocessor, Modality, Store
from mmsearch.core.records import EncodedPicture, Segment, StoredPicture
from mmsearch.core.results import TaskFailure
from mmsearch.core.types import (
    CONTENT_SOURCES,
    IMAGE_KIND,
    WHOLE,
    DecodedImage,
    InputKind,
    ItemLocator,
    ModelInput,
    Picture,
    Text,
    TextVectors,
    Vectors,
)
from mmsearch.indexing.texts import TextEncoder
from mmsearch.modalities._perceptual_hash import perceptual_hash
from mmsearch.storage.layout import thumbnail_path
from mmsearch.storage.segments import SegmentVectors, SegmentWriter, segment_writer

THUMBNAIL_PX = 512
"""Longest side of the thumbnails of pictures that have no file of their own."""

REENCODE_PAGE_SIZE = 256
"""Number of pictures to re-encode between two commits."""

WINDOW_ITEMS = 64
"""Maximum number of items that a decode worker returns at once (13 MB at 256 pixels)."""

WINDOW_S = 20.0
"""Seconds after which a decode worker returns the items that it has, so that its time limit is one
for an item and not for a film."""


@dataclass(frozen=True)
class EncodeTask:
    """New content and where to read it.

    Attributes:
        digest: Digest of the content.
        source: The file to decode, or the content itself.
        texts: Texts from outside the file itself; they belong to the first item.
        ids: Ids of the items to encode again, by part; None for new content, whose items get new
            ids.
    """

    digest: bytes
    source: DecodeTask
    texts: tuple[Text, ...] = ()
    ids: Mapping[int, int] | None = field(default=None, hash=False)


def reencode_task(items: Sequence[StoredPicture], content: bytes | None = None) -> EncodeTask:
    """Return the task of re-encoding items of one content that already have vectors.

    Texts inside the file are read again; its other texts are taken over from the catalog.

    Args:
        items: The items, in the order of their parts; at least one.
        content: Their content, if it is not a file.
    """
    first = items[0]
    external_texts = tuple(
        text for text in first.picture.texts if text.source not in CONTENT_SOURCES
    )
    ids = {item.locator.part: item.id for item in items}
    if content is None:
        source = DecodeTask(first.path, first.size, first.mtime_ns)
    else:
        source = DecodeTask(content=content, name=first.path)
    source = replace(source, first_part=min(ids), known=first.locator)
    return EncodeTask(first.digest, source, external_texts if 0 in ids else (), ids)


@dataclass(frozen=True)
class Shard:
    """One unit of work.

    Attributes:
        segment: Number of the segment to write.
        first_id: Id of the first item; the ids of the others follow.
        contents: Contents to encode; at least one.
        num_ids: Number of ids from the first one that belong to this shard; None for one per
            content.
    """

    segment: int
    first_id: int
    contents: tuple[EncodeTask, ...]
    num_ids: int | None = None


@dataclass(frozen=True)
class EncodedShard:
    """Result of encoding a shard.

    Attributes:
        segment: The segment written; None if no content could be read.
        pictures: The encoded pictures, in the order of the segment's rows.
        text_items: Items without pixels, which have no row.
        failed: Failures of contents that could not be read, by digest.
        unused_ids: Ids of other rows of the segment: items of contents that failed later on.
    """

    segment: Segment | None
    pictures: tuple[EncodedPicture, ...]
    failed: dict[bytes, TaskFailure]
    unused_ids: tuple[int, ...] = ()
    text_items: tuple[EncodedPicture, ...] = ()

    @property
    def digests(self) -> set[bytes]:
        """Digests of the contents that could be read."""
        return {item.digest for item in (*self.pictures, *self.text_items)}


class ShardEncoder:
    """Worker that encodes shards.

    Threads may share it: they decode in parallel and take turns on the device. It may encode a
    shard twice, also beside another worker: each time it writes another file, and the catalog names
    one of them.

    Args:
        store: Store of the files of the index.
        encoder: Encoder of the index.
        texts: Encodes the texts.
        decode_executor: Runs decode workers.
        make_decoder: Makes a decode worker.
        on_encoded: Called with the number of contents that were encoded.
    """

    def __init__(
        self,
        store: Store,
        encoder: Encoder,
        texts: TextEncoder,
        decode_executor: Executor,
        make_decoder: DecoderFactory,
        on_encoded: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._texts = texts
        self._decode_executor = decode_executor
        self._make_decoder = make_decoder
        self._on_encoded = on_encoded
        self._device_lock = Lock()

    def __call__(self, shard: Shard) -> EncodedShard:
        """Decode and encode a shard, and write its segment."""
        work = _ShardWork(shard)
        pictures: list[EncodedPicture] = []
        text_items: list[EncodedPicture] = []
        with ExitStack() as stack:

            @cache
            def open_writer() -> SegmentWriter:
                # A shard of which no content can be read has no segment.
                return stack.enter_context(
                    segment_writer(self._store, shard.segment, self._encoder.spec)
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
            # Long contents are decoded in windows, those of several contents side by side.
            while tasks := work.take_tasks():
                for task, outcome in self._decode_executor.run(self._make_decoder, tasks):
                    if isinstance(outcome, TaskFailure):
                        self._on_encoded(work.fail(task, outcome))
                    else:
                        for item in work.assign_ids(task, outcome):
                            if item.decoded.model_input is None:
                                text_items.append(item.to_record())
                                self._on_encoded(int(item.is_first))
                            else:
                                batches.add(item)
            batches.flush()
            segment = open_writer().finish() if pictures else None
        return work.result(segment, pictures, text_items)

    def _encode_batch(self, items: Sequence[_Item]) -> tuple[Vectors, list[TextVectors]]:
        model_inputs = [item.model_input for item in items]
        with self._device_lock:
            images = self._encoder.encode(InputKind.IMAGE, model_inputs)
            texts = self._texts.encode([item.texts for item in items], images, model_inputs)
        self._on_encoded(sum(item.is_first for item in items))
        return images, texts


@dataclass(frozen=True)
class _Item:
    """An item that is to be encoded.

    Attributes:
        id: Its id.
        content: The task of its content.
        decoded: What a decode worker returned for it.
        kind: Kind of the content.
        is_first: True for the first item that this shard encodes of a content.
    """

    id: int
    content: EncodeTask
    decoded: DecodedInput
    kind: str
    is_first: bool

    @property
    def model_input(self) -> ModelInput:
        model_input = self.decoded.model_input
        if model_input is None:
            raise ValueError(f"item {self.id} has no pixels")
        return model_input

    @property
    def texts(self) -> tuple[Text, ...]:
        """All its texts; those from outside the file belong to the first item of a content."""
        own = self.decoded.picture.texts
        return own if self.decoded.locator.part else (*own, *self.content.texts)

    def to_record(self, texts_digest: bytes = b"") -> EncodedPicture:
        """Return what the catalog keeps of it."""
        return EncodedPicture(
            self.id,
            self.content.digest,
            self.decoded.picture,
            texts_digest,
            locator=self.decoded.locator,
            kind=self.kind,
            perceptual_hash=self.decoded.perceptual_hash,
        )


class _ShardWork:
    """The contents of a shard: what is left to decode, and what came out.

    A content that fails after some of its items keeps these, and its first item says what is
    missing, unless it changed while it was read: then nothing of it may be used.

    Attributes:
        failed: See `EncodedShard`.
    """

    def __init__(self, shard: Shard) -> None:
        self._contents = {content.source: content for content in shard.contents}
        self._tasks = [content.source for content in shard.contents]
        num_ids = len(shard.contents) if shard.num_ids is None else shard.num_ids
        self._free_ids = iter(range(shard.first_id, shard.first_id + num_ids))
        self._num_decoded: Counter[bytes] = Counter()
        self._damage: dict[bytes, str] = {}
        self.failed: dict[bytes, TaskFailure] = {}

    def take_tasks(self) -> list[DecodeTask]:
        """Return the next window of each content that has items left."""
        tasks, self._tasks = self._tasks, []
        return tasks

    def fail(self, task: DecodeTask, failure: TaskFailure) -> int:
        """Record that a window could not be decoded; return 1 if it is the first of a content."""
        content = self._contents.pop(task)
        has_items = self._num_decoded[content.digest] > 0
        if has_items and content.ids is None and not failure.transient:
            self._mark_damaged(content, failure.reason)
        else:
            self.failed[content.digest] = failure
        return int(not has_items)

    def _mark_damaged(self, content: EncodeTask, reason: str) -> None:
        self._damage[content.digest] = f"only the beginning could be read: {reason}"

    def assign_ids(self, task: DecodeTask, window: DecodedWindow) -> Iterator[_Item]:
        """Yield the items of a window with their ids."""
        content = self._contents.pop(task)
        for decoded in window.items:
            part = decoded.locator.part
            if content.ids is None:
                item_id = next(self._free_ids, None)
                if item_id is None:
                    # Ids are reserved by the names of files.
                    reason = f"it is a file of the kind {window.kind!r} with the name of another"
                    self.failed[content.digest] = TaskFailure(reason)
                    return
            elif part in content.ids and decoded.model_input is not None:
                item_id = content.ids[part]
            else:
                continue
            self._num_decoded[content.digest] += 1
            is_first = self._num_decoded[content.digest] == 1
            yield _Item(item_id, content, decoded, window.kind, is_first)
        if window.problem is not None:
            self._mark_damaged(content, window.problem)
        if window.has_more and self._is_wanted(content, window.next_part):
            last = window.items[-1].locator
            following = replace(task, first_part=window.next_part, known=last)
            self._contents[following] = content
            self._tasks.append(following)
        elif content.ids is not None and self._num_decoded[content.digest] < len(content.ids):
            self.failed[content.digest] = TaskFailure("it has fewer parts than when it was indexed")

    def result(
        self,
        segment: Segment | None,
        pictures: Sequence[EncodedPicture],
        text_items: Sequence[EncodedPicture],
    ) -> EncodedShard:
        """Return the result of the shard."""
        used, used_texts = self._mark_used(pictures), self._mark_used(text_items)
        if not used:
            # The segment, if there is one, is an orphan, which the next writer removes.
            return EncodedShard(None, (), self.failed, text_items=used_texts)
        unused_ids = tuple(item.id for item in pictures if item.digest in self.failed)
        return EncodedShard(segment, used, self.failed, unused_ids, used_texts)

    def _mark_used(self, items: Sequence[EncodedPicture]) -> tuple[EncodedPicture, ...]:
        """Return the items of contents that have not failed, with what is missing of them."""
        return tuple(
            replace(item, picture=replace(item.picture, damage=self._damage[item.digest]))
            if item.digest in self._damage and item.locator.part == 0
            else item
            for item in items
            if item.digest not in self.failed
        )

    @staticmethod
    def _is_wanted(content: EncodeTask, part: int) -> bool:
        return content.ids is None or part <= max(content.ids)


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
    """Groups items into batches, and encodes and writes these in order."""

    def __init__(
        self,
        encode: Callable[[Sequence[_Item]], tuple[Vectors, list[TextVectors]]],
        digest: Callable[[Sequence[Text]], bytes],
        write: Callable[[list[EncodedPicture], Vectors, list[TextVectors]], None],
        size: int,
    ) -> None:
        self._encode = encode
        self._write = write
        self._digest = digest
        self._batch_size = size
        self._pending: list[_Item] = []

    def add(self, item: _Item) -> None:
        self._pending.append(item)
        if len(self._pending) >= self._batch_size:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        images, texts = self._encode(pending)
        pictures = [item.to_record(self._digest(item.texts)) for item in pending]
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
        first_part: First item to decode.
        known: An item at or before it, where a modality that needs to search for it may start.
    """

    path: bytes = b""
    size: int = 0
    mtime_ns: int = 0
    content: bytes | None = field(default=None, repr=False)
    name: bytes = b""
    first_part: int = 0
    known: ItemLocator = WHOLE

    @property
    def file_name(self) -> bytes:
        """The path or the name, which says what kind of file it may be."""
        return self.name or self.path


@dataclass(frozen=True)
class DecodedInput:
    """A decoded item: its metadata, its pixels prepared for an encoder, and where it is.

    An item without pixels has no input for the encoder, and only a still picture has a hash.
    """

    picture: Picture
    model_input: ModelInput | None
    locator: ItemLocator
    perceptual_hash: int | None = None


@dataclass(frozen=True)
class DecodedWindow:
    """Consecutive items of a content.

    Attributes:
        items: The items; at least one, unless the content has none.
        kind: Kind of the content.
        has_more: True if others may follow.
        problem: Reason why nothing after them can be read, or None.
    """

    items: tuple[DecodedInput, ...]
    kind: str
    has_more: bool
    problem: str | None = None

    @property
    def next_part(self) -> int:
        """First part of the window that follows."""
        return self.items[-1].locator.part + 1


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

    def __call__(self) -> Callable[[DecodeTask], DecodedWindow]:
        """Return the worker."""
        return self._decode

    def max_items(self, task: DecodeTask) -> int:
        """Return the maximum number of items of a content.

        Its first bytes say what it is, and its name if they do not.
        """
        known: list[Modality] = []
        with suppress(DecodeError):
            known = self._recognize(task)
        name = task.file_name
        known = known or [modality for modality in self.modalities if modality.can_read(name)]
        return max((modality.max_items for modality in known), default=1)

    def _recognize(self, task: DecodeTask) -> list[Modality]:
        if task.content is None:
            modality = choose_modality(self.modalities, task.path)
            return [] if modality is None else [modality]
        head = task.content[:HEAD_BYTES]
        return [modality for modality in self.modalities if modality.recognizes(head)]

    def _decode(self, task: DecodeTask) -> DecodedWindow:
        if task.content is not None:
            with content_as_file(task.content) as path:
                modality = self._choose(path, task.name)
                window = self._read(modality, path, task)
                if self.thumbnails is not None:
                    digest = hashlib.sha256(task.content).digest()
                    for item in window.items:
                        target = thumbnail_path(self.thumbnails, digest, item.locator.part)
                        _write_thumbnail(target, modality, path, item.locator)
            return window
        window = self._read(self._choose(task.path, task.path), task.path, task)
        check_unchanged(task)
        return window

    def _choose(self, path: bytes, name: bytes) -> Modality:
        modality = choose_modality(self.modalities, path, name)
        if modality is None:
            raise DecodeError("this type of file is not indexed")
        return modality

    def _read(self, modality: Modality, path: bytes, task: DecodeTask) -> DecodedWindow:
        started_at = time.monotonic()
        items = modality.items(path, self.prepare.edge_px, task.first_part, task.known)
        decoded: list[DecodedInput] = []
        problem, is_full = None, False
        try:
            for item in items:
                model_input = look = None
                if isinstance(item, DecodedImage):
                    model_input = self.prepare(item.pixels)
                    if modality.kind == IMAGE_KIND:
                        look = perceptual_hash(item.pixels)
                decoded.append(DecodedInput(item.picture, model_input, item.locator, look))
                elapsed_s = time.monotonic() - started_at
                is_full = len(decoded) == WINDOW_ITEMS or elapsed_s > WINDOW_S
                if is_full:
                    break
        except DecodeError as error:
            if not decoded or error.details.get("transient"):
                raise
            problem = error.message
        if not decoded and not task.first_part:
            raise DecodeError("there is nothing to find in it")
        has_more = modality.max_items > 1 and is_full
        return DecodedWindow(tuple(decoded), modality.kind, has_more, problem)


def _write_thumbnail(target: Path, modality: Modality, path: bytes, locator: ItemLocator) -> None:
    """Write a thumbnail of an item of a content that will not be at hand later."""
    # A picture without a thumbnail is still found.
    with suppress(DecodeError, OSError):
        if target.exists():
            return
        content = modality.thumbnail(path, THUMBNAIL_PX, "JPEG", locator)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{secrets.token_hex(8)}.tmp")
        temporary.write_bytes(content)
        temporary.replace(target)


def check_unchanged(task: DecodeTask) -> None:
    """Raise if the file has changed since it was hashed.

    Otherwise its vector would be stored under the digest of the old content.
    """
    try:
        current = os.stat(task.path)  # noqa: PTH116 - bytes paths need os
    except OSError:
        raise DecodeError("the file vanished while it was being read", transient=True) from None
    if (current.st_size, clamped_mtime_ns(current)) != (task.size, task.mtime_ns):
        raise DecodeError("the file changed while it was being read", transient=True)
