"""Lookup of stored vectors: a query picture that is in the index is not encoded again."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import Reader, Snapshot
from mmsearch.core.errors import UnknownNameError
from mmsearch.core.files import clamped_mtime_ns
from mmsearch.core.protocols import Encoder
from mmsearch.core.query import Term
from mmsearch.core.records import FileRef, ScannedFile, is_unchanged
from mmsearch.search.index_reader import open_latest_snapshot
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_image_vectors

StoredVectors = dict[Term, NDArray[np.float32]]


class StoredVectorLookup:
    """Finds the stored vectors of pictures in the index. Not thread-safe.

    Args:
        layout: Layout of the index.
        catalog: Catalog, open for reading.
    """

    def __init__(self, layout: IndexLayout, catalog: Reader) -> None:
        self._layout = layout
        self._catalog = catalog
        self._verified: set[FileRef] = set()

    def vectors(self, terms: Sequence[Term], encoder: Encoder) -> StoredVectors:
        """Return a float32 (dim,) vector for each term that names an indexed picture.

        A term names a picture by its id or by the path of its file. The vectors are the encoder's
        image vectors, within the precision of float16. A file is used only if its size and
        modification time are unchanged since it was indexed; other files are left out.

        Args:
            terms: Terms of a query.
            encoder: Encoder of the other terms.

        Raises:
            UnknownNameError: The index has no picture with the id of a term.
            EncoderMismatchError: The stored vectors come from a different encoder.
            DamagedFileError: A segment does not match the catalog.
        """
        image_terms = [term for term in terms if term.text is None and term.url is None]
        if not image_terms:
            return {}
        with open_latest_snapshot(
            self._catalog, encoder, lambda snapshot: self._read_vectors(snapshot, image_terms)
        ) as (_, stored_vectors):
            return stored_vectors

    def _read_vectors(self, snapshot: Snapshot, terms: Sequence[Term]) -> StoredVectors:
        ids = {term: self._find_image_id(snapshot, term) for term in terms}
        known_ids = {term: image_id for term, image_id in ids.items() if image_id is not None}
        segments = snapshot.find_segments(list(known_ids.values()))
        missing = [image_id for image_id in known_ids.values() if image_id not in segments]
        if missing:
            raise UnknownNameError(f"Index {self._layout.name!r} has no picture {missing[0]}.")
        stored_vectors = {}
        for term, image_id in known_ids.items():
            segment = segments[image_id]
            is_verified = segment.file_ref in self._verified
            stored_vectors[term] = read_image_vectors(
                self._layout, segment, [image_id], is_verified=is_verified
            )[0]
            self._verified.add(segment.file_ref)
        return stored_vectors

    @staticmethod
    def _find_image_id(snapshot: Snapshot, term: Term) -> int | None:
        if term.image is None:
            return term.picture
        path = os.path.abspath(os.fsencode(term.image))  # noqa: PTH100 - bytes paths need os.path
        file_record = snapshot.find_file(path)
        if file_record is None or file_record.image_id is None:
            return None
        try:
            stat = os.stat(path)  # noqa: PTH116
        except OSError:
            return None
        scanned_file = ScannedFile(file_record.path, stat.st_size, clamped_mtime_ns(stat))
        return file_record.image_id if is_unchanged(file_record, scanned_file) else None
