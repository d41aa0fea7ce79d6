"""What goes wrong, and that it is said in a sentence."""

import asyncio
import json
import subprocess
import sys

import httpx
import pytest

from mmsearch import AsyncClient, Client
from mmsearch.client import _async, _sync, _transport
from mmsearch.client._endpoint import Address
from mmsearch.client._errors import Reply, error_of, wait_s
from mmsearch.client._events import JobEvents
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
from tests.unit.client.served import JOB, KNOWN, URL, Played, answered, hits, page, problem


@pytest.fixture
def slept(monkeypatch):
    """How long was waited, without waiting."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(_sync.time, "sleep", waits.append)
    monkeypatch.setattr(_async.asyncio, "sleep", sleep)
    return waits


def failure(*replies, ask=lambda client: client.status(), **options):
    with (
        Client(URL, transport=Played(*replies).transport, **options) as client,
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
def test_a_problem_is_the_error_that_it_was(status, kind, expected):
    document = {"detail": "It is so. Do this.", "kind": kind, "status": status}
    error = error_of(Reply(status, json.dumps(document).encode()), URL, with_token=False)
    assert type(error) is expected
    assert str(error) == "It is so. Do this."
    assert error.facts == {"status": status, "kind": kind}


def test_what_is_no_problem_document_is_told_by_its_status():
    for content in (b"<html>", b"[]", b'{"detail": 3}', b"\xff"):
        error = error_of(Reply(502, content), URL, with_token=False)
        assert type(error) is ServerError
        assert str(error) == f"The server at {URL} answers with status 502 (Bad Gateway)."
    assert str(error_of(Reply(599, b""), URL, with_token=False)).endswith("status 599.")


def test_a_token_is_asked_for():
    asked = problem(401, "This server asks for its token.")
    error = failure(asked)
    assert type(error) is UnauthorizedError
    assert str(error) == "This server asks for its token. Give it as token=..."
    error = failure(asked, token=KNOWN)
    assert str(error) == "This server asks for its token. It does not know the one that was given."
    assert KNOWN not in repr(Client(URL, token=KNOWN))
    assert KNOWN not in repr(Address.of(URL, "default", KNOWN, 1))


def test_nobody_there():
    error = failure(httpx.ConnectError("[Errno 111] Connection refused"))
    assert type(error) is UnreachableError
    assert str(error) == (
        f"The server at {URL} cannot be reached: Connection refused."
        " Is `mmsearch serve` running there?"
    )
    error = failure(httpx.ReadTimeout("timed out"), timeout_s=2.5)
    assert type(error) is UnreachableError
    assert "it was silent for 2.5 seconds" in str(error)
    assert "RemoteProtocolError" in str(failure(httpx.RemoteProtocolError("")))


def test_another_server():
    assert "no JSON" in str(failure(httpx.Response(200, content=b"<html>")))
    assert "not one that an mmsearch server gives" in str(failure(answered({"it": "works"})))
    error = failure(httpx.Response(307, headers={"Location": "https://example.org"}))
    assert str(error) == f"The server at {URL} answers with status 307 (Temporary Redirect)."


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
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UsageError, match="is no URL of a server"):
        Client(url)


def test_secrets_belong_into_the_token():
    with pytest.raises(UsageError, match="holds a name or a password") as caught:
        Client("http://me:secret@127.0.0.1")
    assert "secret" not in str(caught.value)
    for token in ("", " ", "a\nb", "ä"):
        with pytest.raises(UsageError, match="no token has"):
            Client(URL, token=token)


def test_no_proxy_stands_before_this_machine():
    assert not _transport.connection(Address.of("http://[::1]:7788", "a", None, 1))["trust_env"]
    assert _transport.connection(Address.of("https://example.org", "a", None, 1))["trust_env"]


def test_a_busy_server_is_asked_again(slept):
    busy = problem(503, "256 queries are waiting.", "BusyError", Retry_After="3")
    often = problem(429, "This client asks too often.", Retry_After="1")
    unsaid = problem(503, "Not yet.")
    server = Played(busy, often, unsaid, answered(page(hits(1, 1))))
    with Client(URL, transport=server.transport) as client:
        assert len(client.search("mill")) == 1
    assert slept == [3.0, 1.0, 2.0]
    assert len({request.content for request in server.asked}) == 1


def test_it_is_not_asked_for_ever(slept):
    busy = problem(503, "256 queries are waiting.", "BusyError", Retry_After="1")
    server = Played(*[busy] * 9)
    with (
        Client(URL, transport=server.transport) as client,
        pytest.raises(BusyError, match="256 queries are waiting") as caught,
    ):
        client.status()
    assert (len(server.asked), slept) == (5, [1.0] * 4)
    assert caught.value.facts == {"status": 503, "kind": "BusyError"}


def test_asking_again_is_of_no_use():
    busy = BusyError("Busy.")
    assert wait_s(Reply(503, b"", {"retry-after": "31"}), busy, 0) is None
    assert wait_s(Reply(503, b"", {"retry-after": "30"}), busy, 0) == 30
    assert wait_s(Reply(503, b"", {"retry-after": "Wed, 21 Oct"}), busy, 1) == 1.0
    assert wait_s(Reply(503, b""), busy, 4) is None
    assert wait_s(Reply(500, b"", {"retry-after": "1"}), busy, 0) is None
    assert wait_s(Reply(503, b""), ModelUnavailableError("No weights."), 0) is None


def test_both_clients_ask_alike(slept):
    busy = problem(503, "Busy.", Retry_After="2")

    async def ask(server):
        async with AsyncClient(URL, transport=server.transport) as client:
            return await client.search("mill", 300)

    replies = [busy, answered(page(hits(1, 200), "one")), busy, answered(page(hits(201, 100)))]
    waiting, other = Played(*replies), Played(*replies)
    assert asyncio.run(ask(other)) == Client(URL, transport=waiting.transport).search("mill", 300)
    assert other.bodies == waiting.bodies
    assert slept == [2.0] * 4


def test_a_client_that_is_closed_says_so():
    client = Client(URL, transport=Played().transport)
    client.close()
    with pytest.raises(StateError, match=r"This client is closed\. Open another one\."):
        client.status()


def events(*jobs):
    told = "".join(f"event: job\ndata: {json.dumps(job)}\n\n" for job in jobs)
    return httpx.Response(200, text=f": hello\n\n{told}")


def test_a_job_is_followed_to_its_end(slept):
    ended = JOB | {"state": "finished", "phase": None, "done": 9, "report": {"added": 6}}
    replies = [problem(503, "Busy.", Retry_After="1"), events(JOB, JOB | {"done": 5}, ended)]

    async def follow(transport):
        async with AsyncClient(URL, transport=transport) as client:
            return [job async for job in client.follow("ab12")]

    server = Played(*replies)
    told = list(Client(URL, transport=server.transport).follow("ab12"))
    assert [(job.state, job.done) for job in told] == [
        ("running", 3),
        ("running", 5),
        ("finished", 9),
    ]
    assert told[-1].report == {"added": 6}
    assert server.asked[-1].url.path == "/v1/indexes/default/jobs/ab12/events"
    assert asyncio.run(follow(Played(*replies).transport)) == told
    assert slept == [1.0, 1.0]


def test_a_job_that_does_not_end_is_told():
    error = failure(events(JOB), ask=lambda client: list(client.follow("ab12")))
    assert type(error) is UnreachableError
    assert "stopped telling of a job that has not ended" in str(error)
    error = failure(problem(404, "No job.", "UnknownNameError"), ask=lambda c: list(c.follow("x")))
    assert str(error) == "No job."


def test_an_event_may_have_several_lines():
    read = JobEvents(Address.of(URL, "default", None, 1)).read
    first, second = json.dumps(JOB).split(" ", 1)
    lines = [": comment", "event: job", f"data: {first}", f"data:{second}", "id: 3"]
    assert [read(line) for line in lines] == [None] * 5
    assert read("").id == "ab12"
    assert read("") is None
    with pytest.raises(ServerError, match="no JSON"):
        assert [read(line) for line in ("data: {", "")]


def test_importing_mmsearch_imports_no_httpx():
    program = "import sys, mmsearch; mmsearch.Client; assert 'httpx' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mmsearch\[client\]'"):
        Client(URL)
