"""Removal of files that the catalog does not use, beside other runs."""

from __future__ import annotations

from mmsearch.core.catalog import CatalogWriter
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stored_files import remove_orphans


def remove_unused_files(layout: IndexLayout, catalog: CatalogWriter) -> None:
    """Delete the files that the catalog does not use, unless another run is active.

    Files that a run has not committed yet look the same. The next run that begins alone deletes
    what is left.
    """
    with catalog.alone() as is_alone:
        if is_alone:
            remove_orphans(layout, catalog.referenced_files())
