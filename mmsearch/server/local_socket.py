"""Local socket of a served index, and the client through which commands search the index.

A server listens on a Unix domain socket in the user's runtime folder, which nobody else may enter.

A command loads this module before it knows whether there is a server, so it imports little. It
writes its one HTTP request by hand, because importing http.client takes a tenth of its time.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

import mmsearch
from mmsearch.core.settings import Settings

ACCEPT_TIMEOUT_S = 0.5
"""Seconds to wait for the server to accept a search before the command searches by itself."""

ANSWER_TIMEOUT_S = 60.0
"""Seconds to wait for the result of an accepted search before the command searches by itself."""

MAX_SOCKET_PATH_BYTES = 100
"""Maximum length of a socket path in bytes; systems allow 103 to 107."""

MAX_LINE_BYTES = 1000

# The server answers 100 as soon as it reads the request.
_REQUEST = (
    b"POST /search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n%s"
)


def is_supported() -> bool:
    """Return True if this system supports Unix domain sockets."""
    return os.name == "posix" and hasattr(socket, "AF_UNIX")


def socket_path(index: Path) -> Path:
    """Return the path of the socket of the server of an index.

    Args:
        index: Folder of the index.
    """
    # A hash of hashlib takes ten times as long to import; servers compare the whole path.
    digest = f"{zlib.crc32(os.fsencode(os.path.realpath(index))):08x}"
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


def is_same_user(connection: Any) -> bool:
    """Return True if the peer of a socket runs as the same user.

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
    """Return what both processes must share for equal results: code, index and settings."""
    fields = {name: str(value) for name, value in vars(settings).items() if name != "home"}
    return fields | {
        "index": os.path.realpath(index),
        "cache": os.path.realpath(settings.cache),
        "offline": f"{settings.offline} {os.environ.get('HF_HUB_OFFLINE', '')}",
        "version": mmsearch.__version__,
        "code": str(Path(mmsearch.__file__).parent),
        "python": sys.version,
        # Paths of pictures may begin with ~, and dates are local.
        "user_home": os.path.expanduser("~"),  # noqa: PTH111 - it never fails
        "time_zone": f"{time.tzname} {time.timezone} {time.altzone}",
    }


def search(index: Path, settings: Settings, command: Mapping[str, Any]) -> dict[str, Any] | None:
    """Let the server of an index answer a search.

    Args:
        index: Folder of the index.
        settings: Settings of the command.
        command: Name of the command and its parameters, without those of its output.

    Returns:
        The `SearchResult` as a JSON object; None if the command must search by itself, because no
        process serves this index with the same code and settings, or because the search failed.
    """
    if not is_supported():
        return None
    path = socket_path(index)
    if not is_private(path.parent):
        return None
    try:
        message = {
            "key": build_compatibility_key(index, settings),
            "cwd": os.getcwd(),  # noqa: PTH109 - sent as a string
            "search": command,
        }
        body = json.dumps(message, default=str).encode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ACCEPT_TIMEOUT_S)
            connection.connect(str(path))
            if not is_same_user(connection):
                return None
            connection.sendall(_REQUEST % (len(body), body))
            with connection.makefile("rb") as response:
                if _read_status(response) != b"100":
                    return None
                connection.settimeout(ANSWER_TIMEOUT_S)
                result = json.load(response) if _read_status(response) == b"200" else None
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None


def _read_status(response: Any) -> bytes:
    """Read the status line and the headers of a response; return the status."""
    version, _, line = response.readline(MAX_LINE_BYTES).partition(b" ")
    while response.readline(MAX_LINE_BYTES).strip():
        pass
    return line[:3] if version == b"HTTP/1.1" else b""
