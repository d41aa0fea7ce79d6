"""Edit distance of words, and the common English word that a misspelt one was meant to be.

The distance counts insertions, deletions, replacements, and swaps of neighbouring letters. It is
computed for a whole column at once in the bits of an integer (Hyyrö 2003, "A bit-vector algorithm
for computing Levenshtein and Damerau edit distances").
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

COMMON_WORDS_FILE: Final = Path(__file__).with_name("language_data") / "common.txt"
"""Common English words, sorted, each with its rank; the words of the starter model rank first."""

MIN_LENGTH: Final = 4
"""Number of letters below which a word is not corrected: too many words are one edit away."""


_DOUBLED: Final = re.compile(r"(.)\1")


def max_distance(word: str) -> int:
    """Return the number of edits within which a word is corrected; 0 if it is not corrected."""
    if len(word) < MIN_LENGTH or any(char.isdigit() for char in word):
        return 0
    return 1 if len(word) < 6 else 2


def edit_distance(word: str, other: str, *, prefixes: bool = False) -> int:
    """Return the number of edits that turn a word into another.

    Args:
        word: The word, of at least one letter.
        other: The other word.
        prefixes: Return the lowest distance of any prefix of ``word``, for stems.
    """
    mask = (1 << len(word)) - 1
    positions: dict[str, int] = {}
    for place, char in enumerate(word):
        positions[char] = positions.get(char, 0) | 1 << place
    # Bit i: the distance grows (shrinks) by 1 from the i-th to the next prefix of `word`.
    grows, shrinks, diagonal, previous = mask, 0, 0, 0
    for char in other:
        matches = positions.get(char, 0)
        swaps = ((~diagonal & matches) << 1) & previous
        diagonal = (((matches & grows) + grows) ^ grows) | matches | shrinks | swaps
        rises = ((shrinks | ~(diagonal | grows)) << 1) | 1
        falls = (diagonal & grows) << 1
        grows, shrinks = (falls | ~(diagonal | rises)) & mask, diagonal & rises & mask
        previous = matches
    distance = lowest = len(other)
    for place in range(len(word)):
        distance += (grows >> place & 1) - (shrinks >> place & 1)
        lowest = min(lowest, distance)
    return lowest if prefixes else distance


def may_start(word: str) -> list[str]:
    """Return the letters that a correction may begin with: the first one, or else the second."""
    return list(dict.fromkeys(word[:2]))


def difference(word: str, other: str) -> tuple[int, int] | None:
    """Return how far two words are apart, in sound and in spelling; None if it is too far."""
    limit = max_distance(word)
    letters_apart = edit_distance(word, other)
    if letters_apart > limit + 1:
        return None
    sounds_apart = edit_distance(_sound(word), _sound(other))
    return (sounds_apart, letters_apart) if sounds_apart <= limit else None


def _sound(word: str) -> str:
    """Return a word without differences of spelling that are not heard."""
    word = word.replace("ph", "f").replace("ck", "k").replace("y", "i")
    return _DOUBLED.sub(r"\1", word)


def is_common_word(word: str) -> bool:
    """Return True if a lower-case word, or what remains without *s*, *ed* or *ing*, is common."""
    lines = _read_common_words()
    stems = [word.removesuffix(suffix) for suffix in ("", "s", "ed", "ing")]
    return any(f"\n{stem} " in lines for stem in stems)


def closest_common_word(word: str) -> str | None:
    """Return the common English word that is meant by a misspelt one; None without any."""
    limit, letters, length = max_distance(word), frozenset(word), len(word)
    candidates: list[tuple[int, int, bool, int, str]] = []
    for first in may_start(word) if limit else ():
        if candidates:
            break
        for line in _lines_starting_with(first):
            other, _, rank = line.partition(" ")
            if (
                abs(len(other) - length) <= limit + 1
                # Each edit adds at most one letter that the other word lacks, and the reverse.
                and len(letters.difference(other)) <= limit + 1
                and len(set(other).difference(word)) <= limit + 1
                and (apart := difference(word, other)) is not None
            ):
                candidates.append((*apart, first != word[0], int(rank), other))
    return min(candidates)[-1] if candidates else None


def _lines_starting_with(letter: str) -> list[str]:
    """Return the lines of the sorted `COMMON_WORDS_FILE` whose word starts with a letter."""
    lines = _read_common_words()
    start = lines.find(f"\n{letter}")
    end = next(
        (
            at
            for code in range(ord(letter) + 1, ord("z") + 1)
            if (at := lines.find(f"\n{chr(code)}", start)) > 0
        ),
        len(lines),
    )
    return lines[start:end].split("\n")[1:] if start >= 0 else []


@cache
def _read_common_words() -> str:
    return "\n" + COMMON_WORDS_FILE.read_text(encoding="ascii")
