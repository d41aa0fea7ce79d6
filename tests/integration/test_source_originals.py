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
    assert server.head(f"{AT}/{number}/original").status_code in (200, 405)


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
