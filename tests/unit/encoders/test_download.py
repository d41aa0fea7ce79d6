"""Downloads from a local stand-in for the hub, with faults."""

import errno
import hashlib
import os

import pytest

from mmsearch.core.errors import (
    ChecksumError,
    DiskFullError,
    DownloadError,
    ModelUnavailableError,
)
from mmsearch.encoders import _download, _hub
from mmsearch.encoders._download import Download, require_space
from mmsearch.encoders._hub import HubClient, RepositoryInfo, require_sha256
from tests.stand_in_hub import COMMIT, stand_in_hub

pytestmark = pytest.mark.enable_socket

REPOSITORY, NAME = "people/model", "weights.safetensors"
CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def hub(monkeypatch):
    with stand_in_hub() as hub:
        hub.add(REPOSITORY, NAME, CONTENT)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield hub


@pytest.fixture
def client(hub):
    """A client that notes what it says and how long it would have waited."""
    waits = []
    client = HubClient(sleep=waits.append)
    client.waits, client.said = waits, []
    client.report = client.said.append
    return client


@pytest.fixture
def download(client, tmp_path):
    def make(expected=SHA256, on_bytes=lambda done, total: None):
        file = client.find_file(REPOSITORY, NAME, "main")
        return Download(client, file, tmp_path / NAME, expected, on_bytes)

    return make


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


def test_find_file_returns_what_the_hub_states(hub, client):
    file = client.find_file(REPOSITORY, NAME, "main")
    assert (file.size, file.sha256, file.revision) == (len(CONTENT), SHA256, COMMIT)
    assert client.find_file(REPOSITORY, "other.bin", "main") is None
    assert not hub.gets(NAME)


def test_find_file_of_a_redirect_to_a_store_reads_the_hubs_own_headers(hub, client):
    with stand_in_hub() as hub.store:
        file = client.find_file(REPOSITORY, NAME, "main")
        assert (file.size, file.sha256, file.revision) == (len(CONTENT), SHA256, COMMIT)
        assert not hub.store.requests


def test_find_file_of_a_server_without_head_asks_with_get(hub, client):
    hub.head_known = False
    assert client.find_file(REPOSITORY, NAME, "main").sha256 == SHA256


def test_repository_info_states_licence_and_checksums(hub, client):
    info = client.repository_info(REPOSITORY, "main")
    assert info == RepositoryInfo("mit", {NAME: SHA256})
    hub.licence = None
    assert client.repository_info(REPOSITORY, "main") == RepositoryInfo()


def test_require_sha256_refuses_two_different_ones(hub, client):
    file = client.find_file(REPOSITORY, NAME, "main")
    assert require_sha256(file, RepositoryInfo()) == SHA256
    assert require_sha256(file, RepositoryInfo(None, {NAME: SHA256})) == SHA256
    with pytest.raises(ChecksumError, match="two different"):
        require_sha256(file, RepositoryInfo(None, {NAME: "0" * 64}))


def test_download_is_whole_and_leaves_nothing_else(hub, download, tmp_path):
    seen = []
    assert download(on_bytes=lambda done, total: seen.append((done, total))).run() == SHA256
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert left_behind(tmp_path) == [NAME]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, total in seen] == sorted(done for done, total in seen)


def test_download_from_a_store_does_not_send_the_token_there(hub, download, tmp_path):
    with stand_in_hub() as store:
        store.files, hub.store = hub.files, store
        assert download().run() == SHA256
        assert (tmp_path / NAME).read_bytes() == CONTENT
        assert all("Authorization" not in headers for _, _, headers in store.requests)
    assert hub.gets(NAME)[0]["Authorization"] == "Bearer secret"


def test_cut_connections_are_continued_and_the_file_is_whole(hub, download, client, tmp_path):
    hub.cuts = [1000, 200_000, 5]
    assert download().run() == SHA256
    assert (tmp_path / NAME).read_bytes() == CONTENT
    ranges = [headers.get("Range") for headers in hub.gets(NAME)]
    assert ranges == [None, "bytes=1000-", "bytes=201000-", "bytes=201005-"]
    assert client.waits == [1, 1, 1]
    assert client.said[0] == "The connection was lost; trying again in 1 s."


def test_a_connection_that_brings_nothing_ends_with_the_part_kept(hub, download, tmp_path):
    hub.cuts = [300_000, *[0] * 20]
    with pytest.raises(DownloadError, match=r"stopped after 300 kB of 1 MB: .*lost") as failed:
        download().run()
    assert failed.value.details["kept_bytes"] == 300_000
    assert "run the same command again to continue" in str(failed.value)
    assert left_behind(tmp_path) == [f"{NAME}.part", f"{NAME}.part.json"]
    hub.cuts = []
    assert download().kept_bytes == 300_000
    assert download().run() == SHA256
    assert hub.gets(NAME)[-1]["Range"] == "bytes=300000-"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_keeps_what_has_arrived(hub, download, tmp_path, error):
    def stop(done, total):
        if done >= 100_000:
            raise error

    with pytest.raises(error):
        download(on_bytes=stop).run()
    kept = (tmp_path / f"{NAME}.part").stat().st_size
    assert 100_000 <= kept <= len(CONTENT)
    assert download().run() == SHA256
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_server_without_range_starts_again(hub, download, client, tmp_path):
    hub.ranges, hub.cuts = False, [1000]
    assert download().run() == SHA256
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert "The hub cannot continue a download; starting again." in client.said


def test_a_file_that_changes_at_the_store_starts_again(hub, download, tmp_path):
    hub.cuts, hub.etag = [1000, *[0] * 9], '"v1"'
    with pytest.raises(DownloadError):
        download().run()
    hub.cuts, hub.etag = [], '"v2"'
    assert download().run() == SHA256
    assert hub.gets(NAME)[-1]["If-Range"] == '"v1"'


def test_a_part_of_another_file_is_discarded(hub, download, client, tmp_path):
    hub.cuts = [1000, *[0] * 9]
    with pytest.raises(DownloadError):
        download().run()
    changed = CONTENT[::-1]
    hub.cuts, hub.files = [], {f"{REPOSITORY}/{NAME}": changed}
    assert download(hashlib.sha256(changed).hexdigest()).run()
    assert (tmp_path / NAME).read_bytes() == changed
    assert "The file at the hub has changed; starting again." in client.said


def test_a_damaged_part_is_found_by_the_checksum(hub, download, tmp_path):
    hub.cuts = [1000, *[0] * 9]
    with pytest.raises(DownloadError):
        download().run()
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 1000)
    hub.cuts = []
    with pytest.raises(ChecksumError):
        download().run()
    assert left_behind(tmp_path) == []
    assert download().run() == SHA256


def test_a_part_longer_than_the_file_is_discarded(hub, download, tmp_path):
    hub.cuts = [1000, *[0] * 9]
    with pytest.raises(DownloadError):
        download().run()
    with (tmp_path / f"{NAME}.part").open("ab") as part:
        part.write(CONTENT)
    hub.cuts = []
    assert download().run() == SHA256


def test_wrong_bytes_are_deleted_with_one_sentence(hub, download, tmp_path):
    hub.stated_sha256[NAME] = "ab" * 32
    with pytest.raises(ChecksumError, match=f"{SHA256[:12]}.*not abababababab.*deleted"):
        download("ab" * 32).run()
    assert left_behind(tmp_path) == []


def test_a_download_that_is_complete_is_not_repeated(hub, download, tmp_path):
    download().run()
    assert download().kept_bytes == len(CONTENT)
    assert download().run() == SHA256
    assert len(hub.gets(NAME)) == 1
    (tmp_path / NAME).write_bytes(b"other")
    assert download().run() == SHA256
    assert (tmp_path / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("error_number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_fills_up_keeps_the_part(hub, download, monkeypatch, tmp_path, error_number):
    def fail(part, chunk):
        raise OSError(error_number, os.strerror(error_number))

    monkeypatch.setattr(_download, "_write_some", fail)
    with pytest.raises(DiskFullError, match=r"disk is full .* 1 MB are missing") as failed:
        download().run()
    assert "Free some space" in failed.value.hint
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    assert download().run() == SHA256


def test_too_little_space_is_said_before_the_first_byte(hub, download, monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(DiskFullError, match="1 MB of free space are needed"):
        download().run()
    with pytest.raises(DiskFullError, match=r"3\.0 GB of free space .* to compile, but .* 1 MB"):
        require_space(tmp_path / "not" / "there", 3_000_000_000, " to compile")
    require_space(tmp_path, 0)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "requires a token .*Set HF_TOKEN"),
        (403, "does not allow.*Accept the licence"),
        (418, "HTTP 418"),
    ],
)
def test_a_refusal_is_one_sentence_and_not_repeated(hub, client, status, sentence):
    hub.answers = [(status, {}, b"no")]
    with pytest.raises(ModelUnavailableError, match=sentence):
        client.find_file(REPOSITORY, NAME, "main")
    assert not client.waits


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_hub_is_asked_again(hub, client, status):
    hub.answers = [(status, {"Retry_After": "7"}, b""), (status, {}, b"")]
    assert client.find_file(REPOSITORY, NAME, "main").sha256 == SHA256
    assert client.waits == [7, 2]


def test_a_hub_that_stays_busy_is_named_with_its_status(hub, client):
    hub.answers = [(503, {}, b"")] * 9
    with pytest.raises(ModelUnavailableError, match=r"HTTP 503 \(Service Unavailable\)"):
        client.find_file(REPOSITORY, NAME, "main")
    assert client.waits == list(_hub.BACKOFF_S)


def test_a_long_wait_that_the_hub_asks_for_is_reported(hub, client):
    hub.answers = [(429, {"Retry_After": "3600"}, b"")]
    with pytest.raises(ModelUnavailableError, match="asks to wait 3600 s"):
        client.find_file(REPOSITORY, NAME, "main")


def test_a_busy_store_in_the_middle_is_asked_again(hub, download, client):
    file = download()
    hub.answers = [(429, {"Retry_After": "3"}, b"")]
    assert file.run() == SHA256
    assert client.waits == [3]


def test_a_web_page_is_not_taken_for_the_file(hub, client, download, tmp_path):
    page = (200, {"Content_Type": "text/html; charset=utf-8"}, b"<html>Please log in")
    file = download()
    for ask in (lambda: client.find_file(REPOSITORY, NAME, "main"), file.run):
        hub.answers = [page]
        with pytest.raises(ModelUnavailableError, match="a web page instead"):
            ask()
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("content", [CONTENT + b"x", CONTENT[:-1]])
def test_a_wrong_length_is_one_sentence(hub, download, tmp_path, content):
    file = download()
    hub.answers = [(200, {}, content)]
    with pytest.raises(ModelUnavailableError, match=r"announced 1,048,576 bytes .* sends"):
        file.run()
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.org/x", "", "/circle"])
def test_a_redirect_to_nowhere_is_refused(hub, client, location):
    hub.answers = [(302, {"Location": location}, b"")] * 9
    with pytest.raises(ModelUnavailableError, match="redirects"):
        client.find_file(REPOSITORY, NAME, "main")


def test_no_hub_names_the_way_without_one(monkeypatch, client):
    client.endpoint = "http://127.0.0.1:9"
    with pytest.raises(ModelUnavailableError, match=r"127\.0\.0\.1:9 does not answer") as failed:
        client.find_file(REPOSITORY, NAME, "main")
    assert "mmsearch models import FILE" in failed.value.command_text
    assert client.waits == []


@pytest.mark.parametrize("endpoint", ["file:///tmp", "huggingface.co", "https://"])
def test_an_endpoint_that_is_no_address_is_named(monkeypatch, endpoint):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    with pytest.raises(ModelUnavailableError, match="HF_ENDPOINT is"):
        HubClient()


def test_retry_after_may_be_a_date():
    assert _hub._parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert _hub._parse_retry_after("soon") is None
    assert _hub._parse_retry_after("12") == 12
