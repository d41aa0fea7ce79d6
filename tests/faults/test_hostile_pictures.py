"""Untrusted pictures: mutants, decompression bombs, and files that broke decoders before."""

import io
import json
import random
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pillow_heif
import pillow_jxl  # noqa: F401 - registers the format
import pytest
from PIL import Image

from mmsearch.core.results import TaskFailure
from mmsearch.executors import processes
from mmsearch.modalities import image, jxl, raw, svg
from tests import raw_files
from tests.faults.hostile_files import Sizes, decoding

pillow_heif.register_heif_opener()

MUTANTS = 2000
LIMIT_S = 30.0
DRAWING = b"""<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100"><defs>
<linearGradient id="g"><stop offset="0" stop-color="red"/></linearGradient></defs>
<circle cx="100" cy="50" r="40" fill="url(#g)"/><text x="3" y="9">hi</text></svg>"""
BROKEN = Path(__file__).parents[1] / ".broken_images"


@pytest.fixture(scope="module")
def decode():
    """Function that decodes files in worker processes and returns the outcome of each path."""
    modalities = (image.build(), jxl.build(), raw.build(), svg.build())
    with decoding(modalities, Sizes(260), LIMIT_S, 4096) as run:
        yield run


def mutate(content, rng):
    """Break a file in a random way: flips, cuts, pieces doubled, dropped or zeroed."""
    content = bytearray(content)
    kind = rng.choice(["flip", "cut", "zero", "double", "drop", "length"])
    at = rng.randrange(len(content))
    if kind == "flip":
        for _ in range(rng.choice([1, 3, 30])):
            # Decoders decide by headers.
            place = rng.randrange(min(len(content), rng.choice([64, 1024, len(content)])))
            content[place] = rng.randrange(256)
    elif kind == "cut":
        del content[at:]
    elif kind == "zero":
        content[at : at + 200] = bytes(len(content[at : at + 200]))
    elif kind == "double":
        content[at:at] = content[at : at + 500]
    elif kind == "drop":
        del content[at : at + rng.choice([1, 17, 300])]
    else:
        content[at : at + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\0"])
    return bytes(content)


def written(picture, file_format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def mutants(photos, folder, count):
    rng = random.Random(20)
    chosen = sorted(photos.rglob("*.jpg"))[:20]
    formats = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "TIFF": "tif",
               "BMP": "bmp", "AVIF": "avif", "HEIF": "heic", "JPEG2000": "jp2", "PPM": "ppm",
               "JXL": "jxl"}  # fmt: skip
    originals = []
    for path in chosen:
        originals.append((path.read_bytes(), "jpg"))
        small = Image.open(path).convert("RGB")
        small.thumbnail((96, 96))
        originals += [(written(small, name), suffix) for name, suffix in formats.items()]
        originals += [(raw_files.dng(written(small, "JPEG")), "dng"), (raw_files.dng(), "dng")]
        originals += [(raw_files.unknown_raw(), "nef"), (DRAWING, "svg")]
    for number in range(count):
        content, suffix = rng.choice(originals)
        path = folder / f"{number:04d}.{suffix}"
        path.write_bytes(mutate(content, rng))
        yield path


def refuse_unclear(outcomes):
    """Assert that every refusal has a readable reason and crashed no worker."""
    for path, outcome in outcomes.items():
        if isinstance(outcome, TaskFailure):
            assert not outcome.crashed, (path, outcome)
            assert 5 < len(outcome.reason) < 300, (path, outcome)
            assert outcome.reason.isprintable(), (path, outcome)
            assert "Error" not in outcome.reason, (path, outcome)


def test_decoder_mutated_pictures_are_read_or_refused_with_reason(photos, tmp_path, decode):
    outcomes = decode(list(mutants(photos, tmp_path, MUTANTS)))
    assert len(outcomes) == MUTANTS
    refuse_unclear(outcomes)
    refused = sum(isinstance(outcome, TaskFailure) for outcome in outcomes.values())
    assert 200 < refused < 1800


@pytest.mark.skipif(not any(BROKEN.glob("*-*")), reason="scripts/fetch_broken_images was not run")
def test_decoder_known_bad_pictures_are_read_or_refused_with_reason(decode):
    paths = sorted(path for path in BROKEN.iterdir() if path.is_file())
    assert len(paths) > 800
    outcomes = decode(paths)
    assert len(outcomes) == len(paths)
    refuse_unclear(outcomes)
    read = sum(not isinstance(outcome, TaskFailure) for outcome in outcomes.values())
    assert read > 500


# --- bombs ---


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width, height, *chunks, bits=8, colour=2, rows=True):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = b""
    if rows:
        packer = zlib.compressobj(9)
        row = bytes(1 + width * {0: 1, 2: 3, 6: 4}[colour] * bits // 8)
        body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def small_jpeg(**options):
    return written(Image.new("RGB", (64, 64), "red"), "JPEG", **options)


def entities():
    lines = ['<!ENTITY a0 "lol">']
    lines += [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)]
    return f"<!DOCTYPE x [{''.join(lines)}]><x:xmpmeta xmlns:x='adobe:ns:meta/'>&a9;</x:xmpmeta>"


def xmp_jpeg(packet):
    body = b"http://ns.adobe.com/xap/1.0/\0" + packet
    whole = small_jpeg()
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + whole[2:]


def gif_of_many_frames():
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * 500_000 + b"\x3b"


def apng_of_many_frames():
    frames = [Image.new("RGB", (500, 500), (n % 256, 0, 0)) for n in range(200)]
    return written(frames[0], "PNG", save_all=True, append_images=frames[1:])


def tiff_with_a_huge_tag():
    picture = written(Image.new("RGB", (8, 8)), "TIFF")
    where = struct.unpack("<I", picture[4:8])[0]
    count = struct.unpack("<H", picture[where : where + 2])[0]
    entry = struct.pack("<HHII", 34675, 7, 2_000_000_000, 8)
    entries = picture[where + 2 : where + 2 + 12 * count] + entry
    return picture[:where] + struct.pack("<H", count + 1) + entries + b"\0\0\0\0" + picture[where:]


BOMBS = {
    "pixels.png": lambda: png(17_400, 17_400),
    "deep.png": lambda: png(12_000, 12_000, bits=16, colour=0),
    "transparent.png": lambda: png(14_000, 14_000, colour=6),
    "more_pixels.png": lambda: png(100_000, 100_000, rows=False),
    "most_pixels.png": lambda: png(2**31 - 1, 2**31 - 1, rows=False),
    "one_bit.png": lambda: png(30_000, 30_000, bits=1, colour=0, rows=False),
    "pixels.webp": lambda: written(
        Image.new("RGBA", (14_000, 14_000)), "WEBP", lossless=True, method=0
    ),
    "pixels.gif": lambda: written(Image.new("L", (17_400, 17_400)), "GIF"),
    "pixels.tif": lambda: written(
        Image.new("1", (17_400, 17_400)), "TIFF", compression="tiff_adobe_deflate"
    ),
    "screen.gif": lambda: b"GIF89a\xff\xff\xff\xff" + gif_of_many_frames()[10:100],
    "text.png": lambda: png(9, 9, chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(200_000_000)))),
    "profile.png": lambda: png(9, 9, chunk(b"iCCP", b"c\0\0" + zlib.compress(bytes(200_000_000)))),
    "itxt.png": lambda: png(
        9, 9, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(200_000_000)))
    ),
    "frames.gif": gif_of_many_frames,
    "frames.png": apng_of_many_frames,
    "tag.tif": tiff_with_a_huge_tag,
    "entities.jpg": lambda: xmp_jpeg(entities().encode()),
    "nested.jpg": lambda: xmp_jpeg(b"<a>" * 20_000),
}
MEASURE = """
import json, os, sys
from mmsearch.modalities import image
from mmsearch.core.errors import DecodeError
def peak():
    # Not getrusage: its peak is at least that of the process that started this one.
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
reader = image.build()
reader.read(os.fsencode(sys.argv[1]), 260)
before = peak()
try:
    reader.read(os.fsencode(sys.argv[2]), 260)
    reason = None
except DecodeError as error:
    reason = str(error)
print(json.dumps([peak() - before, reason]))
"""
READ = {"frames.gif", "frames.png", "entities.jpg", "nested.jpg"}
"""Files with a small, sound picture, which is read; the rest of the file is ignored."""


@pytest.mark.parametrize("name", BOMBS)
def test_decoder_decompression_bomb_uses_bounded_memory_and_time(name, photos, tmp_path):
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    harmless = min(photos.rglob("*.jpg"))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, harmless, path],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    grown_kb, reason = json.loads(done.stdout)
    assert grown_kb < 200_000, (grown_kb, reason)
    if name not in READ:
        assert reason, "it was read"
    assert time.monotonic() - began < 60


# --- workers ---


class Greedy:
    def __call__(self, task):
        return len(bytearray(task)) if task else 0


def make_greedy():
    return Greedy()


def test_executor_task_over_memory_limit_fails_alone():
    executor = processes.build(2, 60.0, 500)
    try:
        tasks = [1000, 3_000_000_000, 2000, 9_000_000_000, 3000]
        outcomes = dict(executor.run(make_greedy, tasks))
    finally:
        executor.close()
    assert [outcomes[n] for n in (1000, 2000, 3000)] == [1000, 2000, 3000]
    for greedy in (3_000_000_000, 9_000_000_000):
        assert outcomes[greedy] == TaskFailure("decoding took more than 500 MB of memory")


def test_index_with_bomb_skips_it_with_reason_and_continues(photos, tmp_path, mmsearch):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(min(photos.rglob("*.jpg")).read_bytes())
    (folder / "bomb.png").write_bytes(png(12_000, 12_000, bits=16, colour=0))
    done = mmsearch("index", folder, "--home", tmp_path, "--model", "starter", code=3)
    assert "1 added" in done.out
    assert "MB of memory to decode, over the limit of 3,600" in done.err
