import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.queries import Band
from mmsearch.core.types import Calibration
from mmsearch.search.confidence import (
    LIKELY,
    POSSIBLE,
    Background,
    band,
    visual_confidence,
    with_text,
)

CALIBRATIONS = [Calibration(), Calibration(-4.0, library=0.0, margin=9.0, null=1.5, measured=True)]
scores = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=20)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@given(scores)
def test_the_more_similar_the_surer(calibration, found):
    ranked = np.sort(np.array(found, dtype=np.float32))
    sure = visual_confidence(ranked, np.zeros_like(ranked), Background.of(ranked), calibration)
    assert (np.diff(sure) >= 0).all()
    assert ((sure > 0) & (sure < 1)).all()


def test_what_the_whole_library_is_like_says_little():
    calibration = CALIBRATIONS[1]
    score, null = np.array([0.4], np.float32), np.array([0.2], np.float32)
    common, rare = (
        Background.of(np.full(9, 0.35, np.float32)),
        Background.of(np.zeros(9, np.float32)),
    )
    assert visual_confidence(score, null, common, calibration) < visual_confidence(
        score, null, rare, calibration
    )


def test_likeness_to_prompts_of_nothing_speaks_against_a_hit():
    score = np.array([0.4, 0.4], np.float32)
    background = Background.of(np.zeros(9, np.float32))
    plain, odd = visual_confidence(
        score, np.array([0.4, 0.1], np.float32), background, CALIBRATIONS[1]
    )
    assert plain < odd


def test_an_empty_library_is_no_error():
    assert Background.of(np.empty(0, np.float32)).spread > 0


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_text_adds_and_never_takes_away(visual, text):
    joined = with_text(np.array([visual]), np.array([text], np.float32))[0]
    assert visual - 1e-9 <= joined <= 1


def test_bands():
    assert band(LIKELY) is Band.LIKELY
    assert band(POSSIBLE) is Band.POSSIBLE
    assert band(POSSIBLE - 0.001) is Band.UNLIKELY
