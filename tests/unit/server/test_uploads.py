"""Tests of the readers of request bodies."""

import asyncio

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from mmsearch.server.uploads import FormPart, iter_form, iter_lines

BOUNDARY = b"b0undary"

NAMES = st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n'), min_size=1, max_size=9)
CONTENTS = st.binary(max_size=40) | st.sampled_from(
    [b"\r\n--b0undar", b"\r\n--", b"--b0undary", b"\r", b"\n--b0undary\r\n"]
)
SIZES = st.lists(st.integers(1, 30), max_size=40)


def request_of(body, sizes, content_type=b"multipart/form-data; boundary=b0undary"):
    """Return a request whose body arrives in chunks of given sizes."""
    chunks = []
    for size in sizes:
        chunks.append(body[:size])
        body = body[size:]
    chunks.append(body)
    messages = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks, 1)
    ]

    async def receive():
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", content_type)]}
    return Request(scope, receive)


def collect(iterator):
    async def run():
        return [item async for item in iterator]

    return asyncio.run(run())


def encode_form(parts):
    return (
        b"".join(
            b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
            % (BOUNDARY, name.encode(), content)
            for name, content in parts
        )
        + b"--%s--\r\n" % BOUNDARY
    )


@given(parts=st.lists(st.tuples(NAMES, CONTENTS), min_size=1, max_size=4), sizes=SIZES)
def test_form_fields_are_read_whole_however_they_arrive(parts, sizes):
    parts = [
        (name, content) for name, content in parts if b"\r\n--b0undary" not in b"\r\n" + content
    ]
    if parts:
        found = collect(iter_form(request_of(encode_form(parts), sizes), 100))
        assert found == [FormPart(name, content) for name, content in parts]


@given(body=st.binary(max_size=60), sizes=SIZES)
def test_random_form_is_read_or_refused_as_invalid(body, sizes):
    refused = None
    try:
        collect(iter_form(request_of(body, sizes), 100))
    except HTTPException as error:
        refused = error
    assert refused is None or refused.detail.startswith("The form cannot be read: ")


@pytest.mark.parametrize("cut", [1, 5, 30, 60])
def test_form_without_its_end_is_refused(cut):
    body = encode_form([("a", b"x" * 50)])[: -cut - 2]
    with pytest.raises(HTTPException, match="The form cannot be read"):
        collect(iter_form(request_of(body, []), 100))


def test_form_field_above_the_limit_is_refused():
    with pytest.raises(HTTPException, match="larger than") as refused:
        collect(iter_form(request_of(encode_form([("a", b"x" * 101)]), [60]), 100))
    assert refused.value.status_code == 413


@given(lines=st.lists(st.binary(max_size=20), max_size=8), sizes=SIZES)
def test_lines_are_read_whole_however_they_arrive(lines, sizes):
    lines = [line.replace(b"\n", b"") for line in lines]
    found = collect(iter_lines(request_of(b"\n".join(lines), sizes), 100))
    assert found == [line for line in lines if line.strip()]


def test_line_above_the_limit_is_refused_before_its_end():
    with pytest.raises(HTTPException, match="A line is larger than"):
        collect(iter_lines(request_of(b"x" * 1000, [60] * 5), 100))
