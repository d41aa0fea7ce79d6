"""A tower is quantized to int8 if its vectors hardly change, and else stays in float32."""

import logging
import time

import numpy as np
import pytest

from mmsearch.encoders._onnx.cache import CompiledTower, ModelCache, Precision

EDGE = 16

LARGE = 5
"""Scale of a column that hides the other columns of its call, but not those of other blocks."""


@pytest.fixture
def _int8_is_faster(monkeypatch):
    """Compile the same towers on every machine; int8 speed depends on processor and load."""
    from mmsearch.encoders._onnx import quantize

    monkeypatch.setattr(quantize, "is_faster", lambda tower, baseline, sample: True)


@pytest.fixture
def export(tmp_path, _int8_is_faster):
    from mmsearch.encoders._onnx.export import export_tower
    from mmsearch.encoders._onnx.verify import natural_images

    folder_cache = ModelCache(tmp_path)
    pictures = natural_images(EDGE, 8)

    def run(tower, single=True):
        samples = [[pictures[:count]] for count in (2, 1, 3)]
        each = [[picture[None]] for picture in pictures] if single else ()
        with folder_cache.lock():
            made = export_tower(folder_cache, "image", tower, samples, (0,), each)
        return made, CompiledTower(tmp_path / "image.onnx", made.precision), pictures

    return run


def layers(scale=None):
    """Return two linear layers; ``scale`` makes one activation far larger than the others."""
    import torch

    class Layers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first = torch.nn.Linear(EDGE * EDGE * 3, 1024)
            self.second = torch.nn.Linear(1024, 64)
            if scale is not None:
                # It does not affect the output, but sets the scale of all other activations.
                self.first.weight.data[0] = self.first.weight.data[0].abs() * scale
                self.second.weight.data[:, 0] = 0

        def forward(self, pictures):
            hidden = torch.relu(self.first(pictures.flatten(1).float() / 255))
            return torch.nn.functional.normalize(self.second(hidden), dim=-1)

    return Layers().eval()


def convolutions():
    import torch

    class Convolutions(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.filters = torch.nn.Conv2d(3, 64, EDGE)

        def forward(self, pictures):
            rows = self.filters(pictures.permute(0, 3, 1, 2).float() / 255).flatten(1)
            return torch.nn.functional.normalize(rows, dim=-1)

    return Convolutions().eval()


def test_export_matrix_products_uses_int8_with_near_equal_vectors(export):
    made, tower, pictures = export(layers())
    assert made.precision is Precision.INT8
    assert 0.995 <= made.cosine <= 1.0001
    exact, reference, _ = export(layers(), single=False)
    assert exact.precision is Precision.FLOAT32
    calls = [[picture[None]] for picture in pictures]
    together = np.concatenate(tower.run_many(calls))
    assert (together * reference.run([pictures])).sum(axis=1).min() >= 0.995
    np.testing.assert_array_equal(together, [tower.run(call)[0] for call in calls])


@pytest.mark.parametrize("single", [True, False])
def test_compiled_tower_without_prepacking_returns_same_vectors(export, tmp_path, single):
    made, tower, pictures = export(layers(), single)
    first = CompiledTower(
        tmp_path / "image.onnx", made.precision, optimised=made.optimised, prepacked=False
    )
    for picture in pictures:
        mine, theirs = first.run([picture[None]]), tower.run([picture[None]])
        if made.by_blocks:
            # Some processors compute products of unpacked blocks differently.
            assert (mine * theirs).sum() >= 0.995
        elif made.precision is Precision.INT8:
            np.testing.assert_array_equal(mine, theirs)
        else:
            np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.fixture
def blocks_are_fast(monkeypatch):
    from mmsearch.encoders._onnx import quantize

    monkeypatch.setattr(quantize, "is_faster", lambda *given: True)


def test_export_large_activation_uses_int8_by_blocks_with_near_equal_vectors(
    export, blocks_are_fast, tmp_path
):
    made, tower, pictures = export(layers(scale=LARGE))
    assert (made.precision, made.by_blocks) == (Precision.INT8, True)
    assert 0.995 <= made.cosine <= 1.0001
    _, reference, _ = export(layers(scale=LARGE), single=False)
    calls = [[picture[None]] for picture in pictures]
    together = np.concatenate(tower.run_many(calls))
    assert (together * reference.run([pictures])).sum(axis=1).min() >= 0.995
    np.testing.assert_array_equal(together, [tower.run(call)[0] for call in calls])


def test_export_slower_int8_blocks_stay_in_float32(export, monkeypatch):
    from mmsearch.encoders._onnx import quantize

    monkeypatch.setattr(quantize, "is_faster", lambda *given: False)
    made, _, _ = export(layers(scale=LARGE))
    assert made.precision is Precision.FLOAT32


def test_is_faster_compares_run_times_of_towers():
    from mmsearch.encoders._onnx.quantize import is_faster

    class Tower:
        def __init__(self, seconds):
            self.seconds = seconds

        def run(self, inputs):
            time.sleep(self.seconds)

    assert is_faster(Tower(0.001), Tower(0.03), [])
    assert not is_faster(Tower(0.03), Tower(0.001), [])


def test_export_quantization_leaves_root_logger_unchanged(export, blocks_are_fast):
    before = (logging.root.level, list(logging.root.handlers))
    export(layers(scale=LARGE))
    assert (logging.root.level, list(logging.root.handlers)) == before


@pytest.mark.parametrize("tower", [lambda: layers(scale=1e6), convolutions])
def test_export_tower_harmed_by_int8_stays_in_float32(export, blocks_are_fast, tower):
    made, compiled, pictures = export(tower())
    assert (made.precision, made.cosine) == (Precision.FLOAT32, 1.0)
    assert compiled.run([pictures]).shape == (8, 64)


def test_natural_images_have_spectrum_of_photographs():
    from mmsearch.encoders._onnx.verify import natural_images

    pictures = natural_images(64, 4).astype(float)
    grey = pictures.mean(axis=3)
    power = (np.abs(np.fft.rfft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2).mean(axis=0)
    assert power[1:4, 1:4].mean() > 20 * power[16:20, 16:20].mean()
    assert np.ptp(grey.mean(axis=(1, 2))) > 30
