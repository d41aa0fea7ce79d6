"""Names of the files of an index.

::

    <home>/<name>/
      catalog.sqlite                             metadata, and the list of valid files
      catalog.seal                               checksum of the catalog while no writer is active
      index.toml                                 places of parts that are not in this folder
      segments/000001-8c1f03a97d5e2b46.vectors   immutable vectors
      ann/000001.vectors                         a vector index built from segments; derived
      derived/000001-5d1e7a40c2b98f63.jsonl.gz   immutable texts that models have made
      damaged/                                   files that a repair moved aside
      lock, lock.holder                          writer lock, and a description of its holder
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmsearch.core.errors import DamagedFileError, Hint, MMSearchError, UsageError
from mmsearch.core.files import create_folder, foreign_file_error, special_file_kind
from mmsearch.core.records import FileRef

_INDEX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CATALOG = "catalog.sqlite"
_SEGMENTS, _VECTOR_INDEXES = "segments", "ann"
_THUMBNAILS, _ORIGINALS = "thumbnails", "originals"
_DERIVED = "derived"
_FOLDERS = (_SEGMENTS, _VECTOR_INDEXES, _DERIVED, _THUMBNAILS, _ORIGINALS, "damaged", "rebuilding")
_PLACES = "index.toml"
_LOCK = "lock"

SEGMENT_TOKEN_DIGITS = 16
"""Number of hexadecimal digits of the random part of the name of a segment or derived texts."""

# Numbers have at least six digits; plugins define the suffixes of vector indexes. Segments of
# earlier versions have no random part.
_VECTOR_FILE_PATTERN = (
    rf"(?:segments/[0-9]{{6,19}}(?:\.npz|(?:-[0-9a-f]{{{SEGMENT_TOKEN_DIGITS}}})?\.vectors)"
    rf"|ann/[0-9]{{6,19}}(?:-[0-9a-f]{{{SEGMENT_TOKEN_DIGITS}}})?\.[a-z0-9_]{{1,32}}"
    rf"|derived/[0-9]{{6,19}}-[0-9a-f]{{{SEGMENT_TOKEN_DIGITS}}}\.jsonl\.gz)"
)
_VECTOR_FILE_NAME = re.compile(_VECTOR_FILE_PATTERN)
_INDEX_FILE_NAME = re.compile(_VECTOR_FILE_PATTERN + r"(?:\.tmp)?")
_CATALOG_FILES = tuple(
    f"catalog.{kind}"
    for kind in (
        *(f"sqlite{part}" for part in ("", "-wal", "-shm", "-journal")),
        *(f"sqlite.tmp{part}" for part in ("", "-wal", "-shm", "-journal")),
        "seal",
        "seal.tmp",
        "format1.sqlite",
        "format1.sqlite.tmp",
    )
)
_MAX_QUOTED_CHARS = 80
_REPAIR_HINT = Hint(
    "{}: it rebuilds the catalog and reuses the intact vectors.",
    "Call index.repair()",
    "Run 'mmsearch repair'",
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def new_segment_name(number: int) -> str:
    """Return a name for a new segment, with a random part.

    So two workers that encode the same shard, of which one was taken for dead, write two files.
    """
    return f"{_SEGMENTS}/{number:06d}-{_random_token()}.vectors"


def new_derived_name(number: int) -> str:
    """Return a name for a new file of derived texts, with a random part."""
    return f"{_DERIVED}/{number:06d}-{_random_token()}.jsonl.gz"


@dataclass(frozen=True)
class IndexLayout:
    """Paths of the files of one index.

    Attributes:
        folder: The folder of the index.
    """

    folder: Path

    @classmethod
    def for_name(cls, home: Path, name: str) -> IndexLayout:
        """Return the layout of an index by name.

        Raises:
            UsageError: The name is not a valid index name.
        """
        if not _INDEX_NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be the name of an index.",
                "Use letters, digits, '.', '_' and '-', beginning with a letter or a digit.",
            )
        return cls(home / name)

    @property
    def name(self) -> str:
        """The name of the index."""
        return self.folder.name

    @property
    def catalog(self) -> Path:
        """The SQLite database."""
        return self.folder / _CATALOG

    @property
    def format1_catalog(self) -> Path:
        """The copy of a catalog of format 1 that was made before its migration."""
        return format1_copy(self.catalog)

    @property
    def places(self) -> Path:
        """The file that names the places of the parts that are not in the folder."""
        return self.folder / _PLACES

    @property
    def thumbnails(self) -> Path:
        """The folder of the thumbnails of pictures that have no file of their own."""
        return self.folder / _THUMBNAILS

    @property
    def originals(self) -> Path:
        """The folder of the originals of records, if they are kept."""
        return self.folder / _ORIGINALS

    @property
    def damaged(self) -> Path:
        """The folder of files that a repair moved aside."""
        return self.folder / "damaged"

    @property
    def lock(self) -> Path:
        """The lock file of the writer."""
        return self.folder / "lock"

    @property
    def lock_holder(self) -> Path:
        """The file that describes the holder of the lock, for messages."""
        return self.folder / "lock.holder"

    def exists(self) -> bool:
        """Return True if the index exists: it has a catalog, here or at a URL."""
        if os.path.lexists(self.catalog):
            return True
        if not self.has_places():
            return False
        from mmsearch.storage.places import describe_places  # noqa: PLC0415 - few indexes

        try:
            return describe_places(self).catalog is not None
        except MMSearchError:
            # Opening it says what is wrong.
            return True

    def create(self, *, inherit_permissions: bool = False) -> None:
        """Create the folders of a new index; only its owner may enter them.

        An existing folder keeps its permissions, and the folders in it inherit them.

        Args:
            inherit_permissions: Give the new folder the permissions of its parent, except write
                for others.

        Raises:
            DamagedFileError: See `reject_links`.
        """
        self.reject_links()
        create_folder(self.folder, inherit_permissions=inherit_permissions)
        for name in (_SEGMENTS, _VECTOR_INDEXES):
            create_folder(self.folder / name, inherit_permissions=True)

    def reject_links(self) -> None:
        """Refuse an index in which a link or special file has one of the names of its files.

        The folder of the index itself may be a link. Files in segments/ and ann/ are checked when
        they are opened.

        Raises:
            DamagedFileError: An entry of the index is a link, a device, a folder in place of a
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
            elif name.startswith(("catalog.", _PLACES, _LOCK)) and not entry.is_file(
                follow_symlinks=False
            ):
                raise foreign_file_error(self.folder / name, _entry_kind(entry))

    def new_segment_path(self, number: int) -> Path:
        """Return a path for a new segment; see `new_segment_name`."""
        return self.folder / new_segment_name(number)

    def vector_index_path(self, number: int, suffix: str) -> Path:
        """Return the path of a built vector index."""
        return self.folder / "ann" / f"{number:06d}.{suffix}"

    def new_vector_index_path(self, suffix: str) -> Path:
        """Return a path for a new vector index; its number is one more than the highest in ann/.

        If the files are in a store, the name has a random part: another folder may have used that
        number.
        """
        numbers = [
            segment_number(path)
            for name, path in self.files()
            if name.startswith(f"{_VECTOR_INDEXES}/")
        ]
        number = max(numbers, default=0) + 1
        if self.has_places():
            return self.folder / _VECTOR_INDEXES / f"{number:06d}-{_random_token()}.{suffix}"
        return self.vector_index_path(number, suffix)

    def path(self, file_ref: FileRef) -> Path:
        """Return the path of a referenced file.

        Raises:
            DamagedFileError: The name is not one that mmsearch gives to its files.
        """
        if not _VECTOR_FILE_NAME.fullmatch(file_ref.name):
            raise _unknown_file_error(file_ref.name)
        return self.folder / file_ref.name

    def local_path(self, file_ref: FileRef) -> Path:
        """Return the path of a referenced file for reading.

        If the files of the index are in a store, and this one is not in the folder, it is fetched.

        Raises:
            DamagedFileError: The name is not one that mmsearch gives to its files, or the store
                does not have the file as the catalog describes it.
            StateError: The store cannot be read.
        """
        path = self.path(file_ref)
        if self.has_places() and not has_size(path, file_ref.bytes):
            from mmsearch.storage.stored_files import fetch_file  # noqa: PLC0415 - few indexes

            fetch_file(self, file_ref)
        return path

    def has_places(self) -> bool:
        """Return True if a file names places of parts outside of the folder."""
        return os.path.lexists(self.places)

    def files(self) -> list[tuple[str, Path]]:
        """Return names and paths of the files in segments/, ann/ and derived/, also temporary ones.

        Files with foreign names, links, and files in linked folders are left out.
        """
        return [
            (name, path)
            for folder in (_SEGMENTS, _VECTOR_INDEXES, _DERIVED)
            for name, path in _regular_files(self.folder / folder)
            if _INDEX_FILE_NAME.fullmatch(name)
        ]

    def catalog_files(self) -> list[Path]:
        """Return the existing files of the catalog: the database, SQLite's own files, the seal.

        Links are left out.
        """
        paths = (self.folder / name for name in _CATALOG_FILES)
        return [path for path in paths if _is_regular(path)]

    def bytes_by_part(self) -> dict[str, int]:
        """Return the sizes of catalog, segments, built indexes and derived texts.

        It may be called while they are written.
        """
        parts = {"catalog": self.catalog_files()}
        for part in (_SEGMENTS, _VECTOR_INDEXES, _DERIVED):
            parts[part] = [path for name, path in self.files() if name.startswith(f"{part}/")]
        return {part: sum(map(_file_bytes, files)) for part, files in parts.items()}


def _random_token() -> str:
    return os.urandom(SEGMENT_TOKEN_DIGITS // 2).hex()


def segment_number(path: Path) -> int:
    """Return the number of a segment, a built index or derived texts, by the name of its file."""
    return int(re.split("[-.]", path.name, maxsplit=1)[0])


def thumbnail_path(thumbnails: Path, digest: bytes, part: int = 0) -> Path:
    """Return the path of the thumbnail of an item, a JPEG, by its content and part."""
    name = digest.hex()
    return thumbnails / name[:2] / (f"{name}-{part}.jpg" if part else f"{name}.jpg")


def original_path(originals: Path, digest: bytes) -> Path:
    """Return the path of the original of a content."""
    name = digest.hex()
    return originals / name[:2] / name


def is_index_file_name(name: str) -> bool:
    """Return True for the name of a complete file, as in `FileRef.name`."""
    return _VECTOR_FILE_NAME.fullmatch(name) is not None


def has_size(path: Path, size: int) -> bool:
    """Return True if a path is a regular file of a size in bytes."""
    with suppress(OSError):
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size == size
    return False


def format1_copy(catalog: Path) -> Path:
    """Return the path of the copy of a catalog that precedes its migration from format 1."""
    return catalog.with_name("catalog.format1.sqlite")


def list_index_names(home: Path) -> list[str]:
    """Return the sorted names of the indexes in a folder; empty if it does not exist."""
    folders = {path.parent for name in (_CATALOG, _PLACES) for path in home.glob(f"[!.]*/{name}")}
    return sorted(folder.name for folder in folders if IndexLayout(folder).exists())


def parse_file_ref(name: object, size: object, sha256: object) -> FileRef:
    """Validate a reference to a vector file from an untrusted catalog, and return it.

    Raises:
        DamagedFileError: The name, the size or the sha256 is not valid.
    """
    if not isinstance(name, str) or not _VECTOR_FILE_NAME.fullmatch(name):
        raise _unknown_file_error(name)
    if not isinstance(size, int) or size < 0:
        raise DamagedFileError(f"The catalog has the size {size!r} for {name}.", _REPAIR_HINT)
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise DamagedFileError(f"The catalog has no valid sha256 for {name}.", _REPAIR_HINT)
    return FileRef(name, size, sha256)


def remove_folder(path: Path) -> None:
    """Delete a folder and its contents, if it exists; of a link, only the link is deleted.

    Raises:
        OSError: It cannot be deleted.
    """
    import shutil  # noqa: PLC0415 - queries do not need it

    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _unknown_file_error(name: object) -> DamagedFileError:
    quoted = repr(name)
    quoted = quoted if len(quoted) <= _MAX_QUOTED_CHARS else f"{quoted[:_MAX_QUOTED_CHARS]}..."
    return DamagedFileError(
        f"The catalog refers to {quoted}, which is not a file of an index.", _REPAIR_HINT
    )


def _entry_kind(entry: os.DirEntry[str]) -> str:
    kind = special_file_kind(entry.stat(follow_symlinks=False).st_mode)
    return kind or "a file"


def _regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield names, as in `FileRef.name`, and paths of the files of a folder, sorted; no links."""
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
        # A writer renamed or removed the file after it was listed.
        return 0
