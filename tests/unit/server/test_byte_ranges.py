"""Tests of byte ranges: responses with a part of the content."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.server.byte_ranges import canonical_range, range_response

CONTENT = bytes(range(100))


def request_range(wanted, content=CONTENT):
    return range_response(content, wanted, "image/webp", {"ETag": '"a"'})


@pytest.mark.parametrize(
    "wanted",
    [
        *(None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=0-1,5-6", "lines=1-2", "0-1"),
        *("bytes=20-10", "bytes=1 - 2", "bytes=--5", "bytes=+1-2", "bytes=1-2x", "bytes=٣-٤", " "),
        *("bytes=0x1-2", "bytes 0-1", "bytes=,", "bytes=" + "9" * 5000 + "-1"),
    ],
)
def test_range_response_absent_invalid_or_multiple_range_returns_whole_content(wanted):
    answer = request_range(wanted)
    assert (answer.status_code, answer.body) == (200, CONTENT)
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-range" not in answer.headers


@pytest.mark.parametrize(
    ("wanted", "part", "content_range"),
    [
        ("bytes=0-0", CONTENT[:1], "bytes 0-0/100"),
        ("bytes=10-19", CONTENT[10:20], "bytes 10-19/100"),
        ("bytes=90-", CONTENT[90:], "bytes 90-99/100"),
        ("bytes=90-1000", CONTENT[90:], "bytes 90-99/100"),
        ("bytes=-5", CONTENT[95:], "bytes 95-99/100"),
        ("bytes=-1000", CONTENT, "bytes 0-99/100"),
        ("Bytes=0-0", CONTENT[:1], "bytes 0-0/100"),
        ("bytes=\t0-0 , ,", CONTENT[:1], "bytes 0-0/100"),
        ("bytes=000-" + "0" * 5000 + "1", CONTENT[:2], "bytes 0-1/100"),
        ("bytes=90-" + "9" * 5000, CONTENT[90:], "bytes 90-99/100"),
        ("bytes=-" + "9" * 5000, CONTENT, "bytes 0-99/100"),
    ],
)
def test_range_response_single_range_returns_that_part_with_status_206(wanted, part, content_range):
    answer = request_range(wanted)
    assert (answer.status_code, answer.body) == (206, part)
    assert answer.headers["content-range"] == content_range
    assert (answer.headers["etag"], answer.headers["content-type"]) == ('"a"', "image/webp")
    assert answer.headers["content-length"] == str(len(part))


@pytest.mark.parametrize(
    "wanted", ["bytes=100-", "bytes=200-300", "bytes=-0", "bytes=" + "9" * 5000 + "-"]
)
def test_range_response_unsatisfiable_range_returns_416(wanted):
    answer = request_range(wanted)
    assert (answer.status_code, answer.media_type) == (416, "application/problem+json")
    assert json.loads(answer.body)["detail"].startswith("The content has 100 bytes")
    assert answer.headers["content-range"] == "bytes */100"


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("BYTES= 007-8,", "bytes=7-8"),
        ("bytes=-000", "bytes=-0"),
        ("bytes=5-", "bytes=5-"),
        ("bytes=0-" + "1" * 19, "bytes=0-" + "9" * 18),
        ("bytes=1-0", None),
        ("bytes=1-2, 3-4", None),
        ("items=1-2", None),
    ],
)
def test_canonical_range_normalizes_single_range_else_returns_none(value, canonical):
    assert canonical_range(value) == canonical


@given(st.binary(min_size=1), st.data())
def test_range_response_adjacent_parts_join_to_whole_content(content, data):
    cut = data.draw(st.integers(1, len(content)))
    first = request_range(f"bytes=0-{cut - 1}", content)
    rest = request_range(f"bytes={cut}-", content).body if cut < len(content) else b""
    assert first.body + rest == content
