"""Counts of pictures by the values of their fields.

The values of a generation are read into arrays, once for all searches of a process, because SQLite
would group a million rows by one field in half a second. The values of a few pictures are read by
their ids instead. Each field is read when it is first asked for.

A picture is a content: it has a value if one of its items that pass the filters has it. With
duplicates folded, all contents of a stack are one picture.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.database import Database
from mmsearch.core.display import display_path
from mmsearch.core.facets import (
    Facet,
    FacetValue,
    given_folder,
    is_ambiguous,
    is_storable,
    narrowing_filter,
)
from mmsearch.core.filters import Filters
from mmsearch.core.globs import fold_path
from mmsearch.core.query import fold_text
from mmsearch.core.types import IMAGE_KIND, Ids

MAX_READ_BY_IDS = 5000
"""At most this many pictures are read by their ids, unless all are in memory already."""

_CHUNK_ROWS = 100_000
"""Rows per statement: the text of their values takes a few megabytes."""

_TAG_KINDS = {"place": "place", "person": "people", "tag": "keywords"}
"""Kind of the texts whose values a field counts."""

_ITEM_FIELDS = {
    "month": "substr(taken_at, 1, 7)",
    "camera": "camera",
    "format": "format",
    "rating": "rating",
}
"""SQL of the fields that are columns of items; years are those of the months."""

_WANTED_CONTENTS = "SELECT content_id FROM items WHERE id {}"

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Column:
    """Values of a field.

    Attributes:
        owners: int64 (n,), the position of the item or of the content that has each value.
        codes: int64 (n,), the number of each value, -1 without one.
        values: The different values, by their numbers.
        by_content: True if the owners are contents.
        repeats: True if an owner may have several rows with one value.
    """

    owners: Codes
    codes: Codes
    values: Sequence[Any]
    by_content: bool = False
    repeats: bool = False

    def regroup(self, key: Callable[[Any], Any]) -> Column:
        """Return the column with the values that a function makes of the values; None for none."""
        keys = [key(value) for value in self.values]
        values = list(dict.fromkeys(each for each in keys if each is not None))
        numbers = {each: number for number, each in enumerate(values)}
        # The last entry is for rows without a value, whose code is -1.
        codes = np.array([*(numbers.get(each, -1) for each in keys), -1], np.int64)
        return replace(self, codes=codes[self.codes], values=values)


@dataclass(frozen=True)
class Units:
    """The numbers of what counts as one picture: a content, or a stack of them.

    Attributes:
        of_content: int64 (c,), the number of the unit of each content.
        count: Number of units.
        items: int64 (count,), the number of items of each unit.
        contents: int64 (count,), the number of contents of each unit.
    """

    of_content: Codes
    count: int
    items: Codes
    contents: Codes


class FacetTable:
    """The values of live items, which many threads may use.

    Args:
        ids: Ids of the items; None for all live ones.
    """

    def __init__(self, ids: Ids | None = None) -> None:
        self._wanted = None if ids is None else json.dumps(ids.tolist())
        self._lock = threading.RLock()
        self._columns: dict[str, Column] = {}
        self._items: tuple[Ids, Codes, Ids] | None = None
        self._units: dict[bool, Units] = {}

    def items(self, db: Database) -> tuple[Ids, Codes, Ids]:
        """Return the ids of the items, the position of the content of each, and their ids."""
        with self._lock:
            if self._items is None:
                self._items = self._read_items(db)
            return self._items

    def column(self, db: Database, field: str) -> Column:
        """Return the values of a field of items, contents or their texts."""
        with self._lock:
            if field not in self._columns:
                if field == "folder":
                    self._columns[field] = self._read_folders(db)
                elif field == "kind":
                    self._columns[field] = self._read_kinds(db)
                elif field in _ITEM_FIELDS:
                    self._columns[field] = self._read_values(db, _ITEM_FIELDS[field])
                else:
                    self._columns[field] = self._read_tags(db, _TAG_KINDS[field])
            return self._columns[field]

    def units(self, db: Database, *, fold: bool) -> Units:
        """Return what counts as one picture."""
        with self._lock:
            content_ids = self.items(db)[2]
            if fold not in self._units:
                of_content = np.arange(len(content_ids))
                if fold:
                    stacks = content_ids.copy()
                    pairs = np.array(self._read_stacks(db), np.int64).reshape(-1, 2)
                    positions, is_live = find_positions(content_ids, pairs[:, 0])
                    # A number below 0 is no id of a content.
                    stacks[positions[is_live]] = -pairs[is_live, 1]
                    _, of_content = np.unique(stacks, return_inverse=True)
                count = int(of_content.max(initial=-1)) + 1
                items = np.bincount(of_content[self.items(db)[1]], minlength=count)
                contents = np.bincount(of_content, minlength=count)
                self._units[fold] = Units(of_content, count, items, contents)
            return self._units[fold]

    # --- reading ---

    def _iter_items(self, db: Database, column: str) -> Iterator[tuple[Ids, str]]:
        """Yield the ids of live items and their values as a JSON list, in chunks."""
        where, parameters = "is_live = 1", {}
        if self._wanted is not None:
            where += f" AND id {db.dialect.ids(':wanted')}"
            parameters["wanted"] = self._wanted
        after = 0
        while True:
            ((last, ids, values),) = db.query(
                f"SELECT max(id), {db.dialect.list_of('id')}, {db.dialect.list_of('value')} FROM"  # noqa: S608
                f" (SELECT id, {column} AS value FROM items WHERE id > :after AND {where}"
                f" ORDER BY id LIMIT {_CHUNK_ROWS}) AS page",
                {"after": after, **parameters},
            )
            if last is None:
                return
            after = last
            yield _parse_ids(ids), values

    def _read_stacks(self, db: Database) -> list[tuple[Any, ...]]:
        statement = "SELECT content_id, stack_id FROM duplicates"
        if self._wanted is None:
            return db.query(statement)
        wanted = _WANTED_CONTENTS.format(db.dialect.in_ids)
        return db.query(f"{statement} WHERE content_id IN ({wanted})", [self._wanted])

    def _read_items(self, db: Database) -> tuple[Ids, Codes, Ids]:
        read = list(self._iter_items(db, "content_id"))
        ids = _concatenate([ids for ids, _ in read])
        contents = _concatenate([_parse_ids(values) for _, values in read])
        content_ids, content_of = np.unique(contents, return_inverse=True)
        return ids, content_of.astype(np.int64), content_ids

    def _read_values(self, db: Database, column: str) -> Column:
        ids: list[Ids] = []
        values: list[Any] = []
        for more_ids, listed in self._iter_items(db, column):
            ids.append(more_ids)
            values += json.loads(listed)
        owners, is_live = find_positions(self.items(db)[0], _concatenate(ids))
        codes, distinct = _encode(values)
        return Column(owners[is_live], codes[is_live], distinct)

    def _read_kinds(self, db: Database) -> Column:
        content_ids = self.items(db)[2]
        # Most contents are pictures: only the others are read.
        statement, parameters = "SELECT id, kind FROM contents WHERE kind <> ?", [IMAGE_KIND]
        if self._wanted is not None:
            statement += f" AND id IN ({_WANTED_CONTENTS.format(db.dialect.in_ids)})"
            parameters.append(self._wanted)
        rows = db.query(statement, parameters)
        positions, is_live = find_positions(
            content_ids, np.array([row[0] for row in rows], np.int64)
        )
        values = [IMAGE_KIND, *dict.fromkeys(kind for _, kind in rows)]
        numbers = {kind: number for number, kind in enumerate(values)}
        codes = np.zeros(len(content_ids), np.int64)
        others = np.array([numbers[kind] for _, kind in rows], np.int64)
        codes[positions[is_live]] = others[is_live]
        return Column(np.arange(len(content_ids)), codes, values, by_content=True)

    def _read_tags(self, db: Database, kind: str) -> Column:
        ids = self.items(db)[0]
        counted = f"SELECT tag, count(*), {db.dialect.list_of('tags.item_id')} FROM"
        if self._wanted is None:
            rows = db.query(f"{counted} tags WHERE kind = ? GROUP BY tag", [kind])
        else:
            rows = db.query(
                f"{counted} texts JOIN tags ON tags.text_id = texts.id"
                f" WHERE texts.item_id {db.dialect.in_ids} AND tags.kind = ?"
                " GROUP BY tag",
                [self._wanted, kind],
            )
        listed = ",".join(row[2][1:-1] for row in rows)
        codes = np.repeat(np.arange(len(rows)), [row[1] for row in rows])
        owners, is_live = find_positions(ids, _parse_ids(f"[{listed}]"))
        keys = codes[is_live] * len(ids) + owners[is_live]
        # An item may have a value in several texts.
        if np.any(np.diff(keys) <= 0):
            keys = np.unique(keys)
        codes, owners = np.divmod(keys, max(len(ids), 1))
        return Column(owners, codes, [row[0] for row in rows])

    def _read_folders(self, db: Database) -> Column:
        where, parameters = "content_id IS NOT NULL", []
        if self._wanted is not None:
            wanted = _WANTED_CONTENTS.format(db.dialect.in_ids)
            where, parameters = f"content_id IN ({wanted})", [self._wanted]
        contents, codes = [], []
        numbers: dict[bytes, int] = {}
        for content_id, key in db.iterate(
            f"SELECT content_id, key FROM assets WHERE {where}",  # noqa: S608 - our text
            parameters,
        ):
            contents.append(content_id)
            codes.append(numbers.setdefault(key.rpartition(b"/")[0], len(numbers)))
        owners, is_live = find_positions(self.items(db)[2], np.array(contents, np.int64))
        column = np.array(codes, np.int64)[is_live]
        return Column(owners[is_live], column, list(numbers), by_content=True)


def _encode(values: Sequence[Any]) -> tuple[Codes, list[Any]]:
    """Return the number of each value, -1 for None, and the different values by their numbers."""
    distinct = [value for value in dict.fromkeys(values) if value is not None]
    numbers = {value: number for number, value in enumerate(distinct)} | {None: -1}
    return np.fromiter(map(numbers.__getitem__, values), np.int64, len(values)), distinct


def _parse_ids(listed: str) -> Ids:
    """Return the numbers of a JSON list, faster than a parser of JSON."""
    return np.fromstring(listed[1:-1], np.int64, sep=",")


def _concatenate(arrays: Sequence[Codes]) -> Codes:
    return np.concatenate([np.empty(0, np.int64), *arrays])


def find_positions(ids: Ids, wanted: Ids) -> tuple[Codes, NDArray[np.bool_]]:
    """Return the position of each wanted id in ascending ids, and which of them are there."""
    if not len(ids):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    positions = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return positions, ids[positions] == wanted


class FacetTables:
    """The table of the newest generation that was asked for, which threads share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = -1
        self._table = FacetTable()

    def get(self, generation: int, ids: Ids | None) -> FacetTable:
        """Return the table of a generation; a small one of some items if that is read faster."""
        with self._lock:
            is_known = self._generation == generation
            if ids is not None and len(ids) <= MAX_READ_BY_IDS and not is_known:
                return FacetTable(ids)
            if not is_known:
                self._table, self._generation = FacetTable(), generation
            return self._table


class FacetValues(Protocol):
    """The values of the live items of one catalog, or of several."""

    def items(self) -> tuple[Ids, Codes, Ids]:
        """Return the ids of the items, the position of the content of each, and their ids."""

    def column(self, field: str) -> Column:
        """Return the values of a field of items, contents or their texts."""

    def units(self, *, fold: bool) -> Units:
        """Return what counts as one picture."""

    def file_months(self, filters: Filters) -> tuple[Ids, list[str]]:
        """Return the items whose date is unknown, and the month of each of their files.

        An item may have several. Only files within the bounds of the filters are listed.
        """

    def roots(self) -> list[str]:
        """Return the indexed folders."""

    def spelling(self, kind: str, tag: str) -> str | None:
        """Return the text that holds a tag first, in which it is not folded; None without one."""


class CatalogFacetValues:
    """The values of the items of one generation of a catalog.

    Args:
        db: A connection to the generation.
        table: The values of its items.
    """

    def __init__(self, db: Database, table: FacetTable) -> None:
        self._db, self._table = db, table

    def items(self) -> tuple[Ids, Codes, Ids]:
        """Return the ids of the items, the position of the content of each, and their ids."""
        return self._table.items(self._db)

    def column(self, field: str) -> Column:
        """Return the values of a field of items, contents or their texts."""
        return self._table.column(self._db, field)

    def units(self, *, fold: bool) -> Units:
        """Return what counts as one picture."""
        return self._table.units(self._db, fold=fold)

    def file_months(self, filters: Filters) -> tuple[Ids, list[str]]:
        """Return the items whose date is unknown, and the month of each of their files."""
        date = self._db.dialect.local_time("mtime_ns")
        bounds, values = "", []
        for sign, bound in ((">=", filters.after), ("<", filters.before)):
            if bound is not None:
                bounds += f" AND {date} {sign} ?"
                values.append(bound)
        rows = self._db.query(
            f"SELECT DISTINCT items.id, substr({date}, 1, 7) FROM items"  # noqa: S608
            " JOIN assets USING (content_id)"
            f" WHERE items.taken_at IS NULL AND items.is_live = 1{bounds}",
            values,
        )
        ids = np.array([item_id for item_id, _ in rows], np.int64)
        return ids, [month for _, month in rows]

    def roots(self) -> list[str]:
        """Return the indexed folders."""
        rows = self._db.query("SELECT uri FROM sources WHERE kind = 'folder'")
        return [os.fsdecode(uri) for (uri,) in rows]

    def spelling(self, kind: str, tag: str) -> str | None:
        """Return the text that holds a tag first, in which it is not folded; None without one."""
        texts = self._db.query(
            "SELECT text FROM texts WHERE id ="
            " (SELECT text_id FROM tags WHERE tag = ? AND kind = ? ORDER BY item_id, id LIMIT 1)",
            [tag, kind],
        )
        return texts[0][0] if texts else None


def count_facets(
    values: FacetValues,
    fields: Sequence[str],
    ids: Ids | None,
    filters: Filters,
    *,
    limit: int,
    fold: bool,
) -> tuple[int, list[Facet]]:
    """Return the number of pictures, and how many of them have each value of some fields.

    Args:
        values: The values of the items.
        fields: Names of fields, of `mmsearch.core.facets.FACET_FIELDS`.
        ids: Ids of the items that count; None for all live ones.
        filters: The filters that they passed, which `FacetValue.filter` narrows.
        limit: Maximum number of values of a field.
        fold: True to count a stack of duplicates once.
    """
    counter = _Counter(values, ids, filters, fold=fold)
    return counter.count(), [counter.facet(field, limit) for field in fields]


class _Counter:
    """Counts one set of items."""

    def __init__(
        self, values: FacetValues, ids: Ids | None, filters: Filters, *, fold: bool
    ) -> None:
        self._values, self._filters = values, filters
        self._item_ids, self._content_of, content_ids = values.items()
        self._units = values.units(fold=fold)
        if ids is None:
            self._has_item = np.ones(len(self._item_ids), np.bool_)
            self._has_content = np.ones(len(content_ids), np.bool_)
        else:
            self._has_item = np.zeros(len(self._item_ids), np.bool_)
            positions, is_live = find_positions(self._item_ids, ids)
            self._has_item[positions[is_live]] = True
            self._has_content = np.zeros(len(content_ids), np.bool_)
            self._has_content[self._content_of[self._has_item]] = True
        self._total = self._count_units(np.flatnonzero(self._has_content))

    def count(self) -> int:
        """Return the number of pictures."""
        return self._total

    def facet(self, field: str, limit: int) -> Facet:
        """Return the facet of a field."""
        column = self._column(field)
        contents, codes = self._rows(column)
        counts = self._count_values(column, contents, codes)
        present = np.flatnonzero(counts).tolist()
        listed = [(column.values[code], int(counts[code]), code) for code in present]
        if field in ("year", "month", "rating"):
            listed.sort(key=lambda each: each[0], reverse=True)
        else:
            listed.sort(key=lambda each: (-each[1], each[0]))
        shown = listed[:limit]
        is_shown = np.zeros(len(column.values), np.bool_)
        is_shown[[code for *_, code in shown]] = True
        with_value = self._count_units(contents)
        with_shown = with_value
        if len(listed) > limit:
            with_shown = self._count_units(contents[is_shown[codes]])
        roots = self._values.roots() if field == "folder" else ()
        values = []
        for raw, count, _ in shown:
            value, label = self._name(field, raw)
            narrowing = narrowing_filter(field, raw if field == "folder" else value, self._filters)
            if field == "folder" and is_ambiguous(raw, roots):
                narrowing = None
            values.append(FacetValue(value, label, count, narrowing))
        return Facet(
            field,
            tuple(values),
            missing=self._total - with_value,
            other=with_value - with_shown,
            distinct=len(listed),
        )

    def _column(self, field: str) -> Column:
        if field in ("year", "month"):
            column = self._values.column("month")
            if self._filters.file_dates:
                column = self._with_file_dates(column)
            return column if field == "month" else column.regroup(lambda month: month[:4])
        if field == "folder":
            return self._folders()
        column = self._values.column(field)
        if field == "camera":
            return _merge_spellings(column)
        return column

    def _with_file_dates(self, dates: Column) -> Column:
        """Return the months with those of the files of pictures whose date is unknown."""
        ids, months = self._values.file_months(self._filters)
        positions, known = find_positions(self._item_ids, ids)
        numbers = {value: number for number, value in enumerate(dates.values)}
        codes = [numbers.setdefault(month, len(numbers)) for month in months]
        return Column(
            np.concatenate([dates.owners, positions[known]]),
            np.concatenate([dates.codes, np.array(codes, np.int64)[known]]),
            list(numbers),
            repeats=True,
        )

    def _folders(self) -> Column:
        """Return the folders of the first level at which the files of the pictures differ.

        Below the folder of a filter, these are its subfolders.
        """
        column = self._values.column("folder")
        _, codes = self._rows(column)
        given = given_folder(self._filters)
        parent = () if given is None else tuple(fold_path(given).split("/"))
        names = {
            code: os.fsdecode(column.values[code]).split("/") if column.values[code] else []
            for code in np.unique(codes).tolist()
        }
        folded = {code: tuple(map(fold_path, parts)) for code, parts in names.items()}
        below = {
            code: parts
            for code, parts in folded.items()
            if parts[: len(parent)] == parent and "" not in parts
        }
        depth = len(parent)
        # A level with one folder gives no choice: go on to the next one.
        while (
            below
            and all(len(parts) > depth for parts in below.values())
            and len({parts[depth] for parts in below.values()}) == 1
            and any(len(parts) > depth + 1 for parts in below.values())
        ):
            depth += 1
        # Names that differ in case are one folder; the order in which rows are read is no rule.
        merged: dict[tuple[str, ...], str] = {}
        for code, parts in below.items():
            if len(parts) > depth:
                written = "/".join(names[code][: depth + 1])
                known = merged.setdefault(parts[: depth + 1], written)
                merged[parts[: depth + 1]] = min(known, written)
        labels = [
            merged.get(below.get(code, ())[: depth + 1]) for code in range(len(column.values))
        ]
        by_code = dict(enumerate(labels))
        numbered = replace(column, values=range(len(labels)), repeats=True)
        return numbered.regroup(by_code.get)

    def _name(self, field: str, raw: Any) -> tuple[str, str]:
        """Return the value and the label of a value of a column."""
        if field in _TAG_KINDS:
            name = self._written(_TAG_KINDS[field], raw)
            return name, name
        if field == "rating":
            stars = "1 star" if raw == 1 else f"{raw} stars" if raw >= 0 else "rejected"
            return str(raw), stars
        if field == "folder":
            return (raw if is_storable(raw) else display_path(raw)), display_path(raw)
        return str(raw), str(raw)

    def _written(self, kind: str, tag: str) -> str:
        """Return a value of a text as it is written in one of the texts, not folded."""
        text = self._values.spelling(kind, tag) or ""
        names = [name.strip() for name in text.split(";")]
        return next((name for name in names if fold_text(name) == tag), tag)

    # --- counting ---

    def _rows(self, column: Column) -> tuple[Codes, Codes]:
        """Return the content and the code of each row with a value that counts."""
        has_owner = self._has_content if column.by_content else self._has_item
        counts = has_owner[column.owners] & (column.codes >= 0)
        owners = column.owners[counts]
        contents = owners if column.by_content else self._content_of[owners]
        return contents, column.codes[counts]

    def _count_units(self, contents: Codes) -> int:
        is_counted = np.zeros(self._units.count, np.bool_)
        is_counted[self._units.of_content[contents]] = True
        return int(np.count_nonzero(is_counted))

    def _count_values(self, column: Column, contents: Codes, codes: Codes) -> Codes:
        """Return the number of units with each value of a column, int64 (values,)."""
        units = self._units.of_content[contents]
        if column.repeats:
            owners = np.bincount(units, minlength=self._units.count)
        else:
            owners = self._units.contents if column.by_content else self._units.items
        several = owners[units] > 1
        counts = np.bincount(codes[~several], minlength=len(column.values))
        # A unit counts once for a value that several of its contents or items have.
        pairs = np.unique(codes[several] * self._units.count + units[several])
        if len(pairs):
            counts += np.bincount(pairs // self._units.count, minlength=len(column.values))
        return counts


def _merge_spellings(column: Column) -> Column:
    """Return a column whose values that differ in case only are one."""
    first: dict[str, str] = {}
    for value in column.values:
        first.setdefault(fold_text(value), value)
    return column.regroup(lambda value: first[fold_text(value)])
