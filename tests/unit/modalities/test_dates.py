"""Dates as cameras, scanners and programs write them, and the choice among several."""

# ruff: noqa: DTZ001, DTZ005 - the dates of pictures are local times without zone

import time
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.modalities._texts.dates import (
    DateFact,
    Moment,
    Precision,
    Role,
    choose_date,
    parse_date,
    utc_to_local,
)

NOON = "2019-05-17T10:30:05"
DAY = "2019-05-17T00:00:00"


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        # EXIF and its variants
        ("2019:05:17 10:30:05", NOON),
        ("2019-05-17 10:30:05", NOON),
        ("2019/05/17 10:30:05", NOON),
        ("2019.05.17 10.30.05", NOON),
        ("2019 05 17 10 30 05", NOON),
        ("2019: 5:17 10:30: 5", NOON),
        ("2019:5:17 10:30:5", NOON),
        ("2019:05:17 10:30:05.123", NOON),
        ("2019:05:17 10:30:05,5", NOON),
        ("2019:05:17 10:30:05+02:00", NOON),
        ("2019:05:17 10:30:05 +0200", NOON),
        ("2019:05:17 10:30:05Z", NOON),
        ("2019:05:17 10:30:05\0\0\0", NOON),
        ("2019:05:17 10:30:05 rubbish", NOON),
        ("  2019:05:17 10:30:05  ", NOON),
        ("2019:05:17 10:30:05 AM", NOON),
        ("2019:05:17 02:30:05 PM", "2019-05-17T14:30:05"),
        ("2019:05:17 12:30:05 am", "2019-05-17T00:30:05"),
        # the digits of Arabic
        ("".join(chr(0x660 + int(c)) if c.isdigit() else c for c in "2019:05:17 10:30:05"), NOON),
        ("2019:05:17 10:30", "2019-05-17T10:30:00"),
        # ISO 8601, XMP and IPTC
        ("2019-05-17T10:30:05", NOON),
        ("2019-05-17T10:30:05.99+02:00", NOON),
        ("2019-05-17T10:30Z", "2019-05-17T10:30:00"),
        ("20190517T103005+0200", NOON),
        ("20190517103005", NOON),
        ("20190517", DAY),
        # dates in words
        ("Fri, 17 May 2019 10:30:05 +0200", NOON),
        ("17 May 2019 10:30:05", NOON),
        ("17-May-2019", DAY),
        ("Fri May 17 10:30:05 2019", NOON),
        ("Fri May 17 10:30:05 CEST 2019", NOON),
        ("May 17, 2019", DAY),
        ("2019-May-17 10:30:05", NOON),
        # day first, where no other reading is possible
        ("17.05.2019 10:30:05", NOON),
        ("5.6.2019", "2019-06-05T00:00:00"),
        ("17/05/2019", DAY),
        ("05/17/2019", DAY),
        ("05/05/2019", "2019-05-05T00:00:00"),
        # cut off
        ("2019:05:17", DAY),
        ("2019-05", "2019-05-01T00:00:00"),
        ("1957", "1957-01-01T00:00:00"),
        ("1957:06", "1957-06-01T00:00:00"),
        ("1957-1960", "1957-01-01T00:00:00"),
        # unknown parts
        ("1957:00:00 00:00:00", "1957-01-01T00:00:00"),
        ("1957:06:00 00:00:00", "1957-06-01T00:00:00"),
        ("1957:  :     :  :  ", "1957-01-01T00:00:00"),
        ("19570600", "1957-06-01T00:00:00"),
        ("2019:05:17   :  :  ", DAY),
        ("2019:05:17 ??:??:??", DAY),
        # the ends of days, leap seconds, hours from 1 to 24, impossible times
        ("2019:05:17 24:00:00", "2019-05-18T00:00:00"),
        ("2019:05:17 24:12:05", "2019-05-17T00:12:05"),
        ("2016:12:31 23:59:60", "2017-01-01T00:00:00"),
        ("2019:05:17 25:00:00", DAY),
        ("2019:05:17 10:61:00", DAY),
        ("2019:05:17 13:00:00 PM", DAY),
        ("2020:02:29 10:00:00", "2020-02-29T10:00:00"),
        ("1826:01:01 00:00:00", "1826-01-01T00:00:00"),
    ],
)
def test_parse_date_returns_local_time_as_written(written, moment):
    found = parse_date(written)
    assert found is not None
    assert found.start.isoformat() == moment


@pytest.mark.parametrize(
    "written",
    [
        "",
        "   ",
        "0000:00:00 00:00:00",
        "    :  :     :  :  ",
        ":  :",
        "\0\0\0\0",
        "2019:13:01 10:00:00",
        "2019:02:29 10:00:00",
        "2019:05:32",
        "2019:00:17 10:00:00",
        "19:05:17 10:30:05",
        "17/05/19",
        "05/06/2019",
        "1825:12:31 23:59:59",
        "0057:06:01",
        "2999:01:01 00:00:00",
        "9999:12:31 24:00:00",
        "1558089005",
        "201905",
        "yesterday",
        "May 2019 or so",
        "1950s",
        "-1:-1:-1",
        "18446744073709551615",
    ],
)
def test_parse_date_without_possible_date_returns_none(written):
    assert parse_date(written) is None


def test_parse_date_refuses_days_after_tomorrow():
    now = datetime.now()
    assert parse_date(f"{now + timedelta(hours=20):%Y:%m:%d %H:%M:%S}")
    assert parse_date(f"{now + timedelta(days=2):%Y:%m:%d %H:%M:%S}") is None


SEPARATORS = st.sampled_from([":", "-", "/", "."])


@given(
    st.datetimes(datetime(1826, 1, 1), datetime(2026, 1, 1)),
    SEPARATORS,
    st.sampled_from([" ", "T", "  ", "t"]),
    st.sampled_from(["", ".5", ".123456", "Z", "+02:00", "-0730", ".25+05:30", "\0", " UTC"]),
)
def test_parse_date_reads_any_date_in_any_form(moment, separator, join, end):
    written = moment.strftime(f"%Y{separator}%m{separator}%d{join}%H:%M:%S")
    # strftime does not pad years on every system.
    assert parse_date(written.zfill(len(written)) + end) == Moment(moment.replace(microsecond=0))


@given(st.text() | st.from_regex(r"\d{1,5}[:-]?\d{0,3}[:-]?\d{0,3}[ T]?\d{0,3}:?\d{0,3}:?\d{0,3}"))
def test_parse_date_any_text_is_a_possible_date_or_none(text):
    moment = parse_date(text)
    if moment is not None:
        assert datetime(1826, 1, 1) <= moment.start <= datetime.now() + timedelta(days=2)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be changed")
def test_utc_to_local_uses_time_zone_of_machine(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        utc = Moment(datetime(2019, 5, 17, 22, 0, 0))
        assert utc_to_local(utc).start == datetime(2019, 5, 18, 3, 30)
        assert parse_date("Fri, 17 May 2019 22:00:00 GMT") == utc_to_local(utc)
        day = Moment(datetime(2019, 5, 17), Precision.DAY)
        assert utc_to_local(day) == day
    finally:
        monkeypatch.undo()
        time.tzset()


ORIGINAL, DIGITIZED, GPS, MODIFIED = Role.ORIGINAL, Role.DIGITIZED, Role.GPS, Role.MODIFIED


@pytest.mark.parametrize(
    ("facts", "chosen", "source"),
    [
        ([], None, None),
        # The meaning of a date counts more than where it is.
        ([(MODIFIED, "exif", "2001"), (ORIGINAL, "iptc", "2005")], "2005-01-01", "iptc"),
        ([(MODIFIED, "exif", "2001"), (DIGITIZED, "xmp", "2005")], "2005-01-01", "xmp"),
        ([(MODIFIED, "exif", "2001"), (GPS, "exif", "2005:02:03")], "2005-02-03", "exif"),
        ([(MODIFIED, "exif", "2009:02:03")], "2009-02-03", "exif"),
        # A scanner or an editor writes its own date as the original one.
        ([(ORIGINAL, "exif", "2021:05:05"), (ORIGINAL, "xmp", "1957")], "1957-01-01", "xmp"),
        ([(ORIGINAL, "exif", "2021:05:05"), (ORIGINAL, "iptc", "19570000")], "1957-01-01", "iptc"),
        ([(ORIGINAL, "exif", "2011:05:05"), (ORIGINAL, "xmp", "2021-01-01")], "2011-05-05", "exif"),
        # An XMP creation date is a correction, unless it is a copy of the EXIF one.
        ([(ORIGINAL, "exif", "2021:05:05"), (DIGITIZED, "xmp", "1957")], "1957-01-01", "xmp"),
        (
            [
                (ORIGINAL, "exif", "2017:05:31"),
                (DIGITIZED, "exif", "2002:12:08 12:00:00"),
                (DIGITIZED, "xmp", "2002-12-08T12:00:00"),
            ],
            "2017-05-31",
            "exif",
        ),
        # Cameras write these dates before their clock is set.
        (
            [(ORIGINAL, "exif", "2000:01:01 00:03:00"), (ORIGINAL, "xmp", "2015-05-05")],
            "2015-05-05",
            "xmp",
        ),
        ([(ORIGINAL, "exif", "1980:01:01 00:00:00")], "1980-01-01", "exif"),
    ],
)
def test_choose_date_prefers_meaning_then_earliest_date(facts, chosen, source):
    found = choose_date(DateFact(role, name, parse_date(text)) for role, name, text in facts)
    assert found == (chosen and f"{chosen}T00:00:00", source)


@pytest.mark.parametrize(
    ("exif", "xmp", "chosen", "source"),
    [
        ("1957:06:12 10:00:00", "1957", "1957-06-12T10:00:00", "exif"),
        ("1957:06:12 10:00:00", "1957-06", "1957-06-12T10:00:00", "exif"),
        ("1957:06:12 10:00:00", "1957-06-12", "1957-06-12T10:00:00", "exif"),
        ("1957:06:12", "1957-06-12T10:00:00", "1957-06-12T10:00:00", "xmp"),
        ("1957:06:12 10:00:00", "1957-06-12T08:00:00Z", "1957-06-12T10:00:00", "exif"),
        ("1957:06:12 02:00:00", "1957-06-11", "1957-06-12T02:00:00", "exif"),
        ("1957:06:12 02:00:00", "1957-06-10", "1957-06-10T00:00:00", "xmp"),
        ("1957:06:12 10:00:00", "1957-05", "1957-05-01T00:00:00", "xmp"),
    ],
)
def test_choose_date_of_one_day_uses_most_precise_form(exif, xmp, chosen, source):
    facts = [
        DateFact(ORIGINAL, "exif", parse_date(exif)),
        DateFact(ORIGINAL, "xmp", parse_date(xmp)),
    ]
    assert choose_date(facts) == (chosen, source)
