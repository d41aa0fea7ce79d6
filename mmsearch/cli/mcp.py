"""``mmsearch mcp``."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch import api
from mmsearch.cli.errors import INTERRUPTED
from mmsearch.cli.options import Home, IndexName
from mmsearch.cli.output import warn
from mmsearch.core.errors import MissingExtraError, UsageError
from mmsearch.core.settings import load_settings

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

HOST = "127.0.0.1"
PORT = 7789

PREVIEWS_AT_ONCE = 4
"""Processes that decode, as long as the assistant runs: one that sees twelve needs no more."""

ENDS_WITHIN_S = 2.0
"""What takes longer when a signal comes is left as it is: nothing is written that could be lost."""

LOOK_EVERY_S = 1.0
"""Where a wait is not interrupted by a signal, it is noticed so much later."""


def assist(
    name: IndexName = "default",
    home: Home = None,
    http: Annotated[
        bool, typer.Option("--http", help="Answer over HTTP instead of standard input and output.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            help="With --http: address to listen at; other machines reach 0.0.0.0.",
            show_default=HOST,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="With --http: port to listen at; 0: any that is free.",
            min=0,
            max=65535,
            show_default=str(PORT),
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="With --http: answer only those who know it.",
            envvar="MMSEARCH_TOKEN",
            show_default="none on 127.0.0.1, else made up and printed",
        ),
    ] = None,
) -> None:
    """Let an assistant search and see your pictures; see docs/assistant.md.

    It speaks the Model Context Protocol: an assistant that does, too, starts this by itself once
    it is told the command. Nothing is ever changed.

    Example: mmsearch mcp --index holiday
    """
    if not http and (host is not None or port is not None):
        raise UsageError("--host and --port say where HTTP is answered.", "Add --http to them.")
    if find_spec("mcp") is None:
        raise MissingExtraError(
            "Assistants need the Python package 'mcp', which is not installed.",
            "Install it with: pip install 'mmsearch[mcp]'",
        )
    from mmsearch.mcp.server import make_server
    from mmsearch.mcp.tools import Tools
    from mmsearch.server.batcher import Desk
    from mmsearch.server.thumbnails import Thumbnails

    settings = load_settings().with_flags(home=home)
    with ExitStack() as parts:
        pictures = api.open_pictures(settings, PREVIEWS_AT_ONCE)
        thumbnails = Thumbnails(
            settings.cache / "thumbnails",
            pictures,
            settings.thumbnails_mb,
            follow_links=settings.follow_symlinks,
        )
        parts.enter_context(closing(thumbnails))
        index = api.open_index(name, settings=settings, say=warn)
        desk = parts.enter_context(closing(Desk(index)))
        # An index that is not there is said at once, not when the assistant asks.
        desk.wait_for(lambda index: index.status())
        server = make_server(Tools(desk, thumbnails))
        if http:
            _answer_http(server, name, host or HOST, PORT if port is None else port, token)
        else:
            _answer_pipes(server, parts.close)


def _answer_pipes(server: Server[Any], close: Callable[[], None]) -> None:
    from mmsearch.mcp.stdio_transport import answer_pipes
    from mmsearch.resident.shutdown import end_after_input, kill_workers

    def leave(number: int, frame: FrameType | None) -> None:
        ending = threading.Thread(target=close, daemon=True)
        ending.start()
        ending.join(ENDS_WITHIN_S)
        kill_workers()
        if number == signal.SIGINT:
            warn("Interrupted.")
        # A thread waits for the next line; nothing but its coming would end it, and Python waits.
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    end_after_input(0)
    answer_pipes(server)


def _answer_http(server: Server[Any], name: str, host: str, port: int, token: str | None) -> None:
    from mmsearch.mcp.http_transport import PATH, answering_http
    from mmsearch.resident.shutdown import ends_in_time
    from mmsearch.server.config import Rules, token_for

    rules = Rules(host=host, token=token_for(host, token, warn))
    ended = threading.Event()
    numbers: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        numbers.append(number)
        ended.set()

    with ends_in_time(), answering_http(server, rules, port) as url:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        warn(f"Index {name!r} is open for assistants at {url}{PATH}; Ctrl-C ends this.")
        while not ended.wait(LOOK_EVERY_S):
            pass
    warn(f"Index {name!r} is closed.")
    if signal.SIGINT in numbers:
        raise typer.Exit(INTERRUPTED)
