"""The page, the API and the client below a path of a host, through a proxy."""

import html
import json
import os
import re
from contextlib import ExitStack, closing
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

import mmsearch
from mmsearch.core.settings import Settings
from mmsearch.integrations._common import link_url
from mmsearch.search.image_loader import Originals
from mmsearch.server.app import serve_in_thread
from mmsearch.server.config import ServerConfig
from mmsearch.server.state import ServerState
from tests.http_client import http_client
from tests.reverse_proxy import run_reverse_proxy

pytestmark = pytest.mark.enable_socket

TOKEN = "a token of these tests"  # noqa: S105
ROOT = "/pictures/of-2019"
AT = "/v1/indexes/default"


@pytest.fixture(scope="module")
def served(photo_index, cache):
    """Function that runs a server behind a proxy below `ROOT`, and returns the URL at the proxy."""
    with ExitStack() as stack:

        def serve(root=ROOT, *, strips, by_header, **config):
            config = ServerConfig(root_path=None if by_header else root, **config)
            settings = Settings(home=photo_index, cache=cache)
            state = ServerState.create(settings, config, lambda: ["default"])
            url = stack.enter_context(serve_in_thread(stack.enter_context(closing(state)), 0))
            headers = {"X-Forwarded-Prefix": root} if by_header else {}
            return stack.enter_context(run_reverse_proxy(url, root, strips=strips, headers=headers))

        yield serve


@pytest.fixture(
    scope="module",
    params=[(strips, by_header) for strips in (True, False) for by_header in (True, False)],
    ids=["stripped, header", "stripped, option", "whole, header", "whole, option"],
)
def url(request, served):
    strips, by_header = request.param
    return served(strips=strips, by_header=by_header)


def references(page):
    """Return the addresses in a page: its links, forms, scripts, styles and pictures."""
    found = re.findall(r'\s(?:href|src|action)="([^"]*)"', page)
    return {html.unescape(each) for each in found if not each.startswith("#")}


def json_links(value):
    """Return the links in a JSON document."""
    if isinstance(value, list):
        return {link for each in value for link in json_links(each)}
    if not isinstance(value, dict):
        return set()
    return set(value.get("links", {}).values()) | json_links(list(value.values()))


def test_every_link_of_page_and_api_stays_below_path_and_is_answered(url):
    waiting, seen, media_types = {f"{ROOT}/", f"{ROOT}/?q=a+windmill", ROOT}, set(), set()
    with httpx.Client(base_url=url.removesuffix(ROOT), timeout=60) as client:
        while waiting:
            at = waiting.pop()
            seen.add(at)
            answer = client.get(at)
            assert answer.status_code == 200, at
            assert urlsplit(at).path.startswith(ROOT)
            media_type = answer.headers["content-type"].split(";")[0]
            media_types.add(media_type)
            found = set()
            if media_type == "text/html":
                found = references(answer.text)
                for each in re.findall(r'id="answer">(.*?)</script>', answer.text, re.DOTALL):
                    found |= json_links(json.loads(each))
            elif media_type == "application/json" and "openapi" not in at:
                found = json_links(answer.json())
            elif media_type == "text/javascript":
                found = {urljoin(at, name) for name in re.findall(r'from "([^"]+)"', answer.text)}
                # Scripts add the root path to every path.
                assert not re.search(r"[\"'`]/[\w?]", answer.text)
            # A few pictures and one search stand for all.
            waiting |= {
                each
                for each in found - seen
                if not re.search(r"pictures/\d*[0-8](/|$)|dog.*cursor|animal.*cursor", each)
            }
    assert media_types == {
        "text/html",
        "text/css",
        "text/javascript",
        "image/svg+xml",
        "image/webp",
        "image/jpeg",
        "application/json",
    }
    assert any("cursor=" in each for each in seen)
    assert {f"{ROOT}/docs", f"{ROOT}/openapi.json"} <= seen


def test_api_answers_below_path_have_links_below_path(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        picture = client.get(f"{AT}/pictures/1").json()
        assert picture["links"]["self"] == f"{ROOT}{AT}/pictures/1"
        original = client.get(picture["links"]["original"].removeprefix(ROOT))
        searches = [
            client.get(f"{AT}/search", params={"q": "a dog", "limit": 1}),
            client.post(f"{AT}/search", json={"query": "a dog", "limit": 1}),
            client.post(
                f"{AT}/search/picture", files={"picture": original.content}, data={"limit": "1"}
            ),
        ]
        batch = client.post(f"{AT}/search/batch", json={"searches": [{"query": "a dog"}]}).json()
        for answer in [*(search.json() for search in searches), *batch["answers"]]:
            assert all(link.startswith(f"{ROOT}{AT}/pictures/") for link in json_links(answer))
            assert len(json_links(answer)) >= 3
        assert client.get("/openapi.json").json()["servers"][0]["url"] == ROOT
        wrong = client.post(f"{AT}/search", json={"limit": "many"})
        assert wrong.json()["detail"].endswith(f" See {ROOT}/openapi.json.")
        missing = client.get("/nothing")
        assert (missing.status_code, missing.json()["detail"]) == (
            404,
            f"There is nothing at {ROOT}/nothing.",
        )
        moved = client.get("/v1/indexes/?a=b%20c")
        assert (moved.status_code, moved.headers["location"]) == (307, f"{ROOT}/v1/indexes?a=b%20c")
        for check in ("/healthz", "/readyz", "/metrics"):
            assert client.get(check).status_code == 200


def test_client_and_its_links_work_below_path(url):
    with mmsearch.Client(url) as client:
        (hit,) = client.search("a windmill", k=1)
        assert client.thumbnail(hit)[8:12] == b"WEBP"
        assert client.original(hit) == hit.path.read_bytes()
        assert client.similar(hit, k=1)[0].id == hit.id
        assert hit.links["self"] == f"{ROOT}{AT}/pictures/{hit.id}"
        job = client.start_job("photos")
        assert [state.state for state in client.follow(job)][-1] == "finished"


@pytest.mark.parametrize(
    ("url", "link", "joined"),
    [
        ("http://a:80", "/v1/x", "http://a:80/v1/x"),
        ("http://a/photos", "/photos/v1/x", "http://a/photos/v1/x"),
        # The server does not know its path.
        ("http://a/photos", "/v1/x", "http://a/photos/v1/x"),
        ("http://a/photos", "/photos2/v1/x", "http://a/photos/photos2/v1/x"),
    ],
)
def test_links_of_hits_are_joined_with_url_of_server_below_path(url, link, joined):
    assert link_url(url, link) == joined


@pytest.mark.parametrize("strips", [True, False])
def test_login_below_path_sets_cookie_for_the_path_alone(served, strips):
    url = served(strips=strips, by_header=strips, token=TOKEN)
    with httpx.Client(base_url=url, timeout=60) as browser:
        form = browser.get("/?q=a+dog")
        assert f'action="{ROOT}/session"' in form.text
        assert all(each.startswith(ROOT) for each in references(form.text))
        assert browser.get(f"{AT}/pictures/1").status_code == 401
        assert browser.get("/static/style.css").status_code == 200
        assert browser.get("/healthz").status_code == 200
        wrong = browser.post("/session", data={"token": "wrong"})
        assert (wrong.status_code, f'action="{ROOT}/session"' in wrong.text) == (401, True)
        answer = browser.post("/session", data={"token": TOKEN, "search": "q=a+dog"})
        assert (answer.status_code, answer.headers["location"]) == (303, f"{ROOT}/?q=a+dog")
        assert f"Path={ROOT}" in answer.headers["set-cookie"].split("; ")
        assert browser.get(f"{AT}/pictures/1").status_code == 200
        assert "212 pictures" in browser.get("").text


def test_session_cookies_of_servers_below_nested_paths_do_not_collide(served):
    """Browsers send the cookies of a path to all paths below it, too."""
    with httpx.Client() as browser:
        jar = []
        for root in ("/pictures", ROOT):
            url = served(root, strips=True, by_header=True, token=f"{TOKEN} {root}")
            # Both at one address, as a browser sees them.
            answer = browser.post(
                f"{url}/session", data={"token": f"{TOKEN} {root}"}, headers={"Host": "p.example"}
            )
            jar.append((url, answer.headers["set-cookie"].split(";")[0]))
        cookies = "; ".join(cookie for _, cookie in jar)
        assert len({cookie.partition("=")[0] for _, cookie in jar}) == 2
        for url, _ in jar:
            headers = {"Host": "p.example", "Cookie": cookies}
            assert browser.get(f"{url}{AT}", headers=headers).status_code == 200


def test_session_cookie_below_path_with_tls_is_secure(photo_index):
    config = ServerConfig(token=TOKEN, root_path=ROOT)
    with http_client(photo_index, config) as client:
        answer = client.post(
            "https://photos.example/pictures/of-2019/session",
            data={"token": TOKEN},
            follow_redirects=False,
        )
        name, *facts = answer.headers["set-cookie"].split("; ")
        # Browsers refuse a cookie with __Host- and a path.
        assert name.startswith("__Secure-mmsearch_session!pictures!of-2019=")
        assert {"Secure", "HttpOnly", "SameSite=strict", f"Path={ROOT}"} <= set(facts)


@pytest.mark.parametrize("strips", [True, False])
def test_requests_from_foreign_pages_and_hosts_are_refused_below_path(served, strips):
    url = served(strips=strips, by_header=True)
    for headers, status in [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Origin": url.removesuffix(ROOT)}, 200),
    ]:
        answer = httpx.post(f"{url}{AT}/search", json={"query": "a dog"}, headers=headers)
        assert answer.status_code == status, headers


@pytest.mark.parametrize("prefix", ["//evil.example", '/a"><script>', "/a/../..", "/photos/"])
def test_wrong_forwarded_prefix_has_no_effect(photo_index, prefix):
    config = ServerConfig(token=TOKEN, trusted_proxies=("testclient",))
    with http_client(photo_index, config) as client:
        headers = {"X-Forwarded-Prefix": prefix}
        assert 'action="/session"' in client.get("/", headers=headers).text
        answer = client.post(
            "/session", data={"token": TOKEN}, headers=headers, follow_redirects=False
        )
        assert answer.headers["location"] == "/"
        assert "Path=/" in answer.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("trusted", [True, False])
def test_forwarded_prefix_counts_only_from_trusted_client(photo_index, trusted):
    proxies = {"trusted_proxies": ("testclient",)} if trusted else {}
    with http_client(photo_index, ServerConfig(**proxies)) as client:
        headers = {"X-Forwarded-Prefix": "/photos"}
        root = "/photos" if trusted else ""
        assert f'data-root="{root}"' in client.get("/", headers=headers).text
        picture = client.get(f"{AT}/pictures/1", headers=headers).json()
        assert picture["links"]["self"] == f"{root}{AT}/pictures/1"
        assert client.get(f"/photos{AT}", headers=headers).status_code == (200 if trusted else 404)


def test_svg_original_is_shown_without_scripts(photo_index, tmp_path, monkeypatch):
    drawing = tmp_path / "drawing.svg"
    drawing.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    monkeypatch.setattr(
        Originals, "path_and_format", lambda self, record: (os.fsencode(drawing), "SVG")
    )
    with http_client(photo_index) as client:
        answer = client.head(f"{AT}/pictures/1/original")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox"} <= set(policy)
    assert not any(each.startswith(("script-src", "sandbox ")) for each in policy)


def test_original_and_thumbnail_name_the_file(photo_index):
    with http_client(photo_index) as client:
        picture = client.get(f"{AT}/pictures/1").json()
        name = picture["path"].rsplit("/", 1)[1]
        for link, saved in [("original", name), ("thumbnail", name.replace(".jpg", ".webp"))]:
            for answer in (client.get(picture["links"][link]), client.head(picture["links"][link])):
                assert answer.headers["content-disposition"] == (
                    f"inline; filename=\"{saved}\"; filename*=UTF-8''{saved}"
                )
