"""Opening of the latest generation of an index while a writer may replace it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from mmsearch.core.errors import DamagedFileError

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot, SnapshotReader

Resource = TypeVar("Resource")

MAX_ATTEMPTS = 5
"""Maximum number of attempts: a writer may replace the generation while it is being opened."""


@contextmanager
def open_latest_snapshot(
    catalog: SnapshotReader, open_resource: Callable[[Snapshot], Resource]
) -> Iterator[tuple[Snapshot, Resource]]:
    """Yield a snapshot of the latest generation and the resource opened from its files.

    Args:
        catalog: Catalog, open for reading.
        open_resource: Opens files of the given snapshot.

    Raises:
        DamagedFileError: A file does not match the catalog.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        with catalog.snapshot() as snapshot:
            try:
                resource = open_resource(snapshot)
            except DamagedFileError as error:
                # A writer may have replaced the file after the snapshot was taken.
                if attempt == MAX_ATTEMPTS or not error.details.get("missing"):
                    raise
                continue
            yield snapshot, resource
            return
