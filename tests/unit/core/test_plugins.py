"""Parts are found by the names of their files; outside ones by entry points."""

from importlib.metadata import EntryPoint

import pytest

from mmsearch.core import plugins
from mmsearch.core.errors import MissingExtraError, UnknownNameError


@pytest.fixture
def outside(monkeypatch):
    """Entry points of other packages; says how often they were looked for."""
    points, lookups = [], []

    def entry_points(group):
        lookups.append(group)
        return [point for point in points if point.group == group]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    return points, lookups


def point(name, value):
    return EntryPoint(name, value, "mmsearch.rank_fusions")


def test_our_own_are_found_without_a_search(outside):
    _, lookups = outside
    assert (
        plugins.load("rank_fusions", "weighted_sum").__name__
        == "mmsearch.rank_fusions.weighted_sum"
    )
    assert plugins.load("encoders", "starter").__name__ == "mmsearch.encoders.starter"
    assert plugins.exists("encoders", "open_clip")
    assert lookups == []


def test_one_from_outside_joins_under_another_name(outside):
    points, _ = outside
    points += [point("mine", "colorsys"), point("weighted_sum", "colorsys")]
    assert plugins.load("rank_fusions", "mine").__name__ == "colorsys"
    assert (
        plugins.load("rank_fusions", "weighted_sum").__name__
        == "mmsearch.rank_fusions.weighted_sum"
    )
    assert plugins.exists("rank_fusions", "mine")
    assert plugins.names("rank_fusions") == ["mine", "reciprocal_rank", "weighted_sum"]


@pytest.mark.parametrize("name", ["", "nothing", "_towers", "../core/errors", "starter.heads"])
def test_other_names_are_refused_with_a_list(outside, name):
    assert not plugins.exists("encoders", name)
    with pytest.raises(UnknownNameError, match=r"There is no encoder named .* open_clip, starter"):
        plugins.load("encoders", name)


def test_a_library_that_is_missing_is_named(outside):
    points, _ = outside
    points.append(point("mine", "no_such_library.part"))
    with pytest.raises(MissingExtraError, match="'no_such_library', which is not installed"):
        plugins.load("rank_fusions", "mine")
