"""The recognizer turns the output of Whisper, here of a model of toys, into transcripts."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmsearch.core.speech import SAMPLE_RATE
from mmsearch.enrichers import whisper
from mmsearch.enrichers.whisper import WhisperRecognizer


def segment(text, start=0.0, end=1.0, **facts):
    words = [
        SimpleNamespace(word=f" {word}", start=start + n * 0.1, end=start + n * 0.1 + 0.1, **P)
        for n, word in enumerate(text.split())
    ]
    usual = {"avg_logprob": -0.3, "no_speech_prob": 0.02, "compression_ratio": 1.1}
    return SimpleNamespace(text=f" {text}", start=start, end=end, words=words, **usual | facts)


P = {"probability": 0.9}


class ToyModel:
    """Says what a test wants, and notes the languages that it was asked for."""

    supported_languages = ("en", "de", "pl", "no")

    def __init__(self, segments, probabilities):
        self.segments, self.probabilities, self.asked = segments, probabilities, []

    def transcribe(self, samples, *, language, temperature, **options):
        assert temperature == 0.0
        self.asked.append(language)
        best = max(self.probabilities, key=self.probabilities.get)
        facts = SimpleNamespace(
            language=language or best,
            language_probability=1 if language else self.probabilities[best],
            all_language_probs=None if language else list(self.probabilities.items()),
        )
        return iter(self.segments), facts


@pytest.fixture
def recognize(monkeypatch):
    def run(*segments, language=None, has_speech=True, **probabilities):
        monkeypatch.setattr(whisper, "find_speech", lambda samples: has_speech)
        recognizer = WhisperRecognizer("toy", Path("toy"), 1)
        model = ToyModel(segments, probabilities or {"en": 0.9})
        recognizer.__dict__["_model"] = model
        return recognizer.transcribe(np.zeros(3 * SAMPLE_RATE, np.float32), language), model

    return run


def test_segment_has_the_times_of_its_words_within_the_sound(recognize):
    (transcript, _) = recognize(segment("a dog.", 2.85, 9.0))
    (found,) = transcript.segments
    assert (found.start_s, found.end_s, found.text) == (2.85, 3.0, "a dog.")
    assert [word.text for word in found.words] == ["a", "dog."]
    assert found.confidence == pytest.approx(0.7408, abs=1e-4)


@pytest.mark.parametrize(
    "invented",
    [
        segment("You", avg_logprob=-0.89, no_speech_prob=0.75),
        segment("4 4 4 4 4 4 4 4", avg_logprob=-0.06, no_speech_prob=0.5, compression_ratio=9.0),
        segment("..."),
        segment(""),
    ],
)
def test_words_that_nobody_said_are_dropped(recognize, invented):
    transcript, _ = recognize(invented, segment("a dog", 1.0))
    assert transcript.text == "a dog"


@pytest.mark.parametrize(
    "said", [segment("a dog", avg_logprob=-1.1), segment("a dog", no_speech_prob=0.9)]
)
def test_uncertain_words_are_kept_if_only_one_number_doubts_them(recognize, said):
    assert recognize(said)[0].text == "a dog"


def test_likely_language_is_taken_as_detected(recognize):
    transcript, model = recognize(segment("ein Hund"), de=0.6, en=0.3)
    assert (transcript.language, transcript.language_confidence) == ("de", 0.6)
    assert model.asked == [None]


def test_unlikely_language_is_taken_for_english(recognize):
    transcript, model = recognize(segment("a dog"), pl=0.4, en=0.3)
    assert (transcript.language, transcript.language_confidence) == ("en", 0.3)
    assert model.asked == [None, "en"]


def test_named_language_is_not_detected(recognize):
    transcript, model = recognize(segment("ein Hund"), language="de")
    assert (transcript.language, transcript.language_confidence) == ("de", 1.0)
    assert model.asked == ["de"]


def test_norwegian_has_its_usual_code(recognize):
    assert recognize(segment("en hund"), no=0.9)[0].language == "nb"
    transcript, model = recognize(segment("en hund"), language="nb")
    assert (transcript.language, model.asked) == ("nb", ["no"])


def test_sound_without_voices_is_not_given_to_whisper(recognize):
    transcript, model = recognize(segment("You"), has_speech=False)
    assert (transcript.segments, transcript.confidence, model.asked) == ((), 0.0, [])
    assert transcript.duration_s == 3.0
