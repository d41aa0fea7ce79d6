"""The ``mmsearch`` command without the start of an interpreter: one process forks for each command.

``python -m tests.command_server SOCKET`` imports mmsearch once and waits at a Unix socket. A client
(``tests/command_client.py``) sends arguments, environment, working folder and standard streams; a
fork of the server runs ``mmsearch.__main__.main`` with them. For a test the client is the command,
except for what Python does at its start: encodings from the environment, warnings, the order of
imports. Tests of those, of signals and of processes run `tests.terminal.COMMAND`. With
$MMSEARCH_TEST_TOYS the toys of `tests.toy_index` replace encoder, pictures and decoding processes;
after $MMSEARCH_TEST_KILL_AFTER_S seconds the command is killed.
"""

import gc
import importlib
import marshal
import os
import pkgutil
import re
import selectors
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass

import mmsearch
from mmsearch.__main__ import main
from mmsearch.storage import failpoints
from tests.toy_index import install_toys

PRELOADED_FOR = {"mcp": ("mcp", "server"), "serve": ("server",)}
"""Packages that only one command needs: its first run loads them."""

LATE_PACKAGES = {"__main__", "client", "encoders", "integrations", "mcp", "server"}
"""Modules and packages that are not loaded at the start; some of encoders import torch."""

FOR_SERVERS = re.compile(r"\.(executors\.ray|catalog\.postgres|vector_stores\._?(milvus|pgvector))")
"""Modules for other servers, whose packages may be missing."""

LATE_MODULES = (
    *("mmsearch.encoders.open_clip", "mmsearch.encoders.starter", "PIL.JpegImagePlugin"),
    *("filelock", "numpy.ma", "numpy.random", "onnxruntime", "rich.progress", "tokenizers"),
)
"""Modules that commands import late."""

ENCODING, ERRORS = sys.stdout.encoding, sys.stdout.errors


@dataclass(frozen=True)
class Request:
    """A command line and the process for which it runs."""

    arguments: list[str]
    environment: dict[bytes, bytes]
    folder: str
    descriptors: dict[int, int]


class CommandServer:
    """Accepts commands at a socket and forks for each; ends at the end of its standard input."""

    def __init__(self, path):
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._woken, wakeup = socket.socketpair()
        for end in (self._woken, wakeup):
            end.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(0, selectors.EVENT_READ)
        self._clients = {}

    def serve(self):
        """Serve until standard input ends; return only in a forked child, with its request."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == 0:
                    os._exit(0)
                elif key.fileobj is self._listener:
                    request = self._start()
                    if request is not None:
                        return request
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                    self._report_ended()
                elif key.fileobj in self._clients:
                    # The client was killed; the command may not have its own group yet.
                    os.kill(self._clients[key.fileobj], signal.SIGKILL)
                    with suppress(ProcessLookupError):
                        os.killpg(self._clients[key.fileobj], signal.SIGKILL)
                    self._selector.unregister(key.fileobj)

    def _start(self):
        client, _ = self._listener.accept()
        size, descriptors, _, _ = socket.recv_fds(client, 8, 3)
        content = b""
        while len(content) < int.from_bytes(size, "big"):
            content += client.recv(1 << 16)
        arguments, environment, folder, numbers = marshal.loads(content)  # noqa: S302 - of a test
        preload(PRELOADED_FOR.get(next(iter(arguments), ""), ()))
        pid = os.fork()
        if not pid:
            self._leave(client)
            return Request(
                arguments, environment, folder, dict(zip(numbers, descriptors, strict=True))
            )
        for descriptor in descriptors:
            os.close(descriptor)
        self._clients[client] = pid
        self._selector.register(client, selectors.EVENT_READ)
        send(client, pid)
        return None

    def _report_ended(self):
        pids = {pid: client for client, pid in self._clients.items()}
        while self._clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            client = pids[pid]
            del self._clients[client]
            with client:
                if client in self._selector.get_map():
                    self._selector.unregister(client)
                    send(client, os.waitstatus_to_exitcode(status))

    def _leave(self, client):
        """Close in the forked child what belongs to the server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        self._selector.close()
        for end in (client, self._listener, self._woken, self._wakeup, *self._clients):
            end.close()


def send(client, number):
    """Send a line to a client, unless it was killed."""
    with suppress(OSError):
        client.sendall(b"%d\n" % number)


def preload(packages):
    """Import modules of mmsearch, all of some packages."""
    for package in packages:
        loaded = importlib.import_module(f"mmsearch.{package}")
        for module in pkgutil.walk_packages(getattr(loaded, "__path__", ()), f"{loaded.__name__}."):
            if not FOR_SERVERS.search(module.name):
                importlib.import_module(module.name)


def become(request):
    """Take over the folder, the environment and the streams of a client."""
    os.chdir(request.folder)
    os.environ.clear()
    os.environb.update(request.environment)
    tempfile.tempdir = None
    descriptors = request.descriptors
    for number in range(3):
        os.close(number)
        if number in descriptors:
            os.dup2(descriptors[number], number)
    for descriptor in descriptors.values():
        os.close(descriptor)
    sys.stdin = sys.__stdin__ = open_stream(0, "r", descriptors)
    sys.stdout = sys.__stdout__ = open_stream(1, "w", descriptors)
    sys.stderr = sys.__stderr__ = open_stream(2, "w", descriptors)
    # Typer names the command after the arguments, unless a package was run with -m.
    sys.modules["__main__"].__package__ = None
    sys.argv = ["mmsearch", *request.arguments]
    importlib.reload(failpoints)
    if os.environ.pop("MMSEARCH_TEST_TOYS", ""):
        install_toys()
    # The default action of SIGALRM ends the process as SIGKILL does.
    signal.setitimer(signal.ITIMER_REAL, float(os.environ.pop("MMSEARCH_TEST_KILL_AFTER_S", "0")))


def open_stream(number, mode, descriptors):
    """Return a standard stream as Python makes it, or None for a closed descriptor."""
    if number not in descriptors:
        return None
    return open(
        number,
        mode,
        buffering=1 if number == 2 or os.isatty(number) else -1,
        encoding=ENCODING,
        errors="backslashreplace" if number == 2 else ERRORS,
        newline=None if mode == "r" else "\n",
        closefd=False,
    )


if __name__ == "__main__":
    server = CommandServer(sys.argv[1])
    packages = {module.name for module in pkgutil.iter_modules(mmsearch.__path__)}
    preload(sorted(packages - LATE_PACKAGES))
    for name in LATE_MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    become(server.serve())
    main()
