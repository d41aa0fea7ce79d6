"""Texts of pictures in files, tables and JSON: their kinds, and how they are normalized."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mmsearch.core.text_encoding import SAMPLE_BYTES, guess_encoding
from mmsearch.core.types import Text, TextSource

MAX_TEXT_CHARS = 10_000
"""Maximum length of a text, in characters."""

KIND_BY_COLUMN: Final = {
    name: kind
    for kind, names in {
        "caption": (
            *("caption", "captions", "text", "alt", "alt_text", "comment", "comments"),
            *("caption_abstract", "bildunterschrift", "kommentar", "légende", "legende"),
        ),
        "description": ("description", "image_description", "imagedescription", "beschreibung"),
        "title": ("title", "headline", "titel", "titre"),
        "keywords": ("keywords", "tags", "stichwörter", "schlagwörter", "schlagworte"),
    }.items()
    for name in names
}
"""Kinds of texts by the normalized names of columns of tables."""

LANGUAGE_COLUMNS: Final = ("language", "lang", "sprache")
"""Normalized names of columns with the language of the texts."""

# Several captions of a picture are often in numbered columns.
_COLUMN_NUMBER: Final = re.compile(r"_?\d+$")
# Kinds of text by field of a JSON object.
_TEXT_FIELDS: Final = {
    "caption": "caption",
    "captions": "caption",
    "text": "caption",
    "alt": "caption",
    "alt_text": "caption",
    "description": "description",
    "title": "title",
}
_KEYWORD_FIELDS: Final = ("keywords", "tags")
JSON_TEXT_FIELDS: Final = frozenset({*_TEXT_FIELDS, *_KEYWORD_FIELDS})
"""Fields of a JSON object beside a picture that contain texts, in lower case."""

# Export programs often write the picture's file name as its title.
_FILE_NAME: Final = re.compile(r"\S+\.[A-Za-z0-9]{2,5}")
_KEYWORD_SEPARATOR: Final = re.compile("[,;]")
# Pictures and archives have these characters, texts do not; some editors end a text with Ctrl-Z.
_CONTROL_CHARACTER: Final = re.compile(r"[\0-\x08\x0e-\x19\x1c-\x1f]")


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


def column_kind(name: str) -> str | None:
    """Return the kind of the texts in a column; None if it has none.

    Args:
        name: Name as `normalize_name` returns it; a number at its end does not count.
    """
    return KIND_BY_COLUMN.get(_COLUMN_NUMBER.sub("", name))


def make_cell_texts(kind: str, value: Any, language: str | None = None) -> Iterator[Text]:
    """Yield the texts in a cell of a table: one, or each of a list.

    Keywords in one string are divided by commas or semicolons.
    """
    values = value if isinstance(value, list) else [value]
    if kind == "keywords":
        is_list = isinstance(value, list)
        words = values if is_list else str(value).replace(",", ";").split(";")
        yield from make_keyword_texts([str(word) for word in words], TextSource.TABLE)
        return
    for item in values:
        yield from make_texts(kind, str(item), TextSource.TABLE, language)


def parse_plain_sidecar(content: bytes) -> tuple[Text, ...]:
    """Return the text of a text file beside a picture as its caption.

    Raises:
        ValueError: It is not text; the message is the reason.
    """
    text = decode(content).rstrip("\0")
    if _CONTROL_CHARACTER.search(text):
        raise ValueError("it is not text")
    return make_texts("caption", text, TextSource.SIDECAR)


def iter_json_texts(fields: Mapping[str, Any]) -> Iterator[Text]:
    """Yield the texts in the fields of a JSON object beside a picture; see `JSON_TEXT_FIELDS`.

    Args:
        fields: The object, with names in lower case.
    """
    words: list[str] = []
    for field, value in fields.items():
        texts = [item for item in _to_list(value) if isinstance(item, str)]
        if field in _TEXT_FIELDS:
            for text in texts:
                if field != "title" or not _FILE_NAME.fullmatch(text.strip()):
                    yield from make_texts(_TEXT_FIELDS[field], text, TextSource.SIDECAR)
        elif field in _KEYWORD_FIELDS:
            is_list = isinstance(value, list)
            words += (
                texts if is_list else [word for t in texts for word in _KEYWORD_SEPARATOR.split(t)]
            )
    yield from make_keyword_texts(words, TextSource.SIDECAR)


def _to_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
