"""Originals of pictures that are in no folder: from Python and over HTTP."""

import shutil
import zipfile

import pytest

import mmsearch
from mmsearch.core.errors import ForbiddenError, GoneError, StorageError
from mmsearch.maintenance import sources
from tests.http_client import http_client

AT = "/v1/indexes/default/pictures"


@pytest.fixture
def home(photos, tmp_path):
    """The home of an index of a zip with two photographs."""
    files = sorted((photos / "photos").glob("*.jpg"))[:2]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in files:
            archive.write(file, f"sub/{file.name}")
    shutil.copy(files[0], tmp_path / "first.jpg")
    with mmsearch.open_index(home=tmp_path / "home", model="starter") as index:
        index.add_source(tmp_path / "a.zip")
    return tmp_path / "home"


@pytest.fixture
def server(home):
    with http_client(home) as server:
        yield server


@pytest.fixture
def first(home, tmp_path):
    """The id, the name and the content of the first photograph."""
    with mmsearch.open_index(home=home) as index:
        item = min(index, key=lambda item: item.key)
    return item.id, item.key.rpartition("/")[2], (tmp_path / "first.jpg").read_bytes()


def test_original_in_a_zip_is_served(server, first):
    number, name, content = first
    answer = server.get(f"{AT}/{number}/original")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert f'filename="{name}"' in answer.headers["Content-Disposition"]
    head = server.head(f"{AT}/{number}/original")
    assert (head.status_code, head.content) == (200, b"")
    for header in ("Content-Length", "Content-Type", "ETag", "Accept-Ranges"):
        assert head.headers[header] == answer.headers[header], header
    assert answer.headers["Content-Length"] == str(len(content))


def test_original_in_a_zip_is_served_in_parts_and_read_once(server, first, monkeypatch):
    number, _, content = first
    at = f"{AT}/{number}/original"
    reads = []
    read_item = sources._read_item
    monkeypatch.setattr(sources, "_read_item", lambda *args: reads.append(args) or read_item(*args))
    size = len(content)
    for text, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        (f"bytes={size - 5}-", size - 5, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=5-{size * 2}", 5, size),
    ):
        part = server.get(at, headers={"Range": text})
        assert (part.status_code, part.content) == (206, content[start:stop]), text
        assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
    etag = part.headers["ETag"]
    part = server.get(at, headers={"Range": "bytes=1-2", "If-Range": etag})
    assert (part.status_code, part.content) == (206, content[1:3])
    whole = server.get(at, headers={"Range": "bytes=1-2", "If-Range": '"another"'})
    assert (whole.status_code, whole.content) == (200, content)
    beyond = server.get(at, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert server.get(at, headers={"If-None-Match": etag}).status_code == 304
    assert len(reads) == 1


def test_original_of_a_record_is_served_in_parts(home, tmp_path):
    content = (tmp_path / "first.jpg").read_bytes()
    with mmsearch.open_index(home=home) as index:
        index.add([content], ["mine"], keep_originals=True)
        index.remove_source("a.zip")
        number = index.get("mine").id
    with http_client(home) as server:
        part = server.get(f"{AT}/{number}/original", headers={"Range": "bytes=3-8"})
        assert (part.status_code, part.content) == (206, content[3:9])


def test_original_of_a_missing_zip_is_unavailable_and_its_thumbnail_stays(server, first, tmp_path):
    (tmp_path / "a.zip").rename(tmp_path / "away.zip")
    answer = server.get(f"{AT}/{first[0]}/original")
    assert answer.status_code == 503
    assert "cannot be read now" in answer.json()["detail"]
    assert server.get(f"{AT}/{first[0]}/thumbnail").status_code == 200


@pytest.mark.parametrize("content", [b"a secret", None])
def test_original_that_has_changed_is_gone(server, first, tmp_path, content):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        if content is not None:
            archive.writestr(f"sub/{first[1]}", content)
    answer = server.get(f"{AT}/{first[0]}/original")
    assert answer.status_code == 410
    assert b"secret" not in answer.content


def test_original_at_an_address_that_may_be_private_is_not_fetched_for_clients(
    home, first, monkeypatch
):
    number, _, content = first
    monkeypatch.setattr(sources, "_PRIVATE_CHOICES", ("hidden",))
    with mmsearch.open_index(home=home) as index:
        index.set_source("a.zip", hidden=True)
        assert index.read_original(number) == content
        with pytest.raises(ForbiddenError, match="may be private"):
            index.read_original(number, public_only=True)
    with http_client(home) as server:
        assert server.get(f"{AT}/{number}/original").status_code == 403


def test_errors_of_originals_from_python(home, first, tmp_path):
    with mmsearch.open_index(home=home) as index:
        assert index.read_original(first[0]) == first[2]
        (tmp_path / "a.zip").unlink()
        with pytest.raises(StorageError, match="Try again later"):
            index.read_original(first[0])
        index.remove_source("a.zip")
        with pytest.raises(GoneError):
            index.read_original(first[0])
