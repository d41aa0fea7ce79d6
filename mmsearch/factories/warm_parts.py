"""The model and the decode processes that an open index keeps between additions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

from mmsearch.core.identity import Identity
from mmsearch.core.protocols import Encoder, Executor, Modality
from mmsearch.core.results import TaskFailure
from mmsearch.core.settings import Settings
from mmsearch.core.threads import available_cpus, available_memory_mb
from mmsearch.executors import processes
from mmsearch.factories.plugins import OnMessage, load_index_encoder, make_modalities

Task = TypeVar("Task")
Result = TypeVar("Result")

IDLE_TIMEOUT_S = 300.0
"""Idle seconds after which the model and the processes are released."""

MAX_SMALL_BATCH = 4
"""Number of tasks up to which one decode process does the work."""


def make_decode_executor(
    settings: Settings, worker_memory_mb: int = 0, *, on_gpu: bool = False
) -> Executor:
    """Return an executor of as many decode processes as the settings say.

    Args:
        settings: Settings of this process.
        worker_memory_mb: Memory that each process needs, in megabytes; see `count_workers`.
        on_gpu: True for one process, whose address space is not limited: a driver maps the memory
            of the GPU into it.
    """
    if on_gpu:
        return processes.build(1, settings.decode_timeout_s)
    return _build_executor(settings, count_workers(settings, worker_memory_mb))


def count_workers(settings: Settings, worker_memory_mb: int = 0) -> int:
    """Return the number of decode processes; 0 for one per processor.

    Args:
        settings: Settings of this process.
        worker_memory_mb: Memory that each process needs, in megabytes. Unless the settings say how
            many there are, they use half of the memory at most.
    """
    workers = settings.workers
    memory_mb = available_memory_mb()
    if not workers and worker_memory_mb and memory_mb is not None:
        workers = max(1, min(available_cpus(), memory_mb // 2 // worker_memory_mb))
    return workers


def _build_executor(settings: Settings, workers: int) -> Executor:
    return processes.build(workers, settings.decode_timeout_s, settings.decode_memory_mb)


class WarmParts:
    """The model and the decode processes of an index, kept for its next additions.

    One caller at a time uses the parts; the others wait. After some idle time the parts are
    released.

    Args:
        settings: Settings of this process.
        on_message: Called with a message before slow one-time work.
        idle_timeout_s: Idle seconds after which the parts are released.
    """

    def __init__(
        self, settings: Settings, on_message: OnMessage, idle_timeout_s: float = IDLE_TIMEOUT_S
    ) -> None:
        self._settings = settings
        self._on_message = on_message
        self._idle_timeout_s = idle_timeout_s
        self._turn = threading.RLock()
        self._timer: threading.Timer | None = None
        self._encoder: Encoder | None = None
        self._modalities: tuple[Modality, ...] | None = None
        self._decoders: SizedExecutor | None = None

    @contextmanager
    def use(self) -> Iterator[WarmParts]:
        """Wait for other callers, and keep the parts during the context."""
        with self._turn:
            if self._timer is not None:
                self._timer.cancel()
            try:
                yield self
            finally:
                if self._encoder is not None or self._decoders is not None:
                    self._timer = threading.Timer(self._idle_timeout_s, self.close)
                    self._timer.daemon = True
                    self._timer.start()

    def encoder(self, identity: Identity) -> Encoder:
        """Return the encoder of an index.

        Raises:
            EncoderMismatchError: See `load_index_encoder`.
        """
        encoder = self._encoder
        if encoder is None or encoder.spec.fingerprint != identity.encoder.fingerprint:
            encoder = load_index_encoder(identity, self._settings, self._on_message)
            self._encoder = encoder
        return encoder

    def keep(self, encoder: Encoder) -> None:
        """Keep the encoder of a new index for its next additions."""
        self._encoder = encoder

    def modalities(self) -> tuple[Modality, ...]:
        """Return all modalities."""
        if self._modalities is None:
            self._modalities = make_modalities(self._settings)
        return self._modalities

    @contextmanager
    def decoders(self) -> Iterator[Executor]:
        """Return the decode processes; an error in the context ends them."""
        if self._decoders is None:
            self._decoders = SizedExecutor(
                lambda: _build_executor(self._settings, 1),
                lambda: make_decode_executor(self._settings),
            )
        try:
            yield self._decoders
        except BaseException:
            # No thread may keep waiting for a decoder.
            self._decoders.close()
            self._decoders = None
            raise

    def close(self) -> None:
        """Release the model and end the processes, after the caller that uses them."""
        with self._turn:
            if self._timer is not None:
                self._timer.cancel()
            if self._decoders is not None:
                self._decoders.close()
            self._timer = self._encoder = self._decoders = None


class SizedExecutor:
    """Executor that gives a few tasks to one process, and many to all.

    The processes of either kind start when they are first needed: on a computer with many
    processors, a single picture does not start one for each.

    Args:
        make_small: Creates the executor for up to `MAX_SMALL_BATCH` tasks.
        make_large: Creates the executor for more.
    """

    def __init__(
        self, make_small: Callable[[], Executor], make_large: Callable[[], Executor]
    ) -> None:
        self._make_small = make_small
        self._make_large = make_large
        self._lock = threading.Lock()
        self._small: Executor | None = None
        self._large: Executor | None = None

    def run(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result | TaskFailure]]:
        """Yield each task with its result, in the order of the tasks."""
        remaining = iter(tasks)
        first: Sequence[Task] = list(islice(remaining, MAX_SMALL_BATCH + 1))
        executor = self._choose(is_few=len(first) <= MAX_SMALL_BATCH)
        return executor.run(make_worker, chain(first, remaining))

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            for executor in (self._small, self._large):
                if executor is not None:
                    executor.close()

    def _choose(self, *, is_few: bool) -> Executor:
        with self._lock:
            # A small batch uses the processes that a large one has started.
            if self._large is not None:
                return self._large
            if not is_few:
                self._large = self._make_large()
                return self._large
            if self._small is None:
                self._small = self._make_small()
            return self._small
