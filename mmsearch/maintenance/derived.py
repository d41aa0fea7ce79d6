"""Derived texts: checks of their files, the repair of a lost catalog, and imports."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.catalog_maintenance import CatalogMaintenance
from mmsearch.core.derived import DerivedFile
from mmsearch.core.errors import DamagedFileError
from mmsearch.exports.derived import read_texts
from mmsearch.indexing.enrich import commit_derived, limit_derived_files
from mmsearch.storage.atomic import TEMPORARY_SUFFIX, make_file_ref
from mmsearch.storage.derived import read_derived, recover_derived
from mmsearch.storage.layout import IndexLayout, segment_number

IMPORT_PAGE_SIZE = 8192
"""Number of contents whose texts an import commits at a time."""


def iter_derived_problems(
    layout: IndexLayout, catalog: CatalogReader
) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield the name of each file of derived texts, with an iterator of what is wrong with it."""
    for file in catalog.derived.files():
        yield file.file_ref.name, _find_problems(layout, file)


def _find_problems(layout: IndexLayout, file: DerivedFile) -> Iterator[str]:
    rows = sum(1 for _ in read_derived(layout, file.file_ref))
    if rows != file.rows:
        yield f"It holds {rows:,} contents, but the catalog lists {file.rows:,}."


def restore_derived(layout: IndexLayout, catalog: CatalogMaintenance) -> list[Path]:
    """Fill a new catalog from the files of derived texts; return those that are damaged."""
    damaged: list[Path] = []
    paths = [
        path
        for name, path in layout.files()
        if name.startswith("derived/") and path.suffix != TEMPORARY_SUFFIX
    ]
    for path in sorted(paths, key=lambda path: (segment_number(path), path.stat().st_mtime_ns)):
        try:
            contents = list(recover_derived(layout, f"derived/{path.name}"))
        except DamagedFileError:
            damaged.append(path)
            continue
        file_ref = make_file_ref(path, path.read_bytes())
        catalog.derived.restore(
            DerivedFile(segment_number(path), file_ref, len(contents)), contents
        )
    return damaged


def restore_texts(layout: IndexLayout, catalog: CatalogMaintenance) -> None:
    """Add what recorded files say of contents of which the catalog knows nothing from an enricher.

    Contents without pixels are in no segment, so a lost catalog gets them again, with their texts,
    when their sources are read again.
    """
    known: dict[bytes, set[str]] = {}
    for file in catalog.derived.files():
        contents = list(read_derived(layout, file.file_ref))
        new = {made.digest for made in contents}.difference(known)
        known |= {digest: set() for digest in new} | catalog.derived.find_enrichers(new)
        missing = [made for made in contents if made.enricher not in known[made.digest]]
        if missing:
            catalog.derived.restore(None, missing)


def import_texts(layout: IndexLayout, catalog: CatalogWriter, folder: Path) -> None:
    """Add the derived texts of an export; the index keeps what an enricher has made here.

    Raises:
        SourceError: The file of the texts is damaged.
    """
    exported = read_texts(folder)
    while page := list(islice(exported, IMPORT_PAGE_SIZE)):
        known = catalog.derived.find_enrichers({made.digest for made in page})
        new = [
            made
            for made in page
            if made.digest in known and made.enricher not in known[made.digest]
        ]
        commit_derived(layout, catalog, new)
    limit_derived_files(layout, catalog)
