"""Work is halved where the memory of a device does not suffice."""

import gc
import weakref

import pytest

from mmsearch.core import gpu_memory
from mmsearch.core.errors import DeviceMemoryError
from mmsearch.core.gpu_memory import in_halves, is_out_of_memory, when_short

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Device:
    """Holds so many items, or, when it was short so often, more."""

    def __init__(self, holds, after=None):
        self.holds = holds
        self.after = after or {}
        self.tried = []
        self.released = 0

    def run(self, part):
        self.tried.append(part.stop - part.start)
        if self.tried[-1] > self.holds:
            raise RuntimeError(FULL)
        return list(range(part.start, part.stop))

    def hand_back(self):
        self.released += 1
        self.holds = self.after.get(self.released, self.holds)


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(gpu_memory, "_hand_back", [])

    def watch(device):
        when_short(device.hand_back)
        return device

    return watch


def halved(device, count):
    parts = in_halves(device.run, count, device="cuda", what="one picture")
    return [item for part in parts for item in part]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 32])
@pytest.mark.parametrize("holds", [1, 2, 3, 32])
def test_every_item_is_worked_on_once_and_in_order(watched, count, holds):
    device = watched(Device(holds))
    assert halved(device, count) == list(range(count))
    assert device.released == sum(size > holds for size in device.tried)


def test_what_fits_is_not_halved(watched):
    device = watched(Device(32))
    halved(device, 32)
    assert device.tried == [32]


def test_what_has_failed_once_is_not_tried_at_its_size_again(watched):
    device = watched(Device(10))
    halved(device, 32)
    assert device.tried == [32, 16, 8, 8, 8, 8]


def test_an_item_alone_is_tried_again_when_memory_was_handed_back(watched):
    device = watched(Device(0, after={1: 1}))
    assert halved(device, 1) == [0]
    assert device.tried == [1, 1]


def test_an_item_that_does_not_fit_is_said_in_one_sentence(watched):
    device = watched(Device(0))
    with pytest.raises(DeviceMemoryError) as error:
        halved(device, 4)
    assert device.tried == [4, 2, 1, 1]
    assert device.released == 4
    assert error.value.message == "The memory of device 'cuda' is full: one picture does not fit."
    assert "--device cpu" in error.value.hint
    assert error.value.http_status == 503


class Tensor:
    """Memory of a device."""


def test_nothing_holds_what_failed_when_memory_is_handed_back(watched):
    tensors, held = [], []

    class Hungry(Device):
        def run(self, part):
            tensor = Tensor()
            tensors.append(weakref.ref(tensor))
            raise RuntimeError(FULL)

        def hand_back(self):
            held.append([ref() for ref in tensors if ref() is not None])

    device = watched(Hungry(0))
    gc.disable()
    try:
        with pytest.raises(DeviceMemoryError) as error:
            halved(device, 4)
        assert held == [[]] * 4
        assert (error.value.__context__, error.value.__cause__) == (None, None)
    finally:
        gc.enable()


def test_other_errors_are_others(watched):
    device = watched(Device(1))

    def wrong(part):
        device.tried.append(part)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        in_halves(wrong, 4, device="cuda", what="one picture")
    assert (len(device.tried), device.released) == (1, 0)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (FULL, True),
        ("MPS backend out of memory (MPS allocated: 17.49 GB)", True),
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        (
            "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory: "
            "StandardGpuResources: alloc fail type FlatData dev 0 space Device stream 0x1 size 9 "
            "bytes (cudaMalloc error out of memory [2])",
            True,
        ),
        ("mat1 and mat2 shapes cannot be multiplied", False),
        ("", False),
    ],
)
def test_what_says_that_memory_does_not_suffice(sentence, expected):
    assert is_out_of_memory(RuntimeError(sentence)) == expected
