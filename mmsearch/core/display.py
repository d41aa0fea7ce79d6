"""Paths and texts as a terminal can show them."""

from __future__ import annotations

import os
from pathlib import Path


def display_path(path: bytes | str | Path) -> str:
    """A path as one printable line: control characters and undecodable bytes are escaped."""
    text = os.fsdecode(path)
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "surrogateescape").decode()
        if not "\udc80" <= char <= "\udcff"
        else f"\\x{ord(char) - 0xDC00:02x}"
        for char in text
    )
