"""The starter's learned arrays, which map both towers into one embedding space."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError, ModelUnavailableError

ALIGNMENT_FILE: Final = Path(__file__).with_name("alignment.npz")
"""Path of the alignment that is part of the package."""

SENTENCE_DIM: Final = 384
"""Dimension of a sentence vector."""


@dataclass(frozen=True)
class Alignment:
    """The learned arrays that map both towers into one embedding space.

    The first columns of the space represent groups of ImageNet classes of similar look and meaning,
    the next ones directions learned from captioned drawings, and the last ones sentence vectors.

    Attributes:
        groups: int64 (1000,): column of each ImageNet class, numbered from 0 without gaps.
        word_map: float32 (384, 1000): maps sentence vectors to class logits.
        word_bias: float32 (1000,): added to those logits.
        feature_map: float32 (1280, extra): maps pooled image features to the learned directions.
        feature_bias: float32 (extra,): added to those of pictures.
        sentence_map: float32 (384, extra): maps sentence vectors to the learned directions.
        sentence_bias: float32 (extra,): added to those of texts.
        temperature: Divisor of a picture's class logits before the softmax.
        picture_power: Exponent below 1 that flattens a picture's group shares.
        word_power: Exponent below 1 that flattens a text's group shares.
        extra_share: Weight of the learned directions relative to the groups, 0..1.
        class_sentences: float32 (1000, 384), unit rows: sentence vectors of the class names.
        sentence_share: Share of the sentence vectors in a score, 0..1.
    """

    groups: NDArray[np.int64]
    word_map: NDArray[np.float32]
    word_bias: NDArray[np.float32]
    feature_map: NDArray[np.float32]
    feature_bias: NDArray[np.float32]
    sentence_map: NDArray[np.float32]
    sentence_bias: NDArray[np.float32]
    temperature: float
    picture_power: float
    word_power: float
    extra_share: float
    class_sentences: NDArray[np.float32]
    sentence_share: float

    @property
    def dim(self) -> int:
        """Dimension of the shared embedding space."""
        return int(self.groups.max()) + 1 + int(self.feature_map.shape[1]) + SENTENCE_DIM


def load_alignment(path: Path | None = None) -> Alignment:
    """Read an alignment file.

    Args:
        path: File to read; by default the one in the package.

    Raises:
        ModelUnavailableError: The file does not exist.
        DamagedFileError: The file is damaged or lacks an array.
    """
    path = path or ALIGNMENT_FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {f.name: stored[f.name] for f in fields(Alignment)}
    except FileNotFoundError as error:
        raise ModelUnavailableError(
            f"The starter encoder's alignment is missing: {path}.", "Run scripts/build_starter."
        ) from error
    except (KeyError, ValueError, OSError) as error:
        raise DamagedFileError(
            f"The starter encoder's alignment cannot be read: {path}.", "Reinstall mmsearch."
        ) from error
    float_arrays: dict[str, Any] = {k: v.astype(np.float32) for k, v in arrays.items() if v.ndim}
    scalars = {k: float(v) for k, v in arrays.items() if not v.ndim}
    return Alignment(**float_arrays | scalars | {"groups": arrays["groups"].astype(np.int64)})
