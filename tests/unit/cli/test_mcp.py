"""Tests of the token that the MCP server requires over HTTP."""

import pytest

from mmsearch.cli import mcp
from mmsearch.core.errors import UsageError
from mmsearch.mcp import transports


@pytest.fixture
def make_config(monkeypatch):
    """Return a function that gives the server configuration for a host and token."""
    configs = []

    def fake_serve_http(server, config, port):
        configs.append(config)
        raise UsageError("Not now.")

    monkeypatch.setattr(transports, "serve_http", fake_serve_http)

    def run(host, token=None):
        with pytest.raises(UsageError, match="Not now"):
            mcp._serve_http(None, "default", host, 0, token)
        return configs.pop()

    return run


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.7"])
def test_mcp_http_loopback_host_needs_no_token(make_config, capsys, host):
    assert make_config(host).token is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("host", ["::", "192.168.1.2", "photos.example"])
def test_mcp_http_public_host_generates_and_prints_token(make_config, capsys, host):
    token = make_config(host).token
    assert len(token) >= 32
    assert capsys.readouterr().err == f"Token: {token}\n"
    assert make_config(host).token != token


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_mcp_http_given_token_is_used(make_config, capsys, host):
    given = "as-good-as-any"
    assert make_config(host, given).token is given
    assert capsys.readouterr().err == ""
