"""Checks and repair of the files of an index that are in a store."""

from __future__ import annotations

from collections.abc import Iterator

from mmsearch.core.catalog import CatalogReader
from mmsearch.core.errors import MMSearchError
from mmsearch.maintenance.backup import list_files
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stored_files import (
    check_owner,
    drop_damaged_copies,
    restore_stored,
    verify_stored,
)


def iter_stored_problems(
    layout: IndexLayout, catalog: CatalogReader
) -> Iterator[tuple[str, MMSearchError]]:
    """Yield the name of each file that the store lacks or has damaged, with the error.

    Every file of the store is read. Damaged copies in the folder are dropped; they are fetched
    again. Without a store, nothing is yielded.
    """
    if not layout.has_places():
        return
    file_refs, _ = list_files(catalog)
    drop_damaged_copies(layout, file_refs)
    for file_ref in file_refs:
        try:
            verify_stored(layout, file_ref)
        except MMSearchError as error:
            yield file_ref.name, error


def repair_stored(layout: IndexLayout, catalog: CatalogReader, *, is_rebuilt: bool) -> list[str]:
    """Send files to the store again that it lacks or has damaged, if the folder has them.

    Damaged copies in the folder are dropped; they are fetched again.

    Args:
        layout: The index.
        catalog: Its catalog.
        is_rebuilt: The catalog was rebuilt from the files of the store.

    Returns:
        A sentence for each file that was sent.

    Raises:
        StateError: The store is newer than the catalog, or belongs to another index.
    """
    if not layout.has_places():
        return []
    if not is_rebuilt:
        with catalog.snapshot() as snapshot:
            check_owner(layout, snapshot.generation)
    file_refs, _ = list_files(catalog)
    drop_damaged_copies(layout, file_refs)
    return [
        f"The store lacked {file_ref.name}, or had a damaged one; it has been sent again."
        for file_ref in file_refs
        if restore_stored(layout, file_ref)
    ]
