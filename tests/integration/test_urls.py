"""Pictures at URLs, fetched over sockets, give the same answers as uploaded pictures."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmsearch
from mmsearch.core.errors import DecodeError, ForbiddenError, MissingExtraError, SourceError
from mmsearch.server.app import make_app, serve_in_thread, wrap_with_middleware
from mmsearch.server.config import ServerConfig
from tests.fake_web import PUBLIC_HOST, FakeResolver, address_policy, run_web_server
from tests.http_client import http_client, open_server_state

pytestmark = pytest.mark.enable_socket

AT = "/v1/indexes/default"


@pytest.fixture(scope="module")
def content(photos):
    """Content of two photographs that the web server of the test offers."""
    first, *_, last = sorted((photos / "photos").glob("*.jpg"))
    return first.read_bytes(), last.read_bytes()


@pytest.fixture
def outside(content):
    with run_web_server() as server:
        server.answers["/photo.jpg"], server.answers["/é,ß.jpg"] = content
        server.answers["/%C3%A9,%C3%9F.jpg"] = content[1]
        server.answers["/words.jpg"] = b"no picture"
        yield server


@pytest.fixture
def url(outside):
    return outside.url("/photo.jpg", "photos.example")


@pytest.fixture
def service(photo_index, outside):
    rule = address_policy(outside, names=FakeResolver(photos_example=[[PUBLIC_HOST]]))
    with open_server_state(
        photo_index, ServerConfig(allow_url_queries=True), address_policy=rule
    ) as service:
        yield service


@pytest.fixture
def server(photo_index, outside):
    rule = address_policy(outside, names=FakeResolver(photos_example=[[PUBLIC_HOST]]))
    with http_client(
        photo_index, ServerConfig(allow_url_queries=True), address_policy=rule
    ) as client:
        yield client


def search(server, **body):
    answer = server.post(f"{AT}/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sent(server, content, **data):
    answer = server.post(f"{AT}/search/picture", files={"picture": content}, data=data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_http_search_by_url_equals_search_by_uploaded_picture(server, url, content):
    expected = sent(server, content[0], limit=7)
    assert expected["hits"][0]["score"] > 0.99
    by_body = search(server, like_url=[url], limit=7)
    by_url = server.get(f"{AT}/search", params={"like_url": url, "limit": 7}).json()
    by_line = search(server, query=f"image:{url}", limit=7)
    for answer in (by_body, by_url, by_line):
        assert answer["hits"] == expected["hits"]
        assert answer["query"] == f"image:{url}"
        assert answer["next_cursor"] == expected["next_cursor"]


def test_http_search_by_url_combines_with_words_weights_and_other_urls(
    server, outside, url, content
):
    other = outside.url("/é,ß.jpg")
    with_words = search(server, like_url=[url], query="at night", limit=5)
    assert with_words["hits"] == sent(server, content[0], query="at night", limit=5)["hits"]
    assert with_words["query"] == f"image:{url} + at night"
    line = f"0.5:image:{other} - image:{other}?x - snow"
    answer = search(server, like_url=[url], query=line, limit=5)
    assert answer["query"] == f"image:{url} + {line}"
    # A picture with a negative weight ranks low.
    without = search(server, query=f"{url.rpartition('/')[2]} -image:{url}", limit=200)
    first = search(server, like_url=[url], limit=1)["hits"][0]["id"]
    assert first not in [hit["id"] for hit in without["hits"][:100]]


def test_http_search_by_url_combines_with_indexed_and_uploaded_pictures(server, url, content):
    known = search(server, query="a dog", limit=1)["hits"][0]["id"]
    line = f"image:{url} - 0.5:snow"
    answer = search(server, like=[known], like_url=[url], query="a dog", limit=5)
    assert answer["query"] == f"picture {known} + image:{url} + a dog"
    assert known in [hit["id"] for hit in answer["hits"]]
    beside = sent(server, content[1], query=line, limit=5)
    assert beside["query"] == f"(picture) + {line}"
    assert beside["hits"] != sent(server, content[1], limit=5)["hits"]


def test_http_search_url_named_twice_is_fetched_once(server, outside, url):
    search(server, like_url=[url, url], query=f"-image:{url} + a dog")
    assert len(outside.requests) == 1


def test_http_batch_search_fetches_urls_of_each_search(server, outside, url, content):
    body = {"searches": [{"like_url": [url]}, {"like_url": [outside.url("/none")]}, {"query": "a"}]}
    found, missing, words = server.post(f"{AT}/search/batch", json=body).json()["answers"]
    assert found["hits"] == sent(server, content[0])["hits"]
    assert missing["status"] == 400
    assert len(words["hits"]) == 20


def test_http_embedding_of_url_equals_embedding_of_upload(server, url, content):
    at = f"{AT}/embeddings/picture"
    expected = server.post(at, files={"picture": content[0]}).json()
    assert server.post(at, data={"url": url}).json() == expected
    for wrong in ({}, {"data": {"url": url}, "files": {"picture": content[0]}}):
        answer = server.post(at, **wrong)
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("The request needs exactly one picture.")


def test_page_search_by_url_shows_same_hits_as_upload(server, url, content):
    expected = [hit["id"] for hit in sent(server, content[0], limit=40)["hits"]]
    page = server.get("/", params={"like_url": url})
    assert [int(each) for each in re.findall(r'<li data-id="(\d+)"', page.text)] == expected
    assert f'name="like_url" value="{url}"' in page.text
    assert 'data-urls="true"' in page.text
    further = re.search(r'id="more" class="button" href="([^"]+)"', page.text)[1]
    assert "like_url=http" in further


def test_page_url_with_commas_is_kept_as_one_url(server, outside, content):
    page = server.get("/", params={"like_url": outside.url("/é,ß.jpg")})
    expected = [hit["id"] for hit in sent(server, content[1], limit=40)["hits"]]
    assert [int(each) for each in re.findall(r'<li data-id="(\d+)"', page.text)] == expected


def test_client_search_by_url_equals_search_by_upload(service, outside, url, content):
    with serve_in_thread(service, 0) as at, mmsearch.Client(at) as client:
        expected = client.similar(content[0], 5)
        assert client.similar(url, 5) == expected
        assert client.search("", 5, like_url=[url]) == expected
        assert client.similar(url, 5, min_score=0.99) == expected[:1]
        more = {"query": "at night", "filters": {"orientation": "landscape"}, "mode": "vector"}
        beside = client.similar(url, 5, **more)
        assert beside == client.similar(content[0], 5, **more) != expected
        assert np.array_equal(client.embed_picture(url), client.embed_picture(content[0]))
        with pytest.raises(
            SourceError, match=r"^The server at 'http://.*' did not return a picture"
        ):
            client.similar(outside.url("/none"))
        with pytest.raises(
            DecodeError, match=r"^The picture at 'http://.*/words.jpg' cannot be re"
        ):
            client.similar(outside.url("/words.jpg"))


def test_async_client_search_by_url_equals_search_by_upload(service, url, content):
    async def main(at):
        async with mmsearch.AsyncClient(at) as client:
            named, expected = await asyncio.gather(
                client.search("a dog", 5, like_url=[url]),
                client.search(f"image:{url} + a dog", 5, syntax=True),
            )
            assert named == expected
            assert await client.similar(url, 3) == await client.similar(content[0], 3)

    with serve_in_thread(service, 0) as at:
        asyncio.run(main(at))


def test_client_url_search_with_fetching_disabled_raises_forbidden_error(photo_index, url):
    with (
        open_server_state(photo_index) as service,
        serve_in_thread(service, 0) as at,
        mmsearch.Client(at) as client,
        pytest.raises(ForbiddenError, match="Send the picture itself"),
    ):
        client.similar(url)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_http_api_doc_curl_examples_run_successfully(service, outside, content):
    outside.answers["/mill.jpg"], outside.answers["/boat.jpg"] = content
    page = (Path(__file__).parents[2] / "docs" / "reference" / "http-api.md").read_text("utf-8")
    (example,) = re.findall(r"^```\n(curl .*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert example.count("https://photos.example") == 4
    example = example.replace("https://photos.example", outside.url("", "photos.example"))
    with serve_in_thread(service, 0) as at:
        script = example.replace("http://127.0.0.1:7788", at).replace("curl", "curl --fail")
        done = subprocess.run(
            ["sh", "-ec", script], capture_output=True, text=True, check=False, timeout=120
        )
    assert done.returncode == 0, done
    assert done.stdout.count('"hits":[') == 2
    assert done.stdout.count('"embeddings"') == 1


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid", None])
def test_index_search_by_url_raises_source_error(photo_index, url, mode):
    with (
        mmsearch.open_index(home=photo_index) as index,
        pytest.raises(SourceError, match="cannot be fetched: only a server fetches URLs"),
    ):
        index.search(f"a dog + image:{url}", mode=mode, syntax=True)


def test_empty_index_search_by_url_raises_source_error(tmp_path, url):
    empty = tmp_path / "empty"
    empty.mkdir()
    with mmsearch.open_index(home=tmp_path / "home", model="starter") as index:
        index.add_folder(empty)
        with pytest.raises(SourceError, match="cannot be fetched: only a server fetches URLs"):
            index.search(f"a dog + image:{url}", syntax=True)


def test_index_embed_of_url_raises_source_error(photo_index, url):
    with (
        mmsearch.open_index(home=photo_index) as index,
        pytest.raises(SourceError, match="cannot be fetched: only a server fetches URLs"),
    ):
        index.embed([mmsearch.Term("a dog"), mmsearch.Term(url=url)])


def test_server_with_url_queries_lacking_http_library_raises_missing_extra(
    photo_index, monkeypatch
):
    monkeypatch.delitem(sys.modules, "mmsearch.sources._web.fetch", raising=False)
    monkeypatch.setitem(sys.modules, "httpcore2", None)
    with (
        pytest.raises(MissingExtraError, match=r"pip install '\.\[urls\]'"),
        open_server_state(photo_index, ServerConfig(allow_url_queries=True)),
    ):
        pass
    with open_server_state(photo_index) as service:
        assert wrap_with_middleware(make_app(service))
