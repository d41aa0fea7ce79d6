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
from mmsearch.core.io_errors import describe_os_error
from mmsearch.core.protocols import Fusion
from mmsearch.core.records import FailedFile, Identity, Segment, StoredPicture
from mmsearch.core.types import EncoderSpec
from mmsearch.indexing.build import IndexBuilder, needs_merge
from mmsearch.indexing.encode import REENCODE_PAGE_SIZE
from mmsearch.maintenance.checks import check_sources
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segment_metadata import SegmentMetadata
from mmsearch.storage.segments import recover_segment


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
        timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        self._folder = layout.damaged / timestamp
        self.files: list[Path] = []

    def copy(self, path: Path) -> None:
        """Keep a copy of a file."""
        self._create_folder()
        self.files.append(Path(shutil.copy2(path, self._folder)))

    def _create_folder(self) -> None:
        create_folder(self._folder.parent, inherit_permissions=True)
        create_folder(self._folder, inherit_permissions=True)

    def move(self, path: Path) -> None:
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
            segment, facts = _recover_segment(path)
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
    foreign: list[Path] = []
    for path in _segment_files(layout):
        with suppress(DamagedFileError):
            segment, facts = _recover_segment(path)
            if segment.number in staged:
                catalog.stage_segment(segment, facts.encoder, facts.pictures)
            elif facts.encoder.fingerprint != encoder.fingerprint:
                foreign.append(path)
            else:
                catalog.restore_segment(segment, facts.pictures)
                recovered += segment.rows
    return recovered, foreign


def _segment_files(layout: IndexLayout) -> list[Path]:
    return [path for name, path in layout.files() if name.startswith("segments/")]


def _recover_segment(path: Path) -> tuple[Segment, SegmentMetadata]:
    try:
        return recover_segment(path)
    except (OSError, MemoryError) as error:
        sentence, hint = describe_os_error(error)
        raise InspectionError(
            f"{display_path(path)} could not be read. {sentence}", f"Nothing was changed. {hint}"
        ) from error


def find_stale_roots(catalog: Catalog) -> list[int]:
    """Return the ids of the roots that have files which are not as the catalog says.

    A folder that is not there says nothing of its files.
    """
    return [
        root.id
        for root in catalog.roots()
        if os.path.isdir(root.path)  # noqa: PTH112 - bytes paths need os.path
        and next(check_sources(catalog, root_id=root.id), None) is not None
    ]


def reencode_segment(
    catalog: Catalog,
    number: int,
    reencode_pages: Callable[[Iterable[Sequence[StoredPicture]]], list[FailedFile]],
) -> tuple[list[bytes], list[FailedFile]]:
    """Encode the living pictures of a damaged segment again, then drop it.

    Args:
        catalog: Open for writing.
        number: Of the segment.
        reencode_pages: Commits new vectors of pages of pictures.

    Returns:
        The pictures that were lost, by path, and those that cannot be encoded now.
    """
    lost = catalog.list_segment_pictures(number)
    failed = reencode_pages(
        lost[start : start + REENCODE_PAGE_SIZE]
        for start in range(0, len(lost), REENCODE_PAGE_SIZE)
    )
    catalog.drop_segment(number)
    return [item.path for item in lost], failed


def rebuild_if_stale(
    catalog: Catalog, builder: IndexBuilder, fusion: Fusion, identity: Identity
) -> None:
    """Build the vector index of all segments if it is missing or lags far behind."""
    with catalog.snapshot() as snapshot:
        built_rows = snapshot.built.rows if snapshot.built else 0
        tail_rows = sum(segment.rows for segment in snapshot.unindexed_segments)
    if needs_merge(built_rows, tail_rows):
        catalog.publish(
            builder.build(catalog.segments(), fusion, identity, catalog.superseded_ids())
        )
