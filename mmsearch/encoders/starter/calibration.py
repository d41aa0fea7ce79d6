"""The starter's calibration: fitted maps of its scores, and statistics of background pictures.

``python -m benchmarks.quality.confidence`` fits both and writes them to a file, one for each
version of the embedding space.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.types import Background, Calibration, ScoreMap

SPACE_VERSION: Final = 2
"""Version of the present embedding space."""

CALIBRATION_FILE: Final = "calibration-{}.npz"
"""Name of the file of a version.

It holds ``background``, float16 (1 + rank, dim), the mean first, and ``residual``, float64 (), both
see `Background`, and ``texts`` and ``pictures``, float64 (3,), the coefficients of the maps in the
order of `ScoreMap`. The file of the first version has no ``residual``.
"""


def calibration_file(version: int) -> Path:
    """Return the path of the calibration of a version of the embedding space."""
    return Path(__file__).with_name(CALIBRATION_FILE.format(version))


def load_calibration(version: int) -> Calibration:
    """Return the calibration of a version of the embedding space.

    Raises:
        DamagedFileError: Its file is missing or damaged.
    """
    path = calibration_file(version)
    try:
        with np.load(path, allow_pickle=False) as stored:
            rows = stored["background"].astype(np.float32)
            residual = float(stored["residual"]) if "residual" in stored else 0.0
            texts, pictures = (ScoreMap(*stored[name].tolist()) for name in ("texts", "pictures"))
    except (KeyError, ValueError, OSError) as error:
        raise DamagedFileError(
            f"The starter encoder's calibration cannot be read: {path}.", "Reinstall mmsearch."
        ) from error
    background = Background(rows[0], rows[1:], residual)
    return Calibration(texts, pictures, background, measured=True)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as `load_calibration` reads it."""
    if calibration.background is None or calibration.pictures is None:
        raise ValueError("the starter needs both maps and a background")
    background = calibration.background
    rows = np.concatenate([background.mean[None, :], background.factors])
    texts, pictures = (
        np.array([score_map.bias, score_map.deviations, score_map.margin])
        for score_map in (calibration.texts, calibration.pictures)
    )
    np.savez(
        path,
        background=rows.astype(np.float16),
        residual=background.residual,
        texts=texts,
        pictures=pictures,
    )
