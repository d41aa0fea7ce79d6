"""Metadata inside picture files, written with Pillow and read back."""

import io
import struct
import time
import zlib

import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from mmsearch.modalities import _metadata
from tests.unit.modalities.test_texts import XMP
from tests.unit.modalities.test_xmp import packet_of

pillow_heif.register_heif_opener()

# Pillow warns about damaged values.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def set_time_zone(monkeypatch):
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone of a process cannot be changed on this system")

    def set_time_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_time_zone
    monkeypatch.undo()
    time.tzset()


def saved(kind="JPEG", **options):
    content = io.BytesIO()
    Image.new("RGB", (8, 6), "teal").save(content, kind, **options)
    return content.getvalue()


def opened(content):
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def with_exif(fill):
    exif = Image.Exif()
    fill(exif)
    return opened(saved(exif=exif.tobytes()))


def with_iptc(*fields):
    """Return a JPEG with IPTC datasets in an APP13 segment."""
    block = b"".join(
        struct.pack(">BBBH", 0x1C, 2, number, len(value)) + value for number, value in fields
    )
    resource = b"8BIM" + struct.pack(">H", 0x0404) + b"\0\0" + struct.pack(">I", len(block)) + block
    payload = b"Photoshop 3.0\0" + resource + b"\0" * (len(block) % 2)
    plain = saved()
    return opened(
        plain[:2] + b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload + plain[2:]
    )


def texts_of(image):
    return {(text.kind, text.text) for text in _metadata.read_metadata(image).texts}


def test_metadata_texts_of_exif_include_description_title_and_keywords():
    def fill(exif):
        exif[ExifTags.Base.ImageDescription] = "A dog on a beach"
        exif[0x9C9B] = "Summer".encode("utf-16-le")
        exif[0x9C9E] = "dog;sea".encode("utf-16-le")

    found = texts_of(with_exif(fill))
    assert {("description", "A dog on a beach"), ("title", "Summer")} <= found
    assert any(kind == "keywords" and "dog" in text for kind, text in found)


def test_metadata_texts_of_iptc_include_headline_caption_and_keywords():
    found = texts_of(
        with_iptc((105, b"Regatta"), (120, b"Boats at noon"), (25, b"sea"), (25, b"wind"))
    )
    assert {("title", "Regatta"), ("description", "Boats at noon")} <= found
    (words,) = [text for kind, text in found if kind == "keywords"]
    assert "sea" in words
    assert "wind" in words


def test_metadata_texts_of_embedded_xmp_include_title_and_description():
    found = texts_of(opened(saved(xmp=XMP.encode())))
    assert {("title", "Harbour"), ("description", "Boote im Hafen")} <= found


def test_metadata_texts_of_png_include_title_and_description():
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Title", "Harbour")
    notes.add_itxt("Description", "Boote im Hafen, Süd", "de")
    assert texts_of(opened(saved("PNG", pnginfo=notes))) == {
        ("title", "Harbour"),
        ("description", "Boote im Hafen, Süd"),
    }


@pytest.mark.parametrize("boilerplate", ["OLYMPUS DIGITAL CAMERA", "  ", "12345", "SONY DSC"])
def test_metadata_texts_camera_boilerplate_is_dropped(boilerplate):
    assert texts_of(with_exif(lambda exif: exif.__setitem__(270, boilerplate))) == set()


@pytest.mark.parametrize(
    ("maker", "model", "expected"),
    [
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("", "X100", "X100"),
        ("Leica", "", "Leica"),
        ("", "", None),
    ],
)
def test_camera_joins_maker_and_model_without_repetition(maker, model, expected):
    def fill(exif):
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = maker, model

    assert _metadata.read_metadata(with_exif(fill)).camera == expected


def test_gps_south_and_west_returns_negative_coordinates():
    def fill(exif):
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLongitudeRef] = "S", "W"
        gps[ExifTags.GPS.GPSLatitude] = (33.0, 30.0, 0.0)
        gps[ExifTags.GPS.GPSLongitude] = (70.0, 39.0, 36.0)

    found = _metadata.read_metadata(with_exif(fill))
    assert (found.latitude, found.longitude) == (pytest.approx(-33.5), pytest.approx(-70.66))


def test_gps_out_of_range_returns_none():
    def fill(exif):
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLongitudeRef] = "N", "E"
        gps[ExifTags.GPS.GPSLatitude] = (133.0, 0.0, 0.0)
        gps[ExifTags.GPS.GPSLongitude] = (70.0, 0.0, 0.0)

    found = _metadata.read_metadata(with_exif(fill))
    assert (found.latitude, found.longitude) == (None, None)


@given(st.binary(max_size=80))
def test_metadata_readers_damaged_bytes_raise_no_error(junk):
    image = opened(saved(exif=b"Exif\0\0" + junk, xmp=junk))
    _metadata.read_metadata(image)
    assert 1 <= _metadata.orientation(image) <= 8


# EXIF


def exif_of(tags, ifd=None):
    exif = Image.Exif()
    (exif if ifd is None else exif.get_ifd(ifd)).update(tags)
    return exif


def raw_exif(entries, *, order="<"):
    """Return an EXIF block with one directory of entries (tag, type, count, content)."""
    start = 8 + 2 + 12 * len(entries) + 4
    directory, values = b"", b""
    for number, kind, count, content in entries:
        padded = content.ljust(4, b"\0")
        if len(content) > 4:
            padded = struct.pack(order + "I", start + len(values))
            values += content + b"\0" * (len(content) % 2)
        directory += struct.pack(order + "HHI", number, kind, count) + padded
    head = b"II*\0" if order == "<" else b"MM\0*"
    counted = struct.pack(order + "H", len(entries)) + directory + bytes(4)
    return b"Exif\0\0" + head + struct.pack(order + "I", 8) + counted + values


ASCII, BYTES = 2, 7


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [ASCII, BYTES, 1])
@pytest.mark.parametrize(
    ("content", "moment"),
    [
        (b"2019:05:17 10:30:00\0", "2019-05-17T10:30:00"),
        (b"2019:05:17 10:30:00", "2019-05-17T10:30:00"),
        (b"2019-05-17T10:30:00.5+02:00\0", "2019-05-17T10:30:00"),
        ("2019:05:17 10:30:00".encode("utf-16-le"), "2019-05-17T10:30:00"),
        ("2019:05:17 10:30:00\0".encode("utf-16-be"), "2019-05-17T10:30:00"),
        ("2019:05:17 10:30:00".encode("utf-16"), "2019-05-17T10:30:00"),
        (b"2019:05:17 10:30:00\0\xff\xfejunk", "2019-05-17T10:30:00"),
        (b"    :  :     :  :  \0", None),
        (b"0000:00:00 00:00:00\0", None),
        (b"\0" * 20, None),
        (b"\xff" * 20, None),
    ],
)
def test_read_metadata_exif_date_of_any_type_and_encoding(order, kind, content, moment):
    block = raw_exif([(ExifTags.Base.DateTime, kind, len(content), content)], order=order)
    found = _metadata.read_metadata(opened(saved(exif=block)))
    assert (found.taken_at, found.taken_from) == (moment, moment and "exif")


@pytest.mark.parametrize(
    ("tags", "moment"),
    [
        ({"DateTimeOriginal": "2001:01:02 03:04:05"}, "2001-01-02T03:04:05"),
        (
            {"DateTimeOriginal": "2001:01:02 03:04:05", "OffsetTimeOriginal": "+09:00"},
            "2001-01-02T03:04:05",
        ),
        ({"DateTimeOriginal": " ", "DateTimeDigitized": "2003:01:02"}, "2003-01-02T00:00:00"),
        (
            {"DateTimeOriginal": "2003:02:30", "DateTimeDigitized": "2003:01:02"},
            "2003-01-02T00:00:00",
        ),
        ({"OffsetTime": "+09:00", "SubsecTime": "12"}, None),
    ],
)
def test_read_metadata_exif_dates_keep_local_time(tags, moment):
    exif = exif_of({ExifTags.Base[name]: value for name, value in tags.items()}, ExifTags.IFD.Exif)
    assert _metadata.read_metadata(opened(saved(exif=exif.tobytes()))).taken_at == moment


def test_read_metadata_date_in_main_directory_stands_for_missing_one():
    exif = exif_of({ExifTags.Base.DateTimeOriginal: "2001:01:02 03:04:05"})
    exif[ExifTags.Base.DateTime] = "2021:01:02 03:04:05"
    found = _metadata.read_metadata(opened(saved(exif=exif.tobytes())))
    assert found.taken_at == "2001-01-02T03:04:05"


@pytest.mark.parametrize(
    ("date", "clock", "moment"),
    [
        ("2019:05:17", (22.0, 30.0, 5.9), "2019-05-18T04:00:05"),
        ("2019:05:17", None, "2019-05-17T00:00:00"),
        ("2019:05:17", (25.0, 0.0, 0.0), "2019-05-17T00:00:00"),
        ("", (22.0, 30.0, 5.0), None),
    ],
)
def test_read_metadata_gps_time_becomes_local(set_time_zone, date, clock, moment):
    tags = {ExifTags.GPS.GPSDateStamp: date}
    if clock:
        tags[ExifTags.GPS.GPSTimeStamp] = clock
    content = saved(exif=exif_of(tags, ExifTags.IFD.GPSInfo).tobytes())
    set_time_zone("Asia/Kolkata")
    assert _metadata.read_metadata(opened(content)).taken_at == moment


ZERO, FIFTY = TiffImagePlugin.IFDRational(0, 0), TiffImagePlugin.IFDRational(50, 1)


@pytest.mark.parametrize(
    ("latitude", "longitude", "references", "position"),
    [
        ((48.0, 51.5, 0.0), (2.0, 21.6, 0.0), "NE", (48.858333, 2.36)),
        ((48.0, 51.0, 30.0), (2.0, 21.0, 36.0), ("North", "West"), (48.858333, -2.36)),
        ((48.858333, 0.0, 0.0), (2.36, 0.0, 0.0), "sw", (-48.858333, -2.36)),
        ((48.0, 51.5, ZERO), (2.36, ZERO, ZERO), "NE", (48.858333, 2.36)),
        ((48.0, 51.5), (2.36,), "NE", (48.858333, 2.36)),
        ((0.0, 0.0, 0.0), (2.36, 0.0, 0.0), "NE", (0.0, 2.36)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), "NE", None),
        ((ZERO, ZERO, ZERO), (2.36, 0.0, 0.0), "NE", None),
        ((48.0, 51.5, 0.0), (2.0, 21.6, 0.0), ("", ""), None),
        ((48.0, 51.5, 0.0), (2.0, 21.6, 0.0), "EN", None),
        ((48.0, 61.0, 0.0), (2.0, 21.6, 0.0), "NE", None),
        ((91.0, 0.0, 0.0), (2.0, 21.6, 0.0), "NE", None),
        ((48.0, 51.5, 0.0), (181.0, 0.0, 0.0), "NE", None),
    ],
)
def test_read_metadata_exif_position_in_every_form(latitude, longitude, references, position):
    gps = ExifTags.GPS
    tags = {
        gps.GPSLatitude: latitude,
        gps.GPSLongitude: longitude,
        gps.GPSLatitudeRef: references[0],
        gps.GPSLongitudeRef: references[1],
    }
    content = saved(exif=exif_of(tags, ExifTags.IFD.GPSInfo).tobytes())
    found = _metadata.read_metadata(opened(content))
    if position is None:
        assert (found.latitude, found.longitude) == (None, None)
    else:
        assert (found.latitude, found.longitude) == pytest.approx(position, abs=1e-5)


@pytest.mark.parametrize(
    ("model", "specification", "lens"),
    [
        ("EF50mm f/1.8 STM\0\0", None, "EF50mm f/1.8 STM"),
        ("", (24.0, 70.0, 2.8, 2.8), "24-70mm f/2.8"),
        ("----", (24.0, 105.0, 4.0, 5.6), "24-105mm f/4-5.6"),
        ("", (FIFTY, FIFTY, ZERO, ZERO), "50mm"),
        ("", (ZERO, ZERO, ZERO, ZERO), None),
        ("0.0 mm f/0.0", None, None),
    ],
)
def test_read_metadata_exif_lens(model, specification, lens):
    tags = {ExifTags.Base.LensModel: model}
    if specification:
        tags[ExifTags.Base.LensSpecification] = specification
    content = saved(exif=exif_of(tags, ExifTags.IFD.Exif).tobytes())
    assert _metadata.read_metadata(opened(content)).lens == lens


@pytest.mark.parametrize(
    ("tags", "rating"),
    [
        ({0x4746: 4}, 4),
        ({0x4746: 0}, 0),
        ({0x4746: 9}, None),
        ({0x4749: 75}, 4),
        ({0x4746: 2, 0x4749: 99}, 2),
    ],
)
def test_read_metadata_exif_rating(tags, rating):
    assert _metadata.read_metadata(opened(saved(exif=exif_of(tags).tobytes()))).rating == rating


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"ASCII\0\0\0A dog", "A dog"),
        (b"UNICODE\0" + "Süd".encode("utf-16-le"), "Süd"),
        (b"UNICODE\0" + "Süd".encode("utf-16-be"), "Süd"),
        (b"UNICODE\0" + "日本の犬".encode("utf-16"), "日本の犬"),
        (b"JIS\0\0\0\0\0" + "日本の犬".encode("iso2022_jp"), "日本の犬"),
        (bytes(8) + "Süd".encode(), "Süd"),
        (b"A dog on a beach", "A dog on a beach"),
        (b"ASCII\0\0\0" + b"\0" * 64, None),
    ],
)
def test_read_metadata_exif_comment_in_its_encoding(content, text):
    exif = exif_of({ExifTags.Base.UserComment: content}, ExifTags.IFD.Exif)
    texts = [
        found.text for found in _metadata.read_metadata(opened(saved(exif=exif.tobytes()))).texts
    ]
    assert texts == ([text] if text else [])


@pytest.mark.parametrize(
    "content",
    ["Süd € Küste".encode(), "Süd € Küste".encode("cp1252"), "Süd € Küste".encode("utf-16")],
)
def test_read_metadata_exif_description_in_any_encoding(content):
    block = raw_exif([(ExifTags.Base.ImageDescription, ASCII, len(content), content)])
    assert texts_of(opened(saved(exif=block))) == {("description", "Süd € Küste")}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("size", "offset"), [(0xFFFFFF, 40), (30, 0x7FFFFFFF), (40, 60), (1 << 31, 8)]
)
def test_read_metadata_damaged_value_keeps_the_others(order, size, offset):
    block = raw_exif(
        [
            (ExifTags.Base.ImageDescription, ASCII, size, struct.pack(order + "I", offset)),
            (ExifTags.Base.Orientation, 3, 1, struct.pack(order + "H", 6)),
            (ExifTags.Base.DateTime, ASCII, 20, b"2019:05:17 10:30:00\0"),
        ],
        order=order,
    )
    for file_format in ("JPEG", "PNG", "WEBP"):
        image = opened(saved(file_format, exif=block))
        assert _metadata.read_metadata(image).taken_at == "2019-05-17T10:30:00"
        assert _metadata.orientation(image) == 6


# IPTC


@pytest.mark.parametrize(
    ("fields", "moment"),
    [
        ({55: b"19570612", 60: b"102030+0100"}, "1957-06-12T10:20:30"),
        ({55: b"1957-06-12", 60: b"10:20:30"}, "1957-06-12T10:20:30"),
        ({55: b"19570612", 60: b"rubbish"}, "1957-06-12T00:00:00"),
        ({55: b"19570000"}, "1957-01-01T00:00:00"),
        ({62: b"20190517", 63: b"103000"}, "2019-05-17T10:30:00"),
        ({62: b"20190517", 55: b"19570612"}, "1957-06-12T00:00:00"),
        ({60: b"102030"}, None),
        ({55: b"00000000"}, None),
    ],
)
def test_read_metadata_iptc_date(fields, moment):
    found = _metadata.read_metadata(with_iptc(*fields.items()))
    assert (found.taken_at, found.taken_from) == (moment, moment and "iptc")


def test_read_metadata_iptc_places_from_narrow_to_wide():
    found = texts_of(
        with_iptc((101, b"Portugal"), (90, b"Lisbon"), (95, b"Lisboa"), (92, b"Alfama"))
    )
    assert found == {("place", "Alfama; Lisbon; Lisboa; Portugal")}


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        (b"", "utf-8"),
        (b"", "cp1252"),
        (b"\x1b%G", "utf-8"),
        (b"\x1b%G", "cp1252"),
        (b"\x1b.B", "iso8859-2"),
    ],
)
def test_read_metadata_iptc_text_in_declared_or_guessed_encoding(declared, encoding):
    record = b"\x1c\x01\x5a" + struct.pack(">H", len(declared)) + declared if declared else b""
    value = "Küste".encode(encoding)
    block = record + b"\x1c\x02\x78" + struct.pack(">H", len(value)) + value
    assert texts_of(opened(with_resource(block))) == {("description", "Küste")}


def test_read_metadata_iptc_damaged_block_keeps_values_before_damage():
    value = b"\x1c\x02\x78" + struct.pack(">H", 4) + b"Boat"
    for rest in (
        b"\x1c",
        b"\x1c\x02\x19\xff\xff",
        b"\x1c\x02\x19\x80\x04\xff\xff\xff\xff",
        b"junk",
    ):
        assert ("description", "Boat") in texts_of(opened(with_resource(value + rest)))


def test_read_metadata_iptc_long_value():
    value = b"Boat " * 10
    block = b"\x1c\x02\x78\x80\x04" + struct.pack(">I", len(value)) + value
    assert texts_of(opened(with_resource(block))) == {("description", value.decode().strip())}


# Containers


def segment(marker, payload):
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(*segments):
    plain = saved()
    return plain[:2] + b"".join(segments) + plain[2:]


def resource(number, content, name=b""):
    padded_name = bytes([len(name)]) + name
    padded_name += b"\0" * (len(padded_name) % 2)
    head = b"8BIM" + struct.pack(">H", number) + padded_name + struct.pack(">I", len(content))
    return head + content + b"\0" * (len(content) % 2)


def with_resource(block):
    return with_segments(segment(0xED, b"Photoshop 3.0\0" + resource(0x0404, block)))


RATED = packet_of("<dc:title>Harbour</dc:title>", xmp__Rating="4", photoshop__DateCreated="1957")
IPTC = b"\x1c\x02\x5a" + struct.pack(">H", 6) + b"Lisbon"
EXIF = exif_of({ExifTags.Base.DateTime: "2019:05:17 10:30:00"}).tobytes()


def png_of(*chunks):
    plain = saved("PNG")
    written = b""
    for kind, data in chunks:
        written += struct.pack(">I", len(data)) + kind + data
        written += struct.pack(">I", zlib.crc32(kind + data))
    return plain[:33] + written + plain[33:]


def raw_profile(name, block):
    text = f"\n{name}\n{len(block):8}\n{block.hex()}\n".encode()
    return b"zTXt", f"Raw profile type {name}".encode() + b"\0\0" + zlib.compress(text)


def gif_with_xmp(comment=b""):
    plain = saved("GIF")
    start = 13 + 3 * 2 ** ((plain[10] & 7) + 1) if plain[10] & 0x80 else 13
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    block = b"!\xff\x0bXMP DataXMP" + RATED + trailer
    if comment:
        block += b"!\xfe" + bytes([len(comment)]) + comment + b"\0"
    return plain[:start] + block + plain[start:]


def tiff_with(tag, kind, content):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info.tagtype[tag] = kind
    info[tag] = content
    return saved("TIFF", tiffinfo=info)


def tiff_with_numbers(content):
    entry = struct.Struct("<HHI")
    as_bytes, as_numbers = entry.pack(33723, 7, 12), entry.pack(33723, 4, 3)
    return tiff_with(33723, 7, content).replace(as_bytes, as_numbers)


def jxl_with_xmp():
    pytest.importorskip("pillow_jxl")
    plain = saved("JXL")
    box = struct.pack(">I4s", len(RATED) + 8, b"xml ") + RATED
    signature = bytes.fromhex("0000000c4a584c200d0a870a")
    brand = struct.pack(">I4s4sI4s", 20, b"ftyp", b"jxl ", 0, b"jxl ")
    if plain.startswith(signature):
        return plain[:32] + box + plain[32:]
    return signature + brand + box + struct.pack(">I4s", len(plain) + 8, b"jxlc") + plain


def read_content(content):
    file = io.BytesIO(content)
    with Image.open(file) as image:
        image.load()
        return _metadata.read_metadata(image, file)


def extended_jpeg():
    """Return a JPEG whose rating and title are in an XMP packet of several segments."""
    digest = b"0123456789ABCDEF0123456789ABCDEF"
    main = packet_of(xmlns__note="http://ns.adobe.com/xmp/note/").replace(
        b'rdf:about=""', b'rdf:about="" note:HasExtendedXMP="' + digest + b'"'
    )
    parts = []
    for offset in range(0, len(RATED), 500):
        head = digest + struct.pack(">II", len(RATED), offset)
        payload = b"http://ns.adobe.com/xmp/extension/\0" + head + RATED[offset : offset + 500]
        parts.append(segment(0xE1, payload))
    return with_segments(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main), *reversed(parts))


@pytest.mark.parametrize(
    "make",
    [
        lambda: saved(xmp=RATED),
        extended_jpeg,
        lambda: with_segments(segment(0xE1, b"XMP\0://ns.adobe.com/xap/1.0/\0" + RATED)),
        lambda: saved("WEBP", xmp=RATED),
        lambda: saved("AVIF", xmp=RATED),
        lambda: saved("HEIF", xmp=RATED),
        lambda: tiff_with(700, 1, RATED),
        lambda: tiff_with(700, 7, RATED),
        gif_with_xmp,
        lambda: png_of((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + RATED)),
        lambda: png_of((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(RATED))),
        lambda: png_of(raw_profile("xmp", RATED)),
        lambda: png_of(raw_profile("APP1", b"http://ns.adobe.com/xap/1.0/\0" + RATED)),
        jxl_with_xmp,
    ],
)
def test_read_metadata_finds_xmp_in_every_container(make):
    found = read_content(make())
    assert (found.rating, found.taken_at, found.taken_from) == (4, "1957-01-01T00:00:00", "xmp")
    assert ("title", "Harbour") in {(text.kind, text.text) for text in found.texts}


@pytest.mark.parametrize(
    "make",
    [
        lambda: saved(exif=EXIF),
        lambda: saved("PNG", exif=EXIF),
        lambda: saved("WEBP", exif=EXIF),
        lambda: saved("AVIF", exif=EXIF),
        lambda: saved("HEIF", exif=EXIF),
        lambda: tiff_with(306, 2, "2019:05:17 10:30:00"),
        lambda: png_of(raw_profile("exif", EXIF)),
        lambda: png_of(raw_profile("APP1", EXIF)),
    ],
)
def test_read_metadata_finds_exif_in_every_container(make):
    found = read_content(make())
    assert (found.taken_at, found.taken_from) == ("2019-05-17T10:30:00", "exif")


@pytest.mark.parametrize(
    "make",
    [
        lambda: with_resource(IPTC),
        # other resources before it, with a name and in segments of their own
        lambda: with_segments(
            segment(0xED, b"Photoshop 3.0\0" + resource(0x03ED, b"x", b"abc")),
            segment(0xED, b"Photoshop 3.0\0" + resource(0x0404, IPTC)),
        ),
        # cut in two by the segment size
        lambda: with_segments(
            segment(0xED, b"Photoshop 3.0\0" + resource(0x0404, IPTC)[:15]),
            segment(0xED, b"Photoshop 3.0\0" + resource(0x0404, IPTC)[15:]),
        ),
        lambda: tiff_with(33723, 1, IPTC),
        lambda: tiff_with(33723, 7, IPTC),
        # as 32-bit numbers, in both byte orders
        lambda: tiff_with_numbers(IPTC + b"\0"),
        lambda: tiff_with_numbers(struct.pack("<3I", *struct.unpack(">3I", IPTC + b"\0"))),
        lambda: tiff_with(34377, 1, resource(0x0404, IPTC)),
        lambda: saved(exif=raw_exif([(33723, BYTES, len(IPTC), IPTC)])),
        lambda: png_of(raw_profile("iptc", resource(0x0404, IPTC))),
        lambda: png_of(raw_profile("8bim", resource(0x0404, IPTC))),
    ],
)
def test_read_metadata_finds_iptc_in_every_container(make):
    assert [(text.kind, text.text) for text in read_content(make()).texts] == [("place", "Lisbon")]


@pytest.mark.parametrize(
    ("chunks", "moment"),
    [
        ([(b"tEXt", b"Creation Time\0Fri, 17 May 2019 10:30:00 +0200")], "2019-05-17T10:30:00"),
        ([(b"tEXt", b"creation time\x002019-05-17T10:30:00")], "2019-05-17T10:30:00"),
        (
            [(b"zTXt", b"Creation Time\0\0" + zlib.compress(b"2019:05:17 10:30:00"))],
            "2019-05-17T10:30:00",
        ),
        ([(b"tEXt", b"exif:DateTimeOriginal\x002019:05:17 10:30:00")], "2019-05-17T10:30:00"),
        ([(b"tIME", struct.pack(">H5B", 2019, 5, 17, 10, 30, 0))], "2019-05-17T10:30:00"),
        ([(b"tIME", struct.pack(">H5B", 2019, 13, 17, 10, 30, 0))], None),
        ([(b"tIME", b"\0\0")], None),
        (
            [
                (b"tIME", struct.pack(">H5B", 2021, 5, 17, 10, 30, 0)),
                (b"tEXt", b"Creation Time\x002019-05-17"),
            ],
            "2019-05-17T00:00:00",
        ),
        # ImageMagick's times of the file
        ([(b"tEXt", b"date:create\x002019-05-17"), (b"tEXt", b"date:modify\x002019-05-17")], None),
    ],
)
def test_read_metadata_png_date(set_time_zone, chunks, moment):
    set_time_zone("UTC")
    found = read_content(png_of(*chunks))
    assert (found.taken_at, found.taken_from) == (moment, moment and "png")


@pytest.mark.parametrize(
    ("comment", "texts"),
    [
        (b"Boats at noon", {("description", "Boats at noon")}),
        ("Süd".encode(), {("description", "Süd")}),
        ("Süd".encode("cp1252"), {("description", "Süd")}),
        (b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90\n", set()),
        (b"File written by Adobe Photoshop\xa8 5.0", set()),
        (b"LEAD Technologies Inc. V1.01", set()),
        (b"Created with GIMP", set()),
        (b"*", set()),
    ],
)
def test_read_metadata_comment_of_jpeg_and_gif(comment, texts):
    assert texts_of(opened(with_segments(segment(0xFE, comment)))) == texts
    found = read_content(gif_with_xmp(comment)).texts
    assert {(text.kind, text.text) for text in found} == {*texts, ("title", "Harbour")}


def cr3():
    """Return the start of a CR3 file, with its EXIF directories and its XMP in boxes."""

    def box(kind, content):
        return struct.pack(">I4s", len(content) + 8, kind) + content

    day = b"2019:05:17 10:30:00\0"
    degrees = struct.pack("<6I", 48, 1, 30, 1, 0, 1)
    main = raw_exif([(0x010F, ASCII, 6, b"Canon\0"), (0x0112, 3, 1, b"\6\0")])
    exif = raw_exif([(0x9003, ASCII, 20, day), (0xA434, ASCII, 10, b"RF35mm F2\0")])
    gps = raw_exif(
        [(1, ASCII, 2, b"S\0"), (2, 5, 3, degrees), (3, ASCII, 2, b"E\0"), (4, 5, 3, degrees)]
    )
    boxes = (box(b"CMT%d" % n, block[6:]) for n, block in ((1, main), (2, exif), (4, gps)))
    xmp = box(
        b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + packet_of(xmp__Rating="4")
    )
    return box(b"ftyp", b"crx \0\0\0\1crx isom") + box(b"moov", b"".join(boxes)) + xmp


def test_read_cr3_metadata_joins_its_boxes():
    found = _metadata.read_cr3_metadata(cr3())
    assert (found.taken_at, found.camera, found.rating) == ("2019-05-17T10:30:00", "Canon", 4)
    assert (found.lens, found.latitude, found.longitude) == ("RF35mm F2", -48.5, 48.5)


@given(st.integers(0, 2000), st.binary(max_size=20))
def test_read_cr3_metadata_damaged_file_raises_no_error(place, junk):
    content = cr3()
    _metadata.read_cr3_metadata(content[:place] + junk + content[place + len(junk) :])
    _metadata.read_cr3_metadata(content[:place])


def test_read_metadata_scan_dated_by_person_is_not_dated_by_scanner():
    scanner = exif_of({ExifTags.Base.DateTime: "2021:05:05 10:00:00"})
    scanner.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2021:05:05 10:00:00"
    scanner.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeDigitized] = "2021:05:05 10:00:00"
    found = read_content(saved(exif=scanner.tobytes(), xmp=RATED))
    assert (found.taken_at, found.taken_from) == ("1957-01-01T00:00:00", "xmp")


def test_read_metadata_rating_of_xmp_comes_before_the_cameras():
    camera = exif_of({0x4746: 0, ExifTags.Base.Model: "X100"})
    found = read_content(saved(exif=camera.tobytes(), xmp=RATED))
    assert (found.rating, found.camera) == (4, "X100")


@pytest.mark.parametrize("junk", [b"", b"\0", b"<x:xmpmeta", b"\xff" * 50, b"<a>" * 5000])
def test_read_metadata_damaged_blocks_of_every_container_are_ignored(junk):
    for content in (
        saved(exif=EXIF, xmp=junk),
        with_segments(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + junk)),
        with_segments(segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + junk)),
        with_segments(segment(0xED, b"Photoshop 3.0\x008BIM" + junk)),
        with_resource(junk),
        png_of((b"tEXt", b"Raw profile type exif\0" + junk)),
        png_of((b"tEXt", b"Raw profile type iptc\0\niptc\n 1\nzz")),
        tiff_with(33723, 7, junk + b"\x1c"),
        saved("GIF") + b"!\xff\x0bXMP DataXMP" + junk,
    ):
        assert read_content(content).rating is None


@given(st.binary(max_size=60), st.sampled_from([IPTC, EXIF, RATED]), st.integers(0, 80))
def test_read_metadata_any_change_raises_no_error(junk, block, place):
    damaged = block[:place] + junk + block[place + len(junk) :]
    read_content(with_resource(damaged))
    read_content(saved(exif=damaged[:60_000], xmp=damaged[:60_000]))
    read_content(png_of(raw_profile("8bim", resource(0x0404, damaged)[: place + 40])))
