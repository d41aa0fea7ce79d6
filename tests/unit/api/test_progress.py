"""Progress bars of long calls."""

import pytest

from mmsearch.api.progress import open_progress
from mmsearch.core.errors import UsageError
from mmsearch.core.results import Progress


def test_progress_true_shows_one_bar_for_each_phase(capsys):
    with open_progress(True) as on_progress:
        on_progress(Progress("scan", 3, None))
        on_progress(Progress("encode", 1, 4))
        on_progress(Progress("encode", 4, 4))
    shown = capsys.readouterr().err
    assert "scan: 3 files" in shown
    assert "encode: 100%" in shown
    assert "4/4" in shown


def test_progress_false_shows_nothing(capsys):
    with open_progress(False) as on_progress:
        on_progress(Progress("encode", 1, 4))
    assert capsys.readouterr() == ("", "")


def test_progress_callable_is_called_with_each_state():
    states = []
    with open_progress(states.append) as on_progress:
        on_progress(Progress("encode", 1, 4))
    assert states == [Progress("encode", 1, 4)]


@pytest.mark.parametrize("progress", [None, "yes", 1])
def test_progress_of_other_type_raises_usage_error(progress):
    with (
        pytest.raises(UsageError, match="must be True, False or a callable"),
        open_progress(progress),
    ):
        pass
