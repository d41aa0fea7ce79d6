"""Decoding of sound, with right, damaged and hostile files."""

import io
import os
import wave
from pathlib import Path

import numpy as np
import pytest

from mmsearch.core.errors import DecodeError

av = pytest.importorskip("av", reason="the extra speech is not installed")

from mmsearch.core.speech import SAMPLE_RATE  # noqa: E402
from mmsearch.enrichers._sound import decode_sound  # noqa: E402

SOUNDS = Path(__file__).parents[2] / "sounds"
PHOTO = Path(__file__).parents[2] / "photos" / "photos" / "3a506c0018.jpg"


def wave_file(samples, rate=SAMPLE_RATE, channels=1):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes((np.asarray(samples) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def tone(seconds, rate=SAMPLE_RATE):
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)


def encode(seconds, file_format, codec, rate, *, channels=1):
    """Return a tone in a format of browsers and phones."""
    file = io.BytesIO()
    with av.open(file, "w", format=file_format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "stereo" if channels == 2 else "mono"
        block = np.tile(tone(seconds, rate).astype(np.float32), (channels, 1))
        frame = av.AudioFrame.from_ndarray(block, "fltp", layout=stream.layout.name)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def test_wave_of_the_right_kind_is_exact():
    samples = decode_sound(wave_file(tone(1.5)), 60)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, tone(1.5), atol=1e-4)


@pytest.mark.parametrize(
    ("file_format", "codec", "rate"),
    [
        ("webm", "libopus", 48_000),
        ("ogg", "libopus", 48_000),
        ("mp4", "aac", 44_100),
        ("mp3", "libmp3lame", 22_050),
        ("flac", "flac", 96_000),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_recordings_of_browsers_and_phones_are_decoded(file_format, codec, rate, channels):
    samples = decode_sound(encode(2.0, file_format, codec, rate, channels=channels), 60)
    assert len(samples) == pytest.approx(2.0 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    middle = samples[SAMPLE_RATE // 2 : SAMPLE_RATE]
    spectrum = np.abs(np.fft.rfft(middle))
    assert spectrum.argmax() == pytest.approx(220, abs=1)
    assert 0.2 < np.sqrt((middle**2).mean()) < 0.6


@pytest.mark.parametrize("name", ["panda.ogg", "statue_of_liberty.webm", "yellow_duck.m4a"])
def test_recordings_of_the_tests_are_seconds_long(name):
    assert 1 < len(decode_sound((SOUNDS / name).read_bytes(), 60)) / SAMPLE_RATE < 4


NOT_SOUND = {
    "nothing": b"",
    "a text": b"hello, this is no sound\n" * 100,
    "a picture": PHOTO.read_bytes(),
    "random bytes": np.random.default_rng(0).bytes(30_000),
    "the head of a film": (SOUNDS / "yellow_duck.m4a").read_bytes()[:1000],
    "a wave without samples": wave_file([]),
    "a playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
}


@pytest.mark.parametrize("content", NOT_SOUND.values(), ids=NOT_SOUND)
def test_content_that_is_no_sound_is_refused_with_a_reason(content):
    with pytest.raises(DecodeError, match=r"^(it is|there is)"):
        decode_sound(content, 60)


def test_file_that_names_a_neighbour_does_not_open_it(tmp_path, monkeypatch):
    (tmp_path / "secret.wav").write_bytes(wave_file(tone(1)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DecodeError, match="known format"):
        decode_sound(b"ffconcat version 1.0\nfile secret.wav\n", 60)


def test_film_without_sound_says_so():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    with pytest.raises(DecodeError, match="there is no sound in it"):
        decode_sound(file.getvalue(), 60)


def test_sound_longer_than_the_limit_is_refused():
    content = wave_file(tone(2.1))
    with pytest.raises(DecodeError, match="longer than 2 seconds"):
        decode_sound(content, 2)
    assert len(decode_sound(content, 2.2)) == int(2.1 * SAMPLE_RATE)


def test_truncated_wave_gives_what_is_there():
    content = wave_file(tone(2))
    assert len(decode_sound(content[: len(content) // 2], 60)) == pytest.approx(
        SAMPLE_RATE, abs=100
    )


def test_damaged_packets_are_left_out():
    content = bytearray(encode(5.0, "mp4", "aac", 44_100))
    for place in range(2_000, len(content) - 4_000, 2_000):
        content[place : place + 40] = bytes(40)
    whole = len(decode_sound(encode(5.0, "mp4", "aac", 44_100), 60))
    assert SAMPLE_RATE < len(decode_sound(bytes(content), 60)) <= whole


@pytest.mark.parametrize("rate", [1, 300])
def test_absurd_sample_rate_is_refused(rate):
    with pytest.raises(DecodeError, match="samples per second"):
        decode_sound(wave_file(np.zeros(500), rate), 60)


def test_any_damage_is_a_decode_error_or_sound():
    rng = np.random.default_rng(int(os.environ.get("SOUND_SEED", "1")))
    for name in ("panda.ogg", "statue_of_liberty.webm", "yellow_duck.m4a"):
        original = (SOUNDS / name).read_bytes()
        for _ in range(40):
            content = bytearray(original)
            for place in rng.integers(0, len(content), rng.integers(1, 60)):
                content[place] = rng.integers(256)
            try:
                samples = decode_sound(bytes(content), 60)
            except DecodeError:
                continue
            assert np.isfinite(samples).all()
            assert np.abs(samples).max() <= 1
