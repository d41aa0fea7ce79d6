"""Tests of a watch that cannot succeed."""

import threading

import pytest

import mmsearch
from mmsearch.core.errors import UnknownNameError


def test_watch_unknown_model_ends_the_watch(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    messages, stop = [], threading.Event()
    with (
        mmsearch.open_index(
            home=tmp_path / "home", model="no-such-model", on_message=messages.append
        ) as index,
        pytest.raises(UnknownNameError, match="no-such-model"),
    ):
        next(index.watch(folder, stop=stop))
    assert messages == []
