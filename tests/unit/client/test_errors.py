"""Tests of the errors, retries and job events of the client."""

import asyncio
import json
import subprocess
import sys

import httpx
import pytest

from mmsearch import AsyncClient, Client
from mmsearch.client import _connections, _transport
from mmsearch.client._errors import Response, retry_delay_s, to_error
from mmsearch.client._flows import JobEvents
from mmsearch.client._requests import Endpoint
from mmsearch.core.errors import (
    BusyError,
    DecodeError,
    GoneError,
    InvalidQueryError,
    MissingExtraError,
    MMSearchError,
    ModelUnavailableError,
    ServerError,
    StateError,
    UnauthorizedError,
    UnknownIndexError,
    UnreachableError,
    UsageError,
)
from tests.unit.client.fake_server import (
    JOB,
    TOKEN,
    URL,
    FakeServer,
    hit_documents,
    json_response,
    page_document,
    problem_response,
)


@pytest.fixture
def sleeps(monkeypatch):
    """List of the delays that the clients request; no time passes."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(_connections.time, "sleep", waits.append)
    monkeypatch.setattr(_connections.asyncio, "sleep", sleep)
    return waits


def caught_error(*replies, ask=lambda client: client.status(), **options):
    with (
        Client(URL, transport=FakeServer(*replies).transport, **options) as client,
        pytest.raises(MMSearchError) as caught,
    ):
        ask(client)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (404, "UnknownIndexError", UnknownIndexError),
        (400, "InvalidQueryError", InvalidQueryError),
        (409, "StateError", StateError),
        (422, "DecodeError", DecodeError),
        (503, "ModelUnavailableError", ModelUnavailableError),
        (410, "GoneError", GoneError),
        (422, None, UsageError),
        (413, None, UsageError),
        (404, None, ServerError),
        (500, None, ServerError),
        (500, "ClassVar", ServerError),
        (500, "annotations", ServerError),
        (500, ["StateError"], ServerError),
    ],
)
def test_to_error_problem_document_returns_error_of_kind_or_status(status, kind, expected):
    document = {"detail": "It is so. Do this.", "kind": kind, "status": status}
    error = to_error(Response(status, json.dumps(document).encode()), URL, has_token=False)
    assert type(error) is expected
    assert str(error) == "It is so. Do this."
    assert error.details == {"status": status, "kind": kind}


def test_to_error_other_body_returns_server_error_with_status():
    for content in (b"<html>", b"[]", b'{"detail": 3}', b"\xff"):
        error = to_error(Response(502, content), URL, has_token=False)
        assert type(error) is ServerError
        assert str(error) == f"The server at {URL} responded with status 502 (Bad Gateway)."
    assert str(to_error(Response(599, b""), URL, has_token=False)).endswith("status 599.")


def test_client_401_error_explains_missing_or_wrong_token():
    asked = problem_response(401, "This server requires a token.")
    error = caught_error(asked)
    assert type(error) is UnauthorizedError
    assert str(error) == "This server requires a token. Pass it as token=..."
    error = caught_error(asked, token=TOKEN)
    assert str(error) == "This server requires a token. The token that was sent is wrong."
    assert TOKEN not in repr(Client(URL, token=TOKEN))
    assert TOKEN not in repr(Endpoint.parse(URL, "default", TOKEN, 1))


def test_client_unreachable_server_raises_unreachable_error_with_cause():
    error = caught_error(httpx.ConnectError("[Errno 111] Connection refused"))
    assert type(error) is UnreachableError
    assert str(error) == (
        f"The server at {URL} cannot be reached: Connection refused."
        " Check that `mmsearch serve` is running there."
    )
    error = caught_error(httpx.ReadTimeout("timed out"), timeout_s=2.5)
    assert type(error) is UnreachableError
    assert "no response for 2.5 seconds" in str(error)
    assert "RemoteProtocolError" in str(caught_error(httpx.RemoteProtocolError("")))


def test_client_response_of_other_server_raises_descriptive_error():
    assert "not JSON" in str(caught_error(httpx.Response(200, content=b"<html>")))
    assert "the form that an mmsearch server sends" in str(
        caught_error(json_response({"it": "works"}))
    )
    error = caught_error(httpx.Response(307, headers={"Location": "https://example.org"}))
    assert str(error) == f"The server at {URL} responded with status 307 (Temporary Redirect)."


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:7788",
        "ftp://a",
        "http://",
        "http://a:x",
        "http://a/?b",
        "",
        "http://[::1",
        "http://a b",
    ],
)
def test_client_invalid_url_raises_usage_error(url):
    with pytest.raises(UsageError, match="Invalid server URL"):
        Client(url)


def test_client_credentials_in_url_or_invalid_token_raise_usage_error():
    with pytest.raises(UsageError, match="contains a user name or a password") as caught:
        Client("http://me:secret@127.0.0.1")
    assert "secret" not in str(caught.value)
    for token in ("", " ", "a\nb", "ä"):
        with pytest.raises(UsageError, match="not allowed in a token"):
            Client(URL, token=token)


def test_client_options_loopback_server_ignores_proxy_settings():
    assert not _transport.client_options(Endpoint.parse("http://[::1]:7788", "a", None, 1))[
        "trust_env"
    ]
    assert _transport.client_options(Endpoint.parse("https://example.org", "a", None, 1))[
        "trust_env"
    ]


def test_client_busy_server_retries_after_requested_delay(sleeps):
    busy = problem_response(503, "256 queries are waiting.", "BusyError", Retry_After="3")
    often = problem_response(429, "Too many requests from this client.", Retry_After="1")
    unsaid = problem_response(503, "Not yet.")
    server = FakeServer(busy, often, unsaid, json_response(page_document(hit_documents(1, 1))))
    with Client(URL, transport=server.transport) as client:
        assert len(client.search("mill")) == 1
    assert sleeps == [3.0, 1.0, 2.0]
    assert len({request.content for request in server.requests}) == 1


def test_client_always_busy_server_raises_busy_error_after_five_requests(sleeps):
    busy = problem_response(503, "256 queries are waiting.", "BusyError", Retry_After="1")
    server = FakeServer(*[busy] * 9)
    with (
        Client(URL, transport=server.transport) as client,
        pytest.raises(BusyError, match="256 queries are waiting") as caught,
    ):
        client.status()
    assert (len(server.requests), sleeps) == (5, [1.0] * 4)
    assert caught.value.details == {"status": 503, "kind": "BusyError"}


def test_retry_delay_long_wait_many_attempts_or_permanent_error_returns_none():
    busy = BusyError("Busy.")
    assert retry_delay_s(Response(503, b"", {"retry-after": "31"}), busy, 0) is None
    assert retry_delay_s(Response(503, b"", {"retry-after": "30"}), busy, 0) == 30
    assert retry_delay_s(Response(503, b"", {"retry-after": "Wed, 21 Oct"}), busy, 1) == 1.0
    assert retry_delay_s(Response(503, b""), busy, 4) is None
    assert retry_delay_s(Response(500, b"", {"retry-after": "1"}), busy, 0) is None
    assert retry_delay_s(Response(503, b""), ModelUnavailableError("No weights."), 0) is None


def test_sync_and_async_clients_send_same_requests_and_return_same_hits(sleeps):
    busy = problem_response(503, "Busy.", Retry_After="2")

    async def ask(server):
        async with AsyncClient(URL, transport=server.transport) as client:
            return await client.search("mill", 300)

    replies = [
        busy,
        json_response(page_document(hit_documents(1, 200), "one")),
        busy,
        json_response(page_document(hit_documents(201, 100))),
    ]
    waiting, other = FakeServer(*replies), FakeServer(*replies)
    assert asyncio.run(ask(other)) == Client(URL, transport=waiting.transport).search("mill", 300)
    assert other.bodies == waiting.bodies
    assert sleeps == [2.0] * 4


def test_client_call_after_close_raises_state_error():
    client = Client(URL, transport=FakeServer().transport)
    client.close()
    with pytest.raises(StateError, match=r"This client is closed\. Create a new one\."):
        client.status()


def event_stream(*jobs):
    body = "".join(f"event: job\ndata: {json.dumps(job)}\n\n" for job in jobs)
    return httpx.Response(200, text=f": hello\n\n{body}")


def test_client_follow_yields_job_updates_until_finished(sleeps):
    ended = JOB | {"state": "finished", "phase": None, "done": 9, "report": {"added": 6}}
    replies = [
        problem_response(503, "Busy.", Retry_After="1"),
        event_stream(JOB, JOB | {"done": 5}, ended),
    ]

    async def follow(transport):
        async with AsyncClient(URL, transport=transport) as client:
            return [job async for job in client.follow("ab12")]

    server = FakeServer(*replies)
    updates = list(Client(URL, transport=server.transport).follow("ab12"))
    assert [(job.state, job.done) for job in updates] == [
        ("running", 3),
        ("running", 5),
        ("finished", 9),
    ]
    assert updates[-1].report == {"added": 6}
    assert server.requests[-1].url.path == "/v1/indexes/default/jobs/ab12/events"
    assert asyncio.run(follow(FakeServer(*replies).transport)) == updates
    assert sleeps == [1.0, 1.0]


def test_client_follow_stream_closed_early_raises_unreachable_error():
    error = caught_error(event_stream(JOB), ask=lambda client: list(client.follow("ab12")))
    assert type(error) is UnreachableError
    assert "closed the event stream of a job that has not ended" in str(error)
    error = caught_error(
        problem_response(404, "No job.", "UnknownNameError"), ask=lambda c: list(c.follow("x"))
    )
    assert str(error) == "No job."


def test_job_events_read_joins_several_data_lines():
    read = JobEvents(Endpoint.parse(URL, "default", None, 1)).read
    first, second = json.dumps(JOB).split(" ", 1)
    lines = [": comment", "event: job", f"data: {first}", f"data:{second}", "id: 3"]
    assert [read(line) for line in lines] == [None] * 5
    assert read("").id == "ab12"
    assert read("") is None
    with pytest.raises(ServerError, match="not JSON"):
        assert [read(line) for line in ("data: {", "")]


def test_importing_mmsearch_imports_no_httpx():
    program = "import sys, mmsearch; mmsearch.Client; assert 'httpx' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_client_without_httpx_raises_missing_extra_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[client\]'"):
        Client(URL)
