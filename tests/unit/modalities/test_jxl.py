"""JPEG XL: sizes from the header, orientation, transparency, and files that are not sound."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.modalities import jxl
from tests.raw_files import jpeg, scene

pillow_jxl = pytest.importorskip("pillow_jxl")


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JXL", lossless=True, **options)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path):
    def read(content, edge_px=0, max_pixels=1_000_000):
        path = tmp_path / "picture.jxl"
        path.write_bytes(content)
        return jxl.build(max_pixels).read(os.fsencode(path), edge_px)

    return read


@pytest.mark.parametrize("use_container", [False, True])
@pytest.mark.parametrize(
    "size", [(640, 480), (8, 8), (256, 256), (3, 5), (160, 90), (600, 400), (9, 700), (1200, 1000)]
)
def test_jxl_size_is_read_from_its_header(size, use_container):
    content = encoded(Image.new("RGB", size, "red"), use_container=use_container)
    assert jxl.read_size(content) == size
    assert jxl.build().recognizes(content[:64])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_jxl_is_decoded_to_rgb_over_white(read, mode):
    image = scene(60, 40).convert(mode)
    if mode == "RGBA":
        image.putalpha(128)
    decoded = read(encoded(image))
    white = Image.new("RGBA", image.size, "white")
    expected = np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"), int)
    assert np.abs(decoded.pixels - expected).max() <= 1
    assert (decoded.picture.width, decoded.picture.height) == (60, 40)
    assert (decoded.picture.format, decoded.picture.damage) == ("JXL", None)


def test_jxl_metadata_is_read_and_its_exif_orientation_is_not_applied(read):
    # Only the orientation in the codestream counts, which the decoder applies.
    exif = Image.Exif()
    exif[274], exif[306] = 6, "2021:02:03 04:05:06"
    decoded = read(encoded(scene(60, 40), exif=exif.tobytes()))
    assert decoded.pixels.shape == (40, 60, 3)
    assert decoded.picture.taken_at == "2021-02-03T04:05:06"


def test_jxl_made_of_jpeg_is_turned_by_exif(read, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "picture.jpg"
    path.write_bytes(jpeg(scene(64, 48), exif=exif))
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, "JXL", lossless_jpeg=True)
    decoded = read(buffer.getvalue())
    assert decoded.pixels.shape == (64, 48, 3)
    expected = np.asarray(scene(64, 48).rotate(270, expand=True), int)
    assert np.abs(decoded.pixels - expected).max() < 16


def test_jxl_over_limit_is_refused_before_decoding(read, monkeypatch):
    content = encoded(Image.new("RGB", (1000, 1001)))
    monkeypatch.setattr("mmsearch.modalities.jxl.PillowReader.decode", None)
    with pytest.raises(DecodeError, match="max_pixels"):
        read(content)


@pytest.mark.parametrize("size", [1, 2, 5, 12, 40])
def test_jxl_cut_off_is_refused_with_reason(read, size):
    with pytest.raises(DecodeError, match=r"truncated|damaged|known format"):
        read(encoded(scene(60, 40))[:size])


def test_jxl_without_its_extra_names_it(read, monkeypatch):
    content = encoded(scene(60, 40))
    monkeypatch.setattr("mmsearch.modalities._reader.find_spec", lambda name: None)
    assert jxl.build().missing_extra == "jxl"
    with pytest.raises(DecodeError, match=r"\(pip install '.\[jxl\]'\)"):
        read(content)
