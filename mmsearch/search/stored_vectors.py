"""Pictures of queries that the index holds: their stored vectors, so that nothing is encoded."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import Reader, Snapshot
from mmsearch.core.errors import UnknownNameError
from mmsearch.core.files import stored_mtime_ns
from mmsearch.core.protocols import Encoder
from mmsearch.core.queries import Term
from mmsearch.core.records import FileStamp, SeenFile, surely_same
from mmsearch.search.latest_snapshot import newest
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_images

Stored = dict[Term, NDArray[np.float32]]


class StoredPictures:
    """Finds the vectors of an index's own pictures. One thread at a time.

    Args:
        layout: The index.
        catalog: Open for reading.
    """

    def __init__(self, layout: IndexLayout, catalog: Reader) -> None:
        self._layout = layout
        self._catalog = catalog
        self._verified: set[FileStamp] = set()

    def vectors(self, terms: Sequence[Term], encoder: Encoder) -> Stored:
        """float32 (dim,) for each term that is a picture of the index: by its id, or a file of it.

        These are image vectors as the encoder made them, within the precision of float16. A file
        counts if size and time say that it still holds what was indexed; others are left out.

        Args:
            terms: Of a query.
            encoder: That the other terms are encoded with.

        Raises:
            UnknownNameError: There is no picture of such an id.
            EncoderMismatchError: The vectors are another encoder's.
            DamagedFileError: A segment is not what the catalog says.
        """
        pictures = [term for term in terms if term.text is None and term.url is None]
        if not pictures:
            return {}
        with newest(self._catalog, encoder, lambda of: self._read(of, pictures)) as (_, stored):
            return stored

    def _read(self, snapshot: Snapshot, terms: Sequence[Term]) -> Stored:
        ids = {term: self._id(snapshot, term) for term in terms}
        found = {term: image_id for term, image_id in ids.items() if image_id is not None}
        segments = snapshot.segments_of(list(found.values()))
        missing = [image_id for image_id in found.values() if image_id not in segments]
        if missing:
            raise UnknownNameError(f"Index {self._layout.name!r} has no picture {missing[0]}.")
        stored = {}
        for term, image_id in found.items():
            segment = segments[image_id]
            verified = segment.stamp in self._verified
            stored[term] = read_images(self._layout, segment, [image_id], verified=verified)[0]
            self._verified.add(segment.stamp)
        return stored

    @staticmethod
    def _id(snapshot: Snapshot, term: Term) -> int | None:
        if term.image is None:
            return term.picture
        path = os.path.abspath(os.fsencode(term.image))  # noqa: PTH100 - bytes paths need os.path
        known = snapshot.file_at(path)
        if known is None or known.image_id is None:
            return None
        try:
            facts = os.stat(path)  # noqa: PTH116
        except OSError:
            return None
        seen = SeenFile(known.path, facts.st_size, stored_mtime_ns(facts))
        return known.image_id if surely_same(known, seen) else None
