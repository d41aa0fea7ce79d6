"""Tests that an evaluation names a missing library before it reads or searches anything."""

import sys

import pytest

from mmsearch import open_index
from mmsearch.api import evaluate
from mmsearch.core.errors import InvalidQueryError, MissingExtraError


@pytest.mark.parametrize("package", ["ir_measures", "scipy.stats"])
def test_evaluate_index_without_library_fails_before_the_set_is_read(
    tmp_path, monkeypatch, package
):
    monkeypatch.setitem(sys.modules, package, None)
    index = open_index(home=tmp_path)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[eval\]'"):
        evaluate.evaluate_index(index, evaluate.CaptionedSet(tmp_path / "none.csv"))


def test_check_extras_needs_matplotlib_only_for_a_plot(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    evaluate.check_extras()
    with pytest.raises(MissingExtraError, match="A plot needs the Python package 'matplotlib'"):
        evaluate.check_extras(with_plot=True)


def test_search_settings_unknown_mode_is_refused():
    with pytest.raises(InvalidQueryError, match="Unknown mode 'fast'"):
        evaluate.SearchSettings(mode="fast")
