"""Pictures in other colour spaces are decoded, and shown, with the colours of sRGB."""

import io
import os
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from mmsearch.modalities import _pixels
from mmsearch.modalities.image import build

TOLERANCE = 3

# Primaries as XYZ of D50, and the exponent of the tone curve.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03135, 0.00009, 0.82491))
DISPLAY_P3 = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)


def fixed(value):
    return struct.pack(">i", round(value * 65536))


def profile(space, *tags, connection=b"XYZ "):
    """Return an ICC profile with tags ``(name, content)``."""
    tags = [
        (b"desc", b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78)),
        (b"cprt", b"text" + bytes(4) + b"x\0"),
        (b"wtpt", b"XYZ " + bytes(4) + fixed(0.9642) + fixed(1) + fixed(0.8249)),
        *tags,
    ]
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags:
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I", start + len(body)) + b"lcms" + b"\2\x20\0\0"
    head += (b"prtr" if space == b"CMYK" else b"mntr") + space + connection
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += fixed(0.9642) + fixed(1) + fixed(0.8249)
    return head.ljust(128, b"\0") + table + body


def curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def rgb_profile(primaries, gamma):
    tags = []
    for name, xyz in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags.append((name + b"XYZ", b"XYZ " + bytes(4) + b"".join(map(fixed, xyz))))
        tags.append((name + b"TRC", curve(gamma)))
    return profile(b"RGB ", *tags)


def cmyk_profile():
    """Return a profile in which ink is a little lighter than the naive conversion says."""
    ramp = bytes(range(256))
    table = b""
    for node in range(16):
        cyan, magenta, yellow, black = (node >> bit & 1 for bit in (3, 2, 1, 0))
        light = max(0, 255 - 60 * cyan - 90 * magenta - 25 * yellow - 200 * black)
        red_green = 128 - 40 * cyan + 70 * magenta
        yellow_blue = 128 - 45 * cyan - 5 * magenta + 85 * yellow
        table += bytes((light, red_green, yellow_blue))
    unit = b"".join(fixed(float(row == column)) for row in range(3) for column in range(3))
    lut = b"mft1" + bytes(4) + b"\4\3\2\0" + unit + ramp * 4 + table + ramp * 3
    return profile(b"CMYK", (b"A2B0", lut), connection=b"Lab ")


PROFILES = {
    "adobe": rgb_profile(ADOBE_RGB, 2.2),
    "prophoto": rgb_profile(PROPHOTO, 1.8),
    "p3": rgb_profile(DISPLAY_P3, 2.2),
    "grey": profile(b"GRAY", (b"kTRC", curve(1.0))),
    "cmyk": cmyk_profile(),
}


def patches(mode):
    """Return a picture of 8 x 8 flat patches of all kinds of colours."""
    levels = np.random.default_rng(3).integers(0, 256, (8, 8, max(3, len(mode))), np.uint8)
    pixels = np.kron(levels, np.ones((32, 32, 1), np.uint8))
    if mode == "L":
        return Image.fromarray(pixels[:, :, 0])
    if mode == "CMYK":
        return Image.fromarray(pixels, "CMYK")
    return Image.fromarray(pixels).convert(mode)


def converted(image, name):
    """Return what littlecms makes of a picture."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[name]))
    target = ImageCms.createProfile("sRGB")
    return np.asarray(ImageCms.profileToProfile(image, source, target, outputMode="RGB"), int)


def centres(pixels):
    return np.asarray(pixels, int)[16::32, 16::32]


@pytest.mark.parametrize(
    ("name", "mode", "file_format", "options"),
    [
        ("adobe", "RGB", "JPEG", {"quality": 100, "subsampling": 0}),
        ("prophoto", "RGB", "JPEG", {"quality": 100, "subsampling": 0}),
        ("p3", "RGB", "JPEG", {"quality": 100, "subsampling": 0}),
        ("grey", "L", "JPEG", {"quality": 100}),
        ("cmyk", "CMYK", "JPEG", {"quality": 100}),
        ("adobe", "RGB", "PNG", {}),
        ("grey", "L", "PNG", {}),
        ("prophoto", "RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("cmyk", "CMYK", "TIFF", {}),
        ("p3", "RGB", "WEBP", {"lossless": True}),
        ("adobe", "RGB", "AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ],
)
def test_picture_with_profile_is_decoded_and_shown_as_littlecms_converts_it(
    tmp_path, name, mode, file_format, options
):
    image, path = patches(mode), tmp_path / "picture"
    image.save(path, file_format, icc_profile=PROFILES[name], **options)
    with Image.open(path) as stored:
        expected = centres(converted(stored.convert(mode), name))
    assert np.abs(expected - centres(image.convert("RGB"))).max() > 20
    decoded = build().read(os.fsencode(path), 0).pixels
    assert np.abs(centres(decoded) - expected).max() <= TOLERANCE
    reduced = build().read(os.fsencode(path), 64).pixels
    step = reduced.shape[0] // 8
    assert np.abs(reduced[step // 2 :: step, step // 2 :: step] - expected).max() <= 4
    with Image.open(io.BytesIO(build().thumbnail(os.fsencode(path), 256, "PNG"))) as small:
        assert np.abs(centres(small) - expected).max() <= TOLERANCE
        assert "icc_profile" not in small.info


def test_transparent_picture_with_profile_is_converted_before_it_is_blended(tmp_path):
    image, path = patches("RGB"), tmp_path / "picture.png"
    image.putalpha(128)
    image.save(path, icc_profile=PROFILES["prophoto"])
    colours = converted(patches("RGB"), "prophoto")
    expected = colours * 128 / 255 + 255 * 127 / 255
    assert np.abs(build().read(os.fsencode(path), 0).pixels - expected).max() <= TOLERANCE


def test_16_bit_grey_with_profile_is_converted(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((8, 8), 0x4000, np.uint16)).save(path, icc_profile=PROFILES["grey"])
    expected = converted(Image.new("L", (1, 1), 0x40), "grey")[0, 0]
    assert np.abs(build().read(os.fsencode(path), 0).pixels[0, 0] - expected).max() <= TOLERANCE


@pytest.mark.parametrize("content", [b"nonsense", PROFILES["cmyk"], PROFILES["grey"], b""])
def test_profile_that_does_not_fit_is_ignored(tmp_path, content):
    path = tmp_path / "picture.png"
    patches("RGB").save(path, icc_profile=content)
    np.testing.assert_array_equal(
        build().read(os.fsencode(path), 0).pixels, np.asarray(patches("RGB"))
    )


def test_picture_with_srgb_profile_is_not_converted(tmp_path, monkeypatch):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "picture.jpg"
    patches("RGB").save(path, icc_profile=srgb)
    build().read(os.fsencode(path), 0)
    monkeypatch.setattr(_pixels.ImageCms, "applyTransform", None)
    patches("RGB").save(tmp_path / "plain.jpg")
    plain = build().read(os.fsencode(tmp_path / "plain.jpg"), 0).pixels
    np.testing.assert_array_equal(build().read(os.fsencode(path), 0).pixels, plain)
