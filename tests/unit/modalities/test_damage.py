"""Damaged pictures: what can be read is read, and how much is missing is said."""

import io
import os
import re
import struct
import zlib
from threading import Thread

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageFile

from mmsearch.core.errors import DecodeError
from mmsearch.modalities._pillow_globals import pillow_globals
from mmsearch.modalities.image import build

pillow_heif.register_heif_opener()

WIDTH, HEIGHT = 320, 240


def noise(mode="RGB", size=(WIDTH, HEIGHT)):
    """Return a picture whose bytes in a file are spread evenly over its rows."""
    values = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def encoded(image, file_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path):
    def read(content, edge_px=0):
        path = tmp_path / "picture"
        path.write_bytes(content)
        return build().read(os.fsencode(path), edge_px)

    return read


@pytest.fixture
def damage(read):
    """Function that returns the damage of a file, which must not depend on the size."""

    def damage(content):
        whole, reduced = read(content), read(content, 100)
        assert whole.picture == reduced.picture
        assert whole.pixels.shape == (HEIGHT, WIDTH, 3)
        assert (whole.picture.width, whole.picture.height) == (WIDTH, HEIGHT)
        return whole.picture.damage

    return damage


def percent(damage):
    found = re.fullmatch(r"the last (\d+)% (is|are) missing", damage)
    assert found, damage
    assert (found[2] == "is") == (found[1] == "1")
    return int(found[1])


CUT = {
    "baseline.jpg": ("RGB", "JPEG", {"quality": 90}),
    "full-colour.jpg": ("RGB", "JPEG", {"quality": 90, "subsampling": 0}),
    "restarts.jpg": ("RGB", "JPEG", {"quality": 90, "restart_marker_blocks": 7}),
    "restart-rows.jpg": ("RGB", "JPEG", {"quality": 90, "restart_marker_rows": 1}),
    "grey.jpg": ("L", "JPEG", {}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "colour.png": ("RGB", "PNG", {}),
    "palette.png": ("P", "PNG", {}),
    "transparent.png": ("RGBA", "PNG", {}),
    "16-bit.png": ("I;16", "PNG", {}),
    "one-bit.png": ("1", "PNG", {}),
    "plain.gif": ("L", "GIF", {"interlace": 0}),
    "interlaced.gif": ("P", "GIF", {"interlace": 1}),
    "bottom-up.bmp": ("RGB", "BMP", {}),
    "strips.tif": ("RGB", "TIFF", {}),
    "lossy.webp": ("RGB", "WEBP", {}),
    "lossless.webp": ("RGB", "WEBP", {"lossless": True}),
    "one.heic": ("RGB", "HEIF", {}),
    "colour.ppm": ("RGB", "PPM", {}),
}


@pytest.mark.parametrize("share", [0.04, 0.5])
@pytest.mark.parametrize("name", CUT)
def test_picture_cut_off_is_read_and_says_how_much_is_missing(damage, name, share):
    mode, file_format, options = CUT[name]
    content = encoded(noise(mode), file_format, **options)
    assert damage(content) is None
    assert percent(damage(content[: -int(share * len(content))])) == pytest.approx(
        100 * share, abs=4
    )


@pytest.mark.parametrize("name", CUT)
def test_picture_without_last_20_bytes_is_read_with_note(damage, name):
    mode, file_format, options = CUT[name]
    note = damage(encoded(noise(mode), file_format, **options)[:-20])
    assert note == "its end is missing" or percent(note) == 1


@pytest.mark.parametrize("name", ["baseline.jpg", "restarts.jpg", "grey.jpg", "cmyk.jpg"])
def test_jpeg_without_its_end_marker_is_read_whole(read, damage, name):
    mode, file_format, options = CUT[name]
    content = encoded(noise(mode), file_format, **options)
    assert damage(content[:-2]) == "its end is missing"
    np.testing.assert_array_equal(read(content[:-2]).pixels, read(content).pixels)


def test_cut_jpeg_keeps_rows_above_and_is_grey_below(read):
    content = encoded(noise(), "JPEG", quality=90)
    whole, cut = read(content).pixels, read(content[: len(content) // 2]).pixels
    np.testing.assert_array_equal(cut[:100], whole[:100])
    assert (cut[140:] == 128).all()


@pytest.mark.parametrize("name", ["baseline.jpg", "restarts.jpg", "grey.jpg", "cmyk.jpg"])
def test_jpeg_that_ends_in_zeros_says_how_much_is_missing(damage, name):
    mode, file_format, options = CUT[name]
    content = encoded(noise(mode), file_format, **options)
    half = len(content) // 2
    assert percent(damage(content[:half] + bytes(half))) == pytest.approx(50, abs=4)
    # What follows the end, such as the video of a motion photo, is not part of the picture.
    assert damage(content + b"video" + bytes(1000)) is None


def test_cut_jpeg_of_medium_grey_knows_what_is_missing(damage):
    content = encoded(Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 128)), "JPEG")
    start = content.index(b"\xff\xda")
    cut = content[: start + (len(content) - start) // 2]
    assert percent(damage(cut)) == pytest.approx(50, abs=5)


def test_cut_progressive_jpeg_is_read_with_note(damage):
    content = encoded(noise(), "JPEG", progressive=True)
    assert damage(content) is None
    for size in (len(content) - 2, len(content) * 2 // 3):
        assert damage(content[:size]) == "its end is missing, so it may lack detail"


def test_cut_avif_is_read_with_note(damage):
    content = encoded(noise(), "AVIF")
    assert percent(damage(content[: len(content) // 2])) == pytest.approx(50, abs=6)


def test_tiff_keeps_the_compressed_strips_that_are_there(damage, read):
    rows = [noise().crop((0, top, WIDTH, top + 60)).tobytes() for top in range(0, HEIGHT, 60)]
    strips = [zlib.compress(row) for row in rows]
    data_at = 8 + 2 + 12 * 9 + 4 + 6 + 32
    offsets = [data_at + sum(map(len, strips[:n])) for n in range(4)]
    long, short = 4, 3
    tags = [(256, long, 1, WIDTH), (257, long, 1, HEIGHT), (258, short, 3, data_at - 38)]
    tags += [(259, short, 1, 8), (262, short, 1, 2), (273, long, 4, data_at - 32)]
    tags += [(277, short, 1, 3), (278, long, 1, 60), (279, long, 4, data_at - 16)]
    directory = struct.pack("<H", 9) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0\x08\0\0\0" + directory + bytes(4) + struct.pack("<3H", 8, 8, 8)
    head += struct.pack("<4I", *offsets) + struct.pack("<4I", *map(len, strips))
    content = head + b"".join(strips)
    assert damage(content) is None
    cut = content[: offsets[3] + 50]
    assert percent(damage(cut)) == 25
    np.testing.assert_array_equal(read(cut).pixels[:180], np.asarray(noise())[:180])


def animation(file_format):
    frames = [noise(), *(noise().transpose(Image.Transpose(way)) for way in (0, 1))]
    return encoded(frames[0], file_format, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_animation_cut_after_its_first_frame_is_read_whole(read, damage, file_format):
    content = animation(file_format)
    assert damage(content) is None
    cut = content[: len(content) * 2 // 3]
    assert damage(cut) == "its end is missing"
    np.testing.assert_array_equal(read(cut).pixels, read(content).pixels)
    assert percent(damage(content[: len(content) // 6])) == pytest.approx(50, abs=4)


def test_webp_cut_in_its_metadata_is_read_whole(read, damage):
    content = encoded(noise(), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + bytes(500))
    assert damage(content[:-100]) == "its end is missing"
    np.testing.assert_array_equal(read(content[:-100]).pixels, read(content).pixels)


def test_large_picture_cut_off_is_compared_in_part(read):
    content = encoded(noise("L", (3200, 3000)), "PNG", compress_level=1)
    assert percent(read(content[: len(content) * 3 // 4]).picture.damage) == 25


# --- PNG checksums ---


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


SIDE_CHUNKS = {
    b"tEXt": b"Title\0a dog",
    b"zTXt": b"Title\0\0" + zlib.compress(b"a dog"),
    b"iTXt": b"Title\0\0\0\0\0a dog",
    b"tIME": b"\x07\xe4\1\2\3\4\5",
    b"pHYs": b"\0\0\x0b\x13\0\0\x0b\x13\1",
    b"gAMA": b"\0\0\xb1\x8f",
    b"eXIf": b"MM\0*\0\0\0\x08\0\0\0\0\0\0",
    b"sBIT": b"\x08\x08\x08",
}


@pytest.mark.parametrize("after_pixels", [False, True])
@pytest.mark.parametrize("kind", SIDE_CHUNKS)
def test_png_with_wrong_checksum_in_side_chunk_is_read_whole(read, damage, kind, after_pixels):
    content = encoded(noise(), "PNG")
    side = bytearray(chunk(kind, SIDE_CHUNKS[kind]))
    place = len(content) - 12 if after_pixels else 33
    assert damage(content[:place] + side + content[place:]) is None
    side[-1] ^= 1
    broken = content[:place] + side + content[place:]
    assert damage(broken) == f"the checksum of its {kind.decode()} chunk is wrong"
    np.testing.assert_array_equal(read(broken).pixels, np.asarray(noise()))


def test_png_with_wrong_pixel_checksum_is_read_with_note(read, damage):
    content = bytearray(encoded(noise(), "PNG"))
    content[-13] ^= 1
    assert damage(bytes(content)) == "a pixel checksum is wrong"
    np.testing.assert_array_equal(read(bytes(content)).pixels, np.asarray(noise()))


def test_png_with_wrong_checksum_of_its_deflate_stream_is_read_with_note(damage):
    content = encoded(noise(), "PNG")
    packed = bytearray(
        zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(noise())))
    )
    packed[-1] ^= 1
    start = content.index(b"IDAT") - 4
    whole = content[:start] + chunk(b"IDAT", bytes(packed)) + chunk(b"IEND", b"")
    assert percent(damage(whole)) == 1


def test_png_with_broken_pixel_data_is_read_up_to_there(damage):
    content = bytearray(encoded(noise(), "PNG", compress_level=9))
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    assert percent(damage(bytes(content))) <= 52


# --- threads ---


def test_tolerance_holds_only_in_the_thread_that_repairs(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    seen = []

    def look():
        seen.append(bool(ImageFile.LOAD_TRUNCATED_IMAGES))
        with pillow_globals:
            seen.append(bool(ImageFile.LOAD_TRUNCATED_IMAGES))

    with pillow_globals:
        assert not ImageFile.LOAD_TRUNCATED_IMAGES
        with pillow_globals.tolerating_damage():
            assert ImageFile.LOAD_TRUNCATED_IMAGES
            thread = Thread(target=look)
            thread.start()
            thread.join()
        assert not ImageFile.LOAD_TRUNCATED_IMAGES
    # The setting of the program outside of a decoder, and False inside of one.
    assert seen == [True, False]
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


# --- memory ---


def test_chessboard_png_of_54_mb_is_read(tmp_path):
    # 18 megapixels that are packed to a thousandth of their size.
    board = np.kron(np.indices((20, 20)).sum(axis=0) % 2, np.ones((212, 212))).astype(np.uint8)
    content = encoded(Image.fromarray(np.repeat(board[:, :, None] * 255, 3, axis=2)), "PNG")
    assert len(content) < 250_000
    path = tmp_path / "board.png"
    path.write_bytes(content)
    decoded = build().read(os.fsencode(path), 224)
    assert decoded.picture.damage is None
    assert decoded.pixels.nbytes > 53_900_000
    assert decoded.pixels[::212, ::212, 0].mean() == 127.5


@pytest.mark.parametrize(
    ("mode", "width", "refused"),
    [("RGB", 99, False), ("RGBA", 59, False), ("RGBA", 61, True), ("I;16", 61, True)],
)
def test_picture_that_needs_too_much_memory_is_refused(tmp_path, mode, width, refused):
    path = tmp_path / "picture.png"
    Image.new(mode, (width, 10)).save(path)
    limited = build(max_pixels=1000)
    if not refused:
        assert limited.read(os.fsencode(path), 0).picture.width == width
        return
    with pytest.raises(DecodeError, match=r"needs 0 MB of memory to decode.*max_pixels"):
        limited.read(os.fsencode(path), 0)
