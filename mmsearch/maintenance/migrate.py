"""Migration of an index to another place: from files to a store, and back.

Nothing is encoded, and the source stays as it is. A migration that was interrupted goes on when it
is started again: files that arrived are not sent again. The catalog of the target appears when all
files are there and sample queries have the answers of the source.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from mmsearch.core.catalog import CatalogReader, Snapshot
from mmsearch.core.errors import DamagedFileError, Hint, StateError, UsageError
from mmsearch.core.protocols import Encoder
from mmsearch.core.query import TextTerm
from mmsearch.core.records import FileRef
from mmsearch.core.reports import MigrationReport
from mmsearch.core.results import Progress
from mmsearch.core.types import EncoderSpec
from mmsearch.factories import catalogs
from mmsearch.factories.plugins import load_vector_index_plugin, make_fusion
from mmsearch.factories.search import TAIL_VECTOR_INDEX
from mmsearch.maintenance.backup import list_files
from mmsearch.storage.atomic import REPAIR_HINT, TEMPORARY_SUFFIX, atomic_write
from mmsearch.storage.layout import IndexLayout, has_size, remove_folder
from mmsearch.storage.lock import writer_lock
from mmsearch.storage.places import describe_places
from mmsearch.storage.stored_files import (
    CHUNK_BYTES,
    check_owner,
    claim_store,
    list_stored,
    open_remote,
    open_store,
    verify_stored,
)
from mmsearch.storage.stores.local import LocalStore
from mmsearch.vector_stores.files import IndexReaderCache

STATE_NAME: Final = "migration.json"
"""File of a target that is not complete; it names the source."""

STAGING_NAME: Final = "rebuilding"
"""Folder of the catalog of the target until it is complete."""

MAX_ATTEMPTS: Final = 5
"""Maximum number of attempts: a compaction of the source may remove a file meanwhile."""

NUM_CANARIES: Final = 16
"""Number of pictures, and of texts, that are searched for in both indexes."""

CANARY_HITS: Final = 20


def migrate(
    source: IndexLayout, target: IndexLayout, progress: Callable[[Progress], None]
) -> MigrationReport:
    """Copy an index to another place. See `mmsearch.migrate_index`."""
    started_at = time.monotonic()
    _require_local_catalogs(source, target)
    with catalogs.open_read(source) as reader:
        target.create()
        with writer_lock(target):
            _begin(source, target)
            check_owner(target)
            files, size, pictures = _copy_until_equal(source, reader, target, progress)
            (target.folder / STATE_NAME).unlink()
    seconds = time.monotonic() - started_at
    return MigrationReport(source.name, target.name, target.folder, pictures, files, size, seconds)


def _require_local_catalogs(source: IndexLayout, target: IndexLayout) -> None:
    if source.folder.absolute() == target.folder.absolute():
        raise UsageError("An index cannot be migrated to itself.", "Give another name.")
    for layout in (source, target):
        places = describe_places(layout)
        if places.catalog is not None or places.search is not None:
            raise StateError(
                f"Index {layout.name!r} has its catalog or its search on a server, and this version"
                " of mmsearch cannot migrate these.",
                "Use an index with a store alone, or upgrade.",
            )


def _begin(source: IndexLayout, target: IndexLayout) -> None:
    """Note the source in an empty target, or check that an interrupted migration is of the same."""
    path = target.folder / STATE_NAME
    if path.is_file() and not path.is_symlink():
        try:
            known = json.loads(path.read_bytes()[:10_000])["source"]
        except (ValueError, TypeError, KeyError, RecursionError):
            known = None
        if known == str(source.folder.absolute()):
            return
        raise UsageError(
            f"{target.name!r} has half a migration of another index.", "Choose another name."
        )
    if target.exists():
        with catalogs.open_read(target) as catalog, catalog.snapshot() as snapshot:
            is_empty = snapshot.identity is None and not catalog.referenced_files()
    else:
        is_empty = not target.files() and not list_stored(target)
    if not is_empty:
        raise UsageError(
            f"Index {target.name!r} is not empty.",
            Hint(
                "Choose a new name, or create an empty index with {}.",
                "mmsearch.init_index",
                "'mmsearch init'",
            ),
        )
    atomic_write(path, json.dumps({"source": str(source.folder.absolute())}).encode())


def _copy_until_equal(
    source: IndexLayout,
    reader: CatalogReader,
    target: IndexLayout,
    progress: Callable[[Progress], None],
) -> tuple[int, int, int]:
    """Copy an index, again if it is written meanwhile; return the results of `_copy`.

    Raises:
        StateError: The index is written all the time.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            copied = _copy(source, reader, target, progress)
        except DamagedFileError as error:
            if attempt == MAX_ATTEMPTS or not error.details.get("missing"):
                raise
        else:
            if copied is not None:
                return copied
    raise StateError(
        f"Index {source.name!r} is being written.", "Migrate again when that has ended."
    )


def _copy(
    source: IndexLayout,
    reader: CatalogReader,
    target: IndexLayout,
    progress: Callable[[Progress], None],
) -> tuple[int, int, int] | None:
    """Copy files, then the catalog.

    Returns:
        The numbers of files, their bytes and pictures; None if the source was written meanwhile.
    """
    staged = IndexLayout(target.folder / STAGING_NAME)
    remove_folder(staged.folder)
    staged.create()
    reader.copy_to(staged.catalog)
    with catalogs.open_locked(staged) as copy:
        with copy.snapshot() as snapshot:
            generation = snapshot.generation
        copy.discard_building()
        refs, pictures = list_files(copy)
    present = list_stored(target)
    for number, ref in enumerate(refs):
        progress(Progress("migrate", number, len(refs)))
        if not _has_arrived(target, ref, present):
            _copy_file(source, target, ref)
    progress(Progress("migrate", len(refs), len(refs)))
    _copy_pictures(source, target)
    with reader.snapshot() as before:
        if before.generation != generation:
            return None
        with catalogs.open_read(staged) as copied, copied.snapshot() as after:
            _require_equal("numbers", _counts(reader, before), _counts(copied, after))
            _require_equal("answers", _answers(source, before), _answers(target, after))
    catalogs.replace_catalog(target, staged)
    remove_folder(staged.folder)
    with catalogs.open_read(target) as copied, copied.snapshot() as snapshot:
        claim_store(target, snapshot.generation)
    return len(refs), sum(ref.bytes for ref in refs), pictures


def _has_arrived(target: IndexLayout, ref: FileRef, present: dict[str, int]) -> bool:
    if present.get(ref.name) != ref.bytes:
        return False
    if open_remote(target) is None:
        # The rename shows that the file is complete, and its content was compared before.
        return True
    try:
        verify_stored(target, ref)
    except DamagedFileError:
        return False
    return True


def _copy_file(source: IndexLayout, target: IndexLayout, ref: FileRef) -> None:
    store = open_remote(target) or LocalStore(target.folder)
    with open_store(source).get(ref.name) as content, store.put(ref.name) as file:
        while chunk := content.read(CHUNK_BYTES):
            file.write(chunk)
        # An error here keeps the file from appearing.
        if file.file_ref() != ref:
            raise DamagedFileError(
                f"{ref.name} of index {source.name!r} does not match its checksum.", REPAIR_HINT
            )


def _copy_pictures(source: IndexLayout, target: IndexLayout) -> None:
    """Copy thumbnails and originals that the target does not have."""

    def skip(folder: str, names: list[str]) -> set[str]:
        base = source.folder / folder
        goal = target.folder / base.relative_to(source.folder)
        return {
            name
            for name in names
            if name.endswith(TEMPORARY_SUFFIX)
            or (base / name).is_symlink()
            or has_size(goal / name, (base / name).stat().st_size)
        }

    for folder, copied in (
        (source.thumbnails, target.thumbnails),
        (source.originals, target.originals),
    ):
        if folder.is_dir() and not folder.is_symlink():
            shutil.copytree(folder, copied, ignore=skip, dirs_exist_ok=True)


@dataclass(frozen=True)
class _EncoderName:
    """An encoder that encodes nothing: the queries are vectors of the index."""

    spec: EncoderSpec


def _require_equal(what: str, before: object, after: object) -> None:
    if before != after:
        raise StateError(
            f"The {what} of the copy differ from those of the index.",
            Hint(
                "Check the index with {}, and migrate again.", "index.check()", "'mmsearch check'"
            ),
        )


def _counts(catalog: CatalogReader, snapshot: Snapshot) -> dict[str, object]:
    return {
        "items": snapshot.items,
        "pictures": snapshot.pictures,
        "files": catalog.file_count(),
        "sources": [(one.name, one.pictures) for one in catalog.summarize_sources()],
        "failures": len(catalog.failures()),
        "deleted": snapshot.deleted_ids.tolist(),
    }


def _answers(layout: IndexLayout, snapshot: Snapshot) -> list[object]:
    """Return the hits of sample pictures and of sample texts, with their scores."""
    ids = snapshot.sample_ids(NUM_CANARIES)
    if snapshot.identity is None or not len(ids):
        return []
    encoder = cast("Encoder", _EncoderName(snapshot.identity.encoder))
    cache = IndexReaderCache(
        layout, encoder, load_vector_index_plugin, TAIL_VECTOR_INDEX, "cpu", make_fusion
    )
    store = cache.open_store(snapshot)
    ranking = store.search(store.reader.vectors(ids), CANARY_HITS)
    answers: list[object] = [ranking.ids.tolist(), ranking.scores.tolist()]
    for record in snapshot.records(ids.tolist()):
        for text in record.picture.texts[:1]:
            matches = snapshot.match([TextTerm(text.text[:200])], CANARY_HITS, None)
            answers += [matches.ids.tolist(), matches.scores.tolist()]
    return answers
