"""Writers of indexes: one thread an index runs the writes of all clients, first come, first served.

Additions that wait together become one run of the indexer, because a run costs more than a picture.
Searches go on meanwhile: they run in the threads of `mmsearch.server.batcher`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mmsearch import api
from mmsearch.core.errors import BusyError
from mmsearch.core.results import Item, Progress

Result = TypeVar("Result")

MAX_BATCH_RECORDS = 64
"""Maximum number of records that one run of the indexer adds."""

MAX_BATCH_BYTES = 32_000_000
"""Size of the contents after which a run of the indexer takes no further records."""

MAX_WAITING_WRITES = 256
"""Maximum number of waiting writes of an index; further ones are refused."""

MAX_CONTENT_BYTES = 512_000_000
"""Maximum size of the contents that a server has received and not yet written, together."""

WRITE_WAIT_S = 300.0
"""Maximum seconds that a write waits for its turn; then it is refused and changes nothing."""

LOCK_WAIT_S = 10.0
"""Seconds to wait for a writer in another process, such as a command that adds a folder."""

IDLE_TIMEOUT_S = 300.0
"""Idle seconds after which a writer releases the model and the decoders."""


@dataclass(frozen=True)
class Addition:
    """A picture to add, or to replace the one with the same key.

    Attributes:
        key: Id that the client gives it.
        content: Content of the file.
        texts: Its texts, as `mmsearch.Index.add` takes them.
        metadata: Its metadata.
        keep_original: True to keep the content in the index.
    """

    key: str
    content: bytes = field(repr=False)
    texts: Any = None
    metadata: Mapping[str, Any] | None = None
    keep_original: bool = False


@dataclass(frozen=True)
class AdditionResult:
    """The result of an addition.

    Attributes:
        before: The picture that had the key before; None without one.
        item: The picture that has the key now.
        error: Reason why the picture cannot be read; the former one stays then.
    """

    before: Item | None
    item: Item | None
    error: str | None = None

    @property
    def outcome(self) -> str:
        """``added``, ``updated``, ``unchanged`` or ``failed``."""
        if self.error is not None or self.item is None:
            return "failed"
        if self.before is None:
            return "added"
        return "unchanged" if _facts(self.before) == _facts(self.item) else "updated"


def _facts(item: Item) -> tuple[Any, ...]:
    return item.id, item.texts, item.metadata


class MemoryBudget:
    """Bound on the contents that are in memory until they are written; for one event loop.

    Args:
        max_bytes: Maximum size of all contents together.
    """

    def __init__(self, max_bytes: int = MAX_CONTENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Count the bytes of a content; `give` returns them.

        Raises:
            BusyError: There is no room. Nothing was counted.
        """
        if self._used_bytes + num_bytes > self._max_bytes:
            raise BusyError("Too many pictures are waiting to be written.", "Try again later.")
        self._used_bytes += num_bytes

    def give(self, num_bytes: int) -> None:
        """Return bytes that `take` has counted."""
        self._used_bytes -= num_bytes

    @contextmanager
    def open_share(self) -> Iterator[Callable[[int], None]]:
        """Yield a function like `take`; what it has taken is returned when the context ends."""
        taken = 0

        def take(num_bytes: int) -> None:
            nonlocal taken
            self.take(num_bytes)
            taken += num_bytes

        try:
            yield take
        finally:
            self.give(taken)


@dataclass(frozen=True)
class _Call:
    work: Callable[[api.Index], Any]
    future: Future[Any]


@dataclass(frozen=True)
class _Add:
    additions: Sequence[Addition]
    future: Future[list[AdditionResult]]


class IndexWriter:
    """Runs the writes on one index in a thread of its own.

    Args:
        name: Name of the index.
        open_index: Opens an index by name. The writer has its own, so that searches do not wait.
        idle_timeout_s: Idle seconds after which the index is closed; the next write opens it.
    """

    def __init__(
        self,
        name: str,
        open_index: Callable[[str], api.Index],
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        self.name = name
        self._open_index = open_index
        self._idle_timeout_s = idle_timeout_s
        self._condition = threading.Condition()
        self._writes: deque[_Call | _Add] = deque()
        self._running: list[_Call | _Add] = []
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @property
    def queue_length(self) -> int:
        """Number of waiting writes."""
        return len(self._writes)

    async def add(self, additions: Sequence[Addition]) -> list[AdditionResult]:
        """Add or replace pictures with different keys; return what became of each.

        Raises:
            BusyError: Too many writes are waiting, or the server is shutting down.
            IndexLockedError: Another process is writing the index.
            MMSearchError: See `mmsearch.Index.add`.
        """
        future: Future[list[AdditionResult]] = Future()
        return await self._submit(_Add(additions, future), future)

    async def run(self, work: Callable[[api.Index], Result]) -> Result:
        """Call ``work`` with the index when all earlier writes are done, and return its result.

        Raises:
            BusyError: Too many writes are waiting, or the server is shutting down.
        """
        future: Future[Result] = Future()
        return await self._submit(_Call(work, future), future)

    def stop(self) -> None:
        """Refuse waiting writes, end the running one early, and keep what it has committed.

        The callers get their errors at once.
        """
        with self._condition:
            self._is_closed = True
            self._condition.notify()
            waiting = [write for write in self._writes if _start(write)]
            self._writes.clear()
            _fail([*self._running, *waiting], _closing_error())

    def close(self) -> None:
        """Stop, and wait for the end of the running write."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    async def _submit(self, write: _Call | _Add, future: Future[Result]) -> Result:
        with self._condition:
            if self._is_closed:
                raise _closing_error()
            if len(self._writes) >= MAX_WAITING_WRITES:
                raise BusyError(
                    f"{MAX_WAITING_WRITES} writes are already waiting.", "Try again later."
                )
            self._writes.append(write)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"mmsearch-{self.name}-writer"
                )
                self._thread.start()
            self._condition.notify()
        result = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait([result], timeout=WRITE_WAIT_S)
        except asyncio.CancelledError:
            # The write is not made, unless it is running.
            result.cancel()
            raise
        if not done and future.cancel():
            raise BusyError(
                f"The write has waited for {WRITE_WAIT_S:g} seconds and was not made.",
                "Try again later.",
            )
        return await result

    # --- the thread ---

    def _run(self) -> None:
        index: api.Index | None = None
        while True:
            with self._condition:
                has_work = self._condition.wait_for(
                    lambda: bool(self._writes) or self._is_closed,
                    None if index is None else self._idle_timeout_s,
                )
                if self._is_closed:
                    break
                batch = self._running = self._take_batch() if has_work else []
            if not has_work and index is not None:
                index.close()
                index = None
            if batch:
                try:
                    index = index or self._open_index(self.name)
                # Every error belongs to the callers; the writer continues.
                except BaseException as error:  # noqa: BLE001
                    _fail(batch, error)
                else:
                    self._execute(index, batch)
        if index is not None:
            index.close()

    def _take_batch(self) -> list[_Call | _Add]:
        """Take the next write, and all additions behind it that the same run can add."""
        batch: list[_Call | _Add] = []
        keys: set[str] = set()
        num_bytes = 0
        keeps_originals: bool | None = None
        while self._writes:
            write = self._writes[0]
            if isinstance(write, _Add):
                new_keys = {addition.key for addition in write.additions}
                keep = write.additions[0].keep_original
                is_full = len(keys) + len(new_keys) > MAX_BATCH_RECORDS
                if batch and (
                    is_full
                    or num_bytes >= MAX_BATCH_BYTES
                    or not keys.isdisjoint(new_keys)
                    or keep != keeps_originals
                ):
                    break
                keys |= new_keys
                keeps_originals = keep
                num_bytes += sum(len(addition.content) for addition in write.additions)
            elif batch:
                break
            self._writes.popleft()
            if _start(write):
                batch.append(write)
                if isinstance(write, _Call):
                    break
        return batch

    def _execute(self, index: api.Index, batch: Sequence[_Call | _Add]) -> None:
        first = batch[0]
        try:
            if isinstance(first, _Call):
                _finish(first.future, first.work(index))
                return
            adds = [write for write in batch if isinstance(write, _Add)]
            results = iter(self._add(index, [a for write in adds for a in write.additions]))
            for write in adds:
                _finish(write.future, [next(results) for _ in write.additions])
        except KeyboardInterrupt:
            _fail(batch, _closing_error())
        # Every error belongs to the callers; the writer continues.
        except BaseException as error:  # noqa: BLE001
            _fail(batch, error)

    def _add(self, index: api.Index, additions: Sequence[Addition]) -> list[AdditionResult]:
        keys = [addition.key for addition in additions]
        before = {key: index.get(key) for key in keys} if index.exists() else {}
        report = index.add(
            [addition.content for addition in additions],
            ids=keys,
            texts=[addition.texts for addition in additions],
            metadata=[addition.metadata or {} for addition in additions],
            keep_originals=additions[0].keep_original,
            wait_s=LOCK_WAIT_S,
            progress=self._on_progress,
        )
        errors = {os.fsdecode(file.path): file.reason for file in report.failed}
        return [
            AdditionResult(
                before.get(key), None if key in errors else index.get(key), errors.get(key)
            )
            for key in keys
        ]

    def _on_progress(self, progress: Progress) -> None:
        if self._is_closed:
            # A run ends early, and keeps its work, on KeyboardInterrupt.
            raise KeyboardInterrupt


def _start(write: _Call | _Add) -> bool:
    return write.future.set_running_or_notify_cancel()


def _finish(future: Future[Result], result: Result) -> None:
    """Set the result of a write, unless its caller got an error when the writer stopped."""
    with suppress(InvalidStateError):
        future.set_result(result)


def _fail(batch: Sequence[_Call | _Add], error: BaseException) -> None:
    for write in batch:
        with suppress(InvalidStateError):
            write.future.set_exception(error)


def _closing_error() -> BusyError:
    return BusyError("The server is shutting down.", "Try again later.")


class Writers:
    """Writers of all served indexes, each created by the first write to its index.

    Args:
        open_index: Opens an index by name.
    """

    def __init__(self, open_index: Callable[[str], api.Index]) -> None:
        self._open_index = open_index
        self._writers: dict[str, IndexWriter] = {}
        self._is_closed = False
        self._lock = threading.Lock()
        self.memory = MemoryBudget()

    def writer(self, name: str) -> IndexWriter:
        """Return the writer of an index.

        Raises:
            BusyError: The server is shutting down.
        """
        with self._lock:
            if self._is_closed:
                raise _closing_error()
            if name not in self._writers:
                self._writers[name] = IndexWriter(name, self._open_index)
            return self._writers[name]

    def open_writers(self) -> list[IndexWriter]:
        """Return the writers created so far."""
        return list(self._writers.values())

    def stop(self) -> None:
        """Stop all writers; see `IndexWriter.stop`. New writes are refused from now on."""
        with self._lock:
            self._is_closed = True
        for writer in self.open_writers():
            writer.stop()

    def close(self) -> None:
        """Stop all writers, and wait for their ends."""
        self.stop()
        for writer in self.open_writers():
            writer.close()


def count_outcomes(results: Sequence[AdditionResult]) -> Counter[str]:
    """Return the number of results by outcome."""
    return Counter(result.outcome for result in results)
