"""Mending: what is derived is made again, what is damaged is put aside, what is lost encoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mmsearch.core.catalog import Catalog
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.layout import IndexLayout
from mmsearch.core.records import FailedFile, StoredPicture
from mmsearch.core.segment_facts import SegmentFacts
from mmsearch.core.segments import recognise_segment
from mmsearch.core.types import EncoderSpec

ENCODED_AT_ONCE = 256


class Quarantine:
    """A folder of its own for each repair; nothing is ever deleted from it.

    Args:
        layout: The index.
    """

    def __init__(self, layout: IndexLayout) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        self._folder = layout.damaged / stamp
        self.files: list[Path] = []

    def copy(self, path: Path) -> None:
        """Keep a copy of a file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.files.append(Path(shutil.copy2(path, self._folder)))

    def take(self, path: Path) -> None:
        """Move a file there, if it exists."""
        if path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            self.files.append(path.rename(self._folder / path.name))


def restore_segments(
    layout: IndexLayout, catalog: Catalog, quarantine: Quarantine, encoder: EncoderSpec
) -> int:
    """Fill an empty catalog from the segments of an encoder; the others are put aside.

    Returns:
        How many vectors were recovered.
    """
    recovered = 0
    for path, facts in recognised(layout, quarantine):
        if facts.encoder.fingerprint != encoder.fingerprint:
            quarantine.take(path)
            continue
        segment, _ = recognise_segment(path)
        catalog.restore_segment(segment, facts.pictures)
        recovered += segment.rows
    return recovered


def recognised(layout: IndexLayout, quarantine: Quarantine) -> Iterator[tuple[Path, SegmentFacts]]:
    """The segments that say themselves what they hold, oldest first; others are put aside."""
    for name, path in layout.files():
        if not name.startswith("segments/"):
            continue
        try:
            _, facts = recognise_segment(path)
        except (DamagedFileError, ValueError):
            quarantine.take(path)
        else:
            yield path, facts


def renew_segment(
    catalog: Catalog,
    number: int,
    encode_again: Callable[[Iterator[Sequence[StoredPicture]]], list[FailedFile]],
) -> tuple[list[bytes], list[FailedFile]]:
    """Encode the living pictures of a damaged segment again, then drop it.

    Args:
        catalog: Open for writing.
        number: Of the segment.
        encode_again: Commits new vectors of pages of pictures.

    Returns:
        The pictures that were lost, by path, and those that cannot be encoded now.
    """
    lost: list[bytes] = []

    def pages() -> Iterator[Sequence[StoredPicture]]:
        page: list[StoredPicture] = []
        for item in catalog.pictures_of(number):
            lost.append(item.path)
            page.append(item)
            if len(page) == ENCODED_AT_ONCE:
                yield page
                page = []
        if page:
            yield page

    failed = encode_again(pages())
    catalog.forget_segment(number)
    return lost, failed
