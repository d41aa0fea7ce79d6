import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.query import Band
from mmsearch.core.types import Calibration
from mmsearch.search.hits import (
    LIKELY_THRESHOLD,
    POSSIBLE_THRESHOLD,
    combine_with_text,
    to_band,
    visual_confidence,
)
from mmsearch.search.retrieval import ScoreDistribution

CALIBRATIONS = [Calibration(), Calibration(-4.0, library=0.0, margin=9.0, null=1.5, measured=True)]
scores = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=20)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@given(scores)
def test_visual_confidence_never_falls_as_score_rises(calibration, raw_scores):
    ranked = np.sort(np.array(raw_scores, dtype=np.float32))
    probabilities = visual_confidence(
        ranked, np.zeros_like(ranked), ScoreDistribution.from_scores(ranked), calibration
    )
    assert (np.diff(probabilities) >= 0).all()
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_visual_confidence_falls_when_whole_library_scores_high():
    calibration = CALIBRATIONS[1]
    score, null = np.array([0.4], np.float32), np.array([0.2], np.float32)
    common, rare = (
        ScoreDistribution.from_scores(np.full(9, 0.35, np.float32)),
        ScoreDistribution.from_scores(np.zeros(9, np.float32)),
    )
    assert visual_confidence(score, null, common, calibration) < visual_confidence(
        score, null, rare, calibration
    )


def test_visual_confidence_falls_when_null_score_is_high():
    score = np.array([0.4, 0.4], np.float32)
    background = ScoreDistribution.from_scores(np.zeros(9, np.float32))
    plain, odd = visual_confidence(
        score, np.array([0.4, 0.1], np.float32), background, CALIBRATIONS[1]
    )
    assert plain < odd


def test_score_distribution_of_no_scores_has_positive_std():
    assert ScoreDistribution.from_scores(np.empty(0, np.float32)).std > 0


@given(st.floats(0, 1), st.floats(0, 8, width=32), st.floats(-5, 5))
def test_combine_with_text_never_lowers_visual_confidence(visual, evidence, margin):
    combined = combine_with_text(
        np.array([visual]), np.array([evidence], np.float32), np.array([margin])
    )[0]
    assert visual - 1e-9 <= combined <= 1


def test_combine_with_text_words_of_no_evidence_change_nothing():
    visual = np.array([0.01, 0.2, 0.9])
    np.testing.assert_allclose(combine_with_text(visual, np.zeros(3, np.float32)), visual)


@pytest.mark.parametrize(
    ("visual", "margin", "band"),
    [(0.05, 0.5, Band.LIKELY), (0.05, -1.5, Band.POSSIBLE), (0.9, -1.5, Band.LIKELY)],
)
def test_combine_with_text_full_match_is_likely_unless_look_contradicts(visual, margin, band):
    evidence = np.array([5.0], np.float32)
    assert to_band(combine_with_text(np.array([visual]), evidence, np.array([margin]))[0]) is band


def test_to_band_at_thresholds_returns_likely_possible_unlikely():
    assert to_band(LIKELY_THRESHOLD) is Band.LIKELY
    assert to_band(POSSIBLE_THRESHOLD) is Band.POSSIBLE
    assert to_band(POSSIBLE_THRESHOLD - 0.001) is Band.UNLIKELY
