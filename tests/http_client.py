"""The whole application over an index, without a socket."""

from contextlib import closing, contextmanager

from starlette.testclient import TestClient

from mmsearch.core.settings import load_settings
from mmsearch.server.app import make_app, wrap_with_middleware
from mmsearch.server.config import ServerConfig
from mmsearch.server.state import ServerState


@contextmanager
def open_server_state(home, config=None, names=("default",), address_policy=None):
    """Yield the server state for the indexes of a home."""
    settings = load_settings().with_flags(home=home)
    server_state = ServerState.create(
        settings, config or ServerConfig(), lambda: list(names), address_policy=address_policy
    )
    with closing(server_state):
        yield server_state


@contextmanager
def http_client(home, config=None, names=("default",), address_policy=None):
    """Yield a client that connects like a browser on this machine."""
    with (
        open_server_state(home, config, names, address_policy) as server_state,
        TestClient(
            wrap_with_middleware(make_app(server_state)),
            base_url="http://127.0.0.1:7788",
            raise_server_exceptions=False,
        ) as client,
    ):
        yield client
