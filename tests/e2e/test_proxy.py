"""The server behind nginx, configured as in docs/how-to/server.md and subpath.md."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_http import serving
from tests.fake_web import write_certificate

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]

TOKEN = "known-here"  # noqa: S105 - of the test's own server
OPERATIONS = Path(__file__).parents[2] / "docs/how-to/server.md"
SUBPATH = OPERATIONS.with_name("subpath.md")
KNOWN = {"Authorization": f"Bearer {TOKEN}"}
AT = "/v1/indexes/default"


@pytest.fixture(scope="module", params=[1, 2], ids=["one server", "two servers"])
def proxied(request, photo_index, environment, tmp_path_factory):
    """HTTP client of an nginx that forwards to the servers of one index."""
    folder = tmp_path_factory.mktemp("nginx")
    with ExitStack() as stack:
        known = environment | {"MMSEARCH_TOKEN": TOKEN}
        servers = [
            stack.enter_context(serving(known, photo_index, beside_another=number > 0))
            for number in range(request.param)
        ]
        port = free_port()
        certificate = write_certificate(folder / "photos.pem", "127.0.0.1")
        shutil.copy(certificate, folder / "photos.key")
        trusted = ssl.create_default_context(cafile=certificate)
        settings = folder / "nginx.conf"
        settings.write_text(configured(folder, port, [server.url for server in servers]))
        stack.enter_context(running_nginx(settings, port))
        url = f"https://127.0.0.1:{port}"
        yield stack.enter_context(httpx.Client(base_url=url, verify=trusted, timeout=60))


@pytest.fixture(scope="module", params=["whole", "stripped"])
def below_path(request, photo_index, environment, tmp_path_factory):
    """HTTP client of an nginx that forwards what is below /photos, whole or without it."""
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    known = environment | {"MMSEARCH_TOKEN": TOKEN, "MMSEARCH_ROOT_PATH": "/photos"}
    with ExitStack() as stack:
        # Of its own: another server may serve the shared one.
        home = shutil.copytree(photo_index, folder / "home")
        server = stack.enter_context(serving(known, home))
        assert server.url.endswith("/photos")
        (block,) = re.findall(r"```nginx\n(.*?)```", SUBPATH.read_text(), re.DOTALL)
        upstream = server.url.removesuffix("photos" if request.param == "stripped" else "/photos")
        block = replaced(block, {"http://127.0.0.1:7788": upstream})
        settings = folder / "nginx.conf"
        settings.write_text(
            nginx_settings(folder, f"server {{\nlisten 127.0.0.1:{port};\n{block}}}\n")
        )
        stack.enter_context(running_nginx(settings, port))
        yield stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60))


@contextmanager
def running_nginx(settings, port):
    nginx = subprocess.Popen(["nginx", "-c", settings, "-e", settings.with_name("errors")])
    try:
        wait_for(port)
        yield
    finally:
        nginx.terminate()
        nginx.wait(30)


def configured(folder, port, urls):
    """Return both nginx blocks of the page, with the paths and ports of this test."""
    block, upstream = re.findall(r"```nginx\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    names = [url.removeprefix("http://") for url in urls]
    places = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/": f"{folder}/",
        "http://127.0.0.1:7788": urls[0] if len(urls) == 1 else "http://mmsearch",
    }
    shares = {"127.0.0.1:7788": names[0], "127.0.0.1:7789": names[-1]}
    return nginx_settings(folder, replaced(block, places) + replaced(upstream, shares))


def nginx_settings(folder, block):
    """Return the settings of an nginx that keeps its files in a folder."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    # Started by root, nginx gives its work to a user who may not enter the folder.
    user = "" if os.getuid() else "user root;\n"
    return (
        f"{user}daemon off;\npid {folder}/pid;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{folders}{block}}}\n"
    )


def replaced(block, places):
    for place, here in places.items():
        assert place in block
        block = block.replace(place, here)
    return block


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(port):
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < until, "nginx does not answer"
            time.sleep(0.05)
        else:
            return


def test_nginx_proxy_requires_and_accepts_token(proxied):
    assert proxied.get("/healthz").json() == {"ok": True}
    assert proxied.get("/v1/indexes").status_code == 401
    assert proxied.get("/v1/indexes", headers=KNOWN).json() == {"indexes": ["default"]}


def test_nginx_proxy_browser_session_cookie_grants_access(proxied):
    page = f"https://{proxied.base_url.netloc.decode()}"
    answer = proxied.post("/session", data={"token": TOKEN}, headers={"Origin": page})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-")
    assert "Secure" in cookie
    shown = proxied.get("/")
    assert shown.status_code == 200
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    found = proxied.get(f"{AT}/search", params={"q": "a windmill", "limit": 1})
    thumbnail = found.json()["hits"][0]["links"]["thumbnail"]
    assert proxied.get(thumbnail).headers["content-type"] == "image/webp"
    proxied.cookies.clear()
    assert proxied.get(thumbnail).status_code == 401


def test_nginx_proxy_picture_upload_over_limit_gets_413(proxied, photos):
    picture = min((photos / "photos").iterdir())
    files = {"picture": (picture.name, picture.read_bytes(), "image/jpeg")}
    found = proxied.post(f"{AT}/search/picture", files=files, headers=KNOWN).json()["hits"]
    assert Path(found[0]["path"]).name == picture.name
    files = {"picture": ("large", bytes(60_000_000), "image/jpeg")}
    assert proxied.post(f"{AT}/search/picture", files=files, headers=KNOWN).status_code == 413


def test_nginx_proxy_streams_job_events_until_finished(proxied):
    job = proxied.post(f"{AT}/jobs", json={"source": "photos"}, headers=KNOWN).json()
    with proxied.stream("GET", f"{AT}/jobs/{job['id']}/events", headers=KNOWN) as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        events_text = "".join(events.iter_text())
    assert '"state":"finished"' in events_text.replace('": "', '":"')


def test_nginx_proxy_foreign_origin_gets_403(proxied):
    answer = proxied.get("/v1/indexes", headers=KNOWN | {"Origin": "https://evil.example"})
    assert answer.status_code == 403


def test_nginx_proxy_below_path_logs_in_and_serves_page_api_and_pictures(below_path):
    page = str(below_path.base_url)
    assert 'action="/photos/session"' in below_path.get("/photos/").text
    origin = {"Origin": page}
    answer = below_path.post("/photos/session", data={"token": TOKEN}, headers=origin)
    assert (answer.status_code, answer.headers["location"]) == (303, "/photos/")
    assert "Path=/photos" in answer.headers["set-cookie"].split("; ")
    shown = below_path.get("/photos", params={"q": "a windmill"}, follow_redirects=True)
    links = set(re.findall(r'(?:href|src)="(/[^"]*)"', shown.text))
    assert len(links) > 40
    for link in links:
        assert link.startswith("/photos/")
        if not re.search(r"/pictures/\d*[1-9]/", link):
            assert below_path.get(link.replace("&amp;", "&")).status_code == 200, link
    moved = below_path.get("/photos/v1/indexes/")
    assert moved.headers["location"] == "/photos/v1/indexes"
    assert below_path.get("/v1/indexes").status_code == 404
