"""One thread, many callers."""

import asyncio
import threading

import pytest

from mmsearch.core.errors import BusyError, InvalidQueryError, UnknownIndexError
from mmsearch.core.queries import Query, Term
from mmsearch.core.requests import SearchRequest
from mmsearch.server.desk import Desk, Desks


class ToyIndex:
    name = "toy"

    def __init__(self):
        self.threads = set()
        self.warmed = []
        self.closed = False
        self.rests = 0
        self.gate = threading.Event()
        self.gate.set()

    def warm(self, requests):
        self.threads.add(threading.get_ident())
        self.warmed.append(len(requests))
        if any(text_of(request) == "bad" for request in requests):
            raise InvalidQueryError("bad")

    def query(self, request):
        self.threads.add(threading.get_ident())
        assert self.gate.wait(10)
        if text_of(request) == "bad":
            raise InvalidQueryError("bad")
        return f"found {text_of(request)}"

    def rest(self):
        self.rests += 1

    def close(self):
        self.threads.add(threading.get_ident())
        self.closed = True


def text_of(request):
    return request.query.terms[0].text


def ask_for(text):
    return SearchRequest(Query((Term(text),)))


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


def test_everything_happens_in_one_thread_and_each_gets_its_own_answer():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        return await asyncio.gather(*(desk.search(ask_for(str(n))) for n in range(200)))

    answers = asyncio.run(story())
    desk.close()
    assert answers == [f"found {n}" for n in range(200)]
    assert len(index.threads) == 1
    assert threading.get_ident() not in index.threads
    assert index.closed


def test_what_waits_together_is_encoded_together():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        index.gate.clear()
        first = asyncio.create_task(desk.search(ask_for("first")))
        await until(lambda: index.threads)
        others = [asyncio.create_task(desk.search(ask_for(str(n)))) for n in range(10)]
        await until(lambda: desk.waiting == 10)
        index.gate.set()
        await asyncio.gather(first, *others)

    asyncio.run(story())
    desk.close()
    assert index.warmed == [10]


def test_one_bad_query_spoils_no_other():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        index.gate.clear()
        first = asyncio.create_task(desk.search(ask_for("first")))
        await until(lambda: index.threads)
        tasks = [asyncio.create_task(desk.search(ask_for(text))) for text in ("a", "bad", "b")]
        await until(lambda: desk.waiting == 3)
        index.gate.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    a, bad, b = asyncio.run(story())
    desk.close()
    assert (a, b) == ("found a", "found b")
    assert isinstance(bad, InvalidQueryError)


def test_too_many_are_refused_at_once():
    index = ToyIndex()
    desk = Desk(index, waiting=2)

    async def story():
        index.gate.clear()
        tasks = [asyncio.create_task(desk.search(ask_for("first")))]
        await until(lambda: index.threads)
        tasks += [asyncio.create_task(desk.search(ask_for(text))) for text in "ab"]
        await until(lambda: desk.waiting == 2)
        with pytest.raises(BusyError, match="2 queries are waiting already"):
            await desk.search(ask_for("c"))
        index.gate.set()
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(story())) == 3
    desk.close()


def test_who_has_left_is_not_answered():
    index = ToyIndex()
    desk = Desk(index)
    done = []

    async def story():
        index.gate.clear()
        first = asyncio.create_task(desk.search(ask_for("first")))
        await until(lambda: index.threads)
        left = asyncio.create_task(desk.ask(lambda index: done.append("left")))
        await until(lambda: desk.waiting == 1)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        index.gate.set()
        await first

    asyncio.run(story())
    desk.close()
    assert done == []


def test_what_waits_is_answered_before_the_end_and_nothing_after():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        index.gate.clear()
        tasks = [asyncio.create_task(desk.search(ask_for(text))) for text in "abc"]
        await until(lambda: index.threads)
        closing = threading.Thread(target=desk.close)
        closing.start()
        index.gate.set()
        answers = await asyncio.gather(*tasks)
        closing.join()
        return answers

    assert asyncio.run(story()) == ["found a", "found b", "found c"]
    with pytest.raises(BusyError, match="shutting down"):
        desk.wait_for(lambda index: 1)


def test_a_desk_survives_whatever_is_asked_of_it():
    desk = Desk(ToyIndex())
    with pytest.raises(SystemExit):
        desk.wait_for(lambda index: (_ for _ in ()).throw(SystemExit(3)))
    assert desk.wait_for(lambda index: index.name) == "toy"
    desk.close()


def test_an_idle_desk_rests_once_until_somebody_asks():
    index = ToyIndex()
    desk = Desk(index, idle_s=0.05)

    async def story():
        await until(lambda: index.rests == 1)
        await asyncio.sleep(0.3)
        assert index.rests == 1
        assert await desk.search(ask_for("a")) == "found a"
        await until(lambda: index.rests == 2)

    asyncio.run(story())
    desk.close()
    assert index.closed


def test_only_what_is_served_is_opened_and_only_once():
    opened = []

    def open_index(name):
        opened.append(name)
        index = ToyIndex()
        index.name = name
        return index

    desks = Desks(open_index, lambda: ["a"])
    assert desks.desk("a") is desks.desk("a")
    with pytest.raises(UnknownIndexError, match="no index 'b' here"):
        desks.desk("b")
    desks.close()
    assert opened == ["a"]
    with pytest.raises(BusyError):
        desks.desk("a").wait_for(lambda index: 1)
