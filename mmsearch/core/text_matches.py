"""Text matches of a query, and the candidates of a hybrid ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Ids


@dataclass(frozen=True)
class MatchedText:
    """A text of a picture that contains words of the query.

    Attributes:
        kind: Same as `Text.kind`.
        language: Same as `Text.language`.
        text: The whole text.
        spans: Start and end of each matched word, in characters.
    """

    kind: str
    language: str | None
    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TextTerm:
    """Words that a picture's texts should contain or, with a negative weight, should not."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class TextMatches:
    """Pictures whose texts contain words of a query.

    Attributes:
        ids: int64 (n,), best first.
        scores: float32 (n,), in (0, 1]: the share of the query's words that the picture's texts
            contain; rare words count more.
    """

    ids: Ids
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class HybridCandidates:
    """Visual and text scores of c candidates, in the order of their ids.

    Attributes:
        ids: int64 (c,), ascending.
        visual_scores: float32 (c,), cosine similarity.
        visual_ranks: int64 (c,), rank among all candidates, from 1.
        text_scores: float32 (c,), in [0, 1], as `TextMatches.scores`; 0 without a match.
        text_ranks: int64 (c,), from 1; 0 without a match.
        has_text: bool (c,), True if the picture has any text.
        visual_baseline: Cosine similarity of a picture that is unrelated to the query.
    """

    ids: Ids
    visual_scores: NDArray[np.float32]
    visual_ranks: NDArray[np.int64]
    text_scores: NDArray[np.float32]
    text_ranks: NDArray[np.int64]
    has_text: NDArray[np.bool_]
    visual_baseline: float
