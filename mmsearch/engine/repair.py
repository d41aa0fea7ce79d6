"""Mending: what is derived is made again, what is damaged is put aside, what is lost encoded."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from mmsearch.core.catalog import Catalog
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.layout import IndexLayout
from mmsearch.core.records import FailedFile, Segment, StoredPicture
from mmsearch.core.segment_facts import SegmentFacts
from mmsearch.core.segments import recognise_segment
from mmsearch.core.types import EncoderSpec
from mmsearch.engine.encode_shard import PAGE


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


def commonest_encoder(
    layout: IndexLayout, quarantine: Quarantine, wanted: EncoderSpec | None
) -> EncoderSpec | None:
    """The encoder of an index whose catalog is lost; None if no segment can be read.

    Segments of two encoders are there while a change of the encoder is not finished.

    Args:
        layout: The index.
        quarantine: Takes what cannot be read.
        wanted: What is known of it: preferred if any segment is its.
    """
    rows: Counter[str] = Counter()
    specs: dict[str, EncoderSpec] = {}
    for segment, facts in _recognised(layout, quarantine):
        specs[facts.encoder.fingerprint] = facts.encoder
        rows[facts.encoder.fingerprint] += segment.rows
    if wanted is not None and wanted.fingerprint in specs:
        return wanted
    return specs[rows.most_common(1)[0][0]] if rows else None


def restore_segments(
    layout: IndexLayout, catalog: Catalog, quarantine: Quarantine, encoder: EncoderSpec
) -> int:
    """Fill an empty catalog from the segments of an encoder; the others are put aside.

    Returns:
        How many vectors were recovered.
    """
    recovered = 0
    for segment, facts in _recognised(layout, quarantine):
        if facts.encoder.fingerprint != encoder.fingerprint:
            quarantine.take(layout.path(segment.stamp))
            continue
        catalog.restore_segment(segment, facts.pictures)
        recovered += segment.rows
    return recovered


def _recognised(
    layout: IndexLayout, quarantine: Quarantine
) -> Iterator[tuple[Segment, SegmentFacts]]:
    """The segments that say themselves what they hold, oldest first; others are put aside."""
    for name, path in layout.files():
        if not name.startswith("segments/"):
            continue
        try:
            yield recognise_segment(path)
        except (DamagedFileError, ValueError):
            quarantine.take(path)


def renew_segment(
    catalog: Catalog,
    number: int,
    encode_again: Callable[[Iterable[Sequence[StoredPicture]]], list[FailedFile]],
) -> tuple[list[bytes], list[FailedFile]]:
    """Encode the living pictures of a damaged segment again, then drop it.

    Args:
        catalog: Open for writing.
        number: Of the segment.
        encode_again: Commits new vectors of pages of pictures.

    Returns:
        The pictures that were lost, by path, and those that cannot be encoded now.
    """
    lost = catalog.pictures_of(number)
    failed = encode_again(lost[start : start + PAGE] for start in range(0, len(lost), PAGE))
    catalog.forget_segment(number)
    return [item.path for item in lost], failed
