"""The words of a query, and how well a word of a text matches one of them.

FTS5 finds the texts that hold a word with the same stem, without its accents. Such a match may be
the word itself, an inflection of it (*dog*, *dogs*), the same word with accents (*cafe*, *café*),
or a different word that shares the stem (*hamburger*, *Hamburg*). `compare_words` tells these
apart.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mmsearch.core.stop_words import STOP_WORDS

# Scripts without spaces between words: Thai to Burmese, Khmer, kana, Han, and their extensions.
UNSEGMENTED_SCRIPTS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f]"
)

EXACT, INFLECTED, FOLDED, DERIVED = 1.0, 0.9, 0.4, 0.1
"""Weights of matches: the same word, an inflection of it, the same word with accents that the
query does not have, and another word with the same stem."""

WORD = re.compile(r"[^\W_]+")
_OF_PICTURES = re.compile("の(?:写真|画像)|的(?:照片|图片|圖片|相片)")

# What an apostrophe joins to a word: *it's*, *don't*, *l'eau*.
_ELISIONS = re.compile(
    r"(?<=\w)n?['\u2019](?:s|t|d|m|ll|re|ve)\b|\b(?:[ldjcnmst]|qu)['\u2019](?=\w)", re.IGNORECASE
)

# News is no plural of new.
_NOT_INFLECTED = frozenset(
    ["news", "means", "goods", "customs", "physics", "series", "species", "lens"]
)
_VOWEL = re.compile("[aeiouy]")

# Letters that Unicode does not decompose into a letter and an accent.
_LETTERS = str.maketrans(
    {
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "\u0131": "i",
        "ħ": "h",
    }
)
# German and Scandinavian spellings without these letters.
_SPELLINGS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "đ": "dj"})
# Parts of an unaccented word that a text may spell in another way; FTS5 folds what remains.
_UNFOLDED = (
    *(("ae", "æ"), ("oe", "œ"), ("oe", "ø"), ("o", "ø"), ("l", "ł"), ("d", "đ"), ("th", "þ")),
    *(("d", "ð"), ("i", "\u0131"), ("h", "ħ"), ("ae", "a"), ("oe", "o"), ("ue", "u"), ("aa", "a")),
)
_MAX_SPELLINGS = 24


@dataclass(frozen=True)
class Token:
    """A token to find in the texts.

    Attributes:
        table: Table to search: ``words``, ``trigrams``, or ``texts`` for a substring.
        value: Casefolded word, or the trigram or substring to find.
    """

    table: str
    value: str

    @property
    def spellings(self) -> list[str]:
        """The spellings of the value that the full-text index tells apart."""
        if self.table == "words" and "ss" in self.value:
            # Casefolding makes no difference between both, but FTS5 does.
            return [self.value, self.value.replace("ss", "ß")]
        return [self.value]

    @property
    def pattern(self) -> str:
        """A LIKE pattern for texts with the value as a substring, or with inflections of a word."""
        value = self.value
        if self.table == "words":
            # All inflections begin with the shortest base, up to its last vowel.
            value = min(lemmas(value), key=len)
            if len(value) > 3 and value.endswith(("e", "y")):
                value = value[:-1]
        escaped = re.sub(r"([\\%_])", r"\\\1", value)
        if self.table == "words":
            # LIKE ignores the case of ASCII letters only, and ß is ss after casefolding.
            escaped = re.sub(r"[^\x00-\x7f]", "_", escaped).replace("ss", "%")
        return f"%{escaped}%"

    @property
    def glob(self) -> str:
        """A GLOB pattern for lower-case texts between two spaces that have the word itself."""
        if self.value.isascii() and "ss" not in self.value:
            return f"*[^a-z0-9]{self.value}[^a-z0-9]*"
        return "*"

    @property
    def has_accents(self) -> bool:
        """True if folding accents changes the word."""
        return strip_accents(self.value) != self.value


@dataclass(frozen=True)
class QueryWords:
    """The words of a text query.

    Attributes:
        tokens: Distinct tokens of the words that mean something.
        literal: All words in their order, if none of them means something; else empty.
    """

    tokens: tuple[Token, ...]
    literal: tuple[str, ...]


def fold_case(text: str) -> str:
    """Return a composed text without differences of case."""
    return unicodedata.normalize("NFC", text).casefold()


def parse_words(text: str) -> QueryWords:
    """Split a text into tokens and leave out stop words.

    An acronym such as *US* is not a stop word, unless the whole text is in capitals.
    """
    composed = _ELISIONS.sub("", _OF_PICTURES.sub(" ", unicodedata.normalize("NFC", text)))
    tokens: dict[Token, None] = {}
    words = WORD.findall(composed)
    for word in words:
        folded = word.casefold()
        is_acronym = len(word) > 1 and word.isupper() and word.isascii() and not composed.isupper()
        if folded in STOP_WORDS and not is_acronym:
            continue
        unsegmented = _unsegmented_tokens(word)
        tokens.update(dict.fromkeys(unsegmented or [Token("words", folded)]))
    literal = () if tokens else tuple(fold_case(word) for word in WORD.findall(text))
    return QueryWords(tuple(tokens), literal)


def _unsegmented_tokens(word: str) -> list[Token]:
    """Return the trigrams of a word in an unsegmented script.

    A word of fewer than three characters is a token of its own. A word in another script gives an
    empty list.
    """
    if not UNSEGMENTED_SCRIPTS.search(word):
        return []
    if len(word) < 3:
        return [Token("texts", word)]
    return [Token("trigrams", word[start : start + 3]) for start in range(len(word) - 2)]


@lru_cache(maxsize=4096)
def strip_accents(word: str) -> str:
    """Return a casefolded word without accents: *café* becomes *cafe*, *łódź* becomes *lodz*."""
    if word.isascii():
        return word
    decomposed = unicodedata.normalize("NFD", word)
    kept = "".join(char for char in decomposed if not unicodedata.combining(char))
    return unicodedata.normalize("NFC", kept).translate(_LETTERS)


def accented_spellings(word: str) -> list[str]:
    """Return spellings of an unaccented word with letters that FTS5 does not fold.

    Accents need no spelling of their own: FTS5 folds them.
    """
    spellings = {word: None}
    for part, letter in _UNFOLDED:
        for spelling in list(spellings):
            for found in re.finditer(part, spelling):
                spellings[spelling[: found.start()] + letter + spelling[found.end() :]] = None
                if len(spellings) > _MAX_SPELLINGS:
                    return list(spellings)[1:]
    return list(spellings)[1:]


def compare_words(query_word: str, text_word: str) -> float:
    """Return how well a word of a text matches a word of a query, both casefolded.

    Returns:
        `EXACT`, `INFLECTED`, `FOLDED`, or 0. Words that only share a stem give 0.
    """
    if text_word == query_word:
        return EXACT
    query_lemmas = lemmas(query_word)
    if not query_lemmas.isdisjoint(lemmas(text_word)):
        return INFLECTED
    if text_word.isascii() or strip_accents(query_word) != query_word:
        return 0.0
    spellings = (strip_accents(text_word), strip_accents(text_word.translate(_SPELLINGS)))
    return FOLDED if any(not query_lemmas.isdisjoint(lemmas(word)) for word in spellings) else 0.0


def differs_by_accents(query_word: str, text_word: str) -> bool:
    """Return True if two casefolded words are the same without accents and inflections."""
    return not lemmas(strip_accents(query_word)).isdisjoint(lemmas(strip_accents(text_word)))


def shares_stem(query_word: str, text_word: str) -> bool:
    """Return True if casefolded words may be derived from one, such as *paint* and *painter*."""
    common = len(os.path.commonprefix([query_word, text_word]))  # noqa: RUF071 - no paths
    return common >= 4 and common >= min(len(query_word), len(text_word)) - 1


def find_sequence(words: Sequence[str], sequence: Sequence[str]) -> list[int]:
    """Return where a sequence starts in the words of a text."""
    size = len(sequence)
    wanted = list(sequence)
    return [n for n in range(len(words) - size + 1) if list(words[n : n + size]) == wanted]


@lru_cache(maxsize=4096)
def lemmas(word: str) -> frozenset[str]:
    """Return what a word may be an inflection of, and the word itself.

    The rules are those of English plurals and verbs; the plural in -s of French, Spanish, Italian,
    Dutch and Portuguese and the one in -e of German are covered, too.
    """
    bases = {word}
    if word in _NOT_INFLECTED or len(word) < 4:
        return frozenset(bases)
    if word.endswith("ies") and len(word) > 4:
        bases |= {word[:-3] + "y", word[:-1]}
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        bases.add(word[:-1])
        if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            bases.add(word[:-2])
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base == word or len(base) < 2 or not _VOWEL.search(base):
            continue
        bases |= {base, base + "e"}
        if base[-1] == base[-2]:
            bases.add(base[:-1])
        if ending == "ed" and base.endswith("i"):
            bases.add(base[:-1] + "y")
    if word.endswith("e") and len(word) > 4 and word.isascii():
        bases.add(word[:-1])
    return frozenset(bases)
