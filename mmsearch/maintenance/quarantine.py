"""The folder of damaged files of an index."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from mmsearch.core.files import create_folder
from mmsearch.storage.layout import IndexLayout


class Quarantine:
    """Folder for the damaged files of one repair; its files are never deleted.

    Args:
        layout: File layout of the index.

    Attributes:
        files: Quarantined files.
    """

    def __init__(self, layout: IndexLayout) -> None:
        timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        self._folder = layout.damaged / timestamp
        self.files: list[Path] = []

    def copy(self, path: Path) -> None:
        """Copy a file into quarantine."""
        self._create_folder()
        self.files.append(Path(shutil.copy2(path, self._folder)))

    def _create_folder(self) -> None:
        create_folder(self._folder.parent, inherit_permissions=True)
        create_folder(self._folder, inherit_permissions=True)

    def move(self, path: Path) -> None:
        """Move a file into quarantine, if it exists."""
        if os.path.lexists(path):
            self._create_folder()
            self.files.append(path.rename(self._folder / path.name))
