"""Counts, suggestions and duplicates: what clients ask about a library as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmsearch.client._connections import AsyncConnection, Connection
from mmsearch.core.arguments import FilterValues, PictureIds, Texts
from mmsearch.core.duplicate_groups import DEFAULT_GROUPS, DuplicateGroups
from mmsearch.core.query import Query
from mmsearch.core.suggestions import DEFAULT_LIMIT, Suggestion

if TYPE_CHECKING:
    from mmsearch.core.facets import Facets


class LibraryClient(Connection):
    """The part of `mmsearch.Client` about a library as a whole."""

    def facets(
        self,
        query: str | Query = "",
        *,
        fields: Texts | None = None,
        limit: int = 20,
        syntax: bool = False,
        without: Texts = (),
        like: PictureIds = (),
        unlike: PictureIds = (),
        like_url: Texts = (),
        filters: FilterValues | None = None,
        mode: str | None = None,
        fold: bool = True,
        literal: bool = False,
        literal_words: Texts = (),
        indexes: Texts | None = None,
    ) -> Facets:
        """Return how many pictures have each year, place, camera and so on; see `Index.facets`.

        Args:
            query: See `search`; if it is empty, all pictures that pass the filters count.
            fields: Names of fields; default: all.
            limit: Maximum number of values of a field, 1 to 1,000.
            syntax: See `search`; the other arguments, too.
            without: See `search`.
            like: See `search`.
            unlike: See `search`.
            like_url: See `search`.
            filters: See `search`.
            mode: See `search`.
            literal: See `search`.
            literal_words: See `search`.
            fold: Count near duplicates and the pictures of a burst as one picture.
            indexes: See `search`.

        Raises:
            InvalidQueryError: A field is unknown, the limit is out of range, or the query is
                invalid.
        """
        return self._run(
            self._flows.facets(
                query,
                fields,
                limit,
                syntax=syntax,
                without=without,
                like=like,
                unlike=unlike,
                like_url=like_url,
                filters=filters,
                mode=mode,
                fold=fold,
                literal=literal,
                literal_words=literal_words,
                indexes=indexes,
            )
        )

    def suggest(
        self,
        prefix: str = "",
        limit: int = DEFAULT_LIMIT,
        *,
        kinds: Texts = (),
        indexes: Texts | None = None,
    ) -> list[Suggestion]:
        """Return texts that complete what somebody types, and that this library can answer.

        Args:
            prefix: What was typed; an empty text gives the most useful words of all.
            limit: Maximum number of suggestions, 50 at most.
            kinds: Kinds of suggestions: ``tag``, ``person``, ``place``, ``word`` or ``look``;
                default: all.
            indexes: See `search`.

        Raises:
            UnknownIndexError: The server has no such index.
            UsageError: The limit is out of range, or there is no such kind.
        """
        return self._run(self._flows.suggest(prefix, limit, kinds, indexes))

    def duplicates(
        self, kind: str | None = None, *, limit: int = DEFAULT_GROUPS, cursor: str | None = None
    ) -> DuplicateGroups:
        """Return groups of duplicate files, each with a suggestion of which one to keep.

        Args:
            kind: ``exact``, ``near`` or ``burst``; None for all kinds.
            limit: Maximum number of groups, 1000 at most.
            cursor: ``next_cursor`` of the page before; None for the first page.

        Raises:
            UnknownIndexError: The server has no such index.
            UsageError: There is no such kind, the limit is out of range, or the cursor is not
                valid.
        """
        return self._run(self._flows.duplicates(kind, limit, cursor))


class AsyncLibraryClient(AsyncConnection):
    """The part of `mmsearch.AsyncClient` about a library as a whole."""

    async def facets(
        self,
        query: str | Query = "",
        *,
        fields: Texts | None = None,
        limit: int = 20,
        syntax: bool = False,
        without: Texts = (),
        like: PictureIds = (),
        unlike: PictureIds = (),
        like_url: Texts = (),
        filters: FilterValues | None = None,
        mode: str | None = None,
        fold: bool = True,
        literal: bool = False,
        literal_words: Texts = (),
        indexes: Texts | None = None,
    ) -> Facets:
        """Return how many pictures have each year, place, camera and so on."""
        return await self._run(
            self._flows.facets(
                query,
                fields,
                limit,
                syntax=syntax,
                without=without,
                like=like,
                unlike=unlike,
                like_url=like_url,
                filters=filters,
                mode=mode,
                fold=fold,
                literal=literal,
                literal_words=literal_words,
                indexes=indexes,
            )
        )

    async def suggest(
        self,
        prefix: str = "",
        limit: int = DEFAULT_LIMIT,
        *,
        kinds: Texts = (),
        indexes: Texts | None = None,
    ) -> list[Suggestion]:
        """Return texts that complete what somebody types, and that this library can answer."""
        return await self._run(self._flows.suggest(prefix, limit, kinds, indexes))

    async def duplicates(
        self, kind: str | None = None, *, limit: int = DEFAULT_GROUPS, cursor: str | None = None
    ) -> DuplicateGroups:
        """Return groups of duplicate files, each with a suggestion of which one to keep."""
        return await self._run(self._flows.duplicates(kind, limit, cursor))
