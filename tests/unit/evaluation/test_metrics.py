"""Metrics against small rankings whose values can be worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmsearch.core.errors import UsageError
from mmsearch.evaluation.metrics import compare, evaluate
from mmsearch.evaluation.plot import plot

RANKED = [["a", "b", "c"], ["b", "a", "c"], ["c", "b", "a"], ["x", "y", "z"]]
RELEVANT = [{"a"}, {"a"}, {"a"}, {"a"}]


def test_values_worked_out_by_hand():
    rating = evaluate(RANKED, RELEVANT, depth=3)
    values = {name: own.value for name, own in rating.metrics.items()}
    assert values["Recall@1"] == 1 / 4
    assert values["Recall@5"] == values["Recall@10"] == 3 / 4
    assert values["MRR"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4)
    assert values["nDCG@10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / 2) / 4)
    assert values["median rank"] == 2.5
    assert rating.per_query["median rank"].tolist() == [1, 2, 3, 4]


def test_several_relevant_pictures_and_names_with_blanks():
    rating = evaluate([["two words", "b", "c d"]], [{"b", "c d"}], depth=10)
    assert rating.metrics["Recall@1"].value == 0
    assert rating.metrics["MRR"].value == 0.5
    expected = (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3))
    assert rating.metrics["nDCG@10"].value == pytest.approx(expected)


def test_depth_ends_what_is_looked_at():
    assert evaluate(RANKED, RELEVANT, depth=1).metrics["Recall@5"].value == 1 / 4


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=12))
def test_intervals_hold_their_values(ranks):
    ranked = [[f"x{i}" for i in range(rank - 1)] + ["a"] for rank in ranks]
    for own in evaluate(ranked, [{"a"}] * len(ranks), depth=30).metrics.values():
        assert own.low <= own.value <= own.high


def test_a_ranking_does_not_differ_from_itself():
    rating = evaluate(RANKED, RELEVANT, depth=3)
    for own in compare(rating, rating).values():
        assert (own.difference.value, own.p_value) == (0, 1)


def test_a_clear_difference_is_found_and_has_its_sign():
    good = evaluate([["a", "b"]] * 20, [{"a"}] * 20, depth=2)
    bad = evaluate([["b", "a"]] * 20, [{"a"}] * 20, depth=2)
    own = compare(bad, good)["Recall@1"]
    assert own.difference.value == 1
    assert own.p_value < 0.001


def test_what_cannot_be_rated_is_refused():
    with pytest.raises(UsageError, match="no queries"):
        evaluate([], [], depth=10)
    with pytest.raises(UsageError, match="paired"):
        compare(evaluate(RANKED, RELEVANT, 3), evaluate(RANKED[:2], RELEVANT[:2], 3))


def test_the_plot_is_a_picture_with_something_on_it(tmp_path):
    rating = evaluate(RANKED, RELEVANT, depth=3)
    plot({"one": rating, "two": rating}, tmp_path / "p.png", "set")
    with Image.open(tmp_path / "p.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
