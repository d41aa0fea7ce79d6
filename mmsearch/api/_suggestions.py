"""Suggestions of what to search for, while somebody types."""

from __future__ import annotations

from mmsearch.api._session import IndexSession, translate_errors
from mmsearch.core.arguments import Texts, to_texts
from mmsearch.core.suggestions import DEFAULT_LIMIT, Suggestion, check_kinds, check_limit


@translate_errors
class IndexSuggestions:
    """The suggestions of an index; see `mmsearch.Index`. `FederatedIndex` has them, too."""

    _session: IndexSession

    def suggest(
        self, prefix: str = "", limit: int = DEFAULT_LIMIT, *, kinds: Texts = ()
    ) -> list[Suggestion]:
        """Return texts that complete what somebody types, and that this library can answer.

        They are words of its texts, its tags, people and places, and words of a vocabulary that
        some picture shows. A run that changes the library much updates them; so does `optimize`.
        No model is loaded.

        Args:
            prefix: What was typed, in any case and without accents if you like. The last words are
                completed; those before are kept. An empty text gives the most useful words of all.
            limit: Maximum number of suggestions, 50 at most.
            kinds: Kinds of suggestions: ``tag``, ``person``, ``place``, ``word`` or ``look``;
                default: all.

        Returns:
            The suggestions, the most useful ones first.

        Raises:
            UnknownIndexError: The index does not exist.
            UsageError: The limit is out of range, or there is no such kind.
        """
        check_limit(limit)
        chosen = check_kinds(to_texts(kinds))
        with self._session.catalog() as catalog, catalog.snapshot() as snapshot:
            return snapshot.suggest(prefix, limit, chosen)
