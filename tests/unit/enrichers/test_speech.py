"""Transcripts of sound tracks: windows, lines and languages, with a recognizer of toys."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.derived import SoundRequest
from mmsearch.core.speech import SAMPLE_RATE, SoundBlock, SpeechSegment, Transcript, Word
from mmsearch.enrichers import speech
from mmsearch.enrichers.speech import Transcriber, split_lines


def segment(*words, gap=0.1, start=0.0):
    """Return a segment of words, (text, pause before it in seconds), each half a second long."""
    spoken, now = [], start
    for word in words:
        text, pause = word if isinstance(word, tuple) else (word, gap)
        now += pause
        spoken.append(Word(text, round(now, 3), round(now + 0.5, 3), 0.9))
        now += 0.5
    text = " ".join(word.text for word in spoken)
    return SpeechSegment(text, spoken[0].start_s, spoken[-1].end_s, 0.8, tuple(spoken))


def lines(found):
    return [(line.text, line.start_s) for line in split_lines(found)]


def test_sentences_are_lines_of_their_own():
    found = segment("A", "dog.", "Two", "cats!", "birds", gap=0.0)
    assert lines(found) == [("A dog.", 0.0), ("Two cats!", 1.0), ("birds", 2.0)]
    assert all(line.confidence == 0.8 for line in split_lines(found))


def test_words_after_a_pause_begin_a_line():
    found = segment("a", "dog", ("two", 3.0), "cats", gap=0.0)
    assert lines(found) == [("a dog", 0.0), ("two cats", 4.0)]


def test_long_speech_without_a_sentence_is_cut():
    found = segment(*["word"] * 100, gap=0.0)
    assert {line.text.count("word") for line in split_lines(found)} == {30, 10}


def test_first_word_before_a_silence_that_was_cut_out_belongs_to_what_follows():
    found = segment("sky.", "The", ("boat", 3.0), "crosses", gap=0.0)
    assert lines(found) == [("sky.", 0.0), ("The boat crosses", 4.0)]
    assert lines(segment("Yes.", ("A", 3.0), "boat", gap=0.0)) == [("Yes.", 0.0), ("A boat", 3.5)]


def test_languages_without_spaces_keep_their_spelling():
    words = [
        Word(text, n, n + 0.9, 0.9) for n, text in enumerate(["我", "喜欢", "熊猫。", "你", "好"])
    ]
    found = SpeechSegment("我喜欢熊猫。你好", 0, 4.9, 0.7, tuple(words))
    assert lines(found) == [("我喜欢熊猫。", 0), ("你好", 3)]


def test_segment_whose_words_are_not_in_its_text_is_one_line():
    found = SpeechSegment("two dogs", 1.0, 2.0, 0.7, (Word("cats", 1.0, 2.0, 0.9),))
    assert lines(found) == [("two dogs", 1.0)]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "dog.", "cat", "x!"]), st.floats(0, 5)), min_size=1)
)
def test_lines_have_all_words_in_their_order(words):
    found = segment(*words)
    split = split_lines(found)
    assert " ".join(line.text for line in split) == found.text
    times = [time for line in split for time in (line.start_s, line.end_s)]
    assert times == sorted(times)


@dataclass
class ToyRecognizer:
    """Says one sentence per call, and notes the languages that it was given."""

    language: str = "en"
    confidence: float = 0.9
    has_speech: bool = True
    seconds: list = field(default_factory=list)
    given: list = field(default_factory=list)
    fingerprint = "toy"
    languages = ("en", "de")

    def transcribe(self, samples, language=None):
        self.seconds.append(len(samples) / SAMPLE_RATE)
        self.given.append(language)
        said = (segment("A", "dog.", start=1.0, gap=0.0),) if self.has_speech else ()
        confidence = 1.0 if language else self.confidence
        return Transcript(said, language or self.language, confidence, self.seconds[-1])


@pytest.fixture(autouse=True)
def _cuts(monkeypatch):
    monkeypatch.setattr(speech, "find_cut", lambda samples, search_s: len(samples) - SAMPLE_RATE)
    monkeypatch.setattr(speech, "find_speech", lambda samples: [range(SAMPLE_RATE, len(samples))])


def silence(seconds, start_ms=0):
    """Yield blocks of ten seconds."""
    for start in range(0, seconds, 10):
        samples = np.zeros(min(10, seconds - start) * SAMPLE_RATE, np.float32)
        yield SoundBlock(start_ms + 1000 * start, samples)


def test_short_sound_is_one_window_with_times_of_its_own_clock():
    window = Transcriber(ToyRecognizer()).read(silence(20, 64), SoundRequest())
    (text,) = window.texts
    assert (text.kind, text.source, text.text, text.language) == (
        "transcript",
        "speech",
        "A dog.",
        "en",
    )
    assert (text.start_ms, text.end_ms, text.confidence) == (1064, 2064, 0.8)
    assert (window.next_ms, window.language, window.note) == (None, "en", None)


def test_long_sound_is_read_up_to_a_cut():
    recognizer = ToyRecognizer()
    blocks = silence(1000, 500)
    window = Transcriber(recognizer).read(blocks, SoundRequest("de"))
    assert window.next_ms == 500 + 299_000
    assert recognizer.seconds == [299]
    assert (window.language, recognizer.given) == ("de", ["de"])
    # Nothing of the rest was decoded.
    assert next(blocks).start_ms == 300_500


def test_sound_that_has_ended_has_no_window():
    window = Transcriber(ToyRecognizer()).read(iter(()), SoundRequest("en"))
    assert (window.texts, window.next_ms) == ((), None)


@pytest.mark.parametrize(
    "recognizer", [ToyRecognizer(confidence=0.4), ToyRecognizer(has_speech=False)]
)
def test_uncertain_language_is_detected_again_in_the_next_window(recognizer):
    assert Transcriber(recognizer).read(silence(400), SoundRequest()).language is None


def test_speech_in_the_language_of_the_subtitles_is_not_transcribed():
    recognizer = ToyRecognizer("de")
    window = Transcriber(recognizer).read(silence(400), SoundRequest(None, frozenset({"de"})))
    assert window.note == "it has subtitles in its language (de)"
    assert (window.texts, window.next_ms) == ((), None)
    assert recognizer.seconds == [30]


@pytest.mark.parametrize("recognizer", [ToyRecognizer("en"), ToyRecognizer("de", confidence=0.3)])
def test_speech_in_another_or_an_uncertain_language_is_transcribed(recognizer):
    window = Transcriber(recognizer).read(silence(100), SoundRequest(None, frozenset({"de"})))
    assert len(window.texts) == 1
    assert window.note is None


def test_language_of_the_subtitles_is_not_detected_twice():
    recognizer = ToyRecognizer("en")
    Transcriber(recognizer).read(silence(100), SoundRequest("en", frozenset({"de"})))
    assert recognizer.seconds == [100]


def test_samples_are_limited():
    class Loud(ToyRecognizer):
        def transcribe(self, samples, language=None):
            assert np.abs(samples).max() == 1
            return super().transcribe(samples, language)

    blocks = iter([SoundBlock(0, np.full(SAMPLE_RATE, 1.5, np.float32))])
    assert Transcriber(Loud()).read(blocks, SoundRequest()).texts
