"""Still pictures: results of reading every kind of picture file."""

import io
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings
import zlib
from threading import Thread

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import ExifTags, Image, ImageCms, ImageFile, PngImagePlugin, TiffImagePlugin

from mmsearch.core.errors import DecodeError
from mmsearch.core.texts import MAX_TEXT_CHARS, to_single_line
from mmsearch.core.types import Text
from mmsearch.modalities import _metadata
from mmsearch.modalities._pixels import apply_orientation, to_rgb
from mmsearch.modalities.image import DEFAULT_MAX_PIXELS, SUFFIXES, build

pillow_heif.register_heif_opener()

WIDTH, HEIGHT = 60, 40
LOSSY = 24
"""Maximum change of one value of a smooth picture in a lossy file, in levels."""

ORIENTED = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[::-1],
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[:, ::-1],
}
"""Maps an EXIF orientation to a function from upright pixels to stored pixels."""


def scene(width=WIDTH, height=HEIGHT):
    """Return a smooth picture that differs in every corner and channel."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return (np.stack([x, y, (1 - x) * (1 - y)], axis=2) * 255).round().astype(np.uint8)


def grey_ramp():
    """Return a grey picture with all values from 0 to 255."""
    return np.linspace(0, 255, WIDTH * HEIGHT).round().astype(np.uint8).reshape(HEIGHT, WIDTH)


def as_rgb(grey):
    return np.repeat(grey[:, :, None], 3, axis=2)


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(width, height, bits, colour, scanlines, *extra):
    """Return a hand-made PNG; ``scanlines`` include their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    compressor = zlib.compressobj(1)
    data = b"".join(compressor.compress(line) for line in scanlines) + compressor.flush()
    chunks = (png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", data), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png16(values, *extra):
    """Return a PNG of 16 bits a channel: (h, w) is grey, (h, w, 2) has alpha, (h, w, 3) is RGB."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2] if values.ndim == 3 else 1]
    lines = (b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, colour, lines, *extra)


def tiff(values, order="<", *, bits=None, sample_format=1, photometric=1):
    """Return an uncompressed grey TIFF of one strip."""
    data = values if isinstance(values, bytes) else values.astype(values.dtype.newbyteorder(order))
    data = data if isinstance(data, bytes) else data.tobytes()
    height, width = (HEIGHT, WIDTH) if isinstance(values, bytes) else values.shape
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits or values.dtype.itemsize * 8),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(data)),
        (339, 3, sample_format),
    ]
    directory = struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        directory += struct.pack(order + "HHI", tag, kind, 1)
        directory += struct.pack(order + ("HH" if kind == 3 else "I"), *[value, 0][: 5 - kind])
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8 + len(data)) + data + directory + bytes(4)


def exif_of(**values):
    """Return EXIF data, as in ``exif_of(Orientation=6, ImageDescription="a dog")``."""
    exif = Image.Exif()
    for name, value in values.items():
        block = exif.get_ifd(ExifTags.IFD.Exif) if name.startswith("DateTimeO") else exif
        block[ExifTags.Base[name]] = value
    return exif


def assert_close(pixels, expected, tolerance):
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    difference = np.abs(pixels.astype(int) - expected.astype(int))
    assert difference.max(initial=0) <= tolerance


def assert_clean(reason):
    """Check that a reason is one clause without technical details."""
    assert reason == reason.strip() != ""
    assert reason.isprintable()
    assert len(reason) < 250
    assert not reason.endswith(".")
    assert not re.search(
        r"0x|<|_io|b'|Error|Exception|Errno|None|PngImage|Traceback|object", reason
    )


@pytest.fixture
def modality():
    return build()


@pytest.fixture
def file(tmp_path):
    """Return a function: ``file(content, "x.png")`` writes a file and returns its path."""

    def write(content, name="picture"):
        path = tmp_path / name
        path.write_bytes(content)
        return os.fsencode(path)

    return write


@pytest.fixture
def read(modality, file):
    """Return a function: ``read(content)`` returns the decoded picture."""
    return lambda content, edge_px=0, name="picture": modality.read(file(content, name), edge_px)


@pytest.fixture
def refusal(read):
    """Return a function: ``refusal(content)`` returns the reason of the `DecodeError`."""

    def reason(content, **options):
        with pytest.raises(DecodeError) as caught:
            read(content, **options)
        assert_clean(str(caught.value))
        return str(caught.value)

    return reason


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("file_format", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, LOSSY),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("HEIF", {"quality": 95}, LOSSY),
        ("AVIF", {"quality": 95}, LOSSY),
        ("MPO", {"quality": 95, "subsampling": 0}, LOSSY),
    ],
)
def test_image_read_applies_exif_orientation(read, file_format, options, tolerance, orientation):
    upright = scene()
    stored = np.ascontiguousarray(ORIENTED.get(orientation, lambda p: p)(upright))
    exif = exif_of(Orientation=orientation)
    decoded = read(encoded(Image.fromarray(stored), file_format, exif=exif.tobytes(), **options))
    assert (decoded.picture.width, decoded.picture.height) == (WIDTH, HEIGHT)
    assert_close(decoded.pixels, upright, tolerance)


@settings(deadline=None)
@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))),
    st.integers(1, 8),
)
def test_apply_orientation_restores_upright_pixels(upright, orientation):
    stored = np.ascontiguousarray(ORIENTED.get(orientation, lambda p: p)(upright))
    np.testing.assert_array_equal(apply_orientation(stored, orientation), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "MPO"])
def test_image_read_reduced_picture_reports_full_size(read, file_format, orientation):
    upright = scene(803, 601)
    stored = np.ascontiguousarray(ORIENTED.get(orientation, lambda p: p)(upright))
    exif = exif_of(Orientation=orientation).tobytes()
    decoded = read(encoded(Image.fromarray(stored), file_format, exif=exif), 150)
    assert (decoded.picture.width, decoded.picture.height) == (803, 601)
    assert decoded.pixels.shape == (151, 201, 3)


@pytest.mark.parametrize("orientation", [0, 9, 99, 65535])
def test_image_read_invalid_orientation_leaves_pixels_unchanged(read, orientation):
    exif = exif_of(Orientation=orientation).tobytes()
    decoded = read(encoded(Image.fromarray(scene()), "PNG", exif=exif))
    np.testing.assert_array_equal(decoded.pixels, scene())


def test_image_read_png_exif_after_pixels_is_applied(read):
    content = encoded(Image.fromarray(scene()), "PNG")
    exif = exif_of(Orientation=3).tobytes().removeprefix(b"Exif\0\0")
    end = png_chunk(b"IEND", b"")
    decoded = read(content.removesuffix(end) + png_chunk(b"eXIf", exif) + end)
    np.testing.assert_array_equal(decoded.pixels, scene()[::-1, ::-1])


def test_image_read_orientation_is_applied_despite_damaged_exif_tag(read):
    exif = bytearray(exif_of(ImageDescription="a long description", Orientation=3).tobytes())
    place = exif.index(struct.pack(">H", ExifTags.Base.ImageDescription))
    exif[place + 4 : place + 12] = b"\x00\xff\xff\xff\x7f\xff\xff\xff"
    decoded = read(encoded(Image.fromarray(scene()), "PNG", exif=bytes(exif)))
    np.testing.assert_array_equal(decoded.pixels, scene()[::-1, ::-1])


# Transparency


def over_white(pixels, alpha):
    share = alpha[:, :, None] / 255
    return (pixels * share + 255 * (1 - share)).round().astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_image_read_alpha_channel_is_blended_on_white(read, mode, file_format):
    alpha = grey_ramp()[::-1]
    pixels = scene() if mode == "RGBA" else as_rgb(scene()[:, :, 0])
    image = Image.fromarray(np.dstack([pixels, alpha])).convert(mode)
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    assert_close(read(encoded(image, file_format, **options)).pixels, over_white(pixels, alpha), 2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La", "PA"])
def test_to_rgb_each_alpha_mode_is_blended_on_white(mode):
    flat = np.full((4, 6, 3), (10, 10, 10), np.uint8)
    alpha = np.repeat(np.array([[0, 0, 51, 51, 255, 255]], np.uint8), 4, axis=0)
    image = Image.fromarray(np.dstack([flat, alpha]))
    if mode == "PA":
        image = Image.new("P", (6, 4))
        image.putpalette([10, 10, 10] * 256)
        image.putalpha(Image.fromarray(alpha))
        assert image.mode == "PA"
    else:
        image = image.convert({"La": "LA"}.get(mode, mode))
        image = image.convert(mode)
    assert_close(to_rgb(image), over_white(flat, alpha), 6)


def test_image_read_transparent_colour_becomes_white(read):
    half = np.zeros((HEIGHT, WIDTH), np.uint8)
    half[:, 30:] = 1
    expected = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    expected[:, 30:] = (200, 30, 40)
    palette = Image.fromarray(half, "L").convert("P")
    palette.putpalette([9, 9, 9, 200, 30, 40])
    colours = np.where(half[:, :, None] == 1, np.uint8([200, 30, 40]), np.uint8([9, 9, 9]))
    for image, transparency in (
        (palette, 0),
        (palette, b"\0\xff"),
        (Image.fromarray(colours), (9, 9, 9)),
    ):
        decoded = read(encoded(image, "PNG", transparency=transparency))
        np.testing.assert_array_equal(decoded.pixels, expected)
    gif = read(encoded(palette, "GIF", transparency=0))
    np.testing.assert_array_equal(gif.pixels, expected)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_image_read_transparent_grey_becomes_white(read, mode):
    image = Image.new(mode, (4, 3), 0)
    decoded = read(encoded(image, "PNG", transparency=0))
    np.testing.assert_array_equal(decoded.pixels, np.full((3, 4, 3), 255))


def test_image_read_transparent_16_bit_grey_becomes_white(read):
    values = np.array([[0, 1000, 65535]], np.uint16)
    decoded = read(png16(values, png_chunk(b"tRNS", struct.pack(">H", 1000))))
    np.testing.assert_array_equal(decoded.pixels, as_rgb(np.uint8([[0, 255, 255]])))


def test_image_read_16_bit_png_with_transparent_colour_is_decoded(read):
    values = np.array([[[0, 0, 0], [65535, 0, 0], [2570, 2570, 2570]]], np.uint16)
    decoded = read(png16(values, png_chunk(b"tRNS", struct.pack(">HHH", 2570, 2570, 2570))))
    np.testing.assert_array_equal(decoded.pixels[0, :2], [[0, 0, 0], [255, 0, 0]])


# Bit depths


def test_image_read_16_bit_png_is_scaled_to_8_bit(read):
    wide = scene().astype(np.uint16) * 257
    assert_close(read(png16(wide)).pixels, scene(), 1)
    assert_close(read(png16(wide[:, :, 0])).pixels, as_rgb(scene()[:, :, 0]), 1)
    alpha = np.full((HEIGHT, WIDTH), 65535, np.uint16)
    assert_close(read(png16(np.dstack([wide, alpha]))).pixels, scene(), 1)
    assert_close(read(png16(np.dstack([wide[:, :, 0], alpha]))).pixels, as_rgb(scene()[:, :, 0]), 1)


def test_image_read_dark_16_bit_picture_stays_dark(read):
    dark = np.full((4, 4), 200, np.uint16)
    assert read(png16(dark)).pixels.max() == 1
    assert read(tiff(dark)).pixels.max() == 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "scale", "sample_format"),
    [
        ("u1", 1, 1),
        ("u2", 257, 1),
        ("i2", 128, 2),
        ("i4", 257, 2),
        ("i4", 8_000_000, 2),
        ("f4", 1 / 255, 3),
        ("f4", 1, 3),
        ("f4", 257, 3),
        ("f4", 1e9, 3),
    ],
)
def test_image_read_grey_tiff_of_each_sample_type_is_scaled_to_8_bit(
    read, kind, scale, sample_format, order
):
    grey = grey_ramp()
    values = (grey.astype(np.float64) * scale).astype(kind)
    tolerance = 128 if kind == "i2" else 1
    decoded = read(tiff(values, order, sample_format=sample_format))
    assert_close(decoded.pixels, as_rgb(grey), tolerance)


@pytest.mark.parametrize("scale", [257, 2**24])
def test_image_read_unsigned_32_bit_tiff_is_scaled_to_8_bit(read, scale):
    values = grey_ramp().astype(np.uint32) * scale
    assert_close(read(tiff(values)).pixels, as_rgb(grey_ramp()), 1)


def test_image_read_12_bit_tiff_is_scaled_to_8_bit(read):
    values = grey_ramp().astype(np.uint16).reshape(-1, 2) * 16
    a, b = values[:, 0], values[:, 1]
    packed = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=1).astype(np.uint8)
    assert_close(read(tiff(packed.tobytes(), bits=12)).pixels, as_rgb(grey_ramp()), 2)


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_image_read_tiff_with_white_as_zero_is_inverted(read, kind):
    grey = grey_ramp()
    values = (255 - grey).astype(kind) * (257 if kind == "u2" else 1)
    assert_close(read(tiff(values, photometric=0)).pixels, as_rgb(grey), 1)


def test_image_read_float_tiff_nan_and_infinity_are_black(read):
    values = np.array([[0, 0.5, 1, np.nan, np.inf, -np.inf]], np.float32)
    decoded = read(tiff(values, sample_format=3))
    np.testing.assert_array_equal(decoded.pixels[0, :, 0], [0, 128, 255, 0, 0, 0])


def test_image_read_float_tiff_slightly_above_one_is_white(read):
    values = np.array([[0, 0.5, 1, 1.02]], np.float32)
    np.testing.assert_array_equal(
        read(tiff(values, sample_format=3)).pixels[0, :, 0], [0, 128, 255, 255]
    )


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
def test_image_read_one_bit_picture_is_black_and_white(read, file_format):
    bits = grey_ramp() > 127
    decoded = read(encoded(Image.fromarray(bits), file_format))
    np.testing.assert_array_equal(decoded.pixels, as_rgb(np.where(bits, 255, 0)))


# Colour spaces


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_image_read_cmyk_is_converted_to_rgb(read, file_format):
    image = Image.fromarray(scene()).convert("CMYK")
    options = {"quality": 95} if file_format == "JPEG" else {}
    content = encoded(image, file_format, **options)
    if file_format == "JPEG":
        assert b"Adobe" in content
    assert_close(read(content).pixels, scene(), LOSSY)


def test_image_read_ycbcr_tiff_is_converted_to_rgb(read):
    image = Image.fromarray(scene()).convert("YCbCr")
    assert_close(read(encoded(image, "TIFF")).pixels, scene(), 4)
    content = encoded(Image.fromarray(scene()), "TIFF", compression="jpeg", quality=95)
    assert_close(read(content).pixels, scene(), LOSSY)


def test_image_read_lab_tiff_is_converted_to_rgb(read):
    # Near grey, sRGB contains all LAB colours.
    pixels = (scene() // 2 + 64).astype(np.uint8)
    image = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert_close(read(encoded(image, "TIFF")).pixels, pixels, 6)


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["P", "L"])
def test_image_read_palette_or_grey_is_converted_to_rgb(read, mode, file_format):
    image = Image.fromarray(scene()).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read(encoded(image, file_format)).pixels, expected)


def test_image_read_grey_jpeg_is_converted_to_rgb(read):
    content = encoded(Image.fromarray(grey_ramp()), "JPEG", quality=95)
    assert_close(read(content).pixels, as_rgb(grey_ramp()), LOSSY)


# File formats


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_image_read_animation_returns_first_frame(read, file_format):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    decoded = read(
        encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    )
    assert decoded.picture.format == file_format
    np.testing.assert_array_equal(decoded.pixels, np.full((10, 20, 3), (255, 0, 0)))


def test_image_read_multi_page_tiff_returns_first_page(read):
    pages = [Image.new("RGB", (20, 10), "red"), Image.new("RGB", (90, 90), "blue")]
    decoded = read(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    np.testing.assert_array_equal(decoded.pixels, np.full((10, 20, 3), (255, 0, 0)))


def test_image_read_mpo_is_read_as_reduced_jpeg(read):
    image = Image.fromarray(scene(800, 600))
    content = encoded(image, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 6))])
    decoded = read(content, 140)
    assert decoded.picture.format == "JPEG"
    assert (decoded.picture.width, decoded.picture.height) == (800, 600)
    assert decoded.pixels.shape == (150, 200, 3)


@pytest.mark.parametrize(
    ("file_format", "name"),
    [("HEIF", "x.jpg"), ("PNG", "x.jpg"), ("JPEG", "x.heic"), ("AVIF", "x.gif"), ("BMP", "x.avif")],
)
def test_image_read_format_follows_content_not_file_name(read, file_format, name):
    decoded = read(encoded(Image.fromarray(scene()), file_format), name=name)
    assert decoded.picture.format == file_format
    assert_close(decoded.pixels, scene(), 40)


@pytest.mark.parametrize(("written", "brand"), [("HEIF", b"mif1"), ("AVIF", b"mif1")])
def test_image_read_mif1_brand_is_read_as_its_actual_format(read, written, brand):
    content = bytearray(encoded(Image.fromarray(scene()), written))
    content[8:12] = brand
    assert read(bytes(content)).picture.format == written


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1)])
def test_image_read_and_thumbnail_of_one_pixel_wide_picture_succeed(
    modality, file, file_format, width, height
):
    path = file(encoded(Image.new("RGB", (width, height), "white"), file_format))
    for edge_px in (0, 64):
        decoded = modality.read(path, edge_px)
        assert (decoded.picture.width, decoded.picture.height) == (width, height)
        assert decoded.pixels.shape == (height, width, 3)
    with Image.open(io.BytesIO(modality.thumbnail(path, 64))) as small:
        assert max(small.size) == min(64, max(width, height))


def test_image_read_one_pixel_wide_heif_keeps_shape(read):
    assert read(encoded(Image.new("RGB", (1, 300), "white"), "HEIF")).pixels.shape == (300, 1, 3)


# Reduced size


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (333, 1001), (1023, 257)])
@pytest.mark.parametrize("edge_px", [1, 31, 64, 128, 224, 256, 257, 2000])
def test_image_read_reduced_jpeg_matches_downscaled_full_picture(
    modality, file, mode, width, height, edge_px
):
    image = Image.fromarray(scene(width, height)).convert(mode)
    path = file(encoded(image, "JPEG", quality=95, subsampling=0))
    full, reduced = modality.read(path, 0), modality.read(path, edge_px)
    assert reduced.picture == full.picture
    short = min(reduced.pixels.shape[:2])
    assert short >= min(edge_px, width, height)
    smaller = Image.fromarray(full.pixels).resize(reduced.pixels.shape[1::-1], Image.Resampling.BOX)
    assert_close(reduced.pixels, np.asarray(smaller), 12)


# Limits


def white_png(width, height):
    """Return a PNG of one bit a pixel; 200 megapixels take a few kilobytes."""
    line = b"\0" + b"\xff" * ((width + 7) // 8)
    return png(width, height, 1, 0, (line for _ in range(height)))


MEMORY_SCRIPT = """
import sys
from mmsearch.core.errors import DecodeError
from mmsearch.modalities.image import build
def peak():
    # Not getrusage: its peak is at least that of the process that started this one.
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = peak()
try:
    build().read(sys.argv[1].encode(), 0)
except DecodeError as error:
    print(error)
print(peak() - before)
"""


def test_image_read_over_pixel_limit_is_refused_before_decoding(file):
    path = file(white_png(30_000, 30_000))
    assert os.path.getsize(path) < 1_000_000
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEMORY_SCRIPT, path],
        capture_output=True,
        check=True,
        text=True,
    )
    reason, kilobytes = run.stdout.splitlines()
    assert (
        reason == "900.0 megapixels, over the limit of 300 (raise it with the setting max_pixels)"
    )
    assert int(kilobytes) < 50_000


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"]
)
def test_image_read_pixel_limit_is_exact_in_each_format(file, file_format):
    path = file(encoded(Image.fromarray(scene()), file_format))
    assert build(WIDTH * HEIGHT).read(path, 0).pixels.shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DecodeError, match=r"megapixels.*max_pixels"):
        build(WIDTH * HEIGHT - 1).read(path, 8)


def test_image_read_above_pillow_limit_succeeds_without_warning(read):
    before = Image.MAX_IMAGE_PIXELS
    assert before * 2 < 200_000_000 < DEFAULT_MAX_PIXELS
    with warnings.catch_warnings(record=True, action="always") as caught:
        decoded = read(white_png(20_000, 10_000))
    assert caught == []
    assert (decoded.picture.width, decoded.picture.height) == (20_000, 10_000)
    assert decoded.pixels.shape == (10_000, 20_000, 3)
    assert decoded.pixels[::999, ::999].min() == 255
    assert before == Image.MAX_IMAGE_PIXELS


def globals_of_pillow():
    return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)


def test_image_read_leaves_pillow_globals_unchanged(read, refusal, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1234)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    before = globals_of_pillow()
    read(encoded(Image.fromarray(scene()), "PNG"))
    assert globals_of_pillow() == before
    refusal(b"nonsense")
    damaged = read(encoded(Image.fromarray(scene()), "PNG")[:-40])
    assert damaged.picture.damage is not None
    assert globals_of_pillow() == before


def test_image_read_in_parallel_threads_leaves_pillow_globals_unchanged(modality, file):
    before = globals_of_pillow()
    good = file(encoded(Image.fromarray(scene(300, 300)), "PNG"), "good")
    bad = file(b"nonsense", "bad")

    def work():
        for _ in range(30):
            modality.read(good, 0)
            with pytest.raises(DecodeError):
                modality.read(bad, 0)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert globals_of_pillow() == before


# Refused files


def test_image_read_file_without_pixels_raises_decode_error(refusal):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    for file_format in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "HEIF", "AVIF", "PPM"):
        content = encoded(noise, file_format)
        for size in (20, 40, 60):
            assert re.search("truncated|damaged|known format", refusal(content[:size]))


def test_image_read_non_picture_raises_decode_error(refusal):
    assert refusal(b"", name="x.jpg") == "the file is empty"
    assert refusal(b"Dear diary,\n" * 9, name="x.jpg") == "not a picture in a known format"
    assert refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n", name="x.jpg") == "not a picture in a known format"
    assert refusal(b"\xff", name="x.jpg") == "not a picture in a known format"


def test_image_read_unsupported_format_raises_decode_error(refusal):
    for file_format in ("TGA", "ICO", "PCX", "EPS", "PDF", "DDS", "SGI"):
        content = encoded(Image.fromarray(scene()), file_format)
        assert refusal(content) == "not a picture in a known format"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\xd8\xff\xe0", "a JPEG"),
        (b"\x89PNG\r\n\x1a\n", "a PNG"),
        (b"GIF89a", "a GIF"),
        (b"RIFF\x99\0\0\0WEBP", "a WebP"),
        (b"MM\0*\0\0\0\x08\0\0\0\0", "a TIFF"),
        (b"\0\0\0\x18ftypheic", "a HEIF or AVIF"),
        (b"\0\0\0\x18ftypavif", "a HEIF or AVIF"),
    ],
)
def test_image_read_known_header_with_garbage_is_reported_as_damaged(refusal, head, name):
    reason = refusal(head + bytes(range(7, 120)))
    assert reason in (f"{name} that is damaged or of an unsupported kind", "the file is truncated")


def test_image_read_non_regular_file_raises_decode_error_without_blocking(modality, tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, reason in {
        "fifo.jpg": "not a regular file",
        "folder.jpg": "not a regular file",
        "missing.jpg": "no such file or directory",
    }.items():
        for read in (modality.read, modality.thumbnail):
            with pytest.raises(DecodeError) as caught:
                read(os.fsencode(tmp_path / name), 8)
            assert str(caught.value) == reason


def test_image_read_forbidden_file_reports_permission_denied(modality, file, monkeypatch):
    # Root may read everything, so the system's answer is simulated.
    path = file(b"", "x.jpg")

    def forbidden(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(DecodeError) as caught:
        modality.read(path, 0)
    assert str(caught.value) == "permission denied"


def test_image_read_disk_error_is_reported(modality, file, monkeypatch):
    path = file(encoded(Image.fromarray(scene()), "PNG"))

    def failing(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ImageFile.ImageFile, "load", failing)
    with pytest.raises(DecodeError) as caught:
        modality.read(path, 0)
    assert str(caught.value) == "input/output error"


def test_image_read_out_of_memory_is_reported(modality, file, monkeypatch):
    def failing(*_, **__):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", failing)
    with pytest.raises(DecodeError, match="not enough memory"):
        modality.read(file(encoded(Image.fromarray(scene()), "PNG")), 0)


@pytest.mark.parametrize("fault", [KeyError(3), TypeError("'NoneType' object is not iterable")])
def test_image_read_exception_in_decoder_is_reported_as_damage(modality, file, monkeypatch, fault):
    def failing(*_, **__):
        raise fault

    monkeypatch.setattr(ImageFile.ImageFile, "load", failing)
    with pytest.raises(DecodeError) as caught:
        modality.read(file(encoded(Image.fromarray(scene()), "PNG")), 0)
    assert str(caught.value) == "it is damaged or of an unsupported kind"


def test_image_read_png_text_bomb_raises_decode_error(refusal):
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))
    lines = (b"\0" + row.tobytes() for row in scene())
    reason = refusal(png(WIDTH, HEIGHT, 8, 2, lines, bomb))
    assert reason == "it holds more text than is safe to unpack"


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"]
)
def test_image_read_randomly_damaged_file_is_read_or_raises_decode_error(
    modality, tmp_path, file_format
):
    content = encoded(
        Image.fromarray(scene()), file_format, exif=exif_of(Orientation=6, DateTime="x").tobytes()
    )
    random = np.random.default_rng(len(content))
    path = tmp_path / "x"
    for _ in range(150):
        damaged = bytearray(content[: random.integers(1, 2 * len(content))])
        for place in random.integers(0, min(len(damaged), 600), 4):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            decoded = build(1_000_000).read(os.fsencode(path), 0)
        except DecodeError as error:
            assert_clean(str(error))
        else:
            assert decoded.pixels.ndim == 3


# Metadata


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_image_read_invalid_metadata_still_returns_pixels(read, file_format):
    image = Image.fromarray(scene())
    if file_format in ("HEIF", "AVIF", "TIFF"):
        exif = bytearray(exif_of(DateTime="2020:01:02 03:04:05", XPTitle=b"a\0\0\0").tobytes())
        exif[-20:] = b"\xff" * 20
    else:
        exif = b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(range(40))
    options = {} if file_format == "TIFF" else {"exif": bytes(exif)}
    decoded = read(encoded(image, file_format, **options))
    assert decoded.pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF", "MPO"])
def test_image_read_each_format_returns_date_and_description(read, file_format):
    exif = exif_of(DateTimeOriginal="2021:07:08 09:10:11", ImageDescription="a dog by the sea")
    picture = read(encoded(Image.fromarray(scene()), file_format, exif=exif.tobytes())).picture
    assert picture.taken_at == "2021-07-08T09:10:11"
    assert picture.texts == (Text("description", "a dog by the sea"),)
    assert picture.format == {"MPO": "JPEG"}.get(file_format, file_format)


def test_image_read_compressed_tiff_returns_date_and_description(read):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[306] = "a dog by the sea", "2021:07:08 09:10:11"
    content = encoded(Image.fromarray(scene()), "TIFF", tiffinfo=tags, compression="tiff_lzw")
    picture = read(content).picture
    assert picture.taken_at == "2021-07-08T09:10:11"
    assert picture.texts == (Text("description", "a dog by the sea"),)


class Tagged:
    """The part of a picture that `mmsearch.modalities._metadata` uses."""

    def __init__(self, tags, info=None):
        self.exif, self.info = exif_of(**tags), info or {}

    def getexif(self):
        return self.exif


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2024:02:29 23:59:59", "2024-02-29T23:59:59"),
        ("2024:02:29 23:59:59\0", "2024-02-29T23:59:59"),
        (b"2024:02:29 23:59:59", "2024-02-29T23:59:59"),
        ("2024:02:29 23:59:59+02:00", "2024-02-29T23:59:59"),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2023:02:29 10:00:00", None),
        ("2024-02-29", "2024-02-29T00:00:00"),
        ("yesterday", None),
        (b"\xff\xfe\xfd", None),
        ("", None),
        (5, None),
        ((1, "x", 700), None),
    ],
)
def test_taken_at_returns_valid_date_or_none(written, moment):
    assert _metadata.read_metadata(Tagged({"DateTimeOriginal": written})).taken_at == moment
    assert _metadata.read_metadata(Tagged({"DateTime": written})).taken_at == moment


def test_taken_at_prefers_original_date_over_modification_date():
    tags = {"DateTimeOriginal": "2001:01:01 00:00:00", "DateTime": "2002:02:02 00:00:00"}
    assert _metadata.read_metadata(Tagged(tags)).taken_at == "2001-01-01T00:00:00"
    tags["DateTimeOriginal"] = "0000:00:00 00:00:00"
    assert _metadata.read_metadata(Tagged(tags)).taken_at == "2002-02-02T00:00:00"


@pytest.mark.parametrize(
    ("tags", "info", "texts"),
    [
        ({}, {}, ()),
        ({"ImageDescription": "  a \n\tdog\x07 "}, {}, (Text("description", "a dog"),)),
        ({"ImageDescription": "a dog\0\0rest"}, {}, (Text("description", "a dog"),)),
        ({"ImageDescription": "日本の犬".encode()}, {}, (Text("description", "日本の犬"),)),
        ({"ImageDescription": "OLYMPUS DIGITAL CAMERA         "}, {}, ()),
        ({"ImageDescription": "   "}, {}, ()),
        ({"ImageDescription": "20240229_1"}, {}, ()),
        ({"XPTitle": "Ein Hund\0".encode("utf-16-le")}, {}, (Text("title", "Ein Hund"),)),
        ({"XPTitle": tuple("Hund".encode("utf-16-le"))}, {}, (Text("title", "Hund"),)),
        (
            {},
            {"Title": "a cat", "Description": "x"},
            (Text("description", "x"), Text("title", "a cat")),
        ),
        ({"ImageDescription": "a cat"}, {"Title": "a cat"}, (Text("description", "a cat"),)),
        ({"ImageDescription": 7}, {"Title": 8}, ()),
    ],
)
def test_metadata_texts_returns_cleaned_titles_and_descriptions(tags, info, texts):
    assert _metadata.read_metadata(Tagged(tags, info)).texts == texts


def test_metadata_texts_long_text_is_truncated():
    (text,) = _metadata.read_metadata(Tagged({"ImageDescription": "word " * 100_000})).texts
    assert len(text.text) <= MAX_TEXT_CHARS


@settings(deadline=None)
@given(st.text())
def test_to_single_line_any_text_is_printable_with_single_spaces(text):
    line = to_single_line(text)
    assert line.isprintable()
    assert line == " ".join(line.split())


def test_image_read_png_texts_before_and_after_pixels_are_returned(read):
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("Title", "ein Fluß")
    texts.add_text("Software", "a program")
    content = encoded(Image.fromarray(scene()), "PNG", pnginfo=texts)
    end = png_chunk(b"IEND", b"")
    late = png_chunk(b"tEXt", b"Description\0a river")
    picture = read(content.removesuffix(end) + late + end).picture
    assert picture.texts == (Text("description", "a river"), Text("title", "ein Fluß"))


# The modality itself


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_image_can_read_matches_suffix_case_insensitively(modality, suffix):
    assert modality.can_read(b"/a/b" + suffix)
    assert modality.can_read(b"\xff\n " + suffix.upper())
    assert not modality.can_read(b"/a" + suffix + b"/b")
    assert not modality.can_read(b"/a/b" + suffix + b".txt")
    assert not modality.can_read(b"/a/" + suffix[1:])


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (90, 50)])
def test_image_thumbnail_is_jpeg_of_at_most_requested_size(modality, file, width, height):
    for file_format in ("PNG", "JPEG"):
        path = file(encoded(Image.fromarray(scene(width, height)), file_format))
        with Image.open(io.BytesIO(modality.thumbnail(path, 100))) as small:
            assert small.format == "JPEG"
            assert max(small.size) == min(100, max(width, height))
            expected = scene(*small.size)
            assert_close(np.asarray(small), expected, LOSSY)


def test_image_thumbnail_of_non_picture_raises_decode_error(modality, file):
    with pytest.raises(DecodeError, match="not a picture"):
        modality.thumbnail(file(b"nonsense"), 100)


def test_image_modality_pickle_round_trip_returns_equal_object():
    copy = pickle.loads(pickle.dumps(build(123)))  # noqa: S301
    assert copy == build(123)


IMPORTS_SCRIPT = """
import sys
from mmsearch.modalities.image import build
assert not {"torch", "pillow_heif", "faiss", "sqlalchemy"} & set(sys.modules), "at import"
for path in sys.argv[1:]:
    build().read(path.encode(), 0)
print("pillow_heif" in sys.modules, "torch" in sys.modules)
"""


def test_image_read_imports_pillow_heif_only_for_heif_and_never_torch(file):
    def loaded(*file_formats):
        paths = [file(encoded(Image.fromarray(scene()), name), name) for name in file_formats]
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", IMPORTS_SCRIPT, *paths],
            capture_output=True,
            check=True,
            text=True,
        )
        return run.stdout.split()

    assert loaded("JPEG", "PNG", "WEBP", "TIFF", "AVIF") == ["False", "False"]
    assert loaded("HEIF") == ["True", "False"]
