"""Misspelt names of months, seasons, holidays and weekdays beside a year or *last*.

Alone, such a word may be anything; *novmber 2020* and *last staurday* are dates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Final

from mmsearch.core.spelling import edit_distance, is_common_word
from mmsearch.search.understanding.vocabulary import ENTRIES
from mmsearch.search.understanding.words import Word

MIN_LETTERS: Final = 6
"""Number of letters below which a name has too many words one edit away."""

SAFE_LETTERS: Final = 7
"""Number of letters from which a replaced letter is a misspelling, too."""

NAMED: Final = ("MONTH", "SEASON", "HOLIDAY", "WEEKDAY")

_KNOWN_WORDS: Final = frozenset(
    word for entries in ENTRIES.values() for phrase, _, _, _ in entries for word in phrase
)

OF: Final = frozenset(("of", "de", "del", "di", "in", ","))


def correct_words(words: Sequence[Word]) -> Sequence[Word]:
    """Return words with the misspelt names that dates have beside a year or *last* corrected.

    The corrected words keep their text and their places.
    """
    corrected: list[Word] | None = None
    for position, word in enumerate(words):
        if not _is_beside_date(words, position) or word.folded in _KNOWN_WORDS:
            continue
        name = _closest_name(word.folded)
        if name is not None:
            corrected = corrected or list(words)
            corrected[position] = replace(word, folded=name)
    return words if corrected is None else corrected


def _is_beside_date(words: Sequence[Word], position: int) -> bool:
    after = position + 1
    while after < len(words) and words[after].folded in OF:
        after += 1
    following = words[after].folded if after < len(words) else ""
    if len(following) == 4 and following.isdigit() and following[:2] in ("19", "20"):
        return True
    before = words[position - 1].folded if position else ""
    return _is_last(before) or (after == position + 1 and _is_last(following))


def _is_last(folded: str) -> bool:
    return any(kind == "LAST" for _, kind, _, _ in ENTRIES.get(folded, ()))


@cache
def _names() -> dict[str, tuple[str, ...]]:
    """Return the names of dates of one word by their first letter."""
    names: dict[str, list[str]] = {}
    for first, entries in ENTRIES.items():
        if len(first) >= MIN_LETTERS and any(
            kind in NAMED and len(phrase) == 1 for phrase, kind, _, _ in entries
        ):
            names.setdefault(first[0], []).append(first)
    return {letter: tuple(found) for letter, found in names.items()}


def _closest_name(word: str) -> str | None:
    if len(word) < MIN_LETTERS - 1 or not word.isalpha():
        return None
    for name in _names().get(word[0], ()):
        if abs(len(name) - len(word)) > 1 or edit_distance(word, name) != 1:
            continue
        is_safe = len(name) >= SAFE_LETTERS or len(word) < len(name) or sorted(word) == sorted(name)
        if is_safe and not is_common_word(word):
            return name
    return None
