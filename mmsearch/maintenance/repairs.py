"""Mending: what is derived is made again, what is damaged is put aside, what is lost encoded."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mmsearch.core.catalog import Catalog
from mmsearch.core.display import display_path
from mmsearch.core.errors import DamagedFileError, InspectionError
from mmsearch.core.files import create_folder
from mmsearch.core.io_errors import sentence_of
from mmsearch.core.protocols import Fusion
from mmsearch.core.records import FailedFile, Identity, Segment, StoredPicture
from mmsearch.core.types import EncoderSpec
from mmsearch.indexing.build import IndexBuilder, is_due
from mmsearch.indexing.encode import PAGE
from mmsearch.maintenance.checks import check_sources
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segment_metadata import SegmentFacts
from mmsearch.storage.segments import recognise_segment


@dataclass(frozen=True)
class SegmentSurvey:
    """What the files of segments say of themselves.

    Attributes:
        encoders: Of all segments, the one with the most vectors first. There are two while a
            change of the encoder is not finished.
        damaged: Files that are proved to be damaged.
    """

    encoders: tuple[EncoderSpec, ...]
    damaged: tuple[Path, ...]


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
        self._create_folder()
        self.files.append(Path(shutil.copy2(path, self._folder)))

    def _create_folder(self) -> None:
        create_folder(self._folder.parent, shared_as_parent=True)
        create_folder(self._folder, shared_as_parent=True)

    def take(self, path: Path) -> None:
        """Move a file there, if it exists."""
        if os.path.lexists(path):
            self._create_folder()
            self.files.append(path.rename(self._folder / path.name))


def survey_segments(layout: IndexLayout) -> SegmentSurvey:
    """Read every file of segments/, of which no catalog says anything; nothing is changed.

    Raises:
        InspectionError: A file cannot be read for another reason than damage.
    """
    rows: Counter[str] = Counter()
    specs: dict[str, EncoderSpec] = {}
    damaged: list[Path] = []
    for path in _segment_files(layout):
        try:
            segment, facts = _recognise(path)
        except DamagedFileError:
            damaged.append(path)
            continue
        specs[facts.encoder.fingerprint] = facts.encoder
        rows[facts.encoder.fingerprint] += segment.rows
    ordered = [specs[fingerprint] for fingerprint, _ in rows.most_common()]
    return SegmentSurvey(tuple(ordered), tuple(damaged))


def restore_segments(
    layout: IndexLayout, catalog: Catalog, encoder: EncoderSpec, staged: Container[int]
) -> tuple[int, list[Path]]:
    """Fill an empty catalog from the segments of an encoder.

    Args:
        layout: The index.
        catalog: Of the new catalog.
        encoder: Of the index.
        staged: Numbers of segments that wait to take the place of all others.

    Returns:
        How many vectors were recovered, and the files of another encoder.
    """
    recovered = 0
    other: list[Path] = []
    for path in _segment_files(layout):
        with suppress(DamagedFileError):
            segment, facts = _recognise(path)
            if segment.number in staged:
                catalog.stage(segment, facts.encoder, facts.pictures)
            elif facts.encoder.fingerprint != encoder.fingerprint:
                other.append(path)
            else:
                catalog.restore_segment(segment, facts.pictures)
                recovered += segment.rows
    return recovered, other


def _segment_files(layout: IndexLayout) -> list[Path]:
    return [path for name, path in layout.files() if name.startswith("segments/")]


def _recognise(path: Path) -> tuple[Segment, SegmentFacts]:
    try:
        return recognise_segment(path)
    except (OSError, MemoryError) as error:
        sentence, hint = sentence_of(error)
        raise InspectionError(
            f"{display_path(path)} could not be read. {sentence}", f"Nothing was changed. {hint}"
        ) from error


def roots_in_doubt(catalog: Catalog) -> list[int]:
    """Return the ids of the roots that have files which are not as the catalog says.

    A folder that is not there says nothing of its files.
    """
    return [
        root.id
        for root in catalog.roots()
        if os.path.isdir(root.path)  # noqa: PTH112 - bytes paths need os.path
        and next(check_sources(catalog, only=root.id), None) is not None
    ]


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


def build_again(
    catalog: Catalog, builder: IndexBuilder, fusion: Fusion, identity: Identity
) -> None:
    """Build the vector index of all segments if it is missing or lags far behind."""
    with catalog.snapshot() as snapshot:
        held = snapshot.built.rows if snapshot.built else 0
        added = sum(segment.rows for segment in snapshot.tail)
    if is_due(held, added):
        catalog.publish(builder.build(catalog.segments(), fusion, identity, catalog.superseded()))
