"""Migration of an index to another place: from files to a store or to servers, and back.

Nothing is encoded, and the source stays as it is. A migration that was interrupted goes on when it
is started again: files that arrived are not sent again. The catalog of the target appears when all
files are there and sample queries have the answers of the source.

The catalog is copied to a file first. A catalog in PostgreSQL is copied from there, row by row in
one transaction. If one of both indexes has a search server, the target gets a built index of its
own, made from the segments: a file, or a collection on its server.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlsplit

from mmsearch.core.catalog import CatalogReader, Snapshot
from mmsearch.core.errors import DamagedFileError, Hint, StateError, UsageError
from mmsearch.core.protocols import Encoder
from mmsearch.core.query import TextTerm
from mmsearch.core.records import FileRef
from mmsearch.core.reports import MigrationReport
from mmsearch.core.results import Progress
from mmsearch.core.settings import Settings
from mmsearch.core.types import EncoderSpec, Vectors
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import load_index_encoder, make_fusion
from mmsearch.factories.search import StoreOpener
from mmsearch.factories.search_servers import drop_unused_collections, find_plugin_name
from mmsearch.maintenance.backup import list_files
from mmsearch.storage.atomic import REPAIR_HINT, TEMPORARY_SUFFIX, atomic_write
from mmsearch.storage.layout import IndexLayout, has_size, remove_folder
from mmsearch.storage.lock import writer_lock
from mmsearch.storage.places import POSTGRESQL, read_places
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
from mmsearch.vector_stores.files import FileVectorStore, read_stored_image_vectors

STATE_NAME: Final = "migration.json"
"""File of a target that is not complete; it names the source."""

STAGING_NAME: Final = "rebuilding"
"""Folder of the catalog of the target until it is complete."""

MAX_ATTEMPTS: Final = 5
"""Maximum number of attempts: a compaction of the source may remove a file meanwhile."""

NUM_CANARIES: Final = 16
"""Number of pictures, and of texts, that are searched for in both indexes."""

CANARY_HITS: Final = 20

MIN_SHARED_HITS: Final = 0.9
"""Minimum share of the hits that another built index, or another database, finds, too: approximate
indexes miss some, of equal scores not all are among the first, and few words have other stems."""

MAX_SCORE_ERROR: Final = 0.01
"""Maximum difference between the best scores: servers round vectors, and stems change weights."""

_SHORT_WORDS = re.compile(r"\b\w{1,2}\b")


def migrate(
    source: IndexLayout,
    target: IndexLayout,
    settings: Settings,
    progress: Callable[[Progress], None],
) -> MigrationReport:
    """Copy an index to another place. See `mmsearch.migrate_index`."""
    started_at = time.monotonic()
    _require_other_place(source, target)
    with catalogs.open_read(source) as reader:
        target.create()
        with writer_lock(target):
            _begin(source, target)
            check_owner(target)
            files, size, pictures = _copy_until_equal(source, reader, target, settings, progress)
            (target.folder / STATE_NAME).unlink()
    seconds = time.monotonic() - started_at
    return MigrationReport(source.name, target.name, target.folder, pictures, files, size, seconds)


def _require_other_place(source: IndexLayout, target: IndexLayout) -> None:
    if source.folder.absolute() == target.folder.absolute():
        raise UsageError("An index cannot be migrated to itself.", "Give another name.")
    place = _search_place(target)
    if place is not None and place == _search_place(source):
        # Each of them would drop the collections of the other.
        raise UsageError(
            f"The indexes {source.name!r} and {target.name!r} name the same place on a search"
            " server.",
            "Give the new index another collection or schema.",
        )


def _search_place(layout: IndexLayout) -> tuple[object, ...] | None:
    url = read_places(layout).search
    if url is None:
        return None
    split = urlsplit(url)
    query = dict(parse_qsl(split.query))
    schema = query.get("schema", layout.name) if split.scheme == POSTGRESQL else None
    return split.hostname, split.port, split.path, query.get("host"), query.get("port"), schema


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
    if catalogs.is_on_server(target):
        # The schema may be missing, if the user wrote index.toml.
        with catalogs.open_locked(target, create=True):
            is_empty = _is_empty(target)
    elif target.exists():
        is_empty = _is_empty(target)
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


def _is_empty(layout: IndexLayout) -> bool:
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        return snapshot.identity is None and not catalog.referenced_files()


def _copy_until_equal(
    source: IndexLayout,
    reader: CatalogReader,
    target: IndexLayout,
    settings: Settings,
    progress: Callable[[Progress], None],
) -> tuple[int, int, int]:
    """Copy an index, again if it is written meanwhile; return the results of `_copy`.

    Raises:
        StateError: The index is written all the time.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            copied = _copy(source, reader, target, settings, progress)
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
    settings: Settings,
    progress: Callable[[Progress], None],
) -> tuple[int, int, int] | None:
    """Copy files, then the catalog.

    Returns:
        The numbers of files, their bytes and pictures; None if the source was written meanwhile.
    """
    staged = IndexLayout(target.folder / STAGING_NAME)
    remove_folder(staged.folder)
    staged.create()
    catalogs.copy_to_file(source, reader, staged)
    with catalogs.open_locked(staged) as copy:
        with copy.snapshot() as snapshot:
            generation, built = snapshot.generation, snapshot.built
        copy.discard_building()
        is_served = built is not None and "collection" in built.settings
        must_build = is_served or find_plugin_name(target) is not None
        if must_build:
            copy.drop_built_index()
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
        if must_build:
            _build(target, staged, settings)
        queries = _read_queries(target, before) if must_build else None
        # The copy in between is a file.
        crosses = catalogs.is_on_server(source) or catalogs.is_on_server(target)
        numbers, answers = _counts(reader, before), _answers(source, before, queries)

        def verify(copied: CatalogReader) -> None:
            with copied.snapshot() as after:
                _require_equal("numbers", numbers, _counts(copied, after))
                found = _answers(target, after, queries)
            for part, is_exact in ((slice(2), not must_build), (slice(2, None), not crosses)):
                if is_exact or not _are_similar(_hits(answers[part]), _hits(found[part])):
                    _require_equal("answers", answers[part], found[part])

        with catalogs.open_read(staged) as staged_copy:
            verify(staged_copy)
        if catalogs.is_on_server(target):
            catalogs.copy_to_server(staged, target, verify)
        else:
            catalogs.replace_catalog(target, staged)
    remove_folder(staged.folder)
    with catalogs.open_read(target) as copied, copied.snapshot() as snapshot:
        claim_store(target, snapshot.generation)
    return len(refs), sum(ref.bytes for ref in refs), pictures


def _build(target: IndexLayout, staged: IndexLayout, settings: Settings) -> None:
    """Build a file, or a collection on the search server, from the segments of the target."""
    with catalogs.open_locked(staged) as copy:
        identity = copy.identity()
        if identity is None or not copy.segments():
            return
        builder = make_index_builder(
            target, copy, lambda: load_index_encoder(identity, settings, lambda message: None)
        )
        fusion = make_fusion(identity.fusion)
        copy.publish(builder.build(copy.segments(), fusion, identity, copy.stale_rows()))
        drop_unused_collections(target, copy)


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


def _read_queries(layout: IndexLayout, snapshot: Snapshot) -> Vectors | None:
    """Return the vectors of the sample pictures as queries, from the segments."""
    ids = snapshot.sample_ids(NUM_CANARIES)
    if snapshot.identity is None or not len(ids):
        return None
    vectors = read_stored_image_vectors(layout, snapshot, ids)
    return make_fusion(snapshot.identity.fusion).fuse_query(vectors)


def _answers(layout: IndexLayout, snapshot: Snapshot, queries: Vectors | None = None) -> list[Any]:
    """Return the hits of sample pictures and of sample texts, with their scores.

    Args:
        layout: Files of the index.
        snapshot: Snapshot of its catalog.
        queries: The vectors of the sample pictures; None: those of the built index, a file.
    """
    ids = snapshot.sample_ids(NUM_CANARIES)
    if snapshot.identity is None or not len(ids):
        return []
    encoder = cast("Encoder", _EncoderName(snapshot.identity.encoder))
    store = StoreOpener(layout, encoder, "cpu").open_store(snapshot)
    if queries is None:
        # Two copies of one file have the same vectors, and segments are not fetched.
        queries = cast("FileVectorStore", store).reader.vectors(ids)
    ranking = store.search(queries, CANARY_HITS)
    answers: list[Any] = [ranking.ids.tolist(), ranking.scores.tolist()]
    for record in snapshot.records(ids.tolist()):
        for text in record.picture.texts[:1]:
            # Words of two letters have other stems in PostgreSQL.
            words = _SHORT_WORDS.sub(" ", text.text[:200])
            if words.strip():
                matches = snapshot.match([TextTerm(words)], CANARY_HITS, None)
                answers += [matches.ids.tolist(), matches.scores.tolist()]
    return answers


_Hits = list[tuple[list[int], list[float]]]
"""The ids and scores of the hits of each query."""


def _hits(answers: list[Any]) -> _Hits:
    found: _Hits = []
    for ids, scores in zip(answers[::2], answers[1::2], strict=True):
        # Pictures are searched for together, texts one by one.
        is_table = bool(ids) and isinstance(ids[0], list)
        found += zip(ids, scores, strict=True) if is_table else [(ids, scores)]
    return found


def _are_similar(expected: _Hits, found: _Hits) -> bool:
    """Return True if two indexes find nearly the same."""
    if len(expected) != len(found):
        return False
    num_shared = num_expected = num_found = 0
    for (ids, scores), (other_ids, other_scores) in zip(expected, found, strict=True):
        # Rows with fewer hits end with -1.
        own, other = set(ids) - {-1}, set(other_ids) - {-1}
        num_shared += len(own & other)
        num_expected += len(own)
        num_found += len(other)
        if own and other and not abs(scores[0] - other_scores[0]) <= MAX_SCORE_ERROR:
            return False
    return num_shared >= MIN_SHARED_HITS * max(num_expected, num_found)
