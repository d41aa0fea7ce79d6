"""Paths and texts as a terminal can show them."""

from __future__ import annotations

import os
from pathlib import Path


def display_path(path: bytes | str | Path) -> str:
    """Return a path or another text as one printable line.

    Control characters, those that change the direction of writing, other invisible ones and
    undecodable bytes are escaped: none of them reaches a terminal.
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
    """Return a text as one printable line of as many characters: U+FFFD stands for the others."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
