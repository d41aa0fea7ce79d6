"""Reading of a text of a query: which of its words are filters, and what remains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Final, NamedTuple

from mmsearch.core.stop_words import STOP_WORDS
from mmsearch.core.understood import Chip, Understood
from mmsearch.search.understanding.calendar import DAY, Period, month_period, year_period
from mmsearch.search.understanding.dates import DateReader, is_photo_word
from mmsearch.search.understanding.folding import fold_word
from mmsearch.search.understanding.names_of_things import find_fixed_names
from mmsearch.search.understanding.people import PeopleReader
from mmsearch.search.understanding.places import (
    Gazetteer,
    PlaceMatch,
    PlaceReader,
    near_start,
)
from mmsearch.search.understanding.word_lists import (
    ALTERNATIVES,
    CONJUNCTIONS,
    EVERYTHING,
    LINKS,
    NEGATIONS,
    TAKEN,
)
from mmsearch.search.understanding.words import Word, split_text

if TYPE_CHECKING:
    from mmsearch.core.places import Place

MAX_WORDS: Final = 40
"""Number of words above which a text is no query, and is not read."""

MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


_LOOSE_MARKS: Final = frozenset(".?!,;:-\u2013\u2014+&/|")


class Span(NamedTuple):
    """Words that are read as one filter.

    Attributes:
        start: Position of the first word.
        end: Position after the last word.
        kind: As `Chip.kind`.
        label: As `Chip.label`.
        value: The period, the name of the person, or the place.
    """

    start: int
    end: int
    kind: str
    label: str
    value: object


@dataclass(frozen=True)
class Reading:
    """Filters in a text, and what remains of it.

    Attributes:
        text: The text without the words of the filters; empty if nothing describes a picture.
        spans: The filters, in the order of their words.
        chips: The same, to display.
        period: When the pictures were taken; None without a date.
    """

    text: str
    spans: tuple[Span, ...]
    chips: tuple[Chip, ...]
    period: Period | None

    @property
    def places(self) -> list[PlaceMatch]:
        """The place, once for each of its names; empty without one."""
        return [span.value for span in self.spans if isinstance(span.value, PlaceMatch)]

    def understood(self) -> Understood:
        """Return the reading as a result has it."""
        period = self.period or Period()
        return Understood(
            self.text,
            None if period.after is None else period.after.isoformat(),
            None if period.before is None else period.before.isoformat(),
            period.months,
            place=next((match.place.name for match in self.places), None),
            near=any(match.near for match in self.places),
            people=tuple(str(span.value) for span in self.spans if span.kind == "person"),
            chips=self.chips,
        )


def read_text(
    text: str,
    today: date,
    *,
    people: Callable[[], Sequence[str]] | None = None,
    places: tuple[Gazetteer, Callable[[Place, bool], bool]] | None = None,
    dates: bool = True,
    literal_words: Collection[str] = (),
) -> Reading | None:
    """Return the filters in a text; None without any.

    Args:
        text: A text of a query. Words in double quotes are not read.
        today: The day on which it is asked.
        people: Returns the names of the people of the library; None to read no people.
        places: Lookup of names of places, and if a picture of the library is in a place or, if the
            second argument is True, near to it; None to read no places.
        dates: False to read no dates.
        literal_words: Words or phrases that are not read.
    """
    words = split_text(text)
    if len(words) > MAX_WORDS:
        return None
    spans = _find_spans(text, words, today, people, places, dates=dates)
    literal = {fold_word(" ".join(phrase.split())) for phrase in literal_words}
    spans = [span for span in spans if _phrase(text, words, span, folded=True) not in literal]
    spans = _drop_negated(words, spans)
    period, spans = _join_periods(spans)
    if not spans:
        return None
    chips = tuple(Chip(span.kind, span.label, _phrase(text, words, span)) for span in spans)
    return Reading(_remaining_text(text, words, spans), tuple(spans), chips, period)


def _find_spans(
    text: str,
    words: Sequence[Word],
    today: date,
    people: Callable[[], Sequence[str]] | None,
    places: tuple[Gazetteer, Callable[[Place, bool], bool]] | None,
    *,
    dates: bool,
) -> list[Span]:
    spans: list[Span] = []
    reader = DateReader(words, today)
    if dates:
        spans += [
            Span(start, end, "date", format_period(period), period)
            for start, end, period in reader.find_dates()
        ]
    fixed = find_fixed_names(words)
    if people is not None:
        taken = _positions(spans)
        starts_place = None
        if places is not None:
            starts_place = PlaceReader(text, words, taken | fixed, *places).starts_place
        found = PeopleReader(words, taken, fixed, starts_place).find(people)
        spans += [Span(start, end, "person", name, name) for start, end, name in found]
    if places is not None:
        found_places: list[Span] = []
        for match in PlaceReader(text, words, _positions(spans) | fixed, *places).find():
            start = near_start(words, match.start) if match.near else match.start
            between = words[found_places[-1].end : start] if found_places else []
            if found_places and all(word.folded in LINKS for word in between):
                # Lisbon, Portugal
                found_places[-1] = found_places[-1]._replace(end=match.end)
                continue
            label = f"{'near' if match.near else 'in'} {match.place.name}"
            found_places.append(Span(start, match.end, "place", label, match))
        spans += found_places
    if dates:
        spans += [
            Span(start, end, "date", format_period(period), period)
            for start, end, period in reader.find_years(_positions(spans))
        ]
    return sorted(spans, key=lambda span: span.start)


def format_period(period: Period) -> str:
    """Return days as a person would write them: ``2019``, ``July 2019``, ``since 2020-06-01``."""
    if period.months:
        return " and ".join(MONTHS[month - 1] for month in period.months)
    after, before = period.after, period.before
    if after is None or before is None:
        return f"before {before}" if after is None else f"after {after}"
    if after + DAY == before:
        return str(after)
    if after.day == before.day == 1:
        if after.month == before.month == 1:
            last = before.year - 1
            return str(after.year) if last == after.year else f"{after.year} to {last}"
        if (before - DAY).month == after.month and (before - DAY).year == after.year:
            return f"{MONTHS[after.month - 1]} {after.year}"
    return f"after {after}, before {before}"


def _positions(spans: Iterable[Span]) -> set[int]:
    return {position for span in spans for position in range(span.start, span.end)}


def _phrase(text: str, words: Sequence[Word], span: Span, *, folded: bool = False) -> str:
    phrase = text[words[span.start].start : words[span.end - 1].end]
    return fold_word(" ".join(phrase.split())) if folded else phrase


def _drop_negated(words: Sequence[Word], spans: Sequence[Span]) -> list[Span]:
    """Return the spans that are neither negated nor alternatives."""
    kept = []
    for span in spans:
        before = span.start - 1
        while before >= 0 and words[before].folded in LINKS - {",", "+", "&"}:
            before -= 1
        is_negated = before >= 0 and (
            words[before].folded in NEGATIONS or _is_alternative(words[before])
        )
        if not is_negated and not (span.end < len(words) and _is_alternative(words[span.end])):
            kept.append(span)
    return kept


def _is_alternative(word: Word) -> bool:
    # Où is where, ou is or.
    return word.folded in ALTERNATIVES and word.text.lower() != "o\u00f9"


def _join_periods(spans: list[Span]) -> tuple[Period | None, list[Span]]:
    """Return the days that all dates have in common, and the spans; without the dates if none."""
    periods = [span.value for span in spans if isinstance(span.value, Period)]
    joined: Period | None = None
    for period in periods:
        if joined is None:
            joined = period
            continue
        afters = [day for day in (joined.after, period.after) if day is not None]
        befores = [day for day in (joined.before, period.before) if day is not None]
        months = joined.months or period.months
        joined = Period(max(afters, default=None), min(befores, default=None), months)
        joined = _months_of_year(joined)
    if joined is not None and joined.after and joined.before and joined.after >= joined.before:
        return None, [span for span in spans if span.kind != "date"]
    return joined, spans


def _months_of_year(period: Period) -> Period:
    """Return a month of any year that is limited to a calendar year as the month of that year."""
    after, before, months = period.after, period.before, period.months
    is_run = months and len(months) == months[-1] - months[0] + 1
    if is_run and after and before and period == replace(year_period(after.year), months=months):
        return month_period(after.year, months[0], len(months))
    return period


def _remaining_text(text: str, words: Sequence[Word], spans: Sequence[Span]) -> str:
    """Return a text without the words of filters, and without the links to them."""
    taken = _positions(spans)
    for span in spans:
        taken.update(_linked_positions(words, span, taken))
    kept = [position for position in range(len(words)) if position not in taken]
    while kept and words[kept[-1]].text in _LOOSE_MARKS:
        kept.pop()
    if all(_is_small(words[position].folded) for position in kept) and not any(
        words[position].text in ("Como", "Mia") for position in kept
    ):
        return ""
    parts: list[str] = []
    for before, position in zip([-2, *kept], kept, strict=False):
        if parts:
            is_next = before == position - 1
            parts.append(text[words[before].end : words[position].start] if is_next else " ")
        parts.append(words[position].text)
    return "".join(parts)


def _linked_positions(words: Sequence[Word], span: Span, taken: Collection[int]) -> Iterator[int]:
    """Yield the positions of the words around a filter that mean nothing without it."""
    before, after = span.start - 1, span.end
    if after < len(words) and words[after].folded == "'s":
        yield after
        after += 1
    if before >= 0 and after < len(words) and (words[before].text, words[after].text) == ("(", ")"):
        yield from (before, after)
        before, after = before - 1, after + 1
    while before >= 0 and before not in taken and words[before].folded in LINKS:
        yield before
        before -= 1
    if before > 0 and words[before].folded in TAKEN and is_photo_word(words[before - 1].folded):
        # Photos taken in July.
        yield before
    # Anna and a dog: the link is to the filter.
    if after < len(words) and words[after].folded in CONJUNCTIONS:
        yield after


def _is_small(word: str) -> bool:
    is_mark = not any(char.isalnum() for char in word)
    return is_mark or word in STOP_WORDS or word in EVERYTHING or is_photo_word(word)
