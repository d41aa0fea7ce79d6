"""Compaction: the vectors of all pictures are copied to few segments, which replace the others."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.catalog_maintenance import CatalogMaintenance
from mmsearch.core.derived import DerivedReader, DerivedTexts
from mmsearch.core.errors import Hint, StateError
from mmsearch.core.identity import require_identity
from mmsearch.core.protocols import Fusion
from mmsearch.core.records import Segment
from mmsearch.core.reports import CompactReport
from mmsearch.core.results import Progress
from mmsearch.indexing.build import IndexBuilder
from mmsearch.indexing.orphans import remove_unused_files
from mmsearch.indexing.spaces import COPY_PAGE_SIZE, activate_space, copy_page, update_space
from mmsearch.storage.derived import write_derived
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.legacy import LEGACY_SUFFIX
from mmsearch.storage.stored_files import stored_bytes

DERIVED_PAGE_SIZE = 500
"""Number of contents whose derived texts are copied at once."""


def compact(
    layout: IndexLayout,
    catalog: CatalogMaintenance,
    fusion: Fusion,
    builder: IndexBuilder,
    progress: Callable[[Progress], None] = lambda state: None,
) -> CompactReport:
    """Drop the vectors of deleted pictures, merge small segments, and vacuum the catalog.

    Vector files of earlier versions are written again in the present format.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        fusion: The index's fusion.
        builder: Rebuilds the vector index.
        progress: Called often.

    Returns:
        The report of the compaction.

    Raises:
        DamagedFileError: A segment does not match the catalog. The index was not changed.
        StateError: There are no pictures, or a change of the encoder is not finished.
    """
    started_at = time.monotonic()
    identity = require_identity(catalog)
    key = identity.encoder.fingerprint
    if catalog.building_key() not in (None, key):
        raise StateError(
            "A change of the encoder is not finished.",
            Hint(
                "Finish it with {} first.",
                "index.reindex(model=NAME)",
                "'mmsearch reindex --model NAME'",
            ),
        )
    segments_before, bytes_before = catalog.segments(), stored_bytes(layout)
    remove_unused_files(layout, catalog)
    with catalog.snapshot() as snapshot:
        num_live = snapshot.items_with_pixels
    num_deleted = sum(segment.rows for segment in segments_before) - num_live
    has_legacy = any(name.endswith(LEGACY_SUFFIX) for name in catalog.referenced_files())
    if num_deleted or has_legacy or _has_mergeable_neighbors(segments_before):
        catalog.begin_space(key)
        done = sum(segment.rows for segment in catalog.list_building_segments())

        def on_page(count: int) -> None:
            nonlocal done
            done += count
            progress(Progress("merge", done, num_live))

        copy = copy_page(layout, catalog, identity.encoder)
        update_space(catalog, copy, COPY_PAGE_SIZE, building=True, on_page=on_page)
        progress(Progress("build", 0, None))
        activate_space(layout, catalog, fusion, builder, identity, {})
    merge_derived(layout, catalog)
    _remove_old_pictures(layout.thumbnails, catalog)
    _remove_old_pictures(layout.originals, catalog)
    # It refers to segments that are gone.
    layout.format1_catalog.unlink(missing_ok=True)
    catalog.vacuum()
    return CompactReport(
        num_deleted,
        len(segments_before),
        len(catalog.segments()),
        bytes_before,
        stored_bytes(layout),
        time.monotonic() - started_at,
    )


def merge_derived(layout: IndexLayout, catalog: CatalogWriter) -> None:
    """Write all derived texts of the catalog to one file, which replaces the others."""
    derived = catalog.derived
    if not derived.files():
        return
    file = write_derived(layout, derived.next_number(), iter_derived(derived))
    derived.replace_files(file if file.rows else None)
    remove_unused_files(layout, catalog)


def remove_derived(layout: IndexLayout, catalog: CatalogWriter, enricher: str) -> int:
    """Remove all that an enricher has made, also from the files; return the number of contents."""
    derived = catalog.derived
    others = (one for one in iter_derived(derived) if one.enricher != enricher)
    file = write_derived(layout, derived.next_number(), others)
    count = derived.remove(enricher, file if file.rows else None)
    # A repair would read texts again from a file that is left.
    remove_unused_files(layout, catalog)
    return count


def iter_derived(derived: DerivedReader, *, only_live: bool = False) -> Iterator[DerivedTexts]:
    """Yield what was made of all contents, or of the searchable ones, in the order of their ids."""
    texts, last_id = derived.list_texts(0, DERIVED_PAGE_SIZE, only_live=only_live)
    while texts:
        yield from texts
        texts, last_id = derived.list_texts(last_id, DERIVED_PAGE_SIZE, only_live=only_live)


def _remove_old_pictures(pictures: Path, catalog: CatalogMaintenance) -> None:
    """Delete the thumbnails or originals of contents that the index no longer has."""
    for folder in pictures.iterdir() if pictures.is_dir() else ():
        paths: dict[bytes, list[Path]] = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            with suppress(ValueError):
                # Thumbnails of moments and pages have their part after the digest.
                digest = bytes.fromhex(re.split("[-.]", path.name, maxsplit=1)[0])
                paths.setdefault(digest, []).append(path)
        known = catalog.find_item_ids(list(paths))
        for digest in paths.keys() - known.keys():
            for path in paths[digest]:
                path.unlink(missing_ok=True)


def _has_mergeable_neighbors(segments: Sequence[Segment]) -> bool:
    """Return True if any two adjacent segments would fit into one."""
    return any(left.rows + right.rows <= COPY_PAGE_SIZE for left, right in pairwise(segments))
