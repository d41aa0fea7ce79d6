"""Backup of an index to a store, such as S3, and restore from there.

The store gets the same files as the folder of a backup, and a list of them with their checksums,
which is written last: without it, a backup is not complete.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Final

import mmsearch
from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.errors import DamagedFileError, SourceError
from mmsearch.core.protocols import Store
from mmsearch.core.records import FileRef
from mmsearch.core.reports import CopyReport
from mmsearch.maintenance.backup import list_files
from mmsearch.storage.atomic import REPAIR_HINT, TEMPORARY_SUFFIX, open_index_file, verify_file
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stores.local import LocalStore

LIST_NAME: Final = "backup.json"
"""Name of the list of the files of a backup."""

LIST_FORMAT: Final = 1

MAX_LIST_BYTES: Final = 1_000_000_000
"""Maximum size of that list; a backup of a million pictures with thumbnails has 200 MB."""

MAX_ATTEMPTS: Final = 5
"""Maximum number of attempts: a compaction may remove a file while it is copied."""

PARALLEL_FILES: Final = 8
"""Number of files that are sent or fetched at the same time."""

CHUNK_BYTES: Final = 1 << 20

_OPTIONAL_FOLDERS: Final = ("thumbnails", "originals")
_NAME: Final = re.compile(
    r"catalog\.(?:sqlite|seal)|(?:segments|ann|derived|thumbnails|originals)(?:/[\w-][\w.-]{0,199}){1,4}",
    re.ASCII,
)
_SHA256: Final = re.compile("[0-9a-f]{64}")

OpenWriter = Callable[[IndexLayout], AbstractContextManager[CatalogWriter]]


def backup_to_store(
    layout: IndexLayout, catalog: CatalogReader, store: Store, uri: str, open_writer: OpenWriter
) -> CopyReport:
    """Copy one generation of an index to a store; every file is verified.

    An interrupted backup goes on: segments that the store has are not sent again.

    Args:
        layout: The index to copy.
        catalog: Its catalog, open for reading.
        store: Destination.
        uri: Its address, for messages.
        open_writer: Opens the catalog of the copy for writing.

    Raises:
        SourceError: The store has a backup already, or other files.
        DamagedFileError: A file of the index does not match its catalog.
        StateError: The store cannot be written.
    """
    started_at = time.monotonic()
    present = store.list()
    if LIST_NAME in present:
        raise SourceError(f"{uri} contains a backup already.", "Choose another address.")
    foreign = sorted(name for name in present if not _NAME.fullmatch(name))
    if foreign:
        raise SourceError(
            f"{uri} contains other files, such as {foreign[0][:80]!r}.", "Choose another address."
        )
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with TemporaryDirectory(prefix="mmsearch-backup-") as folder:
                copy = IndexLayout(Path(folder) / layout.name)
                refs, pictures, num_vector_files = _send_files(
                    layout, catalog, copy, store, present, open_writer
                )
            break
        except DamagedFileError as error:
            # A compaction may have removed the file after the catalog was copied.
            if attempt == MAX_ATTEMPTS or not error.details.get("missing"):
                raise
            present = store.list()
    for name in present.keys() - {ref.name for ref in refs}:
        store.remove(name)
    content = {
        "format": LIST_FORMAT,
        "mmsearch": mmsearch.__version__,
        "pictures": pictures,
        "files": {ref.name: {"bytes": ref.bytes, "sha256": ref.sha256} for ref in refs},
    }
    with store.put(LIST_NAME) as file:
        file.write(json.dumps(content, indent=0).encode())
    return CopyReport(
        None,
        pictures,
        num_vector_files,
        sum(ref.bytes for ref in refs),
        time.monotonic() - started_at,
        uri,
    )


def restore_from_store(
    store: Store, uri: str, target: IndexLayout, open_writer: OpenWriter
) -> CopyReport:
    """Fetch a backup into a new folder; every file is verified.

    Args:
        store: The store.
        uri: Its address, for messages.
        target: The new index.
        open_writer: Opens the catalog of the copy for writing.

    Raises:
        SourceError: The store contains no backup, or half of one.
        DamagedFileError: A file is missing or does not match the list.
    """
    started_at = time.monotonic()
    refs = _read_list(store, uri)
    target.create()
    local = LocalStore(target.folder)

    def fetch(ref: FileRef) -> None:
        with store.get(ref.name) as source, local.put(ref.name) as file:
            for chunk in _read_chunks(source, ref.bytes + 1):
                file.write(chunk)
            # An error here keeps the file from appearing.
            if file.file_ref() != ref:
                raise DamagedFileError(
                    f"{uri}/{ref.name} does not match its checksum.", "Use another backup."
                )

    _for_each(fetch, refs)
    with open_writer(target) as catalog:
        vector_files, pictures = list_files(catalog)
    for ref in vector_files:
        if ref not in refs:
            raise DamagedFileError(
                f"The list of {uri} lacks {ref.name}, which its catalog names.",
                "Use another backup.",
            )
    size = sum(ref.bytes for ref in refs)
    seconds = time.monotonic() - started_at
    return CopyReport(target.folder, pictures, len(vector_files), size, seconds, uri)


def _send_files(
    source: IndexLayout,
    catalog: CatalogReader,
    copy: IndexLayout,
    store: Store,
    present: Mapping[str, int],
    open_writer: OpenWriter,
) -> tuple[list[FileRef], int, int]:
    """Send all files; return them, the number of pictures and that of vector files."""
    copy.create()
    catalog.copy_to(copy.catalog)
    with open_writer(copy) as writer:
        writer.discard_building()
        vector_files, pictures = list_files(writer)

    def send_verified(ref: FileRef) -> FileRef:
        path = source.local_path(ref)
        # The names of these files are random, so one that is there is the same.
        if ref.name.startswith(("segments/", "derived/")) and present.get(ref.name) == ref.bytes:
            verify_file(path, ref)
            return ref
        try:
            return _send(store, ref.name, path, ref)
        except FileNotFoundError:
            raise DamagedFileError(f"{path} is missing.", missing=True) from None

    refs = _for_each(send_verified, vector_files)
    aside = [
        (f"{path.relative_to(source.folder).as_posix()}", path) for path in _list_aside(source)
    ]
    # A picture that is deleted meanwhile takes its thumbnail with it.
    sent = _for_each(lambda item: _send_if_there(store, *item), aside)
    refs += [ref for ref in sent if ref is not None]
    refs += [_send(store, path.name, path) for path in copy.catalog_files()]
    return refs, pictures, len(vector_files)


def _list_aside(layout: IndexLayout) -> Iterator[Path]:
    """Yield the thumbnails and originals, without links and files that are being written."""
    for name in _OPTIONAL_FOLDERS:
        folder = layout.folder / name
        if folder.is_dir() and not folder.is_symlink():
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.is_symlink() and path.suffix != TEMPORARY_SUFFIX:
                    yield path


def _send_if_there(store: Store, name: str, path: Path) -> FileRef | None:
    try:
        return _send(store, name, path)
    except FileNotFoundError:
        return None


def _send(store: Store, name: str, path: Path, expected: FileRef | None = None) -> FileRef:
    with open_index_file(path) as source, store.put(name) as file:
        for chunk in _read_chunks(source):
            file.write(chunk)
        # An error here keeps the file from appearing.
        if expected is not None and file.file_ref() != expected:
            raise DamagedFileError(f"{path} does not match its checksum.", REPAIR_HINT)
        return file.file_ref()


def _read_chunks(file: BinaryIO, max_bytes: int | None = None) -> Iterator[bytes]:
    left = max_bytes
    while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        left = None if left is None else left - len(chunk)
        yield chunk


def _for_each(work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """Return the results of work on each item, in order; the first error ends it."""
    pool = ThreadPoolExecutor(PARALLEL_FILES)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)


def _read_list(store: Store, uri: str) -> list[FileRef]:
    """Return the files of a backup.

    Raises:
        SourceError: There is no complete backup.
        DamagedFileError: The list is damaged.
    """
    present = store.list()
    if LIST_NAME not in present:
        if any(_NAME.fullmatch(name) for name in present):
            raise SourceError(
                f"{uri} contains half a backup: it was interrupted.",
                "Run 'mmsearch backup' with the same address to complete it.",
            )
        raise SourceError(
            f"{uri} contains no backup of an index.", "Use an address that 'mmsearch backup' wrote."
        )
    damaged = DamagedFileError(f"{uri}/{LIST_NAME} is damaged.", "Use another backup.")
    with store.get(LIST_NAME) as file:
        content = b"".join(_read_chunks(file, MAX_LIST_BYTES))
    try:
        parsed = json.loads(content)
        refs = [
            FileRef(name, entry["bytes"], entry["sha256"])
            for name, entry in parsed["files"].items()
        ]
        written_format = parsed["format"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged from error
    if written_format != LIST_FORMAT:
        raise SourceError(
            f"{uri} was written by mmsearch {str(parsed.get('mmsearch'))[:40]}, which is newer.",
            "Install that version.",
        )
    for ref in refs:
        is_valid = (
            _NAME.fullmatch(ref.name)
            and str(ref.bytes).isdecimal()
            and _SHA256.fullmatch(str(ref.sha256))
        )
        if not is_valid:
            raise damaged
    missing = [ref.name for ref in refs if ref.name not in present]
    if missing or "catalog.sqlite" not in {ref.name for ref in refs}:
        raise DamagedFileError(
            f"{uri}/{missing[0] if missing else 'catalog.sqlite'} is missing.",
            "Use another backup.",
        )
    return refs
