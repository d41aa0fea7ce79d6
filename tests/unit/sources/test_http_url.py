"""Tests of the URL parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.sources._web.addresses import MAX_DISPLAY_LENGTH, HttpUrl, display_url


@pytest.mark.parametrize(
    ("url", "parts", "authority"),
    [
        ("http://a.example", ("http", "a.example", 80, "/"), "a.example"),
        ("HTTPS://A.Example/B", ("https", "a.example", 443, "/B"), "a.example"),
        ("https://a.example:443/", ("https", "a.example", 443, "/"), "a.example"),
        ("http://a.example:8080/x", ("http", "a.example", 8080, "/x"), "a.example:8080"),
        ("http://a.example/b?c=d&e#f", ("http", "a.example", 80, "/b?c=d&e"), "a.example"),
        ("http://a.example/b c/é.jpg", ("http", "a.example", 80, "/b%20c/%C3%A9.jpg"), "a.example"),
        ("http://a.example/%C3%A9?q=%20", ("http", "a.example", 80, "/%C3%A9?q=%20"), "a.example"),
        (" http://a.example/a,b;c=(d) ", ("http", "a.example", 80, "/a,b;c=(d)"), "a.example"),
        ("http://bücher.example/", ("http", "xn--bcher-kva.example", 80, "/"), None),
        ("http://[2606:4700::1111]/", ("http", "2606:4700::1111", 80, "/"), "[2606:4700::1111]"),
        ("http://[2606:4700::1111]:81/", ("http", "2606:4700::1111", 81, "/"), None),
        ("http://8.8.8.8/", ("http", "8.8.8.8", 80, "/"), "8.8.8.8"),
        ("http://a.example//b/../c", ("http", "a.example", 80, "//b/../c"), "a.example"),
    ],
)
def test_http_url_parse_splits_scheme_host_port_and_target(url, parts, authority):
    address = HttpUrl.parse(url)
    assert (address.scheme, address.host, address.port, address.target) == parts
    if authority is not None:
        assert address.authority == authority


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/c", "http://a.example:81/c"),
        ("c?d", "http://a.example:81/x/c?d"),
        ("//b.example/c", "http://b.example/c"),
        ("https://b.example", "https://b.example/"),
        ("", "http://a.example:81/x/y?z"),
    ],
)
def test_http_url_join_resolves_redirect_location(location, url):
    address = HttpUrl.parse("http://a.example:81/x/y?z")
    assert address.join(location) == HttpUrl.parse(url)


PIECES = (
    *(
        "http",
        "https",
        "file",
        "://",
        "//",
        "/",
        "\\",
        "@",
        ":",
        "[",
        "]",
        "%",
        "#",
        "?",
        ".",
        "::1",
    ),
    *("a.example", "127.0.0.1", "80", "é", "\u3002", "\r\n", "\0", " ", "\ud800", "&"),
)
pieces = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@given(st.one_of(st.text(), pieces, pieces.map("http://a.example".__add__)))
def test_http_url_parse_any_text_returns_safe_round_trip_url_or_raises(url):
    try:
        address = HttpUrl.parse(url)
    except ValueError:
        return
    assert address.scheme in ("http", "https")
    assert 0 < address.port < 2**16
    for part in (address.host, address.target, address.authority):
        assert part.isascii()
        assert part.isprintable()
        assert " " not in part
    assert not set(address.host) & set("/\\@?#[]")
    assert address.target.startswith("/")
    # Parsing the result again gives the same URL.
    again = f"{address.scheme}://{address.authority}{address.target}"
    assert HttpUrl.parse(again) == address


def test_display_url_escapes_control_characters_and_truncates_long_url():
    assert display_url("http://a.example/\r\n'") == '"http://a.example/\\\\r\\\\n\'"'
    assert len(display_url("http://a.example/" + "a" * 5000)) == MAX_DISPLAY_LENGTH + len("'...'")
