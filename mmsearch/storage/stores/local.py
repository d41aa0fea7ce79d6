"""Store of immutable files in a folder."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.files import create_folder
from mmsearch.storage.atomic import (
    REPAIR_HINT,
    TEMPORARY_SUFFIX,
    AtomicFile,
    atomic_file,
    open_index_file,
)


class LocalStore:
    """The files of a folder, as a `Store`: temporary name, sync, rename, sync of the folder.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def temporary_folder(self) -> Path:
        """The folder itself, so that temporary files are on the same disk."""
        return self._folder

    def put(self, name: str) -> AbstractContextManager[AtomicFile]:
        """Write a file durably; folders in the name are created."""
        path = self._path(name)
        if not path.parent.is_dir():
            create_folder(path.parent, inherit_permissions=True)
        return atomic_file(path, name)

    def get(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            DamagedFileError: There is no such file, or it is a link.
        """
        path = self._path(name)
        try:
            return open_index_file(path)
        except FileNotFoundError:
            raise DamagedFileError(f"{path} is missing.", REPAIR_HINT, missing=True) from None

    def list(self) -> dict[str, int]:
        """Return the sizes of the files by name, without temporary files and links."""
        found = {}
        for folder, _, names in os.walk(self._folder):
            for file_name in names:
                path = Path(folder) / file_name
                if not file_name.endswith(TEMPORARY_SUFFIX) and not path.is_symlink():
                    found[path.relative_to(self._folder).as_posix()] = path.stat().st_size
        return found

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / check_name(name)


def check_name(name: str) -> str:
    """Return the name of a file; ValueError if it may lead out of its store."""
    if "\0" in name or "\\" in name or {"", ".", ".."} & set(name.split("/")):
        raise ValueError(f"{name!r} is not the name of a file in a store")
    return name
