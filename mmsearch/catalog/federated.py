"""Snapshots of several catalogs as one: what queries read of indexes that are searched together.

Each method asks the catalogs one after another and joins their answers as the catalog of one index
with all their contents would give them. What is known within an index only, such as its groups of
duplicates, stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.full_text import FullText, TextSearch
from mmsearch.catalog.vocabulary import closest_word
from mmsearch.core.errors import StateError
from mmsearch.core.federated_ids import FederatedIds, ItemDigests, join_id, split_id
from mmsearch.core.identity import Identity
from mmsearch.core.records import (
    BuiltVectorIndex,
    DuplicateRecord,
    FileRecord,
    IndexCalibration,
    PictureRecord,
    Segment,
    StackRecord,
)
from mmsearch.core.types import CONTENT_SOURCES, DERIVED_SOURCES, Ids, Text, TextSource

if TYPE_CHECKING:
    from mmsearch.catalog.query_words import Token
    from mmsearch.catalog.reader import SqlReader
    from mmsearch.catalog.snapshot import SqlSnapshot
    from mmsearch.core.facets import Facet
    from mmsearch.core.filter_tree import FilterTree
    from mmsearch.core.filters import Filters
    from mmsearch.core.server_filters import ItemFields
    from mmsearch.core.suggestions import Suggestion, SuggestionKind

NO_IDS: Ids = np.empty(0, np.int64)


class FederatedReader:
    """Reads several catalogs as one. Thread-safe as far as they are.

    Args:
        catalogs: The catalogs, open for reading.
    """

    def __init__(self, catalogs: Sequence[SqlReader]) -> None:
        self._catalogs = catalogs
        self._digests: list[tuple[int, ItemDigests] | None] = [None] * len(catalogs)
        self._ids: tuple[list[int], FederatedIds] | None = None

    @property
    def catalogs(self) -> Sequence[SqlReader]:
        """The catalogs, in the order of the indexes."""
        return self._catalogs

    def close(self) -> None:
        """Close the catalogs."""
        for catalog in self._catalogs:
            catalog.close()

    def identity(self) -> Identity | None:
        """Return the identity of the first index that has one; None if all are empty."""
        identities = (catalog.identity() for catalog in self._catalogs)
        return next((each for each in identities if each is not None), None)

    @contextmanager
    def snapshot(self) -> Iterator[FederatedSnapshot]:
        """Open the newest generation of each catalog for reading."""
        with ExitStack() as stack:
            members = [stack.enter_context(catalog.snapshot()) for catalog in self._catalogs]
            yield FederatedSnapshot(members, self._map_ids(members))

    def _map_ids(self, members: Sequence[SqlSnapshot]) -> FederatedIds:
        """Return the ids of the generations; they are kept until one of them changes."""
        generations = [member.generation for member in members]
        known = self._ids
        if known is not None and known[0] == generations:
            return known[1]
        digests = []
        for position, member in enumerate(members):
            kept = self._digests[position]
            if kept is None or kept[0] != member.generation:
                kept = self._digests[position] = member.generation, member.item_digests()
            digests.append(kept[1])
        ids = FederatedIds(digests)
        self._ids = generations, ids
        return ids


class FederatedSnapshot(TextSearch):
    """Generations of several catalogs as one, read lazily; see `mmsearch.core.catalog.Snapshot`.

    Its members about files, such as `built`, raise `StateError`: the vectors of each index are in
    files of its own, which the snapshots of `members` name.

    Args:
        members: Snapshots of the catalogs.
        ids: Mapping of their ids.
    """

    def __init__(self, members: Sequence[SqlSnapshot], ids: FederatedIds) -> None:
        self.members = members
        self.ids = ids
        # By the identity of the tree, as in `SqlSnapshot`.
        self._filtered: dict[int, tuple[FilterTree, Ids]] = {}

    @property
    def generation(self) -> int:
        """Sum of the generations: it grows with every change of one of the indexes."""
        return sum(member.generation for member in self.members)

    @property
    def created_at(self) -> str:
        """Times at which the members were created."""
        return " ".join(member.created_at for member in self.members)

    @cached_property
    def identity(self) -> Identity | None:
        """The identity of the first index that has one."""
        return next((m.identity for m in self.members if m.identity is not None), None)

    @cached_property
    def calibration(self) -> IndexCalibration | None:
        """The calibration that all indexes with pictures share; else None."""
        used = [member for member in self.members if member.identity is not None]
        calibrations = [member.calibration for member in used]
        first = calibrations[0] if calibrations else None
        return first if all(each == first for each in calibrations) else None

    # --- counts ---

    @cached_property
    def items(self) -> int:
        """Number of live items of different contents."""
        copies = sum(len(self.ids.copies(index)) for index in range(len(self.members)))
        return sum(member.items for member in self.members) - copies

    @cached_property
    def items_with_pixels(self) -> int:
        """Number of live items of different contents that have a vector."""
        return self.items - len(self.ids_without_pixels)

    @cached_property
    def ids_without_pixels(self) -> Ids:
        """Ids of the live items that have no vector; int64, ascending."""
        return self._union(lambda member: member.ids_without_pixels)

    @cached_property
    def pictures(self) -> int:
        """Number of live contents."""
        num_copies = 0
        for index, member in enumerate(self.members):
            num_copies += member.count_contents(self.ids.copies(index))
        return sum(member.pictures for member in self.members) - num_copies

    @cached_property
    def has_moments(self) -> bool:
        """True if a content has several items."""
        return any(member.has_moments for member in self.members)

    def content_ids(self, ids: Ids) -> Ids:
        """Return a number for each item that is equal for items of one content, int64 (n,)."""
        if not self.has_moments:
            return ids
        return self._map(ids, lambda member, local: member.content_ids(local))

    def count_contents(self, ids: Ids) -> int:
        """Return the number of contents of different items."""
        return sum(self.members[index].count_contents(own) for index, _, own in self.ids.own(ids))

    def sibling_ids(self, ids: Ids) -> Ids:
        """Return the ids of all items of the contents of some items, int64 (n,), ascending."""
        return self._expand(ids, lambda member, local: member.sibling_ids(local))

    @cached_property
    def has_stacks(self) -> bool:
        """True if an index lists duplicates."""
        return any(member.has_stacks for member in self.members)

    def stack_ids(self, ids: Ids) -> Ids:
        """Return a number for each item that is equal for items of one stack, int64 (n,)."""
        return self._map(ids, lambda member, local: member.stack_ids(local))

    def stack_item_ids(self, ids: Ids) -> Ids:
        """Return the ids of all items of the stacks of some items, ascending."""
        return self._expand(ids, lambda member, local: member.stack_item_ids(local))

    def stacks(self, ids: Sequence[int], allowed: Ids | None, limit: int) -> dict[int, StackRecord]:
        """Return the other contents of the stacks of some items, each in its own index."""
        found: dict[int, StackRecord] = {}
        wanted = np.array(list(ids), np.int64)
        for index, positions, own in self.ids.own(wanted):
            passing = None if allowed is None else np.sort(self.ids.local(index, allowed)[1])
            stacks = self.members[index].stacks(own.tolist(), passing, limit)
            for position, item_id in zip(positions.tolist(), own.tolist(), strict=True):
                if item_id in stacks:
                    found[int(wanted[position])] = self._federate_stack(index, stacks[item_id])
        return found

    def _federate_stack(self, index: int, stack: StackRecord) -> StackRecord:
        ids = self.ids.federate(index, np.array([each.id for each in stack.duplicates], np.int64))
        duplicates: list[DuplicateRecord] = [
            replace(each, id=item_id)
            for each, item_id in zip(stack.duplicates, ids.tolist(), strict=True)
        ]
        return replace(stack, duplicates=duplicates)

    def sample_ids(self, count: int) -> Ids:
        """Return ids of items of different contents, from each index by its share; ascending."""
        total = max(sum(member.pictures for member in self.members), 1)
        return self._union(lambda member: member.sample_ids(-(-count * member.pictures // total)))

    # --- files: those of the members ---

    @property
    def built(self) -> BuiltVectorIndex | None:
        """Refused: each index has a built index of its own."""
        raise _no_files_error()

    @property
    def unindexed_segments(self) -> Sequence[Segment]:
        """Refused: each index has segments of its own."""
        raise _no_files_error()

    @property
    def changed_fields(self) -> Ids | None:
        """Refused: each index has a built index of its own."""
        raise _no_files_error()

    def stale_rows(self, *, above: int = 0) -> dict[int, Ids]:
        """Refuse: each index has segments of its own."""
        raise _no_files_error()

    def moved_ids(self, covers: int) -> Ids:
        """Refuse: each index has a built index of its own."""
        raise _no_files_error()

    def find_segments(self, ids: Sequence[int]) -> dict[int, Segment]:
        """Refuse: each index has segments of its own."""
        raise _no_files_error()

    @cached_property
    def deleted_ids(self) -> Ids:
        """Ids of the items without assets; int64, ascending."""
        return self._union(lambda member: member.deleted_ids)

    # --- records ---

    def records(self, ids: Sequence[int], filters: FilterTree | None = None) -> list[PictureRecord]:
        """Return the records of ids, in the same order, with the places in all indexes."""
        wanted = np.array(list(ids), np.int64)
        different = np.unique(wanted)
        found: dict[int, list[tuple[bool, PictureRecord]]] = {}
        for index, member in enumerate(self.members):
            positions, local = self.ids.local(index, different)
            is_passing = np.zeros(len(local), np.bool_)
            if filters is not None:
                is_passing = np.isin(local, member.filter_ids(filters))
            records = zip(is_passing.tolist(), member.records(local.tolist(), filters), strict=True)
            for item_id, record in zip(different[positions].tolist(), records, strict=True):
                found.setdefault(item_id, []).append(record)
        return [_join_records(item_id, found[item_id]) for item_id in wanted.tolist()]

    def find_item(self, path: bytes) -> tuple[FileRecord, int] | None:
        """Return the record of a file by its absolute path, and the id of its picture."""
        for index, member in enumerate(self.members):
            found = member.find_item(path)
            if found is not None:
                (item_id,) = self.ids.federate(index, np.array([found[1]], np.int64)).tolist()
                return found[0], item_id
        return None

    def list_ids(self, after_id: int, limit: int) -> list[int]:
        """Return the id of the first item of each live content, above an id, ascending."""
        ids = [NO_IDS]
        for index, member in enumerate(self.members):
            listed = np.array(member.list_ids(0, member.items), np.int64)
            ids.append(np.setdiff1d(listed, self.ids.copies(index)))
            ids[-1] = self.ids.federate(index, ids[-1])
        every = np.concatenate(ids)
        return [int(item_id) for item_id in every[every > after_id][:limit]]

    def item_fields(self, ids: Sequence[int]) -> list[ItemFields]:
        """Return the values of the fields of items, ordered by id."""
        return [
            replace(fields_of_item, id=join_id(index, fields_of_item.id))
            for index, _, own in self.ids.own(np.array(sorted(ids), np.int64))
            for fields_of_item in self.members[index].item_fields(own.tolist())
        ]

    def filter_ids(self, filters: FilterTree) -> Ids:
        """Return the ids of the live items of which one copy passes the filters; ascending."""
        known = self._filtered.get(id(filters))
        if known is None:
            ids = self._union(lambda member: member.filter_ids(filters))
            known = self._filtered[id(filters)] = filters, ids
        return known[1]

    def count_facets(
        self, fields: Sequence[str], ids: Ids | None, filters: Filters, *, limit: int, fold: bool
    ) -> tuple[int, list[Facet]]:
        """Return the number of pictures, and how many of them have each value of some fields."""
        from mmsearch.catalog.facets import count_facets  # noqa: PLC0415 - searches never need it
        from mmsearch.catalog.federated_facets import (  # noqa: PLC0415 - as above
            FederatedFacetValues,
        )

        members = [
            member.facet_values(None if ids is None else np.sort(self.ids.local(index, ids)[1]))
            for index, member in enumerate(self.members)
        ]
        values = FederatedFacetValues(members, self.ids)
        return count_facets(values, fields, ids, filters, limit=limit, fold=fold)

    def newest_ids(self, limit: int, filters: FilterTree | None = None) -> Ids:
        """Return the ids of the newest live items that pass filters."""
        ids: list[Ids] = [NO_IDS]
        dates: dict[int, str | None] = {}
        for index, member in enumerate(self.members):
            # Copies are found in an earlier index, too.
            newest = member.newest_ids(limit, filters)
            federated = self.ids.federate(index, newest)
            known = member.dates(newest)
            ids.append(federated)
            for item_id, local in zip(federated.tolist(), newest.tolist(), strict=True):
                dates.setdefault(item_id, known.get(local))
        found = np.unique(np.concatenate(ids)).tolist()
        dated = [item_id for item_id in found if dates[item_id] is not None]
        # Equal dates stay in the order of their ids.
        dated.sort(key=lambda item_id: str(dates[item_id]), reverse=True)
        undated = [item_id for item_id in found if dates[item_id] is None]
        return np.array([*dated, *undated][:limit], np.int64)

    # --- texts ---

    @cached_property
    def full_text(self) -> FullText:
        """Full-text search in the texts of all indexes."""
        return _FederatedFullText(self)

    @cached_property
    def has_texts(self) -> bool:
        """True if a live item has a searchable text other than file names and tags."""
        return any(member.has_texts for member in self.members)

    def has_dates(self) -> bool:
        """Return True if the date of a live picture is known."""
        return any(member.has_dates() for member in self.members)

    def list_people(self) -> list[str]:
        """Return the names of the people in live pictures, as they are written."""
        from mmsearch.core.query import fold_text  # noqa: PLC0415 - as `list_names` does

        names: dict[str, str] = {}
        for member in self.members:
            for name in member.list_people():
                names.setdefault(fold_text(name), name)
        return sorted(names.values())

    def has_places(self, names: Sequence[str] | None = None) -> bool:
        """Return True if a live picture has a place, or one of some names of places."""
        return any(member.has_places(names) for member in self.members)

    def has_located(self, south: float, north: float, west: float, east: float) -> bool:
        """Return True if a live picture was taken between degrees of latitude and longitude."""
        return any(member.has_located(south, north, west, east) for member in self.members)

    def has_word(self, word: str) -> bool:
        """Return True if a text holds the word or a form of it with the same stem."""
        return any(member.has_word(word) for member in self.members)

    def closest_word(self, word: str) -> str | None:
        """Return the word of a text that a misspelt word is closest to; None without any."""
        return closest_word(word, [member.vocabulary for member in self.members])

    def suggest(
        self, prefix: str, limit: int, kinds: frozenset[SuggestionKind]
    ) -> list[Suggestion]:
        """Return texts that complete a prefix and find a picture, the most useful ones first."""
        from mmsearch.catalog.federated_suggestions import (  # noqa: PLC0415 - searches need none
            FederatedSuggestions,
        )

        members = [member.suggestions for member in self.members]
        return FederatedSuggestions(members, self.ids).suggest(prefix, limit, kinds)

    # --- joining ---

    def _union(self, read: Callable[[SqlSnapshot], Ids]) -> Ids:
        """Return the ids that each index gives, int64 (n,), ascending."""
        found = [self.ids.federate(index, read(m)) for index, m in enumerate(self.members)]
        return np.unique(np.concatenate([NO_IDS, *found]))

    def _map(self, ids: Ids, read: Callable[[SqlSnapshot, Ids], Ids]) -> Ids:
        """Return a number of each item that is different in each index, int64 (n,)."""
        numbers = np.empty(len(ids), np.int64)
        for index, positions, own in self.ids.own(ids):
            local = read(self.members[index], own)
            # Numbers of stacks are below 0.
            numbers[positions] = np.where(local < 0, -1, 1) * (
                np.abs(local) * len(self.members) + index
            )
        return numbers

    def _expand(self, ids: Ids, read: Callable[[SqlSnapshot, Ids], Ids]) -> Ids:
        """Return the items that each index gives for its own ones, int64 (n,), ascending."""
        found = [
            self.ids.federate(index, read(self.members[index], own))
            for index, _, own in self.ids.own(ids)
        ]
        return np.unique(np.concatenate([NO_IDS, *found]))


class _FederatedFullText(FullText):
    """Full-text search in several catalogs: words are counted and compared over all of them.

    Args:
        snapshot: The snapshot of the catalogs.
    """

    def __init__(self, snapshot: FederatedSnapshot) -> None:
        self._members = [member.full_text for member in snapshot.members]
        self._ids = snapshot.ids
        self._num_pictures = snapshot.pictures
        self._find_contents = snapshot.content_ids if snapshot.has_moments else None
        self._count_contents = snapshot.count_contents
        self._exact_words = {}

    def has_text_mask(self, ids: Ids) -> NDArray[np.bool_]:
        """Return a bool mask (n,) of the pictures that have a text by a person in any index."""
        mask = np.zeros(len(ids), np.bool_)
        for index, member in enumerate(self._members):
            positions, local = self._ids.local(index, ids)
            mask[positions[member.has_text_mask(local)]] = True
        return mask

    def _run_postings(self, token: Token, spelling: Any, allowed: Ids | None) -> Any:
        found = []
        for index, member in enumerate(self._members):
            postings = member._run_postings(token, spelling, None)  # noqa: SLF001 - of this class
            item_ids = self._ids.federate(index, postings.item_ids)
            text_ids = postings.text_ids + join_id(index, 0)
            found.append(replace(postings, text_ids=text_ids, item_ids=item_ids, contents=item_ids))
        joined = _join_postings(found)
        if allowed is None:
            return joined
        return _take_postings(joined, np.isin(joined.item_ids, allowed))

    def _with_levels(self, token: Token, found: Any) -> Any:
        indexes = np.array([split_id(text_id)[0] for text_id in found.text_ids.tolist()], np.int64)
        bounds, levels = found.bounds.copy(), found.levels.copy()
        for index, member in enumerate(self._members):
            rows = np.flatnonzero(indexes == index)
            own = _take_postings(found, rows)
            own = replace(own, text_ids=own.text_ids - join_id(index, 0))
            leveled = member._with_levels(token, own)  # noqa: SLF001 - of this class
            bounds[rows], levels[rows] = leveled.bounds, leveled.levels
        return replace(found, bounds=bounds, levels=levels)

    def _read_texts(self, text_ids: Iterable[int]) -> dict[int, Any]:
        texts: dict[int, Any] = {}
        for index, own in _by_index(text_ids, len(self._members)):
            read = self._members[index]._read_texts(own)  # noqa: SLF001 - of this class
            items = np.array([item_id for item_id, *_ in read.values()], np.int64)
            items = self._ids.federate(index, items)
            for (text_id, (_, *others)), item_id in zip(read.items(), items.tolist(), strict=True):
                texts[text_id + join_id(index, 0)] = (item_id, *others)
        return texts

    def _read_matched(self, item_ids: Iterable[int]) -> list[Any]:
        wanted = np.unique(np.array([int(item_id) for item_id in item_ids], np.int64))
        rows: list[Any] = []
        for index, member in enumerate(self._members):
            _, local = self._ids.local(index, wanted)
            read = member._read_matched(local.tolist())  # noqa: SLF001 - of this class
            items = self._ids.federate(index, np.array([row[1] for row in read], np.int64))
            for (text_id, _, *others), item_id in zip(read, items.tolist(), strict=True):
                rows.append((text_id + join_id(index, 0), item_id, *others))
        return rows

    def _find_neighbours(self, item_ids: Iterable[int]) -> Ids:
        found = [np.empty((0, 3), np.int64)]
        for index, own in _by_index(item_ids, len(self._members)):
            pairs = self._members[index]._find_neighbours(own)  # noqa: SLF001 - of this class
            columns = [self._ids.federate(index, pairs[:, column]) for column in (0, 1)]
            found.append(np.stack([*columns, pairs[:, 2]], axis=1))
        return np.concatenate(found)


def _join_postings(found: Sequence[Any]) -> Any:
    columns = {
        each.name: np.concatenate([getattr(postings, each.name) for postings in found])
        for each in fields(found[0])
    }
    # The full-text search compares them by identity if each content is one item.
    return replace(found[0], **columns | {"contents": columns["item_ids"]})


def _take_postings(found: Any, rows: NDArray[Any]) -> Any:
    columns = {each.name: getattr(found, each.name)[rows] for each in fields(found)}
    return replace(found, **columns | {"contents": columns["item_ids"]})


def _by_index(ids: Iterable[int], count: int) -> Iterator[tuple[int, list[int]]]:
    """Yield each index that some ids or texts are in, and their ids in it."""
    lists: list[list[int]] = [[] for _ in range(count)]
    for each in ids:
        index, local = split_id(int(each))
        lists[index].append(local)
    yield from ((index, listed) for index, listed in enumerate(lists) if listed)


def _no_files_error() -> StateError:
    return StateError("Several indexes have no files in common.", "Use those of each index.")


def _is_of_file(text: Text) -> bool:
    return text.source not in {*CONTENT_SOURCES, *DERIVED_SOURCES, TextSource.GPS}


def _join_records(item_id: int, records: Sequence[tuple[bool, PictureRecord]]) -> PictureRecord:
    """Return the record of a content in several indexes, as one catalog would have it.

    Args:
        item_id: Its federated id.
        records: Whether it passes the filters there, and its record, for each index that has it.
    """
    if len(records) == 1:
        return replace(records[0][1], id=item_id)
    # Files of folders come first, by path: they can be opened.
    by_path = sorted((record for _, record in records), key=lambda r: (bool(r.uri), r.paths))
    first = by_path[0]
    chosen = next((record for is_passing, record in records if is_passing), first)
    places = [
        place
        for record in by_path
        for place in zip(record.paths, (record.root, *record.copy_roots), strict=True)
    ]
    if not by_path[-1].uri:
        places.sort()
    texts = list(records[0][1].picture.texts)
    for _, record in records[1:]:
        # Texts of files count once for each file; those in the content are the same everywhere.
        texts += (text for text in record.picture.texts if _is_of_file(text) or text not in texts)
    keys = dict.fromkeys(key for record in (chosen, *by_path) for key in record.keys)
    return replace(
        first,
        id=item_id,
        paths=tuple(path for path, _ in places),
        copy_roots=tuple(root for _, root in places[1:]),
        picture=replace(first.picture, texts=tuple(texts)),
        key=chosen.key,
        metadata=chosen.metadata,
        keys=tuple(keys),
    )
