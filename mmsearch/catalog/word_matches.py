"""Matches of each word of a query in the texts of each item, and the scores that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.query_words import DERIVED, FOLDED, INFLECTED
from mmsearch.catalog.text_weights import FULL_SCORE_EVIDENCE
from mmsearch.core.types import Ids

RARE_BITS = 3.0
"""Surprise of a match above which it is as good as unique, in bits beyond the first one."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WordMatches:
    """The best match of each of t tokens in the texts of each of n items.

    Attributes:
        ids: int64 (n,), ascending.
        exactness: float64 (n, t), how well the word matches, see `query_words`; 0 without a match.
        nats: float64 (n, t), evidence of the text with the match.
        most_nats: float64 (n, t), the same if names of folders were those of files.
        is_match: bool (n,), True for items with any match.
    """

    ids: Ids
    exactness: Floats
    nats: Floats
    most_nats: Floats
    is_match: NDArray[np.bool_]

    @classmethod
    def from_results(
        cls, ids: Ids, num_tokens: int, results: Sequence[tuple[int, int, float, float, float]]
    ) -> WordMatches:
        """Return the best of all matches.

        Args:
            ids: int64 (n,), ascending.
            num_tokens: Number of tokens.
            results: Item, token, exactness, evidence, and evidence of the file's name of matches.
        """
        tables = np.zeros((3, len(ids), num_tokens))
        is_match = np.zeros(len(ids), dtype=bool)
        if results:
            columns = np.array(results, dtype=np.float64).T
            is_match[np.searchsorted(ids, columns[0].astype(np.int64))] = True
            products = columns[2] * columns[3]
            # What counts nothing is no match. The last one of each cell is the first of the best.
            order = np.lexsort((-np.arange(len(products)), products))
            order = order[products[order] > 0]
            rows = np.searchsorted(ids, columns[0, order].astype(np.int64))
            tables[:, rows, columns[1, order].astype(np.int64)] = columns[2:, order]
        return cls(ids, tables[0], tables[1], tables[2], is_match)

    def count(self, contents: Ids, frequencies: Sequence[int]) -> list[int]:
        """Return the number of contents that have each token, in the best form that any has.

        Args:
            contents: int64 (n,), the content of each item.
            frequencies: Number of contents in which FTS5 finds each token.
        """
        if not self.is_match.any():
            return list(frequencies)
        known, rows = np.unique(contents, return_inverse=True)
        best = np.zeros((len(known), self.exactness.shape[1]))
        np.maximum.at(best, rows, self.exactness)
        good = (best >= INFLECTED).sum(axis=0)
        folded = (best >= FOLDED).sum(axis=0)
        counts = np.where(good > 0, good, np.where(folded > 0, folded, frequencies))
        return [int(count) for count in counts]

    def mean_exactness(self) -> Floats:
        """Return the mean exactness of each token among items with any match, float64 (t,)."""
        if not self.is_match.any():
            return np.ones(self.exactness.shape[1])
        means: Floats = self.exactness[self.is_match].mean(axis=0)
        return means

    def add_neighbours(self, pairs: Ids, weight: float) -> WordMatches:
        """Return the matches with those of neighbours, which count less.

        Args:
            pairs: int64 (pairs, 3): an item, a neighbour that gets its matches, and -1 if that is
                before it, 1 if it is after it.
            weight: Weight of a match of a neighbour.
        """
        ids = np.union1d(self.ids, pairs[:, 1])
        tables = np.zeros((3, len(ids), self.exactness.shape[1]))
        old_rows = np.searchsorted(ids, self.ids)
        tables[:, old_rows] = self.exactness, self.nats, self.most_nats
        own = tables.copy()
        own[0] *= weight
        # Each pass writes every item once.
        for side in (-1, 1):
            sources, rows = np.searchsorted(ids, pairs[pairs[:, 2] == side, :2]).T
            near, known = own[:, sources], tables[:, rows]
            tables[:, rows] = np.where(near[0] * near[1] > known[0] * known[1], near, known)
        return WordMatches(ids, tables[0], tables[1], tables[2], tables[0].any(axis=1))

    def score(
        self, weights: Sequence[float], bits: Sequence[float]
    ) -> tuple[Floats, Floats, Floats]:
        """Return scores, evidence, and the scores if names of folders were those of files.

        Args:
            weights: Weight of each token, t.
            bits: Surprise of a match of each token, t.

        Returns:
            Three arrays, float64 (n,).
        """
        scores, reached, coverage, nats, surprise = np.zeros((5, len(self.ids)))
        for token, (weight, bit) in enumerate(zip(weights, bits, strict=True)):
            exactness, own_nats = self.exactness[:, token], self.nats[:, token]
            weighted = weight * exactness
            scores += weighted * np.minimum(own_nats, FULL_SCORE_EVIDENCE)
            reached += weighted * self.most_nats[:, token]
            # A word that only shares the stem is no evidence.
            is_evidence = exactness > DERIVED
            coverage += weighted * is_evidence
            nats += weighted * own_nats * is_evidence
            surprise += bit * exactness * is_evidence
        total = sum(weights)
        evidence = np.clip((surprise - 1.0) / RARE_BITS, 0.0, 1.0) * coverage * nats / total**2
        return scores / (total * FULL_SCORE_EVIDENCE), evidence, reached
