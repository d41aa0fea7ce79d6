"""A torch image tower on a device with too little memory."""

import gc
import weakref

import numpy as np
import pytest
import torch

from mmsearch.core.errors import DeviceMemoryError
from mmsearch.core.types import InputKind
from mmsearch.encoders._torch import TorchTower
from mmsearch.encoders._two_tower import TwoTowerEncoder

DIM = 6


class Tower(torch.nn.Module):
    """Returns means of rows of pixels; out of memory for more than ``holds`` pictures."""

    def __init__(self, holds):
        super().__init__()
        self.holds = holds
        self.tried = []
        self.tensors = []

    def forward(self, pixels):
        self.tried.append(len(pixels))
        activations = pixels.float().mean(dim=(2, 3)) + 1
        self.tensors.append(weakref.ref(activations))
        if len(pixels) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return activations

    @property
    def living(self):
        """Number of its tensors that are still referenced."""
        return sum(ref() is not None for ref in self.tensors)


@pytest.fixture
def batch():
    noise = np.random.default_rng(0)
    return list(noise.integers(0, 256, (13, DIM, 4, 3), dtype=np.uint8))


@pytest.fixture
def emptied(monkeypatch):
    """Number of living tensors at each call of ``torch.cuda.empty_cache``."""
    counts = []

    def watch(tower):
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: counts.append(tower.living))
        return counts

    return watch


@pytest.mark.parametrize("holds", [1, 2, 3, 12])
def test_torch_tower_out_of_memory_splits_batch_with_same_vectors(batch, emptied, holds):
    whole = TorchTower(Tower(13), "cpu").run(batch)
    tower = Tower(holds)
    counts = emptied(tower)
    np.testing.assert_array_equal(TorchTower(tower, "cpu").run(batch), whole)
    assert whole.shape == (13, DIM)
    failed = [size for size in tower.tried if size > holds]
    assert len(counts) == len(failed) > 0
    assert sum(size for size in tower.tried if size <= holds) == 13


def test_torch_tower_out_of_memory_frees_tensors_before_emptying_cache(batch, emptied):
    tower = Tower(0)
    counts = emptied(tower)
    gc.disable()
    try:
        with pytest.raises(DeviceMemoryError) as error:
            TorchTower(tower, "cpu").run(batch)
        assert counts == [0] * len(tower.tried)
        assert tower.tried == [13, 6, 3, 1, 1]
        assert error.value.__context__ is None
    finally:
        gc.enable()


def test_torch_tower_recovers_after_device_memory_error(batch, emptied):
    tower = Tower(0)
    emptied(tower)
    running = TorchTower(tower, "cpu")
    with pytest.raises(DeviceMemoryError, match="one picture does not fit"):
        running.run(batch[:1])
    tower.holds = 13
    assert running.run(batch).shape == (13, DIM)
    assert tower.tried[-1] == 13


def test_encoder_release_image_moves_gpu_tower_to_cpu_once(emptied):
    class Moved(Tower):
        def to(self, device):
            self.tried.append(device)
            return self

    tower = Moved(1)
    counts = emptied(tower)
    # Building a whole encoder with a GPU tower would need a GPU.
    encoder = TwoTowerEncoder.__new__(TwoTowerEncoder)
    encoder._gpu_tower = TorchTower(tower, "cpu")
    encoder.release(InputKind.TEXT)
    assert tower.tried == ["cpu"]
    encoder.release(InputKind.IMAGE)
    encoder.release(InputKind.IMAGE)
    assert tower.tried == ["cpu", "cpu"]
    assert len(counts) == 1


def test_torch_tower_model_too_large_raises_error_and_moves_to_cpu(emptied):
    class Large(Tower):
        def to(self, device):
            self.tried.append(device)
            if device == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return self

    tower = Large(1)
    counts = emptied(tower)
    with pytest.raises(DeviceMemoryError, match="'cuda' is full: the model does not fit"):
        TorchTower(tower, "cuda")
    assert tower.tried == ["cuda", "cuda", "cpu"]
    assert len(counts) == 3
