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

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmsearch.core.errors import DamagedFileError, UsageError
from mmsearch.core.files import create_folder, foreign_file_error, special_file_kind
from mmsearch.core.records import FileRef
from mmsearch.storage.failpoints import FailPoint, hit_failpoint

_INDEX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CATALOG = "catalog.sqlite"
_SEGMENTS, _VECTOR_INDEXES = "segments", "ann"
_FOLDERS = (_SEGMENTS, _VECTOR_INDEXES, "damaged", "rebuilding")
_LOCK = "lock"

# Numbers have six digits or more; suffixes of vector indexes are those of plugins.
_VECTOR_FILE_PATTERN = r"(?:segments/[0-9]{6,19}\.npz|ann/[0-9]{6,19}\.[a-z0-9_]{1,32})"
_VECTOR_FILE_NAME = re.compile(_VECTOR_FILE_PATTERN)
_INDEX_FILE_NAME = re.compile(_VECTOR_FILE_PATTERN + r"(?:\.tmp)?")
_CATALOG_FILES = tuple(
    f"catalog.{kind}"
    for kind in (
        *(f"sqlite{part}" for part in ("", "-wal", "-shm", "-journal")),
        *(f"sqlite.tmp{part}" for part in ("", "-wal", "-shm", "-journal")),
        "seal",
        "seal.tmp",
    )
)
_MAX_QUOTED_CHARS = 80
_REPAIR_HINT = "'mmsearch repair' makes the catalog again without encoding what it can reuse."
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class IndexLayout:
    """Where the files of one index are.

    Attributes:
        folder: The index's own folder.
    """

    folder: Path

    @classmethod
    def for_name(cls, home: Path, name: str) -> IndexLayout:
        """The layout of an index by name.

        Raises:
            UsageError: The name cannot be a folder's name.
        """
        if not _INDEX_NAME.fullmatch(name):
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
        return os.path.lexists(self.catalog)

    def create(self, *, inherit_permissions: bool = False) -> None:
        """Create the folders of a new index; only its owner may enter them.

        A folder that exists keeps its permissions, and the ones within it take them over.

        Args:
            inherit_permissions: Whoever may read the folder above may enter the new one, too.

        Raises:
            DamagedFileError: See `reject_links`.
        """
        self.reject_links()
        create_folder(self.folder, inherit_permissions=inherit_permissions)
        for name in (_SEGMENTS, _VECTOR_INDEXES):
            create_folder(self.folder / name, inherit_permissions=True)

    def reject_links(self) -> None:
        """Refuse an index in which a link, or anything else that leads away, has a name of ours.

        The index's own folder may be a link. Files in segments/ and ann/ are compared when they
        are opened.

        Raises:
            DamagedFileError: One of its own names is a link, a device, a folder in the place of a
                file, and so on.
        """
        try:
            with os.scandir(self.folder) as entries:
                entries_by_name = {entry.name: entry for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, entry in entries_by_name.items():
            if name in _FOLDERS:
                if not entry.is_dir(follow_symlinks=False):
                    raise foreign_file_error(self.folder / name, _entry_kind(entry))
            elif name.startswith(("catalog.", _LOCK)) and not entry.is_file(follow_symlinks=False):
                raise foreign_file_error(self.folder / name, _entry_kind(entry))

    def segment_path(self, number: int) -> Path:
        """The file of a segment."""
        return self.folder / "segments" / f"{number:06d}.npz"

    def vector_index_path(self, number: int, suffix: str) -> Path:
        """The file of a built vector index."""
        return self.folder / "ann" / f"{number:06d}.{suffix}"

    def next_vector_index_number(self) -> int:
        """One more than the highest number in ann/, so that no name is used twice."""
        numbers = [
            int(path.name.partition(".")[0])
            for name, path in self.files()
            if name.startswith(f"{_VECTOR_INDEXES}/")
        ]
        return max(numbers, default=0) + 1

    def path(self, file_ref: FileRef) -> Path:
        """The file that a stamp names.

        Raises:
            DamagedFileError: No writer gives a file such a name.
        """
        if not _VECTOR_FILE_NAME.fullmatch(file_ref.name):
            raise _unknown_file_error(file_ref.name)
        return self.folder / file_ref.name

    def files(self) -> list[tuple[str, Path]]:
        """The files of segments/ and ann/ by name, temporary ones too.

        Files with names that no writer gives, links, and what lies in linked folders are left out.
        """
        return [
            (name, path)
            for folder in (_SEGMENTS, _VECTOR_INDEXES)
            for name, path in _regular_files(self.folder / folder)
            if _INDEX_FILE_NAME.fullmatch(name)
        ]

    def catalog_files(self) -> list[Path]:
        """The files of the catalog that exist: the database, what SQLite keeps beside it, the seal.

        Links are left out.
        """
        paths = (self.folder / name for name in _CATALOG_FILES)
        return [path for path in paths if _is_regular(path)]

    def bytes_by_part(self) -> dict[str, int]:
        """Bytes of the catalog, the segments and the built indexes, also while they are written."""
        parts = {"catalog": self.catalog_files()}
        for part in (_SEGMENTS, _VECTOR_INDEXES):
            parts[part] = [path for name, path in self.files() if name.startswith(f"{part}/")]
        return {part: sum(map(_file_bytes, files)) for part, files in parts.items()}

    def find_orphans(self, referenced: set[str]) -> list[tuple[str, Path]]:
        """The files of segments/ and ann/ that no row of the catalog points at, by name.

        Args:
            referenced: Names as in `FileRef.name`.
        """
        return [(name, path) for name, path in self.files() if name not in referenced]

    def remove_orphans(self, referenced: set[str]) -> list[str]:
        """Delete the orphans. Only the holder of the lock may call this.

        Args:
            referenced: Names as in `FileRef.name`.

        Returns:
            The names that were removed.
        """
        removed = []
        for name, path in self.find_orphans(referenced):
            path.unlink()
            hit_failpoint(FailPoint.ORPHAN_REMOVED)
            removed.append(name)
        return removed


def list_index_names(home: Path) -> list[str]:
    """The indexes of a folder, sorted; none if there is no such folder."""
    return sorted(catalog.parent.name for catalog in home.glob(f"[!.]*/{_CATALOG}"))


def parse_file_ref(name: object, size: object, sha256: object) -> FileRef:
    """Return what a catalog says of a file of vectors; the catalog may be anybody's.

    Raises:
        DamagedFileError: No writer gives a file such a name, or these are no size and no sha256.
    """
    if not isinstance(name, str) or not _VECTOR_FILE_NAME.fullmatch(name):
        raise _unknown_file_error(name)
    if not isinstance(size, int) or size < 0:
        raise DamagedFileError(f"The catalog says {size!r} of the size of {name}.", _REPAIR_HINT)
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise DamagedFileError(f"The catalog has no sha256 of {name}.", _REPAIR_HINT)
    return FileRef(name, size, sha256)


def remove_folder(path: Path) -> None:
    """Delete a folder with all that it holds, if it exists; a link in its place is deleted itself.

    Raises:
        OSError: It cannot be deleted.
    """
    import shutil  # noqa: PLC0415 - queries do without it

    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unknown_file_error(name: object) -> DamagedFileError:
    quoted = repr(name)
    quoted = quoted if len(quoted) <= _MAX_QUOTED_CHARS else f"{quoted[:_MAX_QUOTED_CHARS]}..."
    return DamagedFileError(
        f"The catalog names {quoted}, which is not a file of vectors of an index.", _REPAIR_HINT
    )


def _entry_kind(entry: os.DirEntry[str]) -> str:
    kind = special_file_kind(entry.stat(follow_symlinks=False).st_mode)
    return kind or "a file"


def _regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a folder by the names that stamps give them, sorted; no links."""
    if not _is_folder(folder):
        return
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    for name in names:
        yield f"{folder.name}/{name}", folder / name


def _is_folder(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def _is_regular(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _file_bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        # A writer has renamed or removed it since it was listed.
        return 0
