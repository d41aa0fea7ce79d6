"""The small file that stands for a collection on a search server among the files of an index."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmsearch.core.errors import DamagedFileError, Hint
from mmsearch.core.records import BuiltVectorIndex, FileRef, Segment
from mmsearch.storage.atomic import REPAIR_HINT, atomic_write, verify_file
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stored_files import send_file

REBUILD_HINT = Hint(
    "{} to build it again from the files of the index.",
    "Call index.repair()",
    "Run 'mmsearch repair'",
)
"""Hint of errors about a collection that is missing."""

_KINDS = {"collection": str, "dim": int, "rows": int, "segments": str}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


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
    path = layout.new_vector_index_path(suffix)
    file_ref = atomic_write(path, json.dumps(asdict(pointer)).encode())
    send_file(layout, file_ref.name)
    return file_ref


def read_pointer(path: Path, built: BuiltVectorIndex) -> Pointer:
    """Return the collection that a file names.

    Raises:
        DamagedFileError: The file is missing or does not match the catalog.
    """
    verify_file(path, built.file_ref)
    error = DamagedFileError(f"{path} names no collection.", REPAIR_HINT)
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise error from None
    kinds = {key: type(value) for key, value in values.items()} if type(values) is dict else {}
    if kinds != _KINDS or not _NAME.fullmatch(values["collection"]) or values["dim"] < 1:
        raise error
    pointer = Pointer(**values)
    if pointer.rows != built.rows:
        raise DamagedFileError(
            f"{path} names {pointer.rows} vectors, but the catalog lists {built.rows}."
        )
    return pointer
