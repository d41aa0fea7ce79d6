"""Groups of contents by pairs of duplicates, without long chains of them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain

from mmsearch.core.duplicates import DuplicateRow

MIN_LINKED_SHARE = 0.5
"""Share of the pairs of two groups that must belong together for the groups to become one."""

MAX_COUNTED_MEMBERS = 32
"""Number of members of a group from which more need no more pairs: of large groups, only the
closest pairs are known."""

_MAX_PASSES = 8


def merge_groups(
    pairs: Sequence[Sequence[int]],
    groups: Mapping[int, int],
    weights: Mapping[int, int],
) -> dict[int, int]:
    """Return the new group of each member of the pairs, by member.

    Average linkage: two groups become one if at least half of the possible pairs between them
    belong together. So a chain of pairs alone, each like the next, does not make a group.

    Args:
        pairs: Members that belong together, closest first.
        groups: Present groups of members; a member without one is a group by itself.
        weights: Number of contents that a member stands for; 1 if it is missing.

    Returns:
        Groups named by their smallest present group or member.
    """
    present = {member: groups.get(member, member) for pair in pairs for member in pair}
    counts = Counter(groups.values())
    linkage = _Linkage(
        {group: counts[group] or weights.get(member, 1) for member, group in present.items()}
    )
    for left, right in pairs:
        number = weights.get(left, 1) * weights.get(right, 1)
        linkage.link(present[left], present[right], number)
    for _ in range(_MAX_PASSES):
        merged = [linkage.merge(present[left], present[right]) for left, right in pairs]
        if not any(merged):
            break
    names: dict[int, int] = {}
    for group in present.values():
        root = linkage.find(group)
        names[root] = min(names.get(root, group), group)
    return {member: names[linkage.find(group)] for member, group in present.items()}


class _Linkage:
    """Groups, and the number of pairs between them that belong together.

    Args:
        sizes: Number of contents by group.
    """

    def __init__(self, sizes: dict[int, int]) -> None:
        self._size = sizes
        self._parent = {group: group for group in sizes}
        self._links: dict[int, Counter[int]] = defaultdict(Counter)

    def find(self, group: int) -> int:
        """Return the group that a group is part of now."""
        while self._parent[group] != group:
            self._parent[group] = self._parent[self._parent[group]]
            group = self._parent[group]
        return group

    def link(self, left: int, right: int, number: int) -> None:
        """Count pairs between two groups."""
        if left != right:
            self._links[left][right] += number
            self._links[right][left] += number

    def merge(self, left: int, right: int) -> bool:
        """Make one group of two if enough pairs link them; return True if they became one."""
        kept, gone = self.find(left), self.find(right)
        if kept == gone or self._links[kept][gone] < _needed_links(
            self._size[kept], self._size[gone]
        ):
            return False
        # The group with fewer neighbours moves.
        if len(self._links[kept]) < len(self._links[gone]):
            kept, gone = gone, kept
        self._parent[gone] = kept
        self._size[kept] += self._size[gone]
        for neighbour, number in self._links.pop(gone).items():
            del self._links[neighbour][gone]
            if neighbour != kept:
                self._links[kept][neighbour] += number
                self._links[neighbour][kept] += number
        return True


def _needed_links(left: int, right: int) -> float:
    """Return the number of pairs that groups of these sizes need between them to become one."""
    return MIN_LINKED_SHARE * math.prod(min(size, MAX_COUNTED_MEMBERS) for size in (left, right))


def update_groups(
    old_rows: Sequence[DuplicateRow],
    near_pairs: Sequence[Sequence[int]],
    burst_pairs: Sequence[Sequence[int]],
    leaders: Mapping[int, int],
    undated: AbstractSet[int] = frozenset(),
) -> list[DuplicateRow]:
    """Return the groups of all contents that are not alone, by content.

    Args:
        old_rows: The groups before.
        near_pairs: New pairs of near duplicates, closest first.
        burst_pairs: New pairs of contents of one burst, closest first.
        leaders: The content that stands for another one in the pairs.
        undated: Contents that are in no burst pair, because their times are not known.
    """
    near = {row.content_id: row.near_id for row in old_rows}
    weights = {leader: 1 + count for leader, count in Counter(leaders.values()).items()}
    merged = merge_groups(near_pairs, near, weights)
    new_names = {near.get(content, content): name for content, name in merged.items()}

    def unit(content: int) -> int:
        name = near.get(leaders.get(content, content), leaders.get(content, content))
        return new_names.get(name, name)

    # A stack is a group of groups of near duplicates, and its name that of the first of them.
    stacks = _join((unit(row.content_id), row.stack_id) for row in old_rows)
    units = {unit(row.content_id): stacks[row.stack_id] for row in old_rows}
    members = {*near, *merged, *leaders, *leaders.values(), *chain(*burst_pairs)}
    # One pair of two groups of copies says little: edits of two views may look alike.
    dated = Counter(unit(content) for content in members if content not in undated)
    counts = Counter(tuple(sorted(map(unit, pair))) for pair in burst_pairs)
    linked = [
        pair
        for pair, count in counts.items()
        if pair[0] != pair[1] and count >= _needed_links(*(dated[each] for each in pair))
    ]
    stacks = _join([*units.items(), *merge_groups(linked, units, {}).items()])
    rows = [
        DuplicateRow(content, stacks.get(unit(content), unit(content)), unit(content))
        for content in sorted(members)
    ]
    sizes = Counter(row.stack_id for row in rows)
    return [row for row in rows if sizes[row.stack_id] > 1]


def _join(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return the smallest of all names that pairs join with a name, by name."""
    parent: dict[int, int] = {}

    def find(name: int) -> int:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for left, right in pairs:
        first, second = sorted((find(left), find(right)))
        parent[second] = first
    return {name: find(name) for name in list(parent)}
