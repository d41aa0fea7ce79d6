"""Reading of queries: dates, people and places in their words become filters.

What a library does not know stays text: a person or a place that no picture shows, and a date if no
picture has one. Filters that a user gives hold beside those of words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from mmsearch.core.filters import Filters
from mmsearch.core.query import (
    AllOf,
    AnyOf,
    Compare,
    FieldName,
    OneOf,
    Query,
    SearchRequest,
    Term,
)
from mmsearch.core.stop_words import STOP_WORDS
from mmsearch.core.understood import Understood
from mmsearch.search.understanding.anchors import (
    has_abbreviation,
    may_have_date,
    split_folded,
)
from mmsearch.search.understanding.folding import name_forms

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot, SnapshotReader
    from mmsearch.core.places import Place
    from mmsearch.core.query import Condition
    from mmsearch.search.understanding.places import PlaceMatch
    from mmsearch.search.understanding.reader import Reading

_APOSTROPHES = re.compile("(?<=\\w)['\u2019](?=\\w)")

KM_PER_DEGREE = 111.2
"""Kilometres between two degrees of latitude."""

CIRCLE_BOXES = ((0.924, 0.383), (0.707, 0.707), (0.383, 0.924))
"""Halves of the widths and heights of boxes that fill most of a circle of radius 1."""

MAX_LANDSCAPE_KM = 150.0
"""Radius up to which pictures around the centre of a landscape are of it; seas have none."""


class LibraryFacts(NamedTuple):
    """Facts of a generation of an index.

    Attributes:
        generation: The generation.
        people: Names of the people.
        first_words: Folded first words of these names.
        has_places: True if a place of a picture is known.
    """

    generation: int
    people: tuple[str, ...] = ()
    first_words: frozenset[str] = frozenset()
    has_places: bool = False


class QueryReader:
    """Reads dates, people and places in the words of queries. Not thread-safe.

    Args:
        catalog: Catalog, open for reading.
        today: Returns the present day; None for that of this machine.
    """

    def __init__(self, catalog: SnapshotReader, today: Callable[[], date] | None = None) -> None:
        self._catalog = catalog
        self._today = today or _local_day
        self._facts = LibraryFacts(-1)

    def read(self, request: SearchRequest) -> tuple[SearchRequest, Understood | None]:
        """Return a request with the filters that its words mean, and what they are.

        Only positive texts without a weight are read. If nothing remains of the query, it has no
        terms.
        """
        terms = request.query.terms
        if request.literal or not any(_may_be_read(term) for term in terms):
            return request, None
        with self._catalog.snapshot() as snapshot:
            self._update_facts(snapshot)
            readings: dict[int, Reading] = {}
            has_date = False
            for position, term in enumerate(terms):
                if not _may_be_read(term):
                    continue
                reading = self._read_term(snapshot, term, request, dates=not has_date)
                if reading is not None:
                    readings[position] = reading
                    has_date = has_date or reading.period is not None
        if not readings:
            return request, None
        return _apply(request, readings)

    def _update_facts(self, snapshot: Snapshot) -> None:
        if snapshot.generation != self._facts.generation:
            people = tuple(snapshot.list_people())
            first_words = frozenset(split_folded(name.strip())[0] for name in people)
            has_places = snapshot.has_places() or snapshot.has_located(-90, 90, -180, 180)
            self._facts = LibraryFacts(snapshot.generation, people, first_words, has_places)

    def _read_term(
        self, snapshot: Snapshot, term: Term, request: SearchRequest, *, dates: bool
    ) -> Reading | None:
        text = term.text or ""
        words = split_folded(text)
        dates = dates and may_have_date(text, words) and snapshot.has_dates()
        has_people = self._may_have_people(words)
        has_places = self._facts.has_places and _may_have_places(text, words)
        if not dates and not has_people and not has_places:
            return None
        # Most queries have no such words, and importing the grammar takes longer than a search.
        from mmsearch.core import places as gazetteer  # noqa: PLC0415
        from mmsearch.search.understanding.reader import read_text  # noqa: PLC0415

        def is_known(place: Place, near: bool) -> bool:
            return snapshot.has_places(place.names) or any(
                snapshot.has_located(*box) for box in _boxes(place, near=near)
            )

        return read_text(
            text,
            self._today(),
            people=(lambda: self._facts.people) if has_people else None,
            places=(gazetteer, is_known) if has_places else None,
            dates=dates,
            literal_words=(*request.literal_words, *term.literal_words),
        )

    def _may_have_people(self, words: list[str]) -> bool:
        known = self._facts.first_words
        if not known:
            return False
        return any(form[0] in known for word in words for form in name_forms((word,)))


def _local_day() -> date:
    # Dates of pictures are local.
    return date.today()  # noqa: DTZ011


def _may_be_read(term: Term) -> bool:
    return bool(term.text) and term.weight == 1


def _may_have_places(text: str, words: list[str]) -> bool:
    from mmsearch.core.places import find_place  # noqa: PLC0415 - only libraries with places

    if has_abbreviation(text) or any(
        (word not in STOP_WORDS or word == "como") and find_place(words, start) is not None
        for start, word in enumerate(words)
    ):
        return True
    # Val d'Aosta: names do without their apostrophes.
    joined = split_folded(_APOSTROPHES.sub("", text))
    return len(joined) < len(words) and any(
        find_place(joined, start) is not None for start in range(len(joined))
    )


def _apply(
    request: SearchRequest, readings: dict[int, Reading]
) -> tuple[SearchRequest, Understood]:
    """Return a request with filters in place of words, and what was understood."""
    query = request.query
    terms: list[Term] = []
    for position, term in enumerate(query.terms):
        reading = readings.get(position)
        text = term.text if reading is None else reading.text
        if reading is None or text:
            terms.append(term if reading is None else replace(term, text=text))
    if not (Query(tuple(terms)).is_listing or any(term.weight > 0 for term in terms)):
        # Pictures that are unlike something have no order without what they should be like.
        terms = list(query.terms)
    understood = _merge([reading.understood() for reading in readings.values()], terms)
    places = [place for reading in readings.values() for place in reading.places[:1]]
    filters = _add_filters(query.filters, understood, places)
    new_query = Query(tuple(terms), filters, query.mode, query.blend, query.prompts)
    return replace(request, query=new_query), understood


def _merge(parts: list[Understood], terms: list[Term]) -> Understood:
    first = next((part for part in parts if part.after or part.before or part.months), parts[0])
    placed = next((part for part in parts if part.place), parts[0])
    people = dict.fromkeys(name for part in parts for name in part.people)
    return replace(
        first,
        text=" + ".join(term.text for term in terms if term.text and term.weight > 0),
        place=placed.place,
        near=placed.near,
        people=tuple(people),
        chips=tuple(chip for part in parts for chip in part.chips),
    )


def _add_filters(filters: Filters, understood: Understood, places: list[PlaceMatch]) -> Filters:
    """Return filters with those that were read in the words of a query; pictures must pass both."""
    read = Filters(after=understood.after, before=understood.before)
    conditions: list[Condition] = [] if filters.where is None else [filters.where]
    if understood.months:
        conditions.append(OneOf("month", understood.months))
    conditions += [OneOf("people", (name,)) for name in understood.people]
    conditions += [_in_place(match.place, near=match.near) for match in places]
    return replace(
        filters,
        after=max(filter(None, (read.after, filters.after)), default=None),
        before=min(filter(None, (read.before, filters.before)), default=None),
        where=AllOf(tuple(conditions)) if len(conditions) > 1 else next(iter(conditions), None),
    )


def _in_place(place: Place, *, near: bool) -> Condition:
    """Return the condition that a picture has a name of a place, or is around it.

    The latter counts if ``near`` is True, and for landscapes.
    """
    named = OneOf("place", tuple(place.names))
    around = tuple(
        AllOf(
            (
                Compare(FieldName("latitude"), ">=", south),
                Compare(FieldName("latitude"), "<=", north),
                Compare(FieldName("longitude"), ">=", west),
                Compare(FieldName("longitude"), "<=", east),
            )
        )
        for south, north, west, east in _boxes(place, near=near)
    )
    return AnyOf((named, *around)) if around else named


def _boxes(place: Place, *, near: bool) -> list[tuple[float, float, float, float]]:
    """Return the boxes of the coordinates that are of a place; see `_box`.

    Those of a landscape lie in its circle: Como is in a corner of the box of Lake Maggiore.
    """
    if near:
        return [_box(place)]
    if not _is_landscape(place):
        return []
    return [_box(place, across, along) for across, along in CIRCLE_BOXES]


def _is_landscape(place: Place) -> bool:
    """Return True for islands, lakes and landscapes: coordinates are named after none of them."""
    return place.is_landscape and place.radius_km <= MAX_LANDSCAPE_KM


def _box(
    place: Place, across: float = 1.0, along: float = 1.0
) -> tuple[float, float, float, float]:
    """Return the degrees south, north, west and east of a box around the centre of a place.

    Args:
        place: The place.
        across: Half of the width of the box, in radii of the place.
        along: Half of its height.
    """
    radius = place.radius_km / KM_PER_DEGREE
    height = along * radius
    width = across * radius / max(math.cos(math.radians(place.latitude)), 0.01)
    return (
        place.latitude - height,
        place.latitude + height,
        max(place.longitude - width, -180.0),
        min(place.longitude + width, 180.0),
    )
