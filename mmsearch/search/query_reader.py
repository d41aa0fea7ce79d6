"""Reading of queries: dates and people in their words become filters.

What a library does not know stays text: a person whom no picture shows, and a date if no picture
has one. Filters that a user gives win over words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from mmsearch.core.filters import Filters
from mmsearch.core.query import AllOf, OneOf, Query, SearchRequest, Term
from mmsearch.core.understood import Understood
from mmsearch.search.understanding.anchors import may_have_date, split_folded

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogReader, Snapshot
    from mmsearch.core.query import Condition
    from mmsearch.search.understanding.reader import Reading


class LibraryFacts(NamedTuple):
    """Facts of a generation of an index.

    Attributes:
        generation: The generation.
        people: Names of the people.
        first_words: Folded first words of these names.
    """

    generation: int
    people: tuple[str, ...] = ()
    first_words: frozenset[str] = frozenset()


class QueryReader:
    """Reads dates and people in the words of queries. Not thread-safe.

    Args:
        catalog: Catalog, open for reading.
        today: Returns the present day; None for that of this machine.
    """

    def __init__(self, catalog: CatalogReader, today: Callable[[], date] | None = None) -> None:
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
            query = request.query
            readings: dict[int, Reading] = {}
            has_date = query.filters.after is not None or query.filters.before is not None
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
            self._facts = LibraryFacts(snapshot.generation, people, first_words)

    def _read_term(
        self, snapshot: Snapshot, term: Term, request: SearchRequest, *, dates: bool
    ) -> Reading | None:
        text = term.text or ""
        words = split_folded(text)
        dates = dates and may_have_date(text, words) and snapshot.has_dates()
        has_people = not request.query.filters.people and self._may_have_people(words)
        if not dates and not has_people:
            return None
        # Most queries have no such words, and importing the grammar takes longer than a search.
        from mmsearch.search.understanding.reader import read_text  # noqa: PLC0415

        return read_text(
            text,
            self._today(),
            people=(lambda: self._facts.people) if has_people else None,
            dates=dates,
            literal_words=(*request.literal_words, *term.literal_words),
        )

    def _may_have_people(self, words: list[str]) -> bool:
        known = self._facts.first_words
        if not known:
            return False
        # Annas Geburtstag, Juergen: see `people`.
        return any(
            word in known
            or word.removesuffix("s") in known
            or word.replace("ae", "a").replace("oe", "o").replace("ue", "u") in known
            for word in words
        )


def _local_day() -> date:
    # Dates of pictures are local.
    return date.today()  # noqa: DTZ011


def _may_be_read(term: Term) -> bool:
    return bool(term.text) and term.weight == 1


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
    if terms and not any(term.weight > 0 for term in terms):
        # Pictures that are unlike something have no order without what they should be like.
        terms = list(query.terms)
    understood = _merge([reading.understood() for reading in readings.values()], terms)
    filters = add_filters(query.filters, understood)
    new_query = Query(tuple(terms), filters, query.mode, query.blend, query.prompts)
    return replace(request, query=new_query), understood


def _merge(parts: list[Understood], terms: list[Term]) -> Understood:
    first = next((part for part in parts if part.after or part.before or part.months), parts[0])
    people = dict.fromkeys(name for part in parts for name in part.people)
    text = " + ".join(term.text for term in terms if term.text and term.weight > 0)
    chips = tuple(chip for part in parts for chip in part.chips)
    return replace(first, text=text, people=tuple(people), chips=chips)


def add_filters(filters: Filters, understood: Understood) -> Filters:
    """Return filters with those that were read in the words of a query."""
    conditions: list[Condition] = [] if filters.where is None else [filters.where]
    if understood.months:
        conditions.append(OneOf("month", understood.months))
    conditions += [OneOf("people", (name,)) for name in understood.people]
    return replace(
        filters,
        after=understood.after or filters.after,
        before=understood.before or filters.before,
        where=AllOf(tuple(conditions)) if len(conditions) > 1 else next(iter(conditions), None),
    )
