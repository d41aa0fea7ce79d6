"""Detection of voices, and of silences between them, in recordings."""

from pathlib import Path

import numpy as np
import pytest

from mmsearch.core.speech import SAMPLE_RATE

pytest.importorskip("faster_whisper", reason="the extra speech is not installed")

from mmsearch.enrichers._sound import decode_sound
from mmsearch.enrichers._voices import find_cut, find_speech

SOUNDS = Path(__file__).parents[2] / "sounds"


def spoken(name="yellow_duck.m4a"):
    return decode_sound((SOUNDS / name).read_bytes(), 60)


def pause(seconds):
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def test_speech_between_silences_is_found():
    words = spoken()
    (span,) = find_speech(np.concatenate([pause(3), words, pause(3)]), pad_ms=0)
    assert span.start / SAMPLE_RATE == pytest.approx(3, abs=0.4)
    assert span.stop / SAMPLE_RATE == pytest.approx(3 + len(words) / SAMPLE_RATE, abs=0.4)
    assert find_speech(pause(5)) == []


def test_cut_is_in_the_longest_silence_of_the_end():
    words = spoken()
    second = len(words) / SAMPLE_RATE
    samples = np.concatenate([words, pause(9), words, pause(1), words, pause(2), words])
    after_three = 3 * second + 9 + 1
    assert after_three < find_cut(samples, 3 * second + 4) / SAMPLE_RATE < after_three + 2
    assert second < find_cut(samples, 60) / SAMPLE_RATE < second + 9


def test_end_without_speech_or_without_silence_is_not_cut():
    assert find_cut(pause(20), 10) == 20 * SAMPLE_RATE
    words = spoken()[: int(1.5 * SAMPLE_RATE)][SAMPLE_RATE // 2 :]
    without_pause = np.concatenate([words] * 5)
    assert find_cut(without_pause, 60, min_silence_ms=900) == len(without_pause)
