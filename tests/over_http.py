"""The whole application over an index, without a socket."""

from contextlib import closing, contextmanager

from starlette.testclient import TestClient

from mmsearch.core.settings import load_settings
from mmsearch.server.app import guarded, make_app
from mmsearch.server.config import Rules
from mmsearch.server.state import Service


@contextmanager
def service_over(home, rules=None, names=("default",), reach=None):
    """All that answers for indexes of a home."""
    settings = load_settings().with_flags(home=home)
    service = Service.of(settings, rules or Rules(), lambda: list(names), reach=reach)
    with closing(service):
        yield service


@contextmanager
def asked(home, rules=None, names=("default",), reach=None):
    """A client of a server, as a browser on this machine is."""
    with (
        service_over(home, rules, names, reach) as service,
        TestClient(
            guarded(make_app(service)),
            base_url="http://127.0.0.1:7788",
            raise_server_exceptions=False,
        ) as client,
    ):
        yield client
