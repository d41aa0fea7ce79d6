"""Indexes whose vector files are in a store: S3 on this machine. The folder is a cache of them."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mmsearch import init_index, list_indexes, open_index, trust_index
from mmsearch.cli.main import run
from mmsearch.core.errors import (
    DamagedFileError,
    DiskFullError,
    SourceError,
    StateError,
    StorageError,
    UnknownIndexError,
    UsageError,
    translate_os_errors,
)
from mmsearch.core.records import FileRef
from mmsearch.core.results import IndexRequest
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec
from mmsearch.factories import catalogs, indexing
from mmsearch.factories.indexing import EncodeWorkerSpec, make_index_builder
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing.compaction import compact
from mmsearch.indexing.encode import DecodeTask, EncodeTask, Shard
from mmsearch.maintenance.backup import backup, remove, restore
from mmsearch.maintenance.check import check
from mmsearch.maintenance.repair import repair
from mmsearch.storage import stored_files
from mmsearch.storage.failpoints import FailPoint
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.places import Places, read_places, write_places
from mmsearch.storage.stored_files import (
    CachedStore,
    evict,
    find_orphans,
    list_stored,
    open_remote,
    open_store,
)
from mmsearch.storage.stores.remote import RemoteStore
from tests.integration.test_encode_worker import in_fresh_process
from tests.integration.test_indexer_law import write
from tests.s3_server import make_bucket, s3_server, use_test_credentials
from tests.toy_index import (
    ToyEncoder,
    install_toys,
    make_toys,
    replaced,
    toy_engine,
    toy_indexer,
)

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

ROOT = Path(__file__).parents[2]
TOYS = 20
BUCKET = "indexes"
INDEX_PROGRAM = """
import os, sys
from pathlib import Path
from mmsearch.core.results import IndexRequest
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import toy_indexer

with toy_indexer(IndexLayout(Path(sys.argv[1]))) as indexer:
    report = indexer.run(IndexRequest(os.fsencode(sys.argv[2])))
print(report.encoded)
"""
QUERY_PROGRAM = """
import json, sys
from pathlib import Path
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import toy_engine

with toy_engine(IndexLayout(Path(sys.argv[1]))) as engine:
    print(json.dumps([(hit.id, hit.score) for hit in engine.search_text("toy 3", 10).hits]))
"""


@pytest.fixture(scope="module")
def endpoint():
    with s3_server() as address:
        make_bucket(address, BUCKET)
        yield address


@pytest.fixture(autouse=True)
def _environment(endpoint, monkeypatch, tmp_path):
    use_test_credentials(monkeypatch, tmp_path, endpoint)
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "settings" / "settings.toml"))
    # Each test has a server of its own for the cache of open stores.
    stored_files._open_remote.cache_clear()


@pytest.fixture
def url():
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/photos"


@pytest.fixture
def toys(tmp_path):
    folder = tmp_path / "toys"
    folder.mkdir()
    add_toys(folder, range(TOYS))
    return folder


def add_toys(folder, numbers):
    for number in numbers:
        write(folder, b"%d.toy" % number, b"toy %d" % number, 1 + number)


def index_toys(layout, toys):
    with toy_indexer(layout) as indexer:
        return indexer.run(IndexRequest(os.fsencode(toys)))


@pytest.fixture
def empty(tmp_path, url):
    init_index("photos", home=tmp_path / "home", store=url)
    return IndexLayout(tmp_path / "home" / "photos")


@pytest.fixture
def layout(empty, toys):
    index_toys(empty, toys)
    return empty


def hits(layout):
    with toy_engine(layout) as engine:
        return [(hit.id, hit.score) for hit in engine.search_text("toy 3", 10).hits]


def referenced(layout):
    with catalogs.open_read(layout) as catalog:
        return catalog.referenced_files()


def copy_catalog(layout, folder):
    """Return an index of another host: only a copy of the catalog and the places."""
    copy = IndexLayout(folder)
    copy.folder.mkdir(parents=True)
    shutil.copy(layout.places, copy.places)
    with catalogs.open_read(layout) as catalog:
        catalog.copy_to(copy.catalog)
    return copy


def vector_files(layout):
    return {name for name, _ in layout.files()}


def drop_copies(layout):
    for _, path in layout.files():
        path.unlink()


def verdict(layout):
    settings = Settings(home=layout.folder.parent)
    report = check(layout, settings, lambda message: None, sources=False, content=False)
    return report.verdict, [f.part for f in report.findings if f.weight == "damage"]


def repaired(layout):
    settings = Settings(home=layout.folder.parent, device="cpu")
    encoder = ToyEncoder()
    with replaced(
        make_toys(encoder)
        | {(indexing, "load_index_encoder"): lambda identity, settings, on_message: encoder}
    ):
        return repair(layout, settings, lambda message: None, 0, lambda progress: None)


def put(remote, name, content):
    with remote.put(name) as file:
        file.write(content)


def get(remote, name):
    with remote.get(name) as file:
        return file.read()


def run_program(program, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_files_of_a_run_are_in_the_store(layout):
    stored = list_stored(layout)
    assert stored.keys() == referenced(layout) == vector_files(layout)
    assert sorted(name.split("/")[0] for name in stored) == ["ann", "segments"]
    assert find_orphans(layout, referenced(layout)) == []
    assert verdict(layout) == ("sound", [])


def test_another_process_answers_from_catalog_and_places_alone(layout, tmp_path):
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    done = run_program(QUERY_PROGRAM, copy.folder)
    assert [tuple(hit) for hit in json.loads(done.stdout)] == hits(layout), done.stderr
    # A search needs the built index, and not the segments that are in it.
    assert {name.split("/")[0] for name in vector_files(copy)} == {"ann"}
    assert not list(copy.folder.rglob("*.tmp"))
    assert verdict(copy) == ("sound", [])


def test_many_threads_and_processes_fetch_at_once(layout, tmp_path):
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    expected = hits(layout)
    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(hits, copy) for _ in range(2)]
        processes = [pool.submit(run_program, QUERY_PROGRAM, copy.folder) for _ in range(2)]
    assert [thread.result() for thread in threads] == [expected] * 2
    for process in processes:
        assert [tuple(hit) for hit in json.loads(process.result().stdout)] == expected
    assert not list(copy.folder.rglob("*.tmp"))


def test_folder_from_someone_else_contacts_no_server(layout, tmp_path, monkeypatch):
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "other user" / "settings.toml"))
    monkeypatch.setattr(stored_files, "_open_remote", None)
    with pytest.raises(StateError, match=f"s3://{BUCKET}, which is not a known server"):
        hits(copy)
    assert open_index("photos", home=copy.folder.parent).status().places.keys() == {"store"}
    with pytest.raises(StateError, match="not a known server"):
        index_toys(copy, tmp_path / "toys")
    assert verdict(copy) == ("unknown", [])
    remove(copy)
    assert not copy.folder.exists()
    monkeypatch.undo()


def test_trust_makes_the_servers_of_an_index_known(layout, tmp_path, monkeypatch):
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    expected = hits(layout)
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "other user" / "settings.toml"))
    assert trust_index("photos", home=copy.folder.parent) == {"store": f"s3://{BUCKET}"}
    assert hits(copy) == expected
    with pytest.raises(UnknownIndexError, match="names no servers"):
        trust_index("other", home=copy.folder.parent)


def test_second_run_encodes_nothing_and_another_adds_to_the_store(layout, toys):
    before = list_stored(layout)
    assert index_toys(layout, toys).encoded == 0
    assert list_stored(layout) == before
    add_toys(toys, range(TOYS, TOYS + 5))
    drop_copies(layout)
    assert index_toys(layout, toys).encoded == 5
    # The former built index goes with the next run.
    assert len(list_stored(layout).keys() - referenced(layout)) == 1
    assert index_toys(layout, toys).encoded == 0
    assert list_stored(layout).keys() == referenced(layout)
    assert verdict(layout) == ("sound", [])


def test_file_missing_in_the_store_is_damage_until_a_repair_sends_it(layout, tmp_path):
    (ann,) = (name for name in referenced(layout) if name.startswith("ann/"))
    remote = open_remote(layout)
    remote.remove(ann)
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    with pytest.raises(DamagedFileError, match=f"{ann} is missing"):
        hits(copy)
    assert verdict(layout) == ("damaged", [ann])
    (line,) = repaired(layout).mended
    assert f"{ann}, or had a damaged one; it has been sent again" in line
    assert verdict(layout) == ("sound", [])
    assert hits(copy) == hits(layout)


@pytest.mark.parametrize("kind", ["segments", "ann"])
def test_file_changed_in_the_store_is_never_used(layout, tmp_path, kind):
    (name,) = (name for name in referenced(layout) if name.startswith(kind))
    remote = open_remote(layout)
    content = bytearray(get(remote, name))
    content[len(content) // 2] ^= 1
    put(remote, name, bytes(content))
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    assert verdict(copy)[0] == "damaged"
    assert name in verdict(layout)[1]
    put(remote, name, bytes(content)[:-1])
    with pytest.raises(DamagedFileError, match="does not match the catalog"):
        copy.local_path(file_ref(copy, name))
    assert not list(copy.folder.rglob("*.tmp"))
    assert len(repaired(layout).mended) == 1
    assert verdict(copy) == verdict(layout) == ("sound", [])


def file_ref(layout, name):
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        refs = [segment.file_ref for segment in catalog.segments()] + [snapshot.built.file_ref]
    return next(ref for ref in refs if ref.name == name)


def test_segment_lost_everywhere_is_encoded_again(layout):
    (name,) = (name for name in referenced(layout) if name.startswith("segments"))
    open_remote(layout).remove(name)
    (layout.folder / name).unlink()
    assert name in verdict(layout)[1]
    assert len(repaired(layout).lost) == TOYS
    assert list_stored(layout).keys() == referenced(layout)
    assert verdict(layout) == ("sound", [])


def test_damaged_copy_in_the_folder_is_fetched_again(layout):
    expected = hits(layout)
    for _, path in layout.files():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert verdict(layout) == ("sound", [])
    assert hits(layout) == expected
    for _, path in layout.files():
        path.write_bytes(path.read_bytes()[:-1])
    assert hits(layout) == expected


def test_lost_catalog_is_rebuilt_from_the_store(layout, toys):
    expected = hits(layout)
    drop_copies(layout)
    for path in layout.catalog_files():
        path.unlink()
    with pytest.raises(StateError, match="catalog of index 'photos' is missing"):
        index_toys(layout, toys)
    assert len(list_stored(layout)) == 2
    report = repaired(layout)
    assert f"{TOYS} vectors" in report.mended[0]
    assert index_toys(layout, toys).encoded == 0
    # No index is built from them yet, so that scores have more digits.
    assert [item for item, _ in hits(layout)] == [item for item, _ in expected]
    assert list_stored(layout).keys() == referenced(layout)


def test_compaction_removes_from_the_store(layout, toys):
    add_toys(toys, range(TOYS, TOYS + 5))
    index_toys(layout, toys)
    for number in range(3):
        (toys / f"{number}.toy").unlink()
    index_toys(layout, toys)
    drop_copies(layout)
    before = list_stored(layout)
    with catalogs.open_write(layout, 0, create=False) as catalog:
        fusion = make_fusion(catalog.identity().fusion)
        builder = make_index_builder(layout, catalog, ToyEncoder)
        report = compact(layout, catalog, fusion, builder)
    assert report.dropped == 3
    assert report.bytes_before > sum(before.values())
    stored = list_stored(layout)
    assert stored.keys() == referenced(layout)
    assert not stored.keys() & before.keys()
    assert verdict(layout) == ("sound", [])


def test_backup_is_complete_and_restores_to_files(layout, tmp_path):
    drop_copies(layout)
    with catalogs.open_read(layout) as catalog:
        report = backup(layout, catalog, str(tmp_path / "backup"))
    assert report.files == 2
    assert not IndexLayout(tmp_path / "backup").has_places()
    restored = IndexLayout(tmp_path / "home" / "restored")
    restore(restored, str(tmp_path / "backup"), replace=False)
    assert hits(restored) == hits(layout)
    assert read_places(restored) == Places()
    with pytest.raises(UsageError, match="outside of its folder"):
        restore(layout, str(tmp_path / "backup"), replace=True)


def test_remove_empties_the_store_and_leaves_other_objects(layout, url):
    remote = open_remote(layout)
    put(remote, "notes.txt", b"mine")
    put(remote, "segments/notes.txt", b"mine")
    remove(layout)
    assert not layout.folder.exists()
    assert remote.list().keys() == {"notes.txt", "segments/notes.txt"}
    init_index("again", home=layout.folder.parent, store=url)


def test_remove_killed_before_the_store_is_empty_goes_on(layout, monkeypatch):
    remote = open_remote(layout)

    def fail(self, name):
        raise StateError("The network is down.")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteStore, "remove", fail)
        with pytest.raises(StateError, match="network is down"):
            remove(layout)
    assert not layout.folder.exists()
    remove(layout)
    assert remote.list() == {}


@pytest.mark.parametrize(
    ("point", "visit"),
    [
        (FailPoint.FILE_WRITTEN, 1),
        *((FailPoint.FILE_SENT, visit) for visit in (1, 2)),
        *((FailPoint.FILE_RENAMED, visit) for visit in (1, 2)),
        (FailPoint.TRANSACTION_READY, 6),
        (FailPoint.TRANSACTION_COMMITTED, 6),
        (FailPoint.CATALOG_CLOSED, 1),
    ],
)
def test_run_killed_at_a_step_is_completed_by_the_next(empty, toys, point, visit):
    done = run_program(INDEX_PROGRAM, empty.folder, toys, MMSEARCH_FAULT=f"{point}:{visit}")
    assert done.returncode == -signal.SIGKILL, done.stderr
    drop_copies(empty)
    assert verdict(empty)[0] == "sound"
    done = run_program(INDEX_PROGRAM, empty.folder, toys)
    assert done.returncode == 0, done.stderr
    assert list_stored(empty).keys() == referenced(empty)
    assert verdict(empty) == ("sound", [])
    assert len(hits(empty)) == 10


@pytest.mark.parametrize("point", [FailPoint.FILE_OPENED, FailPoint.FILE_RECEIVED])
def test_reader_killed_while_it_fetches_leaves_nothing_wrong(layout, tmp_path, point):
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    done = run_program(QUERY_PROGRAM, copy.folder, MMSEARCH_FAULT=f"{point}:1")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(copy.folder.rglob("*.tmp"))) == 1
    assert hits(copy) == hits(layout)
    assert not list(copy.folder.rglob("*.tmp"))


def test_orphans_of_a_killed_run_are_removed_here_and_in_the_store(layout, toys):
    orphan = "segments/000009-0123456789abcdef.vectors"
    with open_store(layout).put(orphan) as file:
        file.write(b"x")
    put(open_remote(layout), "other.txt", b"x")
    assert find_orphans(layout, referenced(layout)) == [orphan]
    index_toys(layout, toys)
    assert orphan not in list_stored(layout)
    assert "other.txt" in open_remote(layout).list()


def test_older_copy_of_the_catalog_writes_nothing(layout, toys, tmp_path):
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    add_toys(toys, range(TOYS, TOYS + 5))
    index_toys(layout, toys)
    before = list_stored(layout)
    for write_again in (lambda: index_toys(copy, toys), lambda: repaired(copy)):
        with pytest.raises(StateError, match="another copy has written there"):
            write_again()
    assert list_stored(layout) == before


def test_store_of_another_index_is_refused(layout, url, tmp_path, toys):
    with pytest.raises(SourceError, match="contains the files of an index"):
        init_index("other", home=tmp_path / "home", store=url)
    assert not (tmp_path / "home" / "other").exists()
    # Someone else's folder that names this store.
    thief = IndexLayout(tmp_path / "home" / "thief")
    thief.create()
    write_places(thief, Places(store=url))
    before = list_stored(layout)
    with pytest.raises(StateError, match="catalog of index 'thief' is missing"):
        index_toys(thief, toys)
    with catalogs.open_read(layout) as catalog:
        catalog.copy_to(thief.catalog)
    with pytest.raises(StateError, match="belongs to another index"):
        index_toys(thief, toys)
    with pytest.raises(StateError, match="belongs to another index"):
        remove(thief)
    assert list_stored(layout) == before


def test_unreachable_store_is_an_error_that_proves_no_damage(layout, tmp_path, monkeypatch):
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    stored_files._open_remote.cache_clear()
    with pytest.raises(StorageError, match="cannot be read"):
        hits(copy)
    assert verdict(copy) == ("unknown", [])
    # What is in the folder is searched without the store.
    assert len(hits(layout)) == 10


def test_interrupted_download_is_tried_again_once(layout, tmp_path, monkeypatch):
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    (name,) = (name for name in referenced(layout) if name.startswith("ann"))
    ref = file_ref(layout, name)
    real_chunks, ends = stored_files._read_chunks, [1, 0, 1, 1]

    def read_chunks(file, max_bytes=None):
        for chunk in real_chunks(file, max_bytes):
            yield chunk[: len(chunk) // 2] if ends.pop(0) else chunk

    monkeypatch.setattr(stored_files, "_read_chunks", read_chunks)
    assert copy.local_path(ref).stat().st_size == ref.bytes
    drop_copies(copy)
    with pytest.raises(DamagedFileError, match="does not match the catalog"):
        copy.local_path(ref)
    assert vector_files(copy) == set()


def test_full_disk_evicts_what_the_store_has(layout, tmp_path, monkeypatch):
    copy = copy_catalog(layout, tmp_path / "host" / "photos")
    names = sorted(referenced(layout))
    refs = {name: file_ref(layout, name) for name in names}
    first = copy.local_path(refs[names[0]])
    os.utime(first, (1, 1))
    local_only = copy.folder / "segments" / "000007-0123456789abcdef.vectors"
    local_only.parent.mkdir(exist_ok=True)
    local_only.write_bytes(b"not in the store")
    os.utime(local_only, (1, 1))
    real, failures = stored_files._download, [errno.ENOSPC]

    def download(*arguments):
        if failures:
            raise OSError(failures.pop(), "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(stored_files, "_download", download)
    assert copy.local_path(refs[names[1]]).exists()
    assert not first.exists()
    assert local_only.exists()
    failures[:] = [errno.ENOSPC] * 2
    with pytest.raises(DiskFullError), translate_os_errors():
        copy.local_path(refs[names[0]])


def test_files_that_nothing_read_for_a_week_leave_the_folder(layout):
    for _, path in layout.files():
        os.utime(path, (1, 1))
    (recent,) = (layout.folder / name for name in referenced(layout) if name.startswith("ann"))
    os.utime(recent)
    assert [name.split("/")[0] for name in evict(layout, 3600)] == ["segments"]
    assert recent.exists()
    assert verdict(layout) == ("sound", [])


def encode_on_another_host(make_worker, shard, folder):
    install_toys()
    os.chdir(folder)
    return make_worker()(shard)


def test_worker_on_another_host_sends_segments_to_the_store(layout, tmp_path):
    spec = EncodeWorkerSpec.of(
        layout, ToyEncoder(), make_fusion(FusionSpec()), (), Settings(model="toy", workers=1)
    )
    assert spec.store == read_places(layout).store
    elsewhere = replace(spec, folder=str(tmp_path / "no such folder"))
    source = DecodeTask(content=b"toy 1", name=b"1.toy")
    shard = Shard(7, 100, (EncodeTask(bytes(32), source, ()),))
    encoded = in_fresh_process(encode_on_another_host, elsewhere, shard, str(tmp_path))
    assert list_stored(layout)[encoded.segment.file_ref.name] == encoded.segment.file_ref.bytes
    assert not (layout.folder / encoded.segment.file_ref.name).exists()
    assert layout.local_path(encoded.segment.file_ref).exists()


def test_cached_store_is_a_store(layout):
    store = open_store(layout)
    assert isinstance(store, CachedStore)
    name = "segments/000009-0123456789abcdef.vectors"
    with store.put(name) as file:
        file.write(b"content")
    assert get(store, name) == b"content"
    assert store.list()[name] == 7
    (layout.folder / name).unlink()
    assert get(store, name) == b"content"
    with pytest.raises(ZeroDivisionError), store.put("segments/x") as file:
        raise ZeroDivisionError
    store.remove(name)
    with pytest.raises(DamagedFileError, match="missing"):
        store.get(name)
    with pytest.raises(DamagedFileError, match="not a file of an index"):
        layout.local_path(FileRef("../x", 1, "0" * 64))


@pytest.fixture
def run_command(monkeypatch, capsys, tmp_path):
    """Return a function that runs a command, and returns its exit code and its output."""

    def run_command(*arguments):
        argv = [*arguments, "--home", str(tmp_path / "home")]
        monkeypatch.setattr(sys, "argv", ["mmsearch", *argv])
        code = run(argv)
        return code, "".join(capsys.readouterr())

    return run_command


def test_status_and_list_show_the_places(layout, url, run_command):
    home = str(layout.folder.parent)
    assert f"store         {url}\n" in run_command("status", "--index", "photos")[1]
    assert url in run_command("list")[1]
    (status,) = list_indexes(home)
    assert status.places == {"store": url}


def test_init_says_what_it_found(tmp_path, url, run_command):
    code, output = run_command("init", "photos", "--store", url)
    assert code == 0
    assert f"store         {url}: empty, can be read and written by s3fs 20" in output
    assert "pictures      0 in 0 files" in run_command("status", "--index", "photos")[1]
    code, output = run_command("init", "photos", "--store", url)
    assert code == 2
    assert "exists already" in output
    code, output = run_command("init", "photos", "--trust")
    assert code == 0
    assert f"s3://{BUCKET} is known from now on" in output
    assert run_command("init", "plain")[0] == 0
    assert not (tmp_path / "home" / "plain" / "index.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--store", "s3://absent/x"], 1, "no such bucket"),
        (["--store", "/srv/x"], 2, "malformed"),
        (["--store", "s3://key:secret@bucket/x"], 2, "AWS_SECRET_ACCESS_KEY"),
        (["--store", "gs://bucket/x"], 2, "not installed"),
        (["--trust"], 2, "names no servers"),
        (["--trust", "--store", "s3://bucket"], 2, "for an existing index"),
    ],
)
def test_init_refuses_what_cannot_be_used_and_leaves_nothing(
    tmp_path, run_command, arguments, code, message
):
    returned, output = run_command("init", "photos", *arguments)
    assert returned == code
    assert message in output
    assert "secret@" not in output
    assert not (tmp_path / "home").exists()
