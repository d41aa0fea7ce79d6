"""Fixtures for the photograph index, opened directly and through the server."""

import pytest

import mmsearch
from tests.http_client import open_server_state


@pytest.fixture
def index(photo_index):
    with mmsearch.open_index(home=photo_index) as index:
        yield index


@pytest.fixture
def service(photo_index):
    with open_server_state(photo_index) as service:
        yield service
