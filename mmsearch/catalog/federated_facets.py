"""Values of the facets of several catalogs as those of one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.facets import Column, FacetValues, Units, find_positions
from mmsearch.core.federated_ids import FederatedIds, join_id
from mmsearch.core.types import Ids

if TYPE_CHECKING:
    from mmsearch.core.filters import Filters

Positions = NDArray[np.int64]


class _Joined(NamedTuple):
    """The items of all catalogs, and where those of each catalog are among them.

    Attributes:
        ids: int64 (n,), federated ids of the items, ascending.
        content_of: int64 (n,), the position of the content of each.
        content_ids: int64 (c,), ids of the contents in their catalog with the bits of its index.
        item_at: For each catalog, the position of each of its items, -1 for one that does not
            count.
        content_at: The same for its contents.
    """

    ids: Ids
    content_of: Positions
    content_ids: Ids
    item_at: Sequence[Positions]
    content_at: Sequence[Positions]


class FederatedFacetValues:
    """The values of the items of several catalogs, in which each content is one.

    A content that several catalogs have has the values of all of them, and the duplicates that the
    first of them lists.

    Args:
        members: The values of each catalog.
        ids: Mapping of their ids.
    """

    def __init__(self, members: Sequence[FacetValues], ids: FederatedIds) -> None:
        self._members, self._ids = members, ids
        self._has_copies = any(len(ids.copies(index)) for index in range(len(members)))

    @cached_property
    def _joined(self) -> _Joined:
        items = [member.items() for member in self._members]
        federated = [self._ids.federate(index, ids) for index, (ids, *_) in enumerate(items)]
        own_ids, own_contents = [], []
        for index, (ids, content_of, content_ids) in enumerate(items):
            is_own = federated[index] == ids + join_id(index, 0)
            own_ids.append(federated[index][is_own])
            own_contents.append(content_ids[content_of[is_own]] + join_id(index, 0))
        ids = np.concatenate(own_ids)
        content_ids, content_of = np.unique(np.concatenate(own_contents), return_inverse=True)
        item_at, content_at = [], []
        for member_ids, (_, member_content_of, member_contents) in zip(
            federated, items, strict=True
        ):
            # A catalog whose values are all in memory has more copies than those that count.
            positions, known = find_positions(ids, member_ids)
            item_at.append(np.where(known, positions, -1))
            contents = np.full(len(member_contents), -1)
            contents[member_content_of[known]] = content_of[positions[known]]
            content_at.append(contents)
        return _Joined(ids, content_of.astype(np.int64), content_ids, item_at, content_at)

    def items(self) -> tuple[Ids, Positions, Ids]:
        """Return the ids of the items, the position of the content of each, and their ids."""
        joined = self._joined
        return joined.ids, joined.content_of, joined.content_ids

    def column(self, field: str) -> Column:
        """Return the values of a field of items, contents or their texts."""
        numbers: dict[Any, int] = {}
        owners, codes = [], []
        for index, member in enumerate(self._members):
            column = member.column(field)
            at = self._joined.content_at if column.by_content else self._joined.item_at
            known = [numbers.setdefault(value, len(numbers)) for value in column.values]
            own = at[index][column.owners]
            counts = (own >= 0) & (column.codes >= 0)
            owners.append(own[counts])
            codes.append(np.array(known, np.int64)[column.codes[counts]])
        pairs = np.stack([np.concatenate(owners), np.concatenate(codes)])
        if self._has_copies:
            pairs = np.unique(pairs, axis=1)
        return Column(pairs[0], pairs[1], list(numbers), column.by_content, self._has_copies)

    def units(self, *, fold: bool) -> Units:
        """Return what counts as one picture: a stack of one index, or a content."""
        joined = self._joined
        keys = np.empty(len(joined.content_ids), np.int64)
        for index, positions, own in self._ids.own(joined.content_ids):
            member = self._members[index]
            places, _ = find_positions(member.items()[2], own)
            keys[positions] = member.units(fold=fold).of_content[places] + join_id(index, 0)
        _, numbers = np.unique(keys, return_inverse=True)
        of_content = numbers.astype(np.int64)
        count = int(of_content.max(initial=-1)) + 1
        items = np.bincount(of_content[joined.content_of], minlength=count)
        return Units(of_content, count, items, np.bincount(of_content, minlength=count))

    def file_months(self, filters: Filters) -> tuple[Ids, list[str]]:
        """Return the items whose date is unknown, and the month of each of their files."""
        found: dict[tuple[int, str], None] = {}
        for index, member in enumerate(self._members):
            ids, months = member.file_months(filters)
            federated = self._ids.federate(index, ids).tolist()
            found |= dict.fromkeys(zip(federated, months, strict=True))
        return np.array([item_id for item_id, _ in found], np.int64), [month for _, month in found]

    def roots(self) -> list[str]:
        """Return the indexed folders."""
        return [root for member in self._members for root in member.roots()]

    def spelling(self, kind: str, tag: str) -> str | None:
        """Return the text that holds a tag first, in which it is not folded; None without one."""
        texts = (member.spelling(kind, tag) for member in self._members)
        return next((text for text in texts if text is not None), None)
