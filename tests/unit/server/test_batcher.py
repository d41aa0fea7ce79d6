"""One thread owns the index, another encodes ahead; many callers."""

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from mmsearch.core.deadlines import deadline, seconds_left
from mmsearch.core.errors import BusyError, DeadlineError, EncoderMismatchError, InvalidQueryError
from mmsearch.core.queries import Query, Term
from mmsearch.core.requests import SearchRequest
from mmsearch.server.batcher import TOGETHER, Desk


class ToyIndex:
    """Notes who does what, and that nobody does what would disturb another."""

    name = "toy"

    def __init__(self):
        self.encoders, self.owners = set(), set()
        self.encoded, self.answered, self.alone = [], [], []
        self.closed = False
        self.rests = 0
        self.gate = threading.Event()
        self.gate.set()
        self.at_work = Counter()
        self.faults = []
        self.holds = True
        self.stranger = False

    def doing(self, what, forbidden):
        index = self

        class Doing:
            def __enter__(self):
                index.faults += [(what, other) for other in forbidden if index.at_work[other]]
                index.at_work[what] += 1

            def __exit__(self, *error):
                index.at_work[what] -= 1

        return Doing()

    def encode(self, requests):
        self.encoders.add(threading.get_ident())
        with self.doing("encode", ["encode", "alone"]):
            texts = [text_of(request) for request in requests]
            if "unexpected" in texts:
                raise ValueError("unexpected")
            self.encoded.append(len(texts))
            return [bad if text == "bad" else text for text in texts] if self.holds else None

    def answer(self, asked):
        self.owners.add(threading.get_ident())
        with self.doing("answer", ["answer", "alone"]):
            self.answered.append(len(asked))
            assert self.gate.wait(10)
            if self.stranger:
                raise EncoderMismatchError("another")
            return [one if one is bad else f"found {one}" for one in asked]

    def query_each(self, requests):
        self.owners.add(threading.get_ident())
        with self.doing("alone", ["encode", "answer", "alone"]):
            self.alone.append(len(requests))
            if text_of(requests[0]) == "unexpected":
                raise ValueError("unexpected")
            return [f"alone {text_of(request)}" for request in requests]

    def look(self):
        self.owners.add(threading.get_ident())
        with self.doing("alone", ["encode", "answer", "alone"]):
            return "looked"

    def rest(self):
        self.owners.add(threading.get_ident())
        self.rests += 1

    def close(self):
        self.owners.add(threading.get_ident())
        self.closed = True


bad = InvalidQueryError("bad")


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


async def while_answering(index, desk, texts):
    """Searches that come while the owner answers another."""
    index.gate.clear()
    first = asyncio.create_task(desk.search(ask_for("first")))
    await until(lambda: index.answered)
    tasks = [asyncio.create_task(desk.search(ask_for(text))) for text in texts]
    await asyncio.sleep(0)
    return first, tasks


def test_one_thread_owns_the_index_another_encodes_and_each_gets_its_own_answer():
    index = ToyIndex()
    desk = Desk(index, waiting=1000)

    async def story():
        searches = [desk.search(ask_for(str(n))) for n in range(500)]
        looks = [desk.ask(lambda index: index.look()) for _ in range(50)]
        return await asyncio.gather(*searches), await asyncio.gather(*looks)

    answers, looks = asyncio.run(story())
    desk.close()
    assert answers == [f"found {n}" for n in range(500)]
    assert looks == ["looked"] * 50
    assert len(index.owners) == 1
    assert len(index.encoders | index.owners) <= 2
    assert threading.get_ident() not in index.encoders | index.owners
    assert index.faults == []
    assert index.closed


def test_who_comes_alone_is_encoded_and_answered_by_the_owner():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        return [await desk.search(ask_for(str(n))) for n in range(20)]

    assert asyncio.run(story()) == [f"found {n}" for n in range(20)]
    desk.close()
    assert index.encoders <= index.owners


def test_what_comes_meanwhile_is_encoded_meanwhile_and_answered_together():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        first, tasks = await while_answering(index, desk, map(str, range(10)))
        await until(lambda: sum(index.encoded) == 11)
        assert index.answered == [1]
        index.gate.set()
        await asyncio.gather(first, *tasks)

    asyncio.run(story())
    desk.close()
    assert index.answered == [1, 10]
    assert len(index.encoders) == 2


def test_no_more_are_encoded_ahead_than_can_soon_be_answered():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        first, tasks = await while_answering(index, desk, map(str, range(200)))
        await until(lambda: sum(index.encoded) > TOGETHER)
        await asyncio.sleep(0.05)
        ahead = sum(index.encoded) - 1
        index.gate.set()
        await asyncio.gather(first, *tasks)
        return ahead

    ahead = asyncio.run(story())
    desk.close()
    assert TOGETHER <= ahead < 2 * TOGETHER
    assert max(index.encoded) <= TOGETHER
    assert max(index.answered) <= TOGETHER
    assert sum(index.answered) == 201


def test_nobody_waits_for_the_picture_of_another_to_be_encoded():
    index = ToyIndex()
    desk = Desk(index)
    texts = ["a", "b", "picture", "picture", "c"]

    async def story():
        first, _ = await while_answering(index, desk, [])
        requests = [
            SearchRequest(Query((Term(image=Path("a.jpg")) if text == "picture" else Term(text),)))
            for text in texts
        ]
        # With somebody else at the desk nothing is encoded ahead.
        look = asyncio.create_task(desk.ask(lambda index: index.look()))
        await until(lambda: desk.waiting == 1)
        tasks = [asyncio.create_task(desk.search(request)) for request in requests]
        await until(lambda: desk.waiting == 1 + len(texts))
        index.gate.set()
        await asyncio.gather(first, look, *tasks)

    asyncio.run(story())
    desk.close()
    assert index.encoded == [1, 2, 1, 1, 1]


def test_one_bad_query_spoils_no_other():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        first, tasks = await while_answering(index, desk, ["a", "bad", "b"])
        index.gate.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert asyncio.run(story()) == ["found a", bad, "found b"]
    desk.close()


def test_an_unexpected_error_meets_only_who_caused_it():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        first, tasks = await while_answering(index, desk, ["a", "unexpected", "b"])
        index.gate.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    a, unexpected, b = asyncio.run(story())
    assert (a, b) == ("alone a", "alone b")
    assert isinstance(unexpected, ValueError)
    assert desk.wait_for(lambda index: index.look()) == "looked"
    desk.close()
    assert index.faults == []


@pytest.mark.parametrize("change", ["stranger", "empty"])
def test_an_index_that_has_become_another_is_asked_anew_by_its_owner_alone(change):
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        first, tasks = await while_answering(index, desk, map(str, range(40)))
        index.stranger, index.holds = change == "stranger", change != "empty"
        index.gate.set()
        return await asyncio.gather(first, *tasks)

    answers = asyncio.run(story())
    desk.close()
    assert [answer.split()[1] for answer in answers] == ["first", *map(str, range(40))]
    assert {answer.split()[0] for answer in answers[20:]} == {"alone"}
    assert index.faults == []


def test_too_many_are_refused_at_once():
    index = ToyIndex()
    desk = Desk(index, waiting=2)

    async def story():
        first, _ = await while_answering(index, desk, [])
        looks = [asyncio.create_task(desk.ask(lambda index: index.look())) for _ in range(2)]
        await until(lambda: desk.waiting == 2)
        for refused in (desk.ask(lambda index: index.look()), desk.search(ask_for("a"))):
            with pytest.raises(BusyError, match="2 queries are waiting already"):
                await refused
        index.gate.set()
        return await asyncio.gather(first, *looks)

    assert asyncio.run(story()) == ["found first", "looked", "looked"]
    desk.close()


def test_who_has_left_is_not_answered():
    index = ToyIndex()
    desk = Desk(index)
    done = []

    async def story():
        first, _ = await while_answering(index, desk, [])
        left = asyncio.create_task(desk.ask(lambda index: done.append("left")))
        await until(lambda: desk.waiting == 1)
        # With somebody else at the desk nothing is encoded ahead.
        search = asyncio.create_task(desk.search(ask_for("left")))
        await until(lambda: desk.waiting == 2)
        left.cancel()
        search.cancel()
        await asyncio.gather(left, search, return_exceptions=True)
        index.gate.set()
        await first

    asyncio.run(story())
    desk.close()
    assert done == []
    assert sum(index.encoded) == 1


def test_what_waits_is_answered_before_the_end_and_nothing_after():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        first, tasks = await while_answering(index, desk, "abc")
        closing = threading.Thread(target=desk.close)
        closing.start()
        index.gate.set()
        answers = await asyncio.gather(first, *tasks)
        closing.join()
        return answers

    assert asyncio.run(story()) == ["found first", "found a", "found b", "found c"]
    assert index.closed
    with pytest.raises(BusyError, match="shutting down"):
        desk.wait_for(lambda index: 1)


def test_a_caller_whose_loop_has_ended_stops_no_other():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        await while_answering(index, desk, ["a"])

    loop = asyncio.new_event_loop()
    loop.run_until_complete(story())
    loop.close()
    index.gate.set()
    assert desk.wait_for(lambda index: index.look()) == "looked"
    desk.close()


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


def test_a_search_that_was_given_up_is_not_encoded():
    index = ToyIndex()
    desk = Desk(index)

    async def story():
        first, tasks = await while_answering(index, desk, ["encoded"])
        await until(lambda: len(index.encoded) == 2)
        given_up = asyncio.create_task(desk.search(ask_for("given up")))
        index.gate.set()
        given_up.cancel()
        await asyncio.gather(first, *tasks)
        await asyncio.wait([given_up])
        assert given_up.cancelled()
        return await desk.search(ask_for("last"))

    assert asyncio.run(story()) == "found last"
    desk.close()


def test_a_call_is_not_begun_after_its_deadline_and_knows_it_before():
    index = ToyIndex()
    desk = Desk(index)
    begun = []

    def slow(_):
        begun.append(seconds_left())
        time.sleep(0.3)

    with deadline(time.monotonic() + 0.1), pytest.raises(DeadlineError):
        desk.wait_for(slow)
    with deadline(time.monotonic() + 0.1), pytest.raises(DeadlineError):
        desk.wait_for(slow)
    assert desk.wait_for(lambda index: index.look()) == "looked"
    desk.close()
    assert len(begun) == 1
    assert 0 < begun[0] <= 0.1


def test_a_timeout_of_the_work_is_its_own():
    desk = Desk(ToyIndex())

    def late(_):
        raise TimeoutError("its own")

    with deadline(time.monotonic() + 5), pytest.raises(TimeoutError, match="its own"):
        desk.wait_for(late)
    desk.close()


def test_searches_that_are_answered_together_have_the_first_deadline():
    index = ToyIndex()
    left = []
    index.answer = lambda asked: left.append(seconds_left()) or asked
    desk = Desk(index)

    async def story():
        with deadline(time.monotonic() + 5):
            return await desk.search(ask_for("one"))

    assert asyncio.run(story()) == "one"
    desk.close()
    assert 0 < left[0] <= 5
