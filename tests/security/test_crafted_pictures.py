"""Catalogs that list any file as a picture: the server sends only indexed pictures."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from mmsearch import api
from mmsearch.core.errors import DecodeError, ForbiddenError, GoneError
from mmsearch.core.settings import load_settings
from mmsearch.mcp.schemas import GetImageArguments
from mmsearch.mcp.tools import Tools
from mmsearch.search.image_loader import Originals
from mmsearch.server.thumbnails import Size
from mmsearch.storage.layout import IndexLayout
from tests.crafted_indexes import make_index, point_catalog_at_file, write_picture
from tests.http_client import http_client, open_server_state

AT = "/v1/indexes/default/pictures/1"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and named pipes are POSIX's")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    make_index(folder / "indexes")
    return folder


@pytest.fixture
def layout(sound, tmp_path):
    shutil.copytree(sound / "indexes", tmp_path / "indexes")
    return IndexLayout.for_name(tmp_path / "indexes", "default")


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "elsewhere" / "passwd"
    path.parent.mkdir()
    path.write_text("root:x:0:0:root:/root:/bin/bash\n" * 100)
    return path


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).digest()


def refused(layout, *statuses):
    """Assert that original and thumbnail get an error; return the error details."""
    said = []
    with http_client(layout.folder.parent) as server:
        for part in ("original", "thumbnail"):
            answer = server.get(f"{AT}/{part}")
            assert answer.status_code in statuses, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert b"root:" not in answer.content
            said.append(answer.json()["detail"])
    return said


def test_original_is_served_with_media_type_of_content(layout, tmp_path):
    # Its name says JPEG.
    path = write_picture(tmp_path / "album" / "one.png").rename(tmp_path / "album" / "one.jpg")
    point_catalog_at_file(layout, path, root=os.fsencode(path.parent), digest=digest_of(path))
    with http_client(layout.folder.parent) as server:
        answer = server.get(f"{AT}/original")
        small = server.get(f"{AT}/thumbnail")
    assert answer.content == path.read_bytes()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (small.status_code, small.headers["content-type"]) == (200, "image/webp")


@pytest.mark.parametrize("name", ["passwd", "passwd.jpg", "passwd.png", "passwd.heic"])
def test_indexed_file_that_is_not_picture_gets_403_or_422(layout, secret, name):
    # The attacker's catalog has the right digest, size and time, and / as its root.
    secret = secret.rename(secret.with_name(name))
    point_catalog_at_file(layout, secret, digest=digest_of(secret))
    refused(layout, 403 if name == "passwd" else 422)


def test_file_with_other_digest_gets_410(layout, tmp_path):
    path = write_picture(tmp_path / "album" / "private.jpg")
    point_catalog_at_file(layout, path)
    said = refused(layout, 410)
    assert said[0].startswith("The file of picture 1 is gone or has changed")


def test_file_changed_with_same_size_and_time_gets_410(layout, tmp_path):
    path = write_picture(tmp_path / "album" / "one.bmp", "red")
    point_catalog_at_file(layout, path, root=os.fsencode(path.parent), digest=digest_of(path))
    facts = path.stat()
    with http_client(layout.folder.parent) as server:
        assert server.get(f"{AT}/original").status_code == 200
        write_picture(path, "blue")
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        assert path.stat().st_size == facts.st_size
        assert server.get(f"{AT}/original").status_code == 410
        assert server.get(f"{AT}/thumbnail").status_code == 410


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_link_out_of_root_is_served_only_if_follow_symlinks_is_set(
    layout, tmp_path, linked, monkeypatch
):
    real = write_picture(tmp_path / "private" / "one.jpg")
    root = tmp_path / "album"
    root.mkdir()
    if linked == "file":
        path = root / "one.jpg"
        path.symlink_to(real)
    else:
        (root / "sub").symlink_to(real.parent)
        path = root / "sub" / "one.jpg"
    point_catalog_at_file(layout, path, root=os.fsencode(root), digest=digest_of(real))
    said = refused(layout, 403)
    assert all("is outside its folder, behind a link" in each for each in said)
    monkeypatch.setenv("MMSEARCH_FOLLOW_SYMLINKS", "true")
    with http_client(layout.folder.parent) as server:
        assert server.get(f"{AT}/original").content == real.read_bytes()


def test_root_that_is_link_serves_its_pictures(layout, tmp_path):
    real = write_picture(tmp_path / "disk" / "one.jpg")
    root = tmp_path / "album"
    root.symlink_to(real.parent)
    point_catalog_at_file(layout, root / "one.jpg", root=os.fsencode(root), digest=digest_of(real))
    with http_client(layout.folder.parent) as server:
        assert server.get(f"{AT}/original").content == real.read_bytes()


def test_named_pipe_or_device_gets_410_without_waiting(layout, tmp_path):
    path = write_picture(tmp_path / "album" / "one.jpg")
    point_catalog_at_file(layout, path, digest=digest_of(path))
    path.unlink()
    os.mkfifo(path)
    refused(layout, 410)
    point_catalog_at_file(layout, Path("/dev/zero"))
    refused(layout, 410)


def test_mcp_get_image_of_non_picture_file_raises_decode_error(layout, secret):
    import anyio

    secret = secret.rename(secret.with_suffix(".jpg"))
    point_catalog_at_file(layout, secret, digest=digest_of(secret))

    async def get(service):
        tools = Tools(service.index_pool.worker("default"), service.thumbnails)
        await tools.get(GetImageArguments(image_id=1, size=Size.SMALL))

    with (
        open_server_state(layout.folder.parent) as service,
        pytest.raises(DecodeError, match="cannot be read"),
    ):
        anyio.run(get, service)


class Pictures:
    """Image loader that records the decoded files."""

    def __init__(self):
        self.decoded = []

    def can_read(self, path):
        return path.endswith(b".jpg")

    def format(self, path):
        self.decoded.append(path)
        return "JPEG"


def test_originals_read_unchanged_file_only_once(layout, tmp_path, monkeypatch):
    path = write_picture(tmp_path / "album" / "one.jpg")
    point_catalog_at_file(layout, path, digest=digest_of(path))
    with api.open_index("default", home=layout.folder.parent) as index:
        record = index.picture(1)
    assert (record.root, record.digest) == (b"/", digest_of(path))
    image_loader, read_paths = Pictures(), []
    originals = Originals(image_loader)
    digest = originals.path.__globals__["hash_source_file"]

    def counting_digest(path):
        read_paths.append(path)
        return digest(path)

    monkeypatch.setitem(originals.path.__globals__, "hash_source_file", counting_digest)
    for _ in range(3):
        assert originals.path_and_format(record) == (os.fsencode(path), "JPEG")
    assert (len(read_paths), len(image_loader.decoded)) == (1, 1)
    os.utime(path, ns=(1, record.mtime_ns))
    assert originals.path(record) == os.fsencode(path)
    assert len(read_paths) == 2
    path.unlink()
    with pytest.raises(GoneError):
        originals.path(record)


@pytest.mark.parametrize("name", ["run.sh", "run.desktop", "page.html", "one.jpg.exe"])
def test_original_without_picture_suffix_raises_forbidden_error(layout, tmp_path, name):
    path = write_picture(tmp_path / "album" / "one.png").rename(tmp_path / "album" / name)
    point_catalog_at_file(layout, path, digest=digest_of(path))
    with api.open_index("default", home=layout.folder.parent) as index:
        hit = 1
        with pytest.raises(ForbiddenError, match="not named like a picture"):
            index.original(hit)
        assert index.thumbnail(hit) is None


@pytest.mark.parametrize("name", ["one", "one.jpg_large", "one.dat", "one.txt", "one.jpg"])
def test_original_with_picture_content_and_any_other_name_is_returned(layout, tmp_path, name):
    path = write_picture(tmp_path / "album" / "one.png").rename(tmp_path / "album" / name)
    point_catalog_at_file(layout, path, digest=digest_of(path))
    with api.open_index("default", home=layout.folder.parent) as index:
        hit = 1
        assert index.original(hit) == path
        assert index.thumbnail(hit) is not None


@pytest.mark.parametrize("name", ["secret", "secret.txt", "secret.dat"])
def test_original_without_picture_name_or_content_raises_forbidden_error(layout, tmp_path, name):
    path = tmp_path / "album" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("password\n")
    point_catalog_at_file(layout, path, digest=digest_of(path))
    hit = 1
    with (
        api.open_index("default", home=layout.folder.parent) as index,
        pytest.raises(ForbiddenError, match="not named like a picture"),
    ):
        index.original(hit)


def test_settings_follow_symlinks_is_off_by_default_and_set_by_environment(monkeypatch):
    assert load_settings().follow_symlinks is False
    monkeypatch.setenv("MMSEARCH_FOLLOW_SYMLINKS", "1")
    assert load_settings().follow_symlinks is True
