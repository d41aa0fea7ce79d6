"""Server on a local socket; the commands of its user search the index through it.

Only the user can reach the socket, so it needs no token, and no browser can be made to use it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mmsearch import api
from mmsearch.core.deadlines import deadline
from mmsearch.core.errors import BusyError, LocalSocketError, StateError
from mmsearch.core.settings import Settings
from mmsearch.core.speech import Transcript
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.errors import problem_response, response_for_error
from mmsearch.server.http_protocol import LimitedHttpProtocol
from mmsearch.server.local_socket import (
    build_compatibility_key,
    is_private,
    is_same_user,
    is_supported,
    socket_path,
)
from mmsearch.server.serve import run_in_thread

START_TIMEOUT_S = 0.5
"""Seconds that a search may wait for the index; after that the command searches by itself."""

SearchFunction = Callable[[api.Index, dict[str, Any], Path, Transcript | None], dict[str, Any]]
"""Function that searches an index: it gets the parameters of a command, its working folder and the
words of a spoken query, and returns a `SearchResult` as a JSON object."""

ListenFunction = Callable[[Mapping[str, Any], Path], Transcript]
"""Function that recognizes the recording of a command, by its parameters and working folder."""


class LocalSearchApp:
    """ASGI application that answers the searches of commands.

    Args:
        worker: Worker of the index.
        compatibility_key: Key of this process; searches with another one are not answered.
        search: Answers a search.
        deadline_s: Seconds that a search may take.
        listen: Recognizes spoken queries, in a thread of its own; None to leave them to commands.
    """

    def __init__(
        self,
        worker: IndexWorker,
        compatibility_key: dict[str, str],
        search: SearchFunction,
        deadline_s: float,
        listen: ListenFunction | None = None,
    ) -> None:
        self._worker = worker
        self._listen = listen
        self._compatibility_key = compatibility_key
        self._search = search
        self._deadline_s = deadline_s
        self._active_requests = 0
        self._last_used_s = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the end of the last request; 0 during a request."""
        return 0.0 if self._active_requests else time.monotonic() - self._last_used_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        self._active_requests += 1
        try:
            response = await self._respond(Request(scope, receive))
            await response(scope, receive, send)
        finally:
            self._last_used_s = time.monotonic()
            self._active_requests -= 1

    async def _respond(self, request: Request) -> Response:
        try:
            message = json.loads(await request.body())
            key, search, cwd = message["key"], dict(message["search"]), Path(message["cwd"])
        except (ValueError, KeyError, TypeError):
            return problem_response(400, "The request is not a search of a command.")
        if key != self._compatibility_key:
            return problem_response(409, "The server has other code or other settings.")
        loop = asyncio.get_running_loop()
        transcript = None
        try:
            if search.get("speech") is not None:
                if self._listen is None:
                    return problem_response(409, "The server recognizes no speech.")
                transcript = await asyncio.to_thread(self._listen, search, cwd)
            async with asyncio.timeout(START_TIMEOUT_S) as timeout:

                def extend() -> None:
                    # The timeout may have expired just before.
                    with suppress(RuntimeError):
                        timeout.reschedule(loop.time() + self._deadline_s)

                def work(index: api.Index) -> dict[str, Any]:
                    loop.call_soon_threadsafe(extend)
                    return self._search(index, search, cwd, transcript)

                with deadline(time.monotonic() + self._deadline_s):
                    result = await self._worker.run(work)
        except TimeoutError:
            return response_for_error(BusyError("The index is busy.", "Try again later."))
        # The command searches by itself and reports the error.
        except Exception as error:  # noqa: BLE001
            return response_for_error(error)
        return Response(json.dumps(result), media_type="application/json")


class _SameUserProtocol(LimitedHttpProtocol):
    """HTTP protocol that closes connections of other users."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not is_same_user(transport.get_extra_info("socket")):
            transport.abort()


@contextmanager
def serve_local_socket(
    index: Path,
    settings: Settings,
    worker: IndexWorker,
    search: SearchFunction,
    deadline_s: float,
    listen: ListenFunction | None = None,
) -> Iterator[LocalSearchApp]:
    """Answer the searches of commands until the context ends.

    Args:
        index: Folder of the index.
        settings: Settings of this process; commands with other settings are not answered.
        worker: Worker of the index.
        search: Answers a search, in the worker's thread.
        deadline_s: Seconds that a search may take.
        listen: Recognizes spoken queries; see `LocalSearchApp`.

    Raises:
        LocalSocketError: The system lacks Unix domain sockets, or another process serves the
            index.
        StateError: Other users have access to the runtime folder.
    """
    if not is_supported():
        raise LocalSocketError(
            "A local server needs Unix domain sockets, which this system does not have.",
            "Queries work without it.",
        )
    path = socket_path(index)
    _ensure_private_folder(path.parent)
    key = build_compatibility_key(index, settings)
    app = LocalSearchApp(worker, key, search, deadline_s, listen)
    with (
        _exclusive_lock(path, index),
        _listen(path) as listener,
        # A command whose search is cut off searches by itself.
        run_in_thread(app, listener, _SameUserProtocol, grace_s=0),
    ):
        yield app


def _ensure_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(folder):
        raise StateError(
            f"{folder} is accessible to other users.", f"Restrict it with: chmod 700 {folder}"
        )


@contextmanager
def _exclusive_lock(path: Path, index: Path) -> Iterator[None]:
    """Hold the lock of an index; the kernel releases it however the process ends."""
    lock = filelock.FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LocalSocketError(
            f"Another process already serves index {index.name!r}.",
            "Queries use it automatically.",
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _listen(path: Path) -> Iterator[socket.socket]:
    # The holder of the lock may remove the socket that a killed process has left.
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        previous_umask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous_umask)
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
