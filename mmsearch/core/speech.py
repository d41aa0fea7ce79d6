"""Speech as text: what a recognizer returns, and what a search makes of a spoken question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmsearch.core.results import Hit, JsonObject, SearchPage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmsearch.core.query import Term

SAMPLE_RATE: Final = 16_000
"""Samples per second that recognizers take."""

MAX_QUESTION_S: Final = 60
"""Maximum length of a spoken question in seconds, after decoding."""

MAX_SOUND_BYTES: Final = 50_000_000
"""Maximum size of a recording of a spoken question."""

_FINAL_PUNCTUATION: Final = " \t\n.,;:!?\u2026\u3002\uff01\uff1f\u061f\u0964"


@dataclass(frozen=True)
class SpeechOptions:
    """Options for building a speech recognizer.

    Attributes:
        model: A name that the plugin knows, ``auto``, or the folder of a model.
        cache: Folder for verified models.
        threads: Maximum number of threads.
    """

    model: str
    cache: Path
    threads: int = 1


@dataclass(frozen=True)
class SoundBlock:
    """Consecutive samples of a sound.

    Attributes:
        start_ms: Time of the first sample in milliseconds, on the clock of its file.
        samples: float32 (n,) at 16 kHz in mono, from -1 to 1.
    """

    start_ms: int
    samples: NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """A spoken word.

    Attributes:
        text: The word, with the punctuation that follows it.
        start_s: Its start in seconds.
        end_s: Its end in seconds.
        confidence: Probability of the word, 0 to 1.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class SpeechSegment:
    """Words that were spoken in one piece, such as a sentence.

    Attributes:
        text: The words as one line.
        start_s: Start of the first word in seconds.
        end_s: End of the last word in seconds.
        confidence: Mean probability of its tokens, 0 to 1.
        words: The words, in the order of their times.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float
    words: Sequence[Word] = ()


@dataclass(frozen=True)
class Transcript:
    """The words of a sound. They are a literal text: no sign in it is query syntax.

    Attributes:
        segments: The spoken words in the order of their times; empty if there is no speech.
        language: Code of the language, such as ``en``.
        language_confidence: Probability of that language, 0 to 1; 1 if the caller has named it.
        duration_s: Length of the sound in seconds.
    """

    segments: Sequence[SpeechSegment]
    language: str
    language_confidence: float
    duration_s: float

    @property
    def text(self) -> str:
        """All words as one line, without the punctuation at its end."""
        words = " ".join(" ".join(segment.text for segment in self.segments).split())
        # A full stop at the end changes which pictures a text tower finds.
        return words.rstrip(_FINAL_PUNCTUATION) or words

    @property
    def confidence(self) -> float:
        """Mean confidence of the segments, weighted by their lengths, 0 to 1; 0 without speech."""
        weights = [max(segment.end_s - segment.start_s, 0.01) for segment in self.segments]
        total = sum(
            weight * segment.confidence
            for weight, segment in zip(weights, self.segments, strict=True)
        )
        return total / sum(weights) if weights else 0.0

    @property
    def heard(self) -> Heard:
        """The transcript as a search returns it."""
        return Heard(self.text, self.language, round(self.confidence, 4))

    @property
    def term(self) -> Term:
        """The transcript as a term of a query."""
        from mmsearch.core.query import Term  # noqa: PLC0415 - recognizers need no queries

        return Term(self.text, language=self.language)


@dataclass(frozen=True)
class Heard(JsonObject):
    """The words of a spoken question, which the search took literally.

    Attributes:
        text: The words.
        language: Code of the language, such as ``en``.
        confidence: How certain the recognizer is of the words, 0 to 1.
    """

    text: str
    language: str
    confidence: float


@dataclass(frozen=True, kw_only=True)
class SpokenSearchPage(SearchPage):
    """A page of a search by speech, as a server returns it.

    Attributes:
        heard: The words that were searched for. `query` has them as a line of the query language,
            for a search without the recording.
    """

    heard: Heard

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return super()._parse(values) | {"heard": Heard.from_dict(values["heard"])}


class SpokenHits(list[Hit]):
    """Hits of a spoken query.

    Args:
        hits: The hits.
        heard: The words that were searched for.
    """

    def __init__(self, hits: Iterable[Hit], heard: Heard) -> None:
        super().__init__(hits)
        self.heard = heard
