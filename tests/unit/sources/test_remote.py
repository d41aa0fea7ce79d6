"""Tests of stores and web servers as sources: names, listings, failures."""

import fsspec
import pytest

from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.sources import SourceFailure
from mmsearch.sources import remote
from mmsearch.storage.stores.remote import describe_error
from tests.fake_web import redirect, run_web_server, send

pytestmark = pytest.mark.enable_socket


def is_picture(name, head):
    return name.endswith(b".jpg")


def build(uri, **choices):
    return remote.build(uri.encode(), is_picture=is_picture, **choices)


@pytest.fixture
def memory(tmp_path):
    """Return a function that puts an object below ``memory://NAME``, and that URI."""
    files = fsspec.filesystem("memory")

    def put(name, content=b"content"):
        files.pipe_file(f"/{tmp_path.name}/{name}", content)

    return put, f"memory://{tmp_path.name}"


@pytest.fixture
def server():
    with run_web_server() as server:
        yield server


def keys(source):
    return [item.key for part in source.parts() for item in source.items(part)]


# --- fsspec ---


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc",
        "local:///etc",
        "simplecache::memory://a",
        "zip://*.jpg::file:///etc/a.zip",
        "reference://",
        "FILE:///etc/a.tar",
        "dir::memory://a",
    ],
)
def test_remote_uri_of_this_machine_is_refused(uri):
    with pytest.raises(SourceError):
        list(build(uri).parts())


@pytest.mark.parametrize("uri", ["/etc", "photos", "", "memory:/a", "a\0b://c"])
def test_remote_path_is_no_uri(uri):
    with pytest.raises(SourceError, match="is not a URI"):
        build(uri)


def test_remote_unknown_scheme_and_missing_package_are_source_errors():
    with pytest.raises(SourceError, match="nowhere"):
        build("nowhere://a/b")
    with pytest.raises(SourceError, match="need a Python package that is not installed"):
        build("gs://a/b")


def test_remote_password_in_a_uri_is_not_in_messages():
    for uri in ("ftp://me:secret@127.0.0.1:1/a/", "sftp://me:secret@127.0.0.1:1/a.tar"):
        with pytest.raises(SourceError) as error:
            list(build(uri).parts())
        assert "secret" not in str(error.value)


def test_remote_parts_are_folders_and_hidden_names_are_left_out(memory):
    put, uri = memory
    for name in ("a.jpg", "x/b.jpg", "x/y/c.jpg", ".hidden/d.jpg", "x/.e.jpg", "z/f.txt"):
        put(name)
    source = build(uri)
    assert [part.key for part in source.parts()] == [b"", b"x", b"x/y", b"z"]
    assert keys(source) == [b"a.jpg", b"x/b.jpg", b"x/y/c.jpg"]
    assert len(keys(build(uri, hidden=True))) == 5


def test_remote_items_of_a_part_are_listed_again(memory):
    put, uri = memory
    put("a/1.jpg")
    put("b/2.jpg")
    source = build(uri)
    first, second = source.parts()
    assert [item.key for item in source.items(first)] == [b"a/1.jpg"]
    assert [item.key for item in source.items(second)] == [b"b/2.jpg"]


def test_remote_object_beyond_the_limit_is_refused(memory):
    put, uri = memory
    put("a.jpg", bytes(1_000_001))
    put("b.jpg", bytes(1_000_000))
    source = build(uri, max_mb=1.0)
    with pytest.raises(DecodeError, match="larger than 1 MB"):
        source.read(b"a.jpg")
    assert len(source.read(b"b.jpg")) == 1_000_000


def test_remote_name_above_the_prefix_is_never_read(memory):
    put, uri = memory
    put("secret.jpg", b"secret")
    put("photos/a.jpg")
    source = build(uri + "/photos")
    for key in (b"../secret.jpg", b"/secret.jpg", b"x/../../secret.jpg", b".", b"", b"a.jpg/"):
        with pytest.raises(DecodeError, match="no such object"):
            source.read(key)
        assert source.exists(key) is False


def test_remote_folder_that_cannot_be_listed_is_a_failure_of_its_part(memory, monkeypatch):
    put, uri = memory
    put("a/1.jpg")
    put("b/2.jpg")
    source = build(uri)
    first, _ = source.parts()

    def fail(path, **options):
        raise RuntimeError("the store\nis down.")

    monkeypatch.setattr(source._store._fs, "ls", fail)
    (failure,) = source.items(first)
    assert isinstance(failure, SourceFailure)
    assert failure.ends_part
    assert failure.transient
    assert "the store is down" in failure.reason
    with pytest.raises(SourceError, match="the store is down"):
        list(source.parts())


def test_remote_store_that_fails_within_an_archive_ends_its_part(memory, monkeypatch):
    put, uri = memory
    put("a.tar", b"x" * 10_000)
    source = build(uri + "/a.tar")
    (part,) = source.parts()

    def fail(self, path, mode, **options):
        class File:
            def read(self, size):
                raise RuntimeError("the connection is reset")

            def close(self):
                pass

        return File()

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "open", fail)
    (failure,) = source.items(part)
    assert failure.ends_part
    assert failure.transient


def test_remote_pattern_without_a_match_is_a_source_error(memory):
    _, uri = memory
    with pytest.raises(SourceError, match="Nothing matches"):
        build(uri + "/*.tar")


def test_remote_part_with_an_object_without_etag_or_time_never_passes_whole(memory, monkeypatch):
    put, uri = memory
    put("a/1.jpg")
    put("b/2.jpg")
    source = build(uri)
    real = source._store._fs.ls

    def list_without_times(path, **options):
        found = real(path, **options)
        return [
            {**entry, "created": None} if "1.jpg" in entry["name"] else entry for entry in found
        ]

    monkeypatch.setattr(source._store._fs, "ls", list_without_times)
    assert [bool(part.stamp) for part in source.parts()] == [False, True]
    assert next(item.stamp for part in source.parts() for item in source.items(part)) == b""


# --- web servers ---


def test_remote_web_follows_links_below_the_prefix_only(server):
    secret = server.url("/secret.jpg")
    page = f"""<a href="b/">b</a><a href='a%20b.jpg'>x</a><a href="?C=N">n</a><a href="../">up</a>
        <a href="/secret.jpg">s</a><a href="{secret}">s</a><a href="//a.example/photos/c.jpg">o</a>
        <a href="b/../../secret.jpg">t</a><a href="b/%2e%2e/%2e%2e/secret.jpg">u</a>
        <a href="https://127.0.0.1/photos/d.jpg">h</a><a href="javascript:x">j</a><a>y</a>
        <a href="file:///etc/passwd.jpg">f</a><a href="http://[">z</a><a href="#top">top</a>"""
    server.answers |= {
        "/photos/": page.encode(),
        "/photos/b/": b'<a href="./">here</a><a href="c.jpg">c</a><a href="/photos/">root</a>',
        "/photos/b/c.jpg": b"c",
        "/secret.jpg": b"secret",
    }
    source = build(server.url("/photos"), allow_private=True)
    assert keys(source) == [b"a b.jpg", b"b/c.jpg"]
    assert source.read(b"b/c.jpg") == b"c"
    for key in (b"../secret.jpg", b"/secret.jpg", b"b/../../secret.jpg"):
        with pytest.raises(DecodeError, match="no such object"):
            source.read(key)
    source.close()
    assert "/secret.jpg" not in [path for path, _ in server.requests]


def test_remote_web_text_beside_a_link_is_its_stamp(server):
    def stamps(size):
        server.answers["/"] = f'<a href="a.jpg">a</a> {size}<a href="b.jpg">b</a> 7'.encode()
        source = build(server.url("/"), allow_private=True)
        (part,) = source.parts()
        found = [part.stamp, *(item.stamp for item in source.items(part))]
        source.close()
        return found

    first, second = stamps(5), stamps(6)
    assert [a == b for a, b in zip(first, second, strict=True)] == [False, False, True]


@pytest.mark.parametrize("uri", ["http://127.0.0.1/photos/", "http://localhost/a.tar"])
def test_remote_web_private_address_needs_to_be_allowed(uri):
    source = build(uri)
    with pytest.raises(SourceError, match="is not public"):
        list(source.parts())
    source.close()


def test_remote_web_redirect_to_a_private_port_is_refused(server):
    server.answers["/"] = redirect("http://127.0.0.1:1/")
    source = build(server.url("/"), allow_private=True)
    with pytest.raises(SourceError, match="cannot be listed"):
        list(source.parts())
    source.close()


def test_remote_web_server_without_head_has_tars_that_never_pass_whole(server):
    server.answers["/a.tar"] = lambda handler: send(handler, 200, bytes(10_240))
    source = build(server.url("/a.tar"), allow_private=True)
    assert [part.stamp for part in source.parts()] == [b""]
    source.close()


def test_remote_web_has_no_patterns(server):
    with pytest.raises(SourceError, match="which knows no patterns"):
        build(server.url("/*.tar"), allow_private=True)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ('Could not connect: "https://b.s3.aws.com/?list-type=2&sig=1"', '"https://b.s3.aws.com/"'),
        ("no answer of https://b.s3.aws.com/a?sig=x'y now", "https://b.s3.aws.com/a now"),
        ("no answer of https://me:secret@host/a", "no answer of https://host/a"),
    ],
)
def test_reasons_of_failed_requests_keep_quotes_and_hide_secrets(error, reason):
    described = describe_error(OSError(error))
    assert described.endswith(reason)
    assert "secret" not in described
    assert "sig" not in described
