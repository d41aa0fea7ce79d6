"""Query rates at a given recall, ratios of run times, and the tables that show them."""

import math
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.speed import compare
from benchmarks.speed.ground_truth import recall
from benchmarks.speed.recall_curves import STEP, STRIDE, Bracket, find_bracket, geometric_steps


def test_find_bracket_finds_adjacent_settings_with_few_trials():
    recalls = np.linspace(0.2, 0.999, 80)
    tried = []

    def recall_of(place):
        tried.append(place)
        return recalls[place]

    found = find_bracket(recall_of, len(recalls), 0.95)
    assert found.high == found.low + 1 == int(np.argmax(recalls >= 0.95))
    assert (found.low_recall, found.high_recall) == (recalls[found.low], recalls[found.high])
    assert len(tried) < 15
    # The most expensive settings take seconds per query and are not tried without need.
    assert max(tried) < found.high + STRIDE


def test_find_bracket_recall_met_by_cheapest_setting_returns_it():
    assert find_bracket(lambda place: 0.97, 30, 0.95) == Bracket(0, 0, 0.97, 0.97)
    assert find_bracket(lambda place: 1.0, 1, 0.95) == Bracket(0, 0, 1.0, 1.0)


def test_find_bracket_unreachable_recall_returns_none():
    assert find_bracket(lambda place: 0.9, 30, 0.95) is None


def test_interpolate_rate_between_settings_is_linear_in_log_rate():
    interval = Bracket(3, 4, 0.90, 0.96)
    assert interval.interpolate_rate(0.90, 1000, 250) == pytest.approx(1000)
    assert interval.interpolate_rate(0.96, 1000, 250) == pytest.approx(250)
    assert interval.interpolate_rate(0.93, 1000, 250) == pytest.approx(math.sqrt(1000 * 250))
    assert Bracket(3, 3, 0.97, 0.97).interpolate_rate(0.95, 400, 400) == 400


def test_geometric_steps_rise_by_ratio_from_start_to_end():
    numbers = geometric_steps(1, 1000)
    assert (numbers[0], numbers[-1]) == (1, 1000)
    assert all(low < high for low, high in pairwise(numbers))
    assert all(high <= max(low + 1, low * STEP + 0.5) for low, high in pairwise(numbers))
    assert geometric_steps(5, 5) == [5]


def test_recall_is_the_share_of_true_neighbours_found():
    true = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert recall(true[:, ::-1], true) == 1
    assert recall(np.array([[1, 2, -1, -1], [9, 9, 9, 5]]), true) == pytest.approx(3 / 8)


def test_time_alternating_runs_each_contender_once_per_round_in_turns():
    order = []
    clock = iter(range(10_000))
    times = compare.time_alternating(
        {name: lambda name=name: order.append(name) for name in "abc"}, 4, lambda: next(clock)
    )
    assert [order[i : i + 3] for i in range(0, 15, 3)] == [list("cba"), list("abc")] * 2 + [
        list("cba")
    ]
    assert {name: list(own) for name, own in times.items()} == dict.fromkeys("abc", [1] * 4)


def test_compare_times_ratio_is_median_of_rounds_within_interval():
    ours = np.array([1.0, 1, 1, 1, 1, 1, 10])
    result = compare.compare_times(ours, ours * [2, 2.1, 1.9, 2, 2.2, 1.8, 2])
    assert result.ratio == pytest.approx(2)
    assert result.low <= 2 <= result.high
    assert result.low >= 1.8
    assert result.high <= 2.2
    assert (result.ours_ms, result.rounds) == (1000, 7)


@pytest.mark.parametrize(("low", "said"), [(0.99, "missed"), (1.0, "held"), (1.2, "held")])
def test_comparison_table_bar_is_held_if_lower_bound_reaches_it(low, said):
    result = compare.Comparison(1, 2, 2, low, 3, 7)
    assert f"1x: {said}" in compare.table([compare.row("x", result, 1.0, "")], "ours", "theirs")
    assert "held" not in compare.table([compare.row("x", result, None, "")], "ours", "theirs")
