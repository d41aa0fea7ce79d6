"""Names of places in the words of a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from mmsearch.core.language import is_english_word, score_other_language
from mmsearch.core.stop_words import STOP_WORDS
from mmsearch.search.understanding.folding import fold_word
from mmsearch.search.understanding.word_lists import (
    ARTICLES,
    NEAR_PHRASES,
    NO_PLACES,
    PLACE_PREPOSITIONS,
    PLACES_AS_WORDS,
    THINGS_AFTER_PLACES,
    THINGS_BEFORE_PLACES,
    WEAK_PLACE_PREPOSITIONS,
)
from mmsearch.search.understanding.words import Word

if TYPE_CHECKING:
    from mmsearch.core.places import Place

MAX_NAME_WORDS: Final = 6


class Gazetteer(Protocol):
    """Lookup of names of places; see `mmsearch.core.places`."""

    def lookup(self, name: str) -> Sequence[Place]:
        """Return the places of a name, the best first."""

    def is_common_word(self, name: str) -> bool:
        """Return True if a name is also a word."""

    def stands_alone(self, name: str) -> bool:
        """Return True if a name means its place without a preposition."""


class PlaceMatch(NamedTuple):
    """Words that name a place.

    Attributes:
        start: Position of the first word.
        end: Position after the last word.
        place: The place.
        near: True for what is near to it.
    """

    start: int
    end: int
    place: Place
    near: bool


class PlaceReader:
    """Finds names of places.

    Args:
        text: A query.
        words: Its words.
        taken: Positions of the words that are read as something else.
        gazetteer: Lookup of names.
        is_known: Returns True if a picture of the library is in a place, or near to it.
    """

    def __init__(
        self,
        text: str,
        words: Sequence[Word],
        taken: Set[int],
        gazetteer: Gazetteer,
        is_known: Callable[[Place, bool], bool],
    ) -> None:
        self._text = text
        self._words = words
        self._taken = taken
        self._gazetteer = gazetteer
        self._is_known = is_known

    def find(self) -> list[PlaceMatch]:
        """Return the place that words name, and names of what it lies in; empty for several."""
        found: list[PlaceMatch] = []
        start = 0
        while start < len(self._words):
            match = self._match(start)
            if match is not None:
                found.append(match)
            start = start + 1 if match is None else match.end
        smallest = [
            match
            for match in found
            if all(other is match or _lies_in(match.place, other.place) for other in found)
        ]
        return [match._replace(place=smallest[0].place) for match in found] if smallest else []

    def _match(self, start: int) -> PlaceMatch | None:
        words = self._words
        word = words[start]
        if not (word.text[0].isalpha() and word.starts_free) or word.folded in STOP_WORDS:
            return None
        for end in range(min(len(words), start + MAX_NAME_WORDS), start, -1):
            last = words[end - 1]
            if not self._taken.isdisjoint(range(start, end)) or not last.text[-1].isalnum():
                continue
            if not (last.ends_free or self._folded(end) == "'s"):
                continue
            name = self._text[word.start : last.end]
            if any(mark in name for mark in ",;:()/|+&"):
                continue
            places = self._gazetteer.lookup(name)
            if not places or not self._is_place(start, end, name, places):
                continue
            near = self._is_near(start)
            for place in places:
                if self._is_known(place, near):
                    return PlaceMatch(start, end, place, near)
        return None

    def _folded(self, position: int) -> str:
        return self._words[position].folded if 0 <= position < len(self._words) else ""

    def _before(self, start: int) -> str:
        """Return the word before a name, without an article."""
        position = start - 1
        while position > 0 and self._folded(position) in ARTICLES - {"a"}:
            position -= 1
        return self._folded(position)

    def _is_near(self, start: int) -> bool:
        return near_start(self._words, start) < start

    def _is_place(self, start: int, end: int, name: str, places: Sequence[Place]) -> bool:
        before, after = self._before(start), self._folded(end)
        if after in THINGS_AFTER_PLACES or self._is_of_thing(start):
            return False
        has_preposition = before in PLACE_PREPOSITIONS or self._is_near(start)
        if self._is_word(name, places):
            has_capital = self._words[start].text[0].isupper()
            is_meant = has_preposition and self._ends_phrase(end)
            return has_capital and (is_meant or self._lies_in_next(end, places))
        if has_preposition:
            return True
        if name.islower() and fold_word(name) in PLACES_AS_WORDS:
            return False
        may_stand = before in WEAK_PLACE_PREPOSITIONS or self._gazetteer.stands_alone(name)
        return may_stand and not self._is_part_of_name(end)

    def _is_word(self, name: str, places: Sequence[Place]) -> bool:
        """Return True if a name is also a word of the language of the query."""
        folded = fold_word(name)
        if folded in NO_PLACES or self._gazetteer.is_common_word(name):
            return True
        if not name.islower() or folded == fold_word(places[0].name):
            return False
        # Rom is Rome in German, and a word in English.
        return is_english_word(folded) and score_other_language(self._text).code is None

    def _lies_in_next(self, end: int, places: Sequence[Place]) -> bool:
        """Return True if a name of what a place lies in follows, as in *Nice, France*."""
        start = end + (self._folded(end) == ",")
        for last in range(min(len(self._words), start + MAX_NAME_WORDS), start, -1):
            name = self._text[self._words[start].start : self._words[last - 1].end]
            for other in self._gazetteer.lookup(name):
                if any(place.name != other.name and _lies_in(place, other) for place in places):
                    return True
        return False

    def _is_of_thing(self, start: int) -> bool:
        """Return True for a name of a dish or a thing, such as *choux de Bruxelles*."""
        position = start - 1
        while position >= 0 and self._folded(position) in WEAK_PLACE_PREPOSITIONS | ARTICLES:
            position -= 1
        return self._folded(position) in THINGS_BEFORE_PLACES

    def _ends_phrase(self, end: int) -> bool:
        after = self._folded(end)
        return not after or end in self._taken or after in STOP_WORDS or not after[0].isalnum()

    def _is_part_of_name(self, end: int) -> bool:
        """Return True if a word with a capital follows, as in *Paris Hilton*."""
        if self._ends_phrase(end) or not self._words[end].text[0].isupper():
            return False
        if self._gazetteer.lookup(self._words[end].text):
            return False
        # In German, every noun has a capital.
        return score_other_language(self._text).code != "de"


def _lies_in(place: Place, other: Place) -> bool:
    return other.name in (place.name, place.region, place.country)


def near_start(words: Sequence[Word], start: int) -> int:
    """Return the position of the first word of a phrase such as *close to* before a name."""
    for phrase in NEAR_PHRASES:
        count = len(phrase)
        before = words[max(0, start - count) : start]
        if tuple(word.folded for word in before) == phrase:
            return start - count
    return start
