"""Formats of exports by name, with the protocol of their modules."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from mmsearch.core.errors import MissingExtraError, UsageError
from mmsearch.exports.manifest import Manifest
from mmsearch.exports.pictures import ExportBatch, ItemPart

FORMATS = ("parquet", "npy", "clip-retrieval")
PART_FORMATS = ("parquet", "npy")
"""Formats that hold contents of several items: their rows are not one picture each."""

_ARROW_FORMATS = ("parquet", "clip-retrieval")


class ExportReader(Protocol):
    """Reader of the pictures of an export, in their order.

    Attributes:
        dim: Dimension of the vectors.
        pictures: Number of pictures.
    """

    dim: int
    pictures: int

    def iter_batches(self) -> Iterator[ExportBatch]:
        """Yield all pictures with their vectors.

        The vectors of other programs may have any norm, and such pictures have no digest.

        Raises:
            SourceError: A file is damaged, or contradicts another one.
        """

    def iter_parts(self) -> Iterator[ItemPart]:
        """Yield where each item is in its content; nothing if all are still pictures."""

    def iter_paths(self) -> Iterator[bytes]:
        """Yield the path of each picture of another program's export."""


class ExportFormat(Protocol):
    """Interface of the module of a format."""

    def open_writer(
        self, folder: Path, manifest: Manifest
    ) -> AbstractContextManager[Callable[[ExportBatch], None]]:
        """Open a function that writes a batch; the files are on the disk when the block ends."""

    def open_reader(self, folder: Path, manifest: Manifest | None) -> ExportReader:
        """Open an export; ``manifest`` is None if another program wrote it.

        Raises:
            SourceError: The folder has no such export.
        """


def check_format(name: str) -> None:
    """Check that a format exists and that its libraries are installed.

    Raises:
        UsageError: There is no such format.
        MissingExtraError: pyarrow is not installed.
    """
    if name not in FORMATS:
        raise UsageError(
            f"Unknown format {name!r}.", f"Use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
        )
    if name in _ARROW_FORMATS and importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError.for_extra(f"The format {name}", "pyarrow", "parquet")


def load_format(name: str) -> ExportFormat:
    """Return the module of a format that `check_format` accepts."""
    module: ExportFormat = importlib.import_module(f"mmsearch.exports.{name.replace('-', '_')}")
    return module
