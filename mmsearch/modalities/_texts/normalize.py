"""Normalize texts written by people and programs."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable

from mmsearch.core.text_encoding import SAMPLE_BYTES, guess_encoding
from mmsearch.core.types import Text, TextSource

MAX_TEXT_CHARS = 10_000
"""Maximum length of a text, in characters."""


def to_single_line(text: str) -> str:
    """Return composed characters on one line: without control characters and repeated spaces.

    The text is truncated at `MAX_TEXT_CHARS`.
    """
    if len(text) <= MAX_TEXT_CHARS and text.isascii() and text.isprintable():
        return " ".join(text.split())
    # The input is limited as well, because every character takes time; many may be spaces.
    head = unicodedata.normalize("NFC", text[: 10 * MAX_TEXT_CHARS])
    if not head.isprintable():
        head = "".join(char if char.isprintable() else " " for char in head)
    return " ".join(head.split())[:MAX_TEXT_CHARS].rstrip()


def decode(content: bytes) -> str:
    """Decode a text file: UTF-16 or UTF-8 by its byte order mark, else as `guess_encoding`."""
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
        guess = guess_encoding(content[:SAMPLE_BYTES])
        return content.decode(guess.codec, guess.errors)


def make_texts(
    kind: str, words: str, source: TextSource, language: str | None = None
) -> tuple[Text, ...]:
    """Return one text, or none if it contains no letter of any script."""
    line = to_single_line(words)
    if not any(char.isalpha() for char in line):
        return ()
    return (Text(kind, line, language, source),)


def make_keyword_texts(words: Iterable[str], source: TextSource) -> tuple[Text, ...]:
    """Return all keywords as one text, without duplicates that differ only in case.

    ``Places|Europe|Lisbon``, as photo programs write hierarchical keywords, becomes each of its
    levels and their paths: ``Places; Europe; Lisbon; Places/Europe; Places/Europe/Lisbon``.
    """
    keywords: list[str] = []
    for word in words:
        levels = [level for level in map(str.strip, word.split("|")) if level]
        keywords += levels
        keywords += ("/".join(levels[:depth]) for depth in range(2, len(levels) + 1))
    return make_value_texts("keywords", keywords, source)


def make_value_texts(kind: str, values: Iterable[str], source: TextSource) -> tuple[Text, ...]:
    """Return values joined by "; " as one text, or none without any letter or digit."""
    unique: dict[str, str] = {}
    length = 0
    for value in values:
        line = to_single_line(value.replace(";", ","))
        if any(char.isalnum() for char in line) and line.casefold() not in unique:
            length += len(line) + 2
            if length > MAX_TEXT_CHARS + 2:
                break
            unique[line.casefold()] = line
    return (Text(kind, "; ".join(unique.values()), source=source),) if unique else ()
