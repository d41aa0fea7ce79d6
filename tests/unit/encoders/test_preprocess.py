import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmsearch.encoders._preprocess import PixelPreprocessor
from tests.property_budget import examples

SIDES = st.integers(1, 90)
ROUNDING = 2


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@settings(max_examples=examples(25), deadline=None)
@given(height=SIDES, width=SIDES)
def test_pixel_preprocessor_matches_open_clip_transform(mode, interpolation, height, width):
    from open_clip import image_transform

    theirs = image_transform(
        32,
        is_train=False,
        resize_mode=mode,
        interpolation=interpolation,
        mean=(0,) * 3,
        std=(1,) * 3,
    )
    pixels = noise(height, width)
    prepared = PixelPreprocessor(32, mode, interpolation)(pixels)
    assert prepared.dtype == np.uint8
    assert prepared.shape == (32, 32, 3)
    if mode == "longest" and 32 * min(height, width) / max(height, width) <= 0.5:
        return  # open_clip itself fails on a picture that it scales to zero height
    expected = (theirs(Image.fromarray(pixels)).permute(1, 2, 0) * 255).round().byte().numpy()
    # Scaling and cropping in one step rounds differently from two separate steps.
    assert np.abs(prepared.astype(int) - expected).max() <= ROUNDING


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@settings(max_examples=examples(25), deadline=None)
@given(height=SIDES, width=SIDES)
def test_torch_pixel_preprocessor_matches_pixel_preprocessor(mode, interpolation, height, width):
    from mmsearch.encoders._preprocess_torch import TorchPixelPreprocessor

    pixels = noise(height, width)
    one = PixelPreprocessor(32, mode, interpolation)(pixels)
    other = TorchPixelPreprocessor(32, mode, interpolation)(pixels)
    assert (other.dtype, other.shape) == (one.dtype, one.shape)
    # On noise, a few values of Pillow differ by more; those of torch do not.
    off = np.abs(one.astype(int) - other)
    assert (off > ROUNDING).mean() < 0.05
    assert off.mean() < 1


def test_pixel_preprocessor_longest_mode_pads_with_fill_colour():
    prepared = PixelPreprocessor(20, "longest", fill=77)(noise(10, 40))
    assert (prepared[0] == 77).all()
    assert (prepared[10] != 77).any()
