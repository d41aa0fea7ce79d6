"""Every ranking that joins looks and texts, held to its seam."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core import plugins
from mmsearch.core.text_matches import Evidence


@pytest.fixture(scope="module", params=plugins.names("rank_fusions"))
def blend(request):
    return plugins.load("rank_fusions", request.param).build()


def places(values):
    """From 1, the largest first, ties by position."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.lexsort((np.arange(len(values)), -values))] = np.arange(1, len(values) + 1)
    return ranks


def evidence(visual, text, floor=0.1):
    visual, text = np.array(visual, dtype=np.float32), np.array(text, dtype=np.float32)
    ranks = np.where(text > 0, places(text), 0)
    ids = np.arange(len(visual), dtype=np.int64) * 3
    return Evidence(ids, visual, places(visual), text, ranks, text > 0, floor)


similarities = st.floats(-1, 1, width=32)
shares = st.sampled_from((0.0, 0.0, 0.25, 0.5, 1.0))
candidates = st.lists(st.tuples(similarities, shares), max_size=12)


@given(candidates)
def test_scores_are_finite_and_not_negative(blend, found):
    scores = blend.blend(evidence([v for v, _ in found], [t for _, t in found]))
    assert scores.shape == (len(found),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


@given(st.lists(similarities, max_size=12))
def test_without_a_matching_text_the_order_is_the_visual_one(blend, visual):
    scores = blend.blend(evidence(visual, [0.0] * len(visual)))
    by_look = np.argsort(places(np.array(visual, dtype=np.float32)))
    assert (np.diff(scores[by_look]) <= 1e-12).all()


@given(candidates.filter(lambda found: len(found) >= 2))
def test_more_of_both_never_comes_behind(blend, found):
    visual, text = (np.array(own, dtype=np.float32) for own in zip(*found, strict=True))
    scores = blend.blend(evidence(visual, text))
    for better in range(len(found)):
        for worse in range(len(found)):
            if visual[better] > visual[worse] and text[better] > text[worse]:
                assert scores[better] >= scores[worse]


def test_a_picture_without_texts_loses_nothing_to_one_whose_texts_do_not_match(blend):
    silent = evidence([0.5, 0.4, 0.3], [0.0, 0.0, 0.0])
    scores = blend.blend(silent)
    assert scores[0] > scores[1] > scores[2]


def test_a_matching_text_lifts_a_picture(blend):
    scores = blend.blend(evidence([0.5, 0.45, 0.2], [0.0, 1.0, 0.0]))
    assert scores.argmax() == 1
