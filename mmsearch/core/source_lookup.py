"""Lookup of sources by their attributes, and the choice of those that a run refreshes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from mmsearch.core.errors import Hint, UnknownNameError, UsageError
from mmsearch.core.records import RECORDS_KIND, SourceRecord

Record = TypeVar("Record", bound=SourceRecord)


def find_source(
    sources: Iterable[Record],
    *,
    source_id: int | None = None,
    name: str | None = None,
    uri: bytes | None = None,
    kind: str | None = None,
) -> Record | None:
    """Return the first source that has all attributes that are given; None without one."""
    for source in sources:
        if (
            source_id in (None, source.id)
            and name in (None, source.name)
            and uri in (None, source.uri)
            and kind in (None, source.kind)
        ):
            return source
    return None


def find_named_source(sources: Sequence[Record], name: str) -> Record:
    """Return the source with a name.

    Raises:
        UnknownNameError: There is no such source.
    """
    source = find_source(sources, name=name)
    if source is None:
        known = ", ".join(each.name for each in sources) or "none"
        raise UnknownNameError(f"There is no source named {name!r}.", f"Known: {known}.")
    return source


def choose_sources(known: Sequence[Record], names: Sequence[str] = ()) -> list[Record]:
    """Return the sources with some names; without names, all that a run can refresh.

    Raises:
        UnknownNameError: There is no source with one of the names.
        UsageError: There is no source, or a program added its pictures.
    """
    if not names:
        refreshed = [source for source in known if source.kind != RECORDS_KIND]
        if not refreshed:
            raise UsageError(
                "The index has no source to refresh.",
                Hint(
                    "Index a folder first: {}", "index.add_folder(FOLDER)", "mmsearch index FOLDER"
                ),
            )
        return refreshed
    chosen = [find_named_source(known, name) for name in names]
    for source in chosen:
        if source.kind == RECORDS_KIND:
            raise UsageError(
                f"{source.name!r} are pictures that a program added.",
                "Add them again with Index.add.",
            )
    return chosen
