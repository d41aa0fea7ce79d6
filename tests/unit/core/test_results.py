"""The JSON form of search results."""

import json

from mmsearch.core.query import Band, Mode
from mmsearch.core.results import Notice, SearchResult

RESULT = SearchResult(
    query="elefant",
    mode=Mode.VECTOR,
    hits=(),
    match=Band.UNLIKELY,
    calibrated=True,
    generation=3,
    pictures=2,
    passed=2,
    encoder="starter",
    timings_s={"encode": 0.5},
    dropped_tokens=0,
    devices={"text": "cpu"},
    notices=(
        Notice("spelling", "Did you mean 'elephant'?", "elephant"),
        Notice("best_guesses", "Best guesses."),
    ),
)


def test_search_result_survives_json():
    assert SearchResult.from_dict(json.loads(json.dumps(RESULT.to_dict()))) == RESULT


def test_search_result_without_notices_is_read():
    values = RESULT.to_dict()
    del values["notices"]
    assert SearchResult.from_dict(values).notices == ()
