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
from mmsearch.cli.errors import EXIT_INTERRUPTED
from mmsearch.cli.options import Home
from mmsearch.cli.output import warn
from mmsearch.core.errors import MissingExtraError, UsageError
from mmsearch.core.settings import load_settings

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7789

PREVIEW_WORKERS = 4
"""Decoder processes, which run as long as the assistant; 12 previews per answer need no more."""

SHUTDOWN_TIMEOUT_S = 2.0
"""Seconds to close after a signal; then work is abandoned, as no written data can be lost."""

POLL_INTERVAL_S = 1.0
"""Maximum delay in seconds to notice a signal on systems where it does not interrupt a wait."""


def serve_mcp(
    names: Annotated[
        list[str], typer.Option("--index", help="Name of the index.", metavar="NAME")
    ] = ["default"],  # noqa: B006 - typer copies it
    home: Home = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve over HTTP instead of standard input and output.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            help="With --http: address to listen on; 0.0.0.0 accepts other machines.",
            show_default=DEFAULT_HOST,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="With --http: port to listen on; 0 picks a free one.",
            min=0,
            max=65535,
            show_default=str(DEFAULT_PORT),
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="With --http: token that clients must send.",
            envvar="MMSEARCH_TOKEN",
            show_default="none on 127.0.0.1, else generated and printed",
        ),
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(
            help="With --http: path below which a proxy serves this, such as /photos.",
            envvar="MMSEARCH_ROOT_PATH",
            show_default="X-Forwarded-Prefix of trusted proxies",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="With --http: address or network of reverse proxies whose headers count.",
            envvar="MMSEARCH_TRUSTED_PROXIES",
            show_default="127.0.0.1 and ::1",
        ),
    ] = None,
) -> None:
    """Let an AI assistant search and see your pictures; see docs/how-to/assistant.md.

    The command is a Model Context Protocol server: an assistant that supports the protocol starts
    it by itself once it is configured. Nothing is ever changed.

    Example: mmsearch mcp --index holiday
    """
    if not http and (host is not None or port is not None):
        raise UsageError("--host and --port apply only to HTTP.", "Add --http.")
    if len(names) > 1:
        raise UsageError(
            "An assistant searches one index with each server.",
            "Configure one 'mmsearch mcp --index NAME' for each index.",
        )
    (name,) = names
    if find_spec("mcp") is None:
        raise MissingExtraError.for_extra("mmsearch mcp", "mcp", "mcp")
    from mmsearch.mcp.server import make_server
    from mmsearch.mcp.tools import Tools
    from mmsearch.server.batcher import IndexWorker
    from mmsearch.server.config import parse_root_path, parse_trusted_proxies
    from mmsearch.server.listening import SpeechQueue
    from mmsearch.server.thumbnails import ThumbnailCache

    proxies = {
        "root_path": parse_root_path(root_path) if http else None,
        "trusted_proxies": parse_trusted_proxies(trusted_proxy or () if http else ()),
    }
    settings = load_settings().with_flags(home=home)
    with ExitStack() as stack:
        image_loader = api.open_image_loader(settings, PREVIEW_WORKERS)
        thumbnails = ThumbnailCache(
            settings.cache / "thumbnails",
            image_loader,
            settings.thumbnails_mb,
            follow_links=settings.follow_symlinks,
        )
        stack.enter_context(closing(thumbnails))
        index = api.open_index(name, settings=settings, on_message=warn)
        worker = stack.enter_context(closing(IndexWorker(index)))
        # Report a missing index at once, not at the assistant's first call.
        worker.run_blocking(lambda index: index.status())
        speech = stack.enter_context(closing(SpeechQueue(api.open_listener(settings))))
        server = make_server(Tools(worker, thumbnails, speech))
        if http:
            port = DEFAULT_PORT if port is None else port
            _serve_http(server, name, host or DEFAULT_HOST, port, token, **proxies)
        else:
            _serve_stdio(server, stack.close)


def _serve_stdio(server: Server[Any], close: Callable[[], None]) -> None:
    from mmsearch.cli.shutdown import exit_after_input, kill_workers
    from mmsearch.mcp.transports import serve_stdio

    def handle_signal(signum: int, frame: FrameType | None) -> None:
        closer = threading.Thread(target=close, daemon=True)
        closer.start()
        closer.join(SHUTDOWN_TIMEOUT_S)
        kill_workers()
        if signum == signal.SIGINT:
            warn("Interrupted.")
        # A thread blocks until the next line arrives, and a normal exit would wait for it.
        os._exit(128 + signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, handle_signal)
    exit_after_input(0)
    serve_stdio(server)


def _serve_http(
    server: Server[Any], name: str, host: str, port: int, token: str | None, **proxies: Any
) -> None:
    from mmsearch.cli.shutdown import enforce_shutdown_timeout
    from mmsearch.mcp.transports import MCP_PATH, serve_http
    from mmsearch.server.config import ServerConfig, resolve_token

    config = ServerConfig(host=host, token=resolve_token(host, token, warn), **proxies)
    stop_event = threading.Event()
    received_signals: list[int] = []

    def handle_signal(signum: int, frame: FrameType | None) -> None:
        received_signals.append(signum)
        stop_event.set()

    with enforce_shutdown_timeout(), serve_http(server, config, port) as url:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, handle_signal)
        address = f"{url}{config.root_path or ''}{MCP_PATH}"
        warn(f"Index {name!r} is open for assistants at {address}; Ctrl-C stops it.")
        while not stop_event.wait(POLL_INTERVAL_S):
            pass
    warn(f"Index {name!r} is closed.")
    if signal.SIGINT in received_signals:
        raise typer.Exit(EXIT_INTERRUPTED)
