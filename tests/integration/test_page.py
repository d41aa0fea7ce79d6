"""The page without a browser: its content, its security headers and the login."""

import asyncio
import html
import json
import re
import time
from contextlib import closing
from urllib.parse import parse_qsl

import httpx
import pytest
from PIL import Image

from mmsearch import api
from mmsearch.core.display import format_match
from mmsearch.core.filters import FILTERS
from mmsearch.core.settings import Settings
from mmsearch.server import auth
from mmsearch.server.app import make_app, serve_in_thread, wrap_with_middleware
from mmsearch.server.config import ServerConfig
from mmsearch.server.routes.page import _describe_match, _parse_search_body
from mmsearch.server.state import ServerState

TOKEN = "open sésame"  # noqa: S105 - only for these tests
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:;"
    " media-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HOSTILE = "<img src=x onerror=alert(1)>'\"&.png"


@pytest.fixture(scope="module")
def settings(photo_index, cache):
    return Settings(home=photo_index, cache=cache)


def serving(settings, **rules):
    return closing(ServerState.create(settings, ServerConfig(**rules), lambda: ["default"]))


@pytest.fixture(scope="module")
def service(settings):
    with serving(settings) as service:
        yield service


@pytest.fixture(scope="module")
def closed(settings):
    """Server that requires its token."""
    with serving(settings, token=TOKEN) as service:
        yield service


def ask(service, path, method="GET", **options):
    async def once():
        transport = httpx.ASGITransport(wrap_with_middleware(make_app(service)))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:7788"
        ) as client:
            return await client.request(method, path, **options)

    return asyncio.run(once())


def shown(response):
    return [int(found) for found in re.findall(r'<li data-id="(\d+)">', response.text)]


def test_page_search_without_scripts_shows_same_hits_as_api(service):
    page = ask(service, "/?q=a+windmill")
    answer = ask(service, "/v1/indexes/default/search?q=a+windmill&limit=40").json()
    assert page.status_code == 200
    assert shown(page) == [hit["id"] for hit in answer["hits"]]
    assert "40 of 212 pictures" in page.text


def test_page_more_link_shows_following_hits(service):
    first = ask(service, "/?q=a+windmill&not=people,+cars")
    link = re.search(r'id="more" class="button" href="([^"]+)"', first.text)[1]
    assert "index=default" in link
    second = ask(service, html.unescape(link))
    whole = ask(
        service, "/v1/indexes/default/search?q=a+windmill&not=people&not=cars&limit=80"
    ).json()
    assert shown(first) + shown(second) == [hit["id"] for hit in whole["hits"]]


def test_page_empty_form_fields_are_ignored(service):
    bare = ask(service, "/?q=a+dog")
    form = "".join(f"&{name}=" for name in ("not", "like", *(spec.name for spec in FILTERS)))
    assert shown(ask(service, f"/?q=a+dog{form}")) == shown(bare)
    assert shown(ask(service, "/")) == []
    assert shown(ask(service, f"/?q={form}")) == []


def test_page_filters_in_address_match_api_results(service):
    page = ask(service, "/?q=a+dog&orientation=portrait")
    answer = ask(service, "/v1/indexes/default/search?q=a+dog&orientation=portrait&limit=40").json()
    assert shown(page) == [hit["id"] for hit in answer["hits"]]
    assert f"of {answer['passed']} pictures" in page.text
    assert shown(ask(service, "/?q=a+dog&path=no-such-folder")) == []
    assert shown(ask(service, "/?q=a+dog&near=0,-150,1")) == []


def test_page_sort_in_address_matches_api_results(service):
    page = ask(service, "/?q=a+dog&sort=-size")
    answer = ask(service, "/v1/indexes/default/search?q=a+dog&sort=-size&limit=40").json()
    assert shown(page) == [hit["id"] for hit in answer["hits"]]
    assert shown(page) != shown(ask(service, "/?q=a+dog&sort="))
    assert "40 of 212 pictures, largest file first" in page.text
    assert '<option value="-size" selected>largest file first</option>' in page.text
    assert re.search(r'id="more" class="button" href="[^"]*sort=-size', page.text)


def test_page_has_labelled_field_for_each_filter(service):
    page = ask(service, "/").text
    for spec in FILTERS:
        assert f'<label for="{spec.name}">{spec.label}</label>' in page
        assert len(re.findall(rf'id="{spec.name}"[^>]* name="{spec.name}"', page)) == 1


@pytest.mark.parametrize(
    ("address", "status", "sentence"),
    [
        ("/?q=a+dog&after=soon", 400, "soon"),
        ("/?q=a+dog&min_width=wide", 422, "min_width"),
        (
            "/?like=999999",
            404,
            "Index &#39;default&#39; has no picture 999999. Use the id of a hit.",
        ),
        ("/?q=a+dog&cursor=x", 400, "cursor"),
        ("/?q=a+dog&sort=colour", 422, "sort must be"),
    ],
)
def test_page_invalid_request_shows_error_with_api_status(service, address, status, sentence):
    page = ask(service, address)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    problem = re.search(r'<p id="problem-text">(.*?)</p>', page.text)[1]
    assert sentence in problem
    assert page.status_code == ask(service, "/v1/indexes/default/search" + address[1:]).status_code
    assert page.status_code == status


def test_page_search_with_unlikely_match_shows_notice(service):
    there = 'id="nothing" class="nothing" hidden'
    assert there in ask(service, "/?like=1").text
    assert there not in ask(service, "/?q=the+square+root+of+minus+one").text


def hit(rank, band="unlikely", confidence=0.01):
    return {"rank": rank, "band": band, "confidence": confidence}


LIKELY, POSSIBLE = hit(1, "likely", 0.834), hit(2, "possible", 0.4)
GUESSES = {"code": "best_guesses", "text": "Best guesses: ...", "suggestion": None}
SPELLING = {"code": "spelling", "text": "Did you mean 'a gnu'?", "suggestion": "a gnu"}
NOTHING_ELSE = {"notices": [], "understood": None}
LANGUAGE = {"code": "language", "text": "It reads English.", "suggestion": None}


@pytest.mark.parametrize(
    ("hits", "facts", "fields", "expected"),
    [
        ([LIKELY, POSSIBLE, hit(3)], {}, {}, (["likely 83%", "possible 40%", ""], 2, "")),
        (
            [LIKELY, POSSIBLE, hit(3)],
            {},
            {"sort": "score"},
            (["likely 83%", "possible 40%", ""], 2, ""),
        ),
        ([LIKELY, hit(3)], {}, {"sort": "name"}, (["likely 83%", ""], None, "")),
        ([LIKELY, hit(2)], {"calibrated": False}, {}, (["", ""], None, "")),
        ([hit(1)], {"match": "unlikely"}, {}, ([""], None, "No good matches. Closest results:")),
        ([hit(1)], {"match": "unlikely", "calibrated": False}, {}, ([""], None, "")),
        ([hit(1)], {"match": "unlikely", "notices": [GUESSES]}, {}, ([""], None, GUESSES["text"])),
        ([], {"match": "unlikely", "notices": [GUESSES]}, {}, ([], None, "")),
    ],
)
def test_page_labels_and_divides_hits(hits, facts, fields, expected):
    answer = {"hits": hits, "calibrated": True, "match": "likely"} | NOTHING_ELSE | facts
    shown = _describe_match(answer, fields)
    assert (shown["labels"], shown["divider"], shown["nothing"]) == expected


def test_page_notices_without_scripts_are_lines_and_links_with_the_same_filters():
    answer = {"hits": [], "calibrated": True, "match": None} | NOTHING_ELSE
    answer["notices"] = [GUESSES, LANGUAGE, SPELLING]
    shown = _describe_match(answer, {"q": "a gnuu", "camera": "a & b", "index": "default"})
    assert shown["notices"] == [
        ("It reads English.", None),
        ("Did you mean 'a gnu'?", "q=a+gnu&camera=a+%26+b&index=default"),
    ]


def test_page_without_scripts_removes_what_was_read_by_links():
    answer = {"hits": [], "calibrated": True, "match": None} | NOTHING_ELSE
    chips = [{"kind": "date", "label": "2019-05-03", "words": "May 3, 2019"}]
    answer["understood"] = {"chips": chips}
    fields = {"q": "Anna May 3, 2019", "literal_words": "Anna", "index": "default"}
    ((label, address),) = _describe_match(answer, fields)["understood"]
    assert label == "2019-05-03"
    read = _parse_search_body(dict(parse_qsl(address)) | {"index": ""})
    assert read.literal_words == ["Anna", "May 3, 2019"]


def test_page_without_scripts_shows_the_labels_of_the_api(service):
    page = ask(service, "/?like=1").text
    answer = ask(service, "/v1/indexes/default/search?like=1&limit=40").json()
    labels = [
        format_match(h["band"], h["confidence"], calibrated=answer["calibrated"])
        for h in answer["hits"]
    ]
    assert re.findall(r'<span class="label \w+">([^<]*)</span>', page) == [n for n in labels if n]
    assert page.count('<li class="divider">') == int("" in labels and any(labels))


def test_page_sends_strict_security_headers_and_no_inline_scripts(service):
    page = ask(service, "/?q=a+dog")
    assert page.headers["content-security-policy"] == CONTENT_SECURITY
    assert page.headers["referrer-policy"] == "same-origin"
    assert page.headers["cache-control"] == "no-store"
    scripts = re.findall(r"<script[^>]*>", page.text)
    assert scripts == [
        '<script type="module" src="/static/app.js">',
        '<script type="application/json" id="answer">',
    ]
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", page.text)


def test_page_query_with_html_is_escaped(service):
    hostile = "\"><script>alert(1)</script> & </script><!-- '"
    page = ask(service, "/", params={"q": hostile, "camera": hostile, "like": hostile})
    assert "<script>alert" not in page.text
    assert page.text.count("<script") == 2
    (value,) = re.findall(r'id="q" name="q" type="search" value="([^"]*)"', page.text)
    assert html.unescape(value) == hostile


def test_page_file_name_with_html_is_escaped(tmp_path, cache):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (30, 20), "red").save(folder / HOSTILE)
    (folder / HOSTILE).with_suffix(".txt").write_text("</script><script>alert(2)</script>")
    settings = Settings(home=tmp_path / "home", cache=cache, model="starter", workers=1)
    with api.open_index("default", settings=settings) as index:
        index.add_folder(folder)
    with serving(settings) as service:
        page = ask(service, "/?q=red")
    assert len(shown(page)) == 1
    assert page.text.count("<script") == 2
    assert "<img src=x" not in page.text
    kept = re.search(r'id="answer">(.*?)</script>', page.text, re.DOTALL)[1]
    assert json.loads(kept)["hits"][0]["path"].endswith(HOSTILE)


def test_page_static_files_are_served_and_other_paths_return_404(service):
    for name, media_type in [
        ("app.js", "text/javascript"),
        ("style.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ]:
        file = ask(service, f"/static/{name}")
        assert file.headers["content-type"].split(";")[0] == media_type
        again = ask(service, f"/static/{name}", headers={"If-None-Match": file.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    for name in ("page.html", "..%2fsecurity.py", "%2e%2e/security.py", "nothing.js"):
        assert ask(service, f"/static/{name}").status_code == 404


def test_docs_page_describes_every_route_and_object(service):
    page = ask(service, "/docs")
    assert page.headers["content-security-policy"] == CONTENT_SECURITY
    document = ask(service, "/openapi.json").json()
    operations = re.findall(r"<h3><code>(\w+) (\S+)</code></h3>", page.text)
    assert sorted(operations) == sorted(
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    )
    anchors = re.findall(r' id="([^"]+)"', page.text)
    assert (
        len(anchors)
        == len(set(anchors))
        == len(operations) + len(document["components"]["schemas"])
    )
    assert set(re.findall(r'href="#([^"]+)"', page.text)) <= set(anchors)
    assert (
        "<td>Ids of pictures that hits should look like, such as hits that are right.</td>"
        in page.text
    )


def test_page_scripts_import_only_served_files(service):
    for name in (
        "app.js",
        "grid.js",
        "details.js",
        "player.js",
        "admin.js",
        "speech.js",
        "upload.js",
        "search_form.js",
    ):
        script = ask(service, f"/static/{name}").text
        for other in re.findall(r'from "\./([^"]+)"', script):
            assert ask(service, f"/static/{other}").status_code == 200
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", script)


def test_http_search_uploaded_picture_applies_filters_and_negatives(service, photos):
    picture = next((photos / "photos").glob("*.jpg")).read_bytes()

    def search(**form):
        return ask(
            service,
            "/v1/indexes/default/search/picture",
            "POST",
            files={"picture": ("a.jpg", picture)},
            data=form,
        )

    bare = search(limit="100").json()
    portrait = search(limit="100", filters=json.dumps({"orientation": "portrait"})).json()
    assert portrait["passed"] < bare["passed"]
    assert all(hit["height"] > hit["width"] for hit in portrait["hits"])
    away = search(limit="100", **{"not": ["trees", "sky"]}).json()
    assert [hit["score"] for hit in away["hits"]] != [hit["score"] for hit in bare["hits"]]
    assert search(filters='{"orientation": "round"}').status_code == 422
    assert search(filters="no JSON").status_code == 422


def test_page_without_login_shows_only_token_form(closed):
    page = ask(closed, "/?q=a+windmill&not=%22%3Ecars")
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == CONTENT_SECURITY
    assert 'action="/session"' in page.text
    assert shown(page) == []
    assert "212" not in page.text
    assert '">cars' not in html.unescape(page.text).replace("%22%3Ecars", "")
    assert 'action="/session"' in ask(closed, "/docs").text
    assert ask(closed, "/static/style.css").status_code == 200
    for method, path in [
        ("GET", "/v1/indexes"),
        ("GET", "/v1/indexes/default/pictures/1/thumbnail"),
        ("GET", "/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/session"),
        ("POST", "/"),
        ("POST", "/static/style.css"),
        ("GET", "/static"),
    ]:
        assert ask(closed, path, method).status_code == 401, (method, path)


def give(service, token, search="", **headers):
    form = {"token": token, "search": search}
    return ask(service, "/session", "POST", data=form, headers=headers)


def test_login_with_correct_token_sets_session_cookie_without_token(closed):
    answer = give(closed, TOKEN, "q=a+windmill&not=cars")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=a+windmill&not=cars")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "sesame" not in cookie
    assert "sésame" not in cookie
    kept = {"Cookie": cookie.split(";")[0]}
    assert len(shown(ask(closed, "/?q=a+windmill", headers=kept))) == 40
    assert ask(closed, "/v1/indexes", headers=kept).status_code == 200
    foreign = kept | {"Origin": "http://elsewhere.example"}
    job = ask(
        closed, "/v1/indexes/default/jobs", "POST", headers=foreign, json={"source": "photos"}
    )
    assert job.status_code == 403


@pytest.mark.parametrize("token", ["", "open", TOKEN.upper(), TOKEN + "x", "\0", "🔑"])
def test_login_with_wrong_token_returns_401_without_cookie(closed, token):
    answer = give(closed, token)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "That is not the token of this server." in answer.text


@pytest.mark.parametrize(
    "search", ["//evil.example", "https://evil.example", "\r\nX: y", "a=%0d%0aX:%20y", "@evil"]
)
def test_login_redirect_with_foreign_target_stays_on_server(closed, search):
    answer = give(closed, TOKEN, search)
    assert re.fullmatch(r"/(\?[\w%+=&.-]*)?", answer.headers["location"])
    assert "x" not in answer.headers


def test_login_form_from_foreign_origin_returns_403(closed):
    assert give(closed, TOKEN, origin="http://elsewhere.example").status_code == 403
    assert give(closed, TOKEN, origin="null").status_code == 403
    assert give(closed, TOKEN, origin="http://127.0.0.1:7788").status_code == 303


@pytest.mark.enable_socket
def test_session_cookies_of_two_servers_on_one_host_do_not_collide(settings):
    """Browsers send the cookies of a host to all of its ports."""
    with (
        serving(settings, token=TOKEN) as one,
        serving(settings, token=TOKEN[::-1]) as other,
        serve_in_thread(one, 0) as here,
        serve_in_thread(other, 0) as there,
        httpx.Client() as browser,
    ):
        for url, token in ((here, TOKEN), (there, TOKEN[::-1])):
            answer = browser.post(f"{url}/session", data={"token": token})
            assert answer.status_code == 303
        assert len(browser.cookies) == 2
        for url in (here, there, here):
            assert browser.get(f"{url}/v1/indexes").status_code == 200
        wrong = {"Cookie": "; ".join(f"{name}=1.0" for name in browser.cookies)}
        assert httpx.get(f"{here}/v1/indexes", headers=wrong).status_code == 401


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://photos.example", "mmsearch_session"),
        ("http://[::1]:7788", "mmsearch_session_7788"),
        ("https://photos.example", "__Host-mmsearch_session"),
        ("https://photos.example:8443", "__Host-mmsearch_session_8443"),
    ],
)
def test_session_cookie_name_matches_scheme_and_port_of_address(closed, url, name):
    """The address may be that of a proxy, which forwards the host name and the use of TLS."""
    answer = ask(closed, f"{url}/session", "POST", data={"token": TOKEN})
    kept, *facts = answer.headers["set-cookie"].split("; ")
    assert kept.partition("=")[0] == name
    assert ("Secure" in facts) == url.startswith("https")
    assert "Path=/" in facts
    assert not any(fact.startswith("Domain") for fact in facts)
    known = ask(closed, f"{url}/v1/indexes", headers={"Cookie": kept})
    assert known.status_code == 200
    # A cookie for plain HTTP or for another port does not log in here.
    value = kept.partition("=")[2]
    for elsewhere in {"mmsearch_session", "__Host-mmsearch_session", "mmsearch_session_1"} - {name}:
        cookie = {"Cookie": f"{elsewhere}={value}"}
        assert ask(closed, f"{url}/v1/indexes", headers=cookie).status_code == 401


@pytest.mark.parametrize("host", ["photos.example:port", "[::1", "x:99999", ""])
def test_server_invalid_host_header_returns_401(closed, host):
    assert ask(closed, "/v1/indexes", headers={"Host": host}).status_code == 401


def test_session_cookie_forged_or_expired_returns_401(closed, monkeypatch):
    session = auth.create_session(TOKEN)

    def status(value):
        cookie = {"Cookie": f"mmsearch_session_7788={value}"}
        return ask(closed, "/v1/indexes", headers=cookie).status_code

    assert status(session) == 200
    value, began, seal = session.split(".")
    for forged in (
        "",
        seal,
        f"{value}.{began[1:]}.{seal}",
        f"{value}.{began}.",
        f"{value}.{began}.{seal[:-1]}",
        f"other.{began}.{seal}",
        f"{value}.{'9' * 5000}.{seal}",
        auth.create_session("another"),
    ):
        assert status(forged) == 401, forged
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + auth.SESSION_LIFETIME_S + 1)
    assert status(session) == 401


def test_page_index_parameter_selects_one_of_several_indexes(settings):
    with closing(
        ServerState.create(settings, ServerConfig(), lambda: ["other", "default"])
    ) as service:
        page = ask(service, "/?q=a+dog&index=default")
        assert len(shown(page)) == 40
        assert "<option selected>default</option>" in page.text
        # The first index is the default, and it does not exist.
        assert ask(service, "/?q=a+dog").status_code == 404
        assert ask(service, "/?q=a+dog&index=../default").status_code == 404


def test_login_on_server_without_token_sets_no_cookie(service):
    answer = give(service, "anything", "q=a+dog")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=a+dog")
    assert "set-cookie" not in answer.headers


def test_page_missing_index_returns_404_with_visible_alert(tmp_path, cache):
    with serving(Settings(home=tmp_path, cache=cache)) as service:
        page = ask(service, "/?q=a+dog")
    assert page.status_code == 404
    assert 'role="alert" hidden' not in page.text
