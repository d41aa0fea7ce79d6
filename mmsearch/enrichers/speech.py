"""Transcripts of sound tracks: what is said in films and sounds, with the times of the words.

The recognizer of spoken queries (`mmsearch.enrichers.whisper`) gets windows of some minutes, which
end where nobody speaks: its memory grows with their length, and a window is the unit of work that a
stopped run repeats at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.derived import EnricherInput, EnricherOptions, SoundRequest, SoundWindow
from mmsearch.core.enrichers import SpeechRecognizer
from mmsearch.core.plugins import require_packages
from mmsearch.core.speech import SAMPLE_RATE, SoundBlock, SpeechOptions, SpeechSegment, Word
from mmsearch.core.types import EncoderSpec, Text, TextSource
from mmsearch.enrichers import whisper
from mmsearch.enrichers._voices import find_cut, find_speech

READS: Final = EnricherInput.SOUND
KINDS: Final = frozenset({"video", "sound"})
MEMORY_MB: Final = 800
"""Memory of a process that transcribes, in megabytes."""

WINDOW_S: Final = 300.0
"""Maximum length of a window in seconds."""

WINDOW_TIMEOUT_S: Final = 3 * WINDOW_S
"""Maximum time that a window takes: three times its length."""

CUT_S: Final = 60.0
"""Length of the end of a window in which the longest silence is searched, in seconds."""

DETECTION_S: Final = 30.0
"""Length of speech in which a language is detected, in seconds: as much as Whisper looks at."""

MIN_LANGUAGE_CONFIDENCE: Final = 0.5
"""Probability of a detected language from which on it holds for the rest of the sound."""

MAX_LINE_S: Final = 15.0
"""Length of a line in seconds after which the next word begins another one."""

MAX_PAUSE_S: Final = 1.0
"""Length of a pause in seconds after which the next word begins another line."""

_SENTENCE_ENDS: Final = (".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f", "\u061f", "\u0964")
_VERSION: Final = 1


def fingerprint(options: EnricherOptions, encoder: EncoderSpec) -> str:
    """Return what the texts depend on: the model, a given language and the version of this code.

    Raises:
        MissingExtraError: A package of the extra ``speech`` is not installed.
        UnknownNameError: There is no such model.
        ModelUnavailableError: The model is not on this machine.
        UsageError: The model does not recognize the language.
    """
    recognizer = _build_recognizer(options)
    if options.language is not None:
        # It refuses a language before it looks at the samples.
        recognizer.transcribe(np.zeros(0, np.float32), options.language)
    parts = (_VERSION, recognizer.fingerprint, options.language or "")
    return f"speech-{hashlib.sha256(' '.join(map(str, parts)).encode()).hexdigest()[:16]}"


def build(options: EnricherOptions) -> Transcriber:
    """Return the enricher; it loads its model when it first hears somebody speak.

    Raises:
        MissingExtraError: A package of the extra ``speech`` is not installed.
        UnknownNameError: There is no such model.
        ModelUnavailableError: The model is not on this machine.
    """
    return Transcriber(_build_recognizer(options))


def _build_recognizer(options: EnricherOptions) -> SpeechRecognizer:
    require_packages("Transcripts", "speech", "av", "faster_whisper")
    if options.cache is None:
        raise ValueError("a recognizer needs a folder for its model")
    return whisper.build(SpeechOptions(options.model or "auto", options.cache, options.threads))


class Transcriber:
    """Enricher that transcribes sound; see `mmsearch.core.enrichers.SoundEnricher`.

    Args:
        recognizer: Recognizes the speech of a window.
    """

    def __init__(self, recognizer: SpeechRecognizer) -> None:
        self._recognizer = recognizer

    def read(self, blocks: Iterator[SoundBlock], request: SoundRequest) -> SoundWindow:
        """Return what is said in the first window of a sound."""
        start_ms, samples, is_last = _take_window(blocks)
        if not len(samples):
            return SoundWindow()
        if request.language is None and request.subtitle_languages:
            language = self._detect_language(samples)
            if language in request.subtitle_languages:
                note = f"it has subtitles in its language ({language})"
                return SoundWindow(language=language, note=note)
        transcript = self._recognizer.transcribe(samples, request.language)
        is_certain = transcript.segments and (
            transcript.language_confidence >= MIN_LANGUAGE_CONFIDENCE
        )
        next_ms = start_ms + len(samples) * 1000 // SAMPLE_RATE
        texts = tuple(
            Text(
                "transcript",
                line.text,
                transcript.language,
                TextSource.SPEECH,
                None,
                round(line.confidence, 3),
                # A line may not begin in the window before or after its own.
                min(start_ms + round(1000 * line.start_s), next_ms - 1),
                start_ms + round(1000 * line.end_s),
            )
            for segment in transcript.segments
            for line in split_lines(segment)
        )
        language = request.language or (transcript.language if is_certain else None)
        return SoundWindow(texts, None if is_last else next_ms, language)

    def _detect_language(self, samples: NDArray[np.float32]) -> str | None:
        """Return the language of the first speech; None without speech, or if it is uncertain."""
        spans = find_speech(samples)
        if not spans:
            return None
        start = spans[0].start
        first_speech = samples[start : start + int(DETECTION_S * SAMPLE_RATE)]
        transcript = self._recognizer.transcribe(first_speech)
        is_certain = transcript.language_confidence >= MIN_LANGUAGE_CONFIDENCE
        return transcript.language if is_certain else None


def _take_window(blocks: Iterator[SoundBlock]) -> tuple[int, NDArray[np.float32], bool]:
    """Return the start of a window in milliseconds, its samples, and True if it is the last one."""
    taken: list[NDArray[np.float32]] = []
    start_ms = count = 0
    for block in blocks:
        start_ms = start_ms if taken else block.start_ms
        taken.append(np.clip(block.samples, -1, 1))
        count += len(block.samples)
        if count >= WINDOW_S * SAMPLE_RATE:
            samples = np.concatenate(taken)
            return start_ms, samples[: find_cut(samples, CUT_S)], False
    return start_ms, np.concatenate(taken) if taken else np.zeros(0, np.float32), True


@dataclass(frozen=True)
class Line:
    """Spoken words that belong together: a sentence, or a part of one.

    Attributes:
        text: The words.
        start_s: Start of the first word in seconds.
        end_s: End of the last word in seconds.
        confidence: Confidence of the segment of which it is a part, 0 to 1.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


def split_lines(segment: SpeechSegment) -> list[Line]:
    """Return the lines of a segment: they end with a sentence, before a pause, or when long."""
    places = _find_words(segment.text, segment.words)
    if not places:
        return [Line(segment.text, segment.start_s, segment.end_s, segment.confidence)]
    words = list(_move_stranded(segment.words))
    lines, first = [], 0
    for stop in range(1, len(words) + 1):
        if stop == len(words) or _is_end(words[first], words[stop - 1], words[stop]):
            place = places[stop] if stop < len(words) else len(segment.text)
            text = segment.text[places[first] : place].strip()
            times = words[first].start_s, words[stop - 1].end_s
            lines.append(Line(text, *times, segment.confidence))
            first = stop
    return lines


def _move_stranded(words: Sequence[Word]) -> Iterator[Word]:
    """Yield words; one that is alone between a sentence and a pause moves to the end of the pause.

    Silence is cut out before Whisper hears the words, so it may place the first word after a
    silence before it.
    """
    begins_sentence = True
    for word, following in zip(words, (*words[1:], None), strict=True):
        ends_sentence = _ends_sentence(word)
        if begins_sentence and not ends_sentence and following and _is_pause(word, following):
            yield replace(word, start_s=following.start_s, end_s=following.start_s)
        else:
            yield word
        begins_sentence = ends_sentence


def _is_end(first: Word, last: Word, following: Word) -> bool:
    """Return True if a line from one word to another ends before the following word."""
    return (
        _ends_sentence(last)
        or _is_pause(last, following)
        or following.end_s - first.start_s > MAX_LINE_S
    )


def _is_pause(word: Word, following: Word) -> bool:
    return following.start_s - word.end_s > MAX_PAUSE_S


def _ends_sentence(word: Word) -> bool:
    return word.text.rstrip("\"'\u201d\u2019)").endswith(_SENTENCE_ENDS)


def _find_words(text: str, words: Sequence[Word]) -> list[int]:
    """Return the place of each word in a text; nothing if a word is not there.

    Some languages have no spaces between words, so a line is a part of the text.
    """
    places: list[int] = []
    end = 0
    for word in words:
        place = text.find(word.text, end)
        if place < 0:
            return []
        places.append(place)
        end = place + len(word.text)
    return places
