"""Where a command and a resident process meet, and what they say.

They meet at a Unix domain socket in the user's runtime folder, which nobody else may enter. A
message is the length of a header, the header in JSON, and the bytes that it announces. A command
sends a `CommandRequest`; the process says at once that it has taken it up, and later what it printed.

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

ACK = b"\x06"
"""The first byte of an answer (ASCII "acknowledge")."""

MAX_SOCKET_PATH_BYTES = 100
"""Bytes of a socket's path; systems allow 103 to 107."""

MAX_HEADER_BYTES = 1 << 20

FORWARDED_VARIABLES = (
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


class StreamInfo(NamedTuple):
    """How the standard output or error of a command is set up."""

    is_tty: bool
    encoding: str
    errors: str


class CommandRequest(NamedTuple):
    """What a command wants done.

    Attributes:
        compatibility_key: See `build_compatibility_key`.
        arguments: Of the command.
        cwd: Where it runs.
        environment: Of `FORWARDED_VARIABLES`, what is set; the size of a terminal as COLUMNS and LINES.
        stdout: Its standard output.
        stderr: Its standard error.
    """

    compatibility_key: dict[str, str]
    arguments: list[str]
    cwd: str
    environment: dict[str, str]
    stdout: StreamInfo
    stderr: StreamInfo


def is_supported() -> bool:
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
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    return Path(f"/tmp/mmsearch-{os.getuid()}/{digest}.socket")  # noqa: S108 - see `is_private`


def is_private(folder: Path) -> bool:
    """Whether a folder is the user's own, and nobody else may enter it."""
    try:
        info = folder.lstat()
    except OSError:
        return False
    is_own = stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()
    return is_own and not info.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def is_same_user(connection: socket.socket) -> bool:
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


def build_compatibility_key(index: Path, settings: Settings) -> dict[str, str]:
    """What must be the same for an answer to be the same: the code, the index, the settings."""
    fields = {name: str(value) for name, value in vars(settings).items() if name != "home"}
    return fields | {
        "index": os.path.realpath(index),
        "cache": os.path.realpath(settings.cache),
        "offline": f"{settings.offline} {os.environ.get('HF_HUB_OFFLINE', '')}",
        "version": mmsearch.__version__,
        "code": str(Path(mmsearch.__file__).parent),
        "python": sys.version,
    }


def send(connection: socket.socket, header: object, body: bytes = b"") -> None:
    """Send one message."""
    header_bytes = json.dumps(header).encode()
    connection.sendall(len(header_bytes).to_bytes(4, "big") + header_bytes + body)


def receive_header(connection: socket.socket) -> Any:
    """The header of the next message.

    Raises:
        EOFError: The other side has gone.
        ValueError: That is no message.
    """
    length = int.from_bytes(receive(connection, 4), "big")
    if length > MAX_HEADER_BYTES:
        raise ValueError("no header is so long")
    return json.loads(receive(connection, length))


def receive(connection: socket.socket, count: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: The other side has gone.
    """
    chunks = []
    while count:
        chunk = connection.recv(min(count, 1 << 20))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)
