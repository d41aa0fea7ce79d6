"""Files of the starter's calibration."""

import numpy as np
import pytest

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.types import Background, Calibration, ScoreMap
from mmsearch.encoders.starter import calibration as files

ROWS = np.eye(4, 8, dtype=np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "calibration_file", lambda version: tmp_path / f"{version}.npz")
    return tmp_path


def test_load_calibration_returns_what_was_written(folder):
    background = Background(ROWS[0], ROWS[1:], 0.05)
    written = Calibration(ScoreMap(-3.0, 0.5), ScoreMap(-6.0, 1.0, 9.0), background, measured=True)
    files.write_calibration(folder / "2.npz", written)
    loaded = files.load_calibration(2)
    assert (loaded.texts, loaded.pictures, loaded.measured) == (
        written.texts,
        written.pictures,
        True,
    )
    assert loaded.background.residual == 0.05
    np.testing.assert_array_equal(loaded.background.mean, ROWS[0])
    np.testing.assert_array_equal(loaded.background.factors, ROWS[1:])


def test_load_calibration_without_residual_has_none(folder):
    np.savez(folder / "1.npz", background=ROWS, texts=[-3.0, 0.5, 0.0], pictures=[-6.0, 1.0, 9.0])
    assert files.load_calibration(1).background.residual == 0.0


def test_load_calibration_of_damaged_file_fails(folder):
    (folder / "2.npz").write_bytes(b"no archive")
    with pytest.raises(DamagedFileError, match="calibration cannot be read"):
        files.load_calibration(2)


def test_calibrations_of_both_versions_ship():
    assert files.load_calibration(files.SPACE_VERSION).background.residual > 0
    assert files.load_calibration(1).background.residual == 0.0
