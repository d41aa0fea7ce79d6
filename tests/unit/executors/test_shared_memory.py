"""Arrays through memory that has no name."""

import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from mmsearch.executors._shared_memory import (
    SLOT_BYTES,
    ArrayRef,
    SharedMemorySlots,
    WorkerMemorySlots,
)

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="memory without a name is Linux's"
)


@pytest.fixture
def slots():
    slots = SharedMemorySlots.create(3)
    yield slots
    slots.close()


@pytest.fixture
def worker(slots):
    return WorkerMemorySlots.open(slots.path)


def random(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(
    "array",
    [
        random(224, 224, 3),
        random(5, 7, dtype=np.float32),
        random(8, 8, 3)[::2, ::-1],
        random(0, 3),
        np.array(2.0),
        random(3, dtype=">i4"),
    ],
)
def test_an_array_comes_out_as_it_went_in(slots, worker, array):
    left = worker.store(("said", array), 1)
    assert isinstance(left[1], ArrayRef)
    said, found = slots.load(left)
    assert said == "said"
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(found, array)


def test_a_copy_is_not_touched_by_what_comes_next(slots, worker):
    first = slots.load(worker.store(random(9, 9), 0))
    kept = first.copy()
    worker.store(np.zeros((9, 9), np.uint8), 0)
    np.testing.assert_array_equal(first, kept)


def test_several_arrays_lie_side_by_side_and_in_no_other_slot(slots, worker):
    arrays = tuple(random(5, n, dtype=dtype) for n, dtype in ((3, "u1"), (7, "f8"), (1, "u2")))
    full = np.full(SLOT_BYTES, 7, np.uint8)
    neighbours = [worker.store(full, slot) for slot in (0, 2)]
    found = slots.load(worker.store(arrays, 1))
    for one, other in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all((slots.load(left) == 7).all() for left in neighbours)


def test_what_does_not_fit_or_is_no_array_stays_as_it_is(worker):
    large, objects = np.zeros(SLOT_BYTES + 1, np.uint8), np.array([None])
    for result in (large, objects, "text", None, ("text", large), [random(2)]):
        assert worker.store(result, 0) is result or worker.store(result, 0) == result


def test_a_tuple_of_a_kind_of_its_own_stays_of_that_kind(slots, worker):
    class Pair(NamedTuple):
        said: str
        pixels: object

    pair = Pair("said", random(2, 2))
    assert slots.load(worker.store(pair, 0)) is pair


def test_slots_are_lent_until_there_are_none(slots):
    lent = {slots.acquire() for _ in range(3)}
    assert lent == {0, 1, 2}
    assert slots.acquire() is None
    slots.release(1)
    assert slots.acquire() == 1


def test_a_worker_that_finds_none_does_without():
    assert WorkerMemorySlots.open(None) is None
    assert WorkerMemorySlots.open("/proc/self/fd/99999") is None


def test_nothing_is_left_of_a_parent_that_was_killed():
    script = (
        "import os, signal\n"
        "from mmsearch.executors._shared_memory import SharedMemorySlots, WorkerMemorySlots\n"
        "slots = SharedMemorySlots.create(2)\n"
        "assert WorkerMemorySlots.open(slots.path) is not None\n"
        "print(slots.path, os.readlink(slots.path), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -9
    path, target = done.stdout.decode().split()[:2]
    assert target.startswith("/memfd:")
    assert not os.path.exists(path)
    assert not os.path.exists(target)
