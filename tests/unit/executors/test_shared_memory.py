"""Transfer of arrays through anonymous shared memory."""

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
def test_shared_memory_array_round_trip_returns_equal_array(slots, worker, array):
    left = worker.store(("said", array), 1)
    assert isinstance(left[1], ArrayRef)
    said, found = slots.load(left)
    assert said == "said"
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(found, array)


def test_shared_memory_loaded_array_is_unchanged_when_slot_is_reused(slots, worker):
    first = slots.load(worker.store(random(9, 9), 0))
    kept = first.copy()
    worker.store(np.zeros((9, 9), np.uint8), 0)
    np.testing.assert_array_equal(first, kept)


def test_shared_memory_several_arrays_share_slot_without_touching_neighbours(slots, worker):
    arrays = tuple(random(5, n, dtype=dtype) for n, dtype in ((3, "u1"), (7, "f8"), (1, "u2")))
    full = np.full(SLOT_BYTES, 7, np.uint8)
    neighbours = [worker.store(full, slot) for slot in (0, 2)]
    found = slots.load(worker.store(arrays, 1))
    for one, other in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all((slots.load(left) == 7).all() for left in neighbours)


def test_worker_store_large_or_non_array_result_is_returned_unchanged(worker):
    large, objects = np.zeros(SLOT_BYTES + 1, np.uint8), np.array([None])
    for result in (large, objects, "text", None, ("text", large), [random(2)]):
        assert worker.store(result, 0) is result or worker.store(result, 0) == result


def test_worker_store_named_tuple_is_returned_unchanged(slots, worker):
    class Pair(NamedTuple):
        said: str
        pixels: object

    pair = Pair("said", random(2, 2))
    assert slots.load(worker.store(pair, 0)) is pair


def test_shared_memory_acquire_returns_none_when_all_slots_are_in_use(slots):
    lent = {slots.acquire() for _ in range(3)}
    assert lent == {0, 1, 2}
    assert slots.acquire() is None
    slots.release(1)
    assert slots.acquire() == 1


def test_worker_memory_slots_open_missing_path_returns_none():
    assert WorkerMemorySlots.open(None) is None
    assert WorkerMemorySlots.open("/proc/self/fd/99999") is None


def test_shared_memory_of_killed_process_leaves_no_file():
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
