"""Reader of URLs for programs without an event loop: parallel, with retries and backoff."""

from __future__ import annotations

import asyncio
import io
import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import BinaryIO, Final, cast

from mmsearch.core.errors import DecodeError
from mmsearch.sources._web.addresses import AddressPolicy
from mmsearch.sources._web.fetch import Fetcher, FetchError, Headers

MAX_PARALLEL: Final = 16
"""Maximum number of URLs fetched at the same time."""

BACKOFF_S: Final = 0.5
"""Seconds before the first retry; each further retry waits twice as long."""

MAX_WAIT_S: Final = 20.0
"""Maximum seconds before a retry, also if the server asks for more."""

STREAM_BUFFER_BYTES: Final = 1 << 20
"""Size of the buffer of a stream, in bytes."""

_MAX_CHUNKS: Final = 64

ANY_ADDRESS: Final = AddressPolicy(is_allowed=lambda address: True, ports=range(1, 1 << 16))
"""The policy that allows private addresses and all ports."""


class WebReader:
    """Fetches the contents of URLs, from any thread.

    Args:
        limit_mb: Maximum size of a content in megabytes.
        allow_private: Allow addresses that are not public, and all ports.
        deadline_s: Maximum seconds of one try; None for any time.
        tries: Maximum number of tries of a URL whose failure may pass.
        accept: Media types that servers are asked for.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        limit_mb: float,
        *,
        allow_private: bool = False,
        deadline_s: float | None = 30.0,
        tries: int = 3,
        accept: str = "image/*",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._fetcher = Fetcher(
            limit_mb,
            ANY_ADDRESS if allow_private else AddressPolicy(),
            max_concurrent=MAX_PARALLEL,
            queue_timeout_s=None,
            deadline_s=deadline_s,
            accept=accept,
        )
        self._tries = tries
        self._sleep = sleep
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def read(self, url: str) -> bytes:
        """Return the content at a URL.

        Raises:
            DecodeError: It cannot be fetched; the detail ``status`` is the HTTP status, if any.
        """
        file = io.BytesIO()
        self._try(url, file)
        return file.getvalue()

    def read_headers(self, url: str) -> Headers:
        """Return the headers of the content at a URL, with names in lower case.

        Raises:
            DecodeError: See `read`.
        """
        return self._try(url, None)

    def _try(self, url: str, file: io.BytesIO | None) -> Headers:
        for attempt in range(1, self._tries + 1):
            if file is not None:
                file.seek(0)
                file.truncate()
            try:
                return self._submit(url, file).result()
            except CancelledError:
                break
            except FetchError as error:
                if not error.transient or attempt == self._tries:
                    permitted = "; the choice allow_private permits it" if error.is_blocked else ""
                    raise DecodeError(
                        error.reason + permitted, transient=error.transient, status=error.status
                    ) from error
                backoff_s = BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311
                self._sleep(min(max(backoff_s, error.retry_after_s), MAX_WAIT_S))
        raise DecodeError("the source is closed", transient=True)

    def open(self, url: str) -> io.BufferedReader:
        """Return the content at a URL as a stream, which may be larger than memory.

        Reading raises OSError if the content cannot be fetched to its end. The stream is the last
        use of this reader, because it delays other fetches while nobody reads it; closing it closes
        the reader.
        """
        stream = _Stream(self.close)
        future = self._submit(url, cast("BinaryIO", stream))
        future.add_done_callback(stream.finish)
        return io.BufferedReader(stream, STREAM_BUFFER_BYTES)

    def close(self) -> None:
        """Cancel all fetches and stop the thread."""
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _submit(self, url: str, file: BinaryIO | None) -> Future[Headers]:
        with self._lock:
            if self._is_closed:
                raise DecodeError("the source is closed", transient=True)
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._loop,), name="mmsearch-fetch", daemon=True
                )
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(self._fetcher.download(url, file), self._loop)


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


class _Stream(io.RawIOBase):
    """A pipe from the thread that fetches to the one that reads.

    The thread that fetches waits while `_MAX_CHUNKS` chunks are not read yet.

    Args:
        on_close: Called when the stream is closed.
    """

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_MAX_CHUNKS)
        self._rest = b""
        self._error: str | None = None
        self._has_ended = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, chunk: bytes) -> int:  # type: ignore[override]
        """Pass a chunk on; OSError if the reader has closed the stream."""
        while not self.closed:
            try:
                self._chunks.put(bytes(chunk), timeout=0.2)
            except queue.Full:
                continue
            return len(chunk)
        raise _ReaderGoneError("closed")

    def finish(self, future: Future[Headers]) -> None:
        """Mark the end of the content, or its failure."""
        if future.cancelled():
            self._error = "the source is closed"
        elif (error := future.exception()) is not None:
            self._error = str(error)
        while not self.closed:
            try:
                self._chunks.put(None, timeout=0.2)
            except queue.Full:
                continue
            return

    def close(self) -> None:
        """Close the stream and end the fetch."""
        if not self.closed:
            super().close()
            self._on_close()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as one chunk goes; OSError if the content ends early."""
        while not self._rest and not self._has_ended:
            chunk = self._chunks.get()
            if chunk is None:
                self._has_ended = True
            else:
                self._rest = chunk
        if not self._rest and self._error is not None:
            raise OSError(self._error)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _ReaderGoneError(Exception):
    """Raised in the thread that fetches when nobody reads the stream any more."""
