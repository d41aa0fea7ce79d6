"""Backups in stores: S3 on this machine, and memory."""

import json
import os
import sys
import uuid
from dataclasses import replace

import pytest

from mmsearch.cli.main import run
from mmsearch.core.errors import (
    DamagedFileError,
    MissingExtraError,
    SourceError,
    StateError,
    UsageError,
)
from mmsearch.core.results import IndexRequest
from mmsearch.factories import catalogs
from mmsearch.maintenance import remote_backup
from mmsearch.maintenance.backup import backup, restore
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stores.remote import RemoteStore
from tests.integration.test_indexer_law import write
from tests.s3_server import make_bucket, s3_server, use_test_credentials
from tests.toy_index import toy_engine, toy_indexer

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

TOYS = 20


@pytest.fixture(scope="module")
def endpoint():
    with s3_server() as address:
        make_bucket(address, "backups")
        yield address


@pytest.fixture(autouse=True)
def credentials(endpoint, monkeypatch, tmp_path):
    use_test_credentials(monkeypatch, tmp_path, endpoint)


@pytest.fixture(params=["s3", "memory"])
def uri(request):
    scheme = "s3://backups" if request.param == "s3" else "memory:/"
    return f"{scheme}/{uuid.uuid4().hex}/my photos"


@pytest.fixture
def memory_uri():
    return f"memory://{uuid.uuid4().hex}/photos"


@pytest.fixture
def toys(tmp_path):
    folder = tmp_path / "toys"
    folder.mkdir()
    for number in range(TOYS):
        write(folder, b"%d.toy" % number, b"toy %d" % number, 1 + number)
    return folder


def index_toys(layout, toys):
    with toy_indexer(layout) as indexer:
        indexer.run(IndexRequest(os.fsencode(toys)))


@pytest.fixture
def layout(tmp_path, toys):
    layout = IndexLayout(tmp_path / "home" / "photos")
    index_toys(layout, toys)
    (layout.thumbnails / "ab").mkdir(parents=True)
    (layout.thumbnails / "ab" / f"{'ab' * 32}-3.jpg").write_bytes(b"a thumbnail")
    (layout.thumbnails / "ab" / "unfinished.jpg.tmp").write_bytes(b"half")
    return layout


def back_up(layout, uri):
    with catalogs.open_read(layout) as catalog:
        return backup(layout, catalog, uri)


def hits(layout):
    with toy_engine(layout) as engine:
        return [(hit.id, hit.path, hit.score) for hit in engine.search_text("toy 3", 10).hits]


def list_files(uri):
    store = RemoteStore(uri)
    return json.loads(store.get(remote_backup.LIST_NAME).read())["files"]


def put(store, name, content):
    with store.put(name) as file:
        file.write(content)


def test_backup_in_store_restores_the_same_index(layout, uri, tmp_path):
    report = back_up(layout, uri)
    assert (report.folder, report.uri, report.pictures, report.files) == (None, uri, TOYS, 2)
    stored = RemoteStore(uri).list()
    assert stored.pop(remote_backup.LIST_NAME) > 0
    assert stored == {name: entry["bytes"] for name, entry in list_files(uri).items()}
    assert sum(stored.values()) == report.bytes
    assert f"thumbnails/ab/{'ab' * 32}-3.jpg" in stored
    restored = IndexLayout(tmp_path / "other home" / "restored")
    copied = restore(restored, uri, replace=False)
    assert copied == replace(report, folder=restored.folder, seconds=copied.seconds)
    assert hits(restored) == hits(layout)
    with catalogs.open_read(restored) as catalog:
        assert list(catalog.find_problems()) == []
    assert catalogs.is_checksum_valid(restored)
    thumbnail = restored.thumbnails / "ab" / f"{'ab' * 32}-3.jpg"
    assert thumbnail.read_bytes() == b"a thumbnail"
    # Only the owner may read a restored index.
    assert restored.folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in restored.folder.parent.iterdir()] == ["restored"]


def test_files_of_backup_in_store_are_a_backup_in_a_folder(layout, memory_uri, tmp_path):
    """A copy of the objects, such as by another program, is restored as a folder, too."""
    back_up(layout, memory_uri)
    store, folder = RemoteStore(memory_uri), tmp_path / "copy"
    for name in store.list():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(name).read())
    assert hits(IndexLayout(folder)) == hits(layout)
    restored = IndexLayout(tmp_path / "home" / "restored")
    restore(restored, f"file://{folder}", replace=False)
    assert hits(restored) == hits(layout)


def test_file_uri_is_a_folder(layout, tmp_path):
    folder = tmp_path / "backups" / "photos"
    assert back_up(layout, f"file://{folder}").folder == folder
    assert hits(IndexLayout(folder)) == hits(layout)


def test_second_backup_to_same_address_is_refused(layout, uri):
    back_up(layout, uri)
    before = list_files(uri)
    with pytest.raises(SourceError, match="contains a backup already"):
        back_up(layout, uri)
    assert list_files(uri) == before


def test_address_with_other_files_is_refused(layout, memory_uri):
    put(RemoteStore(memory_uri), "holiday/photo.jpg", b"a photograph")
    with pytest.raises(SourceError, match=r"other files, such as 'holiday/photo.jpg'"):
        back_up(layout, memory_uri)
    assert RemoteStore(memory_uri).list() == {"holiday/photo.jpg": 12}


def test_restore_replaces_index_only_if_asked(layout, toys, memory_uri):
    back_up(layout, memory_uri)
    before = hits(layout)
    write(toys, b"new.toy", b"toy new", 500)
    index_toys(layout, toys)
    with pytest.raises(UsageError, match="exists already"):
        restore(layout, memory_uri, replace=False)
    restore(layout, memory_uri, replace=True)
    assert hits(layout) == before


def test_half_a_backup_is_refused_and_completed_by_the_next(
    layout, memory_uri, tmp_path, monkeypatch
):
    sent = []
    put_file = RemoteStore._send

    def fail_at_catalog(self, local_path, path):
        if path.endswith("catalog.sqlite"):
            raise StateError("The network is gone.")
        sent.append(path)
        put_file(self, local_path, path)

    monkeypatch.setattr(RemoteStore, "_send", fail_at_catalog)
    with pytest.raises(StateError, match="network is gone"):
        back_up(layout, memory_uri)
    segments = [path for path in sent if "/segments/" in path]
    assert segments
    restored = IndexLayout(tmp_path / "home" / "restored")
    with pytest.raises(SourceError, match="contains half a backup"):
        restore(restored, memory_uri, replace=False)
    assert not restored.folder.exists()

    put(RemoteStore(memory_uri), "segments/000099-0123456789abcdef.vectors", b"dropped since")
    sent.clear()
    monkeypatch.setattr(
        RemoteStore, "_send", lambda *parts: [sent.append(parts[2]), put_file(*parts)]
    )
    back_up(layout, memory_uri)
    assert not [path for path in sent if "/segments/" in path]
    assert "segments/000099-0123456789abcdef.vectors" not in RemoteStore(memory_uri).list()
    restore(restored, memory_uri, replace=False)
    assert hits(restored) == hits(layout)


def test_restore_without_a_backup_says_so(memory_uri, tmp_path):
    with pytest.raises(SourceError, match="contains no backup of an index"):
        restore(IndexLayout(tmp_path / "restored"), memory_uri, replace=False)


def flip(content):
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage", [flip, lambda content: content[:-1], lambda content: content + b"x", None]
)
@pytest.mark.parametrize("part", ["segments/", "ann/", "thumbnails/", "catalog.sqlite"])
def test_damaged_or_missing_file_of_backup_replaces_nothing(layout, memory_uri, part, damage):
    back_up(layout, memory_uri)
    before, store = hits(layout), RemoteStore(memory_uri)
    (name,) = (name for name in store.list() if name.startswith(part))
    content = store.get(name).read()
    store.remove(name)
    if damage is not None:
        put(store, name, damage(content))
    with pytest.raises(DamagedFileError, match=r"does not match its checksum|is missing"):
        restore(layout, memory_uri, replace=True)
    assert hits(layout) == before
    assert sorted(path.name for path in layout.folder.parent.iterdir()) == ["photos"]


@pytest.mark.parametrize(
    "change",
    [
        lambda parsed: "not json",
        lambda parsed: [],
        lambda parsed: parsed | {"files": {"../outside": {"bytes": 1, "sha256": "0" * 64}}},
        lambda parsed: parsed | {"files": {"/etc/x": {"bytes": 1, "sha256": "0" * 64}}},
        lambda parsed: parsed | {"files": {"catalog.sqlite": {"bytes": -1, "sha256": "0" * 64}}},
        lambda parsed: parsed | {"files": {"catalog.sqlite": {"bytes": 1, "sha256": None}}},
        lambda parsed: parsed | {"files": {}},
        lambda parsed: (
            parsed
            | {
                "files": {
                    name: entry
                    for name, entry in parsed["files"].items()
                    if not name.startswith("segments/")
                }
            }
        ),
    ],
)
def test_damaged_or_crafted_list_of_backup_is_refused(layout, memory_uri, tmp_path, change):
    back_up(layout, memory_uri)
    store = RemoteStore(memory_uri)
    changed = change(json.loads(store.get(remote_backup.LIST_NAME).read()))
    store.remove(remote_backup.LIST_NAME)
    content = changed if isinstance(changed, str) else json.dumps(changed)
    put(store, remote_backup.LIST_NAME, content.encode())
    restored = IndexLayout(tmp_path / "elsewhere" / "restored")
    with pytest.raises(DamagedFileError):
        restore(restored, memory_uri, replace=False)
    assert not restored.folder.parent.exists()


def test_backup_of_newer_format_is_refused(layout, memory_uri, tmp_path):
    back_up(layout, memory_uri)
    store = RemoteStore(memory_uri)
    parsed = json.loads(store.get(remote_backup.LIST_NAME).read()) | {"format": 2}
    store.remove(remote_backup.LIST_NAME)
    put(store, remote_backup.LIST_NAME, json.dumps(parsed).encode())
    with pytest.raises(SourceError, match="which is newer"):
        restore(IndexLayout(tmp_path / "restored"), memory_uri, replace=False)


def test_damaged_segment_is_not_backed_up(layout, memory_uri):
    (segment,) = (path for name, path in layout.files() if name.startswith("segments/"))
    segment.write_bytes(flip(segment.read_bytes()))
    with pytest.raises(DamagedFileError, match="does not match its checksum"):
        back_up(layout, memory_uri)
    assert remote_backup.LIST_NAME not in RemoteStore(memory_uri).list()


def test_backup_without_its_packages_names_the_extra(layout, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match="remote"):
        back_up(layout, "s3://backups/x")


def test_backup_command_names_store_without_password(layout, capsys, monkeypatch):
    def run_command(*arguments):
        argv = [*arguments, "--home", str(layout.folder.parent)]
        monkeypatch.setattr(sys, "argv", ["mmsearch", *argv])
        code = run(argv)
        return code, capsys.readouterr()

    uri = f"s3://backups/{uuid.uuid4().hex}"
    code, output = run_command("backup", uri, "--index", "photos")
    assert (code, output.err) == (0, "")
    assert f"{TOYS} pictures, 2 vector files, " in output.out
    assert f" in {uri}, in " in output.out
    assert run_command("restore", uri, "--index", "again")[0] == 0
    assert hits(IndexLayout(layout.folder.with_name("again"))) == hits(layout)
    for command in ("backup", "restore"):
        code, output = run_command(
            command, "s3://me:s3cr3t@no-bucket/x", "--index", "photos", *REPLACE[command]
        )
        assert code != 0
        assert "s3cr3t" not in output.err
        assert output.err.startswith("Error: s3://no-bucket/x ")
        assert "Traceback" not in output.err


REPLACE = {"backup": [], "restore": ["--replace"]}
