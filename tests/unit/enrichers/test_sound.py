"""Decoding of sound, with right, damaged and hostile files."""

import io
import os
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mmsearch.core.errors import DecodeError

av = pytest.importorskip("av", reason="the extra speech is not installed")

from mmsearch.core.speech import SAMPLE_RATE  # noqa: E402
from mmsearch.enrichers._sound import decode_sound, read_sound  # noqa: E402

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


def silent_film():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def test_film_without_sound_says_so():
    with pytest.raises(DecodeError, match="there is no sound in it"):
        decode_sound(silent_film(), 60)


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


# --- sound tracks, read as streams ---


def joined(blocks):
    """Return blocks as the time of the first sample and all samples; they must have no gaps."""
    blocks = list(blocks)
    end = blocks[0].start_ms * SAMPLE_RATE // 1000
    for block in blocks:
        assert block.start_ms * SAMPLE_RATE / 1000 == pytest.approx(end, abs=SAMPLE_RATE / 1000)
        end += len(block.samples)
    return blocks[0].start_ms, np.concatenate([block.samples for block in blocks])


STREAMS = [
    ("webm", "libopus", 48_000),
    ("ogg", "libopus", 48_000),
    ("mp4", "aac", 44_100),
    ("adts", "aac", 44_100),
    ("mpegts", "aac", 44_100),
    ("mp3", "libmp3lame", 44_100),
    ("flac", "flac", 44_100),
    ("aiff", "pcm_s16be", 44_100),
    ("avi", "libmp3lame", 44_100),
    ("flv", "aac", 44_100),
    ("matroska", "aac", 44_100),
]


@pytest.mark.parametrize(("file_format", "codec", "rate"), STREAMS)
def test_sound_from_a_time_on_is_that_part_of_the_whole(file_format, codec, rate):
    """A tone whose pitch rises says where it is."""
    times = np.arange(20 * rate) / rate
    rising = 0.5 * np.sin(2 * np.pi * (200 * times + 10 * times**2))
    file = io.BytesIO(encode_samples(rising, file_format, codec, rate))
    start_ms, whole = joined(read_sound(file))
    assert 0 <= start_ms < 100
    assert len(whole) / SAMPLE_RATE == pytest.approx(20, abs=0.2)
    for from_ms in (4_000, 11_111):
        first_ms, part = joined(read_sound(file, from_ms))
        assert first_ms == from_ms
        assert len(part) == pytest.approx(len(whole) - (from_ms - start_ms) * 16, abs=1000)
        spectrum = np.abs(np.fft.rfft(part[:1600]))
        pitch = spectrum.argmax() * 10
        assert pitch == pytest.approx(200 + 20 * (from_ms / 1000 + 0.05), abs=10)


def encode_samples(samples, file_format, codec, rate, pts=int):
    """Return samples in a format; ``pts`` is the time of a frame, given the samples before it."""
    file = io.BytesIO()
    with av.open(file, "w", format=file_format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        resampler = av.AudioResampler(stream.format.name, "mono", rate, stream.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = rate
        count = 0
        for ready in [*resampler.resample(frame), *resampler.resample(None)]:
            ready.pts, ready.time_base = pts(count), Fraction(1, rate)
            count += ready.samples
            container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_gap_in_the_times_is_silence():
    """Two seconds of a tone, five of nothing, two of a tone."""
    rate = 48_000
    content = encode_samples(
        tone(4, rate), "matroska", "pcm_s16le", rate, lambda t: t + 5 * rate * (t >= 2 * rate)
    )
    _, samples = joined(read_sound(io.BytesIO(content)))
    assert len(samples) / SAMPLE_RATE == pytest.approx(9, abs=0.1)
    assert np.abs(samples[int(2.2 * SAMPLE_RATE) : int(6.8 * SAMPLE_RATE)]).max() == 0
    assert np.abs(samples[int(7.2 * SAMPLE_RATE) :]).max() > 0.4


def test_absurd_gap_is_ignored():
    rate = 48_000
    content = encode_samples(
        tone(4, rate), "matroska", "pcm_s16le", rate, lambda t: t + 9000 * rate * (t >= 2 * rate)
    )
    _, samples = joined(read_sound(io.BytesIO(content)))
    assert len(samples) / SAMPLE_RATE == pytest.approx(4, abs=0.1)


def test_sound_that_begins_later_than_the_film_keeps_its_time():
    rate = 48_000
    content = encode_samples(tone(2, rate), "matroska", "pcm_s16le", rate, lambda t: t + 3 * rate)
    assert joined(read_sound(io.BytesIO(content)))[0] == 3000


@pytest.mark.parametrize("from_ms", [0, 5000])
def test_clock_of_a_stream_counts_from_its_start(from_ms):
    rate = 48_000
    content = encode_samples(tone(9, rate), "mpegts", "aac", rate, lambda t: t + 700 * rate)
    start_ms, samples = joined(read_sound(io.BytesIO(content), from_ms))
    assert start_ms == pytest.approx(from_ms, abs=100)
    assert len(samples) / SAMPLE_RATE == pytest.approx(9 - from_ms / 1000, abs=0.2)


def test_damage_does_not_move_what_follows():
    content = bytearray(encode(20.0, "mp4", "aac", 44_100))
    content[10_000:30_000] = bytes(20_000)
    whole = joined(read_sound(io.BytesIO(encode(20.0, "mp4", "aac", 44_100))))
    _, samples = joined(read_sound(io.BytesIO(bytes(content))))
    assert len(samples) == pytest.approx(len(whole[1]), abs=0.3 * SAMPLE_RATE)


@pytest.mark.parametrize("from_ms", [0, 1000])
def test_film_without_sound_has_no_blocks(from_ms):
    assert list(read_sound(io.BytesIO(silent_film()), from_ms)) == []


def test_sound_that_has_ended_has_no_blocks():
    assert list(read_sound(io.BytesIO(wave_file(tone(2))), 3000)) == []


@pytest.mark.parametrize("content", NOT_SOUND.values(), ids=NOT_SOUND)
def test_content_that_is_no_sound_is_not_streamed(content):
    with pytest.raises(DecodeError, match=r"^(it is|there is)"):
        list(read_sound(io.BytesIO(content)))


def test_any_damage_to_a_stream_is_a_decode_error_or_sound():
    rng = np.random.default_rng(int(os.environ.get("SOUND_SEED", "1")))
    for name in ("panda.ogg", "statue_of_liberty.webm", "yellow_duck.m4a"):
        original = (SOUNDS / name).read_bytes()
        for _ in range(40):
            content = bytearray(original)
            for place in rng.integers(0, len(content), rng.integers(1, 60)):
                content[place] = rng.integers(256)
            for from_ms in (0, 800):
                count = 0
                try:
                    for block in read_sound(io.BytesIO(bytes(content)), from_ms):
                        assert np.isfinite(block.samples).all()
                        assert block.start_ms >= from_ms
                        count += len(block.samples)
                        # Times that jump may make hours of silence.
                        if count > 100 * SAMPLE_RATE:
                            break
                except DecodeError:
                    continue
