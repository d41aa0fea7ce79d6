"""The queue of spoken queries: one at a time, a limit, and rest when idle."""

import asyncio
import threading

import pytest

from mmsearch.core.errors import BusyError, DecodeError, InvalidQueryError, SourceError
from mmsearch.core.speech import SpeechSegment, Transcript
from mmsearch.server.listening import SpeechQueue


class ToyListener:
    """Hears the content as its words, once the gate is open."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.running = self.most_running = self.closed = 0

    def listen(self, content, language=None):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        assert self.gate.wait(10)
        self.running -= 1
        if content == b"bad":
            raise SourceError("The recording cannot be used: it is bad.", "Use another one.")
        if content == b"silent":
            raise InvalidQueryError("The recording has no speech in it.")
        segment = SpeechSegment(content.decode(), 0, 1, 0.5)
        return Transcript([segment], language or "en", 1.0, 1)

    def close(self):
        self.closed += 1


@pytest.fixture
def listener():
    return ToyListener()


async def test_queries_are_heard_one_at_a_time_in_order(listener):
    queue = SpeechQueue(listener)
    heard = await asyncio.gather(*(queue.listen(word, "de") for word in (b"a", b"b", b"c")))
    assert [transcript.text for transcript in heard] == ["a", "b", "c"]
    assert heard[0].language == "de"
    assert listener.most_running == 1
    queue.close()
    assert listener.closed == 1


async def test_too_many_waiting_queries_are_refused_until_there_is_room(listener):
    queue = SpeechQueue(listener, max_waiting=2)
    listener.gate.clear()
    waiting = [asyncio.create_task(queue.listen(b"a", None)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError, match="2 spoken queries are already waiting"):
        await queue.listen(b"b", None)
    listener.gate.set()
    await asyncio.gather(*waiting)
    await asyncio.sleep(0.01)
    assert (await queue.listen(b"b", None)).text == "b"
    queue.close()


async def test_cancelled_query_makes_room_only_when_its_work_ends(listener):
    queue = SpeechQueue(listener, max_waiting=1)
    listener.gate.clear()
    task = asyncio.create_task(queue.listen(b"a", None))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(BusyError):
        await queue.listen(b"b", None)
    listener.gate.set()
    await asyncio.sleep(0.05)
    assert (await queue.listen(b"b", None)).text == "b"
    queue.close()


async def test_unreadable_upload_is_a_decode_error_and_silence_an_invalid_query(listener):
    queue = SpeechQueue(listener)
    with pytest.raises(DecodeError, match="it is bad"):
        await queue.listen(b"bad", None)
    with pytest.raises(InvalidQueryError, match="no speech"):
        await queue.listen(b"silent", None)
    queue.close()


async def test_idle_queue_frees_the_listener_and_hears_the_next_query(listener):
    queue = SpeechQueue(listener, idle_timeout_s=0.02)
    await queue.listen(b"a", None)
    for _ in range(100):
        await asyncio.sleep(0.01)
        if listener.closed:
            break
    assert listener.closed == 1
    assert (await queue.listen(b"b", None)).text == "b"
    queue.close()
