"""When an assistant elsewhere has to know a token."""

import pytest

from mmsearch.cli import mcp
from mmsearch.core.errors import UsageError
from mmsearch.mcp import http_transport


@pytest.fixture
def rules(monkeypatch):
    """The rules under which it would answer."""
    made = []

    def answering(server, rules, port):
        made.append(rules)
        raise UsageError("Not now.")

    monkeypatch.setattr(http_transport, "answering_http", answering)

    def run(host, token=None):
        with pytest.raises(UsageError, match="Not now"):
            mcp._answer_http(None, "default", host, 0, token)
        return made.pop()

    return run


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.7"])
def test_on_this_machine_nobody_has_to(rules, capsys, host):
    assert rules(host).token is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("host", ["::", "192.168.1.2", "photos.example"])
def test_elsewhere_one_is_made_up_and_printed(rules, capsys, host):
    token = rules(host).token
    assert len(token) >= 32
    assert capsys.readouterr().err == f"Token: {token}\n"
    assert rules(host).token != token


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_the_one_that_is_given_counts(rules, capsys, host):
    given = "as-good-as-any"
    assert rules(host, given).token is given
    assert capsys.readouterr().err == ""
