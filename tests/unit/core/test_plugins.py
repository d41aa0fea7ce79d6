"""Built-in plugins are found by file name, plugins of other packages by entry point."""

from importlib.metadata import EntryPoint

import pytest

from mmsearch.core import plugins
from mmsearch.core.errors import MissingExtraError, UnknownNameError


@pytest.fixture
def outside(monkeypatch):
    """Lists of the entry points of other packages and of the lookups of them."""
    points, lookups = [], []

    def entry_points(group):
        lookups.append(group)
        return [point for point in points if point.group == group]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    return points, lookups


def point(name, value):
    return EntryPoint(name, value, "mmsearch.rank_fusions")


def test_builtin_plugins_load_without_entry_point_lookup(outside):
    _, lookups = outside
    assert (
        plugins.load("rank_fusions", "weighted_sum").__name__
        == "mmsearch.rank_fusions.weighted_sum"
    )
    assert plugins.load("encoders", "starter").__name__ == "mmsearch.encoders.starter"
    assert plugins.exists("encoders", "open_clip")
    assert lookups == []


def test_entry_point_plugin_loads_unless_name_is_builtin(outside):
    points, _ = outside
    points += [point("mine", "colorsys"), point("weighted_sum", "colorsys")]
    assert plugins.load("rank_fusions", "mine").__name__ == "colorsys"
    assert (
        plugins.load("rank_fusions", "weighted_sum").__name__
        == "mmsearch.rank_fusions.weighted_sum"
    )
    assert plugins.exists("rank_fusions", "mine")
    assert plugins.names("rank_fusions") == ["log_odds", "mine", "reciprocal_rank", "weighted_sum"]


@pytest.mark.parametrize("name", ["", "nothing", "_towers", "../core/errors", "starter.heads"])
def test_load_plugin_unknown_name_raises_error_listing_names(outside, name):
    assert not plugins.exists("encoders", name)
    with pytest.raises(UnknownNameError, match=r"There is no encoder named .* open_clip, starter"):
        plugins.load("encoders", name)


def test_load_plugin_missing_library_raises_error_naming_library(outside):
    points, _ = outside
    points.append(point("mine", "no_such_library.part"))
    with pytest.raises(MissingExtraError, match="'no_such_library', which is not installed"):
        plugins.load("rank_fusions", "mine")
