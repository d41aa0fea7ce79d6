"""Fit of the starter's synthesised classifiers: kernel ridge regression from texts to classifiers.

Each class of ImageNet has a row of weights in the image tower's classifier. A concept of WordNet
gets the mean row of the classes below it. The regression learns to predict such rows from sentence
vectors, so that any text gets one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.encoders.starter.alignment import Extension

COLUMNS = 256
"""Number of singular vectors of the classifier that are kept."""

KERNEL_WIDTH = 0.6
PENALTY = 0.1
"""Weight of the squared norm of the regression; both were chosen on stamps and tests/photos."""

JITTER = 1e-5
"""Number added to the diagonal, because landmarks may be nearly equal."""

Floats = NDArray[np.float64]


def fit_extension(
    rows: NDArray[np.float32],
    features: NDArray[np.float32],
    texts: NDArray[np.float32],
    text_classes: NDArray[np.float32],
    class_sentences: NDArray[np.float32],
    landmarks: NDArray[np.float32],
) -> Extension:
    """Fit the columns of synthesised classifiers.

    Args:
        rows: Weights of the classifier, float32 (1000, 1280).
        features: Pooled features of drawings, float32 (n, 1280), which give their mean and scale.
        texts: Sentence vectors, float32 (t, 384).
        text_classes: Weights of the classes that each text means, float32 (t, 1000); rows sum to 1.
        class_sentences: See `Alignment.class_sentences`.
        landmarks: See `Extension.landmarks`.
    """
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    basis = np.linalg.svd(centred, full_matrices=False)[2][:COLUMNS].T
    # The sign of a singular vector is arbitrary.
    basis *= np.sign(basis[np.abs(basis).argmax(0), np.arange(COLUMNS)])
    targets = text_classes.astype(np.float64) @ (centred @ basis)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    # Rounded as they are stored.
    points = np.concatenate([class_sentences, landmarks]).astype(np.float16).astype(np.float64)
    kernel = _kernel(texts.astype(np.float64), points)
    system = kernel.T @ kernel + PENALTY * _kernel(points, points) + JITTER * np.eye(len(points))
    mean = features.mean(0, dtype=np.float64)
    scale = np.linalg.norm((features - mean) @ basis, axis=1).mean()
    arrays = {
        "landmarks": landmarks,
        "coefficients": np.linalg.solve(system, kernel.T @ targets),
        "picture_map": basis / scale,
        "picture_bias": -mean @ basis / scale,
    }
    return Extension(
        **{name: array.astype(np.float32) for name, array in arrays.items()},
        kernel_width=KERNEL_WIDTH,
    )


def _kernel(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.exp((first @ second.T - 1) / KERNEL_WIDTH))
