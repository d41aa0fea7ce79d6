"""Metadata in XMP packets of photo programs, in the forms that RDF allows."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import DecodeError
from mmsearch.core.types import Metadata, TextSource
from mmsearch.modalities._texts.facts import merge
from mmsearch.modalities._texts.xmp import parse_xmp_sidecar, read_xmp

NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpDM": "http://ns.adobe.com/xmp/1.0/DynamicMedia/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "core": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "kw": "http://www.metadataworkinggroup.com/schemas/keywords/",
    "ms": "http://ns.microsoft.com/photo/1.0/",
    "msbare": "http://ns.microsoft.com/photo/1.0",
    "MP": "http://ns.microsoft.com/photo/1.2/",
    "MPRI": "http://ns.microsoft.com/photo/1.2/t/RegionInfo#",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "darktable": "http://darktable.sf.net/",
    "mediapro": "http://ns.iview-multimedia.com/mediapro/1.0/",
    "acdsee": "http://ns.acdsee.com/iptc/1.0/",
    "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
}


def packet_of(elements="", **attributes):
    """Return a packet with one description; ``xmp__Rating`` is the attribute ``xmp:Rating``."""
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    written = " ".join(f'{k.replace("__", ":")}="{value}"' for k, value in attributes.items())
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta {declared}>'
        f'<rdf:RDF><rdf:Description rdf:about="" {written}>{elements}</rdf:Description></rdf:RDF>'
        '</x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def parse(content):
    return merge([read_xmp(content)], TextSource.METADATA)


def parsed(elements="", **attributes):
    return parse(packet_of(elements, **attributes))


def bag(*values):
    return f"<rdf:Bag>{''.join(f'<rdf:li>{value}</rdf:li>' for value in values)}</rdf:Bag>"


def values_of(found, kind):
    return [value for text in found.texts if text.kind == kind for value in text.text.split("; ")]


# Dates


@pytest.mark.parametrize(
    ("attributes", "moment"),
    [
        ({"photoshop__DateCreated": "1957"}, "1957-01-01T00:00:00"),
        ({"photoshop__DateCreated": "1957-06-12T10:00"}, "1957-06-12T10:00:00"),
        ({"exif__DateTimeOriginal": "2019:05:17 10:30:00.250"}, "2019-05-17T10:30:00"),
        ({"exif__DateTimeOriginal": "2019-05-17T10:30:00+02:00"}, "2019-05-17T10:30:00"),
        ({"xmp__CreateDate": "2019-05-17T10:30:00Z"}, "2019-05-17T10:30:00"),
        ({"dc__date": "1957"}, "1957-01-01T00:00:00"),
        ({"xmp__ModifyDate": "2021-01-01", "xmp__CreateDate": "2019-05"}, "2019-05-01T00:00:00"),
        ({"xmp__CreateDate": "2021", "photoshop__DateCreated": "1957"}, "1957-01-01T00:00:00"),
        ({"photoshop__DateCreated": "", "xmp__CreateDate": "0000-00-00"}, None),
        ({"xmp__MetadataDate": "2019-05-17", "ms__DateAcquired": "2019-05-17"}, None),
    ],
)
def test_read_xmp_returns_date_of_picture(attributes, moment):
    found = parsed(**attributes)
    assert (found.taken_at, found.taken_from) == (moment, moment and "xmp")


@pytest.mark.parametrize(
    ("attributes", "override", "fallback"),
    [
        ({"photoshop__DateCreated": "1957"}, "1957-01-01T00:00:00", None),
        ({"exif__DateTimeOriginal": "1957:06:12 10:00:00"}, "1957-06-12T10:00:00", None),
        ({"xmp__CreateDate": "1957"}, "1957-01-01T00:00:00", None),
        ({"xmp__CreateDate": "1957", "xmp__ModifyDate": "2021"}, "1957-01-01T00:00:00", None),
        # Some programs write the creation date of the sidecar.
        (
            {"xmp__CreateDate": "2019-05-17", "xmp__MetadataDate": "2019-05-17T10:30:00"},
            None,
            "2019-05-17T00:00:00",
        ),
        (
            {
                "xmp__CreateDate": "2019-05-17",
                "xmp__ModifyDate": "2019-05-17",
                "photoshop__DateCreated": "1957",
            },
            "1957-01-01T00:00:00",
            "2019-05-17T00:00:00",
        ),
        ({"xmp__ModifyDate": "2021-01-01"}, None, None),
    ],
)
def test_parse_xmp_sidecar_date_that_may_be_its_own_is_a_fallback(attributes, override, fallback):
    overrides, fallbacks = parse_xmp_sidecar(packet_of(xmp__Rating="4", **attributes))
    assert (overrides.taken_at, overrides.taken_from) == (override, override and "sidecar")
    assert fallbacks == Metadata(taken_at=fallback, taken_from=fallback and "sidecar")
    assert overrides.rating == 4


def test_read_xmp_ignores_properties_of_nested_structures():
    nested = '<rdf:Description xmp:Rating="5" xmp:CreateDate="2001"/>'
    found = parsed(f"<stEvt:History>{bag(nested)}</stEvt:History>")
    assert (found.rating, found.taken_at) == (None, None)


# Places


@pytest.mark.parametrize(
    ("latitude", "longitude", "reference", "position"),
    [
        ("48,51.5N", "2,21.6E", None, (48.858333, 2.36)),
        ("48,51,30N", "2,21,36E", None, (48.858333, 2.36)),
        ("33,30S", "70,39.6W", None, (-33.5, -70.66)),
        ("48.858333N", "2.36w", None, (48.858333, -2.36)),
        ("48.858333", "2.36", None, (48.858333, 2.36)),
        ("-33.5", "-70.66", None, (-33.5, -70.66)),
        ("+33.5", "70.66", None, (33.5, 70.66)),
        ("33.5", "70.66", "SW", (-33.5, -70.66)),
        ("33,30", "70,39.6", "SW", (-33.5, -70.66)),
        ("33/1 30/1 0/1", "70/1,3960/100", "SW", (-33.5, -70.66)),
        ("33° 30' 0\u2033 S", "70 deg 39' 36.0' W", None, (-33.5, -70.66)),
        ("N 33 30 0", "E70 39 36", None, (33.5, 70.66)),
        ("0,0.0N", "6,0E", None, (0.0, 6.0)),
        # no place
        ("0,0.0N", "0,0.0E", None, None),
        ("0", "0", None, None),
        ("48,51.5", "2,21.6", None, None),
        ("48,51.5N", "", None, None),
        ("48,51.5E", "2,21.6E", None, None),
        ("91,0N", "2,21.6E", None, None),
        ("48,61N", "2,21.6E", None, None),
        ("48,51.5N", "181,0E", None, None),
        ("48/0,51/1N", "2,21.6E", None, None),
        ("nan", "inf", None, None),
        ("north", "east", None, None),
    ],
)
def test_read_xmp_returns_coordinates_of_every_form(latitude, longitude, reference, position):
    names = {"exif__GPSLatitude": latitude, "exif__GPSLongitude": longitude}
    names = {name: value.replace('"', "&quot;") for name, value in names.items()}
    if reference:
        names |= {"exif__GPSLatitudeRef": reference[0], "exif__GPSLongitudeRef": reference[1]}
    found = parsed(**names)
    if position is None:
        assert (found.latitude, found.longitude) == (None, None)
    else:
        assert (found.latitude, found.longitude) == pytest.approx(position, abs=1e-5)


def test_read_xmp_returns_places_from_narrow_to_wide():
    found = parsed(
        photoshop__Country="Portugal",
        photoshop__City="Lisbon",
        photoshop__State="Lisboa",
        core__Location="Alfama",
    )
    assert values_of(found, "place") == ["Alfama", "Lisbon", "Lisboa", "Portugal"]


@pytest.mark.parametrize("name", ["ext:LocationShown", "ext:LocationCreated"])
@pytest.mark.parametrize(
    "location",
    [
        '<rdf:li rdf:parseType="Resource"><ext:CountryName>Italy</ext:CountryName>'
        "<ext:City>Rome</ext:City></rdf:li>",
        '<rdf:li><rdf:Description ext:City="Rome" ext:CountryName="Italy"/></rdf:li>',
        '<rdf:li ext:City="Rome" ext:CountryName="Italy"/>',
        "<rdf:li><rdf:Description><ext:City>Rome</ext:City><ext:CountryName><rdf:Alt>"
        '<rdf:li xml:lang="en">Italy</rdf:li></rdf:Alt></ext:CountryName></rdf:Description>'
        "</rdf:li>",
    ],
)
def test_read_xmp_returns_places_of_location_structures(name, location):
    found = parsed(f"<{name}><rdf:Bag>{location}</rdf:Bag></{name}>")
    assert values_of(found, "place") == ["Rome", "Italy"]


# People


@pytest.mark.parametrize(
    "elements",
    [
        f"<ext:PersonInImage>{bag('Anna', 'Bert; Jr.')}</ext:PersonInImage>",
        f"<mediapro:People>{bag('Anna', 'Bert; Jr.')}</mediapro:People>",
        "<ext:PersonInImageWDetails><rdf:Bag>"
        '<rdf:li rdf:parseType="Resource"><ext:PersonName><rdf:Alt><rdf:li xml:lang="x-default">'
        "Anna</rdf:li></rdf:Alt></ext:PersonName></rdf:li>"
        '<rdf:li ext:PersonName="Bert; Jr."/></rdf:Bag></ext:PersonInImageWDetails>',
        '<rs:Regions rdf:parseType="Resource"><rs:RegionList><rdf:Bag>'
        '<rdf:li><rdf:Description rs:Name="Anna" rs:Type="Face"/></rdf:li>'
        '<rdf:li rdf:parseType="Resource"><rs:Type>Face</rs:Type><rs:Name>Bert; Jr.</rs:Name>'
        '</rdf:li><rdf:li rs:Type="Face"/><rdf:li rs:Name="Lens" rs:Type="Focus"/>'
        "</rdf:Bag></rs:RegionList></rs:Regions>",
        "<MP:RegionInfo><rdf:Description><MPRI:Regions><rdf:Bag>"
        '<rdf:li MPReg:PersonDisplayName="Anna" MPReg:Rectangle="0,0,1,1"/>'
        "<rdf:li><rdf:Description><MPReg:PersonDisplayName>Bert; Jr.</MPReg:PersonDisplayName>"
        '</rdf:Description></rdf:li><rdf:li MPReg:Rectangle="0,0,1,1"/>'
        "</rdf:Bag></MPRI:Regions></rdf:Description></MP:RegionInfo>",
    ],
)
def test_read_xmp_returns_people_of_every_schema(elements):
    assert values_of(parsed(elements), "people") == ["Anna", "Bert, Jr."]


def test_read_xmp_names_of_pets_are_keywords():
    regions = (
        '<rs:RegionList><rdf:Bag><rdf:li rs:Name="Rex" rs:Type="Pet"/></rdf:Bag></rs:RegionList>'
    )
    found = parsed(f'<rs:Regions rdf:parseType="Resource">{regions}</rs:Regions>')
    assert [(text.kind, text.text) for text in found.texts] == [("keywords", "Rex")]


# Keywords

LEVELS = ["Places", "Europe", "Lisbon", "Places/Europe", "Places/Europe/Lisbon"]


@pytest.mark.parametrize(
    "elements",
    [
        f"<lr:hierarchicalSubject>{bag('Places|Europe|Lisbon')}</lr:hierarchicalSubject>",
        f"<digiKam:TagsList>{bag('Places/Europe/Lisbon')}</digiKam:TagsList>",
        f"<ms:LastKeywordXMP>{bag('Places/Europe/Lisbon')}</ms:LastKeywordXMP>",
        f"<msbare:LastKeywordXMP>{bag('Places/Europe/Lisbon')}</msbare:LastKeywordXMP>",
        f"<mediapro:CatalogSets>{bag('Places|Europe|Lisbon')}</mediapro:CatalogSets>",
        f"<dc:subject>{bag('Places|Europe|Lisbon')}</dc:subject>",
        f"<digiKam:TagsList>{bag('Places', 'Places/Europe', 'Places/Europe/Lisbon')}"
        "</digiKam:TagsList>",
        '<kw:Keywords rdf:parseType="Resource"><kw:Hierarchy><rdf:Bag>'
        '<rdf:li rdf:parseType="Resource"><kw:Keyword>Places</kw:Keyword><kw:Children><rdf:Bag>'
        '<rdf:li><rdf:Description kw:Keyword="Europe"><kw:Children><rdf:Bag>'
        '<rdf:li kw:Keyword="Lisbon"/></rdf:Bag></kw:Children></rdf:Description></rdf:li>'
        "</rdf:Bag></kw:Children></rdf:li></rdf:Bag></kw:Hierarchy></kw:Keywords>",
    ],
)
def test_read_xmp_hierarchical_keywords_become_all_their_parents(elements):
    assert sorted(values_of(parsed(elements), "keywords")) == sorted(LEVELS)


def test_read_xmp_flat_keywords_keep_their_slashes_and_are_not_repeated():
    found = parsed(
        f"<dc:subject>{bag('AC/DC', 'lisbon', '2019')}</dc:subject>"
        f"<lr:hierarchicalSubject>{bag('Places|Lisbon', 'People|Anna')}</lr:hierarchicalSubject>"
    )
    assert values_of(found, "keywords") == [
        *("AC/DC", "lisbon", "2019", "Places", "Places/Lisbon", "People", "Anna", "People/Anna")
    ]
    assert values_of(found, "people") == []


def test_read_xmp_leaves_out_keywords_for_the_program_itself():
    found = parsed(
        f"<dc:subject>{bag('darktable', 'exported', 'jpg', 'sea')}</dc:subject>"
        f"<lr:hierarchicalSubject>{bag('darktable|exported|jpg', 'sea')}</lr:hierarchicalSubject>"
        f"<digiKam:TagsList>{bag('_Digikam_Internal_Tags_/Need Resolving')}</digiKam:TagsList>"
    )
    assert values_of(found, "keywords") == ["sea"]


# Ratings, labels, cameras and lenses


@pytest.mark.parametrize(
    ("attributes", "rating"),
    [
        ({"xmp__Rating": "4"}, 4),
        ({"xmp__Rating": "3.0"}, 3),
        ({"xmp__Rating": "3.5"}, 3),
        ({"xmp__Rating": "0"}, 0),
        ({"xmp__Rating": "-1"}, -1),
        ({"xmp__Rating": "-1.000000"}, -1),
        ({"xmp__Rating": "6"}, None),
        ({"xmp__Rating": "five"}, None),
        ({"xmp__Rating": ""}, None),
        ({"ms__Rating": "0"}, 0),
        ({"ms__Rating": "1"}, 1),
        ({"ms__Rating": "25"}, 2),
        ({"ms__Rating": "50"}, 3),
        ({"ms__Rating": "75"}, 4),
        ({"ms__Rating": "99"}, 5),
        ({"ms__Rating": "-3"}, None),
        ({"xmp__Rating": "2", "ms__Rating": "99"}, 2),
        ({"xmp__Rating": "", "ms__Rating": "99"}, 5),
        ({"digiKam__PickLabel": "1"}, -1),
        ({"digiKam__PickLabel": "3"}, None),
        ({"xmp__Rating": "0", "xmpDM__pick": "-1"}, -1),
        ({"xmp__Rating": "2", "xmpDM__pick": "-1"}, 2),
    ],
)
def test_read_xmp_returns_rating_in_stars(attributes, rating):
    assert parsed(**attributes).rating == rating


@pytest.mark.parametrize(
    ("elements", "attributes", "label"),
    [
        ("", {"xmp__Label": "Rot"}, "Rot"),
        ("<xmp:Label> To do </xmp:Label>", {}, "To do"),
        ("", {"digiKam__ColorLabel": "4"}, "Green"),
        ("", {"digiKam__ColorLabel": "0"}, None),
        ("", {"digiKam__ColorLabel": "99"}, None),
        ("", {"digiKam__ColorLabel": "0", "digiKam__PickLabel": "3"}, "Accepted"),
        ("", {"xmp__Label": "Rot", "digiKam__ColorLabel": "4"}, "Rot"),
        (
            "<darktable:colorlabels><rdf:Seq><rdf:li>0</rdf:li></rdf:Seq></darktable:colorlabels>",
            {},
            "Red",
        ),
        ("", {"xmp__Label": ""}, None),
    ],
)
def test_read_xmp_returns_label(elements, attributes, label):
    assert parsed(elements, **attributes).label == label


@pytest.mark.parametrize(
    ("attributes", "lens"),
    [
        ({"aux__Lens": "EF50mm f/1.8 STM"}, "EF50mm f/1.8 STM"),
        ({"exifEX__LensModel": "FE 35mm"}, "FE 35mm"),
        ({"aux__Lens": "----", "exifEX__LensModel": "FE 35mm"}, "FE 35mm"),
        ({"aux__Lens": "----", "aux__LensInfo": "24/1 70/1 28/10 28/10"}, "24-70mm f/2.8"),
        ({"aux__LensInfo": "24/1 105/1 4/1 56/10"}, "24-105mm f/4-5.6"),
        ({"aux__LensInfo": "50/1 50/1 0/0 0/0"}, "50mm"),
        ({"aux__LensInfo": "0/0 0/0 0/0 0/0"}, None),
        ({"aux__LensInfo": "24/1"}, None),
        ({"aux__Lens": "0.0 mm f/0.0"}, None),
        ({"aux__Lens": "Unknown (0)"}, None),
    ],
)
def test_read_xmp_returns_lens(attributes, lens):
    assert parsed(**attributes).lens == lens


def test_read_xmp_returns_camera():
    assert parsed(tiff__Make="Canon", tiff__Model="Canon EOS R5").camera == "Canon EOS R5"


# Packets


@pytest.mark.parametrize(
    "damage",
    [
        lambda packet: packet + b"\0" * 2000,
        lambda packet: packet + b"<x:xmpmeta>rest of an older packet",
        lambda packet: b"rubbish" + packet,
        lambda packet: packet.replace(b"Harbour", b"Har\x01\x00bour\x0b").replace(b"\x00", b""),
        lambda packet: packet.decode().encode("utf-16"),
        lambda packet: packet.decode().replace("\ufeff", "").encode("utf-16-le"),
        lambda packet: packet.decode().replace("\ufeff", "").encode("utf-16-be"),
        lambda packet: packet.partition(b"?>")[2].rpartition(b"<?")[0],
        lambda packet: packet.replace(b" xmlns:", b" other:", 5).replace(
            b"rdf:about", b"old:about"
        ),
        lambda packet: packet.replace(
            b'rdf:about=""', b'rdf:about="a & b &unknown; &#99999999999;"'
        ),
        lambda packet: packet.replace(b"<?xpacket", b"<!DOCTYPE x [<!ENTITY a 'b'>]><?xpacket", 1),
        lambda packet: packet.replace("é".encode(), b"\xe9"),
        lambda packet: b'<?xml version="1.0" encoding="unknown"?>' + packet,
    ],
)
def test_read_xmp_reads_packets_with_rests_and_in_other_encodings(damage):
    content = packet_of("<dc:title>Harbour caf\u00e9</dc:title>", xmp__Rating="4")
    found = parse(damage(content))
    assert found.rating == 4
    assert [text.text.replace(" ", "") for text in found.texts] == ["Harbourcaf\u00e9"]


@pytest.mark.parametrize(
    "content",
    [
        b"<x:RDF>" * 500_000,
        b"<x:RDF " + b" ".join(b"a%d:b" % number for number in range(200_000)) + b"></x:RDF>",
        b"<x:RDF>" + b"</" * 1_900_000,
        b"<x:RDF>" + b"&" * 3_000_000 + b"</x:RDF>" + b"<" * 900_000,
    ],
)
def test_read_xmp_crafted_packet_is_refused_in_little_time(content):
    started = time.process_time()
    with suppress(DecodeError):
        parse(content)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    "content",
    [b"", b"<x", b"\0\xff", b"<a/>" * 2, packet_of(xmp__Rating="5")[:400], b"<a>" * 40_000],
)
def test_read_xmp_damaged_packet_raises_decode_error(content):
    with pytest.raises(DecodeError):
        parse(content)


@given(st.text(), st.sampled_from(["xmp__Rating", "exif__GPSLatitude", "xmp__CreateDate"]))
def test_read_xmp_any_value_raises_no_other_error(value, name):
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    try:
        found = parse(packet_of(**{name: escaped.encode("utf-8", "replace").decode()}))
    except DecodeError:
        return
    assert found.rating is None or -1 <= found.rating <= 5
