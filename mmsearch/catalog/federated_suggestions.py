"""Suggestions of several indexes as those of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.catalog.suggestions import KIND_BY_TEXT_KIND, Candidate, Suggestions, fold
from mmsearch.core.federated_ids import split_id
from mmsearch.core.suggestions import SuggestionKind
from mmsearch.core.types import Ids

if TYPE_CHECKING:
    from mmsearch.core.federated_ids import FederatedIds

MAX_SHARED = 5000
"""Number of pictures in several indexes up to which they are left out of the sums of words."""

NO_IDS: Ids = np.empty(0, np.int64)

_KINDS = [*dict.fromkeys(KIND_BY_TEXT_KIND.values()), SuggestionKind.WORD]


class FederatedSuggestions(Suggestions):
    """Suggestions from the words of several indexes, with the pictures of all.

    Args:
        members: The suggestions of each index.
        ids: Mapping of their ids.
    """

    def __init__(self, members: Sequence[Suggestions], ids: FederatedIds) -> None:
        self._members, self._ids = members, ids

    def list_rows(self, start: str, count: int, *, looks: bool = False) -> list[Candidate]:
        """Return the most frequent words that begin with a text, or looks, the surest ones first.

        The confidence of a look is not compared between indexes: each has its turn.
        """
        rows: dict[str, list[tuple[int, int, Candidate]]] = {}
        for index, member in enumerate(self._members):
            for place, row in enumerate(member.list_rows(start, count, looks=looks)):
                rows.setdefault(fold(row.word), []).append((place, index, row))
        if looks:
            firsts = sorted(min(each) for each in rows.values())
            return [self._federate(index, row) for _, index, row in firsts[:count]]
        joined = [self._join([(index, row) for _, index, row in each]) for each in rows.values()]
        return sorted(joined, key=self._order)[:count]

    def list_new_tags(self, start: str, kinds: frozenset[SuggestionKind]) -> Iterator[Candidate]:
        """Yield tags with a start that may not be in a table yet."""
        return self._read_new(lambda member: member.list_new_tags(start, kinds))

    def list_new_words(self, start: str) -> Iterator[Candidate]:
        """Yield words of texts whose stem has a start and which may not be in a table yet."""
        return self._read_new(lambda member: member.list_new_words(start))

    def has_item(self, item_id: int) -> bool:
        """Return True if an item is searchable."""
        index, own = split_id(item_id)
        return self._members[index].has_item(own)

    def find_item(self, candidate: Candidate) -> int | None:
        """Return a searchable item with a word in its texts: that of the table, or another one."""
        first, own = split_id(candidate.item_id)
        for index, member in enumerate(self._members):
            item_id = member.find_item(candidate._replace(item_id=own if index == first else 0))
            if item_id is not None:
                return self._federate(index, candidate._replace(item_id=item_id)).item_id
        return None

    def find_kind(self, word: str) -> SuggestionKind:
        """Return the kind of a word of the texts."""
        return min((member.find_kind(word) for member in self._members), key=_KINDS.index)

    def _join(self, rows: Sequence[tuple[int, Candidate]]) -> Candidate:
        """Return a word as the first index has it, with the pictures of all."""
        (first, candidate), *others = rows
        pictures = sum(row.pictures for _, row in rows)
        if others and 0 < len(self._shared_ids) <= MAX_SHARED:
            found = [NO_IDS]
            for index, row in rows:
                ids = self._members[index].list_items(row.word, self._shared_items[index])
                found.append(self._ids.federate(index, ids))
            every = np.concatenate(found)
            pictures = max(pictures - len(every) + len(np.unique(every)), 1)
        return self._federate(first, candidate)._replace(pictures=pictures)

    @cached_property
    def _shared_ids(self) -> Ids:
        """Ids of the items that several indexes have, int64 (n,), ascending."""
        indexes = range(len(self._members))
        copies = [self._ids.federate(index, self._ids.copies(index)) for index in indexes]
        return np.unique(np.concatenate([NO_IDS, *copies]))

    @cached_property
    def _shared_items(self) -> list[Ids]:
        """Ids of these items in each index."""
        indexes = range(len(self._members))
        return [self._ids.local(index, self._shared_ids)[1] for index in indexes]

    def _order(self, candidate: Candidate) -> tuple[int, bool, str]:
        is_word = self.find_kind(candidate.word) is SuggestionKind.WORD
        return -candidate.pictures, is_word, fold(candidate.word)

    def _read_new(self, read: Callable[[Suggestions], Iterator[Candidate]]) -> Iterator[Candidate]:
        for index, member in enumerate(self._members):
            for candidate in read(member):
                yield self._federate(index, candidate)

    def _federate(self, index: int, candidate: Candidate) -> Candidate:
        (item_id,) = self._ids.federate(index, np.array([candidate.item_id], np.int64)).tolist()
        return candidate._replace(item_id=item_id)
