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
from mmsearch.cli.errors import INTERRUPTED, run_command
from mmsearch.cli.options import Home, IndexName
from mmsearch.cli.output import warn
from mmsearch.core.deadlines import deadline
from mmsearch.core.errors import DeadlineError, NoCallsError, UsageError
from mmsearch.core.settings import Settings, load_settings
from mmsearch.resident.protocol import ENVIRONMENT
from mmsearch.server.config import DEADLINE_S, Rules, token_for

if TYPE_CHECKING:
    from mmsearch.resident.client import Printed
    from mmsearch.resident.protocol import Call, Stream


def serve(
    name: IndexName = "default",
    home: Home = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other machines reach 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen at; 0: any that is free.", min=0, max=65535)
    ] = 7788,
    token: Annotated[
        str | None,
        typer.Option(
            help="Answer only those who know it.",
            envvar="MMSEARCH_TOKEN",
            show_default="none on 127.0.0.1, else made up and printed",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="A web site whose pages may ask, such as https://photos.example."),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(
            help="Requests a second for each client that search, encode or change something; "
            "thumbnails do not count.",
            min=0,
            show_default="as many as they like",
        ),
    ] = 0.0,
    max_upload: Annotated[
        float, typer.Option(help="Largest request, in megabytes.", min=0.01)
    ] = 50.0,
    deadline_s: Annotated[
        float,
        typer.Option(
            "--deadline",
            help="Seconds until a request that has no answer yet gets a 503.",
            metavar="SECONDS",
            min=0.1,
        ),
    ] = DEADLINE_S,
    no_indexing: Annotated[
        bool, typer.Option("--no-indexing", help="Never index, whoever asks.")
    ] = False,
    allow_url_queries: Annotated[
        bool,
        typer.Option(
            "--allow-url-queries",
            help="Fetch pictures that queries name by URL, from public addresses only.",
        ),
    ] = False,
    no_http: Annotated[
        bool, typer.Option("--no-http", help="Answer the commands of this user only.")
    ] = False,
    idle: Annotated[
        float | None,
        typer.Option(
            help="With --no-http: end after so long without a query.",
            metavar="MINUTES",
            min=0.01,
            show_default="never",
        ),
    ] = None,
) -> None:
    """Keep an index open and answer over HTTP; see docs/http-api.md.

    Queries of the command line are answered by it at once, too, and print the same. What is indexed
    meanwhile is found. Ctrl-C ends it, in five seconds at most.

    Example: mmsearch serve --port 8000
    """
    settings = load_settings().with_flags(home=home)
    # Calls come from other folders.
    settings = replace(
        settings, home=settings.indexes_home().absolute(), cache=settings.cache.absolute()
    )
    if no_http:
        idle_s = None if idle is None else idle * 60
        ended_by = _until_stopped(partial(_serve_no_http, name, settings, deadline_s, idle_s))
    elif idle is not None:
        raise UsageError("A server for HTTP does not end by itself.", "Add --no-http to --idle.")
    else:
        rules = Rules(
            host=host,
            token=token_for(host, token, warn),
            origins=tuple(allow_origin or ()),
            upload_mb=max_upload,
            requests_per_s=rate,
            deadline_s=deadline_s,
            indexing=not no_indexing,
            url_queries=allow_url_queries,
        )
        if allow_url_queries and getproxies().keys() & {"http", "https", "all"}:
            warn("Pictures are fetched without the proxy: it would choose where to connect.")
        ended_by = _until_stopped(partial(_serve_http, name, settings, rules, port))
    warn("Nobody asked for a while." if ended_by is None else f"Index {name!r} is closed.")
    if ended_by == signal.SIGINT:
        raise typer.Exit(INTERRUPTED)


def _be_warm(index: api.Index) -> None:
    """Load what the first query would have to wait for."""
    from mmsearch.core.requests import SearchRequest

    index.query(SearchRequest(api.parse_query("a picture")))


def _until_stopped(work: Callable[[], int | None]) -> int | None:
    """Return the signal that ended the work, if any; the process ends soon after it."""
    from mmsearch.resident.shutdown import StoppedError, ends_in_time, signals_raise

    with ends_in_time(), signals_raise():
        try:
            return work()
        except StoppedError as stopped:
            return stopped.number


def _serve_no_http(
    name: str, settings: Settings, deadline_s: float, idle_s: float | None
) -> int | None:
    with api.open_index(name, settings=settings, say=warn) as index:
        _be_warm(index)

        def answer(call: Call) -> Printed | None:
            with deadline(time.monotonic() + deadline_s):
                return _answer(index, call)

        return _serve_commands(index.folder, settings, answer, "", idle_s)


def _serve_http(name: str, settings: Settings, rules: Rules, port: int) -> int | None:
    from mmsearch.server.serve import running
    from mmsearch.server.state import Service

    service = Service.of(settings, rules, lambda: [name], warn)
    with closing(service):
        desk = service.desks.desk(name)
        desk.wait_for(_be_warm)
        with running(service, port) as url:

            def answer(call: Call) -> Printed | None:
                # The command does by itself what takes too long here.
                with suppress(DeadlineError), deadline(time.monotonic() + rules.deadline_s):
                    return desk.wait_for(lambda index: _answer(index, call))
                return None

            folder = desk.wait_for(lambda index: index.folder)
            try:
                return _serve_commands(folder, settings, answer, f" at {url}")
            except NoCallsError as error:
                from mmsearch.resident.server import wait_for_signal

                warn(_open_for_queries(name, f" at {url}"))
                warn(f"Commands do not go through it: {error}")
                return wait_for_signal()
            finally:
                # Who follows a job is told its end.
                service.jobs.stop()


def _serve_commands(
    folder: Path,
    settings: Settings,
    answer: Callable[[Call], Printed | None],
    where: str,
    idle_s: float | None = None,
) -> int | None:
    from mmsearch.resident.server import serve as serve_calls

    return serve_calls(
        folder,
        settings,
        answer,
        idle_s=idle_s,
        ready=lambda: warn(_open_for_queries(folder.name, where)),
    )


def _open_for_queries(name: str, where: str) -> str:
    return f"Index {name!r} is open for queries{where}; Ctrl-C ends this."


def _answer(index: api.Index, call: Call) -> Printed | None:
    """What a command prints if it ends well; None, and it does the work and says what is wrong."""
    from mmsearch.cli import search_command

    asked = fast_args.read(call.arguments)
    if asked is None or not index.exists():
        return None
    answer = search_command.query if asked.verb == "query" else search_command.similar
    printed: Printed = []

    def opened(*_: object) -> AbstractContextManager[api.Index]:
        return nullcontext(index)

    # A folder that is gone, an encoding that is none: whatever a caller says, this goes on.
    try:
        with _in_place_of(call, printed):
            code = run_command(partial(answer, **asked.values, opened=opened))
    except (OSError, LookupError, TypeError, ValueError):
        return None
    runs = groupby(printed, key=operator.itemgetter(0))
    joined = [(stream, b"".join(content for _, content in run)) for stream, run in runs]
    return joined if code == 0 else None


@contextmanager
def _in_place_of(call: Call, printed: Printed) -> Iterator[None]:
    """Be where a command is, and see what it sees; what is printed is kept.

    Raises:
        OSError: Its folder cannot be entered.
    """
    environment, streams = dict(os.environ), (sys.stdout, sys.stderr)
    try:
        os.chdir(call.folder)
        for variable in ENVIRONMENT:
            os.environ.pop(variable, None)
        os.environ.update(call.environment)
        time.tzset()
        sys.stdout, sys.stderr = _kept(1, call.output, printed), _kept(2, call.error, printed)
        yield
    finally:
        sys.stdout, sys.stderr = streams
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        # A folder that a process stays in cannot be unmounted.
        os.chdir("/")


class _Kept(io.RawIOBase):
    """Keeps what is written, and says of itself what the stream of the command is."""

    def __init__(self, number: int, terminal: bool, printed: Printed) -> None:
        self._number = number
        self._terminal = terminal
        self._printed = printed

    @property
    def name(self) -> str:
        return f"<{self._number}>"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._terminal

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self._printed.append((self._number, bytes(content)))
        return len(content)


def _kept(number: int, stream: Stream, printed: Printed) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        _Kept(number, stream.terminal, printed),
        stream.encoding,
        stream.errors,
        newline="\n",
        write_through=True,
    )
