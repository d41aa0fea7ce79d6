"""Tests of the searches that a server runs for commands."""

from pathlib import Path

import pytest

from mmsearch.cli import serve
from mmsearch.core.errors import InvalidQueryError, StateError
from mmsearch.core.query import Mode
from mmsearch.core.results import SearchResult

FOLDER = Path("/photos")


class FakeIndex:
    """Index that records the request of a query."""

    name = "default"
    is_present = True

    def exists(self):
        return self.is_present

    def query(self, request):
        self.request = request
        return SearchResult(
            query="absolute",
            mode=Mode.VECTOR,
            hits=(),
            match=None,
            calibrated=False,
            generation=3,
            pictures=5,
            passed=5,
            encoder="starter",
            timings_s={"search": 0.5},
            dropped_tokens=0,
            devices={},
        )


@pytest.fixture
def index():
    return FakeIndex()


def test_search_resolves_paths_in_folder_of_command_and_reports_them_as_written(index):
    parameters = {
        "command": "query",
        "text": ["a", "dog", "+", "./one.jpg"],
        "image": ["two.jpg", "/three.jpg"],
        "k": 7,
        "min_score": 0.5,
        "min_width": 10,
    }
    result = serve._search(index, parameters, FOLDER, None)
    assert result["query"] == "two.jpg + /three.jpg + a dog + one.jpg"
    assert (result["mode"], result["pictures"], result["hits"]) == ("vector", 5, [])
    assert (index.request.k, index.request.min_score) == (7, 0.5)
    assert index.request.query.filters is not None
    images = [term.image for term in index.request.query.terms if term.image is not None]
    assert images == [FOLDER / "two.jpg", Path("/three.jpg"), FOLDER / "one.jpg"]


def test_search_similar_resolves_picture_in_folder_of_command(index):
    result = serve._search(index, {"command": "similar", "image": "one.jpg"}, FOLDER, None)
    assert result["query"] == "one.jpg"
    assert [term.image for term in index.request.query.terms] == [FOLDER / "one.jpg"]
    assert index.request.k == 10


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"command": "query"}, InvalidQueryError),
        ({"command": "query", "text": ["-people"]}, InvalidQueryError),
        ({"command": "query", "text": ["a"], "where": "width >"}, InvalidQueryError),
        ({"command": "query", "text": ["a"], "nonsense": 1}, TypeError),
        ({"text": ["a"]}, TypeError),
    ],
)
def test_search_invalid_command_raises(index, parameters, error):
    with pytest.raises(error):
        serve._search(index, parameters, FOLDER, None)


def test_search_removed_index_raises_state_error(index):
    index.is_present = False
    with pytest.raises(StateError, match="gone"):
        serve._search(index, {"command": "query", "text": ["a"]}, FOLDER, None)
