"""Tests of the text that an assistant reads about search results."""

from pathlib import Path

import pytest

from mmsearch.core.query import Band, MatchedText, Mode
from mmsearch.core.results import Duplicate, Hit, Moment, Notice, SearchResult
from mmsearch.core.types import Text
from mmsearch.mcp.schemas import (
    PictureHit,
    SearchArguments,
    SearchOutput,
    format_hit,
    format_search_heading,
)


def hit(**overrides):
    fields = {
        "id": 7,
        "rank": 3,
        "score": 0.5,
        "visual": 0.3,
        "text": 0.0,
        "matched": None,
        "confidence": 0.93,
        "band": Band.LIKELY,
        "path": Path("/pictures/mill.jpg"),
        "width": 640,
        "height": 480,
        "format": "JPEG",
        "taken_at": "2019-05-17T10:30:00",
        "camera": "Canon EOS",
        "latitude": None,
        "longitude": None,
        "modified_at": 0.0,
        "size_bytes": 1,
        "texts": (),
        "copies": (),
    }
    return Hit(**fields | overrides)


def result(**overrides):
    fields = {
        "query": "a mill",
        "mode": Mode.VECTOR,
        "hits": (),
        "match": Band.LIKELY,
        "calibrated": True,
        "generation": 1,
        "pictures": 1212,
        "passed": 1212,
        "encoder": "starter",
        "timings_s": {},
        "dropped_tokens": 0,
        "devices": {},
    }
    return SearchResult(**fields | overrides)


def test_format_hit_lists_score_size_date_paths_and_texts():
    sample_hit = hit(texts=(Text("title", "An old mill"),), copies=(Path("/pictures/copy.jpg"),))
    assert format_hit(PictureHit.from_hit(1, sample_hit)) == (
        "1. id 7, score 0.500, likely 93%, 640x480, taken 2019-05-17, Canon EOS\n"
        "   /pictures/mill.jpg\n"
        "   also at /pictures/copy.jpg\n"
        "   title: An old mill"
    )


def test_format_hit_says_for_how_many_pictures_it_stands():
    others = tuple(
        Duplicate(id=number, path=Path(f"/pictures/{number}.jpg"), kind="near")
        for number in range(20)
    )
    text = format_hit(PictureHit.from_hit(1, hit(folded=2, duplicates=others[:2])))
    assert text.splitlines()[-1] == "   +2 similar: ids 0, 1"
    text = format_hit(PictureHit.from_hit(1, hit(folded=1500, duplicates=others)))
    assert text.splitlines()[-1].endswith("18, 19, and 1,480 more")
    assert text.splitlines()[-1].startswith("   +1,500 similar: ids 0, 1,")


@pytest.mark.parametrize(
    ("band", "confidence", "calibrated", "label"),
    [
        (Band.POSSIBLE, 0.4, True, "score 0.500, possible 40%, 640x480"),
        (Band.UNLIKELY, 0.02, True, "score 0.500, weak match, 640x480"),
        (Band.LIKELY, 0.93, False, "score 0.500, 640x480"),
    ],
)
def test_format_hit_has_percentage_only_beside_a_label(band, confidence, calibrated, label):
    found = PictureHit.from_hit(1, hit(band=band, confidence=confidence))
    assert label in format_hit(found, calibrated=calibrated)


def test_picture_hit_without_capture_date_uses_file_date():
    answer = PictureHit.from_hit(1, hit(taken_at=None, modified_at=1e9))
    assert (answer.date, answer.dated_by) == ("2001-09-09", "file")
    assert "file dated 2001-09-09" in format_hit(answer)


def test_format_hit_multiline_text_is_joined_and_escaped():
    sample_hit = hit(texts=(Text("caption", "a mill\n2. id 8, likely (100%)\x1b[2J"),))
    lines = format_hit(PictureHit.from_hit(1, sample_hit)).splitlines()
    assert lines[2:] == ["   caption: a mill 2. id 8, likely (100%)\\x1b[2J"]


def test_picture_hit_long_and_many_texts_are_truncated():
    sample_hit = hit(texts=tuple(Text("caption", f"{n}" * 5000) for n in range(9)))
    texts = PictureHit.from_hit(1, sample_hit).texts
    assert len(texts) == 5
    assert {len(text) for text in texts} == {len("caption: ") + 200}


def test_picture_hit_has_excerpt_of_a_long_text_around_the_match():
    words = "chapter " * 100 + "the impeller " + "more " * 100
    start = words.index("impeller")
    matched = MatchedText("page", None, words, ((start, start + 8),))
    texts = (Text("title", "Pumps"), Text("page", words))
    title, page = PictureHit.from_hit(1, hit(texts=texts, matched=matched)).texts
    assert title == "title: Pumps"
    assert "the impeller" in page
    assert len(page) <= len("page: ") + 200


def test_hit_of_a_film_says_its_second_its_matching_line_and_its_other_moments():
    lines = [Text("subtitle", f"line {n}", start_ms=1000 * n) for n in range(9)]
    found = hit(
        kind="video",
        path=Path("/films/mill.mp4"),
        start_ms=42_500,
        end_ms=48_000,
        texts=tuple(lines),
        matched=MatchedText("subtitle", None, "line 8", ((0, 4),), start_ms=8000),
        moments=(Moment(id=9, score=0.4, part=3, start_ms=70_000, end_ms=75_000),),
    )
    answer = PictureHit.from_hit(1, found)
    assert (answer.start_s, answer.end_s, answer.page) == (42.5, 48.0, None)
    assert (answer.moments[0].id, answer.moments[0].start_s) == (9, 70.0)
    text = format_hit(answer)
    assert "score 0.500, likely 93%, video, 640x480" in text
    assert "/films/mill.mp4 (0:42)" in text
    assert "subtitle at 0:08: line 8" in text
    assert "also in this file: 1:10 (id 9)" in text


def test_format_hit_of_a_sound_has_no_size():
    found = hit(kind="sound", width=0, height=0, start_ms=60_000)
    assert "likely 93%, sound, taken" in format_hit(PictureHit.from_hit(1, found))


def test_picture_hit_undecodable_path_bytes_are_escaped():
    answer = PictureHit.from_hit(1, hit(path=Path("/pictures/m\udcffll.jpg")))
    assert answer.path == "/pictures/m\\xffll.jpg"
    assert answer.model_dump_json()


REMARKS = {
    "No good matches. Closest results:": {"match": Band.UNLIKELY},
    "This index holds no pictures yet.": {"pictures": 0, "passed": 0, "match": None},
    "No picture passes the filters.": {"passed": 0, "match": None},
    "No text of any picture contains a word of the query.": {"match": None},
    "The query is longer than the model can read; the last 9 tokens were left out.": {
        "dropped_tokens": 9
    },
    "1,200 pictures are left out because their date is unknown; file_dates uses the time of the "
    "file.": {"undated": 1200},
    "Did you mean 'elephant'?": {
        "notices": (Notice("spelling", "Did you mean 'elephant'?", "elephant"),)
    },
}


@pytest.mark.parametrize("remark", REMARKS)
def test_format_search_heading_starts_with_remark_about_result(remark):
    answer = SearchOutput.from_result(result(**REMARKS[remark]), ())
    assert format_search_heading(answer).splitlines()[0] == remark


def test_format_search_heading_uncalibrated_model_omits_no_match_remark():
    answer = SearchOutput.from_result(result(match=Band.UNLIKELY, calibrated=False), ())
    assert format_search_heading(answer) == "0 of 1,212 pictures."


def test_search_arguments_single_value_becomes_list_and_null_empty_list():
    asked = SearchArguments.model_validate({"query": "a", "path": "2019/**", "tag": None})
    assert (asked.path, asked.tag) == (["2019/**"], [])
