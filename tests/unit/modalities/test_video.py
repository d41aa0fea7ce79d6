"""Films: their shots and moments, what they say about themselves, and what is wrong with them."""

import io
import os
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.core.types import Text
from mmsearch.modalities import video
from mmsearch.modalities._video import shots
from tests import films

av = pytest.importorskip("av")

SIZE = (320, 180)
RED, GREEN, BLUE, BLACK = (200, 30, 30), (30, 180, 40), (40, 60, 210), (0, 0, 0)


@pytest.fixture
def write(tmp_path):
    """Function that writes a film of pictures and returns its path."""

    def run(pictures, name="film.mp4", **options):
        path = tmp_path / name
        films.write_film(path, pictures, **options)
        return os.fsencode(path)

    return run


@pytest.fixture(scope="module")
def pictures(photos):
    return sorted((photos / "photos").glob("*.jpg"))


def read(path, edge_px=0, **options):
    return list(video.build().items(path, edge_px, **options))


def seconds(items):
    return [(item.locator.start_ms / 1000, item.locator.end_ms / 1000) for item in items]


def shown(item):
    """Return the mean colour of a moment."""
    return item.pixels.reshape(-1, 3).mean(axis=0)


def looks_like(item, colour, tolerance=12):
    return np.abs(shown(item) - colour).max() <= tolerance


def difference(pixels, path):
    small = (32, 18)
    expected = np.asarray(Image.open(path).convert("RGB").resize(SIZE).resize(small), int)
    return np.abs(np.asarray(Image.fromarray(pixels).resize(small), int) - expected).mean()


# --- shots ---


def test_each_of_twenty_cuts_begins_a_moment_with_its_picture(write, pictures):
    items = read(write(pictures[:20]))
    assert seconds(items) == [(6 * n, 6 * n + 6) for n in range(20)]
    assert [item.locator.part for item in items] == list(range(20))
    for item, path in zip(items, pictures, strict=False):
        assert difference(item.pixels, path) < 6, item.locator


@pytest.mark.parametrize(("seconds_each", "fade_s"), [(6, 1), (5.5, 1), (4.3, 1), (5, 0.5)])
def test_each_cross_fade_begins_one_moment(write, pictures, seconds_each, fade_s):
    items = read(write(pictures[:10], seconds=seconds_each, fade_s=fade_s))
    assert len(items) == 10
    for number, (item, path) in enumerate(zip(items, pictures, strict=False)):
        assert abs(item.locator.start_ms / 1000 - number * seconds_each) <= 1
        assert difference(item.pixels, path) < 6, item.locator


def test_slow_pan_is_one_shot_with_a_moment_every_ten_seconds(tmp_path, pictures):
    picture = np.asarray(Image.open(pictures[3]).convert("RGB").resize((960, 180)))
    views = [picture[:, n : n + 320] for n in range(0, 600, 2)]
    films.write_frames(tmp_path / "pan.mp4", views)
    items = read(os.fsencode(tmp_path / "pan.mp4"))
    assert seconds(items) == [(0, 10), (10, 20), (20, 30)]


@pytest.mark.parametrize(("length", "expected"), [(3, 1), (14, 1), (16, 2), (26, 3), (55, 6)])
def test_long_shot_has_a_moment_about_every_ten_seconds(length, expected):
    frames = np.full((length, shots.SMALL_HEIGHT, shots.SMALL_WIDTH, 3), 90, np.uint8)
    spans = shots.find_spans(frames)
    assert len(spans) == expected
    assert (spans[0].start, spans[-1].end) == (0, length)
    assert all(a.end == b.start for a, b in pairwise(spans))
    assert all(span.start <= span.middle < span.end for span in spans)


def test_fast_cuts_are_not_taken_for_a_fade():
    colours = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 0], [0, 200, 200]])
    frames = np.broadcast_to(
        colours[:, None, None].astype(np.uint8), (5, shots.SMALL_HEIGHT, shots.SMALL_WIDTH, 3)
    )
    assert [(span.start, span.end) for span in shots.find_spans(frames)] == [
        (n, n + 1) for n in range(5)
    ]


def test_moment_shows_a_frame_that_is_not_black(write):
    items = read(write([BLACK, RED, BLACK, GREEN, BLACK], seconds=3))
    assert seconds(items) == [(3, 6), (9, 12)]
    assert looks_like(items[0], RED)
    assert looks_like(items[1], GREEN)


def test_black_film_has_one_black_moment(write):
    items = read(write([BLACK], seconds=25))
    assert len(items) == 1
    assert items[0].pixels.max() <= shots.BLACK


# --- times ---


def test_times_are_those_of_the_clock_of_the_container(write, tmp_path):
    path = os.fsdecode(write([RED, BLUE], seconds=4))
    moved = tmp_path / "moved.mkv"
    with av.open(path) as source, av.open(str(moved), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts += round(7.5 / packet.time_base)
                packet.dts += round(7.5 / packet.time_base)
                packet.stream = stream
                target.mux(packet)
    items = read(os.fsencode(moved))
    assert seconds(items) == [(7.5, 11.5), (11.5, pytest.approx(15.5, abs=0.01))]
    small = video.build().thumbnail(os.fsencode(moved), 64, "PNG", items[1].locator)
    assert np.asarray(Image.open(io.BytesIO(small)))[..., 2].mean() > 150


def test_variable_rate_is_read_by_times(tmp_path):
    """Frames come at a tenth of the rate in the second half."""
    times = [n / 20 for n in range(100)] + [5 + n / 2 for n in range(10)]
    colours = [RED] * 60 + [GREEN] * 40 + [BLUE] * 10
    frames = [films.picture(colour, SIZE) for colour in colours]
    films.write_frames(tmp_path / "variable.mkv", frames, fps=20, times=times)
    items = read(os.fsencode(tmp_path / "variable.mkv"))
    assert [start for start, _ in seconds(items)] == [0, 3, 5]
    assert all(map(looks_like, items, [RED, GREEN, BLUE]))


def test_picture_that_stands_for_a_minute_lasts_until_the_next(tmp_path):
    frames = [films.picture(colour, SIZE) for colour in (RED, GREEN, BLUE)]
    films.write_frames(tmp_path / "slides.mkv", frames, times=[0, 40, 75])
    items = read(os.fsencode(tmp_path / "slides.mkv"))
    assert [start for start, _ in seconds(items)] == [0, 40, 75]
    assert seconds(items)[0][1] == 40


@pytest.mark.parametrize("gop", [1, 5, 10, 25, 600])
@pytest.mark.parametrize(("bframes", "fps"), [(0, 10), (3, 10), (0, 25), (3, 25), (14, 25)])
def test_moments_do_not_depend_on_key_frames(write, pictures, gop, bframes, fps):
    encoder = {"g": str(gop), "bf": str(bframes), "sc_threshold": "0"}
    items = read(write(pictures[:6], seconds=3.4, encoder=encoder, fps=fps))
    assert len(items) == 6
    for number, (item, path) in enumerate(zip(items, pictures, strict=False)):
        assert 0 <= item.locator.start_ms / 1000 - 3.4 * number <= 1
        assert difference(item.pixels, path) < 6


# --- units ---


@pytest.fixture
def long_film(write, pictures):
    """A film of four minutes, in which the last second of each minute has a cut."""
    return write(pictures[:40], seconds=5.9, size=(96, 54), name="long.mkv")


def as_values(items):
    return [(item.locator, item.picture, item.pixels.tobytes()) for item in items]


def test_reading_goes_on_at_any_moment(long_film):
    items = as_values(read(long_film, 48))
    assert len(items) >= 40
    for part in (0, 1, 9, 10, 11, 25, len(items) - 1):
        known = items[part][0]
        assert as_values(read(long_film, 48, first_part=part, known=known)) == items[part:]
        assert as_values(read(long_film, 48, first_part=part + 1, known=known)) == items[part + 1 :]
    assert as_values(read(long_film, 48, first_part=30, known=items[3][0])) == items[30:]
    assert as_values(read(long_film, 48, first_part=30)) == items[30:]


def test_reading_that_goes_on_does_not_begin_at_the_start(long_film, monkeypatch):
    known = read(long_film, 48)[-1].locator
    times = []
    find = video._Reading._find_moments
    monkeypatch.setattr(
        video._Reading,
        "_find_moments",
        lambda reading, frames, *rest, **options: (
            times.extend(frame.time_s for frame in frames),
            find(reading, frames, *rest, **options),
        )[1],
    )
    read(long_film, 48, first_part=known.part, known=known)
    assert min(times) >= 180


def test_long_film_is_read_by_key_frames_after_its_first_part(long_film, monkeypatch):
    monkeypatch.setattr(video, "FULL_S", 120)
    items = read(long_film, 48)
    assert items[0].picture.damage == "only the first 2 minutes are searched for shots"
    assert all(item.picture.damage is None for item in items[1:])
    late = [span for span in seconds(items) if span[0] >= 120]
    assert late == [(start, min(start + 10, 236.0)) for start in range(120, 236, 10)]
    known = items[-3].locator
    assert as_values(read(long_film, 48, first_part=known.part, known=known)) == as_values(
        items[-3:]
    )


def test_film_of_many_shots_keeps_its_longest(long_film, monkeypatch):
    from mmsearch.modalities._video import film

    monkeypatch.setattr(film, "MAX_MOMENTS", 20)
    items = read(long_film, 48)
    assert len(items) <= 20
    assert items[-1].locator.start_ms > 180_000
    assert "short shots are left out" in items[0].picture.damage


# --- pictures ---


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_turned_film_is_shown_upright(write, degrees):
    scene = np.zeros((180, 320, 3), np.uint8)
    scene[:60, :, 0] = 220
    scene[:, 220:, 2] = 220

    path = write(
        [scene],
        seconds=2,
        prepare=lambda stream: stream.set_display_rotation(degrees),
    )
    (item,) = read(path)
    upright = np.rot90(scene, degrees // 90)
    assert item.pixels.shape == upright.shape
    assert (item.picture.width, item.picture.height) == upright.shape[1::-1]
    assert np.abs(item.pixels.astype(int) - upright).mean() < 12
    small = video.build().thumbnail(path, 5000, "PNG", item.locator)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(small))), item.pixels)


def test_pixels_that_are_not_square_are_shown_as_such(write):
    def widen(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2)

    (item,) = read(write([RED], seconds=2, prepare=widen))
    assert (item.picture.width, item.picture.height) == (640, 180)
    assert item.pixels.shape == (180, 640, 3)


@pytest.mark.parametrize("height", [180, 720])
def test_colours_are_those_that_were_filmed(write, height):
    """Without a note, small films have the colours of television, large ones those of HD."""
    size = (height * 16 // 9, height)

    def mark(stream):
        stream.codec_context.color_primaries = 1

    (item,) = read(write([(200, 60, 30)], seconds=1, size=size, prepare=mark), 100)
    assert looks_like(item, (200, 60, 30), tolerance=25)


# --- subtitles ---


LINES = [
    (1, 3, r"A {\i1}fire{\i0} exit\Nin the wall"),
    (13.5, 15, "Am Abend, im Hafen"),
    (20, 21, "…"),
]


@pytest.mark.parametrize(
    ("codec", "suffix"), [("mov_text", "mp4"), ("subrip", "mkv"), ("ass", "mkv"), ("webvtt", "mkv")]
)
def test_lines_of_a_track_belong_to_the_moments_that_hold_them(write, tmp_path, codec, suffix):
    path = os.fsdecode(write([RED, GREEN, BLUE]))
    films.add_lines(path, tmp_path / f"lines.{suffix}", LINES, codec, "ger")
    items = read(os.fsencode(tmp_path / f"lines.{suffix}"))
    assert [item.picture.damage for item in items] == [None] * 3
    first = Text("subtitle", "A fire exit in the wall", "de", "subtitles", None, None, 1000, 3000)
    second = Text("subtitle", "Am Abend, im Hafen", "de", "subtitles", None, None, 13500, 15000)
    assert [item.picture.texts for item in items] == [(first,), (), (second,)]


def test_every_line_of_a_long_film_is_read_once(long_film, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "FULL_S", 120)
    lines = [(second, second + 1, f"line {second}") for second in range(0, 236, 3)]
    films.add_lines(os.fsdecode(long_film), tmp_path / "lines.mkv", lines, "subrip")
    path = os.fsencode(tmp_path / "lines.mkv")
    items = read(path, 48)
    said = [text for item in items for text in item.picture.texts]
    assert [(text.start_ms / 1000, text.text) for text in said] == [
        (start, words) for start, _, words in lines
    ]
    for item in items:
        for text in item.picture.texts:
            assert item.locator.start_ms <= text.start_ms < item.locator.end_ms
    for part in (7, 20, 30):
        known = items[part].locator
        assert as_values(read(path, 48, first_part=part, known=known)) == as_values(items[part:])


def test_lines_in_the_dark_belong_to_the_nearest_moment(write, tmp_path):
    path = os.fsdecode(write([BLACK, RED, BLACK, GREEN, BLACK], seconds=3))
    lines = [
        (0, 1, "before"),
        (6.5, 7, "near red"),
        (8.5, 9, "near green"),
        (14, 15, "end"),
    ]
    films.add_lines(path, tmp_path / "lines.mp4", lines)
    items = read(os.fsencode(tmp_path / "lines.mp4"))
    assert [[text.text for text in item.picture.texts] for item in items] == [
        ["before", "near red"],
        ["near green", "end"],
    ]


# --- a high dynamic range ---

WHITE_NITS = 203
"""Luminance of white in HDR (ITU-R BT.2408)."""

BT2020_OF_BT709 = np.array(
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)


def to_pq(nits):
    """Return the signal of a luminance (SMPTE ST 2084)."""
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def to_hlg(light):
    """Return the signal of scene light (ITU-R BT.2100)."""
    high = 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073
    return np.where(light <= 1 / 12, np.sqrt(3 * light), high)


def write_high_range(path, colour, transfer):
    """Write a film of one sRGB colour in BT.2020 with 10 bits."""
    light = BT2020_OF_BT709 @ (np.array(colour) / 255) ** 2.2
    red, green, blue = to_pq(light * WHITE_NITS) if transfer == 16 else to_hlg(light * 0.265)
    luma = 0.2627 * red + 0.678 * green + 0.0593 * blue
    chroma = (blue - luma) / 1.8814, (red - luma) / 1.4746
    levels = 64 + 876 * luma, 512 + 896 * chroma[0], 512 + 896 * chroma[1]
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("libx265", rate=5)
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p10le"
        name = {16: "smpte2084", 18: "arib-std-b67"}[transfer]
        colours = f"colorprim=bt2020:transfer={name}:colormatrix=bt2020nc"
        stream.options = {"x265-params": f"log-level=none:{colours}", "preset": "ultrafast"}
        for number in range(5):
            frame = av.VideoFrame(128, 72, "yuv420p10le")
            for plane, level in zip(frame.planes, levels, strict=True):
                plane.update(np.full(plane.buffer_size // 2, round(level), "<u2").tobytes())
            frame.colorspace, frame.color_primaries, frame.color_trc = 9, 9, transfer
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("colour", [(200, 60, 30), (40, 60, 210), (30, 180, 40), (128, 128, 128)])
@pytest.mark.parametrize(("transfer", "tolerance"), [(16, 20), (18, 40)])
def test_high_range_is_shown_in_the_colours_of_screens(tmp_path, colour, transfer, tolerance):
    write_high_range(tmp_path / "high.mp4", colour, transfer)
    (item,) = read(os.fsencode(tmp_path / "high.mp4"))
    assert looks_like(item, colour, tolerance)


# --- files that are no films, and a package that is missing ---


def test_without_its_package_a_film_fails_with_the_name_of_the_extra(write, monkeypatch):
    path = write([RED], seconds=1)
    monkeypatch.setattr(video.VideoModality, "package", "av_that_is_missing")
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "mmsearch.modalities._video.film")
    modality = video.build()
    assert modality.missing_extra == "video"
    for attempt in (lambda: list(modality.items(path, 64)), lambda: modality.thumbnail(path, 64)):
        with pytest.raises(DecodeError, match=r"pip install '\.\[video\]'"):
            attempt()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\0\0\0\x20ftypisom\0\0\2\0", True),
        (b"\0\0\0\x14ftypqt  \0\0\2\0", True),
        (b"\0\0\0\x18ftypheic\0\0\0\0", False),
        (b"\0\0\0\x18ftypavif\0\0\0\0", False),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", False),
        (b"\0\0\0\x18ftypM4A \0\0\0\0", False),
        (b"\0\0\1\xba" + bytes(60), True),
        (b"G@\x11\x10\0B\xf0" + bytes(57), True),
        (b"RIFF\0\0\0\0WAVEfmt ", False),
        (b"RIFF\0\0\0\0WEBPVP8 ", False),
        (b"RIFF\0\0\0\0AVI LIST", True),
        (b"Good morning to you all, this is a text of some length. " * 2, False),
    ],
)
def test_films_are_known_by_their_first_bytes(head, expected):
    assert video.build().recognizes(head) is expected


def test_facts_come_from_the_container(write):
    metadata = {
        "title": "Regatta",
        "comment": "Sailing boats in the harbour",
        "creation_time": "2020-01-31T12:00:00.000000Z",
        "location": "-33.8568+151.2153/",
    }
    item = read(
        write([RED], seconds=1, metadata=metadata, muxer={"movflags": "use_metadata_tags"})
    )[0]
    picture = item.picture
    assert [(text.kind, text.text) for text in picture.texts] == [
        ("title", "Regatta"),
        ("description", "Sailing boats in the harbour"),
    ]
    assert (picture.latitude, picture.longitude) == (-33.8568, 151.2153)
    assert (picture.taken_at[:10], picture.taken_from) == ("2020-01-31", "video")


@pytest.mark.parametrize("time", ["1904-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "soon", ""])
def test_clock_that_was_not_set_is_no_date(write, time):
    metadata = {"creation_time": time}
    path = write([RED], "film.mkv", seconds=1, metadata=metadata)
    assert read(path)[0].picture.taken_at is None
