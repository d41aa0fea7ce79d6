"""A server within the tests."""

from contextlib import closing, contextmanager

from mmsearch.core.settings import load_settings
from mmsearch.server.rules import Rules
from mmsearch.server.service import Service


@contextmanager
def service_over(home, **rules):
    """All that answers for the index ``default`` of a home."""
    settings = load_settings().with_flags(home=home)
    with closing(Service.of(settings, Rules(**rules), lambda: ["default"])) as service:
        yield service
