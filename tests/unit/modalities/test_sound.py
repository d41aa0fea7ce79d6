"""Sound files: their length, what they say about themselves, waveforms, and damage."""

import io
import os
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="the extra speech is not installed")

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import choose_modality
from mmsearch.core.types import ItemLocator
from mmsearch.modalities import _recordings, image, sound, video
from tests.films import write_film
from tests.sound_files import RATE, tone, write_sound, write_tone

SOUNDS = Path(__file__).parents[2] / "sounds"
PHOTO = Path(__file__).parents[2] / "photos" / "photos" / "3a506c0018.jpg"


def items(path):
    return list(sound.build().items(os.fsencode(path), 0))


FORMATS = [
    ("a.wav", None, "WAV"),
    ("a.mp3", None, "MP3"),
    ("a.m4a", "aac", "M4A"),
    ("a.opus", "libopus", "OPUS"),
    ("a.ogg", "flac", "OGG"),
    ("a.flac", None, "FLAC"),
    ("a.aac", "aac", "AAC"),
    ("a.wma", "wmav2", "WMA"),
    ("a.aiff", None, "AIFF"),
    ("a.mka", "libopus", "MKA"),
]


@pytest.mark.parametrize(("name", "codec", "file_format"), FORMATS)
def test_sound_is_one_item_of_its_length(tmp_path, name, codec, file_format):
    container_format = {"a.m4a": "ipod", "a.aac": "adts", "a.mka": "matroska"}.get(name)
    path = tmp_path / name
    write_tone(path, 3, codec=codec, rate=48_000, container_format=container_format)
    (item,) = items(path)
    assert item.picture.format == file_format
    assert (item.locator.part, item.locator.start_ms) == (0, 0)
    assert item.locator.end_ms == pytest.approx(3000, abs=150)
    assert item.picture.damage is None
    modalities = (image.build(), sound.build(), video.build())
    assert choose_modality(modalities, os.fsencode(path)).kind == "sound"


@pytest.mark.parametrize(
    ("length_ms", "ends"),
    [
        (0, [1]),
        (20_000, [20_000]),
        (89_000, [89_000]),
        (91_000, [60_000, 91_000]),
        (200_000, [60_000, 120_000, 200_000]),
    ],
)
def test_items_are_minutes_and_the_last_one_has_the_rest(length_ms, ends):
    spans = list(_recordings.split(length_ms))
    assert [end for _, end in spans] == ends
    assert [start for start, _ in spans] == [0, *ends[:-1]]


def test_a_day_has_the_last_item():
    assert len(list(_recordings.split(10**12))) == _recordings.MAX_ITEMS == 1440


def test_long_sound_has_texts_on_its_first_item_only(tmp_path):
    metadata = {
        "title": "Harbour walk",
        "artist": "Ada",
        "album": "Walks",
        "comment": "with gulls",
        "genre": "Podcast",
        "date": "2024-05-03",
    }
    write_tone(tmp_path / "a.mp3", 200, metadata=metadata)
    first, *others = items(tmp_path / "a.mp3")
    texts = {(text.kind, text.text) for text in first.picture.texts}
    assert texts == {
        ("title", "Harbour walk"),
        ("author", "Ada"),
        ("description", "Walks"),
        ("description", "with gulls"),
        ("keywords", "Podcast"),
    }
    assert (first.picture.taken_at, first.picture.taken_from) == ("2024-05-03T00:00:00", "sound")
    assert [item.picture.texts for item in others] == [(), ()]
    assert {item.picture.taken_at for item in others} == {"2024-05-03T00:00:00"}
    assert list(sound.build().items(os.fsencode(tmp_path / "a.mp3"), 0, 2)) == others[1:]


def test_waveform_is_loud_where_the_sound_is(tmp_path):
    samples = np.concatenate([tone(2), np.zeros(2 * RATE, np.float32)])
    write_sound(tmp_path / "a.wav", samples)
    content = sound.build().thumbnail(
        os.fsencode(tmp_path / "a.wav"), 200, "PNG", ItemLocator(0, 0, 4000)
    )
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert pixels.shape == (100, 200, 3)
    heights = (pixels != pixels[0, 0]).any(axis=2).sum(axis=0)
    assert heights[:98].max() == 90
    assert 1 <= heights[104:].max() <= 2


def test_waveform_is_that_of_the_item(tmp_path):
    samples = np.concatenate([np.zeros(100 * RATE, np.float32), tone(20)])
    write_sound(tmp_path / "a.mp3", samples)
    first, second = items(tmp_path / "a.mp3")
    read = sound.build().thumbnail
    path = os.fsencode(tmp_path / "a.mp3")
    quiet, loud = (read(path, 100, "PNG", item.locator) for item in (first, second))
    above = [np.asarray(Image.open(io.BytesIO(content)))[10] for content in (quiet, loud)]
    assert [len(np.unique(row, axis=0)) for row in above] == [1, 2]


def wave_file(samples, rate=RATE):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate, 0, "NONE", ""))
        writer.writeframes((np.asarray(samples) * 32767).astype("<i2").tobytes())
    return file.getvalue()


NOT_SOUND = {
    "a text": (b"hello, this is no sound\n" * 100, "not a sound in a known format"),
    "a picture": (PHOTO.read_bytes(), "not a sound in a known format"),
    "random bytes": (np.random.default_rng(0).bytes(30_000), "not a sound|no sound in it"),
    "a playlist": (b"ffconcat version 1.0\nfile a.wav\n", "not a sound in a known format"),
    "the head of a recording": (
        (SOUNDS / "yellow_duck.m4a").read_bytes()[:1000],
        "damaged or of which the end is missing",
    ),
    "a wave without samples": (wave_file([]), "no sound in it that can be read"),
}


@pytest.mark.parametrize(("content", "reason"), NOT_SOUND.values(), ids=NOT_SOUND)
def test_file_that_is_no_sound_has_a_plain_reason(tmp_path, content, reason):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=reason):
        items(path)
    with pytest.raises(DecodeError):
        sound.build().thumbnail(os.fsencode(path), 100)


@pytest.mark.parametrize("name", ["memo.webm", "memo.mp4"])
def test_sound_with_the_name_of_a_film_is_read_minute_by_minute(tmp_path, name):
    path = tmp_path / name
    write_tone(path, 140, codec="libopus" if name == "memo.webm" else "aac", rate=48_000)
    modality = choose_modality((sound.build(), video.build()), os.fsencode(path))
    assert modality.kind == "video"
    found = list(modality.items(os.fsencode(path), 100))
    assert [item.locator.part for item in found] == [0, 1]
    assert found[0].picture.format == ("WEBM" if name == "memo.webm" else "M4A")
    assert list(modality.items(os.fsencode(path), 100, 1)) == found[1:]
    drawn = modality.thumbnail(os.fsencode(path), 100, "PNG", found[1].locator)
    assert drawn == sound.build().thumbnail(os.fsencode(path), 100, "PNG", found[1].locator)


def test_film_without_sound_has_a_plain_reason(tmp_path):
    write_film(tmp_path / "a.mp4", [(200, 10, 10)], seconds=1)
    with pytest.raises(DecodeError, match="there is no sound in it"):
        items(tmp_path / "a.mp4")


def test_truncated_sound_says_that_its_end_is_missing(tmp_path):
    write_tone(tmp_path / "a.flac", 30)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    (item,) = items(tmp_path / "a.flac")
    assert item.picture.damage == "its end is missing"
    assert item.locator.end_ms < 20_000


def test_sound_of_a_day_and_more_is_read_for_a_day(tmp_path, monkeypatch):
    monkeypatch.setattr(_recordings, "MAX_ITEMS", 2)
    write_tone(tmp_path / "a.wav", 200)
    found = items(tmp_path / "a.wav")
    assert [item.locator.end_ms for item in found] == [60_000, 120_000]
    assert found[0].picture.damage == "only its first 24 hours are read"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.m4a", "sound"), ("a.mp4", "video"), ("a", "video"), ("a.weba", "sound")]
)
def test_name_decides_between_sound_and_film(tmp_path, name, kind):
    content = b"\0\0\0\x20ftypisom" if name != "a.weba" else b"\x1aE\xdf\xa3webm"
    path = tmp_path / name
    path.write_bytes(content)
    modalities = (image.build(), sound.build(), video.build())
    assert choose_modality(modalities, os.fsencode(path)).kind == kind
