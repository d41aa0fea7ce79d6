"""Trace: count the modules of mmsearch that one search enters.

``python -m benchmarks.trace [warm|cold|http] [--list]`` searches an index named ``default``:

- ``warm``: the third `Index.search` of a process;
- ``cold``: a whole ``mmsearch query``, which also enters each module that it imports;
- ``http``: the third POST search that a server answers.

It prints the number of modules whose functions were called, and the number of calls from one module
into another. A reader who follows the search opens that number of files, and changes between them
that often.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any
from urllib.request import Request, urlopen

import mmsearch
from mmsearch.cli.main import main as run_command

KINDS = ("warm", "cold", "http")


class Tracer:
    """Counts calls by module, in all threads that start after `install`.

    Attributes:
        calls: Number of calls of each module's functions.
        switches: Number of calls from one module into another.
        is_active: True while calls are counted.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.switches = 0
        self.is_active = False
        self._last_modules: dict[int, str] = {}

    def install(self) -> None:
        """Trace this thread and those that it starts."""
        threading.setprofile(self._on_event)
        sys.setprofile(self._on_event)

    def run(self, function: Callable[[], object]) -> None:
        """Count the calls of a function."""
        self.is_active = True
        try:
            function()
        finally:
            self.is_active = False

    def report(self, kind: str, *, with_modules: bool) -> str:
        """Return the counts as text, with one line for each module if asked for."""
        lines = [f"{kind}: {len(self.calls)} modules, {self.switches} switches"]
        if with_modules:
            lines += [f"{count:6} {module}" for module, count in self.calls.most_common()]
        return "\n".join(lines)

    def _on_event(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not self.is_active:
            return
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] != "mmsearch":
            return
        self.calls[module] += 1
        thread = threading.get_ident()
        if self._last_modules.get(thread) != module:
            self.switches += 1
            self._last_modules[thread] = module


def trace_warm(tracer: Tracer, query: str) -> None:
    """Trace a search of an index that has answered two others."""
    with mmsearch.open_index() as index:
        index.search(query)
        index.search(f"{query} again")
        tracer.install()
        tracer.run(lambda: index.search(f"a {query}"))
        sys.setprofile(None)


def trace_cold(tracer: Tracer, query: str) -> None:
    """Trace a command, with the modules that it imports while it runs."""
    sys.argv = ["mmsearch", "query", query, "--json"]
    stdout_fd = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    tracer.install()
    with suppress(SystemExit):
        tracer.run(run_command)
    sys.setprofile(None)
    os.dup2(stdout_fd, 1)


def trace_http(tracer: Tracer, query: str) -> None:
    """Trace a search that a server answers over HTTP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1/indexes/default/search"

    def post(text: str) -> Any:
        body = json.dumps({"query": text}).encode()
        request = Request(url, body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as response:  # noqa: S310
            return json.load(response)

    def send_searches() -> None:
        sys.setprofile(None)
        for attempt in range(600):
            try:
                post(query)
                break
            except OSError:
                if attempt == 599:
                    raise
                time.sleep(0.1)
        post(f"{query} again")
        tracer.run(lambda: post(f"a {query}"))

    def send_and_stop() -> None:
        try:
            send_searches()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    tracer.install()
    threading.Thread(target=send_and_stop).start()
    sys.argv = ["mmsearch", "serve", "--port", str(port)]
    with suppress(SystemExit):
        run_command()
    sys.setprofile(None)


def main() -> None:
    """Trace one kind of search and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", nargs="?", choices=KINDS, default="warm")
    parser.add_argument("--query", default="windmill")
    parser.add_argument("--list", action="store_true", help="also print each module with its calls")
    options = parser.parse_args()
    tracer = Tracer()
    trace = {"warm": trace_warm, "cold": trace_cold, "http": trace_http}[options.kind]
    trace(tracer, options.query)
    print(tracer.report(options.kind, with_modules=options.list))


if __name__ == "__main__":
    main()
