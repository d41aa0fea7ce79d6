"""Untrusted films: mutants, playlists that name other files, damage, and headers that lie."""

import os
import random
import socket
import struct
import wave

import numpy as np
import pytest
from PIL import Image

from mmsearch.core.results import TaskFailure
from mmsearch.modalities import image, video
from tests import films
from tests.faults.hostile_files import Sizes, decoding, mutate

av = pytest.importorskip("av")

KINDS = ("flip", "flip", "header", "cut", "drop", "double")
MUTANTS = 250
"""Number of mutants of each format."""

LIMIT_S = 60.0
MEMORY_MB = 2048
SIZE = (160, 90)
COLOURS = [(200, 30, 30), (30, 180, 40), (40, 60, 210)]

UNKNOWN = "it is not a film in a known format"
INCOMPLETE = "it is a film that is damaged or of which the end is missing"


@pytest.fixture(scope="module")
def decode():
    """Function that decodes files in worker processes and returns the outcome of each path."""
    with decoding((image.build(), video.build()), Sizes(64), LIMIT_S, MEMORY_MB) as run:
        yield run


@pytest.fixture
def outcome_of(decode, tmp_path):
    def run(content, name="hostile.mp4"):
        path = tmp_path / name
        path.write_bytes(content)
        (outcome,) = decode([path]).values()
        return outcome

    return run


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Sound films with subtitles, by suffix."""
    folder = tmp_path_factory.mktemp("sound")
    films.write_film(folder / "made.mp4", COLOURS, seconds=3, size=SIZE, encoder={"g": "7"})
    lines = [(1, 2, "first"), (4, 5, "second")]
    films.add_lines(folder / "made.mp4", folder / "film.mp4", lines, "mov_text")
    films.add_lines(folder / "made.mp4", folder / "film.mkv", lines, "subrip")
    return {suffix: (folder / f"film.{suffix}").read_bytes() for suffix in ("mp4", "mkv")}


def flip_bytes(content, rng, kind):
    """Change some bytes of a film, or of its ends."""
    for _ in range(rng.choice([1, 3, 30])):
        limit = len(content) if kind == "flip" else min(len(content), 1500)
        place = rng.randrange(limit)
        # The index of an MP4 file is at its end.
        place = place if rng.random() < 0.5 else len(content) - 1 - place
        content[place] = rng.randrange(256)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_mutated_films_end_in_moments_or_in_one_reason(decode, sound, tmp_path, suffix):
    rng = random.Random(7)
    original = tmp_path / f"sound.{suffix}"
    original.write_bytes(sound[suffix])
    (window,) = decode([original]).values()
    assert len(window.items) == 3
    paths = []
    for number in range(MUTANTS):
        path = tmp_path / f"{number:03}.{suffix}"
        path.write_bytes(mutate(sound[suffix], rng, flip_bytes, KINDS))
        paths.append(path)
    outcomes = decode(paths)
    assert len(outcomes) == MUTANTS
    refused = 0
    for path, outcome in outcomes.items():
        if isinstance(outcome, TaskFailure):
            refused += 1
            assert not outcome.crashed, (path, outcome)
            assert 5 < len(outcome.reason) < 200, (path, outcome)
            assert outcome.reason.isprintable(), (path, outcome)
            assert "Error" not in outcome.reason, (path, outcome)
        else:
            assert outcome.kind == "video"
            assert outcome.items
            times = [(item.locator.start_ms, item.locator.end_ms) for item in outcome.items]
            assert all(0 <= start < end for start, end in times), (path, times)
            assert times == sorted(times), path
    assert 5 < refused < MUTANTS * 0.6


def playlist(name):
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n".encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (random.Random(3).randbytes(50_000), UNKNOWN),
        (b"once upon a time there was a film\n" * 50, UNKNOWN),
        (b"ffconcat version 1.0\nfile neighbour.mp4\n", UNKNOWN),
        (b"ffconcat version 1.0\nfile 'http://127.0.0.1:9/a.mp4'\n", UNKNOWN),
        (playlist("neighbour.mp4"), UNKNOWN),
        (playlist("http://127.0.0.1:9/neighbour.ts"), UNKNOWN),
        (b"<?xml version='1.0'?><MPD><BaseURL>neighbour.mp4</BaseURL></MPD>", UNKNOWN),
        (b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", UNKNOWN),
        (b"[playlist]\nFile1=neighbour.mp4\n", UNKNOWN),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(60), INCOMPLETE),
    ],
    ids=lambda value: repr(value)[:25],
)
@pytest.mark.parametrize("name", ["hostile.mp4", "hostile.mkv", "hostile.ts.mp4"])
def test_file_named_as_film_that_is_none_has_one_reason(
    outcome_of, sound, tmp_path, content, reason, name
):
    (tmp_path / "neighbour.mp4").write_bytes(sound["mp4"])
    assert outcome_of(content, name) == TaskFailure(reason)


@pytest.mark.enable_socket
def test_playlist_that_is_read_asks_no_server(tmp_path):
    """A server waits at the address that the file names: nothing may connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
        for content in (playlist(address), f"ffconcat version 1.0\nfile {address}\n".encode()):
            path = tmp_path / "list.mp4"
            path.write_bytes(content)
            with pytest.raises(Exception, match=UNKNOWN):
                list(video.build().items(os.fsencode(path), 64))
        with pytest.raises(TimeoutError):
            server.accept()


def test_film_whose_index_names_another_file_does_not_open_it(outcome_of, sound, tmp_path):
    """The data of a QuickTime film may be in another file, which an alias names."""
    (tmp_path / "neighbour.mp4").write_bytes(sound["mp4"])
    own = b"url \0\0\0\1"
    content = sound["mp4"].replace(own, b"url \0\0\0\0")
    assert content != sound["mp4"]
    outcome = outcome_of(content)
    assert isinstance(outcome, TaskFailure) or outcome.kind == "video"


@pytest.mark.parametrize("cut", [0.2, 0.4, 0.6])
def test_film_without_its_index_has_a_plain_reason(outcome_of, sound, cut):
    length = int(len(sound["mp4"]) * cut)
    assert outcome_of(sound["mp4"][:length]) == TaskFailure(INCOMPLETE)


def test_sound_named_as_film_is_read_as_a_sound(outcome_of, tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        samples = np.zeros((1, 16000), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = (tmp_path / "sound.mp4").read_bytes()
    (item,) = outcome_of(content).items
    assert (item.model_input, item.picture.width, item.picture.format) == (None, 0, "M4A")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound_file:
        sound_file.setparams((1, 2, 16000, 0, "NONE", ""))
        sound_file.writeframes(bytes(32000))
    assert outcome_of((tmp_path / "sound.wav").read_bytes()) == TaskFailure(UNKNOWN)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp"])
def test_picture_named_as_film_is_read_as_picture(decode, tmp_path, suffix):
    Image.new("RGB", (90, 70), "teal").save(tmp_path / f"picture.{suffix}")
    path = (tmp_path / f"picture.{suffix}").rename(tmp_path / "picture.mp4")
    (window,) = decode([path]).values()
    assert (window.kind, len(window.items)) == ("image", 1)


@pytest.mark.parametrize("name", ["film.jpg", "film.dat", "film", "film.pdf"])
def test_film_by_any_name_is_read_as_film(outcome_of, sound, name):
    for content in sound.values():
        window = outcome_of(content, name)
        assert (window.kind, len(window.items)) == ("video", 3)


def test_damaged_parts_are_passed_over_and_counted(outcome_of, tmp_path, photos):
    pictures = sorted((photos / "photos").glob("*.jpg"))[:10]
    films.write_film(tmp_path / "sound.mp4", pictures, encoder={"g": "100", "sc_threshold": "0"})
    content = bytearray((tmp_path / "sound.mp4").read_bytes())
    rng = random.Random(5)
    for _ in range(100):
        content[rng.randrange(4000, content.rindex(b"moov") - 4)] = rng.randrange(256)
    window = outcome_of(bytes(content), "damaged.mp4")
    starts = [item.locator.start_ms // 1000 for item in window.items]
    assert starts[0] == 0
    assert starts[-1] >= 50
    (damage,) = {item.picture.damage for item in window.items} - {None}
    assert damage.endswith("frames are damaged")


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.8])
def test_film_without_its_end_says_so(outcome_of, tmp_path, cut):
    films.write_film(tmp_path / "sound.mkv", COLOURS * 10, seconds=3, size=SIZE)
    content = (tmp_path / "sound.mkv").read_bytes()
    window = outcome_of(content[: int(len(content) * cut)], "cut.mkv")
    assert 10 * cut < len(window.items) < 30 * cut + 3
    damages = [item.picture.damage for item in window.items]
    assert [damage for damage in damages if damage] == ["its end is missing"]


def test_film_that_claims_a_giant_picture_is_read_as_it_is(outcome_of, sound):
    content = bytearray(sound["mp4"])
    # Width and height are 28 bytes after the name of a sample entry.
    at = content.rindex(b"avc1") + 28
    content[at : at + 4] = struct.pack(">HH", 65000, 65000)
    window = outcome_of(bytes(content))
    # The stream itself says the size as well, and is right.
    assert max(window.items[0].picture.height, *window.items[0].model_input) <= 2 * SIZE[0]


@pytest.mark.parametrize(("seconds", "starts"), [(1e-3, [0, 3, 6]), (4e4, [0]), (9e14, [0, 3, 6])])
def test_film_that_claims_another_length_is_read(outcome_of, sound, seconds, starts):
    """A film of eleven hours would have a moment a minute."""
    content = bytearray(sound["mkv"])
    at = content.index(b"\x44\x89\x88") + 3
    content[at : at + 8] = struct.pack(">d", seconds * 1000)
    window = outcome_of(bytes(content), "length.mkv")
    assert [item.locator.start_ms // 1000 for item in window.items] == starts


def test_film_of_many_frames_at_one_time_ends(decode, tmp_path):
    frames = (np.full((90, 160, 3), n % 250, np.uint8) for n in range(3000))
    films.write_frames(tmp_path / "dense.mkv", frames, fps=1000, codec="mpeg4")
    (window,) = decode([tmp_path / "dense.mkv"]).values()
    assert 1 <= len(window.items) <= 4
