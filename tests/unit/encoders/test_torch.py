"""An image tower in torch on a device whose memory does not suffice for everything."""

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
    """Means of rows of pixels; out of memory for more than so many pictures."""

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
        """How many of its tensors are held by anyone."""
        return sum(ref() is not None for ref in self.tensors)


@pytest.fixture
def batch():
    noise = np.random.default_rng(0)
    return list(noise.integers(0, 256, (13, DIM, 4, 3), dtype=np.uint8))


@pytest.fixture
def emptied(monkeypatch):
    """How many tensors were alive each time when torch was asked to hand memory back."""
    counts = []

    def watch(tower):
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: counts.append(tower.living))
        return counts

    return watch


@pytest.mark.parametrize("holds", [1, 2, 3, 12])
def test_a_batch_that_does_not_fit_gives_the_same_in_parts(batch, emptied, holds):
    whole = TorchTower(Tower(13), "cpu").run(batch)
    tower = Tower(holds)
    counts = emptied(tower)
    np.testing.assert_array_equal(TorchTower(tower, "cpu").run(batch), whole)
    assert whole.shape == (13, DIM)
    failed = [size for size in tower.tried if size > holds]
    assert len(counts) == len(failed) > 0
    assert sum(size for size in tower.tried if size <= holds) == 13


def test_the_frames_of_what_failed_are_gone_when_the_cache_is_emptied(batch, emptied):
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


def test_a_tower_goes_on_after_it_was_short(batch, emptied):
    tower = Tower(0)
    emptied(tower)
    running = TorchTower(tower, "cpu")
    with pytest.raises(DeviceMemoryError, match="one picture does not fit"):
        running.run(batch[:1])
    tower.holds = 13
    assert running.run(batch).shape == (13, DIM)
    assert tower.tried[-1] == 13


def test_what_is_released_leaves_the_device(emptied):
    class Moved(Tower):
        def to(self, device):
            self.tried.append(device)
            return self

    tower = Moved(1)
    counts = emptied(tower)
    # A whole encoder with a tower on a GPU needs a GPU.
    encoder = TwoTowerEncoder.__new__(TwoTowerEncoder)
    encoder._gpu_tower = TorchTower(tower, "cpu")
    encoder.release(InputKind.TEXT)
    assert tower.tried == ["cpu"]
    encoder.release(InputKind.IMAGE)
    encoder.release(InputKind.IMAGE)
    assert tower.tried == ["cpu", "cpu"]
    assert len(counts) == 1


def test_a_model_that_does_not_fit_leaves_nothing_behind(emptied):
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
