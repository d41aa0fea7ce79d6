"""What speaks for a picture: how much it looks like the query, and what its texts say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Ids


@dataclass(frozen=True)
class MatchedText:
    """A text of a picture that holds words of the query.

    Attributes:
        kind: As `Text.kind`.
        language: As `Text.language`.
        text: All of it.
        spans: Where the words stand: start and end of each, in characters.
    """

    kind: str
    language: str | None
    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TextTerm:
    """Words that the texts of a picture shall hold, or, with a weight below 0, shall not."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class TextMatches:
    """Pictures whose texts hold words of a query.

    Attributes:
        ids: int64 (n,), best first.
        scores: float32 (n,), in (0, 1]: the share of the query's words that the picture's texts
            hold, rare words counting more.
    """

    ids: Ids
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class HybridCandidates:
    """Both kinds of evidence for c candidates, in the order of their ids.

    Attributes:
        ids: int64 (c,), ascending.
        visual_scores: float32 (c,), cosine similarity.
        visual_ranks: int64 (c,), from 1: the place of each among all candidates.
        text_scores: float32 (c,), in [0, 1], as `TextMatches.scores`; 0 without a match.
        text_ranks: int64 (c,), from 1; 0 without a match.
        has_text: bool (c,): whether the picture has texts at all.
        visual_baseline: The cosine similarity of a picture that has nothing to do with the query.
    """

    ids: Ids
    visual_scores: NDArray[np.float32]
    visual_ranks: NDArray[np.int64]
    text_scores: NDArray[np.float32]
    text_ranks: NDArray[np.int64]
    has_text: NDArray[np.bool_]
    visual_baseline: float
