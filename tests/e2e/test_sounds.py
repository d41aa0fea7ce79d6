"""Voice memos and films through the command: indexed, transcribed, and found by what is said."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

pytest.importorskip("faster_whisper", reason="the extra speech is not installed")

from mmsearch.enrichers._sound import decode_sound
from tests.films import frames
from tests.sound_files import RATE, write_sound

pytestmark = pytest.mark.e2e

SOUNDS = Path(__file__).parents[1] / "sounds"


def spoken(name, second, length):
    """Return silence of a length in seconds with the words of a recording at a second."""
    samples = np.zeros(length * RATE, np.float32)
    words = decode_sound((SOUNDS / name).read_bytes(), 60)
    samples[int(second * RATE) :][: len(words)] = words
    return samples


def write_film(path, pictures, samples):
    """Write pictures of six seconds each with a sound track."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        track = container.add_stream("aac", rate=RATE)
        track.layout = "mono"
        for pixels in frames(pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
        for start in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))


@pytest.fixture(scope="module")
def home(mmsearch, photos, tmp_path_factory):
    """Home of an index of a memo of two minutes, a silent one, a film, and photographs."""
    folder = tmp_path_factory.mktemp("recordings")
    write_sound(folder / "memo.mp3", spoken("yellow_duck.m4a", 71.5, 120))
    write_sound(folder / "silence.wav", np.zeros(5 * RATE, np.float32))
    shots = sorted((photos / "photos").glob("*.jpg"))[:20]
    write_film(folder / "trip.mp4", shots[:3], spoken("statue_of_liberty.webm", 7, 18))
    (folder / "broken.m4a").write_bytes(b"no sound")
    for shot in shots[3:]:
        (folder / shot.name).write_bytes(shot.read_bytes())
    home = tmp_path_factory.mktemp("home")
    done = mmsearch("index", folder, "--home", home, "--model", "starter", code=3)
    assert "broken.m4a: it is not a sound in a known format" in done.err
    mmsearch("describe", "--speech", "--home", home)
    return home


def search(mmsearch, home, text, *options):
    return json.loads(mmsearch("query", text, "--json", "--home", home, *options).out)["hits"][0]


def test_memo_is_found_by_what_is_said_with_the_second(mmsearch, home):
    hit = search(mmsearch, home, "swimming in the water")
    assert Path(hit["path"]).name == "memo.mp3"
    assert hit["matched"]["kind"] == "transcript"
    assert hit["matched"]["start_ms"] / 1000 == pytest.approx(71.5, abs=0.5)
    assert hit["start_ms"] == hit["matched"]["start_ms"]
    line = mmsearch("query", "swimming in the water", "-k1", "--home", home).out
    assert "1:11" in line


def test_film_is_found_by_what_is_said_in_its_moment(mmsearch, home):
    hit = search(mmsearch, home, "statue of liberty")
    assert Path(hit["path"]).name == "trip.mp4"
    assert hit["matched"]["start_ms"] / 1000 == pytest.approx(7.1, abs=0.5)
    assert hit["start_ms"] == hit["matched"]["start_ms"]


def test_sounds_are_transcribed_once_and_silence_is_done(mmsearch, home):
    done = mmsearch("describe", "--speech", "--home", home)
    assert done.out == "speech: nothing to do.\n"
    status = json.loads(mmsearch("status", "--json", "--home", home).out)
    (work,) = status["derived"]
    assert (work["enricher"], work["done"], work["failed"]) == ("speech", 3, 0)


def test_unknown_language_is_refused_before_any_work(mmsearch, home):
    done = mmsearch("describe", "--speech", "--speech-language", "xx", "--home", home, code=2)
    assert "does not recognize the language 'xx'" in done.err
    done = mmsearch("describe", "--ocr", "--speech-language", "de", "--home", home, code=2)
    assert "The language is for speech" in done.err
