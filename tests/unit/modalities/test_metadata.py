"""Metadata inside picture files, written with Pillow and read back."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from mmsearch.modalities import _metadata
from tests.unit.modalities.test_texts import XMP


def saved(kind="JPEG", **options):
    content = io.BytesIO()
    Image.new("RGB", (8, 6), "teal").save(content, kind, **options)
    return content.getvalue()


def opened(content):
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def with_exif(fill):
    exif = Image.Exif()
    fill(exif)
    return opened(saved(exif=exif.tobytes()))


def with_iptc(*fields):
    """Return a JPEG with IPTC datasets in an APP13 segment."""
    block = b"".join(
        struct.pack(">BBBH", 0x1C, 2, number, len(value)) + value for number, value in fields
    )
    resource = b"8BIM" + struct.pack(">H", 0x0404) + b"\0\0" + struct.pack(">I", len(block)) + block
    payload = b"Photoshop 3.0\0" + resource + b"\0" * (len(block) % 2)
    plain = saved()
    return opened(
        plain[:2] + b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload + plain[2:]
    )


def texts_of(image):
    return {(text.kind, text.text) for text in _metadata.read_metadata(image).texts}


def test_metadata_texts_of_exif_include_description_title_and_keywords():
    def fill(exif):
        exif[ExifTags.Base.ImageDescription] = "A dog on a beach"
        exif[0x9C9B] = "Summer".encode("utf-16-le")
        exif[0x9C9E] = "dog;sea".encode("utf-16-le")

    found = texts_of(with_exif(fill))
    assert {("description", "A dog on a beach"), ("title", "Summer")} <= found
    assert any(kind == "keywords" and "dog" in text for kind, text in found)


def test_metadata_texts_of_iptc_include_headline_caption_and_keywords():
    found = texts_of(
        with_iptc((105, b"Regatta"), (120, b"Boats at noon"), (25, b"sea"), (25, b"wind"))
    )
    assert {("title", "Regatta"), ("description", "Boats at noon")} <= found
    (words,) = [text for kind, text in found if kind == "keywords"]
    assert "sea" in words
    assert "wind" in words


def test_metadata_texts_of_embedded_xmp_include_title_and_description():
    found = texts_of(opened(saved(xmp=XMP.encode())))
    assert {("title", "Harbour"), ("description", "Boote im Hafen")} <= found


def test_metadata_texts_of_png_include_title_and_description():
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Title", "Harbour")
    notes.add_itxt("Description", "Boote im Hafen, Süd", "de")
    assert texts_of(opened(saved("PNG", pnginfo=notes))) == {
        ("title", "Harbour"),
        ("description", "Boote im Hafen, Süd"),
    }


@pytest.mark.parametrize("boilerplate", ["OLYMPUS DIGITAL CAMERA", "  ", "12345", "SONY DSC"])
def test_metadata_texts_camera_boilerplate_is_dropped(boilerplate):
    assert texts_of(with_exif(lambda exif: exif.__setitem__(270, boilerplate))) == set()


@pytest.mark.parametrize(
    ("maker", "model", "expected"),
    [
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("", "X100", "X100"),
        ("Leica", "", "Leica"),
        ("", "", None),
    ],
)
def test_camera_joins_maker_and_model_without_repetition(maker, model, expected):
    def fill(exif):
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = maker, model

    assert _metadata.read_metadata(with_exif(fill)).camera == expected


def test_gps_south_and_west_returns_negative_coordinates():
    def fill(exif):
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLongitudeRef] = "S", "W"
        gps[ExifTags.GPS.GPSLatitude] = (33.0, 30.0, 0.0)
        gps[ExifTags.GPS.GPSLongitude] = (70.0, 39.0, 36.0)

    found = _metadata.read_metadata(with_exif(fill))
    assert (found.latitude, found.longitude) == (pytest.approx(-33.5), pytest.approx(-70.66))


def test_gps_out_of_range_returns_none():
    def fill(exif):
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLongitudeRef] = "N", "E"
        gps[ExifTags.GPS.GPSLatitude] = (133.0, 0.0, 0.0)
        gps[ExifTags.GPS.GPSLongitude] = (70.0, 0.0, 0.0)

    found = _metadata.read_metadata(with_exif(fill))
    assert (found.latitude, found.longitude) == (None, None)


@given(st.binary(max_size=80))
def test_metadata_readers_damaged_bytes_raise_no_error(junk):
    image = opened(saved(exif=b"Exif\0\0" + junk, xmp=junk))
    _metadata.read_metadata(image)
    assert 1 <= _metadata.orientation(image) <= 8
