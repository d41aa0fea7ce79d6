"""Tests of the reader of URLs: retries, backoff, limits, streams."""

import threading
import time

import pytest

from mmsearch.core.errors import DecodeError
from mmsearch.core.sources import SourceFailure, SourceItem, load_items
from mmsearch.sources._web.reader import MAX_PARALLEL, WebReader
from tests.fake_web import redirect, run_web_server, send

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def server():
    with run_web_server() as server:
        yield server


@pytest.fixture
def waits():
    return []


@pytest.fixture
def make(waits):
    readers = []

    def make(limit_mb=1.0, **options):
        options = {"allow_private": True, "sleep": waits.append} | options
        readers.append(WebReader(limit_mb, **options))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


def failing(times, status, **headers):
    """Answer a number of times with a status, then with content."""
    left = [times]

    def answer(handler):
        left[0] -= 1
        if left[0] >= 0:
            send(handler, status, **headers)
        else:
            send(handler, 200, b"content")

    return answer


def test_web_reader_retries_what_may_pass_with_backoff(server, make, waits):
    server.answers["/a"] = failing(2, 503)
    assert make().read(server.url("/a")) == b"content"
    assert len(waits) == 2
    assert 0.3 < waits[0] < 0.7 < waits[1] < 1.3


def test_web_reader_waits_as_long_as_the_server_asks_within_a_limit(server, make, waits):
    server.answers["/a"] = failing(1, 429, Retry_After="7")
    server.answers["/b"] = failing(1, 429, Retry_After="70000")
    reader = make()
    reader.read(server.url("/a"))
    reader.read(server.url("/b"))
    assert waits == [7.0, 20.0]


@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 410, 418])
def test_web_reader_status_that_stays_is_reported_at_once(server, make, waits, status):
    server.answers["/a"] = lambda handler: send(handler, status)
    with pytest.raises(DecodeError, match=f"HTTP status {status}") as error:
        make().read(server.url("/a"))
    assert error.value.details == {"transient": False, "status": status}
    assert waits == []


def test_web_reader_gives_up_after_its_tries(server, make, waits):
    server.answers["/a"] = lambda handler: send(handler, 502)
    with pytest.raises(DecodeError, match="HTTP status 502") as error:
        make(tries=4).read(server.url("/a"))
    assert error.value.details["transient"]
    assert len(waits) == 3


def test_web_reader_content_beyond_the_limit_is_refused(server, make):
    server.answers["/a"] = bytes(1_000_001)
    server.answers["/b"] = bytes(1_000_000)
    with pytest.raises(DecodeError, match="larger than 1 MB"):
        make().read(server.url("/a"))
    assert len(make().read(server.url("/b"))) == 1_000_000


def test_web_reader_slow_server_is_left(server, make):
    server.answers["/a"] = lambda handler: server.stop_event.wait(20)
    with pytest.raises(DecodeError, match=r"did not answer within 0\.3 seconds"):
        make(deadline_s=0.3, tries=1).read(server.url("/a"))
    server.stop_event.set()


def test_web_reader_content_that_ends_early_is_not_passed_on(server, make):
    def answer(handler):
        send(handler, 200, b"half", Content_Length="8")

    server.answers["/a"] = answer
    with pytest.raises(DecodeError, match="connection to the server failed"):
        make(tries=1).read(server.url("/a"))


def test_web_reader_redirect_to_a_file_or_a_private_address_is_refused(server, make):
    server.answers["/file"] = redirect("file:///etc/passwd")
    server.answers["/loop"] = redirect("/loop")
    with pytest.raises(DecodeError, match="not valid"):
        make().read(server.url("/file"))
    with pytest.raises(DecodeError, match="more than 3 redirects"):
        make().read(server.url("/loop"))
    with pytest.raises(DecodeError, match="not one of a public web server"):
        make(allow_private=False).read(server.url("/file"))
    assert [path for path, _ in server.requests] == ["/file", *["/loop"] * 4]


def test_web_reader_fetches_a_bounded_number_at_a_time(server, make):
    lock, now, most = threading.Lock(), [0], [0]

    def answer(handler):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        send(handler, 200, b"content")

    server.answers["/a"] = answer
    reader = make()

    class Source:
        parallel_loads = 3 * MAX_PARALLEL

    items = [
        SourceItem(str(number).encode(), b"", lambda: reader.read(server.url("/a")))
        for number in range(4 * MAX_PARALLEL)
    ]
    loaded = list(load_items(Source(), items))
    assert [item.key for item, _ in loaded] == [item.key for item in items]
    assert MAX_PARALLEL // 2 < most[0] <= MAX_PARALLEL


def test_web_reader_stream_is_read_as_it_arrives(server, make):
    content = bytes(range(256)) * 40_000
    server.answers["/a"] = content
    with make(limit_mb=100.0).open(server.url("/a")) as stream:
        assert stream.read(1000) == content[:1000]
        assert stream.read() == content[1000:]


def test_web_reader_stream_that_fails_raises_oserror(server, make):
    server.answers["/a"] = lambda handler: send(handler, 200, bytes(9), Content_Length="99")
    for path in ("/a", "/missing"):
        with make().open(server.url(path)) as stream, pytest.raises(OSError, match=r"server|404"):
            stream.read()


def test_web_reader_stream_closed_early_frees_its_reader(server, make):
    server.answers["/a"] = bytes(50_000_000)
    reader = make(limit_mb=100.0)
    stream = reader.open(server.url("/a"))
    stream.read(10)
    stream.close()
    reader.close()
    with pytest.raises(DecodeError, match="closed"):
        reader.read(server.url("/a"))


def test_load_items_yields_failures_in_their_places():
    def fail():
        raise DecodeError("broken", transient=True)

    class Source:
        parallel_loads = 4

    items = [
        SourceItem(b"1", b"s", lambda: b"one"),
        SourceFailure(b"2", "no"),
        SourceItem(b"3", b"t", fail),
    ]
    for parallel_loads in (1, 4):
        Source.parallel_loads = parallel_loads
        first, second, third = load_items(Source(), items)
        assert first == (items[0], b"one")
        assert second is items[1]
        assert third == SourceFailure(b"3", "broken", b"t", transient=True)
