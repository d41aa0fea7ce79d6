"""Matcher of rules on the words of a query.

A rule is a line of symbols. A symbol in capitals is a class of words (`vocabulary.ENTRIES`), a
class of numbers, or the name of other rules; others are words. ``?`` marks one that may be missing.
All words of a match are of one language, so that *in* and *mars* make no date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from mmsearch.search.understanding.vocabulary import ENTRIES, LANGUAGES
from mmsearch.search.understanding.words import Word

ALL_LANGUAGES: Final = (1 << len(LANGUAGES)) - 1

MIN_YEAR: Final = 1900

_ORDINAL: Final = re.compile(r"(\d{1,2})(st|nd|rd|th|er|\u00ba|\u00b0|o|a)?")
_DECADE: Final = re.compile(r"'?((?:19|20)?\d0)(s|ern?)")
_ISO_DAY: Final = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_ISO_MONTH: Final = re.compile(r"(\d{4})-(\d{2})")
_DAY_FIRST: Final = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
_DAY_SHORT_YEAR: Final = re.compile(r"(\d{1,2})([/.])(\d{1,2})\2(\d{2})")
_JOINED_DAY: Final = re.compile(r"((?:19|20)\d\d)(\d\d)(\d\d)")
_MONTH_YEAR: Final = re.compile(r"(\d{1,2})[/.-](\d{4})")
_YEAR_MONTH: Final = re.compile(r"(\d{4})/(\d{1,2})")
_DAY_AND_MONTH: Final = re.compile(r"(\d{1,2})\.(\d{1,2})")
_DAYS: Final = re.compile(r"(\d{1,2})[-/\u2013](\d{1,2})")
_YEARS: Final = re.compile(r"(\d{4})[-/](\d{4}|\d{2})")
_SHORT_YEARS: Final = re.compile(r"(\d\d)[-/](\d\d)")


class Rule(NamedTuple):
    """A rule.

    Attributes:
        symbols: Its symbols, each with True if it may be missing.
        make: Returns the value of a match from the values of its symbols in capitals, None for one
            that is missing; the match is dropped if it returns None.
        languages: Languages in which it holds, as bits.
        name: What is read, for checks of the words around it.
    """

    symbols: tuple[tuple[str, bool], ...]
    make: Callable[..., Any]
    languages: int
    name: str


class Match(NamedTuple):
    """Words that a rule matches.

    Attributes:
        end: Position after the last word.
        value: What they mean.
        languages: Languages that all of them are of, as bits.
        name: Name of the rule.
    """

    end: int
    value: Any
    languages: int
    name: str = ""


def make_rule(symbols: str, make: Callable[..., Any], languages: str = "", name: str = "") -> Rule:
    """Return a rule.

    Args:
        symbols: Symbols, separated by spaces.
        make: See `Rule`.
        languages: Codes of languages, separated by spaces; empty for all.
        name: See `Rule`.
    """
    parts = tuple((part.rstrip("?"), part.endswith("?")) for part in symbols.split())
    bits = sum(1 << LANGUAGES.index(code) for code in languages.split()) or ALL_LANGUAGES
    return Rule(parts, make, bits, name)


@dataclass
class Matcher:
    """Matches rules at positions of a text.

    Args:
        words: Words of the text.
        rules: Rules by the name that other rules use.
        max_year: Highest number that is a year.
    """

    words: Sequence[Word]
    rules: Mapping[str, Sequence[Rule]]
    max_year: int

    def __post_init__(self) -> None:
        self._found: dict[tuple[str, int], list[Match]] = {}

    def find(self, symbol: str, start: int) -> list[Match]:
        """Return all matches of a symbol in capitals at a position."""
        key = (symbol, start)
        if key not in self._found:
            self._found[key] = []
            self._found[key] = list(self._find(symbol, start))
        return self._found[key]

    def _find(self, symbol: str, start: int) -> Iterator[Match]:
        if start >= len(self.words):
            return
        if symbol in self._numbers:
            yield from self._numbers[symbol](self, start)
        elif symbol in self.rules:
            for rule in self.rules[symbol]:
                for end, values, bits in self._match(rule.symbols, start, rule.languages):
                    value = rule.make(*values)
                    if value is not None:
                        yield Match(end, value, bits, rule.name)
        else:
            yield from self._phrases(symbol, start)

    def _phrases(self, symbol: str, start: int) -> Iterator[Match]:
        for phrase, kind, value, bits in ENTRIES.get(self.words[start].folded, ()):
            end = start + len(phrase)
            if kind != symbol or end > len(self.words):
                continue
            words = self.words[start:end]
            if tuple(word.folded for word in words) == phrase and self.is_free(start, end):
                yield Match(end, value, bits)

    def is_free(self, start: int, end: int) -> bool:
        """Return True if nothing is joined to words, as in ``2019.jpg`` or ``summer-like``."""
        first, last = self.words[start], self.words[end - 1]
        is_possessive = end < len(self.words) and self.words[end].folded == "'s"
        return (first.starts_free or first.text == "-") and (
            last.ends_free
            or is_possessive
            or last.folded in ("mid-", "mi-")
            or last.folded[-1] == "'"
        )

    def _match(
        self, symbols: tuple[tuple[str, bool], ...], start: int, bits: int
    ) -> Iterator[tuple[int, list[Any], int]]:
        """Yield the end, the values and the languages of each match of symbols."""
        if not symbols:
            yield start, [], bits
            return
        (symbol, is_optional), rest = symbols[0], symbols[1:]
        if symbol.isupper():
            for found in self.find(symbol, start):
                if both := bits & found.languages:
                    for end, values, common in self._match(rest, found.end, both):
                        yield end, [found.value, *values], common
        elif start < len(self.words) and self.words[start].folded == symbol:
            yield from self._match(rest, start + 1, bits)
        if is_optional:
            missing = [None] if symbol.isupper() else []
            for end, values, common in self._match(rest, start, bits):
                yield end, [*missing, *values], common

    # --- classes of numbers ---

    def is_year(self, year: int) -> bool:
        """Return True for a number that can be the year of a photograph."""
        return MIN_YEAR <= year <= self.max_year

    def _year(self, start: int) -> Iterator[Match]:
        text = self.words[start].folded
        is_number = len(text) == 4 and text.isascii() and text.isdigit()
        if is_number and self.is_year(int(text)) and self.is_free(start, start + 1):
            yield Match(start + 1, int(text), ALL_LANGUAGES)

    def _short_year(self, start: int) -> Iterator[Match]:
        text = self.words[start].folded
        if len(text) == 3 and text[0] == "'" and text[1:].isdigit():
            yield Match(start + 1, self._whole_year(text[1:]), ALL_LANGUAGES)

    def _bare_year(self, start: int) -> Iterator[Match]:
        """Yield the year of two digits that can be no day of a month."""
        text = self.words[start].folded
        is_number = len(text) == 2 and text.isascii() and text.isdigit()
        if is_number and (int(text) > 31 or text[0] == "0") and self.is_free(start, start + 1):
            yield Match(start + 1, self._whole_year(text), ALL_LANGUAGES)

    def _whole_year(self, digits: str) -> int:
        """Return the last year that ends with two digits."""
        year = 2000 + int(digits)
        return year if year <= self.max_year else year - 100

    def _day(self, start: int) -> Iterator[Match]:
        found = _ORDINAL.fullmatch(self.words[start].folded)
        if found and 1 <= int(found[1]) <= 31 and self.words[start].starts_free:
            yield Match(start + 1, (int(found[1]), found[2] is not None), ALL_LANGUAGES)

    def _count(self, start: int) -> Iterator[Match]:
        text = self.words[start].folded
        if len(text) <= 3 and text.isdecimal() and int(text) and self.is_free(start, start + 1):
            yield Match(start + 1, int(text), ALL_LANGUAGES)
        yield from self._phrases("NUMBER", start)

    def _decade(self, start: int) -> Iterator[Match]:
        text = self.words[start].folded
        end = start + 1
        if end < len(self.words) and self.words[end].folded == "'s":
            text, end = f"{text}s", end + 1
        found = _DECADE.fullmatch(text)
        is_joined = end < len(self.words) and self.words[end].text == "-"
        if found and (is_joined or self.is_free(start, end)):
            bits = 1 << LANGUAGES.index("en" if found[2] == "s" else "de")
            if (decade := self._to_decade(found[1])) is not None:
                yield Match(end, decade, bits)
        for match in self._phrases("TENS", start):
            yield match._replace(value=1900 + int(match.value))

    def _tens(self, start: int) -> Iterator[Match]:
        text = self.words[start].folded.removeprefix("'")
        if text.isdecimal() and len(text) in (2, 4) and text[-1] == "0":
            decade = self._to_decade(text)
            if decade is not None and self.is_free(start, start + 1):
                yield Match(start + 1, decade, ALL_LANGUAGES)
        for match in self._phrases("TENS", start):
            yield match._replace(value=1900 + int(match.value))

    def _to_decade(self, text: str) -> int | None:
        if len(text) == 4:
            return int(text) if self.is_year(int(text)) else None
        # The 20s may be of either century.
        return None if text == "20" else int(text) + (2000 if text in ("00", "10") else 1900)

    def _number_pair(self, start: int) -> Iterator[Match]:
        text = self.words[start].folded
        if found := _YEARS.fullmatch(text):
            first, last = int(found[1]), int(found[2])
            last += first // 100 * 100 if last < 100 else 0
            if self.is_year(first) and last == first + 1 and self.is_free(start, start + 1):
                yield Match(start + 1, (first, last), ALL_LANGUAGES)

    def _short_pair(self, start: int) -> Iterator[Match]:
        """Yield the years of *21/22*, after a word that says that they are years."""
        found = _SHORT_YEARS.fullmatch(self.words[start].folded)
        if found and self.is_free(start, start + 1):
            first = self._whole_year(found[1])
            if (first + 1) % 100 == int(found[2]):
                yield Match(start + 1, (first, first + 1), ALL_LANGUAGES)

    def _years(self, start: int) -> Iterator[Match]:
        text = self.words[start].folded
        found = _YEARS.fullmatch(text)
        if found and len(found[2]) == 4 and self.is_free(start, start + 1):
            first, last = int(found[1]), int(found[2])
            if self.is_year(first) and self.is_year(last) and first < last:
                yield Match(start + 1, (first, last), ALL_LANGUAGES)

    def _numeric_day(self, start: int) -> Iterator[Match]:
        text = self.words[start].folded
        if not self.is_free(start, start + 1):
            return
        if found := _ISO_DAY.fullmatch(text):
            year, month, day = map(int, found.groups())
        elif found := _DAY_FIRST.fullmatch(text):
            day, month, year = int(found[1]), int(found[3]), int(found[4])
            if month > 12 and found[2] == "/":
                day, month = month, day
        else:
            return
        if self.is_year(year):
            yield Match(start + 1, (year, month, day), ALL_LANGUAGES)

    def _short_numeric_day(self, start: int) -> Iterator[Match]:
        """Yield the day of *3.10.21* and *20211003*, which may be a number of something."""
        text = self.words[start].folded
        if not self.is_free(start, start + 1):
            return
        if found := _JOINED_DAY.fullmatch(text):
            year, month, day = map(int, found.groups())
        elif found := _DAY_SHORT_YEAR.fullmatch(text):
            day, month, year = int(found[1]), int(found[3]), self._whole_year(found[4])
            if month > 12 and found[2] == "/":
                day, month = month, day
        else:
            return
        yield Match(start + 1, (year, month, day), ALL_LANGUAGES)

    def _numeric_days(self, start: int) -> Iterator[Match]:
        """Yield the first and last day of *24.-26.12.2019* and *24.12.-3.1.2020*."""
        words = self.words[start : start + 4]
        if len(words) < 4 or words[1].text != "." or words[2].text not in "-\u2013":
            return
        first, last = re.split(r"[.]", words[0].folded), _DAY_FIRST.fullmatch(words[3].folded)
        if not (last and all(map(str.isdigit, first)) and words[0].starts_free):
            return
        day, month, year = int(last[1]), int(last[3]), int(last[4])
        if len(first) <= 2 and self.is_year(year) and words[3].ends_free:
            first_month = int(first[1]) if len(first) == 2 else month
            starts = (year - (first_month > month), first_month, int(first[0]))
            yield Match(start + 4, (starts, (year, month, day)), ALL_LANGUAGES)

    def _day_pair(self, start: int) -> Iterator[Match]:
        """Yield the first and last day of *24-26*, *24/25* and *24.-26.* before a month."""
        words = self.words[start : start + 5]
        if not words[0].starts_free:
            return
        found, end = _DAYS.fullmatch(words[0].folded), start + 1
        days = list(found.groups()) if found else []
        texts = [word.text for word in words]
        if len(texts) == 5 and (texts[1], texts[4]) == (".", ".") and texts[2] in "-\u2013/":
            days, end = [texts[0], texts[3]], start + 5
        if len(days) == 2 and all(map(str.isdigit, days)):
            first, last = map(int, days)
            if 1 <= first < last <= 31 and self.words[end - 1].ends_free:
                yield Match(end, (first, last), ALL_LANGUAGES)

    def _month_pair(self, start: int) -> Iterator[Match]:
        """Yield the months of *Juli/August*."""
        words = self.words[start : start + 3]
        if len(words) == 3 and words[1].text in "/-\u2013" and words[2].ends_free:
            for first in self._months(words[0]):
                for last in self._months(words[2]):
                    if both := first.languages & last.languages:
                        yield Match(start + 3, (first.value, last.value), both)

    def _months(self, word: Word) -> Iterator[Match]:
        for phrase, kind, value, bits in ENTRIES.get(word.folded, ()):
            if kind in ("MONTH", "SHORT_MONTH") and len(phrase) == 1:
                yield Match(0, value, bits)

    def _day_and_month(self, start: int) -> Iterator[Match]:
        found = _DAY_AND_MONTH.fullmatch(self.words[start].folded)
        is_marked = start + 1 < len(self.words) and self.words[start + 1].text == "."
        if (
            found
            and is_marked
            and self.words[start].starts_free
            and self.words[start + 1].ends_free
        ):
            yield Match(start + 2, (int(found[2]), int(found[1])), ALL_LANGUAGES)

    def _numeric_month(self, start: int) -> Iterator[Match]:
        text = self.words[start].folded
        if found := _ISO_MONTH.fullmatch(text):
            year, month = int(found[1]), int(found[2])
        elif found := _MONTH_YEAR.fullmatch(text):
            month, year = int(found[1]), int(found[2])
        elif found := _YEAR_MONTH.fullmatch(text):
            year, month = int(found[1]), int(found[2])
        else:
            return
        if self.is_year(year) and 1 <= month <= 12 and self.is_free(start, start + 1):
            yield Match(start + 1, (year, month), ALL_LANGUAGES)

    _numbers: ClassVar = {
        "YEAR": _year,
        "SHORT_YEAR": _short_year,
        "BARE_YEAR": _bare_year,
        "SHORT_PAIR": _short_pair,
        "SHORT_NUMERIC_DAY": _short_numeric_day,
        "NUMERIC_DAYS": _numeric_days,
        "DAY_PAIR": _day_pair,
        "MONTH_PAIR": _month_pair,
        "DAY": _day,
        "COUNT": _count,
        "DECADE": _decade,
        "TENS_NUMBER": _tens,
        "YEAR_PAIR": _number_pair,
        "YEARS_RANGE": _years,
        "NUMERIC_DAY": _numeric_day,
        "DAY_AND_MONTH": _day_and_month,
        "NUMERIC_MONTH": _numeric_month,
    }
