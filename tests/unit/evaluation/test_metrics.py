"""Metrics of small rankings, compared with values computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmsearch.core.errors import UsageError
from mmsearch.evaluation.metrics import Ties, compare, evaluate, order_ties_as_trec_eval
from mmsearch.evaluation.plot import plot
from tests.property_budget import examples

RANKED = [["a", "b", "c"], ["b", "a", "c"], ["c", "b", "a"], ["x", "y", "z"]]
RELEVANT = [{"a"}, {"a"}, {"a"}, {"a"}]


def test_evaluate_single_relevant_picture_matches_hand_computed_metrics():
    rating = evaluate(RANKED, RELEVANT, depth=3)
    values = {name: own.value for name, own in rating.metrics.items()}
    assert values["Success@1"] == values["Recall@1"] == 1 / 4
    assert values["Success@5"] == values["Success@10"] == 3 / 4
    assert values["Recall@5"] == values["Recall@10"] == 3 / 4
    assert values["MRR"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4)
    assert values["nDCG@10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / 2) / 4)
    assert values["median rank"] == 2.5
    assert rating.per_query["median rank"].tolist() == [1, 2, 3, 4]


def test_evaluate_several_relevant_names_with_spaces_matches_hand_values():
    rating = evaluate([["two words", "b", "c d"]], [{"b", "c d"}], depth=10)
    assert rating.metrics["Recall@1"].value == 0
    assert rating.metrics["MRR"].value == 0.5
    expected = (1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3))
    assert rating.metrics["nDCG@10"].value == pytest.approx(expected)


def test_evaluate_several_relevant_pictures_success_differs_from_recall():
    ranked = [["a", "b", "x", "c"], ["x", "d", "y", "z"]]
    rating = evaluate(ranked, [{"a", "b", "c"}, {"d", "e"}], depth=4)
    values = {name: own.value for name, own in rating.metrics.items()}
    assert values["Success@1"] == 1 / 2
    assert values["Recall@1"] == pytest.approx((1 / 3 + 0) / 2)
    assert values["Success@5"] == 1
    assert values["Recall@5"] == pytest.approx((3 / 3 + 1 / 2) / 2)
    assert [rating.success_at(k) for k in (1, 2)] == [1 / 2, 1]


TIED = {
    # One score for all, two pairs, and scores that differ only in float64.
    "0": {"b": 0.5, "a": 0.5, "d": 0.5, "c": 0.5, "caf\u00e9": 0.5, "Z": 0.5},
    "1": {"a": 0.9, "b": 0.9, "c": 0.1, "d": 0.1},
    "2": {"a": 0.3 + 1e-12, "b": 0.3, "c": 0.2},
    "3": {f"p{n}": 1.0 for n in range(12)},
}
RELEVANT_OF_TIED = {"0": {"a", "c"}, "1": {"a", "c"}, "2": {"b"}, "3": {"p3", "p11", "p0"}}


def test_evaluate_trec_eval_tie_order_matches_pytrec_eval():
    """The reference gets only names and scores and breaks ties itself."""
    import pytrec_eval

    known = {
        **{f"success_{k}": f"Success@{k}" for k in (1, 5, 10)},
        **{f"recall_{k}": f"Recall@{k}" for k in (1, 5, 10)},
        "recip_rank": "MRR",
        "ndcg_cut_10": "nDCG@10",
    }
    qrels = {q: dict.fromkeys(own, 1) for q, own in RELEVANT_OF_TIED.items()}
    measures = {"success.1,5,10", "recall.1,5,10", "recip_rank", "ndcg_cut.10"}
    truth = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(TIED)
    ranked = [
        [list(own)[row] for row in order_ties_as_trec_eval(list(own), list(own.values()))]
        for own in TIED.values()
    ]
    rating = evaluate(ranked, list(RELEVANT_OF_TIED.values()), 12, Ties.TREC_EVAL)
    assert rating.ties == "trec_eval"
    for theirs, ours in known.items():
        expected = [truth[q][theirs] for q in TIED]
        assert rating.per_query[ours].tolist() == pytest.approx(expected), ours
    as_found = evaluate([list(own) for own in TIED.values()], list(RELEVANT_OF_TIED.values()), 12)
    assert as_found.ties == "index"
    assert as_found.per_query["Success@1"].tolist() == [0, 1, 0, 1]
    assert rating.per_query["Success@1"].tolist() == [0, 0, 1, 0]


def test_order_ties_undecodable_names_are_ordered_by_bytes():
    names = ["a\udcff", "b", "a\u00e9", "a"]
    rows = order_ties_as_trec_eval(names, [1.0] * 4)
    assert [names[row] for row in rows] == ["b", "a\udcff", "a\u00e9", "a"]


def test_evaluate_depth_limits_recall_to_first_hits():
    assert evaluate(RANKED, RELEVANT, depth=1).metrics["Recall@5"].value == 1 / 4


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=12))
def test_evaluate_confidence_intervals_contain_metric_values(ranks):
    ranked = [[f"x{i}" for i in range(rank - 1)] + ["a"] for rank in ranks]
    for own in evaluate(ranked, [{"a"}] * len(ranks), depth=30).metrics.values():
        assert own.low <= own.value <= own.high


def test_compare_rating_with_itself_gives_zero_difference_and_p_value_one():
    rating = evaluate(RANKED, RELEVANT, depth=3)
    for own in compare(rating, rating).values():
        assert (own.difference.value, own.p_value) == (0, 1)


def test_compare_better_second_rating_gives_positive_significant_difference():
    good = evaluate([["a", "b"]] * 20, [{"a"}] * 20, depth=2)
    bad = evaluate([["b", "a"]] * 20, [{"a"}] * 20, depth=2)
    own = compare(bad, good)["Success@1"]
    assert own.difference.value == 1
    assert own.p_value < 0.001


def test_evaluate_no_queries_or_compare_unpaired_ratings_raise_usage_error():
    with pytest.raises(UsageError, match="no queries"):
        evaluate([], [], depth=10)
    with pytest.raises(UsageError, match="paired"):
        compare(evaluate(RANKED, RELEVANT, 3), evaluate(RANKED[:2], RELEVANT[:2], 3))


def test_plot_writes_non_empty_png(tmp_path):
    rating = evaluate(RANKED, RELEVANT, depth=3)
    plot({"one": rating, "two": rating}, tmp_path / "p.png", "set")
    with Image.open(tmp_path / "p.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_evaluate_placed_hits_are_measured_apart_from_files():
    marks = [[True, False], None, [False, True], [False, False]]
    rating = evaluate(RANKED, RELEVANT, depth=3, placed=marks, within_s=2.0)
    values = {name: own.value for name, own in rating.metrics.items()}
    assert (rating.placed_queries, rating.within_s) == (3, 2.0)
    assert values["Success@1"] == 1 / 4
    assert values["Place@1"] == pytest.approx(1 / 3)
    assert values["Place@5"] == values["Place@10"] == pytest.approx(2 / 3)
    assert values["Place MRR"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert rating.per_query["Place MRR"].tolist() == [1, 0.5, 0]


def test_evaluate_without_places_has_no_metrics_of_places():
    rating = evaluate(RANKED, RELEVANT, depth=3, placed=[None] * 4)
    assert rating.placed_queries == 0
    assert not [name for name in rating.metrics if name.startswith("Place")]


def test_evaluate_places_beyond_the_depth_do_not_count():
    rating = evaluate(RANKED, RELEVANT, depth=1, placed=[[False, True], None, None, None])
    assert rating.metrics["Place@10"].value == 0


def test_compare_evaluations_compares_places_of_the_same_queries():
    first = evaluate(RANKED, RELEVANT, depth=3, placed=[[False], [True], None, None])
    second = evaluate(RANKED, RELEVANT, depth=3, placed=[[True], [True], None, None])
    assert compare(first, second)["Place@1"].difference.value == 0.5
    assert "Place@1" not in compare(first, evaluate(RANKED, RELEVANT, depth=3))
