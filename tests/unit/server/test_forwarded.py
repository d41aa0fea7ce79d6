"""Tests of the middleware for proxies, and of the options that configure it."""

import asyncio

import pytest

from mmsearch.core.errors import UsageError
from mmsearch.server.app import make_app
from mmsearch.server.config import (
    DEFAULT_TRUSTED_PROXIES,
    FIRST_SEGMENTS,
    ServerConfig,
    parse_root_path,
    parse_trusted_proxies,
)
from mmsearch.server.forwarded import ForwardedMiddleware, get_route_path

WRONG_PATHS = [
    "photos",
    "/photos/",
    "//photos",
    "/photos//2019",
    "//evil.example",
    "/..",
    "/photos/..",
    "/photos/../admin",
    "/.",
    "/a/./b",
    '/photos"',
    "/photos'",
    "/<script>",
    "/photos\r\nSet-Cookie: a=b",
    "/photos\n",
    "/photos\0",
    "/my photos",
    "/my%20photos",
    "/fotós",
    "/photos;a",
    "/photos?a",
    "/photos#a",
    "/photos\\a",
    "https://evil.example/photos",
    "javascript:alert(1)",
    "/" + "a" * 200,
]


def forwarded(config, path="/v1/indexes", client="127.0.0.1", headers=()):
    """Return the scope that the application gets."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    scope = {
        "type": "http",
        "path": path,
        "root_path": "",
        "scheme": "http",
        "client": (client, 5),
        "headers": list(headers),
    }
    asyncio.run(ForwardedMiddleware(app, config)(scope, None, None))
    return seen[0]


def prefixed(*values):
    return [(b"x-forwarded-prefix", value.encode("utf-8")) for value in values]


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/photos/v1/indexes", "/v1/indexes"),
        ("/v1/indexes", "/v1/indexes"),
        ("/photos", "/"),
        ("/photos/", "/"),
        ("/", "/"),
        # These are not below the root path.
        ("/photos2/v1", "/photos2/v1"),
        ("/photosv1", "/photosv1"),
        ("//photos/v1", "//photos/v1"),
        # A proxy removes the path once, and so does the server.
        ("/photos/photos/v1", "/photos/v1"),
    ],
)
@pytest.mark.parametrize("by_header", [False, True])
def test_request_path_with_and_without_root_path_is_the_same_route(path, seen, by_header):
    config = ServerConfig(root_path=None if by_header else "/photos")
    scope = forwarded(config, path, headers=prefixed("/photos") if by_header else ())
    assert scope["root_path"] == "/photos"
    assert scope["path"] == f"/photos{seen}"
    assert get_route_path(scope) == seen


def test_request_path_without_root_path_is_unchanged():
    for path in ("/", "/photos", "//", "*"):
        scope = forwarded(ServerConfig(), path)
        assert (scope["root_path"], scope["path"], get_route_path(scope)) == ("", path, path)


@pytest.mark.parametrize(
    "prefix", [*WRONG_PATHS, *(f"/{name}" for name in FIRST_SEGMENTS), "", "/"]
)
def test_forwarded_prefix_that_is_no_path_is_ignored(prefix):
    assert forwarded(ServerConfig(), headers=prefixed(prefix))["root_path"] == ""


@pytest.mark.parametrize(
    ("values", "root_path"),
    [
        (["/photos"], "/photos"),
        ([" /a/b-c_d.e~f "], "/a/b-c_d.e~f"),
        # The last value is that of the nearest proxy.
        (["/evil", "/photos"], "/photos"),
        (["/evil, /photos"], "/photos"),
        (["/photos", "//evil.example"], ""),
    ],
)
def test_forwarded_prefix_of_trusted_proxy_is_the_last_value(values, root_path):
    assert forwarded(ServerConfig(), headers=prefixed(*values))["root_path"] == root_path


@pytest.mark.parametrize(
    ("trusted", "client", "root_path"),
    [
        (DEFAULT_TRUSTED_PROXIES, "127.0.0.1", "/photos"),
        (DEFAULT_TRUSTED_PROXIES, "::1", "/photos"),
        (DEFAULT_TRUSTED_PROXIES, "::ffff:127.0.0.1", "/photos"),
        (DEFAULT_TRUSTED_PROXIES, "192.168.1.5", ""),
        (DEFAULT_TRUSTED_PROXIES, "", ""),
        (("172.16.0.0/12",), "172.20.0.3", "/photos"),
        (("172.16.0.0/12",), "172.32.0.3", ""),
        (("172.16.0.0/12",), "127.0.0.1", ""),
        (("*",), "203.0.113.9", "/photos"),
    ],
)
def test_forwarded_headers_count_only_from_trusted_proxies(trusted, client, root_path):
    headers = [
        *prefixed("/photos"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-for", b"9.9.9.9"),
    ]
    scope = forwarded(ServerConfig(trusted_proxies=trusted), client=client, headers=headers)
    assert scope["root_path"] == root_path
    assert scope["scheme"] == ("https" if root_path else "http")
    assert (scope["client"][0] == "9.9.9.9") == bool(root_path)


@pytest.mark.parametrize("root_path", ["/mine", ""])
def test_configured_root_path_replaces_forwarded_prefix(root_path):
    scope = forwarded(ServerConfig(root_path=root_path), headers=prefixed("/photos"))
    assert scope["root_path"] == root_path


@pytest.mark.parametrize(
    ("text", "root_path"),
    [
        (None, None),
        ("", None),
        ("/", ""),
        ("/photos", "/photos"),
        ("/a/B-1/c_d.e~f", "/a/B-1/c_d.e~f"),
        ("/v10", "/v10"),
        ("/photos/v1", "/photos/v1"),
        ("/...", "/..."),
    ],
)
def test_root_path_option_is_a_path_or_none(text, root_path):
    assert parse_root_path(text) == root_path


@pytest.mark.parametrize("text", WRONG_PATHS)
def test_root_path_option_that_is_no_path_is_refused_in_one_line(text):
    with pytest.raises(UsageError) as caught:
        parse_root_path(text)
    assert str(caught.value).startswith(f"Invalid --root-path {text!r}. Use a path such as /photos")
    assert str(caught.value).isprintable()


def test_root_path_option_must_not_begin_like_own_paths():
    app = make_app(None)
    own = {path.split("/")[1] for path in app.openapi()["paths"]}
    own |= {"docs", "mcp", "openapi.json", "session", "static"}
    assert own == FIRST_SEGMENTS
    for name in own:
        with pytest.raises(UsageError, match="begins like a path of the server itself"):
            parse_root_path(f"/{name}/photos")


@pytest.mark.parametrize(
    ("texts", "proxies"),
    [
        ([], DEFAULT_TRUSTED_PROXIES),
        (["10.0.0.5"], ("10.0.0.5",)),
        (["10.0.0.5, fd00::/8 ::1"], ("10.0.0.5", "fd00::/8", "::1")),
        # Bits of the host in a network are ignored.
        (["172.17.0.1/16"], ("172.17.0.0/16",)),
        (["10.0.0.5", "*"], ("*",)),
    ],
)
def test_trusted_proxies_are_addresses_and_networks(texts, proxies):
    assert parse_trusted_proxies(texts) == proxies


@pytest.mark.parametrize("text", ["traefik", "10.0.0", "10.0.0.0/33", "10.0.0.5:80", "**"])
def test_trusted_proxy_that_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="is not an IP address or network"):
        parse_trusted_proxies(["127.0.0.1", text])
