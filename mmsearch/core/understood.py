"""Filters that a search reads in the words of a query: dates, places and people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Chip:
    """A filter that was read in words of a query.

    Attributes:
        kind: ``date``, ``place`` or ``person``.
        label: What it means, to display: ``2019``, ``in Portugal``, ``Anna``.
        words: The words, as they are in the query. A search with them in
            `SearchRequest.literal_words` does not read them.
    """

    kind: str
    label: str
    words: str


@dataclass(frozen=True)
class Understood:
    """The filters that a search read in a query, and the text that remains.

    Attributes:
        text: The description without the words that became filters; empty if they are all.
        after: Earliest day, inclusive, such as ``2026-06-01``; None without a bound.
        before: Latest day, exclusive; None without a bound.
        months: Months of any year, from 1; empty for all.
        place: English name of the place; None without a place.
        near: True if the place is one that pictures are near to, not in.
        people: Names of the people, as the library writes them.
        chips: The filters, in the order of their words.
    """

    text: str
    after: str | None = None
    before: str | None = None
    months: tuple[int, ...] = ()
    place: str | None = None
    near: bool = False
    people: tuple[str, ...] = ()
    chips: tuple[Chip, ...] = ()

    @property
    def line(self) -> str:
        """The filters as one line to display."""
        return ", ".join(dict.fromkeys(chip.label for chip in self.chips))

    def to_dict(self) -> dict[str, Any]:
        """Return the members as a JSON object."""
        return vars(self) | {
            "months": list(self.months),
            "people": list(self.people),
            "chips": [dict(vars(chip)) for chip in self.chips],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_dict` returned; members that this version does not know are left out."""
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        return cls(
            **known
            | {
                "months": tuple(values.get("months", ())),
                "people": tuple(values.get("people", ())),
                "chips": tuple(
                    Chip(chip["kind"], chip["label"], chip["words"])
                    for chip in values.get("chips", ())
                ),
            }
        )
