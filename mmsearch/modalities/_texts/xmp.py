"""Read XMP packets, the metadata that photo programs write into pictures and sidecars.

The fields are those of ISO 16684-1 (dc:, exif:) and of the most common programs (photoshop:, lr:,
digiKam:). XML entities are rejected, so that no packet can expand while it is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from mmsearch.core.errors import DecodeError
from mmsearch.core.types import Text, TextSource
from mmsearch.modalities._texts.normalize import make_keyword_texts, make_texts

MAX_BYTES: Final = 4_000_000
"""Maximum size of a packet, in bytes."""

MAX_DEPTH: Final = 100
"""Maximum nesting depth of the XML elements."""

_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC: Final = "{http://purl.org/dc/elements/1.1/}"
_PHOTOSHOP: Final = "{http://ns.adobe.com/photoshop/1.0/}"
_LIGHTROOM: Final = "{http://ns.adobe.com/lightroom/1.0/}"
_DIGIKAM: Final = "{http://www.digikam.org/ns/1.0/}"
_EXIF: Final = "{http://ns.adobe.com/exif/1.0/}"
_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"

_TEXT_PROPERTIES: Final = (
    ("title", _DC + "title"),
    ("title", _PHOTOSHOP + "Headline"),
    ("description", _DC + "description"),
)
_KEYWORD_PROPERTIES: Final = (
    (_DC + "subject", re.compile(r"(?!)")),
    (_LIGHTROOM + "hierarchicalSubject", re.compile(r"\|")),
    (_DIGIKAM + "TagsList", re.compile("/")),
)
_DEGREES: Final = re.compile(r"(\d+),(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?([NSEW])")


@dataclass(frozen=True)
class XmpMetadata:
    """The content of a packet: texts, and the position of the picture in degrees."""

    texts: tuple[Text, ...] = ()
    latitude: float | None = None
    longitude: float | None = None


def parse_xmp(packet: bytes, source: TextSource) -> XmpMetadata:
    """Parse a packet.

    Args:
        packet: XML in UTF-8, or in UTF-16 with a byte order mark.
        source: Source to record for the texts.

    Raises:
        DecodeError: The packet is too large, not well-formed or unsafe to parse.
    """
    if len(packet) > MAX_BYTES:
        raise DecodeError(f"it holds {len(packet) / 1e6:.1f} MB of XMP")
    try:
        parser = XMLParser(target=_DepthLimitedBuilder())
        parser.feed(packet.strip(b" \t\r\n\0"))
        root: Element = parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError) as error:
        raise DecodeError("it holds XMP that is not well-formed") from error
    texts: list[Text] = []
    for kind, name in _TEXT_PROPERTIES:
        for value, language in _property_values(root, name):
            texts += make_texts(kind, value, source, language)
    words: list[str] = [
        path.split(value)[-1]
        for name, path in _KEYWORD_PROPERTIES
        for value, _ in _property_values(root, name)
    ]
    all_texts = (*dict.fromkeys(texts), *make_keyword_texts(words, source))
    latitude = _degrees(root, _EXIF + "GPSLatitude", 90.0)
    longitude = _degrees(root, _EXIF + "GPSLongitude", 180.0)
    has_position = latitude is not None and longitude is not None
    return XmpMetadata(
        all_texts, latitude if has_position else None, longitude if has_position else None
    )


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


def _property_values(root: Element, name: str) -> Iterator[tuple[str, str | None]]:
    """Yield the values of a property, stored as element or attribute, with their language."""
    for description in root.iter(_RDF + "Description"):
        if name in description.attrib:
            yield description.attrib[name], None
        for element in description.findall(name):
            items: list[Any] = list(element.iter(_RDF + "li"))
            for item in items or [element]:
                language = item.attrib.get(_LANGUAGE)
                language_tag = None if language in (None, "x-default") else language
                yield item.text or "", language_tag


def _degrees(root: Element, name: str, max_degrees: float) -> float | None:
    """Return a coordinate such as ``48,51.5N``: degrees, minutes and optional seconds."""
    for value, _ in _property_values(root, name):
        match = _DEGREES.fullmatch(value.strip())
        if match:
            degrees = float(match[1]) + float(match[2]) / 60 + float(match[3] or 0) / 3600
            if degrees <= max_degrees:
                return -degrees if match[4] in "SW" else degrees
    return None
