"""Protocol of the maintenance of a catalog, beyond the reading and writing of `core.catalog`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.records import EncodedPicture, SalvageResult, Segment


class CatalogMaintenance(CatalogWriter, Protocol):
    """Repairs, and what changes or removes segments and pictures without a run."""

    def vacuum(self) -> None:
        """Release the space of deleted rows."""

    def rebuild_derived(self) -> None:
        """Rebuild the derived data of the catalog: indexes, full-text tables and counts."""

    def restore_segment(
        self, segment: Segment, pictures: Sequence[EncodedPicture], *, building: bool = False
    ) -> None:
        """Add an existing segment whose catalog was lost; ``building``: of the space being built.

        The latter adds no pictures.
        """

    def drop_segment(self, segment_number: int) -> None:
        """Drop a segment and its pictures, whose files count as failed from then on."""

    def drop_built_index(self) -> None:
        """Publish a generation without a built index."""

    def save_unfinished_roots(self, ids: Sequence[int]) -> None:
        """Save the ids of the roots that an unfinished repair still has to scan."""

    def reattach_texts(self) -> None:
        """Move table texts whose files were lost to another file of the same picture."""

    def recover_rows(
        self, damaged: Path, recorded_roots: Mapping[bytes, Mapping[str, Any]]
    ) -> SalvageResult:
        """Copy every readable row of a damaged catalog: roots, files, texts, runs.

        Segments and their pictures must be restored first.

        Raises:
            InspectionError: The catalog cannot be read for a reason other than damage.
        """
