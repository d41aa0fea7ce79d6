"""Words of a query with their places in it, folded for comparison."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mmsearch.search.understanding.folding import fold_word

_TOKEN: Final = re.compile(
    r"""
    "[^"]*"                                   # a quoted phrase
    | (?<!\w)['\u2019]\d\ds?(?!\w)            # '19, '90s
    | \d+(?:[./\u2013-]\d+)+                  # 2019-05-03, 3.5.2019, 2015-2018
    | (?<!\w)(?:l|d|dell|nell|all|dall|sull|un|quest|quell|qu|jusqu)['\u2019](?=\w)
    | (?<![\w-])mid?-(?=\w)                       # mid-August, mi-ao\u00fbt
    | (?<=\w)['\u2019]s(?!\w)
    | [^\W_]+(?:['\u2019](?!s(?!\w))[^\W\d_]+)*
    | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MIDDLE: Final = re.compile(r"(?<![\w-])mid?-$", re.IGNORECASE)
_BEFORE: Final = "([{'\"\u2019\u201c\u201e\u00ab\u00bf\u00a1,;"
_AFTER: Final = ")]}'\"\u2019\u201d\u00bb,;:!?\u2026"


@dataclass(frozen=True)
class Word:
    """A word, a number or a mark in a text.

    Attributes:
        text: As it is written.
        folded: In lower case, without accents, with a straight apostrophe.
        start: Position of its first character in the text.
        end: Position after its last character.
        starts_free: False if a letter or a mark is joined to its start, as in ``#2019``.
        ends_free: True if nothing but the mark of a sentence is joined to its end.
    """

    text: str
    folded: str
    start: int
    end: int
    starts_free: bool
    ends_free: bool


def split_text(text: str) -> list[Word]:
    """Return the words, numbers and marks of a text, in order."""
    return [
        Word(
            match[0],
            fold_word(match[0]),
            match.start(),
            match.end(),
            _starts_free(text, match.start()),
            _ends_free(text, match.end()),
        )
        for match in _TOKEN.finditer(text)
    ]


def _starts_free(text: str, start: int) -> bool:
    if not start or text[start - 1].isspace() or text[start - 1] in _BEFORE:
        return True
    # l'11 maggio: an article that has lost its vowel.
    if text[start - 1] in "'\u2019":
        return True
    return text[start - 1] == "-" and _MIDDLE.search(text, 0, start) is not None


def _ends_free(text: str, end: int) -> bool:
    rest = text[end : end + 2]
    if not rest or rest[0].isspace() or rest[0] in _AFTER:
        return True
    return rest[0] == "." and (len(rest) == 1 or rest[1].isspace())
