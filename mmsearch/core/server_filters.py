"""Filters that search servers evaluate, by the values of fields that they keep with each vector.

A `FilterTree` becomes one `Condition` of few kinds of nodes, whose texts are folded, so that a
server needs little code to translate it. What servers cannot evaluate becomes ids in the catalog.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mmsearch.core.filter_tree import FilterNode, FilterTree, TakenBetween, TakenNear
from mmsearch.core.filters import GeoCircle
from mmsearch.core.query import (
    FILTER_FIELDS,
    LIST_FIELDS,
    MIRRORED_OPERATORS,
    AllOf,
    AnyOf,
    Compare,
    ComparisonOperator,
    Condition,
    Contains,
    FieldName,
    IsMissing,
    Not,
    OneOf,
    Scalar,
    fold_text,
)

_MAX_EXACT_INTEGER = 2**53

FieldKind: TypeAlias = Literal["number", "text", "texts"]

SEARCH_FIELDS: dict[str, FieldKind] = {
    name: "texts" if name in LIST_FIELDS else "text" if kind is str else "number"
    for name, kind in FILTER_FIELDS.items()
}
"""The fields of an item that a collection holds, as `FILTER_FIELDS` names them.

A number is compared as a double; a text is folded (`fold_text`) and ordered by its code points; a
list holds folded texts. Numbers and texts may be missing."""

FieldValue: TypeAlias = float | int | str | tuple[str, ...] | None
"""Value of a field: a number or a text, None if it is missing; a list is sorted, perhaps empty."""


@dataclass(frozen=True)
class ItemFields:
    """The values of the fields of one item.

    Attributes:
        id: Id of the item.
        values: Value by name, for all of `SEARCH_FIELDS`.
    """

    id: int
    values: Mapping[str, FieldValue]

    @property
    def digest(self) -> int:
        """Digest of the values, from 1 to 2 ** 63 - 1: it tells if they have changed.

        0 if a text cannot be kept by every server (it has a NUL or a lone surrogate), so that the
        item counts as changed.
        """
        values = [self.values[name] for name in SEARCH_FIELDS]
        texts = [text for text in values if isinstance(text, str)]
        texts += [text for value in values if isinstance(value, tuple) for text in value]
        if not all(map(is_plain_text, texts)):
            return 0
        digest = hashlib.blake2b(repr(values).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1 or 1


def make_server_condition(tree: FilterTree) -> Condition | None:
    """Return the condition of a tree for a search server; None if it cannot evaluate the tree.

    Every item that passes the tree passes the condition; one in the square around a circle passes,
    too, and callers leave it out by its id. Patterns for paths, metadata of places, dates of files
    and arithmetic cannot be evaluated.

    The nodes are `AllOf`, `AnyOf`, `Not`, `IsMissing`, `Compare` of a field on the left with a
    number or a text on the right, `Contains` of a text field or of ``people`` and ``place``, and
    `OneOf` of numbers or texts. Texts are folded, numbers exact in a double. A comparison with a
    missing value is false, and its negation is true. `OneOf` is true of a list if one of its values
    is among those given, `Contains` if a part of one of its values is the text.
    """
    conditions = []
    for part in tree.parts:
        condition = _make_condition(part)
        if condition is None:
            return None
        conditions.append(condition)
    return AllOf(tuple(conditions))


def is_plain_text(text: str) -> bool:
    """Return True if every server can keep a text: it has neither a NUL nor a lone surrogate."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _make_condition(node: FilterNode) -> Condition | None:  # noqa: PLR0911 - one return per case
    match node:
        case AllOf(parts) | AnyOf(parts):
            made = [condition for part in parts if (condition := _make_condition(part)) is not None]
            return type(node)(tuple(made)) if len(made) == len(parts) else None
        case Not(part):
            made_part = _make_condition(part)
            return None if made_part is None else Not(made_part)
        case TakenBetween(after, before, False):
            bounds: list[tuple[ComparisonOperator, Scalar]] = []
            bounds += [] if after is None else [(">=", after)]
            bounds += [] if before is None else [("<", before)]
            return _compare_all("taken_at", bounds)
        case TakenNear(circle):
            return _near(circle)
        case Compare(FieldName(name), symbol, str() | int() | float() as value):
            return _compare_all(name, [(symbol, value)])
        case Compare(str() | int() | float() as value, symbol, FieldName(name)):
            return _compare_all(name, [(MIRRORED_OPERATORS[symbol], value)])
        case Contains(name, part):
            return _contains(name, part)
        case OneOf(name, values):
            return _one_of(name, values)
        case IsMissing(name) if name in SEARCH_FIELDS:
            return node
        case _:
            return None


def _compare_all(
    name: str, comparisons: list[tuple[ComparisonOperator, Scalar]]
) -> Condition | None:
    if not all(_is_comparable(name, value) for _, value in comparisons):
        return None
    return AllOf(
        tuple(Compare(FieldName(name), symbol, fold_text(value)) for symbol, value in comparisons)
    )


def _near(circle: GeoCircle) -> Condition:
    south, north = circle.latitudes
    latitude = FieldName("latitude")
    return AllOf(
        (
            Compare(latitude, ">=", south),
            Compare(latitude, "<=", north),
            Not(IsMissing("longitude")),
        )
    )


def _contains(name: str, part: str) -> Condition | None:
    if SEARCH_FIELDS.get(name) not in ("text", "texts") or not is_plain_text(part):
        return None
    folded = fold_text(part)
    if name in ("tags", "auto_tags"):
        return OneOf(name, (folded,))
    if name != "place":
        return Contains(name, folded)
    from mmsearch.core.places import other_names  # noqa: PLC0415 - only filters by places need it

    return AnyOf((Contains(name, folded), OneOf(name, tuple(other_names(part)))))


def _one_of(name: str, values: tuple[Scalar, ...]) -> Condition | None:
    if not all(_is_comparable(name, value, lists=True) for value in values):
        return None
    return OneOf(name, tuple(map(fold_text, values)))


def _is_comparable(name: str, value: object, *, lists: bool = False) -> bool:
    """Return True if a field is of the type of a value, which every server can compare."""
    kind = SEARCH_FIELDS.get(name)
    if isinstance(value, str):
        return (kind == "text" or (lists and kind == "texts")) and is_plain_text(value)
    # Doubles hold these integers exactly; NaN compares as false.
    return kind == "number" and isinstance(value, int | float) and abs(value) < _MAX_EXACT_INTEGER
