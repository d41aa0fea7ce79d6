"""Paths and texts made safe to print on a terminal."""

from __future__ import annotations

import os
from pathlib import Path


def display_path(path: bytes | str | Path) -> str:
    """Return a path or another text as one printable line.

    Control characters, characters that change the writing direction, other invisible characters
    and undecodable bytes are escaped.
    """
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


def replace_unprintable(text: str) -> str:
    """Return a text of the same length with U+FFFD in place of unprintable characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
