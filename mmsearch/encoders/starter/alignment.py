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

EXTENSION_FILE: Final = Path(__file__).with_name("extension.npz")
"""Path of the extension that is part of the package."""

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


@dataclass(frozen=True)
class Extension:
    """The learned arrays behind the columns of synthesised classifiers.

    A text is mapped to the row that a classifier of ImageNet would have for it, by kernel ridge
    regression over the names of classes and WordNet's concepts. The product of that row and a
    picture's features is the classifier's answer.

    Attributes:
        landmarks: float32 (m - 1000, 384), unit rows: sentence vectors that a text is compared
            with, besides `Alignment.class_sentences`.
        coefficients: float32 (m, columns): maps the kernel values of a text to its columns.
        picture_map: float32 (1280, columns): maps pooled image features to the columns.
        picture_bias: float32 (columns,): added to those of pictures.
        kernel_width: Width h of the kernel exp((cosine - 1) / h).
    """

    landmarks: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    picture_map: NDArray[np.float32]
    picture_bias: NDArray[np.float32]
    kernel_width: float

    @property
    def dim(self) -> int:
        """Number of columns."""
        return int(self.coefficients.shape[1])


def load_alignment(path: Path | None = None) -> Alignment:
    """Read an alignment file.

    Args:
        path: File to read; by default the one in the package.

    Raises:
        ModelUnavailableError: The file does not exist.
        DamagedFileError: The file is damaged or lacks an array.
    """
    values = _load(Alignment, path or ALIGNMENT_FILE)
    return Alignment(**values | {"groups": values["groups"].astype(np.int64)})


def load_extension(path: Path | None = None) -> Extension:
    """Read an extension file; arguments and errors are those of `load_alignment`."""
    return Extension(**_load(Extension, path or EXTENSION_FILE))


def _load(kind: type[Alignment | Extension], path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {f.name: stored[f.name] for f in fields(kind)}
    except FileNotFoundError as error:
        raise ModelUnavailableError(
            f"The starter encoder's alignment is missing: {path}.", "Run scripts/build_starter."
        ) from error
    except (KeyError, ValueError, OSError) as error:
        raise DamagedFileError(
            f"The starter encoder's alignment cannot be read: {path}.", "Reinstall mmsearch."
        ) from error
    return {k: v.astype(np.float32) if v.ndim else float(v) for k, v in arrays.items()}
