"""The name of every file of an index.

::

    <home>/<name>/
      catalog.sqlite        metadata, and which files count
      catalog.seal          the catalog's checksum while nobody writes
      segments/000001.npz   immutable vectors
      ann/000001.faiss      a vector index built from segments; derived
      damaged/              what a repair has put aside
      lock, lock.holder     one writer at a time
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mmsearch.core.errors import UsageError
from mmsearch.core.faults import FaultPoint, reach
from mmsearch.core.records import FileStamp

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CATALOG = "catalog.sqlite"


@dataclass(frozen=True)
class IndexLayout:
    """Where the files of one index are.

    Attributes:
        folder: The index's own folder.
    """

    folder: Path

    @classmethod
    def of(cls, home: Path, name: str) -> IndexLayout:
        """The layout of an index by name.

        Raises:
            UsageError: The name cannot be a folder's name.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be the name of an index.",
                "Use letters, digits, '.', '_' and '-', beginning with a letter or a digit.",
            )
        return cls(home / name)

    @property
    def name(self) -> str:
        """The index's name."""
        return self.folder.name

    @property
    def catalog(self) -> Path:
        """The SQLite database."""
        return self.folder / _CATALOG

    @property
    def damaged(self) -> Path:
        """The folder of what a repair has put aside."""
        return self.folder / "damaged"

    @property
    def lock(self) -> Path:
        """The file that the one writer locks."""
        return self.folder / "lock"

    @property
    def lock_holder(self) -> Path:
        """Who holds the lock, for messages."""
        return self.folder / "lock.holder"

    def exists(self) -> bool:
        """Whether there is an index here."""
        return self.catalog.exists()

    def create(self) -> None:
        """Make the folders of a new index."""
        for folder in (self.folder, self.folder / "segments", self.folder / "ann"):
            folder.mkdir(parents=True, exist_ok=True)

    def segment(self, number: int) -> Path:
        """The file of a segment."""
        return self.folder / "segments" / f"{number:06d}.npz"

    def built(self, number: int, suffix: str) -> Path:
        """The file of a built vector index."""
        return self.folder / "ann" / f"{number:06d}.{suffix}"

    def next_built_number(self) -> int:
        """One more than the highest number in ann/, so that no name is used twice."""
        numbers = [
            int(path.stem) for path in (self.folder / "ann").iterdir() if path.stem.isdigit()
        ]
        return max(numbers, default=0) + 1

    def path(self, stamp: FileStamp) -> Path:
        """The file that a stamp names."""
        return self.folder / stamp.name

    def files(self) -> list[tuple[str, Path]]:
        """The files of segments/ and ann/ by name, temporary ones too."""
        return [
            (f"{folder}/{path.name}", path)
            for folder in ("segments", "ann")
            if (self.folder / folder).is_dir()
            for path in sorted((self.folder / folder).iterdir())
            if path.is_file()
        ]

    def sizes(self) -> dict[str, int]:
        """Bytes of the catalog, the segments and the built indexes, also while they are written."""
        parts = {"catalog": list(self.folder.glob("catalog.*"))}
        for part in ("segments", "ann"):
            parts[part] = [path for name, path in self.files() if name.startswith(f"{part}/")]
        return {part: sum(map(_bytes_of, files)) for part, files in parts.items()}

    def orphans(self, referenced: set[str]) -> list[tuple[str, Path]]:
        """The files of segments/ and ann/ that no row of the catalog points at, by name.

        Args:
            referenced: Names as in `FileStamp.name`.
        """
        return [(name, path) for name, path in self.files() if name not in referenced]

    def remove_orphans(self, referenced: set[str]) -> list[str]:
        """Delete the orphans. Only the holder of the lock may call this.

        Args:
            referenced: Names as in `FileStamp.name`.

        Returns:
            The names that were removed.
        """
        removed = []
        for name, path in self.orphans(referenced):
            path.unlink()
            reach(FaultPoint.ORPHAN_REMOVED)
            removed.append(name)
        return removed


def index_names(home: Path) -> list[str]:
    """The indexes of a folder, sorted; none if there is no such folder."""
    return sorted(catalog.parent.name for catalog in home.glob(f"[!.]*/{_CATALOG}"))


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # A writer has renamed or removed it since it was listed.
        return 0
