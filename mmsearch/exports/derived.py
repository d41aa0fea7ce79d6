"""Texts that models made, in an export: a file beside the vectors, as an index keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from mmsearch.core.derived import DerivedTexts
from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.core.types import DERIVED_SOURCES, TextSource
from mmsearch.exports.manifest import synced_file
from mmsearch.storage.derived import pack_derived, unpack_derived

NAME = "derived.jsonl.gz"


def write_texts(folder: Path, contents: Iterable[DerivedTexts]) -> None:
    """Write the texts; without any, no file."""
    rows = iter(contents)
    first = next(rows, None)
    if first is not None:
        with synced_file(folder / NAME) as file:
            pack_derived(chain([first], rows), file.write)


def read_texts(folder: Path) -> Iterator[DerivedTexts]:
    """Yield the texts of an export, each with the name and the fingerprint of its enricher.

    Raises:
        SourceError: The file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            for made in unpack_derived(file):
                yield _signed(made)
    except ValueError as error:
        raise SourceError(
            f"{display_path(path)} is damaged: {display_path(str(error)[:200])}.",
            "Copy the folder of the export again, or export the index again.",
        ) from error


def _signed(made: DerivedTexts) -> DerivedTexts:
    """Return texts whose source and maker are those of their content.

    Raises:
        ValueError: There is no such enricher.
    """
    texts = {
        part: tuple(
            replace(text, source=TextSource(made.enricher), made_by=made.made_by) for text in own
        )
        for part, own in made.texts.items()
    }
    if made.enricher not in set(DERIVED_SOURCES):
        raise ValueError(f"unknown enricher {made.enricher!r}")
    return replace(made, texts=texts)
