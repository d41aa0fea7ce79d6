"""Rates at a recall, ratios of rounds, and what a table says of them."""

import math
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.speed import compare
from benchmarks.speed.ground_truth import recall
from benchmarks.speed.recall_curves import STEP, STRIDE, Bracket, find_bracket, geometric_steps


def test_the_settings_around_a_recall_are_found_with_few_trials():
    recalls = np.linspace(0.2, 0.999, 80)
    tried = []

    def recall_of(place):
        tried.append(place)
        return recalls[place]

    found = find_bracket(recall_of, len(recalls), 0.95)
    assert found.high == found.low + 1 == int(np.argmax(recalls >= 0.95))
    assert (found.low_recall, found.high_recall) == (recalls[found.low], recalls[found.high])
    assert len(tried) < 15
    # The dearest settings take seconds a query, and are not tried in vain.
    assert max(tried) < found.high + STRIDE


def test_a_recall_below_the_cheapest_setting_is_had_by_it():
    assert find_bracket(lambda place: 0.97, 30, 0.95) == Bracket(0, 0, 0.97, 0.97)
    assert find_bracket(lambda place: 1.0, 1, 0.95) == Bracket(0, 0, 1.0, 1.0)


def test_a_recall_that_no_setting_reaches_has_no_bracket():
    assert find_bracket(lambda place: 0.9, 30, 0.95) is None


def test_the_rate_between_two_settings_is_a_line_of_its_logarithm():
    interval = Bracket(3, 4, 0.90, 0.96)
    assert interval.interpolate_rate(0.90, 1000, 250) == pytest.approx(1000)
    assert interval.interpolate_rate(0.96, 1000, 250) == pytest.approx(250)
    assert interval.interpolate_rate(0.93, 1000, 250) == pytest.approx(math.sqrt(1000 * 250))
    assert Bracket(3, 3, 0.97, 0.97).interpolate_rate(0.95, 400, 400) == 400


def test_geometric_settings_rise_by_a_share_and_end_where_they_should():
    numbers = geometric_steps(1, 1000)
    assert (numbers[0], numbers[-1]) == (1, 1000)
    assert all(low < high for low, high in pairwise(numbers))
    assert all(high <= max(low + 1, low * STEP + 0.5) for low, high in pairwise(numbers))
    assert geometric_steps(5, 5) == [5]


def test_recall_is_the_share_of_true_neighbours_found():
    true = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert recall(true[:, ::-1], true) == 1
    assert recall(np.array([[1, 2, -1, -1], [9, 9, 9, 5]]), true) == pytest.approx(3 / 8)


def test_every_contender_runs_once_a_round_and_none_is_always_first():
    order = []
    clock = iter(range(10_000))
    times = compare.time_alternating(
        {name: lambda name=name: order.append(name) for name in "abc"}, 4, lambda: next(clock)
    )
    assert [order[i : i + 3] for i in range(0, 15, 3)] == [list("cba"), list("abc")] * 2 + [
        list("cba")
    ]
    assert {name: list(own) for name, own in times.items()} == dict.fromkeys("abc", [1] * 4)


def test_a_ratio_is_the_median_of_rounds_within_its_interval():
    ours = np.array([1.0, 1, 1, 1, 1, 1, 10])
    result = compare.compare_times(ours, ours * [2, 2.1, 1.9, 2, 2.2, 1.8, 2])
    assert result.ratio == pytest.approx(2)
    assert result.low <= 2 <= result.high
    assert result.low >= 1.8
    assert result.high <= 2.2
    assert (result.ours_ms, result.rounds) == (1000, 7)


@pytest.mark.parametrize(("low", "said"), [(0.99, "missed"), (1.0, "held"), (1.2, "held")])
def test_a_bar_is_held_if_the_lower_bound_reaches_it(low, said):
    result = compare.Comparison(1, 2, 2, low, 3, 7)
    assert f"1x: {said}" in compare.table([compare.row("x", result, 1.0, "")], "ours", "theirs")
    assert "held" not in compare.table([compare.row("x", result, None, "")], "ours", "theirs")
