"""Contract tests of stores of immutable files: a folder, memory, and S3 on this machine."""

import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmsearch.core.errors import DamagedFileError, MMSearchError, StateError
from mmsearch.core.records import FileRef
from mmsearch.storage.stores.local import LocalStore
from mmsearch.storage.stores.remote import RemoteStore
from tests.s3_server import make_bucket, s3_server, use_test_credentials

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def endpoint():
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    with s3_server() as address:
        make_bucket(address, "store")
        yield address


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return LocalStore(tmp_path)
    pytest.importorskip("fsspec")
    token = uuid.uuid4().hex
    if request.param == "memory":
        return RemoteStore(f"memory://{token}/index")
    endpoint = request.getfixturevalue("endpoint")
    use_test_credentials(monkeypatch, tmp_path, endpoint)
    return RemoteStore(f"s3://store/{token}/an index")


def put(store, name, *chunks):
    with store.put(name) as file:
        for chunk in chunks:
            file.write(chunk)
        return file.file_ref()


def read(store, name):
    with store.get(name) as file:
        return file.read()


def test_store_returns_what_was_put_and_its_checksum(store):
    content = bytes(range(256)) * 1000
    ref = put(store, "segments/000001-a.vectors", content[:1000], memoryview(content)[1000:])
    assert ref == FileRef(
        "segments/000001-a.vectors", len(content), hashlib.sha256(content).hexdigest()
    )
    assert read(store, ref.name) == content
    put(store, "empty")
    assert read(store, "empty") == b""
    assert store.list() == {ref.name: len(content), "empty": 0}


def test_empty_store_lists_nothing_and_removes_nothing(store):
    assert store.list() == {}
    store.remove("absent")
    with pytest.raises(DamagedFileError, match="absent is missing") as caught:
        read(store, "absent")
    assert caught.value.details["missing"]


def test_store_removes_one_file(store):
    put(store, "a/b", b"1")
    put(store, "a/c", b"2")
    store.remove("a/b")
    assert store.list() == {"a/c": 1}
    with pytest.raises(DamagedFileError):
        read(store, "a/b")


def test_file_appears_whole_and_only_at_the_end(store):
    with store.put("a/file") as file:
        file.write(b"first half, ")
        assert "a/file" not in store.list()
        with pytest.raises(DamagedFileError):
            read(store, "a/file")
        file.write(b"second half")
        file.flush()
        assert file.path.read_bytes() == b"first half, second half"
        assert file.size == 23
    assert read(store, "a/file") == b"first half, second half"


def test_file_of_failed_writer_does_not_appear(store):
    def fail():
        with store.put("a/file") as file:
            file.write(b"some")
            raise RuntimeError("the writer failed")

    with pytest.raises(RuntimeError, match="the writer failed"):
        fail()
    assert store.list() == {}
    put(store, "a/file", b"all")
    assert read(store, "a/file") == b"all"


def test_store_keeps_files_of_many_threads_apart(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: put(store, f"{n % 3}/{n}", b"%d" % n * n), range(1, 25)))
        names = [f"{n % 3}/{n}" for n in range(1, 25)]
        assert set(store.list()) == set(names)
        contents = list(pool.map(lambda name: read(store, name), names))
    assert contents == [b"%d" % n * n for n in range(1, 25)]


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/.", "a\0", "a\\b"]
)
def test_store_refuses_names_that_lead_out_of_it(store, name):
    for request in (
        lambda: put(store, name, b"1"),
        lambda: store.get(name),
        lambda: store.remove(name),
    ):
        with pytest.raises(ValueError, match="is not the name of a file"):
            request()
    assert store.list() == {}


def test_store_has_a_folder_for_temporary_files(store):
    assert store.temporary_folder.is_dir()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://host/x", "is not a store that can be written"),
        ("file:///tmp/x", "is not a store that can be written"),
        ("zip://x.zip::s3://b/a", "is not a store that can be written"),
        ("s3://", "names no bucket"),
        ("nothing://x/y", "cannot be opened: .*nothing"),
    ],
)
def test_uri_that_is_no_store_is_refused(uri, message):
    pytest.importorskip("s3fs")
    with pytest.raises(MMSearchError, match=message):
        RemoteStore(uri)


def test_refused_access_names_the_store_and_no_password(endpoint, monkeypatch, tmp_path):
    use_test_credentials(monkeypatch, tmp_path, endpoint)
    store = RemoteStore("s3://user:s3cr3t@absent-bucket/x")
    for request in (lambda: put(store, "a", b"1"), lambda: store.remove("a")):
        with pytest.raises(StateError, match="s3://absent-bucket/x cannot be written: ") as caught:
            request()
        assert "s3cr3t" not in f"{caught.value.message} {caught.value.hint}"
