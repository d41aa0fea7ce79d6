"""Reader of the .npz files that earlier versions wrote as segments and exact indexes.

A compaction replaces them with files of `mmsearch.storage.arrays`.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError
from mmsearch.storage.arrays import FORMAT_ERRORS, ChecksummedArrays
from mmsearch.storage.atomic import REPAIR_HINT

LEGACY_SUFFIX = ".npz"


class NpzArrays:
    """The arrays of a .npz file, with the reading methods of `ChecksummedArrays`.

    Args:
        path: The file.
        content: Its content.

    Raises:
        DamagedFileError: The content is not an archive, or does not match its CRC-32 checksums.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        import zipfile  # noqa: PLC0415 - only old files need it

        self._path = path
        try:
            # A damaged header of an array could exhaust the memory, so the CRCs come first.
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"{damaged} does not match its checksum")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                self._arrays = dict(arrays)
        except (*FORMAT_ERRORS, EOFError, struct.error, zipfile.BadZipFile, zlib.error) as error:
            raise DamagedFileError(f"{path} is not a vector file: {error}.", REPAIR_HINT) from error

    def __contains__(self, name: str) -> bool:
        """Return True if an array of that name exists."""
        return name in self._arrays

    def array(self, name: str) -> NDArray[Any]:
        """Return an array.

        Raises:
            DamagedFileError: The array does not exist.
        """
        if name not in self._arrays:
            raise DamagedFileError(f"{self._path} has no array {name!r}.", REPAIR_HINT)
        values: NDArray[Any] = self._arrays[name]
        return values

    array_unverified = array

    def verify_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        """Do nothing: the whole file was verified when it was opened."""


def open_arrays(path: Path, content: bytes) -> ChecksummedArrays | NpzArrays:
    """Open the content of a vector file of this version or of an earlier one.

    Raises:
        DamagedFileError: The content is not a vector file.
    """
    if path.suffix == LEGACY_SUFFIX:
        return NpzArrays(path, content)
    return ChecksummedArrays(path, np.frombuffer(content, dtype=np.uint8))
