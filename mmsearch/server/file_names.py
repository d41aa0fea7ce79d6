"""Names of pictures' files in the ``Content-Disposition`` header (RFC 6266)."""

from __future__ import annotations

import os
import re
import unicodedata
from urllib.parse import quote

MAX_NAME_BYTES = 255
"""Maximum length of a file name in the file systems that are in use, in bytes of UTF-8."""

_ENDING_PATTERN = re.compile(r"(?<=.)\.(?:[A-Za-z]\w{0,9})?$", re.ASCII | re.DOTALL)

# Browsers disagree about these in the plain parameter; a slash may come from one of full width.
_AMBIGUOUS_IN_ASCII = re.compile(r'[\\/"%]')

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, halves of characters, and ends of lines."""

_UNSAFE_DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Classes of characters that change the direction of text, which can hide the ending of a name."""


def content_disposition(name: str, *, download: bool = False) -> str:
    """Return the value of a header that shows a file in the browser, and saves it under a name.

    Args:
        name: See `original_name`. Clients that know RFC 5987 get it as it is, others in ASCII.
        download: Save it without showing it.
    """
    ascii_name = "".join(
        char if char.isascii() else "_"
        for char in unicodedata.normalize("NFKD", name)
        if not unicodedata.combining(char)
    )
    kind = "attachment" if download else "inline"
    return (
        f'{kind}; filename="{_AMBIGUOUS_IN_ASCII.sub("_", ascii_name)}"; '
        f"filename*=UTF-8''{quote(name, safe='')}"
    )


def original_name(path: bytes) -> str:
    """Return the name of a file without its folder, safe to save under on any system.

    Undecodable bytes, separators of folders, control characters and those that change the direction
    of text become ``_``.
    """
    name = os.path.basename(path).decode("utf-8", "replace")  # noqa: PTH119 - bytes need os.path
    return "".join("_" if _is_unsafe(char) else char for char in name)


def _is_unsafe(char: str) -> bool:
    return (
        char in "/\\\ufffd"
        or unicodedata.category(char) in _UNSAFE_CATEGORIES
        or unicodedata.bidirectional(char) in _UNSAFE_DIRECTIONS
    )


def thumbnail_name(path: bytes) -> str:
    """Return the name of a file's thumbnail: that of the file, with the ending ``.webp``."""
    stem = _ENDING_PATTERN.sub("", original_name(path)).encode()
    ending = b".webp"
    return stem[: MAX_NAME_BYTES - len(ending)].decode(errors="ignore") + ending.decode()
