"""``mmsearch serve``."""

from __future__ import annotations

import io
import operator
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch import api
from mmsearch.cli import arguments
from mmsearch.cli.errors import INTERRUPTED, run_command
from mmsearch.cli.options import Home, IndexName
from mmsearch.cli.output import warn
from mmsearch.core.settings import load_settings
from mmsearch.resident.meeting import ENVIRONMENT

if TYPE_CHECKING:
    from mmsearch.resident.client import Printed
    from mmsearch.resident.meeting import Call, Stream


def serve(
    name: IndexName = "default",
    home: Home = None,
    idle: Annotated[
        float | None,
        typer.Option(
            help="End after so long without a query.",
            metavar="MINUTES",
            min=0.01,
            show_default="never",
        ),
    ] = None,
) -> None:
    """Keep an index and its model open, so that queries are answered at once.

    While it runs, query and similar use it by themselves, and print the same. What is indexed
    meanwhile is found. Ctrl-C ends it.

    Example: mmsearch serve --idle 30
    """
    from mmsearch.core.requests import SearchRequest
    from mmsearch.resident.server import serve as serve_calls

    settings = load_settings().with_flags(home=home)
    # Calls come from other folders.
    settings = replace(
        settings, home=settings.indexes_home().absolute(), cache=settings.cache.absolute()
    )
    with api.open_index(name, settings=settings, say=warn) as index:
        index.query(SearchRequest(api.parse_query("a picture")))
        ended_by = serve_calls(
            index.folder,
            settings,
            partial(_answer, index),
            idle_s=None if idle is None else idle * 60,
            ready=lambda: warn(f"Index {index.name!r} is open for queries; Ctrl-C ends this."),
        )
    warn("Nobody asked for a while." if ended_by is None else f"Index {name!r} is closed.")
    if ended_by == signal.SIGINT:
        raise typer.Exit(INTERRUPTED)


def _answer(index: api.Index, call: Call) -> Printed | None:
    """What a command prints if it ends well; None, and it does the work and says what is wrong."""
    from mmsearch.cli import answering

    asked = arguments.read(call.arguments)
    if asked is None or not index.exists():
        return None
    answer = answering.query if asked.verb == "query" else answering.similar
    printed: Printed = []

    def opened(*_: object) -> AbstractContextManager[api.Index]:
        return nullcontext(index)

    try:
        with _in_place_of(call, printed):
            code = run_command(
                partial(
                    answer, **asked.values, opened=lambda name, home, device: nullcontext(index)
                )
            )
    except OSError:
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
