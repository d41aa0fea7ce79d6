"""The small file that stands for a collection on a search server among the files of an index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.records import BuiltVectorIndex, FileRef, Segment
from mmsearch.storage.atomic import atomic_write, verify_file
from mmsearch.storage.layout import IndexLayout


@dataclass(frozen=True)
class Pointer:
    """The collection that a file names.

    Attributes:
        collection: Name of the collection.
        dim: Number of dimensions.
        rows: Number of rows.
        segments: sha256 over those of the segments that it was built from.
    """

    collection: str
    dim: int
    rows: int
    segments: str


def digest_segments(segments: Sequence[Segment]) -> str:
    """Return the sha256 over the sha256 of segments, in hexadecimal digits."""
    digests = "\n".join(segment.file_ref.sha256 for segment in segments)
    return hashlib.sha256(digests.encode()).hexdigest()


def write_pointer(layout: IndexLayout, suffix: str, pointer: Pointer) -> FileRef:
    """Write the file of a collection durably, and return the reference to it.

    Args:
        layout: Files of the index.
        suffix: Suffix of the file: the name of the server's plugin.
        pointer: The collection.
    """
    path = layout.vector_index_path(layout.next_vector_index_number(), suffix)
    return atomic_write(path, json.dumps(asdict(pointer)).encode())


def read_pointer(path: Path, built: BuiltVectorIndex) -> Pointer:
    """Return the collection that a file names.

    Raises:
        DamagedFileError: The file is missing or does not match the catalog.
    """
    verify_file(path, built.file_ref)
    try:
        pointer = Pointer(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DamagedFileError(f"{path} names no collection.") from error
    if pointer.rows != built.rows:
        raise DamagedFileError(
            f"{path} names {pointer.rows} vectors, but the catalog lists {built.rows}."
        )
    return pointer
