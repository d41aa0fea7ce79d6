"""``mmsearch serve``."""

from __future__ import annotations

import math
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch import api
from mmsearch.cli.errors import EXIT_INTERRUPTED
from mmsearch.cli.options import Home
from mmsearch.cli.output import warn
from mmsearch.core.errors import LocalSocketError, StateError, UsageError
from mmsearch.core.settings import Settings, load_settings
from mmsearch.server.config import (
    DEFAULT_DEADLINE_S,
    ServerConfig,
    parse_root_path,
    parse_trusted_proxies,
    resolve_token,
)

if TYPE_CHECKING:
    from mmsearch.core.speech import Transcript
    from mmsearch.search.listener import Listener


def serve(
    names: Annotated[
        list[str],
        typer.Option(
            "--index", help="Name of the index; repeat it to serve several.", metavar="NAME"
        ),
    ] = ["default"],  # noqa: B006 - typer copies it
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
    root_path: Annotated[
        str | None,
        typer.Option(
            help="Path below which a reverse proxy serves the page and API, such as /photos.",
            envvar="MMSEARCH_ROOT_PATH",
            show_default="X-Forwarded-Prefix of trusted proxies",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of reverse proxies whose X-Forwarded-* headers count.",
            envvar="MMSEARCH_TRUSTED_PROXIES",
            show_default="127.0.0.1 and ::1",
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
        float, typer.Option(help="Maximum size of a request, or a picture, in megabytes.", min=0.01)
    ] = 50.0,
    max_bulk: Annotated[
        float,
        typer.Option(
            help="Maximum size of a request that adds many pictures in megabytes.", min=0.01
        ),
    ] = 2000.0,
    deadline_s: Annotated[
        float,
        typer.Option(
            "--deadline",
            help="Seconds after which a request without an answer gets a 503.",
            metavar="SECONDS",
            min=0.1,
        ),
    ] = DEFAULT_DEADLINE_S,
    drain_s: Annotated[
        float,
        typer.Option(
            "--drain",
            help="Seconds to go on answering after SIGTERM, with /readyz at 503, so that a balancer"
            " sends no more requests.",
            metavar="SECONDS",
            min=0,
        ),
    ] = 0.0,
    no_indexing: Annotated[
        bool, typer.Option("--no-indexing", help="Reject all requests that change the index.")
    ] = False,
    allow_url_queries: Annotated[
        bool,
        typer.Option(
            "--allow-url-queries",
            help="Fetch pictures that requests name by URL, from public addresses only.",
        ),
    ] = False,
    create: Annotated[
        bool,
        typer.Option(
            "--create", help="Create an empty index if it does not exist, for clients to fill."
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
    if create:
        for each in names:
            _create_index(each, settings)
    if no_http:
        if len(names) > 1:
            raise UsageError("--no-http serves one index.", "Name one with --index.")
        idle_s = math.inf if idle is None else idle * 60
        stop_signal = _run_until_signal(
            partial(_serve_socket_only, names[0], settings, deadline_s, idle_s)
        )
    elif idle is not None:
        raise UsageError("--idle does not apply to an HTTP server.", "Add --no-http.")
    else:
        for origin in allow_origin or ():
            if not re.fullmatch(r"https?://[^/\s]+", origin):
                raise typer.BadParameter(
                    f"must be an address such as https://photos.example, without a path, got "
                    f"{origin!r}",
                    param_hint="--allow-origin",
                )
        served_below = parse_root_path(root_path)
        proxies = parse_trusted_proxies(trusted_proxy or ())
        config = ServerConfig(
            host=host,
            token=resolve_token(host, token, warn),
            allowed_origins=tuple(allow_origin or ()),
            max_upload_mb=max_upload,
            max_bulk_mb=max_bulk,
            requests_per_s=rate,
            deadline_s=deadline_s,
            allow_indexing=not no_indexing,
            allow_url_queries=allow_url_queries,
            root_path=served_below,
            trusted_proxies=proxies,
        )
        if allow_url_queries and _has_proxy():
            warn(
                "Pictures are fetched without the proxy, because it would choose where to connect."
            )
        stop_signal = _run_until_signal(
            partial(_serve_http, names, settings, config, port, drain_s), drain_s
        )
    warn("Idle timeout reached; stopped." if stop_signal is None else f"{_describe(names)} closed.")
    if stop_signal == signal.SIGINT:
        raise typer.Exit(EXIT_INTERRUPTED)


def _has_proxy() -> bool:
    # All commands import this module, and few serve.
    from urllib.request import getproxies

    return bool(getproxies().keys() & {"http", "https", "all"})


def _create_index(name: str, settings: Settings) -> None:
    """Create an index without pictures if it does not exist."""
    with api.open_index(name, settings=settings, on_message=warn) as index:
        if not index.exists():
            index.add([])
            warn(f"Created index {name!r}.")


def _warm_up(index: api.Index) -> None:
    """Run a query to load everything that the first real query needs."""
    from mmsearch.core.query import SearchRequest

    index.query(SearchRequest(api.parse_query("a picture")))


def _run_until_signal(work: Callable[[], None], drain_s: float = 0.0) -> int | None:
    """Return the signal that ended the work, if any; the process ends soon after a signal."""
    from mmsearch.cli.shutdown import (
        ShutdownSignalError,
        enforce_shutdown_timeout,
        raise_on_signal,
    )

    with enforce_shutdown_timeout(drain_s), raise_on_signal():
        try:
            work()
        except ShutdownSignalError as error:
            return error.signum
    return None


def _serve_socket_only(
    name: str, settings: Settings, deadline_s: float, idle_timeout_s: float
) -> None:
    from mmsearch.server.batcher import IndexWorker
    from mmsearch.server.local_server import serve_local_socket

    index = api.open_index(name, settings=settings, on_message=warn)
    folder = index.folder
    with closing(IndexWorker(index)) as worker, closing(api.open_listener(settings)) as listener:
        worker.run_blocking(_warm_up)
        listen = partial(_listen, listener)
        with serve_local_socket(folder, settings, worker, _search, deadline_s, listen) as app:
            warn(_format_ready_message([name]))
            _wait(lambda: idle_timeout_s - app.idle_s)


def _serve_http(
    names: list[str], settings: Settings, config: ServerConfig, port: int, drain_s: float
) -> None:
    from mmsearch.cli.shutdown import ShutdownSignalError
    from mmsearch.server.app import serve_in_thread
    from mmsearch.server.local_server import serve_local_socket
    from mmsearch.server.state import ServerState

    state = ServerState.create(settings, config, lambda: names, warn)
    with closing(state):
        workers = [state.index_pool.worker(name) for name in names]
        for worker in workers:
            worker.run_blocking(_warm_up)
        with serve_in_thread(state, port) as url, ExitStack() as sockets:
            try:
                listen = partial(_listen, state.speech.listener)
                failures = []
                for worker in workers:
                    folder = worker.run_blocking(lambda index: index.folder)
                    try:
                        sockets.enter_context(
                            serve_local_socket(
                                folder, settings, worker, _search, config.deadline_s, listen
                            )
                        )
                    except LocalSocketError as error:
                        failures.append(f"Commands are not forwarded to it: {error}")
                # A signal may arrive as soon as the message can be read.
                try:
                    warn(_format_ready_message(names, f" at {url}{config.root_path or ''}"))
                    for failure in failures:
                        warn(failure)
                    _wait()
                except ShutdownSignalError as error:
                    if error.signum == signal.SIGTERM and drain_s:
                        state.drain()
                        time.sleep(drain_s)
                    raise
            finally:
                # Clients that follow a job, or wait for a write, then see it end.
                state.stop()


def _wait(seconds_left: Callable[[], float] = lambda: math.inf) -> None:
    """Wait until no time is left, or a signal raises an exception."""
    while (seconds := seconds_left()) > 0:
        time.sleep(min(seconds, 3600))


def _format_ready_message(names: Sequence[str], location: str = "") -> str:
    return f"{_describe(names)} open for queries{location}; Ctrl-C stops it."


def _describe(names: Sequence[str]) -> str:
    listed = ", ".join(map(repr, names))
    return f"Index {listed} is" if len(names) == 1 else f"Indexes {listed} are"


def _listen(listener: Listener, search: Mapping[str, Any], folder: Path) -> Transcript:
    """Return what is spoken in the recording of a search command.

    Args:
        listener: Recognizes it; other clients may use it, too.
        search: Parameters of the command; its ``speech`` is a path or has the content in base64.
        folder: Working folder of the command.
    """
    from base64 import b64decode

    from mmsearch.api.sounds import read_sound
    from mmsearch.core.files import expand_user

    speech = search["speech"]
    if isinstance(speech, dict):
        content, name = read_sound(b64decode(speech["base64"]))
    else:
        content, name = read_sound(folder / expand_user(speech))
    return listener.listen(content, search.get("speech_language"), name)


def _search(
    index: api.Index, search: dict[str, Any], folder: Path, transcript: Transcript | None
) -> dict[str, Any]:
    """Return the result of a search command as a JSON object.

    Args:
        index: The index.
        search: Name of the command and its parameters.
        folder: Working folder of the command, which paths of pictures may be relative to.
        transcript: Words of a spoken query.
    """
    from mmsearch.cli.search_command import make_request
    from mmsearch.search.query_parser import format_query

    if not index.exists():
        raise StateError(f"Index {index.name!r} is gone.")
    request = make_request(transcript=transcript, **search)
    terms = request.query.terms
    absolute_terms = tuple(
        term if term.image is None else replace(term, image=folder / term.image) for term in terms
    )
    query = replace(request.query, terms=absolute_terms)
    result = index.query(replace(request, query=query))
    heard = {} if transcript is None else {"heard": transcript.heard.to_dict()}
    return result.to_dict() | {"query": format_query(terms), **heard}
