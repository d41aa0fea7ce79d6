"""The content of a file decides how it is read; its name only suggests."""

import io
import os
from dataclasses import dataclass

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from mmsearch.core import plugins
from mmsearch.core.errors import DecodeError
from mmsearch.core.files import HEAD_BYTES, choose_modality
from mmsearch.indexing.encode import DecoderFactory, DecodeTask
from mmsearch.modalities.image import build

pillow_heif.register_heif_opener()

SCENE = Image.fromarray(
    np.kron(np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8), np.ones((16, 16, 1)))
    .astype(np.uint8)
)  # fmt: skip
FORMATS = {
    "JPEG": ("JPEG", {"quality": 95}),
    "MPO": ("JPEG", {"quality": 95}),
    "PNG": ("PNG", {}),
    "APNG": ("PNG", {"save_all": True, "append_images": [SCENE.rotate(180)]}),
    "GIF": ("GIF", {}),
    "WEBP": ("WEBP", {"quality": 95}),
    "BMP": ("BMP", {}),
    "TIFF": ("TIFF", {}),
    "BIGTIFF": ("TIFF", {"big_tiff": True}),
    "HEIF": ("HEIF", {"quality": 95}),
    "AVIF": ("AVIF", {"quality": 95}),
    "JPEG2000": ("JPEG2000", {}),
    "J2K": ("JPEG2000", {"no_jp2": True}),
    "PPM": ("PPM", {}),
}


def encoded(name):
    file_format, options = FORMATS[name]
    buffer = io.BytesIO()
    SCENE.save(buffer, "MPO" if name == "MPO" else file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "file_name",
    ["photo", "photo.jpg_large", "photo.dat", "photo.txt", "photo.jpg", "photo.png", "a.nef", "b."],
)
@pytest.mark.parametrize("name", FORMATS)
def test_content_decides_under_any_name(tmp_path, name, file_name):
    path = tmp_path / file_name
    path.write_bytes(encoded(name))
    modalities = tuple(plugins.load("modalities", n).build() for n in plugins.names("modalities"))
    modality = choose_modality(modalities, os.fsencode(path))
    if file_name == "a.nef" and "TIFF" in name and modality != build():
        return  # most RAW files have the structure of a TIFF
    assert modality == build()
    decoded = modality.read(os.fsencode(path), 0)
    assert decoded.picture.format == FORMATS[name][0]
    if name != "GIF":
        difference = np.abs(
            decoded.pixels[8::16, 8::16].astype(int) - np.asarray(SCENE)[8::16, 8::16]
        )
        assert difference.max() < 24


@pytest.mark.parametrize(
    "head",
    [
        b"BMW is a maker of cars, and this is a text about them",
        b"BM" + bytes(62),
        b"P6 is a kind of train",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\x20ftypqt  ",
        b"\0\0\0\x20ftypisom",
        b"%PDF-1.7",
        b"PK\3\4",
        b"MZ\x90\0",
        b"#!/bin/sh\n",
        b"<html>",
        b"II*\0\x10\0\0\0CR\2\0",
        b"8BPS\0\2",
        b"\xff\xd8",
        b"",
    ],
)
def test_image_does_not_recognize_other_content(head):
    assert not build().recognizes(head)


def test_photoshop_file_is_read_by_its_merged_picture(tmp_path):
    path = tmp_path / "picture.psd"
    head = b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\x30\0\0\0\x40\0\x08\0\3"
    planes = np.asarray(SCENE).transpose(2, 0, 1).tobytes()
    path.write_bytes(head + bytes(12) + b"\0\0" + planes)
    assert build().recognizes(path.read_bytes()[:HEAD_BYTES])
    decoded = build().read(os.fsencode(path), 0)
    np.testing.assert_array_equal(decoded.pixels, np.asarray(SCENE))
    assert (decoded.picture.format, decoded.picture.width) == ("PSD", 64)


@dataclass(frozen=True)
class Named:
    """Modality that recognizes content by its first byte, and names by their ending."""

    letter: bytes

    def can_read(self, path):
        return path.endswith(b"." + self.letter)

    def recognizes(self, head):
        return head[:1] in (self.letter, b"*")


@pytest.mark.parametrize(
    ("content", "name", "chosen"),
    [
        (b"a...", "x.b", b"a"),  # content before name
        (b"b...", "x", b"b"),
        (b"*...", "x.a", b"a"),  # the name among those that recognize it
        (b"*...", "x.b", b"b"),
        (b"*...", "x", b"b"),  # the most special one
        (b"c...", "x.a", b"a"),  # unknown content
        (b"c...", "x", None),
        (b"", "x.b", b"b"),
    ],
)
def test_modality_is_chosen_by_content_and_then_by_name(tmp_path, content, name, chosen):
    (tmp_path / name).write_bytes(content)
    found = choose_modality((Named(b"a"), Named(b"b")), os.fsencode(tmp_path / name))
    assert (found and found.letter) == chosen


def test_modality_of_file_that_cannot_be_opened_raises_decode_error(tmp_path):
    with pytest.raises(DecodeError, match="no such file"):
        choose_modality((Named(b"a"),), os.fsencode(tmp_path / "missing.a"))


class Shape:
    edge_px = 0

    def __call__(self, pixels):
        return pixels.shape


def test_decode_worker_reads_by_content_and_refuses_what_none_reads(tmp_path):
    path = tmp_path / "x.txt"
    decode = DecoderFactory((build(),), Shape())()
    for content, outcome in ((encoded("PNG"), (48, 64, 3)), (b"Dear diary", None)):
        path.write_bytes(content)
        facts = path.stat()
        task = DecodeTask(os.fsencode(path), facts.st_size, facts.st_mtime_ns)
        if outcome:
            (item,) = decode(task).items
            assert item.model_input == outcome
        else:
            with pytest.raises(DecodeError, match="this type of file is not indexed"):
                decode(task)
