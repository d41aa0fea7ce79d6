"""Recognition of the language of a query, and of English words.

Scripts other than Latin name their language. A text in Latin letters whose words are all English
is English. Only for the others is a linear model of hashed letter n-grams read, which knows some
twenty languages; ``scripts/build_languages`` trains it. It has to be almost certain, because a
name or a typing error is in no list of words, either.
"""

from __future__ import annotations

import math
import re
import zlib
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LANGUAGES: Final = {
    "en": "English",
    "da": "Danish",
    "de": "German",
    "es": "Spanish",
    "et": "Estonian",
    "fi": "Finnish",
    "fr": "French",
    "hu": "Hungarian",
    "it": "Italian",
    "lt": "Lithuanian",
    "ms": "Malay",
    "nb": "Norwegian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "sv": "Swedish",
    "vi": "Vietnamese",
}
"""Languages in Latin letters that the model tells apart, in the order of its columns."""

SCRIPTS: Final = (
    ("ja", "Japanese", "\u3040-\u30ff\uff66-\uff9f"),
    ("ko", "Korean", "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"),
    ("zh", "Chinese", "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"),
    ("uk", "Ukrainian", "іїєґІЇЄҐ"),
    ("ru", "Russian", "\u0400-\u052f"),
    ("el", "Greek", "\u0370-\u03ff\u1f00-\u1fff"),
    ("he", "Hebrew", "\u0590-\u05ff"),
    ("ar", "Arabic", "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff"),
    ("hi", "Hindi", "\u0900-\u097f"),
    ("bn", "Bengali", "\u0980-\u09ff"),
    ("ta", "Tamil", "\u0b80-\u0bff"),
    ("th", "Thai", "\u0e00-\u0e7f"),
    ("ka", "Georgian", "\u10a0-\u10ff"),
    ("hy", "Armenian", "\u0530-\u058f"),
)
"""Code, name and letters of languages with a script of their own; the first that occurs counts."""

NAMES: Final = LANGUAGES | {code: name for code, name, _ in SCRIPTS}
"""English name of each language by its code."""

BUCKETS: Final = 1 << 14
WEIGHT_SCALE: Final = 1 / 16
"""Value of one step of the model's int8 weights."""

MIN_LOG_ODDS: Final = 1.5
"""Log odds that a text is not English from which on a person is notified."""

LONE_WORD_LOG_ODDS: Final = 1.2
"""Additional log odds that a single word needs, because it may be a name or a brand."""

_FOLDER: Final = Path(__file__).with_name("language_data")
_WORD: Final = re.compile("[^\\W\\d_]+(?:['\u2019][^\\W\\d_]+)*")
# File names, numbers, marks, and abbreviations.
_NO_WORD: Final = re.compile(r"\S*[\d_@#/\\]\S*|\b[A-Z]{2,3}\b")
# Accents of loanwords: café, piñata, façade, crêpe. Umlauts are not among them.
_LOAN_ACCENTS: Final = str.maketrans("àâáçéèêëíîïñóôû", "aaaceeeeiiinoou")
_SUFFIXES: Final = (
    ("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"),
    ("ly", ""),
)  # fmt: skip
_MIN_STEM: Final = 3


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without file names, numbers and abbreviations."""
    return _WORD.findall(_NO_WORD.sub(" ", text).lower().replace("\u2019", "'"))


@lru_cache(1 << 16)
def is_english_word(word: str) -> bool:
    """Return True if a lower-case word, or the word that it is a form of, is English."""
    word = word.removesuffix("'s").translate(_LOAN_ACCENTS)
    if "'" in word:
        word, _, rest = word.partition("'")
        return len(rest) <= 2 and is_english_word(word)
    if len(word) < 2 or _is_listed(word):
        return True
    for suffix, replacement in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if _MIN_STEM <= len(stem) < len(word):
            if _is_listed(stem + replacement):
                return True
            if stem[-1] == stem[-2] and not replacement and _is_listed(stem[:-1]):
                return True
    return False


class OtherLanguage(NamedTuple):
    """The most probable language of a text besides English.

    Attributes:
        code: Code of the language; None if all words are English.
        log_odds: Log odds that the text is not English; lower for a single word, because it may be
            a name.
    """

    code: str | None
    log_odds: float


def score_other_language(text: str) -> OtherLanguage:
    """Return the most probable language of a query besides English, and how probable it is."""
    script = _find_script(text)
    if script is not None:
        return OtherLanguage(script, math.inf)
    words = split_words(text if text.isascii() else _other_scripts().sub(" ", text))
    if all(map(is_english_word, words)):
        return OtherLanguage(None, -math.inf)
    english, *others = language_scores(words)
    log_odds = math.log(sum(map(math.exp, others))) - english
    code = max(zip(others, list(LANGUAGES)[1:], strict=True))[1]
    return OtherLanguage(code, log_odds - LONE_WORD_LOG_ODDS * (len(words) == 1))


def find_other_language(text: str, min_log_odds: float = MIN_LOG_ODDS) -> str | None:
    """Return the code of the language of a text; None if it may be English, or is only a name.

    Args:
        text: A query.
        min_log_odds: Log odds that the text is not English from which on it counts as such.
    """
    code, log_odds = score_other_language(text)
    return code if log_odds >= min_log_odds else None


def language_scores(words: list[str]) -> list[float]:
    """Return the logarithm of the likelihood of each of `LANGUAGES` for the words of a text."""
    import numpy as np  # noqa: PLC0415 - English queries need no model

    weights = _read_weights()
    buckets = text_buckets(words)
    total = weights[buckets].sum(axis=0, dtype=np.float32) * WEIGHT_SCALE
    scores: list[float] = (total / len(buckets) ** 0.5).tolist()
    return scores


def text_buckets(words: list[str]) -> list[int]:
    """Return the rows of the model for words: their letter n-grams, and if they are English."""
    features = ["*"]
    for word in words:
        features.append("+" if is_english_word(word) else "-")
        marked = f"<{word}>"
        features.append(marked)
        features += [
            marked[start : start + size]
            for size in (2, 3, 4, 5)
            for start in range(len(marked) - size + 1)
            if size < len(marked)
        ]
    return [zlib.crc32(feature.encode()) % BUCKETS for feature in features]


def _find_script(text: str) -> str | None:
    """Return the language of a text whose letters are mostly of another script."""
    letters = [char for char in text if char.isalpha()]
    if text.isascii() or not letters:
        return None
    for code, _, characters in SCRIPTS:
        if re.search(f"[{characters}]", text):
            return code if 2 * len(_other_scripts().findall(text)) > len(letters) else None
    return None


@cache
def _other_scripts() -> re.Pattern[str]:
    """Return a pattern of a letter of `SCRIPTS`; it takes milliseconds to compile."""
    return re.compile(f"[{''.join(letters for _, _, letters in SCRIPTS)}]")


def _is_listed(word: str) -> bool:
    """Return True if a word is in the sorted list of English words."""
    words, target = _read_words(), word.encode()
    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        start = words.rfind(b"\n", low, middle) + 1 or low
        end = words.find(b"\n", start)
        line = words[start:end]
        if line == target:
            return True
        if line < target:
            low = end + 1
        else:
            high = start
    return False


@cache
def _read_words() -> bytes:
    return (_FOLDER / "english.txt").read_bytes()


@cache
def _read_weights() -> NDArray[np.int8]:
    import numpy as np  # noqa: PLC0415 - English queries need no model

    weights: NDArray[np.int8] = np.load(_FOLDER / "languages.npy", allow_pickle=False)
    return weights
