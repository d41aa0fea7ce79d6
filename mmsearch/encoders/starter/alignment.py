"""The starter's learned arrays: what carries both towers into one space."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError, ModelUnavailableError

ALIGNMENT_FILE: Final = Path(__file__).with_name("alignment.npz")

SENTENCE_DIM: Final = 384


@dataclass(frozen=True)
class Alignment:
    """The learned arrays that carry both towers into one space.

    Its first columns stand for groups of ImageNet classes that look and mean alike, the next ones
    for directions that were learned from captioned drawings; the last ones are sentence vectors.

    Attributes:
        groups: int64 (1000,): the column of each ImageNet class, from 0 without gaps.
        word_map: float32 (384, 1000): from sentence vectors to class logits.
        word_bias: float32 (1000,): added to those logits.
        feature_map: float32 (1280, extra): from pooled image features to the last columns.
        feature_bias: float32 (extra,).
        sentence_map: float32 (384, extra): from sentence vectors to the last columns.
        sentence_bias: float32 (extra,).
        temperature: Divides a picture's class logits before the softmax.
        picture_power: Flattens a picture's shares of the groups (below 1).
        word_power: Flattens a text's shares of the groups (below 1).
        extra_share: How much the learned directions decide beside the groups, 0..1.
        class_sentences: float32 (1000, 384), unit rows: what each class is called.
        sentence_share: How much of a score the sentence vectors decide, 0..1.
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
        """Columns of the shared space."""
        return int(self.groups.max()) + 1 + int(self.feature_map.shape[1]) + SENTENCE_DIM


def load_alignment(path: Path | None = None) -> Alignment:
    """Read an alignment file.

    Args:
        path: Another file than the package's own.

    Raises:
        ModelUnavailableError: There is no such file.
        DamagedFileError: It lacks an array.
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
