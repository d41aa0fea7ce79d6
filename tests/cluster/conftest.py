"""Fixtures of tests of several processes that stand for hosts."""

import pytest

from tests.cluster.services import service


@pytest.fixture(scope="module")
def start_service(tmp_path_factory):
    """Start a service until the end of the module: ``start_service("ray")`` -> what it prints."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(name):
            return stack.enter_context(service(name, tmp_path_factory.mktemp(name)))

        yield start
