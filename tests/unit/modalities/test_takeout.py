"""JSON files of Google Takeout, and XMP files of photo programs, beside pictures."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from mmsearch.core.records import ScannedFile, Sidecar
from mmsearch.core.types import Metadata, Text
from mmsearch.modalities._texts import collect_texts

NO_PLACE = {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0}
ROME = {"latitude": 41.9, "longitude": 12.5, "altitude": 20.0}
XMP = """<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF
 xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description
 xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmlns:exif='http://ns.adobe.com/exif/1.0/'
 xmlns:dc='http://purl.org/dc/elements/1.1/' {attributes}>
 <dc:subject><rdf:Bag><rdf:li>{keyword}</rdf:li></rdf:Bag></dc:subject>
 </rdf:Description></rdf:RDF></x:xmpmeta>"""


def takeout(**fields):
    return json.dumps(
        {
            "title": "IMG.jpg",
            "description": "",
            "imageViews": "3",
            "creationTime": {"timestamp": "1600000000", "formatted": "13 Sept 2020, 12:26:40 UTC"},
            "photoTakenTime": {"timestamp": "1558081800", "formatted": "17 May 2019, 08:30:00 UTC"},
            "geoData": NO_PLACE,
            "geoDataExif": NO_PLACE,
            "url": "https://photos.google.com/photo/A",
            **fields,
        }
    )


def local_time(seconds):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return moment.astimezone().replace(tzinfo=None).isoformat()


@pytest.fixture
def collect(tmp_path):
    def run(picture, **sidecars):
        """Collect what files say about a picture; ``_`` in their names stands for a dot."""
        files = []
        for name, content in sidecars.items():
            path = name.replace("_", ".")
            (tmp_path / path).write_text(content, encoding="utf-8")
            files.append(Sidecar(path.encode(), 1, 1))
        file = ScannedFile(picture.encode(), 1, 1, tuple(files))
        found = collect_texts(os.fsencode(tmp_path), file)
        assert found.problems == ()
        return found

    return run


def test_takeout_gives_date_place_people_and_description_where_nothing_else_does(collect):
    people = [{"name": "Anna Müller"}, {"name": "Bob; Jr."}, {}, "x", {"name": 3}]
    content = takeout(geoData=ROME, people=people, description="At the\nfountain", favorited=True)
    found = collect("IMG.jpg", IMG_jpg_json=content)
    assert found.overrides == Metadata()
    assert found.fallbacks == Metadata(
        taken_at=local_time(1558081800), taken_from="takeout", latitude=41.9, longitude=12.5
    )
    assert [text for text in found.texts if text.source == "sidecar"] == [
        Text("description", "At the fountain", None, "sidecar"),
        Text("people", "Anna Müller; Bob, Jr.", None, "sidecar"),
    ]


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        ("1558081800", 1558081800),
        (1558081800, 1558081800),
        ("-400000000", -400000000),
        ("1", 1),
        ("0", None),
        ("-5000000000", None),  # 1811
        ("99999999999", None),
        ("1e400", None),
        ("nan", None),
        ("", None),
        ("soon", None),
        (None, None),
        (True, None),
        ([1], None),
    ],
)
def test_takeout_date_is_utc_time_of_possible_year(collect, timestamp, seconds):
    found = collect("IMG.jpg", IMG_json=takeout(photoTakenTime={"timestamp": timestamp}))
    assert found.fallbacks.taken_at == (None if seconds is None else local_time(seconds))
    assert found.fallbacks.taken_from == (None if seconds is None else "takeout")


@pytest.mark.parametrize(
    ("geo_data", "geo_data_exif", "place"),
    [
        (ROME, NO_PLACE, (41.9, 12.5)),
        (NO_PLACE, ROME, (41.9, 12.5)),
        ({"latitude": -33.9, "longitude": 18.4}, ROME, (-33.9, 18.4)),
        ({"latitude": 0.0, "longitude": 10.0}, None, (0.0, 10.0)),
        (NO_PLACE, NO_PLACE, (None, None)),
        ({"latitude": 91, "longitude": 0}, ROME, (41.9, 12.5)),
        ({"latitude": "NaN", "longitude": 1}, None, (None, None)),
        ({"latitude": 1}, [], (None, None)),
        ("Rome", 3, (None, None)),
    ],
)
def test_takeout_place_is_that_of_user_then_that_of_camera(collect, geo_data, geo_data_exif, place):
    found = collect("IMG.jpg", IMG_json=takeout(geoData=geo_data, geoDataExif=geo_data_exif))
    assert (found.fallbacks.latitude, found.fallbacks.longitude) == place


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("My birthday party.jpg", None),
        ("IMG.HEIC", None),
        ("20190517_103000", None),
        ("Sommer in Rom", "Sommer in Rom"),
        (None, None),
    ],
)
def test_takeout_title_is_a_text_unless_it_is_a_file_name(collect, title, words):
    found = collect("IMG.jpg", IMG_json=takeout(title=title))
    assert [text.text for text in found.texts if text.kind == "title"] == [words] * bool(words)


def test_takeout_date_comes_before_that_of_file_name(collect):
    dated = "IMG_20200101_101010.jpg"
    assert collect(dated).fallbacks == Metadata(
        taken_at="2020-01-01T10:10:10", taken_from="filename"
    )
    found = collect(dated, a_json=takeout())
    assert found.fallbacks.taken_from == "takeout"
    found = collect(dated, a_json=takeout(photoTakenTime=None, geoData=ROME))
    assert found.fallbacks.taken_at == "2020-01-01T10:10:10"
    assert found.fallbacks.latitude == 41.9


def test_edited_copy_uses_takeout_of_original_but_no_other_text(collect):
    shared = collect("IMG-edited.jpg", IMG_jpg_json=takeout(description="At sea"))
    assert shared.fallbacks.taken_from == "takeout"
    assert [text.text for text in shared.texts if text.kind == "description"] == ["At sea"]
    other = collect("IMG-edited.jpg", IMG_jpg_json=json.dumps({"description": "At sea"}))
    assert not [text for text in other.texts if text.kind == "description"]


def test_xmp_sidecar_date_of_its_own_is_a_fallback(collect):
    dates = "xmp:CreateDate='2021-05-05T10:00:00' xmp:MetadataDate='2021-05-05T10:00:01'"
    found = collect("a.jpg", a_xmp=XMP.format(attributes=dates, keyword="sea"))
    assert found.overrides.taken_at is None
    assert (found.fallbacks.taken_at, found.fallbacks.taken_from) == (
        "2021-05-05T10:00:00",
        "sidecar",
    )


def test_xmp_sidecars_override_with_the_closest_name_first(collect):
    first = XMP.format(attributes="xmp:Rating='4' xmp:Label='Red'", keyword="boat")
    second = XMP.format(
        attributes="xmp:Rating='1' exif:DateTimeOriginal='1957-01-01T12:00:00'"
        " exif:GPSLatitude='48,51.6N' exif:GPSLongitude='2,21.1E'",
        keyword="sea",
    )
    found = collect("a.jpg", a_jpg_xmp=first, a_xmp=second, a_json=takeout(geoData=ROME))
    expected = {"taken_at": "1957-01-01T12:00:00", "taken_from": "sidecar"}
    assert found.overrides.rating == 4
    assert found.overrides.label == "Red"
    assert found.overrides.latitude == pytest.approx(48.86)
    assert {name: getattr(found.overrides, name) for name in expected} == expected
    assert found.overrides.texts == ()
    assert (found.fallbacks.taken_from, found.fallbacks.latitude) == ("takeout", 41.9)
    keywords = [text.text for text in found.texts if text.kind == "keywords"]
    assert keywords == ["boat", "sea"]
