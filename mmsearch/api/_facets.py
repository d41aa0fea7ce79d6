"""Counts of the pictures of an index by year, place, camera and other fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmsearch.api._session import IndexSession, translate_errors
from mmsearch.api.parsing import to_query
from mmsearch.core.arguments import (
    FilterValues,
    PictureIds,
    Texts,
    to_filters,
    to_texts,
)
from mmsearch.core.filters import NO_FILTERS
from mmsearch.core.query import Band, Query, SearchRequest
from mmsearch.search.query_parser import format_query

if TYPE_CHECKING:
    from mmsearch.core.facets import Facets
    from mmsearch.core.speech import Transcript


@translate_errors
class IndexFacets:
    """The part of `mmsearch.Index` that counts pictures, which `FederatedIndex` has, too."""

    _session: IndexSession

    def facets(
        self,
        query: str | Query | Transcript = "",
        *,
        fields: Texts | None = None,
        limit: int = 20,
        syntax: bool = False,
        without: Texts = (),
        like: PictureIds = (),
        unlike: PictureIds = (),
        filters: FilterValues | None = None,
        mode: str | None = None,
        fold: bool = True,
        literal: bool = False,
        literal_words: Texts = (),
    ) -> Facets:
        """Return how many pictures have each year, month, place, person, camera and so on.

        Each value has the filters that narrow a search to it: with them and without a description,
        exactly as many pictures pass. Without a query, all pictures that pass the filters count.
        With one, its best 1,000 hits count, without weak matches if the confidence of its hits is
        calibrated and there are others (`Facets.match`). Dates, people and places are read in
        its words as in a search; if they are all of it, all pictures that pass them count.

        Args:
            query: See `search`; may be empty.
            fields: Names of fields: ``year``, ``month``, ``place``, ``person``, ``camera``,
                ``folder``, ``format``, ``kind``, ``tag``, ``rating``; default: all. Folders are
                those of the first level at which there are several; with a path filter of one
                folder, those below it.
            limit: Maximum number of values of a field, 1 to 1,000.
            syntax: See `search`.
            without: See `search`.
            like: See `search`.
            unlike: See `search`.
            filters: See `search`.
            mode: See `search`.
            literal: See `search`.
            literal_words: See `search`.
            fold: True to count a stack of duplicates as one picture; it has a value if one of its
                pictures that pass has it.

        Raises:
            UnknownIndexError: The index does not exist.
            InvalidQueryError: The query is invalid, a field is unknown, or the limit is out of
                range.
            SourceError: A picture of the query cannot be read.
            UnknownNameError: The index has no picture with an id in the query.
            UsageError: An argument has the wrong type, or a parsed query is combined with an option
                that it has itself.
        """
        from mmsearch.core.facets import (  # noqa: PLC0415 - searches never need it
            FACET_HITS,
            Facets,
            add_read_filters,
            check_facet_fields,
            check_facet_limit,
        )

        names = check_facet_fields(None if fields is None else to_texts(fields))
        check_facet_limit(limit)
        if (isinstance(query, str) and not query.strip()) and not (without or like or unlike):
            query = Query((), NO_FILTERS if filters is None else to_filters(filters))
        else:
            query = to_query(
                query,
                syntax=syntax,
                without=without,
                like=like,
                unlike=unlike,
                filters=filters,
                mode=mode,
            )
        request = SearchRequest(
            query,
            FACET_HITS,
            fold=False,
            literal=literal,
            literal_words=tuple(to_texts(literal_words)),
            check_files=False,
        )
        understood = result = ids = match = None
        if query.terms:
            encoded, result = self._session.read(request)
            request, understood = encoded.request, encoded.understood
        given = add_read_filters(query.filters, request.query.filters, understood)
        if result is not None:
            match = result.match
            has_weak = result.calibrated and match is not Band.UNLIKELY
            ids = [hit.id for hit in result.hits if not has_weak or hit.band is not Band.UNLIKELY]
        passing = request.query.filters
        with self._session.catalog() as catalog, catalog.snapshot() as snapshot:
            passed = None
            if passing:
                from mmsearch.core.filter_tree import make_filter_tree  # noqa: PLC0415 - rare

                passed = snapshot.filter_ids(make_filter_tree(passing))
            of = snapshot.pictures if passed is None else snapshot.count_contents(passed)
            found = passed if ids is None else np.array(sorted(ids), np.int64)
            counted, facets = snapshot.count_facets(names, found, given, limit=limit, fold=fold)
            generation = snapshot.generation
        line = format_query(query.terms)
        return Facets(line, counted, of, fold, generation, tuple(facets), match, understood)
