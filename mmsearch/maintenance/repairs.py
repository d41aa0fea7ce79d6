"""Repair steps: rebuild derived data, quarantine damaged files, and re-encode lost pictures."""

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
    """Summary of the segment files, read without a catalog.

    Attributes:
        encoders: Encoders of all segments, the one with the most vectors first. There are two while
            a change of the encoder is not finished.
        damaged: Files with proven damage.
    """

    encoders: tuple[EncoderSpec, ...]
    damaged: tuple[Path, ...]


class Quarantine:
    """Folder for the damaged files of one repair; its files are never deleted.

    Args:
        layout: File layout of the index.

    Attributes:
        files: Quarantined files.
    """

    def __init__(self, layout: IndexLayout) -> None:
        timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        self._folder = layout.damaged / timestamp
        self.files: list[Path] = []

    def copy(self, path: Path) -> None:
        """Copy a file into quarantine."""
        self._create_folder()
        self.files.append(Path(shutil.copy2(path, self._folder)))

    def _create_folder(self) -> None:
        create_folder(self._folder.parent, inherit_permissions=True)
        create_folder(self._folder, inherit_permissions=True)

    def move(self, path: Path) -> None:
        """Move a file into quarantine, if it exists."""
        if os.path.lexists(path):
            self._create_folder()
            self.files.append(path.rename(self._folder / path.name))


def survey_segments(layout: IndexLayout) -> SegmentSurvey:
    """Read every file of segments/ without the help of a catalog; nothing is changed.

    Raises:
        InspectionError: A file cannot be read for a reason other than damage.
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
        layout: File layout of the index.
        catalog: The new catalog.
        encoder: Encoder of the index.
        staged: Numbers of the staged segments.

    Returns:
        The number of recovered vectors, and the segment files of other encoders.
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
    """Return the ids of the roots with files that do not match the catalog.

    Roots whose folder does not exist are left out: their files cannot be compared.
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
    """Re-encode the live pictures of a damaged segment, then drop the segment.

    Args:
        catalog: Catalog, open for writing.
        number: Number of the segment.
        reencode_pages: Re-encodes pages of pictures, commits the new vectors, and returns the files
            that could not be read.

    Returns:
        The paths of the segment's live pictures, and the files that could not be read.
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
    """Rebuild the vector index if it is missing, or if too many vectors are missing from it."""
    with catalog.snapshot() as snapshot:
        built_rows = snapshot.built.rows if snapshot.built else 0
        tail_rows = sum(segment.rows for segment in snapshot.unindexed_segments)
    if needs_merge(built_rows, tail_rows):
        catalog.publish(
            builder.build(catalog.segments(), fusion, identity, catalog.superseded_ids())
        )
