"""Tests of the index worker: one thread owns the index, another encodes ahead."""

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from mmsearch.core.deadlines import deadline, seconds_left
from mmsearch.core.errors import BusyError, DeadlineError, EncoderMismatchError, InvalidQueryError
from mmsearch.core.query import Query, SearchRequest, Term
from mmsearch.server.batcher import MAX_BATCH, IndexWorker


class FakeIndex:
    """Index that records its calls, their threads and forbidden overlaps between them."""

    name = "toy"

    def __init__(self):
        self.encoders, self.owners = set(), set()
        self.encoded, self.answered, self.individual = [], [], []
        self.closed = False
        self.rests = 0
        self.gate = threading.Event()
        self.gate.set()
        self.active = Counter()
        self.violations = []
        self.has_encoder_results = True
        self.has_other_encoder = False

    def tracking(self, what, forbidden):
        index = self

        class Doing:
            def __enter__(self):
                index.violations += [(what, other) for other in forbidden if index.active[other]]
                index.active[what] += 1

            def __exit__(self, *error):
                index.active[what] -= 1

        return Doing()

    def encode(self, requests):
        self.encoders.add(threading.get_ident())
        with self.tracking("encode", ["encode", "alone"]):
            texts = [text_of(request) for request in requests]
            if "unexpected" in texts:
                raise ValueError("unexpected")
            self.encoded.append(len(texts))
            return (
                [bad if text == "bad" else text for text in texts]
                if self.has_encoder_results
                else None
            )

    def answer(self, asked):
        self.owners.add(threading.get_ident())
        with self.tracking("answer", ["answer", "alone"]):
            self.answered.append(len(asked))
            assert self.gate.wait(10)
            if self.has_other_encoder:
                raise EncoderMismatchError("another")
            return [one if one is bad else f"found {one}" for one in asked]

    def search_many(self, requests):
        self.owners.add(threading.get_ident())
        with self.tracking("alone", ["encode", "answer", "alone"]):
            self.individual.append(len(requests))
            if text_of(requests[0]) == "unexpected":
                raise ValueError("unexpected")
            return [f"alone {text_of(request)}" for request in requests]

    def look(self):
        self.owners.add(threading.get_ident())
        with self.tracking("alone", ["encode", "answer", "alone"]):
            return "looked"

    def release(self):
        self.owners.add(threading.get_ident())
        self.rests += 1

    def close(self):
        self.owners.add(threading.get_ident())
        self.closed = True


bad = InvalidQueryError("bad")


def text_of(request):
    return request.query.terms[0].text


def make_request(text):
    return SearchRequest(Query((Term(text),)))


async def wait_until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


async def start_while_busy(index, worker, texts):
    """Start searches while the owner thread answers another one."""
    index.gate.clear()
    first = asyncio.create_task(worker.search(make_request("first")))
    await wait_until(lambda: index.answered)
    tasks = [asyncio.create_task(worker.search(make_request(text))) for text in texts]
    await asyncio.sleep(0)
    return first, tasks


def test_index_worker_concurrent_calls_use_one_owner_and_get_own_results():
    index = FakeIndex()
    worker = IndexWorker(index, max_queue=1000)

    async def scenario():
        searches = [worker.search(make_request(str(n))) for n in range(500)]
        looks = [worker.run(lambda index: index.look()) for _ in range(50)]
        return await asyncio.gather(*searches), await asyncio.gather(*looks)

    answers, looks = asyncio.run(scenario())
    worker.close()
    assert answers == [f"found {n}" for n in range(500)]
    assert looks == ["looked"] * 50
    assert len(index.owners) == 1
    assert len(index.encoders | index.owners) <= 2
    assert threading.get_ident() not in index.encoders | index.owners
    assert index.violations == []
    assert index.closed


def test_index_worker_sequential_searches_are_encoded_by_owner_thread():
    index = FakeIndex()
    worker = IndexWorker(index)

    async def scenario():
        return [await worker.search(make_request(str(n))) for n in range(20)]

    assert asyncio.run(scenario()) == [f"found {n}" for n in range(20)]
    worker.close()
    assert index.encoders <= index.owners


def test_index_worker_queued_searches_are_encoded_ahead_and_answered_together():
    index = FakeIndex()
    worker = IndexWorker(index)

    async def scenario():
        first, tasks = await start_while_busy(index, worker, map(str, range(10)))
        await wait_until(lambda: sum(index.encoded) == 11)
        assert index.answered == [1]
        index.gate.set()
        await asyncio.gather(first, *tasks)

    asyncio.run(scenario())
    worker.close()
    assert index.answered == [1, 10]
    assert len(index.encoders) == 2


def test_index_worker_encodes_ahead_less_than_two_batches():
    index = FakeIndex()
    worker = IndexWorker(index)

    async def scenario():
        first, tasks = await start_while_busy(index, worker, map(str, range(200)))
        await wait_until(lambda: sum(index.encoded) > MAX_BATCH)
        await asyncio.sleep(0.05)
        ahead = sum(index.encoded) - 1
        index.gate.set()
        await asyncio.gather(first, *tasks)
        return ahead

    ahead = asyncio.run(scenario())
    worker.close()
    assert MAX_BATCH <= ahead < 2 * MAX_BATCH
    assert max(index.encoded) <= MAX_BATCH
    assert max(index.answered) <= MAX_BATCH
    assert sum(index.answered) == 201


def test_index_worker_encodes_each_picture_query_in_separate_batch():
    index = FakeIndex()
    worker = IndexWorker(index)
    texts = ["a", "b", "picture", "picture", "c"]

    async def scenario():
        first, _ = await start_while_busy(index, worker, [])
        requests = [
            SearchRequest(Query((Term(image=Path("a.jpg")) if text == "picture" else Term(text),)))
            for text in texts
        ]
        # While another kind of call waits, the worker encodes nothing ahead.
        look = asyncio.create_task(worker.run(lambda index: index.look()))
        await wait_until(lambda: worker.queue_length == 1)
        tasks = [asyncio.create_task(worker.search(request)) for request in requests]
        await wait_until(lambda: worker.queue_length == 1 + len(texts))
        index.gate.set()
        await asyncio.gather(first, look, *tasks)

    asyncio.run(scenario())
    worker.close()
    assert index.encoded == [1, 2, 1, 1, 1]


def test_index_worker_invalid_query_fails_only_its_own_search():
    index = FakeIndex()
    worker = IndexWorker(index)

    async def scenario():
        first, tasks = await start_while_busy(index, worker, ["a", "bad", "b"])
        index.gate.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert asyncio.run(scenario()) == ["found a", bad, "found b"]
    worker.close()


def test_index_worker_unexpected_error_fails_only_its_own_search():
    index = FakeIndex()
    worker = IndexWorker(index)

    async def scenario():
        first, tasks = await start_while_busy(index, worker, ["a", "unexpected", "b"])
        index.gate.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    a, unexpected, b = asyncio.run(scenario())
    assert (a, b) == ("alone a", "alone b")
    assert isinstance(unexpected, ValueError)
    assert worker.run_blocking(lambda index: index.look()) == "looked"
    worker.close()
    assert index.violations == []


@pytest.mark.parametrize("change", ["stranger", "empty"])
def test_index_worker_stale_or_missing_encoding_falls_back_to_search_many(change):
    index = FakeIndex()
    worker = IndexWorker(index)

    async def scenario():
        first, tasks = await start_while_busy(index, worker, map(str, range(40)))
        index.has_other_encoder, index.has_encoder_results = change == "stranger", change != "empty"
        index.gate.set()
        return await asyncio.gather(first, *tasks)

    answers = asyncio.run(scenario())
    worker.close()
    assert [answer.split()[1] for answer in answers] == ["first", *map(str, range(40))]
    assert {answer.split()[0] for answer in answers[20:]} == {"alone"}
    assert index.violations == []


def test_index_worker_full_queue_raises_busy_error():
    index = FakeIndex()
    worker = IndexWorker(index, max_queue=2)

    async def scenario():
        first, _ = await start_while_busy(index, worker, [])
        looks = [asyncio.create_task(worker.run(lambda index: index.look())) for _ in range(2)]
        await wait_until(lambda: worker.queue_length == 2)
        for refused in (worker.run(lambda index: index.look()), worker.search(make_request("a"))):
            with pytest.raises(BusyError, match="2 queries are already waiting"):
                await refused
        index.gate.set()
        return await asyncio.gather(first, *looks)

    assert asyncio.run(scenario()) == ["found first", "looked", "looked"]
    worker.close()


def test_index_worker_cancelled_queued_calls_are_not_run():
    index = FakeIndex()
    worker = IndexWorker(index)
    done = []

    async def scenario():
        first, _ = await start_while_busy(index, worker, [])
        left = asyncio.create_task(worker.run(lambda index: done.append("left")))
        await wait_until(lambda: worker.queue_length == 1)
        # While another kind of call waits, the worker encodes nothing ahead.
        search = asyncio.create_task(worker.search(make_request("left")))
        await wait_until(lambda: worker.queue_length == 2)
        left.cancel()
        search.cancel()
        await asyncio.gather(left, search, return_exceptions=True)
        index.gate.set()
        await first

    asyncio.run(scenario())
    worker.close()
    assert done == []
    assert sum(index.encoded) == 1


def test_index_worker_close_answers_queued_searches_then_raises_busy_error():
    index = FakeIndex()
    worker = IndexWorker(index)

    async def scenario():
        first, tasks = await start_while_busy(index, worker, "abc")
        closing = threading.Thread(target=worker.close)
        closing.start()
        index.gate.set()
        answers = await asyncio.gather(first, *tasks)
        closing.join()
        return answers

    assert asyncio.run(scenario()) == ["found first", "found a", "found b", "found c"]
    assert index.closed
    with pytest.raises(BusyError, match="shutting down"):
        worker.run_blocking(lambda index: 1)


def test_index_worker_closed_caller_loop_does_not_block_other_calls():
    index = FakeIndex()
    worker = IndexWorker(index)

    async def scenario():
        await start_while_busy(index, worker, ["a"])

    loop = asyncio.new_event_loop()
    loop.run_until_complete(scenario())
    loop.close()
    index.gate.set()
    assert worker.run_blocking(lambda index: index.look()) == "looked"
    worker.close()


def test_index_worker_system_exit_in_call_keeps_worker_running():
    worker = IndexWorker(FakeIndex())
    with pytest.raises(SystemExit):
        worker.run_blocking(lambda index: (_ for _ in ()).throw(SystemExit(3)))
    assert worker.run_blocking(lambda index: index.name) == "toy"
    worker.close()


def test_index_worker_idle_releases_index_once_until_next_search():
    index = FakeIndex()
    worker = IndexWorker(index, idle_timeout_s=0.05)

    async def scenario():
        await wait_until(lambda: index.rests == 1)
        await asyncio.sleep(0.3)
        assert index.rests == 1
        assert await worker.search(make_request("a")) == "found a"
        await wait_until(lambda: index.rests == 2)

    asyncio.run(scenario())
    worker.close()
    assert index.closed


def test_index_worker_cancelled_search_leaves_later_search_working():
    index = FakeIndex()
    worker = IndexWorker(index)

    async def scenario():
        first, tasks = await start_while_busy(index, worker, ["encoded"])
        await wait_until(lambda: len(index.encoded) == 2)
        given_up = asyncio.create_task(worker.search(make_request("given up")))
        index.gate.set()
        given_up.cancel()
        await asyncio.gather(first, *tasks)
        await asyncio.wait([given_up])
        assert given_up.cancelled()
        return await worker.search(make_request("last"))

    assert asyncio.run(scenario()) == "found last"
    worker.close()


def test_index_worker_expired_call_never_starts_and_started_call_sees_deadline():
    index = FakeIndex()
    worker = IndexWorker(index)
    begun = []

    def slow(_):
        begun.append(seconds_left())
        time.sleep(0.3)

    with deadline(time.monotonic() + 0.1), pytest.raises(DeadlineError):
        worker.run_blocking(slow)
    with deadline(time.monotonic() + 0.1), pytest.raises(DeadlineError):
        worker.run_blocking(slow)
    assert worker.run_blocking(lambda index: index.look()) == "looked"
    worker.close()
    assert len(begun) == 1
    assert 0 < begun[0] <= 0.1


def test_index_worker_timeout_error_of_call_propagates_unchanged():
    worker = IndexWorker(FakeIndex())

    def late(_):
        raise TimeoutError("its own")

    with deadline(time.monotonic() + 5), pytest.raises(TimeoutError, match="its own"):
        worker.run_blocking(late)
    worker.close()


def test_index_worker_answers_search_within_its_deadline():
    index = FakeIndex()
    left = []
    index.answer = lambda asked: left.append(seconds_left()) or asked
    worker = IndexWorker(index)

    async def scenario():
        with deadline(time.monotonic() + 5):
            return await worker.search(make_request("one"))

    assert asyncio.run(scenario()) == "one"
    worker.close()
    assert 0 < left[0] <= 5
