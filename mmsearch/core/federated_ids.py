"""Ids of the items of several indexes as ids of one, in which each content is one.

An id has the number of its index in its upper bits. A content that several indexes have belongs to
the first of them, and its items in the others are copies, whose ids mean the items of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.types import Ids

INDEX_BITS = 40
"""Number of lower bits, which hold the id in the index."""

_LOCAL = (1 << INDEX_BITS) - 1
_MAX_DIGITS = len(str(_LOCAL))

MAX_INDEXES = 1000
"""Maximum number of indexes: their ids stay below 2**53, which JSON numbers hold exactly."""


DIGEST_BYTES = 32
"""Size of a sha256."""


class ItemDigests(NamedTuple):
    """The content and the part of it that each searchable item of an index is.

    Attributes:
        ids: int64 (n,), ascending.
        parts: int64 (n,).
        digests: uint8 (n, 32), sha256 of the contents.
    """

    ids: Ids
    parts: NDArray[np.int64]
    digests: NDArray[np.uint8]


@dataclass(frozen=True)
class _Copies:
    """The items of one index whose contents an earlier index has, too.

    Attributes:
        ids: int64 (n,), ids in the index, ascending.
        originals: int64 (n,), federated ids of the items that they mean: those of the same part,
            or the first of the content if the earlier index has no such part.
    """

    ids: Ids
    originals: Ids


def split_id(federated_id: int) -> tuple[int, int]:
    """Return the position of the index of a federated id, -1 for no such id, and the id in it."""
    return (federated_id >> INDEX_BITS) - 1, federated_id & _LOCAL


def join_id(index: int, item_id: int) -> int:
    """Return the federated id of an item.

    Args:
        index: Position of the index, from 0.
        item_id: Id of the item in the index.
    """
    return ((index + 1) << INDEX_BITS) + item_id


def parse_picture(text: str, names: Sequence[str]) -> int:
    """Return the federated id of a picture that is written as ``holiday:12``.

    Args:
        text: Name of its index, a colon, and its id there.
        names: Names of the indexes.

    Raises:
        InvalidQueryError: It does not say which of the indexes it is in.
    """
    name, _, number = text.partition(":")
    is_id = number.isascii() and number.isdecimal() and len(number) <= _MAX_DIGITS
    if name not in names or not is_id or not 1 <= int(number) <= _LOCAL:
        raise missing_index_error()
    return join_id(list(names).index(name), int(number))


def missing_index_error() -> InvalidQueryError:
    """Return the error for an id that does not say which of several indexes it is of."""
    return InvalidQueryError(
        "An id of a picture does not say which of the indexes it is in.",
        "Write the name of its index before it, such as holiday:12.",
    )


class FederatedIds:
    """Mapping between the ids of several indexes and federated ids.

    Args:
        members: The searchable items of each index, in the order of the indexes.
    """

    def __init__(self, members: Sequence[ItemDigests]) -> None:
        self._copies = _find_copies(members)

    def __len__(self) -> int:
        """Return the number of indexes."""
        return len(self._copies)

    def copies(self, index: int) -> Ids:
        """Return the ids in an index of the items that an earlier index has, int64, ascending."""
        return self._copies[index].ids

    def federate(self, index: int, ids: Ids) -> Ids:
        """Return the federated ids of items of an index, int64 (n,), in their order."""
        federated = ids + join_id(index, 0)
        copies = self._copies[index]
        if len(copies.ids):
            places, is_copy = _find(copies.ids, ids)
            federated[is_copy] = copies.originals[places[is_copy]]
        return federated

    def own(self, ids: Ids) -> Iterator[tuple[int, NDArray[np.int64], Ids]]:
        """Yield each index that some federated ids belong to, their positions and ids in it."""
        numbers = (ids >> INDEX_BITS) - 1
        for index in range(len(self)):
            positions = np.flatnonzero(numbers == index)
            if len(positions):
                yield index, positions, ids[positions] & _LOCAL

    def local(self, index: int, ids: Ids) -> tuple[NDArray[np.int64], Ids]:
        """Return all items of an index that some federated ids mean, copies among them.

        Returns:
            The positions of the federated ids, int64 (m,), and the ids in the index, int64 (m,).
        """
        own = np.flatnonzero((ids >> INDEX_BITS) - 1 == index)
        copies = self._copies[index]
        order = np.argsort(ids, kind="stable")
        places, is_copy = _find(ids[order], copies.originals)
        return (
            np.concatenate([own, order[places[is_copy]]]),
            np.concatenate([ids[own] & _LOCAL, copies.ids[is_copy]]),
        )


def _find(ids: Ids, wanted: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the position of each wanted id in ascending ids, and which of them are there."""
    if not len(ids):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    positions = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return positions, ids[positions] == wanted


def _find_copies(members: Sequence[ItemDigests]) -> list[_Copies]:
    none = np.empty(0, np.int64)
    copies = [_Copies(none, none)]
    for index in range(1, len(members)):
        member = members[index]
        originals = np.full(len(member.ids), -1)
        prefixes = _prefixes(member)
        for earlier in range(index):
            is_open = originals < 0
            other = members[earlier]
            shared = np.isin(prefixes, _prefixes(other)) & is_open
            if not shared.any():
                continue
            by_content = {
                (other.digests[row].tobytes(), int(other.parts[row])): int(other.ids[row])
                for row in np.flatnonzero(np.isin(_prefixes(other), prefixes[shared])).tolist()
            }
            for row in np.flatnonzero(shared).tolist():
                digest = member.digests[row].tobytes()
                first = by_content.get((digest, 0))
                found = by_content.get((digest, int(member.parts[row])), first)
                if found is not None:
                    originals[row] = join_id(earlier, found)
        rows = np.flatnonzero(originals >= 0)
        copies.append(_Copies(member.ids[rows], originals[rows]))
    return copies


def _prefixes(member: ItemDigests) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each digest as a number."""
    first = np.ascontiguousarray(member.digests[:, :8])
    return first.view(np.uint64).reshape(-1)
