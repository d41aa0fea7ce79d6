"""RAW files: previews, upright and with the metadata of the file; development without a preview."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.modalities import raw
from mmsearch.modalities.image import build as build_image
from tests.raw_files import HEIGHT, WIDTH, dng, jpeg, scene, unknown_raw
from tests.unit.modalities.test_metadata import cr3

TURNS = {1: 0, 3: 180, 6: 270, 8: 90}


@pytest.fixture
def read(tmp_path):
    def read(content, edge_px=0, name="picture.dng"):
        path = tmp_path / name
        path.write_bytes(content)
        return raw.build().read(os.fsencode(path), edge_px)

    return read


def upright(image, orientation):
    return np.asarray(image.rotate(TURNS[orientation], expand=True), int)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("edge_px", [0, 200])
def test_raw_is_read_by_its_preview_upright(read, orientation, edge_px):
    decoded = read(dng(jpeg(scene()), orientation), edge_px)
    expected = upright(scene(), orientation)
    height, width = expected.shape[:2]
    picture = decoded.picture
    assert (picture.width, picture.height, picture.format) == (width, height, "DNG")
    assert (picture.taken_at, picture.taken_from) == ("2020-01-02T03:04:05", "exif")
    assert picture.camera == "TestCam One"
    small = Image.fromarray(expected.astype(np.uint8)).resize(decoded.pixels.shape[1::-1])
    assert np.abs(decoded.pixels - np.asarray(small, int)).max() < 16


def test_preview_that_states_its_own_orientation_is_turned_by_that(read):
    exif = Image.Exif()
    exif[274] = 3
    preview = jpeg(scene(), exif=exif)
    # Cameras write EXIF first; Pillow writes 18 bytes before it.
    pixels = read(dng(preview[:2] + preview[20:], orientation=6)).pixels
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels - upright(scene(), 3)).max() < 16


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("preview", [None, jpeg(scene(160, 120))])
def test_raw_with_tiny_preview_is_developed_upright(read, orientation, preview):
    decoded = read(dng(preview, orientation))
    size = (WIDTH, HEIGHT) if orientation in (1, 3) else (HEIGHT, WIDTH)
    assert (decoded.picture.width, decoded.picture.height) == size
    assert decoded.pixels.shape == (size[1] // 2, size[0] // 2, 3)
    # Red grows from left to right, before the picture is turned.
    stored = np.rot90(decoded.pixels, -TURNS[orientation] // 90)
    assert stored[:, -40:, 0].mean() > stored[:, :40, 0].mean() + 100


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("NEF", {}),
        ("CR2", {"is_cr2": True, "maker": b"Canon\0"}),
        ("ORF", {"mark": b"IIRO", "maker": b"OLYMPUS\0"}),
        ("RW2", {"mark": b"IIU\0", "maker": b"Panasonic\0"}),
        ("ARW", {"maker": b"SONY\0"}),
        ("PEF", {"maker": b"RICOH IMAGING\0"}),
        ("RAW", {"maker": b"Unknown\0"}),
    ],
)
def test_file_that_libraw_refuses_is_read_by_its_largest_jpeg(read, name, options):
    content = unknown_raw(**options)
    assert raw.build().recognizes(content[:64])
    decoded = read(content)
    picture = decoded.picture
    assert (picture.width, picture.height, picture.format) == (1200, 1600, name)
    assert picture.taken_at == "2019-05-06T07:08:09"
    assert np.abs(decoded.pixels - upright(scene(1600, 1200), 6)).max() < 16


def test_cr3_has_metadata_of_its_boxes(read):
    picture = read(cr3() + jpeg(scene(1600, 1200))).picture
    assert (picture.width, picture.format, picture.camera) == (1600, "CR3", "Canon")
    assert (picture.taken_at, picture.rating) == ("2019-05-17T10:30:00", 4)


@pytest.mark.parametrize("size", [80, 400, 5000])
def test_raw_without_pixels_is_refused(read, size):
    with pytest.raises(DecodeError, match="a RAW file that is damaged or of an unsupported kind"):
        read(unknown_raw()[:size].replace(b"\xff\xd8\xff", b"\0\0\0"))


def test_raw_cut_after_its_preview_is_read(read):
    content = dng(jpeg(scene()))
    assert read(content[: -WIDTH * HEIGHT]).pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("head", "recognized"),
    [
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(50), True),
        (b"\0\0\0\x18ftypcrx " + bytes(40), True),
        (b"FUJIFILMCCD-RAW 0201", True),
        (b"\0\0\0\x18ftypheic" + bytes(40), False),
        (b"II*\0\x08\0\0\0\x0a\0\xfe\0\4\0\1\0\0\0\0\0\0\0", False),
        (jpeg(scene())[:64], False),
    ],
)
def test_raw_recognizes_its_formats_only(head, recognized):
    assert raw.build().recognizes(head) is recognized


def test_plain_tiff_is_no_raw_file_and_dng_may_be_either():
    buffer = io.BytesIO()
    scene().save(buffer, "TIFF")
    assert not raw.build().recognizes(buffer.getvalue()[:64])
    # The name decides, and without a name the more special reader.
    assert build_image().recognizes(dng()[:64])


def test_raw_without_its_extra_names_it(read, monkeypatch):
    monkeypatch.setattr("mmsearch.modalities._reader.find_spec", lambda name: None)
    assert raw.build().missing_extra == "raw"
    with pytest.raises(
        DecodeError, match=r"'rawpy', which is not installed \(pip install '.\[raw\]'\)"
    ):
        read(dng())
