"""Tests of the thread that writes to an index."""

import asyncio
import threading
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from mmsearch.core.errors import BusyError, IndexLockedError
from mmsearch.server import writes
from mmsearch.server.writes import Addition, IndexWriter, MemoryBudget


@dataclass(frozen=True)
class StubItem:
    id: int
    texts: tuple = ()
    metadata: object = None


class StubIndex:
    """An index that keeps contents by their keys, and can hold up its calls."""

    def __init__(self):
        self.items = {}
        self.runs = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.is_running = threading.Event()
        self.error = None
        self.closed = 0

    def exists(self):
        return True

    def get(self, key):
        content = self.items.get(key)
        return None if content is None else StubItem(hash(content))

    def add(self, images, ids, texts, metadata, keep_originals, wait_s, progress):
        self.is_running.set()
        assert self.may_run.wait(20)
        if self.error is not None:
            raise self.error
        progress(None)
        self.runs.append((list(ids), keep_originals))
        failed = [
            SimpleNamespace(path=k.encode(), reason="bad")
            for k, c in zip(ids, images, strict=True)
            if c == b"bad"
        ]
        self.items |= {k: c for k, c in zip(ids, images, strict=True) if c != b"bad"}
        return SimpleNamespace(failed=failed)

    def close(self):
        self.closed += 1


@pytest.fixture
def index():
    return StubIndex()


@pytest.fixture
def writer(index):
    writer = IndexWriter("a", lambda name: index)
    yield writer
    index.may_run.set()
    writer.close()


def outcomes(results):
    return [result.outcome for result in results]


async def hold(index, writer):
    """Start a write that runs until ``index.may_run`` is set; return its task."""
    index.may_run.clear()
    task = asyncio.create_task(writer.add([Addition("first", b"1")]))
    while not index.is_running.is_set():
        await asyncio.sleep(0.001)
    return task


async def submit(writer, *additions):
    """Put a write into the queue; return its task."""
    length = writer.queue_length
    task = asyncio.create_task(writer.add(additions))
    while writer.queue_length == length:
        await asyncio.sleep(0)
    return task


def test_additions_report_what_became_of_each(index, writer):
    async def main():
        first = await writer.add([Addition("a", b"1"), Addition("b", b"bad")])
        second = await writer.add([Addition("a", b"1"), Addition("b", b"2")])
        third = await writer.add([Addition("a", b"3"), Addition("b", b"bad")])
        return first, second, third

    first, second, third = map(outcomes, asyncio.run(main()))
    assert first == ["added", "failed"]
    assert second == ["unchanged", "added"]
    assert third == ["updated", "failed"]
    assert index.items == {"a": b"3", "b": b"2"}
    # The model stays ready for the next write.
    assert index.closed == 0


def test_waiting_additions_with_different_keys_are_one_run(index, writer):
    async def main():
        first = await hold(index, writer)
        tasks = [await submit(writer, Addition(key, b"x")) for key in "abc"]
        tasks.append(await submit(writer, Addition("a", b"y")))
        tasks.append(await submit(writer, Addition("d", b"y", keep_original=True)))
        call = asyncio.create_task(writer.run(lambda index: len(index.runs)))
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(writer.add([Addition("e", b"z")])))
        await asyncio.sleep(0)
        index.may_run.set()
        await asyncio.gather(first, *tasks)
        return await call

    runs_before_call = asyncio.run(main())
    assert index.runs == [
        (["first"], False),
        (["a", "b", "c"], False),
        (["a"], False),
        (["d"], True),
        (["e"], False),
    ]
    # Writes are made in the order of their arrival.
    assert runs_before_call == 4
    assert index.items["a"] == b"y"


def test_runs_are_limited_in_records_and_bytes(index, writer, monkeypatch):
    monkeypatch.setattr(writes, "MAX_BATCH_RECORDS", 3)
    monkeypatch.setattr(writes, "MAX_BATCH_BYTES", 10)

    async def main():
        tasks = [await hold(index, writer)]
        tasks += [await submit(writer, Addition(key, b"x")) for key in "abcde"]
        tasks += [await submit(writer, Addition(key, b"x" * 10)) for key in "fgh"]
        index.may_run.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert [len(keys) for keys, _ in index.runs] == [1, 3, 3, 1, 1]


def test_error_of_a_run_reaches_all_its_callers_and_the_next_run_succeeds(index, writer):
    async def main():
        first = await hold(index, writer)
        tasks = [await submit(writer, Addition(key, b"x")) for key in "ab"]
        index.error = IndexLockedError("It is locked.")
        index.may_run.set()
        failures = await asyncio.gather(first, *tasks, return_exceptions=True)
        index.error = None
        return failures, await writer.add([Addition("a", b"x")])

    failures, results = asyncio.run(main())
    assert [type(failure) for failure in failures] == [IndexLockedError] * 3
    assert outcomes(results) == ["added"]


def test_cancelled_write_that_waits_is_not_made(index, writer):
    async def main():
        first = await hold(index, writer)
        waiting = await submit(writer, Addition("a", b"x"))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        index.may_run.set()
        await first
        await writer.run(lambda index: None)

    asyncio.run(main())
    assert index.items == {"first": b"1"}


def test_write_that_waits_too_long_is_refused_and_not_made(index, writer, monkeypatch):
    monkeypatch.setattr(writes, "WRITE_WAIT_S", 0.01)

    async def main():
        first = await hold(index, writer)
        with pytest.raises(BusyError, match="was not made"):
            await writer.add([Addition("a", b"x")])
        index.may_run.set()
        await first

    asyncio.run(main())
    assert index.items == {"first": b"1"}


def test_full_queue_refuses_writes(index, writer, monkeypatch):
    monkeypatch.setattr(writes, "MAX_WAITING_WRITES", 2)

    async def main():
        tasks = [await hold(index, writer)]
        tasks += [await submit(writer, Addition(key, b"x")) for key in "ab"]
        with pytest.raises(BusyError, match="2 writes are already waiting"):
            await writer.add([Addition("c", b"x")])
        index.may_run.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_stopped_writer_answers_all_callers_at_once_and_refuses_new_writes(index, writer):
    async def main():
        first = await hold(index, writer)
        waiting = await submit(writer, Addition("a", b"x"))
        writer.stop()
        failures = await asyncio.gather(first, waiting, return_exceptions=True)
        assert [type(failure) for failure in failures] == [BusyError] * 2
        with pytest.raises(BusyError, match="shutting down"):
            await writer.add([Addition("b", b"x")])

    asyncio.run(main())
    index.may_run.set()
    writer.close()
    assert (index.items, index.closed) == ({}, 1)


def test_idle_writer_closes_its_index_and_opens_it_for_the_next_write():
    opened = []

    def open_index(name):
        opened.append(StubIndex())
        return opened[-1]

    async def main():
        writer = IndexWriter("a", open_index, idle_timeout_s=0.01)
        await writer.add([Addition("a", b"x")])
        while not opened[0].closed:
            await asyncio.sleep(0.005)
        await writer.add([Addition("b", b"x")])
        writer.close()

    asyncio.run(main())
    assert [(index.items, index.closed) for index in opened] == [({"a": b"x"}, 1), ({"b": b"x"}, 1)]


def test_memory_budget_refuses_more_than_its_bytes_and_gives_shares_back():
    budget = MemoryBudget(10)
    with budget.open_share() as take:
        take(6)
        with pytest.raises(BusyError, match="waiting to be written"):
            take(5)
        take(4)
        with pytest.raises(BusyError), budget.open_share() as other:
            other(1)
    budget.take(10)
