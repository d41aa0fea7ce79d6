"""A batch is halved if the memory of a device is too small for it."""

import gc
import weakref

import pytest

from mmsearch.core import gpu_memory
from mmsearch.core.errors import DeviceMemoryError
from mmsearch.core.gpu_memory import is_out_of_memory, on_low_memory, run_halving_on_oom

OOM_MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Device:
    """Fake device with room for ``holds`` items; ``after`` maps release counts to new sizes."""

    def __init__(self, holds, after=None):
        self.holds = holds
        self.after = after or {}
        self.attempted_sizes = []
        self.released = 0

    def run(self, batch):
        self.attempted_sizes.append(batch.stop - batch.start)
        if self.attempted_sizes[-1] > self.holds:
            raise RuntimeError(OOM_MESSAGE)
        return list(range(batch.start, batch.stop))

    def release(self):
        self.released += 1
        self.holds = self.after.get(self.released, self.holds)


@pytest.fixture
def register_device(monkeypatch):
    monkeypatch.setattr(gpu_memory, "_release_callbacks", [])

    def register(device):
        on_low_memory(device.release)
        return device

    return register


def run_halved(device, count):
    batches = run_halving_on_oom(device.run, count, device="cuda", item_name="one picture")
    return [item for batch in batches for item in batch]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 32])
@pytest.mark.parametrize("holds", [1, 2, 3, 32])
def test_run_halving_on_oom_processes_each_item_once_in_order(register_device, count, holds):
    device = register_device(Device(holds))
    assert run_halved(device, count) == list(range(count))
    assert device.released == sum(size > holds for size in device.attempted_sizes)


def test_run_halving_on_oom_batch_that_fits_is_not_halved(register_device):
    device = register_device(Device(32))
    run_halved(device, 32)
    assert device.attempted_sizes == [32]


def test_run_halving_on_oom_failed_batch_size_is_not_retried(register_device):
    device = register_device(Device(10))
    run_halved(device, 32)
    assert device.attempted_sizes == [32, 16, 8, 8, 8, 8]


def test_run_halving_on_oom_single_item_is_retried_after_memory_release(register_device):
    device = register_device(Device(0, after={1: 1}))
    assert run_halved(device, 1) == [0]
    assert device.attempted_sizes == [1, 1]


def test_run_halving_on_oom_item_too_large_raises_device_memory_error(register_device):
    device = register_device(Device(0))
    with pytest.raises(DeviceMemoryError) as error:
        run_halved(device, 4)
    assert device.attempted_sizes == [4, 2, 1, 1]
    assert device.released == 4
    assert error.value.message == "The memory of device 'cuda' is full: one picture does not fit."
    assert "device='cpu'" in error.value.hint
    assert "--device cpu" in error.value.hint.command
    assert error.value.http_status == 503


class Tensor:
    """Stand-in for memory on a device."""


def test_run_halving_on_oom_failed_batch_is_freed_before_memory_release(register_device):
    tensors, alive_tensors = [], []

    class AlwaysFull(Device):
        def run(self, batch):
            tensor = Tensor()
            tensors.append(weakref.ref(tensor))
            raise RuntimeError(OOM_MESSAGE)

        def release(self):
            alive_tensors.append([ref() for ref in tensors if ref() is not None])

    device = register_device(AlwaysFull(0))
    gc.disable()
    try:
        with pytest.raises(DeviceMemoryError) as error:
            run_halved(device, 4)
        assert alive_tensors == [[]] * 4
        assert (error.value.__context__, error.value.__cause__) == (None, None)
    finally:
        gc.enable()


def test_run_halving_on_oom_other_error_is_raised_without_retry(register_device):
    device = register_device(Device(1))

    def fail(batch):
        device.attempted_sizes.append(batch)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        run_halving_on_oom(fail, 4, device="cuda", item_name="one picture")
    assert (len(device.attempted_sizes), device.released) == (1, 0)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (OOM_MESSAGE, True),
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
def test_is_out_of_memory_is_true_only_for_memory_error_messages(sentence, expected):
    assert is_out_of_memory(RuntimeError(sentence)) == expected
