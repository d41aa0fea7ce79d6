"""``mmsearch serve``."""

from __future__ import annotations

import io
import operator
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.request import getproxies

import typer

from mmsearch import api
from mmsearch.cli import fast_args
from mmsearch.cli.errors import EXIT_INTERRUPTED, run_command
from mmsearch.cli.options import Home, IndexName
from mmsearch.cli.output import warn
from mmsearch.core.deadlines import deadline
from mmsearch.core.errors import DeadlineError, LocalSocketError, UsageError
from mmsearch.core.settings import Settings, load_settings
from mmsearch.resident.protocol import FORWARDED_VARIABLES
from mmsearch.server.config import DEFAULT_DEADLINE_S, ServerConfig, resolve_token

if TYPE_CHECKING:
    from mmsearch.resident.client import OutputChunks
    from mmsearch.resident.protocol import CommandRequest, StreamInfo


def serve(
    name: IndexName = "default",
    home: Home = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 accepts other machines.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65535)
    ] = 7788,
    token: Annotated[
        str | None,
        typer.Option(
            help="Token that clients must send.",
            envvar="MMSEARCH_TOKEN",
            show_default="none on 127.0.0.1, else generated and printed",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Website whose pages may send requests, such as https://photos.example."),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(
            help="Requests per second for each client that search, encode or change something; "
            "thumbnails do not count.",
            min=0,
            show_default="unlimited",
        ),
    ] = 0.0,
    max_upload: Annotated[
        float, typer.Option(help="Maximum size of a request in megabytes.", min=0.01)
    ] = 50.0,
    deadline_s: Annotated[
        float,
        typer.Option(
            "--deadline",
            help="Seconds after which a request without an answer gets a 503.",
            metavar="SECONDS",
            min=0.1,
        ),
    ] = DEFAULT_DEADLINE_S,
    no_indexing: Annotated[
        bool, typer.Option("--no-indexing", help="Reject all requests to index.")
    ] = False,
    allow_url_queries: Annotated[
        bool,
        typer.Option(
            "--allow-url-queries",
            help="Fetch pictures that queries name by URL, from public addresses only.",
        ),
    ] = False,
    no_http: Annotated[
        bool, typer.Option("--no-http", help="Serve only commands of this user, not HTTP.")
    ] = False,
    idle: Annotated[
        float | None,
        typer.Option(
            help="With --no-http: stop after this long without a query.",
            metavar="MINUTES",
            min=0.01,
            show_default="never",
        ),
    ] = None,
) -> None:
    """Keep an index open and answer over HTTP; see docs/reference/http-api.md.

    It also answers queries from the command line, faster and with the same output. Pictures that
    are indexed meanwhile are found. Ctrl-C stops it within five seconds.

    Example: mmsearch serve --port 8000
    """
    settings = load_settings().with_flags(home=home)
    # Commands come from other working directories.
    settings = replace(
        settings, home=settings.indexes_home().absolute(), cache=settings.cache.absolute()
    )
    if no_http:
        idle_s = None if idle is None else idle * 60
        stop_signal = _run_until_signal(
            partial(_serve_socket_only, name, settings, deadline_s, idle_s)
        )
    elif idle is not None:
        raise UsageError("--idle does not apply to an HTTP server.", "Add --no-http.")
    else:
        config = ServerConfig(
            host=host,
            token=resolve_token(host, token, warn),
            allowed_origins=tuple(allow_origin or ()),
            max_upload_mb=max_upload,
            requests_per_s=rate,
            deadline_s=deadline_s,
            allow_indexing=not no_indexing,
            allow_url_queries=allow_url_queries,
        )
        if allow_url_queries and getproxies().keys() & {"http", "https", "all"}:
            warn(
                "Pictures are fetched without the proxy, because it would choose where to connect."
            )
        stop_signal = _run_until_signal(partial(_serve_http, name, settings, config, port))
    warn("Idle timeout reached; stopped." if stop_signal is None else f"Index {name!r} is closed.")
    if stop_signal == signal.SIGINT:
        raise typer.Exit(EXIT_INTERRUPTED)


def _warm_up(index: api.Index) -> None:
    """Run a query to load everything that the first real query needs."""
    from mmsearch.core.query import SearchRequest

    index.query(SearchRequest(api.parse_query("a picture")))


def _run_until_signal(work: Callable[[], int | None]) -> int | None:
    """Return the signal that ended the work, if any; the process ends soon after a signal."""
    from mmsearch.resident.shutdown import (
        ShutdownSignalError,
        enforce_shutdown_timeout,
        raise_on_signal,
    )

    with enforce_shutdown_timeout(), raise_on_signal():
        try:
            return work()
        except ShutdownSignalError as error:
            return error.signum


def _serve_socket_only(
    name: str, settings: Settings, deadline_s: float, idle_s: float | None
) -> int | None:
    with api.open_index(name, settings=settings, on_message=warn) as index:
        _warm_up(index)

        def handle_request(request: CommandRequest) -> OutputChunks | None:
            with deadline(time.monotonic() + deadline_s):
                return _run_request(index, request)

        return _serve_commands(index.folder, settings, handle_request, "", idle_s)


def _serve_http(name: str, settings: Settings, config: ServerConfig, port: int) -> int | None:
    from mmsearch.server.serve import serve_in_thread
    from mmsearch.server.state import ServerState

    state = ServerState.create(settings, config, lambda: [name], warn)
    with closing(state):
        worker = state.index_pool.worker(name)
        worker.run_blocking(_warm_up)
        with serve_in_thread(state, port) as url:

            def handle_request(request: CommandRequest) -> OutputChunks | None:
                # If this takes too long, the command does the work itself.
                with suppress(DeadlineError), deadline(time.monotonic() + config.deadline_s):
                    return worker.run_blocking(lambda index: _run_request(index, request))
                return None

            folder = worker.run_blocking(lambda index: index.folder)
            try:
                return _serve_commands(folder, settings, handle_request, f" at {url}")
            except LocalSocketError as error:
                from mmsearch.resident.server import wait_for_signal

                warn(_format_ready_message(name, f" at {url}"))
                warn(f"Commands are not forwarded to it: {error}")
                return wait_for_signal()
            finally:
                # Clients that follow a job then see it end.
                state.jobs.stop()


def _serve_commands(
    folder: Path,
    settings: Settings,
    handle_request: Callable[[CommandRequest], OutputChunks | None],
    location: str,
    idle_s: float | None = None,
) -> int | None:
    from mmsearch.resident.server import serve as serve_local_socket

    return serve_local_socket(
        folder,
        settings,
        handle_request,
        idle_s=idle_s,
        on_ready=lambda: warn(_format_ready_message(folder.name, location)),
    )


def _format_ready_message(name: str, location: str) -> str:
    return f"Index {name!r} is open for queries{location}; Ctrl-C stops it."


def _run_request(index: api.Index, request: CommandRequest) -> OutputChunks | None:
    """Return the output of a command; None if it failed and the caller must run it itself."""
    from mmsearch.cli import search_command

    parsed = fast_args.parse_args(request.arguments)
    if parsed is None or not index.exists():
        return None
    search = search_command.query if parsed.command == "query" else search_command.similar
    chunks: OutputChunks = []

    def open_index(*_: object) -> AbstractContextManager[api.Index]:
        return nullcontext(index)

    # The caller's folder may be gone or its encoding unknown; the server must go on.
    try:
        with _command_context(request, chunks):
            exit_code = run_command(partial(search, **parsed.values, open_index=open_index))
    except (OSError, LookupError, TypeError, ValueError):
        return None
    groups = groupby(chunks, key=operator.itemgetter(0))
    merged = [(fd, b"".join(content for _, content in group)) for fd, group in groups]
    return merged if exit_code == 0 else None


@contextmanager
def _command_context(request: CommandRequest, chunks: OutputChunks) -> Iterator[None]:
    """Take over the folder, environment and stream properties of a command; capture its output.

    Raises:
        OSError: The command's folder cannot be entered.
    """
    environment, streams = dict(os.environ), (sys.stdout, sys.stderr)
    try:
        os.chdir(request.cwd)
        for variable in FORWARDED_VARIABLES:
            os.environ.pop(variable, None)
        os.environ.update(request.environment)
        time.tzset()
        sys.stdout, sys.stderr = (
            _open_capture(1, request.stdout, chunks),
            _open_capture(2, request.stderr, chunks),
        )
        yield
    finally:
        sys.stdout, sys.stderr = streams
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        # The file system of a process's working directory cannot be unmounted.
        os.chdir("/")


class _CaptureStream(io.RawIOBase):
    """Stream that captures writes and reports the properties of the command's stream."""

    def __init__(self, fd: int, is_tty: bool, chunks: OutputChunks) -> None:
        self._fd = fd
        self._is_tty = is_tty
        self._chunks = chunks

    @property
    def name(self) -> str:
        return f"<{self._fd}>"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._is_tty

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self._chunks.append((self._fd, bytes(content)))
        return len(content)


def _open_capture(fd: int, stream: StreamInfo, chunks: OutputChunks) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        _CaptureStream(fd, stream.is_tty, chunks),
        stream.encoding,
        stream.errors,
        newline="\n",
        write_through=True,
    )
