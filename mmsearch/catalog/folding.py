"""Folded forms of metadata and texts, which the writer of a PostgreSQL catalog stores.

SQLite calls `fold_text` in a statement, and its FTS5 splits texts into words. PostgreSQL can do
neither, so it gets both ready-made; then filters and full text find the same on both.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from mmsearch.core.query import fold_text


def fold_record(stored: str | None) -> str | None:
    """Return the metadata of an asset as filters compare it, as JSON.

    Texts are folded, true and false are 1 and 0, and members of objects are left out, because no
    filter can name them.

    Args:
        stored: A JSON object, as in ``assets.record``; None without metadata.
    """
    if stored is None:
        return None
    try:
        record = json.loads(stored, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return "{}"
    if not isinstance(record, dict):
        return "{}"
    return json.dumps({_storable(key): _fold_member(value) for key, value in record.items()})


def _reject_constant(name: str) -> None:
    raise ValueError(name)


def _fold_member(value: Any) -> Any:
    match value:
        case dict():
            return {}
        case list():
            return [_fold_member(element) for element in value]
        case bool():
            return int(value)
        case int() if not -(2**63) <= value < 2**63:
            # SQLite reads such a number as a float.
            return _fold_member(float(value)) if abs(value) < 2**1023 else None
        case str():
            return _storable(fold_text(value))
        case _:
            return value


def _storable(text: str) -> str:
    """Return a text without NUL and lone surrogates, which PostgreSQL cannot store."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def index_text(text: str) -> str:
    """Return a text as the words that FTS5 finds in it, with spaces between them.

    Letters are folded as FTS5's ``unicode61 remove_diacritics 2`` folds them: case is ignored, and
    accents of Latin letters are removed, but letters such as ø, ł and ß stay.

    Words such as *psychology*, *possibly*, *trekking* and *straße* get the ending that FTS5's
    stemmer gives them: it has a few rules more than that of PostgreSQL, and it reads bytes.
    """
    return _ENDINGS.sub(_replace_ending, text.translate(_LETTERS))


# A vowel and a consonant precede the first endings; Porter calls this a measure above 0.
_ENDINGS = re.compile(
    r"\b([^\W_]*[aeiouy][^\W_aeiouy][^\W_]*?)(log|bl)(?:y|ies)\b"
    r"|\b([^\W_]*[aeiouy]([chjkqvwx]))\4(?:ed|ing)\b"
    r"|\b([^\W_]*[aeiouy][^\W_aeiouy]*[^\W_\x00-\x7f])es?\b"
)


def _replace_ending(match: re.Match[str]) -> str:
    return match[3] or match[5] or match[1] + ("log" if match[2] == "log" else "ble")


class _FoldedLetters(dict[int, str]):
    """The folded form of each character by its code point, filled as texts need it."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _fold_letter(chr(code))
        return folded


_LETTERS = _FoldedLetters()
_COMBINING = {0x300 + bit for bit in range(52) if 0x000361F8_08029FDF >> bit & 1}
"""Accents that FTS5 takes for a part of a word, and removes."""


def _fold_letter(char: str) -> str:
    if ord(char) in _COMBINING:
        return ""
    category = unicodedata.category(char)
    if category[0] not in "LN" and category != "Co":
        return " "
    decomposed = unicodedata.normalize("NFD", char)
    base, marks = decomposed[0], decomposed[1:]
    if marks and base.isascii() and all(map(unicodedata.combining, marks)):
        return base.lower()
    return next((f for f in (char.casefold(), char.lower()) if len(f) == 1), char)
