"""Names of pictures' files in the ``Content-Disposition`` header (RFC 6266)."""

from __future__ import annotations

import os
import re
import unicodedata
from urllib.parse import quote

MAX_NAME_BYTES = 255
"""Maximum length of a file name in the file systems that are in use, in bytes of UTF-8."""

_ENDING_PATTERN = re.compile(r"(?<=.)\.(?:[A-Za-z]\w{0,9})?$", re.ASCII | re.DOTALL)

# Windows allows none of these in a name, and a name must not lead to another folder.
_RESERVED = re.compile(r'[\\/:*?"<>|]')

# Some browsers decode percent signs in the plain parameter.
_RESERVED_IN_ASCII = re.compile(rf"{_RESERVED.pattern}|%")


def inline_disposition(name: str) -> str:
    """Return the value of a header that shows a file in the browser, and saves it under a name.

    Args:
        name: See `original_name`. Clients that know RFC 5987 get it as it is, others in ASCII.
    """
    ascii_name = "".join(
        char if char.isascii() else "_"
        for char in unicodedata.normalize("NFKD", name)
        if not unicodedata.combining(char)
    )
    return (
        f'inline; filename="{_RESERVED_IN_ASCII.sub("_", ascii_name)}"; '
        f"filename*=UTF-8''{quote(name, safe='')}"
    )


def original_name(path: bytes) -> str:
    """Return the name of a file without its folder, safe to save under on any system.

    Undecodable bytes, invisible characters and characters with a meaning in paths become ``_``.
    """
    name = os.path.basename(path).decode("utf-8", "replace")  # noqa: PTH119 - bytes need os.path
    printable = "".join(char if char.isprintable() and char != "\ufffd" else "_" for char in name)
    return _RESERVED.sub("_", printable)


def thumbnail_name(path: bytes) -> str:
    """Return the name of a file's thumbnail: that of the file, with the ending ``.webp``."""
    stem = _ENDING_PATTERN.sub("", original_name(path)).encode()
    ending = b".webp"
    return stem[: MAX_NAME_BYTES - len(ending)].decode(errors="ignore") + ending.decode()
