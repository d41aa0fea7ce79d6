"""Dates in the words of a query: rules for five languages, and when a match is no date.

A word that may be something else is no date: *in May* is, *may* and *April* are not. A year counts
at the end of a query, after a preposition or before one, but not after the name of a thing that has
numbers, such as a room or a model of a car.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import ClassVar, Final, NamedTuple

from mmsearch.core.stop_words import STOP_WORDS
from mmsearch.search.understanding import calendar
from mmsearch.search.understanding.calendar import Period
from mmsearch.search.understanding.date_rules import get_rules
from mmsearch.search.understanding.matcher import Match, Matcher
from mmsearch.search.understanding.misspelt_dates import correct_words
from mmsearch.search.understanding.names_of_things import GENITIVES
from mmsearch.search.understanding.vocabulary import ENTRIES
from mmsearch.search.understanding.word_lists import (
    AMBIGUOUS_MONTHS,
    BRIDGES,
    DATED_THINGS,
    EVENT_ENDINGS,
    EVENTS,
    EVES,
    FAMILY,
    FRENCH,
    GERMAN,
    KINSHIP,
    MEDIA,
    NUMBERED_THINGS,
    OBJECTS,
    OCCASIONS,
    OF_WORDS,
    PAST_PARTICIPLES,
    PREPOSITIONS,
    SEASONS_OF_THINGS,
    STREETS,
    STYLES,
    THEMES,
    UNITS,
    VERSIONS,
    YEAR_LINKS,
)
from mmsearch.search.understanding.words import Word

ENGLISH_SEASONS: Final = frozenset(("spring", "summer", "autumn", "fall", "winter"))

SHORT_DECADE: Final = len("'80s")
"""Largest length of a decade without its century."""


class DateMatch(NamedTuple):
    """Words that mean a date.

    Attributes:
        start: Position of the first word.
        end: Position after the last word.
        period: The date.
    """

    start: int
    end: int
    period: Period


class DateReader:
    """Reads dates in the words of a query.

    Args:
        words: The words.
        today: The day on which the query is asked.
    """

    def __init__(self, words: Sequence[Word], today: date) -> None:
        words = correct_words(words)
        self._words = words
        self._matcher = Matcher(words, get_rules(today), today.year)
        # Positions of the words of dates that are names.
        self._in_names: set[int] = set()

    def find_dates(self) -> list[DateMatch]:
        """Return the dates that need no look at other filters: all but years on their own."""
        found: list[DateMatch] = []
        start = 0
        while start < len(self._words):
            best: Match | None = None
            if self._may_start(start):
                matches = self._matcher.find("DATE", start)
                if matches and (self._is_of_street(start) or self._is_of_title(start)):
                    end = max(match.end for match in matches)
                    self._in_names.update(range(start, end))
                    start = end
                    continue
                allowed = [match for match in matches if self._is_date(start, match)]
                best = max(allowed, key=lambda match: match.end, default=None)
            if best is None:
                start += 1
            else:
                end = best.end
                if best.name == "feast_before_occasion":
                    # The occasion is what the picture shows, and the year is read on its own.
                    end -= 2
                found.append(DateMatch(start, end, best.value))
                start = end
        return found

    def find_years(self, taken: Collection[int]) -> list[DateMatch]:
        """Return the years that stand on their own.

        Args:
            taken: Positions of the words that are read as something else.
        """
        found = []
        for start, word in enumerate(self._words):
            if start in taken or start in self._in_names or not word.folded[0].isdigit():
                continue
            for match in self._matcher.find("YEAR", start):
                if self._is_lone_year(start, taken):
                    period = calendar.year_period(match.value)
                    found.append(DateMatch(start, match.end, period))
        return found

    def _may_start(self, start: int) -> bool:
        word = self._words[start].folded
        return word in ENTRIES or word[0].isdigit() or word[0] == "'" or word in ("hier", "mes")

    def _folded(self, position: int) -> str:
        return self._words[position].folded if 0 <= position < len(self._words) else ""

    def _is_date(self, start: int, match: Match) -> bool:
        check = self._checks.get(match.name)
        return check is None or check(self, start, match)

    def _is_of_street(self, start: int) -> bool:
        """Return True for a date that a street is named after: *rue du 8 mai 1945*."""
        position = start - 1
        while position >= 0 and self._folded(position) in GENITIVES:
            position -= 1
        links = {word.folded for word in self._words[position + 1 : start + 1]}
        is_genitive = not links.isdisjoint(OF_WORDS)
        # A bridge is a long weekend, too: pont du 8 mai 2021.
        return is_genitive and self._folded(position) in STREETS - BRIDGES

    def _is_of_title(self, start: int) -> bool:
        """Return True for the date of a song or a newspaper: *canzone 4 marzo 1943*."""
        position = start - 1
        while position >= 0 and self._folded(position) in YEAR_LINKS:
            position -= 1
        return self._folded(position) in DATED_THINGS

    # --- checks of the words around a match ---

    def _is_last_unit(self, start: int, match: Match) -> bool:
        # The last week of July, the last year of school.
        return self._folded(match.end) not in ("of", "der", "des", "de", "du", "del", "di", "d'")

    def _is_no_compound(self, start: int, match: Match) -> bool:
        """Return False for *sapin de Noel 2021*, the year of which counts, not the holiday."""
        before = self._folded(start - 1)
        if before not in ("de", "d'", "di"):
            return before not in SEASONS_OF_THINGS
        if self._folded(start - 2) in OCCASIONS:
            return True
        if any(word.folded in EVES for word in self._words[start : match.end]):
            return True
        return start < 2 or _is_media_word(self._folded(start - 2))

    def _is_in_year(self, start: int, match: Match) -> bool:
        return self._folded(start - 1) not in PAST_PARTICIPLES

    def _is_in_month(self, start: int, match: Match) -> bool:
        return self._folded(match.end) not in ("'s", "-")

    def _is_month_year(self, start: int, match: Match) -> bool:
        """Return False for *women's march 2017*, *feria de abril 2018*, *31 February 2019*."""
        before = start - 1 - (self._folded(start - 1) == ".")
        if self._folded(before).isdigit():
            return False
        if (self._folded(start - 2), self._folded(start - 1)) == ("feria", "de"):
            return False
        is_walk = self._words[start].text == "march" and start > 0
        return not (is_walk and self._folded(start - 1) not in STOP_WORDS)

    def _is_short_day(self, start: int, match: Match) -> bool:
        """Return False for *version 3.10.21* and *order 20211003*."""
        before = self._folded(start - 1)
        if self._folded(match.end) in UNITS:
            return False
        return not (before in NUMBERED_THINGS or before in VERSIONS or before[-1:] in ("v", "#"))

    def _is_bare_year(self, start: int, match: Match) -> bool:
        """Return False for *summer 99 cents* and *winter 40 x 60*."""
        after = self._folded(match.end)
        ends = not after or match.end == len(self._words) or after in STOP_WORDS
        return (ends or after == ",") and self._is_no_compound(start, match)

    def _is_part_of_month(self, start: int, match: Match) -> bool:
        """Return False for *early march of the troops* and *late may 5*."""
        after = self._folded(match.end)
        is_walk = self._words[match.end - 1].text in ("march", "may") and after in ("of", "be")
        return not is_walk and not after[:1].isdigit() and after not in ("'s", "-")

    def _is_part_of_year(self, start: int, match: Match) -> bool:
        # Mi 2020: mine, in Spanish. Meta 2019: the finish.
        # End of 2000 miles.
        is_amount = self._folded(match.end) in UNITS
        return not is_amount and self._words[start].text.lower() not in ("mi", "meta")

    def _is_year_at(self, start: int, match: Match) -> bool:
        """Return False for *2019 in summer dresses*; with other prepositions it is a season."""
        season, before = self._words[match.end - 1].folded, self._folded(match.end - 2)
        after = self._folded(match.end)
        is_noun = after[:1].isalpha() and not _is_small_word(after)
        return not (season in ENGLISH_SEASONS and before == "in" and is_noun)

    def _is_feast_before_occasion(self, start: int, match: Match) -> bool:
        return self._folded(match.end - 1).isdigit()

    def _is_day(self, start: int, match: Match) -> bool:
        before = [self._folded(start - offset) for offset in range(1, 4)]
        if STREETS.intersection(before) or any(
            word.endswith(("strasse", "platz", "brucke")) for word in before
        ):
            return False
        folded = [word.folded for word in self._words[start : match.end]]
        month = next((word for word in folded if word in AMBIGUOUS_MONTHS), None)
        if month is None:
            return True
        is_marked = any(
            (word[0].isdigit() and not word.isdigit()) or word == "." for word in folded
        )
        return is_marked or (not folded[0][0].isdigit() and folded[0] != month)

    def _is_today(self, start: int, match: Match) -> bool:
        # Last night of the proms.
        is_of_series = self._folded(match.end) == "of"
        return self._folded(start - 1) != "usa" and not is_of_series

    def _is_hier(self, start: int, match: Match) -> bool:
        """Return True if *hier* is French (yesterday), not German (here)."""
        others = {word.folded for word in self._words}
        return bool(others & FRENCH) and not others & GERMAN

    def _is_in_decade(self, start: int, match: Match) -> bool:
        after = self._folded(match.end)
        if self._folded(start - 1) in PAST_PARTICIPLES or after in STYLES:
            return False
        if self._begins(start) and (after not in THEMES or after in FAMILY):
            # In den Achtzigern Familie im Garten.
            return True
        return not after or after in STOP_WORDS or not after.isalnum()

    def _is_of_decade(self, start: int, match: Match) -> bool:
        """Return True for a decade that is alone, or that follows a word for pictures."""
        if any(word.text not in ".?!" for word in self._words[match.end :]):
            return self._begins(start) and self._is_of_family(match.end)
        if self._words[start].folded in ("the", "die", "les", "los", "gli"):
            return start == 0 or _is_media_word(self._folded(start - 1))
        before = [word.folded for word in self._words[:start]]
        if not before or all(is_photo_word(word) for word in before):
            return True
        first = self._words[start].folded
        if first[0] in "'0123456789":
            # Family photos 1980s, but not an 80s diner.
            return len(first) > SHORT_DECADE and _is_media_word(before[-1])
        if any(map(_is_media_word, before)):
            return True
        is_dated = first in ("aus", "from", "des", "degli") or (
            first == "de" and self._folded(start + 1) == "los"
        )
        is_number = self._words[match.end - 1].folded.isdigit()
        is_themed = any(word in THEMES or word in OBJECTS or word in STYLES for word in before)
        # Fiesta de los 80: a theme, not a date.
        is_bare = (
            is_number and first == "de" and self._folded(start + 2) not in ("anos", "a\u00f1os")
        )
        return is_dated and not is_themed and not is_bare

    def _begins(self, start: int) -> bool:
        return all(is_photo_word(word.folded) for word in self._words[:start])

    def _is_of_family(self, end: int) -> bool:
        """Return True for *90s family portraits*, but not *80s wedding dress*."""
        rest = [word.folded for word in self._words[end : end + 2]]
        is_family = bool(rest) and (rest[0] in FAMILY or rest[0] in KINSHIP or rest[0] in MEDIA)
        return is_family and not any(word in THEMES or word in STYLES for word in rest)

    def _is_lone_year(self, start: int, taken: Collection[int]) -> bool:
        """Return True for a year at the end, or before a preposition or another filter."""
        if not self._may_have_year(start, taken):
            return False
        rest = [
            self._folded(position)
            for position in range(start + 1, len(self._words))
            if position not in taken and self._folded(position)[0].isalnum()
        ]
        after = self._folded(start + 1 + (self._folded(start + 1) == ")"))
        if all(map(_is_small_word, rest)) or start + 1 in taken or after in (",", *PREPOSITIONS):
            return True
        begins = start == 0 or start - 1 in taken
        if begins:
            return after in EVENTS or is_photo_word(after)
        # Sommerfest 2017 Huepfburg, but birthday 2000 balloons.
        return _is_event(self._folded(start - 1)) and not self._folded(start).endswith("00")

    def _may_have_year(self, start: int, taken: Collection[int]) -> bool:
        """Return False if the word before a number says that it is no year of a photograph."""
        before = start - 1
        if self._folded(before) in (",", "("):
            before -= 1
        last = before
        while before >= 0 and before not in taken and self._folded(before) in YEAR_LINKS:
            before -= 1
        word = self._folded(before)
        if before < 0 or before in taken:
            return True
        if word in NUMBERED_THINGS or word in PAST_PARTICIPLES or word[-1].isdigit():
            return False
        is_word = word[-1].isalnum() or word in (",", "'s")
        return is_word and not (before < last and word in OBJECTS)

    _checks: ClassVar = {
        "last_unit": _is_last_unit,
        "named_year": _is_no_compound,
        "in_year": _is_in_year,
        "in_month": _is_in_month,
        "month_year": _is_month_year,
        "day": _is_day,
        "short_day": _is_short_day,
        "bare_year": _is_bare_year,
        "part_of_month": _is_part_of_month,
        "part_of_year": _is_part_of_year,
        "year_at": _is_year_at,
        "feast_before_occasion": _is_feast_before_occasion,
        "today": _is_today,
        "hier": _is_hier,
        "in_decade": _is_in_decade,
        "of_decade": _is_of_decade,
    }
    """The check of the words around a match, by the name of its rule."""


def is_photo_word(word: str) -> bool:
    """Return True for a folded word such as *photos*, which says nothing about what they show."""
    return any(kind == "PHOTOS" for _, kind, _, _ in ENTRIES.get(word, ()))


def _is_media_word(word: str) -> bool:
    """Return True for a folded word such as *slides*, or a German one such as *Kinderfotos*."""
    return (
        is_photo_word(word)
        or word in MEDIA
        or word.endswith(("bilder", "fotos", "foto", "aufnahmen", "aufnahme", "dias", "filme"))
    )


def _is_event(word: str) -> bool:
    return word in EVENTS or word.endswith(EVENT_ENDINGS)


def _is_small_word(word: str) -> bool:
    return word in STOP_WORDS or is_photo_word(word)
