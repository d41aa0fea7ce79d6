"""What belongs to the newest generation, while a writer may make another."""

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
"""So often the newest generation is looked for: a writer may replace one while it is opened."""


@contextmanager
def open_latest_snapshot(
    catalog: Reader, encoder: Encoder, open_resource: Callable[[Snapshot], Resource]
) -> Iterator[tuple[Snapshot, Resource]]:
    """The newest generation, held still, and what was opened of its files.

    Args:
        catalog: Open for reading.
        encoder: What is opened must be its vectors.
        open_resource: Opens files that belong to a generation.

    Raises:
        EncoderMismatchError: The vectors are another encoder's.
        DamagedFileError: A file is not what the catalog says.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        with catalog.snapshot() as snapshot:
            if snapshot.identity is not None:
                check_encoder(snapshot.identity, encoder)
            try:
                resource = open_resource(snapshot)
            except DamagedFileError as error:
                # A writer may have replaced the file between the two steps.
                if attempt == MAX_ATTEMPTS or not error.details.get("missing"):
                    raise
                continue
            yield snapshot, resource
            return
