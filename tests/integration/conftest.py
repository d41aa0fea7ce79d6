"""The photographs' index, asked here and over HTTP."""

import pytest

import mmsearch
from tests.over_http import service_over


@pytest.fixture
def index(photo_index):
    with mmsearch.open_index(home=photo_index) as index:
        yield index


@pytest.fixture
def service(photo_index):
    with service_over(photo_index) as service:
        yield service
