"""Paths of files, as bytes: a folder, and the rest below it."""

from __future__ import annotations


def below(folder: bytes, rest: bytes) -> bytes:
    """The path ``rest`` of a folder; the folder itself for b""."""
    if not rest:
        return folder
    return folder.rstrip(b"/") + b"/" + rest


def rest_below(folder: bytes, path: bytes) -> bytes | None:
    """What of ``path`` lies below a folder; b"" if it is that folder, None if it is outside."""
    if path == folder:
        return b""
    prefix = folder.rstrip(b"/") + b"/"
    return path.removeprefix(prefix) if path.startswith(prefix) else None
