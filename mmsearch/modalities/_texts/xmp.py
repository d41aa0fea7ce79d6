"""Read XMP packets, the metadata that photo programs write into pictures and sidecars.

The fields are those of ISO 16684-1 (dc:, xmp:, exif:), of IPTC and of the Metadata Working Group,
and of the most common programs: Lightroom, digiKam, darktable, Windows and Media Pro. XML entities
are rejected, so that no packet can expand while it is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from mmsearch.core.errors import DecodeError
from mmsearch.core.texts import make_texts, to_single_line
from mmsearch.core.types import Metadata, TextSource
from mmsearch.modalities._texts.dates import Role, choose_date, parse_date, utc_to_local
from mmsearch.modalities._texts.facts import (
    Facts,
    clean_lens,
    describe_lens,
    join_camera,
    merge,
    parse_coordinate,
    percent_to_rating,
    to_number,
    to_position,
    to_rating,
)

MAX_BYTES: Final = 4_000_000
"""Maximum size of a packet, in bytes."""

MAX_DEPTH: Final = 100
"""Maximum nesting depth of the XML elements."""

# Prefixes by namespace, without the "/" or "#" at the end, which some programs leave out.
_PREFIXES: Final = {
    "http://www.w3.org/1999/02/22-rdf-syntax-ns": "rdf",
    "http://www.w3.org/XML/1998/namespace": "xml",
    "http://purl.org/dc/elements/1.1": "dc",
    "http://ns.adobe.com/xap/1.0": "xmp",
    "http://ns.adobe.com/photoshop/1.0": "photoshop",
    "http://ns.adobe.com/lightroom/1.0": "lr",
    "http://ns.adobe.com/tiff/1.0": "tiff",
    "http://ns.adobe.com/exif/1.0": "exif",
    "http://ns.adobe.com/exif/1.0/aux": "aux",
    "http://cipa.jp/exif/1.0": "exifEX",
    "http://cipa.jp/exif/2.32": "exifEX",
    "http://ns.adobe.com/xmp/1.0/DynamicMedia": "xmpDM",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns": "Iptc4xmpCore",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29": "Iptc4xmpExt",
    "http://www.metadataworkinggroup.com/schemas/regions": "mwg-rs",
    "http://www.metadataworkinggroup.com/schemas/keywords": "mwg-kw",
    "http://ns.microsoft.com/photo/1.0": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.2": "MP",
    "http://ns.microsoft.com/photo/1.2/t/Region": "MPReg",
    "http://www.digikam.org/ns/1.0": "digiKam",
    "http://darktable.sf.net": "darktable",
    "http://ns.iview-multimedia.com/mediapro/1.0": "mediapro",
    "http://ns.microsoft.com/expressionmedia/1.0": "mediapro",
    "http://ns.acdsee.com/iptc/1.0": "acdsee",
    "http://ns.acdsee.com/regions": "acdsee-rs",
}

_DATES: Final = (
    ("exif:DateTimeOriginal", Role.ORIGINAL),
    ("photoshop:DateCreated", Role.ORIGINAL),
    ("acdsee:datetime", Role.ORIGINAL),
    ("xmp:CreateDate", Role.DIGITIZED),
    ("exif:DateTimeDigitized", Role.DIGITIZED),
    ("dc:date", Role.DIGITIZED),
    ("xmp:ModifyDate", Role.MODIFIED),
    ("tiff:DateTime", Role.MODIFIED),
)
_TEXTS: Final = (
    ("dc:title", "title"),
    ("photoshop:Headline", "title"),
    ("dc:description", "description"),
    ("tiff:ImageDescription", "description"),
    ("exif:UserComment", "description"),
    ("Iptc4xmpCore:AltTextAccessibility", "description"),
    ("Iptc4xmpCore:ExtDescrAccessibility", "description"),
    ("acdsee:caption", "title"),
    ("acdsee:notes", "description"),
)
# The characters that separate the levels of a hierarchical keyword.
_KEYWORDS: Final = (
    ("dc:subject", ""),
    ("lr:hierarchicalSubject", "|"),
    ("digiKam:TagsList", "/"),
    ("MicrosoftPhoto:LastKeywordXMP", "/"),
    ("MicrosoftPhoto:LastKeywordIPTC", "/"),
    ("mediapro:CatalogSets", "|"),
    ("acdsee:keywords", ""),
)
_PEOPLE: Final = ("Iptc4xmpExt:PersonInImage", "mediapro:People")
# Fields of a location, the narrowest first.
_PLACES: Final = (
    ("Iptc4xmpCore:Location", "LocationName"),
    ("mediapro:Location", "Sublocation"),
    ("photoshop:City", "City"),
    ("photoshop:State", "ProvinceState"),
    ("photoshop:Country", "CountryName"),
    (None, "WorldRegion"),
)
_LOCATIONS: Final = ("Iptc4xmpExt:LocationCreated", "Iptc4xmpExt:LocationShown")

# Keywords for the use of the program itself.
_INTERNAL_KEYWORD: Final = re.compile(r"darktable\||_digikam_internal_tags_", re.IGNORECASE)

_DIGIKAM_COLORS: Final = (
    "",
    "Red",
    "Orange",
    "Yellow",
    "Green",
    "Blue",
    "Magenta",
    "Gray",
    "Black",
    "White",
)
_DARKTABLE_COLORS: Final = ("Red", "Yellow", "Green", "Blue", "Purple")
_DIGIKAM_PICKS: Final = ("", "Rejected", "Pending", "Accepted")

_PACKET_START: Final = re.compile(r"<(?:\w+:)?(xmpmeta|xapmeta|RDF)\b")
_MAX_UNDECLARED_PREFIXES: Final = 50
_BARE_AMPERSAND: Final = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9A-Fa-f]{1,6});)")
_USED_PREFIX: Final = re.compile(r"[<\s]([A-Za-z][\w.-]*):[A-Za-z]")
_DECLARED_PREFIX: Final = re.compile(r"xmlns:([\w.-]+)")
_FIRST_NAME: Final = re.compile(r"<[^\s/>]+")
_XML_ERRORS: Final = (
    ParseError,
    DefusedXmlException,
    ValueError,
    LookupError,
    RecursionError,
)
_INVALID_CHARACTERS: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse_xmp_sidecar(packet: bytes) -> tuple[Metadata, Metadata]:
    """Parse the content of an XMP file beside a picture.

    Returns:
        What replaces the metadata in the picture file, and what stands for missing metadata: a
        creation date near that of the last change may be that of the sidecar.

    Raises:
        DecodeError: See `read_xmp`.
    """
    properties = _Properties(_parse_xml(packet))
    facts = _read_properties(properties, TextSource.SIDECAR)
    changes = [
        change
        for name in ("xmp:MetadataDate", "xmp:ModifyDate")
        for line in properties.lines(name)
        if (change := parse_date(line))
    ]
    dates = [date for date in facts.dates if date.role is not Role.MODIFIED]
    facts.dates = [
        date
        for date in dates
        if date.role is Role.ORIGINAL
        or not any(date.moment.agrees_with(change) for change in changes)
    ]
    taken_at, taken_from = choose_date(date for date in dates if date not in facts.dates)
    fallbacks = Metadata(taken_at=taken_at, taken_from=taken_from)
    return merge([facts], TextSource.SIDECAR), fallbacks


def read_xmp(packet: bytes, source: TextSource = TextSource.METADATA) -> Facts:
    """Return the statements of a packet.

    Args:
        packet: XML in UTF-8, or in UTF-16.
        source: Source to record for the texts.

    Raises:
        DecodeError: The packet is too large, not well-formed or unsafe to parse.
    """
    return _read_properties(_Properties(_parse_xml(packet)), source)


def _read_properties(properties: _Properties, source: TextSource) -> Facts:
    facts = Facts(
        camera=join_camera(properties.line("tiff:Make"), properties.line("tiff:Model")),
        lens=_lens(properties),
        lens_range=describe_lens(
            [
                to_number(part)
                for name in ("aux:LensInfo", "exifEX:LensSpecification")
                for line in properties.lines(name)
                for part in line.split()
            ][:4]
        ),
        position=_position(properties),
        rating=_rating(properties),
        label=_label(properties),
        keywords=list(_keywords(properties)),
        people=list(_people(properties)),
        places=list(_places(properties)),
    )
    origin = "sidecar" if source is TextSource.SIDECAR else "xmp"
    for name, role in _DATES:
        for value in properties.lines(name):
            facts.add_date(role, origin, value)
    gps_time = parse_date(properties.line("exif:GPSTimeStamp"))
    facts.add_date(Role.GPS, origin, gps_time and utc_to_local(gps_time))
    for name, kind in _TEXTS:
        for value, language in properties.values(name):
            facts.texts += make_texts(kind, value, source, language)
    return facts


# --- XML and RDF ---


def _parse_xml(packet: bytes) -> Element:
    if len(packet) > MAX_BYTES:
        raise DecodeError(f"it holds {len(packet) / 1e6:.1f} MB of XMP")
    try:
        return _parse_strictly(packet.strip(b" \t\r\n\0"))
    except _XML_ERRORS as error:
        with suppress(*_XML_ERRORS):
            if repaired := _repair_packet(packet):
                return _parse_strictly(repaired)
        raise DecodeError("it holds XMP that is not well-formed") from error


def _parse_strictly(packet: bytes) -> Element:
    parser = XMLParser(target=_DepthLimitedBuilder())
    parser.feed(packet)
    root: Element = parser.close()
    return root


def _repair_packet(packet: bytes) -> bytes:
    """Return the XML of a packet without what programs do wrong, or b"".

    They leave rests of older packets, control characters and bytes of other encodings, do not
    escape ``&``, and use prefixes that they do not declare.
    """
    text = _INVALID_CHARACTERS.sub(" ", _decode_packet(packet))
    start = _PACKET_START.search(text)
    end = start and re.compile(rf"</(?:\w+:)?{start[1]}\s*>").search(text, start.end())
    if not start or not end:
        return b""
    text = _BARE_AMPERSAND.sub("&amp;", text[start.start() : end.end()])
    undeclared = {*_USED_PREFIX.findall(text)} - {*_DECLARED_PREFIX.findall(text), "xml", "xmlns"}
    if len(undeclared) > _MAX_UNDECLARED_PREFIXES or len(text) > MAX_BYTES:
        return b""
    usual = {prefix: namespace for namespace, prefix in _PREFIXES.items()}
    declarations = "".join(
        f' xmlns:{prefix}="{usual.get(prefix, prefix)}"' for prefix in sorted(undeclared)
    )
    return _FIRST_NAME.sub(lambda name: name[0] + declarations, text, count=1).encode()


def _decode_packet(packet: bytes) -> str:
    start = packet.find(b"<")
    if packet[start + 1 : start + 2] == b"\0":
        return packet[start:].decode("utf-16-le", "replace")
    if packet[start - 1 : start] == b"\0" and packet[start + 1 : start + 4 : 2] == b"\0\0":
        return packet[start - 1 :].decode("utf-16-be", "replace")
    try:
        return packet.decode()
    except UnicodeDecodeError:
        return packet.decode("cp1252", "replace")


class _DepthLimitedBuilder(TreeBuilder):
    """A tree builder with a depth limit, because searching a deep tree takes quadratic time."""

    _depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise DecodeError(f"it holds XMP nested more than {MAX_DEPTH} deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


class _Properties:
    """The properties of a picture in an XMP packet, by name with the usual prefix.

    Properties of nested structures are not among them.
    """

    def __init__(self, root: Element) -> None:
        self._attributes: dict[str, list[str]] = {}
        self._elements: dict[str, list[Element]] = {}
        for element in root.iter():
            element.tag = _short_name(element.tag)
            element.attrib = {_short_name(key): value for key, value in element.attrib.items()}
        for rdf in root.iter("rdf:RDF"):
            for description in _children(rdf, "rdf:Description"):
                for name, value in description.attrib.items():
                    self._attributes.setdefault(name, []).append(value)
                for element in description:
                    self._elements.setdefault(element.tag, []).append(element)

    def values(self, name: str) -> Iterator[tuple[str, str | None]]:
        """Yield the values of a property, stored as element or attribute, with their language."""
        for value in self._attributes.get(name, ()):
            yield value, None
        for element in self._elements.get(name, ()):
            yield from _element_values(element)

    def lines(self, name: str) -> Iterator[str]:
        """Yield the values of a property that are not empty, each on one line."""
        for value, _ in self.values(name):
            if line := to_single_line(value):
                yield line

    def line(self, name: str) -> str:
        """Return the first value of a property, or ""."""
        return next(self.lines(name), "")

    def structures(self, name: str) -> Iterator[Element]:
        """Yield all elements of a property, at any depth."""
        for element in self._elements.get(name, ()):
            yield from element.iter()


@lru_cache(maxsize=1000)
def _short_name(tag: str) -> str:
    """Return a name with its usual prefix: ``dc:title`` for ``{http://...}title``."""
    namespace, _, local = tag[1:].rpartition("}")
    prefix = _PREFIXES.get(namespace.rstrip("/#"))
    return f"{prefix}:{local}" if prefix else tag


def _children(element: Element, name: str) -> list[Element]:
    return [child for child in element if child.tag == name]


def _element_values(element: Element) -> Iterator[tuple[str, str | None]]:
    """Yield the text of an element, or of each item of its list, with its language."""
    items = list(element.iter("rdf:li")) or list(element.iter("rdf:value")) or [element]
    for item in items:
        language = item.attrib.get("xml:lang")
        text = item.text or item.attrib.get("rdf:resource") or item.attrib.get("rdf:value") or ""
        yield text, None if language in (None, "", "x-default") else language


def _fields(element: Element, name: str) -> Iterator[str]:
    """Yield the values of a structure's field, stored as attribute or child, each on one line."""
    if value := to_single_line(element.attrib.get(name, "")):
        yield value
    for child in _children(element, name):
        for text, _ in _element_values(child):
            if line := to_single_line(text):
                yield line


# --- facts ---


def _lens(properties: _Properties) -> str | None:
    names = ("exifEX:LensModel", "aux:Lens", "MicrosoftPhoto:LensModel")
    lenses = (clean_lens(line) for name in names for line in properties.lines(name))
    return next((lens for lens in lenses if lens), None)


def _position(properties: _Properties) -> tuple[float, float] | None:
    latitude, longitude = (
        parse_coordinate(properties.line(name), properties.line(f"{name}Ref"), axis)
        for name, axis in (("exif:GPSLatitude", "NS"), ("exif:GPSLongitude", "EW"))
    )
    return to_position(latitude, longitude)


def _rating(properties: _Properties) -> int | None:
    rating = to_rating(to_number(properties.line("xmp:Rating")))
    if rating is None:
        rating = to_rating(to_number(properties.line("acdsee:rating")))
    if rating is None:
        rating = percent_to_rating(to_number(properties.line("MicrosoftPhoto:Rating")))
    is_rejected = (
        properties.line("xmpDM:pick") == "-1" or properties.line("digiKam:PickLabel") == "1"
    )
    return -1 if is_rejected and not rating else rating


def _label(properties: _Properties) -> str | None:
    if label := properties.line("xmp:Label"):
        return label
    for name, labels in (
        ("digiKam:ColorLabel", _DIGIKAM_COLORS),
        ("darktable:colorlabels", _DARKTABLE_COLORS),
        ("digiKam:PickLabel", _DIGIKAM_PICKS),
    ):
        number = properties.line(name)
        if number.isdecimal() and int(number) < len(labels) and labels[int(number)]:
            return labels[int(number)]
    return None


def _keywords(properties: _Properties) -> Iterator[str]:
    flat: list[str] = []
    paths: list[str] = []
    for name, separator in _KEYWORDS:
        for line in properties.lines(name):
            if not separator:
                flat.append(line)
            elif separator == "|":
                paths.append(line)
            else:
                paths.append(line.replace("|", "/").replace(separator, "|"))
    for element in properties.structures("mwg-kw:Keywords"):
        if element.tag == "mwg-kw:Hierarchy":
            paths += _keyword_paths(element)
    for element in properties.structures("mwg-rs:Regions"):
        if any(value.lower() == "pet" for value in _fields(element, "mwg-rs:Type")):
            flat += _fields(element, "mwg-rs:Name")
    internal = [path for path in paths if _INTERNAL_KEYWORD.match(path)]
    paths = [path for path in paths if path not in internal]
    # The levels of internal keywords are in the flat list as well.
    hidden = {level for path in internal for level in path.split("|")}
    hidden -= {level for path in paths for level in path.split("|")}
    yield from (word for word in flat if word not in hidden)
    yield from paths


def _keyword_paths(children: Element, parent: str = "") -> Iterator[str]:
    """Yield the keywords of a hierarchy of the Metadata Working Group as paths."""
    items = [item for item_list in children for item in _children(item_list, "rdf:li")]
    for item in items:
        node = next(iter(_children(item, "rdf:Description")), item)
        for keyword in _fields(node, "mwg-kw:Keyword"):
            path = f"{parent}|{keyword}" if parent else keyword
            yield path
            for child in _children(node, "mwg-kw:Children"):
                yield from _keyword_paths(child, path)


def _people(properties: _Properties) -> Iterator[str]:
    for name in _PEOPLE:
        yield from properties.lines(name)
    for element in properties.structures("Iptc4xmpExt:PersonInImageWDetails"):
        yield from _fields(element, "Iptc4xmpExt:PersonName")
    for prefix in ("mwg-rs", "acdsee-rs"):
        for element in properties.structures(f"{prefix}:Regions"):
            types = {value.lower() for value in _fields(element, f"{prefix}:Type")}
            if not types or "face" in types:
                yield from _fields(element, f"{prefix}:Name")
    for element in properties.structures("MP:RegionInfo"):
        yield from _fields(element, "MPReg:PersonDisplayName")


def _places(properties: _Properties) -> Iterator[str]:
    locations = [element for name in _LOCATIONS for element in properties.structures(name)]
    for name, location_field in _PLACES:
        if name is not None:
            yield from properties.lines(name)
        for element in locations:
            yield from _fields(element, f"Iptc4xmpExt:{location_field}")
