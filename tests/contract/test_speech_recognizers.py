"""Contract tests that run on every recognizer of speech, with each of its packaged models."""

from pathlib import Path

import numpy as np
import pytest

from mmsearch.core import plugins
from mmsearch.core.errors import UnknownNameError, UsageError
from mmsearch.core.speech import SAMPLE_RATE, SpeechOptions

pytest.importorskip("faster_whisper", reason="the extra speech is not installed")

from mmsearch.enrichers._sound import decode_sound

SOUNDS = Path(__file__).parents[1] / "sounds"
SPOKEN = {
    "panda.ogg": "a black and white panda",
    "statue_of_liberty.webm": "the statue of liberty",
    "yellow_duck.m4a": "a yellow duck swimming in the water",
}
RECOGNIZERS = [("whisper", "base"), ("whisper", "tiny.en")]


def noise(seconds):
    return (0.1 * np.random.default_rng(0).standard_normal(seconds * SAMPLE_RATE)).astype("f4")


def music(seconds):
    times = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
    decay = np.exp(-4 * ((2 * times) % 1))
    chord = sum(np.sin(2 * np.pi * pitch * times) for pitch in (220, 277, 330))
    return (0.1 * chord * decay).astype(np.float32)


def recognizer_names():
    """Return the names of the plugins that are no enrichers of an index."""
    return [
        name
        for name in plugins.names("enrichers")
        if not hasattr(plugins.load("enrichers", name), "READS")
    ]


@pytest.fixture(scope="module", params=RECOGNIZERS, ids=":".join)
def recognizer(request, cache):
    plugin, model = request.param
    recognizer = plugins.load("enrichers", plugin).build(SpeechOptions(model, cache, 1))
    yield recognizer
    recognizer.release()


def read(name):
    return decode_sound((SOUNDS / name).read_bytes(), 60)


def test_every_recognizer_is_tested():
    assert {plugin for plugin, _ in RECOGNIZERS} == set(recognizer_names())


@pytest.mark.parametrize("name", SPOKEN)
def test_recordings_are_heard_word_by_word(recognizer, name):
    transcript = recognizer.transcribe(read(name))
    # An article at the very start is easily misheard.
    assert transcript.text.lower().split()[1:] == SPOKEN[name].split()[1:]
    assert transcript.language == "en"
    assert transcript.language_confidence > 0.5
    assert 0.3 < transcript.confidence <= 1


def test_times_are_ordered_and_within_the_sound(recognizer):
    pause = np.zeros(2 * SAMPLE_RATE, np.float32)
    samples = np.concatenate([pause, read("panda.ogg"), pause, read("yellow_duck.m4a")])
    transcript = recognizer.transcribe(samples, "en")
    words = [word for segment in transcript.segments for word in segment.words]
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert transcript.duration_s == len(samples) / SAMPLE_RATE
    assert times[-1] <= transcript.duration_s
    for segment in transcript.segments:
        assert (segment.start_s, segment.end_s) == (
            segment.words[0].start_s,
            segment.words[-1].end_s,
        )
        assert " ".join(word.text for word in segment.words) == segment.text
        assert all(0 <= word.confidence <= 1 for word in segment.words)
    starts = {word.text.lower().strip(".,"): word.start_s for word in words}
    assert starts["panda"] == pytest.approx(2.8, abs=0.5)
    assert starts["duck"] > 2 + len(read("panda.ogg")) / SAMPLE_RATE + 2


SPEECHLESS = {
    "nothing": np.zeros(0, np.float32),
    "ten samples": np.zeros(10, np.float32),
    "silence": np.zeros(10 * SAMPLE_RATE, np.float32),
    "noise": noise(10),
    "music": music(10),
    "a click": np.eye(1, SAMPLE_RATE, 8_000, dtype=np.float32)[0],
}


@pytest.mark.parametrize("samples", SPEECHLESS.values(), ids=SPEECHLESS)
def test_sound_without_speech_has_no_words(recognizer, samples):
    assert recognizer.transcribe(samples).segments == ()


def test_unknown_language_is_refused(recognizer):
    with pytest.raises(UsageError, match="does not recognize the language 'xx'"):
        recognizer.transcribe(read("panda.ogg"), "xx")


def test_equal_sound_gives_an_equal_transcript_after_release(recognizer):
    before = recognizer.transcribe(read("panda.ogg"), "en")
    recognizer.release()
    assert recognizer.transcribe(read("panda.ogg"), "en") == before


def test_fingerprint_names_the_model(recognizer, cache):
    assert recognizer.fingerprint.startswith("speech:")
    other = {
        plugins.load("enrichers", plugin).build(SpeechOptions(model, cache)).fingerprint
        for plugin, model in RECOGNIZERS
    }
    assert len(other) == len(RECOGNIZERS)


def test_unknown_model_is_named(cache):
    for plugin in recognizer_names():
        with pytest.raises(UnknownNameError, match="'no-such-model'"):
            plugins.load("enrichers", plugin).build(SpeechOptions("no-such-model", cache))
