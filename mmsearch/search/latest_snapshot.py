"""Opening of files of the latest generation while a writer may replace it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mmsearch.core.catalog import Reader, Snapshot
from mmsearch.core.compatibility import check_encoder
from mmsearch.core.errors import DamagedFileError
from mmsearch.core.protocols import Encoder

Resource = TypeVar("Resource")

MAX_ATTEMPTS = 5
"""Maximum number of attempts: a writer may replace the generation while it is being opened."""


@contextmanager
def open_latest_snapshot(
    catalog: Reader, encoder: Encoder, open_resource: Callable[[Snapshot], Resource]
) -> Iterator[tuple[Snapshot, Resource]]:
    """Yield a snapshot of the latest generation and the resource opened from its files.

    Args:
        catalog: Catalog, open for reading.
        encoder: Encoder that the vectors of the index must come from.
        open_resource: Opens files of the given snapshot.

    Raises:
        EncoderMismatchError: The vectors come from a different encoder.
        DamagedFileError: A file does not match the catalog.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        with catalog.snapshot() as snapshot:
            if snapshot.identity is not None:
                check_encoder(snapshot.identity, encoder)
            try:
                resource = open_resource(snapshot)
            except DamagedFileError as error:
                # A writer may have replaced the file after the snapshot was taken.
                if attempt == MAX_ATTEMPTS or not error.details.get("missing"):
                    raise
                continue
            yield snapshot, resource
            return
