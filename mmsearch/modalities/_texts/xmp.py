"""XMP packets: what photo programs write into pictures and beside them.

The fields are those of ISO 16684-1 (dc:, exif:) and of the programs that are most in use
(photoshop:, lr:, digiKam:). Entities are refused, so that no packet can grow while it is read.
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
from mmsearch.modalities._texts.plain import keywords, make_text

MAX_BYTES: Final = 4_000_000
MAX_DEPTH: Final = 100

_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC: Final = "{http://purl.org/dc/elements/1.1/}"
_PHOTOSHOP: Final = "{http://ns.adobe.com/photoshop/1.0/}"
_LIGHTROOM: Final = "{http://ns.adobe.com/lightroom/1.0/}"
_DIGIKAM: Final = "{http://www.digikam.org/ns/1.0/}"
_EXIF: Final = "{http://ns.adobe.com/exif/1.0/}"
_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"

_TEXTS: Final = (
    ("title", _DC + "title"),
    ("title", _PHOTOSHOP + "Headline"),
    ("description", _DC + "description"),
)
_LISTS: Final = (
    (_DC + "subject", re.compile(r"(?!)")),
    (_LIGHTROOM + "hierarchicalSubject", re.compile(r"\|")),
    (_DIGIKAM + "TagsList", re.compile("/")),
)
_DEGREES: Final = re.compile(r"(\d+),(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?([NSEW])")


@dataclass(frozen=True)
class XmpFacts:
    """What a packet says: its texts, and where the picture was taken, in degrees."""

    texts: tuple[Text, ...] = ()
    latitude: float | None = None
    longitude: float | None = None


def parse_xmp(packet: bytes, source: TextSource) -> XmpFacts:
    """Read a packet.

    Args:
        packet: UTF-8 or UTF-16 with a mark.
        source: Of its texts.

    Raises:
        DecodeError: It is too large, no XML, or XML that is not safe to read.
    """
    if len(packet) > MAX_BYTES:
        raise DecodeError(f"it holds {len(packet) / 1e6:.1f} MB of XMP")
    try:
        parser = XMLParser(target=_ShallowBuilder())
        parser.feed(packet.strip(b" \t\r\n\0"))
        root: Element = parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError) as error:
        raise DecodeError("it holds XMP that is not well-formed") from error
    texts: list[Text] = []
    for kind, name in _TEXTS:
        for value, language in _values(root, name):
            texts += make_text(kind, value, source, language)
    words: list[str] = [
        path.split(value)[-1] for name, path in _LISTS for value, _ in _values(root, name)
    ]
    found = (*dict.fromkeys(texts), *keywords(words, source))
    north = _degrees(root, _EXIF + "GPSLatitude", 90.0)
    east = _degrees(root, _EXIF + "GPSLongitude", 180.0)
    both = north is not None and east is not None
    return XmpFacts(found, north if both else None, east if both else None)


class _ShallowBuilder(TreeBuilder):
    """Build a tree of a limited depth, for searching a deep one takes quadratic time."""

    _depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise DecodeError(f"it holds XMP nested more than {MAX_DEPTH} deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def _values(root: Element, name: str) -> Iterator[tuple[str, str | None]]:
    """Each value of a property and its language, whether it is written as element or attribute."""
    for description in root.iter(_RDF + "Description"):
        if name in description.attrib:
            yield description.attrib[name], None
        for element in description.findall(name):
            items: list[Any] = list(element.iter(_RDF + "li"))
            for item in items or [element]:
                language = item.attrib.get(_LANGUAGE)
                known = None if language in (None, "x-default") else language
                yield item.text or "", known


def _degrees(root: Element, name: str, most: float) -> float | None:
    """A coordinate such as ``48,51.5N``: degrees, minutes and perhaps seconds."""
    for value, _ in _values(root, name):
        found = _DEGREES.fullmatch(value.strip())
        if found:
            degrees = float(found[1]) + float(found[2]) / 60 + float(found[3] or 0) / 3600
            if degrees <= most:
                return -degrees if found[4] in "SW" else degrees
    return None
