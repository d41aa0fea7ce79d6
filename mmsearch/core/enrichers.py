"""Protocols of the plugins in enrichers/. The tests in tests/contract/ check their behavior."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import EncoderSpec, Picture, Pixels, Text, Vectors

if TYPE_CHECKING:
    from mmsearch.core.derived import EnricherInput, EnricherOptions, SoundRequest, SoundWindow
    from mmsearch.core.speech import SoundBlock, SpeechOptions, Transcript


class SpeechRecognizer(Protocol):
    """Recognizer of speech; not thread-safe."""

    @property
    def fingerprint(self) -> str:
        """Name of the model, its weights and the version of the code: what transcripts depend on.

        Reading it may read all weights once.
        """

    @property
    def languages(self) -> Sequence[str]:
        """Codes of the languages that it recognizes, such as ``en``."""

    def transcribe(self, samples: NDArray[np.float32], language: str | None = None) -> Transcript:
        """Return what is spoken; a transcript without segments if nobody speaks.

        Segments and their words are in the order of their times, which are within the sound.

        Args:
            samples: float32 (n,) at 16 kHz in mono, from -1 to 1. Memory grows with n, so the
                caller cuts long sounds into windows.
            language: Code of the language that is spoken; None to detect it.

        Raises:
            UsageError: It does not recognize the language.
        """

    def release(self) -> None:
        """Free the memory of the model; the next call loads it again."""


class SpeechPlugin(Protocol):
    """Interface of a module in enrichers/ that recognizes speech."""

    def build(self, options: SpeechOptions) -> SpeechRecognizer:
        """Build the recognizer; UnknownNameError or ModelUnavailableError without its model."""


class VectorEnricher(Protocol):
    """Maker of texts from the image vectors of items, without their files."""

    def describe(self, images: Vectors) -> list[tuple[Text, ...]]:
        """Return the texts of each of n items, given their image vectors (n, dim)."""


class PixelEnricher(Protocol):
    """Maker of texts from the pixels of items; runs in worker processes."""

    @property
    def edge_px(self) -> int:
        """Minimum short side in pixels to which a decoder may reduce a picture."""

    def read(self, pixels: Pixels) -> tuple[Text, ...]:
        """Return the texts of one item.

        Raises:
            DecodeError: The picture cannot be read; the message is the reason.
        """


class SoundEnricher(Protocol):
    """Maker of texts from sound; runs in worker processes."""

    def read(self, blocks: Iterator[SoundBlock], request: SoundRequest) -> SoundWindow:
        """Return the texts of the first window of a sound, which ends where nobody speaks.

        Memory does not grow with the length of the sound: only a window is taken from the blocks.

        Args:
            blocks: The sound, each block from the end of the former one.
            request: What is known of the sound.

        Raises:
            UsageError: It does not read that language.
        """


class EnricherPlugin(Protocol):
    """Interface of a module in enrichers/ that makes texts of the contents of an index.

    Its name is the source of the texts, one of `mmsearch.core.types.DERIVED_SOURCES`.
    """

    READS: EnricherInput
    """Input: it decides between `VectorEnricher`, `PixelEnricher` and `SoundEnricher`."""

    KINDS: frozenset[str]
    """Kinds of the contents that it reads."""

    def fingerprint(self, options: EnricherOptions, encoder: EncoderSpec) -> str:
        """Return what its texts depend on: model, options and version, without loading the model.

        Args:
            options: Options of the enricher.
            encoder: Encoder of the index.

        Raises:
            ModelUnavailableError: The weights are not available.
            SourceError: The vocabulary cannot be read.
        """

    def build(self, options: EnricherOptions) -> VectorEnricher | PixelEnricher | SoundEnricher:
        """Build the enricher; ModelUnavailableError if its weights are not available."""


class PixelEnricherPlugin(EnricherPlugin, Protocol):
    """Interface of a module in enrichers/ that reads pixels.

    It may have ``TEXT_FIRST = True``, to begin with contents that are likely to have text in them.
    """

    def wants(self, picture: Picture) -> bool:
        """Return False for an item that need not be read, given what is known of it."""

    def memory_mb(self, options: EnricherOptions) -> int:
        """Return the memory that a process needs for it, in megabytes."""

    def uses_gpu(self, device: str) -> bool:
        """Return True if it runs on a GPU, in one process; see `EnricherOptions.device`."""


class SoundEnricherPlugin(EnricherPlugin, Protocol):
    """Interface of a module in enrichers/ that reads sound."""

    MEMORY_MB: int
    """Memory that a process needs for it, in megabytes."""

    WINDOW_TIMEOUT_S: float
    """Maximum time that a window takes on a slow computer, in seconds."""
