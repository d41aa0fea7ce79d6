"""Spoken queries of all clients: one recognizer, and a queue before it."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

from mmsearch.core.errors import BusyError, DecodeError, SourceError
from mmsearch.core.speech import Transcript
from mmsearch.search.listener import Listener

MAX_WAITING = 8
"""Maximum number of spoken queries that wait or run; further ones are refused."""

IDLE_TIMEOUT_S = 300.0
"""Idle seconds after which the model and the decode process are released."""


class SpeechQueue:
    """Recognizes one spoken query after another, in a thread of its own.

    Args:
        listener: Hears the queries. Others may use it, too, until this queue closes it.
        max_waiting: Maximum number of queries that wait or run.
        idle_timeout_s: Idle seconds after which the listener is closed.

    Attributes:
        listener: The listener.
    """

    def __init__(
        self,
        listener: Listener,
        max_waiting: int = MAX_WAITING,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        self.listener = listener
        self._max_waiting = max_waiting
        self._idle_timeout_s = idle_timeout_s
        self._waiting = 0
        self._release_timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, "mmsearch-speech")

    @property
    def is_available(self) -> bool:
        """True if the extra ``speech`` is installed."""
        return find_spec("faster_whisper") is not None

    async def listen(self, content: bytes, language: str | None) -> Transcript:
        """Return what is spoken in an uploaded recording; see `Listener.listen`.

        Raises:
            BusyError: Too many spoken queries are waiting.
            DecodeError: The content is not a recording, or is too long.
        """
        if self._waiting >= self._max_waiting:
            raise BusyError(
                f"{self._max_waiting} spoken queries are already waiting.", "Try again later."
            )
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        if self._release_timer is not None:
            self._release_timer.cancel()
        future = self._thread.submit(context.run, self.listener.listen, content, language)
        self._waiting += 1
        # A client that goes away does not end the work of the thread.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._count_done, loop))
        try:
            return await asyncio.wrap_future(future)
        except SourceError as error:
            raise DecodeError(error.message, error.hint) from error

    def close(self) -> None:
        """Drop the queries that wait, and free the model and the process."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.listener.close()

    def _count_done(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._release_timer = loop.call_later(self._idle_timeout_s, self._release)

    def _release(self) -> None:
        self._thread.submit(self.listener.close)
