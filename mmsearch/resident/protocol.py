"""Where a command and a resident process meet, and what they say.

They meet at a Unix domain socket in the user's runtime folder, which nobody else may enter. A
message is the length of a header, the header in JSON, and the bytes that it announces. A command
sends a `Call`; the process says at once that it has taken it up, and later what it printed.

A command loads this module before it knows whether there is a process: it imports little.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import struct
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

import mmsearch
from mmsearch.core.settings import Settings

TAKEN_UP = b"\x06"
"""The first byte of an answer (ASCII "acknowledge")."""

LONGEST_PATH = 100
"""Bytes of a socket's path; systems allow 103 to 107."""

LARGEST_HEADER = 1 << 20

ENVIRONMENT = (
    "COLORTERM",
    "COLUMNS",
    "FORCE_COLOR",
    "HOME",
    "LINES",
    "NO_COLOR",
    "TERM",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
    "TZ",
    "UNICODE_VERSION",
)
"""What decides, beside settings and arguments, how an answer looks."""


class Stream(NamedTuple):
    """How the standard output or error of a command is set up."""

    terminal: bool
    encoding: str
    errors: str


class Call(NamedTuple):
    """What a command wants done.

    Attributes:
        identity: See `identity_of`.
        arguments: Of the command.
        folder: Where it runs.
        environment: Of `ENVIRONMENT`, what is set; the size of a terminal as COLUMNS and LINES.
        output: Its standard output.
        error: Its standard error.
    """

    identity: dict[str, str]
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    output: Stream
    error: Stream


def is_possible() -> bool:
    """Whether this system has what it takes."""
    return os.name == "posix" and hasattr(socket, "AF_UNIX")


def socket_path(index: Path) -> Path:
    """Where the process that serves an index listens.

    Args:
        index: The index's folder.
    """
    digest = hashlib.blake2b(os.fsencode(os.path.realpath(index)), digest_size=8).hexdigest()
    with warnings.catch_warnings():
        # That a folder for such things is not as it should be helps nobody who asks for pictures.
        warnings.simplefilter("ignore")
        path = platformdirs.user_runtime_path("mmsearch") / f"{digest}.socket"
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    return Path(f"/tmp/mmsearch-{os.getuid()}/{digest}.socket")  # noqa: S108 - see `is_private`


def is_private(folder: Path) -> bool:
    """Whether a folder is the user's own, and nobody else may enter it."""
    try:
        facts = folder.lstat()
    except OSError:
        return False
    mine = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
    return mine and not facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def is_own_user(connection: socket.socket) -> bool:
    """Whether the other side runs as the same user.

    Where the system does not tell, the rights of the folder have to do.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    _, user, _ = struct.unpack("3i", credentials)
    return bool(user == os.getuid())


def identity_of(index: Path, settings: Settings) -> dict[str, str]:
    """What must be the same for an answer to be the same: the code, the index, the settings."""
    facts = {name: str(value) for name, value in vars(settings).items() if name != "home"}
    return facts | {
        "index": os.path.realpath(index),
        "cache": os.path.realpath(settings.cache),
        "offline": f"{settings.offline} {os.environ.get('HF_HUB_OFFLINE', '')}",
        "version": mmsearch.__version__,
        "code": str(Path(mmsearch.__file__).parent),
        "python": sys.version,
    }


def send(connection: socket.socket, header: object, body: bytes = b"") -> None:
    """Send one message."""
    head = json.dumps(header).encode()
    connection.sendall(len(head).to_bytes(4, "big") + head + body)


def receive_header(connection: socket.socket) -> Any:
    """The header of the next message.

    Raises:
        EOFError: The other side has gone.
        ValueError: That is no message.
    """
    length = int.from_bytes(receive(connection, 4), "big")
    if length > LARGEST_HEADER:
        raise ValueError("no header is so long")
    return json.loads(receive(connection, length))


def receive(connection: socket.socket, count: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: The other side has gone.
    """
    parts = []
    while count:
        part = connection.recv(min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
