"""Tests of a command that the resident server runs in the environment of its client."""

import os
import sys
import time

import pytest

from mmsearch.cli import search_command, serve
from mmsearch.cli.output import warn
from mmsearch.resident.protocol import CommandRequest, StreamInfo, is_supported

pytestmark = pytest.mark.skipif(not is_supported(), reason="no Unix domain sockets")


class Index:
    """Index with only the methods that a command calls before a query."""

    def exists(self):
        return True


@pytest.fixture
def command_request(tmp_path):
    return CommandRequest(
        {},
        ["query", "a dog"],
        str(tmp_path),
        {"COLUMNS": "33", "TZ": "Asia/Tokyo"},
        StreamInfo(True, "utf-16-le", "strict"),
        StreamInfo(False, "ascii", "backslashreplace"),
    )


@pytest.fixture(autouse=True)
def restore_cwd(monkeypatch):
    """Restore the working directory after each test; the resident server changes it to the root."""
    monkeypatch.chdir(os.getcwd())


def test_run_request_uses_environment_of_command_and_restores_own(
    command_request, tmp_path, monkeypatch
):
    monkeypatch.setenv("LINES", "5")
    before = (dict(os.environ), sys.stdout, sys.stderr, time.tzname)
    index = Index()

    def query(*, text, open_index):
        with open_index("default", None, None) as opened_index:
            assert opened_index is index
        assert text == ["a dog"]
        assert os.getcwd() == str(tmp_path)
        assert (os.environ["COLUMNS"], "LINES" in os.environ) == ("33", False)
        assert time.tzname == ("JST", "JST")
        assert (sys.stdout.isatty(), sys.stderr.isatty()) == (True, False)
        warn("caf\u00e9")
        sys.stdout.write("1\n")
        sys.stdout.buffer.write(b"\xff")
        sys.stdout.buffer.flush()
        warn("end")

    monkeypatch.setattr(search_command, "query", query)
    assert serve._run_request(index, command_request) == [
        (2, b"caf\\xe9\n"),
        (1, b"1\0\n\0\xff"),
        (2, b"end\n"),
    ]
    assert (dict(os.environ), sys.stdout, sys.stderr, time.tzname) == before


@pytest.mark.parametrize(
    "odd",
    [
        {"cwd": "/no/such/folder"},
        {"cwd": "a\0b"},
        {"environment": {"COLUMNS": 5}},
        {"stdout": StreamInfo(False, "no encoding", "strict")},
        {"arguments": ["status"]},
        {"arguments": ["query", "--nonsense"]},
    ],
)
def test_run_request_invalid_request_returns_none_and_changes_nothing(
    command_request, monkeypatch, odd
):
    monkeypatch.setattr(search_command, "query", lambda **values: None)
    before = (dict(os.environ), sys.stdout, sys.stderr)
    assert serve._run_request(Index(), command_request._replace(**odd)) is None
    assert (dict(os.environ), sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("failure", [ValueError("odd"), SystemExit(3), KeyboardInterrupt()])
def test_run_request_failing_command_returns_none(command_request, monkeypatch, failure):
    def query(**values):
        warn("half of an answer")
        raise failure

    monkeypatch.setattr(search_command, "query", query)
    assert serve._run_request(Index(), command_request) is None
