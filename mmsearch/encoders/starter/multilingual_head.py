"""Map from the sentence vectors of multilingual-e5-small into the starter's embedding space.

Only texts are mapped; ``scripts/build_multilingual`` learns the arrays from English words and the
names of emoji in ten languages. The parts are those of the first tower (see
`mmsearch.encoders.starter.heads`), except for the learned directions, which stay 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.types import Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.encoders.starter.alignment import SENTENCE_DIM, Alignment, load_alignment

HEAD_FILE: Final = Path(__file__).with_name("multilingual.npz")
"""Path of the learned arrays."""

KERNEL_WIDTH: Final = 0.6
"""Width h of the kernel exp((cosine - 1) / h)."""

CLASS_SCALE: Final = 20.0
"""Factor of the cosines of a text and the classes before the softmax."""

SYNTHESIS_WEIGHT: Final = 0.4
"""Weight of the synthesised classifiers' cosine; this and the others were chosen on stamps and the
captions of ``dev``."""

COLOUR_WEIGHT: Final = 0.17
"""Weight of the colours' cosine for a text that names one."""

PICTURE_SHARES: Final = (0.6, 0.3, 0.1)
"""Shares of the alignment, the synthesised classifiers and the colours in a picture's vector."""

COLOUR_COUNT: Final = 11
SHARE_FLOOR: Final = 1e-9


@dataclass(frozen=True)
class HeadArrays:
    """The learned arrays.

    Attributes:
        centre: float32 (384,): mean vector of the names of classes, taken off every vector.
        landmarks: float32 (m, 384), unit rows: centred vectors that a text is compared with; the
            first thousand are the names of ImageNet's classes.
        coefficients: float32 (m, columns + 384): maps the kernel values of a text to a synthesised
            classifier and to the sentence vector that the first tower would give.
    """

    centre: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    coefficients: NDArray[np.float32]


class MultilingualHead:
    """Maps sentence vectors to the starter's space.

    Args:
        arrays: The learned arrays.
        alignment: The alignment of the space.
    """

    def __init__(self, arrays: HeadArrays, alignment: Alignment) -> None:
        self._arrays = arrays
        self._alignment = alignment
        self._memberships = np.eye(int(alignment.groups.max()) + 1)[alignment.groups]

    def __call__(self, sentences: Vectors, colours: NDArray[np.bool_]) -> Vectors:
        """Map n texts to float32 (n, dim) with unit rows.

        Args:
            sentences: Sentence vectors, float32 (n, 384), with unit rows.
            colours: True for the colours that each text names, (n, 11).
        """
        alignment = self._alignment
        centred = as_unit_vectors(sentences - self._arrays.centre)
        cosines = centred @ self._arrays.landmarks.T
        learned = np.exp((cosines - 1) / KERNEL_WIDTH) @ self._arrays.coefficients
        columns = learned.shape[1] - SENTENCE_DIM
        share = 1 - alignment.sentence_share
        base = (
            self._group_shares(cosines[:, : len(alignment.groups)])
            * math.sqrt(share * (1 - alignment.extra_share)),
            np.zeros((len(sentences), alignment.feature_map.shape[1])),
            as_unit_vectors(learned[:, columns:]) * math.sqrt(alignment.sentence_share),
        )
        named = colours / np.maximum(np.sqrt(colours.sum(1, keepdims=True)), 1)
        base_share, synthesis_share, colour_share = PICTURE_SHARES
        # Divided by the length of each part in pictures: the weights are those of its cosines.
        parts = (
            as_unit_vectors(np.concatenate(base, axis=1).astype(np.float32)),
            as_unit_vectors(learned[:, :columns])
            * (SYNTHESIS_WEIGHT * math.sqrt(base_share / synthesis_share)),
            named * (COLOUR_WEIGHT * math.sqrt(base_share / colour_share)),
        )
        return as_unit_vectors(np.concatenate(parts, axis=1).astype(np.float32))

    def _group_shares(self, cosines: NDArray[np.float32]) -> Vectors:
        """Return the shares of the groups of classes, float32 (n, groups) with unit rows."""
        shares = np.exp(CLASS_SCALE * (cosines - cosines.max(axis=1, keepdims=True)))
        shares = shares / shares.sum(axis=1, keepdims=True) @ self._memberships
        powers = (shares + SHARE_FLOOR) ** self._alignment.word_power
        return as_unit_vectors(powers.astype(np.float32))


def load_head(path: Path = HEAD_FILE) -> MultilingualHead:
    """Read the learned arrays.

    Raises:
        DamagedFileError: The file is missing, damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = HeadArrays(**{f.name: stored[f.name].astype("f4") for f in fields(HeadArrays)})
    except (KeyError, ValueError, OSError) as error:
        raise DamagedFileError(
            f"The arrays of the multilingual text tower cannot be read: {path}.",
            "Reinstall mmsearch.",
        ) from error
    return MultilingualHead(arrays, load_alignment())
