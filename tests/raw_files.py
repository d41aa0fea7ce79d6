"""RAW files that tests write: DNG files that LibRaw reads, and others that it refuses."""

import io
import struct

import numpy as np
from PIL import Image

TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}
TYPE_LETTERS = {1: "B", 3: "H", 4: "I"}
WIDTH, HEIGHT = 640, 480


def scene(width=WIDTH, height=HEIGHT):
    """Return a picture with another colour in each corner."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=2).astype(np.uint8))


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()


def directory(entries, start):
    """Return a TIFF directory of ``(tag, type, values)`` and the values that do not fit into it."""
    entries = sorted(entries, key=lambda entry: entry[0])
    table, data = struct.pack("<H", len(entries)), b""
    for tag, kind, values in entries:
        if isinstance(values, bytes):
            packed = values
        elif kind in (5, 10):
            packed = b"".join(struct.pack("<II", *pair) for pair in values)
        else:
            packed = struct.pack(f"<{len(values)}{TYPE_LETTERS[kind]}", *values)
        field = packed.ljust(4, b"\0")
        if len(packed) > 4:
            field = struct.pack("<I", start + 6 + 12 * len(entries) + len(data))
            data += packed + bytes(len(packed) % 2)
        table += struct.pack("<HHI", tag, kind, len(packed) // TYPE_SIZES[kind]) + field
    return table + bytes(4) + data


def dng(preview=None, orientation=1):
    """Return a DNG of 640 x 480 with a JPEG preview, or with one of 80 x 60 pixels without JPEG."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    sensor = (2000 + 30000 * x).astype("<u2")
    sensor[0::2, 1::2] = (2000 + 20000 * y)[0::2, 1::2]
    if preview is None:
        width, height, packing, colours = 80, 60, 1, 2
        preview = bytes((200, 0, 0)) * (width * height)
    else:
        (width, height), packing, colours = Image.open(io.BytesIO(preview)).size, 7, 6
    camera_matrix = [(int(n % 4 == 0), 1) for n in range(9)]

    def main(sensor_at, exif_at, preview_at):
        return [
            *[(254, 4, [1]), (256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8])],
            *[(259, 3, [packing]), (262, 3, [colours]), (271, 2, b"TestCam\0"), (272, 2, b"One\0")],
            *[(273, 4, [preview_at]), (274, 3, [orientation]), (277, 3, [3]), (278, 4, [height])],
            *[(279, 4, [len(preview)]), (330, 4, [sensor_at]), (34665, 4, [exif_at])],
            *[(50706, 1, [1, 4, 0, 0]), (50707, 1, [1, 1, 0, 0]), (50708, 2, b"TestCam One\0")],
            *[(50721, 10, camera_matrix), (50728, 5, [(1, 1)] * 3), (50778, 3, [21])],
        ]

    def values(pixels_at):
        return [
            *[(254, 4, [0]), (256, 4, [WIDTH]), (257, 4, [HEIGHT]), (258, 3, [16]), (259, 3, [1])],
            *[(262, 3, [32803]), (273, 4, [pixels_at]), (277, 3, [1]), (278, 4, [HEIGHT])],
            *[(279, 4, [sensor.nbytes]), (33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2])],
            *[(50714, 4, [0]), (50717, 4, [65535])],
        ]

    exif_at = 8 + len(directory(main(0, 0, 0), 8))
    exif = directory([(36867, 2, b"2020:01:02 03:04:05\0")], exif_at)
    sensor_at = exif_at + len(exif)
    preview_at = sensor_at + len(directory(values(0), sensor_at))
    return (
        b"II*\0\x08\0\0\0"
        + directory(main(sensor_at, exif_at, preview_at), 8)
        + exif
        + directory(values(preview_at + len(preview)), sensor_at)
        + preview
        + sensor.tobytes()
    )


def unknown_raw(mark=b"II*\0", maker=b"NIKON CORPORATION\0", *, is_cr2=False):
    """Return a file that LibRaw refuses, with previews of 160 x 120 and of 1600 x 1200 pixels.

    The camera was held upright: the previews have to be turned by 90 degrees.
    """
    start = 16 if is_cr2 else 8

    def main(exif_at):
        return [
            *[(254, 4, [1]), (271, 2, maker), (272, 2, b"M1\0"), (274, 3, [6])],
            *[(306, 2, b"2019:05:06 07:08:09\0"), (34665, 4, [exif_at])],
        ]

    exif_at = start + len(directory(main(0), start))
    exif = directory([(36867, 2, b"2019:05:06 07:08:09\0")], exif_at)
    head = mark + struct.pack("<I", start) + b"CR\2\0\0\0\0\0" * is_cr2
    previews = [jpeg(scene(160, 120)), jpeg(scene(1600, 1200))]
    return head + directory(main(exif_at), start) + exif + b"junk".join(previews) + bytes(5000)
