"""When an assistant elsewhere has to know a token."""

import pytest

from mmsearch.cli import mcp
from mmsearch.core.errors import UsageError
from mmsearch.mcp import http_transport


@pytest.fixture
def make_config(monkeypatch):
    """The rules under which it would answer."""
    configs = []

    def fake_serve_http(server, config, port):
        configs.append(config)
        raise UsageError("Not now.")

    monkeypatch.setattr(http_transport, "serve_http", fake_serve_http)

    def run(host, token=None):
        with pytest.raises(UsageError, match="Not now"):
            mcp._serve_http(None, "default", host, 0, token)
        return configs.pop()

    return run


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.7"])
def test_on_this_machine_nobody_has_to(make_config, capsys, host):
    assert make_config(host).token is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("host", ["::", "192.168.1.2", "photos.example"])
def test_elsewhere_one_is_made_up_and_printed(make_config, capsys, host):
    token = make_config(host).token
    assert len(token) >= 32
    assert capsys.readouterr().err == f"Token: {token}\n"
    assert make_config(host).token != token


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_the_one_that_is_given_counts(make_config, capsys, host):
    given = "as-good-as-any"
    assert make_config(host, given).token is given
    assert capsys.readouterr().err == ""
