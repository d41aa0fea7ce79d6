"""Upkeep of the files of derived texts: checks, and the repair of a lost catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmsearch.core.catalog import CatalogMaintenance, CatalogReader
from mmsearch.core.derived import DerivedFile
from mmsearch.core.errors import DamagedFileError
from mmsearch.storage.atomic import TEMPORARY_SUFFIX, make_file_ref
from mmsearch.storage.derived import read_derived, recover_derived
from mmsearch.storage.layout import IndexLayout, segment_number


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
