"""Normalize texts written by people and programs."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from mmsearch.core.types import Text, TextSource

MAX_TEXT_CHARS = 10_000
"""Maximum length of a text, in characters."""


def to_single_line(text: str) -> str:
    """Remove control characters, collapse spaces and truncate at `MAX_TEXT_CHARS`."""
    # The input is limited as well, because every character takes time; many may be spaces.
    head = text[: 10 * MAX_TEXT_CHARS]
    printable = "".join(char if char.isprintable() else " " for char in head)
    return " ".join(printable.split())[:MAX_TEXT_CHARS].rstrip()


def decode(content: bytes) -> str:
    """Decode a text file: UTF-16 or UTF-8 by its byte order mark, else UTF-8, else Latin-1."""
    for bom, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if content.startswith(bom):
            return content.decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def make_texts(
    kind: str, words: str, source: TextSource, language: str | None = None
) -> tuple[Text, ...]:
    """Return one text, or none if it contains no letter of any script."""
    line = to_single_line(words)
    if not any(char.isalpha() for char in line):
        return ()
    return (Text(kind, line, language, source),)


def make_keyword_texts(words: Iterable[str], source: TextSource) -> tuple[Text, ...]:
    """Return all keywords as one text, without duplicates that differ only in case."""
    unique: dict[str, str] = {}
    for word in words:
        line = to_single_line(word).replace(";", ",").strip()
        if line:
            unique.setdefault(line.casefold(), line)
    return make_texts("keywords", "; ".join(unique.values()), source)
