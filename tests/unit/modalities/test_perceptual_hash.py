import io
import random
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mmsearch.modalities._perceptual_hash import PLAIN, perceptual_hash

PHOTOS = sorted((Path(__file__).parents[2] / "photos/photos").iterdir())[::5]


def open_photo(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def hash_of(image):
    return perceptual_hash(np.asarray(image.convert("RGB")))


def distance(left, right):
    return int(np.bitwise_count(np.int64(left ^ right) & np.int64(2**63 - 1)))


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_hash_is_that_of_imagehash_but_for_two_bits_and_the_first(path):
    image = open_photo(path)
    bits = np.packbits(imagehash.phash(image).hash).tobytes()
    assert distance(hash_of(image), int.from_bytes(bits, signed=True)) <= 2


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_hash_hardly_changes_with_size_and_compression(path):
    image = open_photo(path)
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    half.save(buffer, "JPEG", quality=40)
    assert distance(hash_of(image), hash_of(Image.open(buffer))) <= 6


def test_hashes_of_different_photographs_are_far_apart():
    hashes = [hash_of(open_photo(path)) for path in PHOTOS]
    distances = [distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) >= 10


@pytest.mark.parametrize("colour", ["white", "black", (120, 30, 200)])
def test_hash_of_plain_area_is_zero(colour):
    assert hash_of(Image.new("RGB", (300, 200), colour)) == PLAIN


def test_hash_of_noisy_plain_area_is_zero():
    noise = np.random.default_rng(0).integers(100, 140, (300, 400, 3), dtype=np.uint8)
    assert perceptual_hash(noise) == PLAIN


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (7, 3)])
def test_hash_of_tiny_picture_is_a_64_bit_integer(size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert -(2**63) <= perceptual_hash(pixels) < 2**63


def draw_lines(width):
    page = Image.new("RGB", (600, 800), "white")
    draw, rng = ImageDraw.Draw(page), random.Random(1)
    for line in range(30):
        draw.line((60, 60 + 22 * line, rng.randint(200, 540), 60 + 22 * line), "black", width)
    return page


def test_hash_of_page_of_text_is_zero():
    assert hash_of(draw_lines(4)) == PLAIN


def test_hash_of_thing_on_background_is_negative_and_that_of_most_photographs_is_not():
    thing = Image.new("RGB", (400, 300), "white")
    ImageDraw.Draw(thing).ellipse((120, 60, 260, 280), (200, 40, 60), "black", 6)
    assert hash_of(thing) < 0
    assert np.mean([hash_of(open_photo(path)) > 0 for path in PHOTOS]) > 0.7
