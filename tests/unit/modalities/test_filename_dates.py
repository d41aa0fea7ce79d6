"""Dates in the names of picture files."""

import os
import time
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.types import Metadata
from mmsearch.modalities._texts.filenames import parse_filename_date

NOW = datetime.now()  # noqa: DTZ005 - dates in names are local time


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    """Set the time zone to one two hours ahead of UTC in summer and one in winter."""
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone cannot be changed")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def date_of(name):
    return parse_filename_date(os.fsencode(name)).taken_at


@pytest.mark.parametrize(
    "name",
    [
        "IMG_20190517_103000",
        "IMG_20190517_103000_1",
        "IMG_20190517_103000_deadbeef01",
        "IMG_20190517_103000_6b29fc40-ca47-1067-b31d-00dd01066219",
        "IMG_20190517_103000~2",
        "IMG20190517103000",
        "20190517_103000",
        "20190517_103000(1)",
        "20190517_103000 (1)",
        "Copy of 20190517_103000",
        "VID_20190517_103000",
        "MVIMG_20190517_103000",
        "00100dPORTRAIT_00100_BURST20190517103000123_COVER",
        "DJI_20190517103000_0001_D",
        "WP_20190517_10_30_00_Pro",
        "WIN_20190517_10_30_00_Pro",
        "微信图片_20190517103000",
        "Screenshot_20190517-103000",
        "Screenshot_20190517-103000_Chrome",
        "Screenshot_20190517_103000_com.android.chrome",
        "Screenshot_2019-05-17-10-30-00-678",
        "Screenshot from 2019-05-17 10-30-00",
        "Screenshot 2019-05-17 at 10.30.00",
        "Screenshot 2019-05-17 at 10.30.00 AM",
        "Screen Shot 2019-05-17 at 10.30.00\u202fam (2)",
        "Screenshot 2019-05-17 103000",
        "Bildschirmfoto 2019-05-17 um 10.30.00",
        "Capture d\u2019écran 2019-05-17 à 10.30.00",
        "Capture d\u2019e\u0301cran 2019-05-17 a\u0300 10.30.00",
        "Captura de pantalla 2019-05-17 a la(s) 10.30.00",
        "Schermata 2019-05-17 alle 10.30.00",
        "Skärmavbild 2019-05-17 kl. 10.30.00",
        "截屏2019-05-17 10.30.00",
        "WhatsApp Image 2019-05-17 at 10.30.00",
        "WhatsApp Image 2019-05-17 at 10.30.00 (1)",
        "2019-05-17 10.30.00",
        "2019-05-17 10.30.00-1",
        "2019-05-17T10_30_00",
        "signal-2019-05-17-103000",
        "signal-2019-05-17-10-30-00-123",
        "photo_2019-05-17_10-30-00",
        "photo_2019-05-17_10-30-00 (2)",
        "photo_5@17-05-2019_10-30-00",
        "viber_image_2019-05-17_10-30-00-123",
        # Programs that write the time in UTC.
        "PXL_20190517_083000678",
        "PXL_20190517_083000678.MP",
        "PXL_20190517_083000678~2",
        "20190517_083000000_iOS",
        "2019-05-17_08-30-00_UTC",
        # Milliseconds since 1970.
        "1558081800000",
        "1558081800000 (1)",
        "FB_IMG_1558081800000",
        "mmexport1558081800000",
        "microMsg.1558081800000",
    ],
)
def test_filename_date_is_that_of_cameras_phones_and_programs(name):
    assert date_of(f"Trips 2020/{name}.jpg") == "2019-05-17T10:30:00"


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("IMG-20190517-WA0001", "2019-05-17"),
        ("20190517", "2019-05-17"),
        ("20190517-2", "2019-05-17"),
        ("20190517_0001", "2019-05-17"),
        ("WP_20190517_001", "2019-05-17"),
        ("2019-05-17 Birthday", "2019-05-17"),
        ("Birthday 2019_05_17", "2019-05-17"),
        ("Birthday 5 2019-05-17", "2019-05-17"),
        ("2019.05.17", "2019-05-17"),
        ("17.05.2019 Geburtstag", "2019-05-17"),
        ("2019-05-17a", "2019-05-17"),
        ("Scandinavia 2019-05-17", "2019-05-17"),
        ("19570101 Oma", "1957-01-01"),
        ("1826-01-01", "1826-01-01"),
        ("1970-01-01 Wedding", "1970-01-01"),
        ("IMG_20200229_999999", "2020-02-29"),
    ],
)
def test_filename_date_without_time_is_start_of_day(name, date):
    found = parse_filename_date(os.fsencode(f"{name}.jpg"))
    assert found == Metadata(taken_at=f"{date}T00:00:00", taken_from="filename")


@pytest.mark.parametrize(
    "name",
    [
        *("IMG_1234", "DSC_0001", "2019", "2019-05", "1080x1920", ""),
        # Impossible dates.
        *("IMG_20191332", "IMG_20190229_103000", "20190017", "20190500", "2019-13-01"),
        *("20190517253000", "31.02.2019", "1825-12-31", "20990101", "0000-00-00"),
        # Clocks that are not set.
        *("IMG_19700101_000012", "VID_19800101_000012"),
        # Other numbers.
        *("12345678", "IMG_12345678", "120190517", "201905171", "49171201905170"),
        *("+49 171 20190517", "15580818000000", "9783161484100", "1558081800"),
        *("Snapchat-1558081800000", "received_1558081800000000"),
        *("deadbeef20190517", "20190517b3c4d5e6", "20190517-ca47-1067-b31d-00dd01066219"),
        # Ambiguous dates.
        *("05-06-2019", "17-05-2019-10-30-00", "17_05_2019_10_30_00", "2019-5-7"),
        "2019-05-17 - 2019-05-20",
        # Dates of scans.
        *("Scan_20190517", "scan 2019-05-17 10.30.00", "EPSCAN_20190517"),
    ],
)
def test_filename_date_is_unknown_for_other_names(name):
    assert date_of(f"2019-05-17/{name}.jpg") is None


def test_filename_date_tomorrow_is_possible_and_later_is_not():
    tomorrow, later = (NOW + timedelta(days=days) for days in (0.9, 3))
    assert date_of(f"{tomorrow:%Y%m%d_%H%M%S}.jpg") == tomorrow.isoformat(timespec="seconds")
    assert date_of(f"{later:%Y%m%d_%H%M%S}.jpg") is None


@given(
    st.binary(max_size=40)
    | st.from_regex(r"[A-Z_]{0,4}\d{4}[-._]?\d\d[-._]?\d\d[ _-]?\d{0,9}", fullmatch=True).map(
        os.fsencode
    )
)
def test_filename_date_of_any_name_is_possible_or_unknown(name):
    date = parse_filename_date(name).taken_at
    if date is not None:
        assert date >= "1826-01-01"
        assert date <= (NOW + timedelta(days=2)).isoformat()


@pytest.mark.parametrize(
    "piece", ["a", "1", "2019-05-17 ", "20190517_", "@17-05-", "-1.", "1" * 12]
)
def test_filename_date_of_long_name_takes_linear_time(piece):
    started_s = time.process_time()
    date_of(piece * (4000 // len(piece)))
    assert time.process_time() - started_s < 5
