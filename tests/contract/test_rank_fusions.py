"""Contract tests that run on every fusion of visual and text rankings."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core import plugins
from mmsearch.core.query import HybridCandidates


@pytest.fixture(scope="module", params=plugins.names("rank_fusions"))
def rank_fusion(request):
    return plugins.load("rank_fusions", request.param).build()


def ranks_of(values):
    """Return ranks from 1, the largest value first, ties in order of position."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.lexsort((np.arange(len(values)), -values))] = np.arange(1, len(values) + 1)
    return ranks


def make_candidates(visual, text, floor=0.1):
    visual, text = np.array(visual, dtype=np.float32), np.array(text, dtype=np.float32)
    ranks = np.where(text > 0, ranks_of(text), 0)
    ids = np.arange(len(visual), dtype=np.int64) * 3
    look = 1 / (1 + np.exp(3 - 10 * visual.astype(np.float64)))
    evidence = 3.5 * text**2
    return HybridCandidates(
        ids, visual, ranks_of(visual), text, ranks, text > 0, floor, look, evidence
    )


similarities = st.floats(-1, 1, width=32)
shares = st.sampled_from((0.0, 0.0, 0.25, 0.5, 1.0))
candidates = st.lists(st.tuples(similarities, shares), max_size=12)


@given(candidates)
def test_rank_fusion_scores_are_finite_and_not_negative(rank_fusion, pairs):
    scores = rank_fusion.fuse(make_candidates([v for v, _ in pairs], [t for _, t in pairs]))
    assert scores.shape == (len(pairs),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


@given(st.lists(similarities, max_size=12))
def test_rank_fusion_without_matching_text_keeps_visual_order(rank_fusion, visual):
    scores = rank_fusion.fuse(make_candidates(visual, [0.0] * len(visual)))
    visual_order = np.argsort(ranks_of(np.array(visual, dtype=np.float32)))
    assert (np.diff(scores[visual_order]) <= 1e-12).all()


@given(candidates.filter(lambda pairs: len(pairs) >= 2))
def test_rank_fusion_better_in_both_scores_never_ranks_lower(rank_fusion, pairs):
    visual, text = (np.array(column, dtype=np.float32) for column in zip(*pairs, strict=True))
    scores = rank_fusion.fuse(make_candidates(visual, text))
    for better in range(len(pairs)):
        for worse in range(len(pairs)):
            if visual[better] > visual[worse] and text[better] > text[worse]:
                assert scores[better] >= scores[worse]


def test_rank_fusion_zero_text_scores_keep_strict_visual_order(rank_fusion):
    no_text_matches = make_candidates([0.5, 0.4, 0.3], [0.0, 0.0, 0.0])
    scores = rank_fusion.fuse(no_text_matches)
    assert scores[0] > scores[1] > scores[2]


def test_rank_fusion_matching_text_lifts_picture_to_first(rank_fusion):
    scores = rank_fusion.fuse(make_candidates([0.5, 0.45, 0.2], [0.0, 1.0, 0.0]))
    assert scores.argmax() == 1


@given(candidates.filter(bool), st.floats(-1, 1, width=32))
def test_rank_fusion_ignores_the_look_of_items_without_pixels(rank_fusion, pairs, other):
    visual, text = (list(column) for column in zip(*pairs, strict=True))
    has_look = np.array([True] * (len(pairs) - 1) + [False])
    scores = []
    for last in (visual[-1], other):
        # An unrelated picture has the visual score of an item without pixels.
        made = make_candidates([*visual[:-1], min(last, 0.1)], text)
        made = replace(made, look=np.where(has_look, made.look, 0.04), has_look=has_look)
        scores.append(rank_fusion.fuse(made)[-1])
    assert scores[0] == scores[1]


def test_rank_fusion_puts_words_of_an_item_without_pixels_before_an_equal_look(rank_fusion):
    made = make_candidates([0.9, 0.2, 0.1], [0.0, 0.0, 1.0])
    has_look = np.array([True, True, False])
    made = replace(made, look=np.array([0.1, 0.05, 0.04]), has_look=has_look)
    scores = rank_fusion.fuse(made)
    assert scores[2] == scores.max()
    assert scores[2] > scores[1]
