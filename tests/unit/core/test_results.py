"""The JSON form of search results."""

import json
from pathlib import Path

from mmsearch.core.query import Band, MatchedText, Mode
from mmsearch.core.results import Duplicate, Hit, Moment, Notice, SearchResult
from mmsearch.core.types import Text

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


def test_hit_with_duplicates_survives_json_and_one_without_is_read():
    hit = Hit(
        id=7,
        path=Path("/photos/mill.jpg"),
        width=640,
        height=360,
        format="JPEG",
        modified_at=0.0,
        size_bytes=1,
        rank=1,
        score=0.5,
        visual=0.5,
        text=0.0,
        matched=None,
        confidence=0.4,
        band=Band.POSSIBLE,
        folded=22,
        duplicates=(
            Duplicate(id=8, path=Path("/photos/mill_small.jpg"), kind="near"),
            Duplicate(
                id=9,
                path=Path("s3:/trips/mill.jpg"),
                kind="burst",
                taken_at="2026-07-01T10:00:02",
                uri="s3://trips/mill.jpg",
            ),
        ),
    )
    values = json.loads(json.dumps(hit.to_dict()))
    assert values["folded"] == 22
    assert [other["path"] for other in values["duplicates"]] == [
        "/photos/mill_small.jpg",
        "s3://trips/mill.jpg",
    ]
    read = Hit.from_dict(values)
    assert (read.folded, read.duplicates[0]) == (22, hit.duplicates[0])
    assert read.duplicates[1].location == "s3://trips/mill.jpg"
    # A server of an earlier version has neither.
    del values["folded"], values["duplicates"]
    assert (Hit.from_dict(values).folded, Hit.from_dict(values).duplicates) == (0, ())


def test_moment_of_a_film_has_its_times_in_seconds_and_survives_json():
    line = "the old mill"
    hit = Hit(
        id=7,
        path=Path("/films/mill.mp4"),
        width=640,
        height=360,
        format="MP4",
        modified_at=0.0,
        size_bytes=1,
        kind="video",
        part=2,
        start_ms=42_500,
        end_ms=48_000,
        texts=(Text("subtitle", line, start_ms=43_000, end_ms=45_000),),
        rank=1,
        score=0.5,
        visual=None,
        text=1.0,
        matched=MatchedText(
            "subtitle", None, line, ((8, 12),), "subtitles", 0.9, 43_000, 45_000, None
        ),
        confidence=0.5,
        band=Band.POSSIBLE,
        moments=(Moment(id=9, score=0.4, part=3, start_ms=70_000, end_ms=75_250),),
    )
    values = json.loads(json.dumps(hit.to_dict()))
    assert (values["start_ms"], values["start_s"], values["end_s"]) == (42_500, 42.5, 48.0)
    assert (values["moments"][0]["start_s"], values["moments"][0]["end_s"]) == (70.0, 75.25)
    assert (values["matched"]["start_s"], values["matched"]["source"]) == (43.0, "subtitles")
    assert Hit.from_dict(values) == hit
    assert (hit.start_s, hit.moments[0].position, hit.texts[0].end_s) == (42.5, "1:10", 45.0)


def test_hit_of_an_earlier_server_has_a_match_without_a_source():
    old = {"kind": "title", "language": None, "text": "a mill", "spans": [[2, 6]]}
    hit = Hit.from_dict(
        {
            "id": 1,
            "path": "/a.jpg",
            "copies": [],
            "texts": [],
            "width": 1,
            "height": 1,
            "format": "JPEG",
            "modified_at": 0.0,
            "size_bytes": 1,
            "rank": 1,
            "score": 1.0,
            "visual": None,
            "text": 1.0,
            "confidence": 0.5,
            "band": "likely",
            "matched": old,
        }
    )
    assert hit.matched == MatchedText("title", None, "a mill", ((2, 6),))
