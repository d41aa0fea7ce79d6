"""Tags of pictures from a vocabulary, by zero-shot classification (CLIP, arXiv:2103.00020).

The stored vector of a picture is compared with the query vector of each word, so no picture is read
again and a changed vocabulary takes seconds. A tag has the probability that a search for the word
would show for the picture.
"""

from __future__ import annotations

import hashlib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np

from mmsearch.core.derived import EnricherInput, EnricherOptions
from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError, UsageError
from mmsearch.core.files import os_error_reason
from mmsearch.core.types import IMAGE_KIND, EncoderSpec, Text, TextSource, Vectors

READS: Final = EnricherInput.VECTORS
KINDS: Final = frozenset({IMAGE_KIND, "video"})

MAX_TAGS: Final = 5
"""Maximum number of tags of a picture."""

MIN_CONFIDENCE: Final = 0.15
"""Minimum probability of a tag: below it, searches show no percentage either."""

MAX_WORDS: Final = 20_000
"""Maximum number of tags in a vocabulary."""

MAX_TAG_CHARS: Final = 100
MAX_VOCABULARY_BYTES: Final = 8_000_000

_VERSION: Final = 1
_TEXT_BATCH: Final = 256


def fingerprint(options: EnricherOptions, encoder: EncoderSpec) -> str:
    """Return what tags depend on: the encoder, the vocabulary and the version of this code.

    Raises:
        SourceError: The vocabulary cannot be read.
        UsageError: It has no tag, or too many.
    """
    words = read_vocabulary(options.vocabulary)
    parts = (str(_VERSION), encoder.fingerprint, *words)
    return f"tags-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:16]}"


def build(options: EnricherOptions) -> Tagger:
    """Build the enricher; `EnricherOptions.encode_texts` and ``probabilities`` must be set."""
    return Tagger(options, read_vocabulary(options.vocabulary))


def read_vocabulary(path: Path | None) -> tuple[str, ...]:
    """Return the tags of a file, one a line, or the built-in ones; each once, in their order.

    Empty lines and those that begin with ``#`` are left out.

    Raises:
        SourceError: The file cannot be read as text.
        UsageError: It has no tag, or too many.
    """
    if path is None:
        text = resources.files("mmsearch.core.language_data").joinpath("things.toml").read_text()
        groups = tomllib.loads(text)
        return tuple(
            dict.fromkeys(word for name in ("living", "things", "places") for word in groups[name])
        )
    try:
        with path.open("rb") as file:
            content = file.read(MAX_VOCABULARY_BYTES + 1)
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise SourceError(
            f"The vocabulary {display_path(path)} cannot be read: {os_error_reason(error)}.",
            "Check the path.",
        ) from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"The vocabulary {display_path(path)} is not text in UTF-8.",
            "Save it as UTF-8, one tag a line.",
        ) from error
    stripped = (" ".join(line.split()) for line in lines)
    words = tuple(dict.fromkeys(word for word in stripped if word and not word.startswith("#")))
    too_long = next((word for word in words if len(word) > MAX_TAG_CHARS or ";" in word), None)
    if not words or len(words) > MAX_WORDS or len(content) > MAX_VOCABULARY_BYTES:
        raise UsageError(
            f"The vocabulary {display_path(path)} has {len(words):,} tags.",
            f"Write 1 to {MAX_WORDS:,} tags into it, one a line.",
        )
    if too_long is not None:
        raise UsageError(
            f"The vocabulary {display_path(path)} has a tag {too_long[:MAX_TAG_CHARS]!r}.",
            f"A tag has at most {MAX_TAG_CHARS} characters and no semicolon.",
        )
    return words


class Tagger:
    """Enricher that gives pictures the most probable tags of a vocabulary.

    Args:
        options: Options with the functions of the index.
        words: The tags to choose from.
    """

    def __init__(self, options: EnricherOptions, words: tuple[str, ...]) -> None:
        if options.encode_texts is None or options.probabilities is None:
            raise ValueError("tags need the encoder of the index")
        self._words = words
        self._probabilities = options.probabilities
        encode = options.encode_texts
        self._vectors = np.concatenate(
            [
                encode(words[start : start + _TEXT_BATCH])
                for start in range(0, len(words), _TEXT_BATCH)
            ]
        )

    def describe(self, images: Vectors) -> list[tuple[Text, ...]]:
        """Return the tags of each picture, the most probable first; see `VectorEnricher`."""
        probabilities = self._probabilities(images, self._vectors)
        return [self._choose(row) for row in probabilities]

    def _choose(self, probabilities: np.ndarray) -> tuple[Text, ...]:
        # Ties are broken by the order of the vocabulary.
        best = np.argsort(-probabilities, kind="stable")[:MAX_TAGS]
        return tuple(
            Text("tag", self._words[word], None, TextSource.TAGS, None, confidence)
            for word in best.tolist()
            if (confidence := round(float(probabilities[word]), 3)) >= MIN_CONFIDENCE
        )
