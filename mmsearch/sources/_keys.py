"""Compact set of keys, the first rows of keys, and expansion of brace patterns in names."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from typing import Final

from xxhash import xxh3_64_intdigest, xxh3_128_digest

from mmsearch.core.errors import SourceError

MAX_EXPANSIONS: Final = 1_000_000
"""Maximum number of names of one pattern."""

_BRACES: Final = re.compile(rb"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")


class SeenKeys:
    """Set of keys by their 64-bit hashes, which takes at most 32 bytes a key."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def add(self, key: bytes) -> bool:
        """Add a key; return False if it was in the set."""
        if not self._insert(self._slots, xxh3_64_intdigest(key) or 1):
            return False
        self._count += 1
        if 2 * self._count > len(self._slots):
            larger = array("Q", bytes(8 * 2 * len(self._slots)))
            for value in self._slots:
                if value:
                    self._insert(larger, value)
            self._slots = larger
        return True

    @staticmethod
    def _insert(slots: array[int], value: int) -> bool:
        mask = len(slots) - 1
        slot = value & mask
        while slots[slot]:
            if slots[slot] == value:
                return False
            slot = (slot + 1) & mask
        slots[slot] = value
        return True


class PrecedingKeys:
    """Keys of the rows before a place in a source.

    Attributes:
        last: Key of the last row; b"" without one, or if the row is refused.
    """

    def __init__(self) -> None:
        self._seen = SeenKeys()
        self.last = b""

    def add(self, key: bytes) -> bool:
        """Add the key of the next row; return False if an earlier row has it.

        Args:
            key: The key; b"" for a row that is refused.
        """
        self.last = key
        return not key or self._seen.add(key)


class FirstRows:
    """Finds the first row of each key over all parts of a source, whichever part is read first.

    The keys of the parts before are kept from part to part, and read if parts were passed over.

    Args:
        list_keys: Yields the keys of the rows of a part by its number; b"" for refused rows.
    """

    def __init__(self, list_keys: Callable[[int], Iterator[bytes]]) -> None:
        self._list_keys = list_keys
        self._kept: tuple[int, PrecedingKeys] | None = None

    def begin(self, part: int) -> PrecedingKeys:
        """Return the keys of all parts before a part, to which its own are to be added."""
        kept, self._kept = self._kept, None
        number, preceding = kept if kept and kept[0] <= part else (0, PrecedingKeys())
        for earlier in range(number, part):
            for key in self._list_keys(earlier):
                preceding.add(key)
        return preceding

    def end(self, part: int, preceding: PrecedingKeys) -> None:
        """Keep the keys for the next part, after all of the part have been added."""
        self._kept = part + 1, preceding


def chain_stamps(before: bytes, stamp: bytes) -> bytes:
    """Return a stamp of a part that changes with the parts before it.

    Args:
        before: The stamp of the part before, as this function returned it; b"" without one.
        stamp: The part's own stamp.
    """
    return xxh3_128_digest(before + b"/" + stamp) if before else stamp


def expand_braces(pattern: bytes) -> list[bytes]:
    """Return the names of a pattern such as ``{00000..00999}.tar`` or ``{train,test}.csv``.

    Raises:
        SourceError: The pattern stands for more than `MAX_EXPANSIONS` names.
    """
    names: list[bytes] = []
    for name in _iter_expansions(pattern):
        names.append(name)
        if len(names) > MAX_EXPANSIONS:
            raise SourceError(
                f"The pattern {pattern.decode('utf-8', 'replace')} stands for more than "
                f"{MAX_EXPANSIONS:,} names.",
                "Divide it into several sources.",
            )
    return names


def _iter_expansions(pattern: bytes) -> Iterator[bytes]:
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    first, last, words = match.groups()
    if words is not None:
        choices: Iterator[bytes] = iter(words.split(b","))
    else:
        width = len(first) if first.startswith(b"0") or len(first) == len(last) else 0
        step = 1 if int(first) <= int(last) else -1
        choices = (b"%0*d" % (width, n) for n in range(int(first), int(last) + step, step))
    for choice in choices:
        yield from _iter_expansions(pattern[: match.start()] + choice + pattern[match.end() :])


def relative_names(paths: list[bytes]) -> list[bytes]:
    """Return names of files in their source: paths below the folder that all of them share.

    The name of a single file is b"".
    """
    if len(paths) == 1:
        return [b""]
    split_paths = [path.split(b"/") for path in paths]
    shared = 0
    while all(len(parts) > shared + 1 for parts in split_paths) and (
        len({parts[shared] for parts in split_paths}) == 1
    ):
        shared += 1
    return [b"/".join(parts[shared:]) for parts in split_paths]
