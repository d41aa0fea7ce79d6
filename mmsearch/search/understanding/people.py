"""Names of people of a library in the words of a query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import Final, NamedTuple

from mmsearch.core.language import OtherLanguage
from mmsearch.core.spelling import is_common_word
from mmsearch.core.stop_words import STOP_WORDS
from mmsearch.search.understanding.folding import fold_word, name_forms
from mmsearch.search.understanding.query_language import query_language
from mmsearch.search.understanding.word_lists import (
    CONJUNCTIONS,
    FAMILY_EVENTS,
    KINSHIP,
    NAMES_AS_WORDS,
    NAMES_WITH_CAPITALS,
    SCENES,
    TITLES,
    VERBS,
)
from mmsearch.search.understanding.words import Word

MAX_NAME_WORDS: Final = 5


_OTHERS: Final = {
    "ben": frozenset(
        [
            "nevis",
            "hur",
            "10",
            "jerry",
            "jerrys",
            "affleck",
            "cotto",
            "cotta",
            "cotti",
            "cotte",
            "fatto",
            "fatta",
            "fatti",
            "fatte",
            "vestito",
            "vestita",
            "vestiti",
            "vestite",
            "tornato",
            "tornata",
            "tornati",
            "venuto",
            "venuta",
            "venuti",
            "curato",
            "curata",
            "oui",
            "non",
            "voyons",
            "alors",
            "poco",
            "presto",
            "altro",
            "oltre",
            "tenuto",
            "tenuta",
            "conservato",
            "conservata",
            "illuminato",
            "illuminata",
            "cosi",
            "di",
            "dir",
        ]
    ),
    "noah": frozenset(("ark",)),
    "sofia": frozenset(("bulgaria", "bulgarien", "bulgarie", "bulgarian")),
}
"""Folded words after a first name that make it another name or a word."""

_OTHERS_BEFORE: Final = {"ben": frozenset(("va", "uncle", "big", "eh", "bon", "molto", "troppo"))}
"""Folded words before a first name that make it another name or a word."""

_SURE_LOG_ODDS: Final = 1.0

OF: Final = frozenset(("of", "de", "von", "di", "d'"))

GERUND_ENDINGS: Final = ("ando", "endo")
"""Endings of Spanish and Italian words that say what somebody does: *haciendo*."""


class NameMatch(NamedTuple):
    """Words that name a person.

    Attributes:
        start: Position of the first word.
        end: Position after the last word.
        name: The whole name, as the library writes it.
    """

    start: int
    end: int
    name: str


class Names(NamedTuple):
    """People of a library.

    Attributes:
        whole: Names by the folded words of the whole name.
        first: Names by a folded first name; None if several people have it.
    """

    whole: Mapping[tuple[str, ...], str]
    first: Mapping[str, str | None]


class PeopleReader:
    """Finds names of people.

    Args:
        words: Words of a query.
        taken: Positions of the words that are read as something else.
        fixed: Positions of the words of names of things and of people of the world, in which only
            whole names count.
        starts_place: Returns True if a word begins the name of a place; None to look at none.
    """

    def __init__(
        self,
        words: Sequence[Word],
        taken: Set[int],
        fixed: Set[int] = frozenset(),
        starts_place: Callable[[int], bool] | None = None,
    ) -> None:
        self._words = words
        self._taken = taken
        self._fixed = fixed
        self._starts_place = starts_place
        self._names = Names({}, {})

    def find(self, list_names: Callable[[], Sequence[str]]) -> Iterator[NameMatch]:
        """Yield the people that words name; ``list_names`` is called if a word may be a name."""
        if not any(self._may_be_name(position) for position in range(len(self._words))):
            return
        self._names = index_names(tuple(list_names()))
        start = 0
        while self._names.whole and start < len(self._words):
            match = self._match(start)
            if match is not None:
                yield match
            start = start + 1 if match is None else match.end

    def _may_be_name(self, position: int) -> bool:
        word = self._words[position]
        return (
            position not in self._taken
            and len(word.folded) > 1
            and word.text[0].isalpha()
            and word.folded not in STOP_WORDS
        )

    def _match(self, start: int) -> NameMatch | None:
        words = self._words
        if not words[start].starts_free or start in self._taken:
            return None
        for count in range(min(MAX_NAME_WORDS, len(words) - start), 0, -1):
            end = start + count
            if not self._taken.isdisjoint(range(start, end)) or not self._ends_free(end):
                continue
            for key in name_forms([word.folded for word in words[start:end]]):
                name = self._names.whole.get(key)
                if name is None and count == 1:
                    name = self._names.first.get(key[0])
                if name is not None and (count > 1 or self._is_name(start, key[0])):
                    return NameMatch(start, end, name)
        return None

    def _folded(self, position: int) -> str:
        return self._words[position].folded if 0 <= position < len(self._words) else ""

    def _ends_free(self, end: int) -> bool:
        return self._words[end - 1].ends_free or self._folded(end) == "'s"

    def _is_name(self, start: int, name: str) -> bool:
        """Return True if one word is a name, not a word or a part of another name."""
        before, after = self._folded(start - 1), self._folded(start + 1)
        following = self._folded(start + 2) if after in ("'s", "&", "and", ",") else after
        is_other = following in _OTHERS.get(name, ()) or before in _OTHERS_BEFORE.get(name, ())
        if before in TITLES or start in self._fixed or is_other:
            return False
        is_genitive = name != self._words[start].folded or after == "'s"
        if before in ("in", "nach") and not is_genitive:
            # In Sofia: a place.
            return False
        return (is_genitive or not self._has_surname(start)) and self._is_no_word(start, name)

    def _has_surname(self, start: int) -> bool:
        """Return True if the word after a first name may be a surname: Anna Karenina."""
        following = start + 1
        if following >= len(self._words) or following in self._taken:
            return False
        word = self._words[following]
        if not word.text[0].isalpha() or word.folded in STOP_WORDS or self._is_known(following):
            return False
        is_verb = word.text[0].islower() and (
            word.folded in VERBS or word.folded.endswith(GERUND_ENDINGS)
        )
        if (
            is_verb
            or word.folded in SCENES
            or (self._starts_place and self._starts_place(following))
        ):
            return False
        if word.text[0].isupper():
            return True
        if is_common_word(word.folded) or self._words[start].text[0].isupper():
            return False
        code, log_odds = self._language()
        return code is None or log_odds < _SURE_LOG_ODDS

    def _is_known(self, position: int) -> bool:
        """Return True if a word begins the name of another person."""
        word = self._words[position]
        return any(
            key[0] in self._names.first or key in self._names.whole
            for key in name_forms([word.folded])
        )

    def _is_no_word(self, start: int, name: str) -> bool:
        """Return True if a name cannot be taken for a word of the language of the query."""
        if name in NAMES_WITH_CAPITALS:
            return self._acts(start, name)
        if start == 0 and self._words[0].text == "mia":
            # A possessive has a noun: mia im kindergarten is a person.
            after = self._folded(1)
            return after in STOP_WORDS or after in CONJUNCTIONS or after in VERBS
        languages = [code for code, names in NAMES_AS_WORDS.items() if name in names]
        return not languages or self._is_no_word_of(languages, start)

    def _acts(self, start: int, name: str) -> bool:
        """Return True for a whole name with a capital that does or has something.

        *Florence cuts the cake* and *Florence's cake* are of a person, *Florence at night* is not.
        """
        if (name,) not in self._names.whole or not self._words[start].text[0].isupper():
            return False
        after = self._folded(start + 1)
        is_joined = after in CONJUNCTIONS and self._is_known_at(start + 2)
        is_joined = is_joined or (
            self._folded(start - 1) in CONJUNCTIONS and self._is_known_at(start - 2)
        )
        is_verb = after in VERBS or after.endswith(GERUND_ENDINGS)
        is_event = self._folded(start - 1) in OF and self._folded(start - 2) in FAMILY_EVENTS
        is_verb = is_verb or is_event
        return is_joined or is_verb or after == "'s" or name != self._words[start].folded

    def _is_known_at(self, position: int) -> bool:
        return 0 <= position < len(self._words) and self._is_known(position)

    def _is_no_word_of(self, languages: Sequence[str], start: int) -> bool:
        code, log_odds = self._language()
        has_capital = self._words[start].text[0].isupper()
        if not has_capital and log_odds < _SURE_LOG_ODDS:
            return "en" not in languages and code is None and len(self._words) > 1
        is_joined = self._folded(start + 1) in CONJUNCTIONS and start + 2 < len(self._words)
        if self._words[start].folded == "mia":
            return self._is_mia(start)
        if has_capital and is_joined and self._is_known(start + 2):
            # Will and Emma.
            return True
        if has_capital and start > 0:
            return not ("de" in languages and code == "de")
        if code is None:
            return "en" not in languages
        is_sure = has_capital or log_odds > _SURE_LOG_ODDS
        return is_sure and code not in languages and not (has_capital and "en" in languages)

    def _is_mia(self, start: int) -> bool:
        """Return True if *Mia* is no possessive: no noun follows, and no article stands before."""
        before, following = self._folded(start - 1), self._folded(start + 1)
        if before in ("mamma", "la", "una", "della", "alla", "nella", "dalla", "sulla", "amica"):
            return False
        if not following:
            return self._words[start].text[0].isupper()
        is_place = self._starts_place is not None and self._starts_place(start + 1)
        has_capitals = self._words[start + 1].text[0].isupper() and start == 0
        is_taken = start + 1 in self._taken or is_place or has_capitals
        return (
            is_taken
            or following in VERBS
            or following in STOP_WORDS
            or following in CONJUNCTIONS
            or following == "'s"
        )

    def _language(self) -> OtherLanguage:
        return query_language(" ".join(word.text for word in self._words))


@lru_cache(maxsize=4)
def index_names(names: tuple[str, ...]) -> Names:
    """Return the people of a library by their names."""
    whole: dict[tuple[str, ...], str] = {}
    first: dict[str, str | None] = {}
    for name in names:
        words = tuple(fold_word(word) for word in name.split())
        if words:
            whole.setdefault(words, name)
            # Of Aunt Helga, Helga is the first name.
            own = words[1:] if words[0] in KINSHIP else words
            if len(words) > 1 and own:
                first[own[0]] = None if own[0] in first else name
    for words in whole:
        if len(words) == 1:
            first.pop(words[0], None)
    return Names(whole, first)
