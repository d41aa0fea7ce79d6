"""The base of writers of a catalog that has one writer: it knows nothing of others beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from sqlalchemy import Connection

from mmsearch.catalog.database import Database
from mmsearch.core.records import EncodedPicture, Segment


class SingleWriter:
    """Base of a writer that is alone; `PostgresMaintenance` overrides all of it."""

    @property
    def is_shared(self) -> bool:
        """False: nobody else writes."""
        return False

    def alone(self) -> AbstractContextManager[bool]:
        """Return a context whose value is True."""
        return nullcontext(True)

    def one_at_a_time(
        self, work: str, on_wait: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def _number_segment(self, db: Database, segment: Segment) -> Segment:
        """Return a segment with its number, beside other writers; here, the one that it has."""
        return segment

    def _flag_texts(
        self, connection: Connection, segment: Segment, pictures: Sequence[EncodedPicture]
    ) -> None:
        """Flag new embeddings whose texts another writer has changed; here, nobody has."""
