"""Speech recognition by Whisper (Radford et al. 2022, https://arxiv.org/abs/2212.04356).

faster-whisper runs it in CTranslate2, in int8 on the CPU. Silence, noise and music have no words in
them, but Whisper writes some all the same. So a detector of voices (Silero VAD) cuts them out
first, and numbers of Whisper itself decide about what is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.enrichers import SpeechRecognizer
from mmsearch.core.errors import MissingExtraError, ModelUnavailableError, UsageError
from mmsearch.core.speech import SAMPLE_RATE, SpeechOptions, SpeechSegment, Transcript, Word
from mmsearch.enrichers._voices import find_speech
from mmsearch.enrichers._whisper_models import MODEL_FILE, PACKAGED_MODELS, find_model

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

CODE_VERSION: Final = 1
"""Version of this code; increased when a change alters the transcripts of a model."""

BEAM_SIZE: Final = 5

DEFAULT_LANGUAGE: Final = "en"
MIN_LANGUAGE_CONFIDENCE: Final = 0.5
"""Probability of a detected language below which the sound is taken for English."""

CODES: Final = {"no": "nb", "jw": "jv"}
"""Codes of languages for which Whisper has its own, as everything else spells them."""

_WHISPER_CODES: Final = {code: whisper for whisper, code in CODES.items()}

MAX_NO_SPEECH: Final = 0.6
MIN_LOG_PROBABILITY: Final = -0.7
"""A segment is dropped if Whisper's probability that there is no speech is above the first and the
mean log probability of its tokens below the second: the words that it invents are such."""

MAX_COMPRESSION: Final = 2.4
"""Ratio of a text to its compressed form above which it is a loop: one word again and again."""


def build(options: SpeechOptions) -> SpeechRecognizer:
    """Return the recognizer of a model; the model is loaded by the first call of `transcribe`.

    Raises:
        MissingExtraError: faster-whisper is not installed.
        UnknownNameError: There is no such model.
        ModelUnavailableError: The files of the model are missing.
        ChecksumError: A file of a package is not the one that mmsearch was built with.
    """
    try:
        import faster_whisper  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingExtraError.for_extra("Speech", "faster-whisper", "speech") from error
    name, folder = find_model(options.model, options.cache)
    return WhisperRecognizer(name, folder, options.threads)


class WhisperRecognizer:
    """A model of Whisper that implements `mmsearch.core.protocols.SpeechRecognizer`.

    Args:
        name: Name of the model.
        folder: Folder of the model, in the format of CTranslate2.
        threads: Maximum number of threads.
    """

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        self._name = name
        self._folder = folder
        self._threads = threads

    @cached_property
    def fingerprint(self) -> str:
        """Name, digest of the weights and version of the code."""
        if self._name in PACKAGED_MODELS:
            digest = PACKAGED_MODELS[self._name].sha256
        else:
            from mmsearch.storage.atomic import file_sha256  # noqa: PLC0415 - large files

            digest = file_sha256(self._folder / MODEL_FILE)
        return f"speech:{self._name}/{digest[:16]}/{CODE_VERSION}"

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model recognizes."""
        return tuple(CODES.get(code, code) for code in self._model.supported_languages)

    def transcribe(self, samples: NDArray[np.float32], language: str | None = None) -> Transcript:
        """Return what is spoken in float32 (n,) samples at 16 kHz in mono, from -1 to 1.

        Raises:
            UsageError: The model does not recognize the language.
        """
        if language is not None and language not in self.languages:
            raise UsageError(
                f"The model {self._name!r} for speech does not recognize the language "
                f"{language!r}.",
                _describe_languages(self.languages),
            )
        duration_s = len(samples) / SAMPLE_RATE
        if not find_speech(samples):
            return Transcript((), language or DEFAULT_LANGUAGE, 0.0, duration_s)
        found, facts = self._run(samples, language)
        confidence = float(facts.language_probability)
        if confidence < MIN_LANGUAGE_CONFIDENCE:
            # Nothing was decoded yet: the segments are decoded as they are read.
            confidence = float(dict(facts.all_language_probs)[DEFAULT_LANGUAGE])
            found, facts = self._run(samples, DEFAULT_LANGUAGE)
        segments = tuple(_to_segments(found, duration_s))
        return Transcript(
            segments, CODES.get(facts.language, facts.language), confidence, duration_s
        )

    def release(self) -> None:
        """Free the model; the next call loads it again."""
        self.__dict__.pop("_model", None)

    @cached_property
    def _model(self) -> WhisperModel:
        from faster_whisper import WhisperModel  # noqa: PLC0415 - imports CTranslate2

        try:
            return WhisperModel(
                str(self._folder),
                device="cpu",
                compute_type="int8",
                cpu_threads=self._threads,
                local_files_only=True,
            )
        # CTranslate2 and the tokenizer raise what they like for files of another kind.
        except Exception as error:
            raise ModelUnavailableError(
                f"{self._folder} is not a model of Whisper: {str(error).splitlines()[0][:200]}.",
                "Use a folder that ct2-transformers-converter wrote, with its tokenizer.json.",
            ) from error

    def _run(self, samples: NDArray[np.float32], language: str | None) -> tuple[Any, Any]:
        """Return the segments, which are decoded as they are read, and facts such as the language.

        A language that is given, or the only one of the model, has the probability 1.
        """
        found, facts = self._model.transcribe(
            samples,
            language=None if language is None else _WHISPER_CODES.get(language, language),
            beam_size=BEAM_SIZE,
            # A ladder of temperatures costs up to twice the time and finds no more words.
            temperature=0.0,
            condition_on_previous_text=False,
            word_timestamps=True,
            vad_filter=True,
        )
        return found, facts


def _describe_languages(languages: tuple[str, ...]) -> str:
    if len(languages) == 1:
        return f"It recognizes {languages[0]!r} only."
    return f"Give one of its {len(languages)} codes, such as en, de, fr or zh."


def _to_segments(found: Any, duration_s: float) -> Iterator[SpeechSegment]:
    def to_time(seconds: float) -> float:
        return round(min(max(float(seconds), 0.0), duration_s), 3)

    for segment in found:
        is_invented = (
            segment.no_speech_prob > MAX_NO_SPEECH and segment.avg_logprob < MIN_LOG_PROBABILITY
        )
        is_loop = segment.compression_ratio > MAX_COMPRESSION
        text = segment.text.strip()
        if is_invented or is_loop or not any(map(str.isalnum, text)):
            continue
        words = tuple(
            Word(word.word.strip(), to_time(word.start), to_time(word.end), float(word.probability))
            for word in segment.words or ()
        )
        start_s, end_s = (
            (words[0].start_s, words[-1].end_s)
            if words
            else (to_time(segment.start), to_time(segment.end))
        )
        confidence = min(math.exp(segment.avg_logprob), 1.0)
        yield SpeechSegment(text, start_s, end_s, confidence, words)
