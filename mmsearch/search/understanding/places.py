"""Names of places in the words of a query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from mmsearch.core.language import is_english_word
from mmsearch.core.stop_words import STOP_WORDS
from mmsearch.search.understanding.folding import fold_word
from mmsearch.search.understanding.names_of_things import (
    ADJECTIVE_HEADS,
    COUNTRY_ADJECTIVES,
    CRAFTS,
    FOOD,
    GENITIVES,
    INDEFINITE_ARTICLES,
    MADE,
    MATCHES,
    RULERS,
    STREETS_BEFORE,
    THINGS_AFTER_PLACES,
    THINGS_BEFORE_PLACES,
)
from mmsearch.search.understanding.query_language import query_language
from mmsearch.search.understanding.word_lists import (
    ABBREVIATIONS,
    ARTICLES,
    JOINED_ARTICLES,
    NAMES_WITH_CAPITALS,
    NAMESAKES,
    NEAR_PHRASES,
    NO_PLACES,
    PLACE_PREPOSITIONS,
    PLACES_AND_PEOPLE,
    PLACES_AS_WORDS,
    SIGHTS,
    VERBS,
    WEAK_PLACE_PREPOSITIONS,
    WORDS_AFTER_PREPOSITIONS,
    WORDS_OF_LANGUAGES,
)
from mmsearch.search.understanding.words import Word

if TYPE_CHECKING:
    from mmsearch.core.places import Place

MAX_NAME_WORDS: Final = 6

MAX_WORD_LETTERS: Final = 5
"""Largest number of letters of a foreign name that may be an English word, such as *Rom*."""

LOWER_ABBREVIATIONS: Final = frozenset(
    ("nyc", "cdmx", "usa", "uae", "uk", "nrw", "eeuu", "bcn", "ny")
)
"""Abbreviations of places that are no words."""

OF: Final = frozenset(("of", "de", "d'", "di", "du"))


_LONGEST_NEAR_PHRASES: Final = sorted(NEAR_PHRASES, key=len, reverse=True)


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

    def starts_place(self, start: int) -> bool:
        """Return True if a word begins the name of a place that the library has pictures of."""
        return self._match(start) is not None

    def _match(self, start: int) -> PlaceMatch | None:
        word = self._words[start]
        if not (word.text[0].isalpha() and word.starts_free):
            return None
        has_capital = word.text[0].isupper()
        if has_capital and (found := self._match_abbreviation(start)):
            return found
        # Lago di Como, and como in Spanish.
        is_lake = self._folded(start - 1) in ("di", "lago", "lake")
        is_stop_word = word.folded in STOP_WORDS and not ((has_capital or is_lake) and start)
        # Los Angeles begins with a stop word, too.
        return self._match_name(start, 2 if is_stop_word else 1)

    def _match_name(self, start: int, min_words: int) -> PlaceMatch | None:
        words = self._words
        word = words[start]
        for end in range(min(len(words), start + MAX_NAME_WORDS), start + min_words - 1, -1):
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
            for place in self._candidates(end, name, places):
                if self._is_known(place, near):
                    return PlaceMatch(start, end, place, near)
        return None

    def _candidates(self, end: int, name: str, places: Sequence[Place]) -> Sequence[Place]:
        """Return the places of a name that may be meant: Athens, Georgia is not in Greece."""
        outer = list(self._next_places(end))
        inner = [place for place in places if any(_lies_below(place, other) for other in outer)]
        if inner:
            # A library without pictures of Georgia has none of Athens in Georgia.
            return inner if any(self._is_known(other, False) for other in outer) else ()
        # Genova is Genoa, even if there is one in another country.
        names = (places[0].name, name)
        return [place for place in places if _has_name(place, names)]

    def _match_abbreviation(self, start: int) -> PlaceMatch | None:
        """Return the place of an abbreviation in capitals, such as *LA* and *U.S.*."""
        texts = [word.text for word in self._words[start : start + MAX_NAME_WORDS]]
        for count in range(len(texts), 0, -1):
            name, end = ABBREVIATIONS.get(tuple(texts[:count])), start + count
            if name is None or not self._taken.isdisjoint(range(start, end)):
                continue
            near = self._is_near(start)
            places = self._gazetteer.lookup(name) if self._is_abbreviation(start, end) else ()
            known = next((place for place in places if self._is_known(place, near)), None)
            if known is not None:
                return PlaceMatch(start, end, known, near)
        return None

    def _is_abbreviation(self, start: int, end: int) -> bool:
        """Return True if capitals abbreviate a place, and are no word: *LA PLAYA*, *U.S. Army*."""
        if self._folded(end) in THINGS_AFTER_PLACES or self._is_of_thing(start):
            return False
        if self._before(start) in PLACE_PREPOSITIONS or self._is_near(start):
            return True
        first = name = self._words[start].text
        is_shouted = self._text.isupper() and any(word.text.isalpha() for word in self._words[end:])
        if first in ("US", "LA") and is_shouted:
            return False
        if first in ("US", "U"):
            return end == len(self._words) or end in self._taken
        return not self._is_part_of_name(end, name, self._gazetteer.lookup(name)) and not (
            first == "LA" and query_language(self._text).code in ("fr", "es", "it")
        )

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
        # Melon au porto: French has no article before a city.
        is_ware = before in ("au", "aux") and name.islower() and places[0].kind == "city"
        is_thing = is_ware or after in THINGS_AFTER_PLACES or self._is_of_thing(start)
        if is_thing or self._is_noun(start, after, name, places):
            return False
        has_preposition = before in PLACE_PREPOSITIONS or self._is_near(start)
        if self._is_word(name, places):
            return self._is_word_for_place(start, end, name, places)
        if has_preposition:
            return True
        if any(word.folded in MATCHES for word in self._words) or self._acts(name, after):
            # Match Marseille Lyon: the clubs.
            return False
        if name.islower() and fold_word(name) in PLACES_AS_WORDS:
            return self._lies_in_next(end, places)
        may_stand = (
            before in WEAK_PLACE_PREPOSITIONS
            or self._gazetteer.stands_alone(name)
            or fold_word(name) in ("rio", "sydney", "como")
            or self._lies_in_next(end, places)
        )
        return may_stand and not self._is_part_of_name(end, name, places)

    def _acts(self, name: str, after: str) -> bool:
        """Return True for somebody with the name of a place: *Sydney sleeping on the sofa*."""
        folded = fold_word(name)
        is_namesake = (
            folded in PLACES_AND_PEOPLE or folded in NAMES_WITH_CAPITALS or folded in NAMESAKES
        )
        return is_namesake and after in VERBS

    def _is_noun(self, start: int, after: str, name: str, places: Sequence[Place]) -> bool:
        """Return True for *nel porto*, *Kiel eines Schiffes* and *montre suisse*."""
        if after in ("eines", "einer") and query_language(self._text).code == "de":
            return True
        is_adjective = fold_word(name) in COUNTRY_ADJECTIVES and name.islower()
        if is_adjective and self._folded(start - 1) in ADJECTIVE_HEADS:
            return True
        is_city = places[0].kind == "city"
        return (
            is_city
            and name.islower()
            and fold_word(name) in PLACES_AS_WORDS
            and self._folded(start - 1) in JOINED_ARTICLES
        )

    def _is_word_for_place(self, start: int, end: int, name: str, places: Sequence[Place]) -> bool:
        """Return True if a word is meant as a place, as the words around it say."""
        folded = fold_word(name)
        is_lake = folded == "como" and self._folded(start - 1) in ("lake", "lago")
        if is_lake or (folded != "essen" and self._lies_in_next(end, places)):
            return True
        is_lower = not self._words[start].text[0].isupper()
        if is_lower and folded not in WORDS_AFTER_PREPOSITIONS and folded != "como":
            return False
        has_preposition = self._before(start) in PLACE_PREPOSITIONS or self._is_near(start)
        if not is_lower or folded == "como":
            has_preposition = has_preposition or self._is_after_of(start, name)
        if has_preposition and self._ends_phrase(end):
            return True
        return not is_lower and self._is_beside_date(start, end, name)

    def _is_word(self, name: str, places: Sequence[Place]) -> bool:
        """Return True if a name is also a word of the language of the query."""
        folded = fold_word(name)
        if (name.islower() or folded == "rio") and folded in WORDS_OF_LANGUAGES:
            code = query_language(self._text).code or "en"
            is_word = code in WORDS_OF_LANGUAGES[folded]
            return is_word and (code == "en" or len(self._words) > 1)
        if folded in WORDS_OF_LANGUAGES and not WORDS_OF_LANGUAGES[folded]:
            return False
        if folded in NO_PLACES or self._gazetteer.is_common_word(name):
            return True
        return (
            name.islower()
            and folded.isalpha()
            and len(folded) <= MAX_WORD_LETTERS
            and folded != fold_word(places[0].name)
            and places[0].kind not in ("country", "region")
            and folded not in LOWER_ABBREVIATIONS
            and is_english_word(folded)
            and query_language(self._text).code is None
        )

    def _is_after_of(self, start: int, name: str) -> bool:
        """Return True for *cathédrale de Tours*: a capital after a word such as *of*."""
        before = self._words[start - 1] if start else None
        return (
            before is not None
            and before.text.islower()
            and before.folded in OF
            and fold_word(name) not in PLACES_AND_PEOPLE
        )

    def _is_beside_date(self, start: int, end: int, name: str) -> bool:
        """Return True for a word with a capital before a date: *marché Vienne décembre 2022*."""
        if start == 0 or end not in self._taken or fold_word(name) in PLACES_AND_PEOPLE:
            return False
        before = self._words[start - 1]
        is_title = all(word.text[0].isupper() for word in self._words if word.text[0].isalpha())
        if is_title or not before.text[0].isalpha() or before.folded in STOP_WORDS:
            return False
        return query_language(self._text).code in ("fr", "es", "it")

    def _lies_in_next(self, end: int, places: Sequence[Place]) -> bool:
        """Return True if a name of what a place lies in follows, as in *Nice, France*."""
        return any(
            _lies_below(place, other) for other in self._next_places(end) for place in places
        )

    def _next_places(self, end: int) -> Iterator[Place]:
        """Yield the countries and regions whose names follow directly."""
        start = end + (self._folded(end) == ",")
        for last in range(min(len(self._words), start + MAX_NAME_WORDS), start, -1):
            name = self._text[self._words[start].start : self._words[last - 1].end]
            for other in self._gazetteer.lookup(name):
                if other.kind in ("country", "region"):
                    yield other

    def _is_of_thing(self, start: int) -> bool:
        """Return True for a name of a dish or a thing, such as *choux de Bruxelles*."""
        position = start - 1
        if self._folded(position) in ("in", "en") and self._folded(position - 1) in MADE:
            return True
        while position >= 0 and self._folded(position) in GENITIVES:
            position -= 1
        if position in self._taken:
            return False
        head = self._folded(position)
        if head in THINGS_BEFORE_PLACES:
            return True
        is_genitive = position < start - 1
        if head in STREETS_BEFORE:
            return self._is_of_street(position, is_genitive=is_genitive)
        return is_genitive and (head in RULERS or self._has_thing_before(position))

    def _is_of_street(self, position: int, *, is_genitive: bool) -> bool:
        """Return True for a street named after a place: *rue de Rome*, but *une rue de Rome*."""
        before = self._folded(position - 1)
        if before in ("gran", "grand", "grande", "market", "-"):
            return False
        if not is_genitive:
            # Via del Corso: the name is complete without the place.
            return before not in GENITIVES
        is_english = self._folded(position) == "place" and self._folded(position + 1) in (
            "of",
            "from",
        )
        return not is_english and before not in INDEFINITE_ARTICLES

    def _has_thing_before(self, position: int) -> bool:
        """Return True for a dish or a ware, also with a word after it: *champignons frais de*."""
        head = self._folded(position)
        if head in FOOD or head in CRAFTS:
            return True
        before = self._folded(position - 1)
        joined = self._folded(position - 2)
        if before in ("aux", "au", "a", "con", "al", "alla", "with", "de", "di", "mit", "en"):
            # Tarte aux pommes de Normandie.
            return joined in FOOD
        return before in FOOD and not self._words[position].text[0].isupper()

    def _ends_phrase(self, end: int) -> bool:
        after = self._folded(end)
        return not after or end in self._taken or after in STOP_WORDS or not after[0].isalnum()

    def _is_part_of_name(self, end: int, name: str, places: Sequence[Place]) -> bool:
        """Return True if a word with a capital follows, as in *Paris Hilton*."""
        if self._ends_phrase(end) or not self._words[end].text[0].isupper():
            return False
        if self._gazetteer.lookup(self._words[end].text):
            return False
        following = self._words[end].folded
        is_local = fold_word(name) != fold_word(places[0].name) and places[0].kind != "country"
        # In German, every noun has a capital.
        is_described = is_local or following in SIGHTS
        return not is_described and query_language(self._text).code != "de"


def _lies_below(place: Place, other: Place) -> bool:
    return place.name != other.name and _lies_in(place, other)


def _has_name(place: Place, names: Sequence[str]) -> bool:
    return any(fold_word(place.name) == fold_word(name) for name in names)


def _lies_in(place: Place, other: Place) -> bool:
    return other.name in (place.name, place.region, place.country)


def near_start(words: Sequence[Word], start: int) -> int:
    """Return the position of the first word of a phrase such as *close to* before a name."""
    for phrase in _LONGEST_NEAR_PHRASES:
        count = len(phrase)
        before = words[max(0, start - count) : start]
        if tuple(word.folded for word in before) == phrase:
            return start - count
    return start
