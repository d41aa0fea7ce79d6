"""Hearing of spoken questions: sound in, a transcript out.

Sound may come from anyone and is decoded in a worker process, as pictures are, so that a decoder
that crashes or hangs does not affect the caller. The recognizer gets only samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from mmsearch.core.enrichers import SpeechRecognizer
from mmsearch.core.errors import InvalidQueryError, SourceError
from mmsearch.core.protocols import Executor
from mmsearch.core.results import TaskFailure
from mmsearch.core.speech import MAX_QUESTION_S, SAMPLE_RATE, Transcript

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples: TypeAlias = NDArray[np.float32]

DECODE_HINT = "Use a recording such as .wav, .mp3, .ogg, .m4a or .webm."
SILENCE_HINT = "Speak closer to the microphone, or say more than a word."


class Listener:
    """Recognizes spoken questions, one at a time. Thread-safe.

    The model and the worker process start with the first question and stay until `close`.

    Args:
        make_recognizer: Returns the recognizer.
        make_decoder: Returns the function that decodes sound; called in the worker process.
        make_executor: Returns the executor that decodes.
    """

    def __init__(
        self,
        make_recognizer: Callable[[], SpeechRecognizer],
        make_decoder: Callable[[], Callable[[SoundTask], Samples]],
        make_executor: Callable[[], Executor],
    ) -> None:
        self._make_recognizer = make_recognizer
        self._make_decoder = make_decoder
        self._make_executor = make_executor
        self._recognizer: SpeechRecognizer | None = None
        self._executor: Executor | None = None
        self._lock = Lock()

    def listen(
        self, sound: bytes | Samples, language: str | None = None, name: str = "The recording"
    ) -> Transcript:
        """Return what is spoken in a question.

        Args:
            sound: Content of a sound file, or float32 (n,) samples at 16 kHz in mono, from -1 to 1.
            language: Code of the language that is spoken; None to detect it.
            name: The recording as the subject of messages.

        Raises:
            MissingExtraError: The extra ``speech`` is not installed.
            ModelUnavailableError: The model is not available.
            SourceError: The content is not a recording, or is too long.
            InvalidQueryError: Nobody speaks in it.
            UsageError: The model does not recognize the language.
        """
        with self._lock:
            # It fails at once if the extra is missing, before a process starts.
            self._recognizer = self._recognizer or self._make_recognizer()
            samples = self._decode(sound, name) if isinstance(sound, bytes) else sound
            if len(samples) > MAX_QUESTION_S * SAMPLE_RATE:
                raise _unusable(name, f"it is longer than {MAX_QUESTION_S} seconds")
            transcript = self._recognizer.transcribe(samples, language)
        if not transcript.text:
            raise InvalidQueryError(f"{name} has no speech in it.", SILENCE_HINT)
        return transcript

    def release(self) -> None:
        """Free the model; the next question loads it again."""
        with self._lock:
            if self._recognizer is not None:
                self._recognizer.release()

    def close(self) -> None:
        """Free the model and stop the worker process; the next question starts them again."""
        with self._lock:
            if self._executor is not None:
                self._executor.close()
            self._executor = self._recognizer = None

    def _decode(self, content: bytes, name: str) -> Samples:
        executor = self._executor = self._executor or self._make_executor()
        task = SoundTask(content, MAX_QUESTION_S)
        ((_, outcome),) = executor.run(self._make_decoder, [task])
        if isinstance(outcome, TaskFailure):
            raise _unusable(name, outcome.reason)
        samples: Samples = outcome
        return samples


@dataclass(frozen=True)
class SoundTask:
    """A recording to decode.

    Attributes:
        content: Content of the file.
        max_s: Maximum length in seconds.
    """

    content: bytes
    max_s: float


def _unusable(name: str, reason: str) -> SourceError:
    is_too_long = "longer than" in reason
    hint = "Ask a shorter question." if is_too_long else DECODE_HINT
    return SourceError(f"{name} cannot be used as a question: {reason}.", hint)
