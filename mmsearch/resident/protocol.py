"""Socket path and wire protocol between a command and a resident process.

The socket is a Unix domain socket in the user's runtime folder, which nobody else may enter. A
message is the length of a header, the header in JSON, and the bytes that it announces. A command
sends a `CommandRequest`; the process acknowledges it at once and sends the output later.

A command loads this module before it knows whether there is a process, so it imports little.
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
"""First byte of an answer (ASCII "acknowledge")."""

MAX_SOCKET_PATH_BYTES = 100
"""Maximum length of a socket path in bytes; systems allow 103 to 107."""

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
"""Environment variables that affect the output, besides settings and arguments."""


class StreamInfo(NamedTuple):
    """Properties of the standard output or standard error of a command."""

    is_tty: bool
    encoding: str
    errors: str


class CommandRequest(NamedTuple):
    """A command to run.

    Attributes:
        compatibility_key: See `build_compatibility_key`.
        arguments: Arguments of the command.
        cwd: Working directory of the command.
        environment: Those of `FORWARDED_VARIABLES` that are set; COLUMNS and LINES hold the size
            of the terminal.
        stdout: Properties of its standard output.
        stderr: Properties of its standard error.
    """

    compatibility_key: dict[str, str]
    arguments: list[str]
    cwd: str
    environment: dict[str, str]
    stdout: StreamInfo
    stderr: StreamInfo


def is_supported() -> bool:
    """Return True if this system supports Unix domain sockets."""
    return os.name == "posix" and hasattr(socket, "AF_UNIX")


def socket_path(index: Path) -> Path:
    """Return the path of the socket of the process that serves an index.

    Args:
        index: Folder of the index.
    """
    digest = hashlib.blake2b(os.fsencode(os.path.realpath(index)), digest_size=8).hexdigest()
    with warnings.catch_warnings():
        # A warning about the runtime folder does not help the user of a search.
        warnings.simplefilter("ignore")
        path = platformdirs.user_runtime_path("mmsearch") / f"{digest}.socket"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    return Path(f"/tmp/mmsearch-{os.getuid()}/{digest}.socket")  # noqa: S108 - see `is_private`


def is_private(folder: Path) -> bool:
    """Return True if a folder belongs to the user and nobody else has access to it."""
    try:
        info = folder.lstat()
    except OSError:
        return False
    is_own = stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()
    return is_own and not info.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def is_same_user(connection: socket.socket) -> bool:
    """Return True if the peer runs as the same user.

    If the system cannot tell, return True and rely on the permissions of the folder.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    _, user, _ = struct.unpack("3i", credentials)
    return bool(user == os.getuid())


def build_compatibility_key(index: Path, settings: Settings) -> dict[str, str]:
    """Return what both processes must share for equal answers: code, index and settings."""
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
    """Receive the header of the next message.

    Raises:
        EOFError: The peer closed the connection.
        ValueError: The message is malformed.
    """
    length = int.from_bytes(receive(connection, 4), "big")
    if length > MAX_HEADER_BYTES:
        raise ValueError("header too long")
    return json.loads(receive(connection, length))


def receive(connection: socket.socket, count: int) -> bytes:
    """Receive exactly `count` bytes.

    Raises:
        EOFError: The peer closed the connection.
    """
    chunks = []
    while count:
        chunk = connection.recv(min(count, 1 << 20))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        count -= len(chunk)
    return b"".join(chunks)
