"""Texts and facts of office files: Word and PowerPoint (Office Open XML), Writer and Impress (ODF).

Elements are told by their names without namespaces, because each format has two sets of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mmsearch.core.errors import DecodeError
from mmsearch.modalities._office.package import EnoughError, OfficePackage, local_name

SECTION_CHARS: Final = 3000
"""Number of characters after which a text without pages goes on in the next section."""

MAX_SECTIONS: Final = 1000
"""Number of sections or slides of a file that are read: the first ones."""

MAX_CHARS: Final = SECTION_CHARS * MAX_SECTIONS

_MAX_PARAGRAPH_CHARS: Final = 2 * SECTION_CHARS
_ODF_MANIFEST: Final = "META-INF/manifest.xml"
_SPACES: Final = frozenset({"br", "cr", "line-break", "s", "tab"})
_PARAGRAPHS: Final = frozenset({"h", "p"})
_LEFT_OUT: Final = frozenset(
    {"Fallback", "annotation", "fld", "moveFrom", "page-number", "tracked-changes"}
)
"""Elements whose text is a copy, a comment, deleted, or a number."""

_PROPERTIES: Final = frozenset(
    {"title", "subject", "description", "keywords", "keyword"}
    | {"creator", "initial-creator", "created", "creation-date"}
)
_MAX_PROPERTY_CHARS: Final = 10_000


@dataclass
class OfficeTexts:
    """Texts of a file, section by section.

    Attributes:
        format: ``DOCX``, ``PPTX``, ``ODT`` or ``ODP``.
        has_pages: True if the sections are slides.
        sections: Text of each section or slide.
        damages: What is wrong with the file, as clauses.
    """

    format: str
    has_pages: bool
    sections: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)


@dataclass
class OfficeFacts:
    """Facts that a file states about itself: values by the name of their element."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def get(self, *names: str) -> str:
        """Return the first value of the first name that has one, or an empty string."""
        return next((self.values[name][0] for name in names if self.values.get(name)), "")


def read_texts(package: OfficePackage) -> OfficeTexts:
    """Return the texts of a file.

    Raises:
        DecodeError: It is no text and no presentation, or its text cannot be read.
    """
    if "content.xml" in package:
        return _read_odf(package)
    main = _main_part(package)
    collector = _TextCollector(text_elements=frozenset({"t"}))
    damage = _parse_as_far_as_possible(package, main, collector)
    if collector.root == "presentation":
        return _read_slides(package, main, collector.slide_ids)
    if collector.root != "document":
        raise DecodeError("an office file that is no text and no presentation")
    return _as_sections("DOCX", collector, damage)


def read_facts(package: OfficePackage) -> OfficeFacts:
    """Return what a file says about itself; nothing of properties that cannot be read."""
    facts = _FactReader()
    relations = package.relations("").values()
    names = [one.part for one in relations if one.kind == "core-properties"]
    for name in (*names, "docProps/core.xml", "meta.xml"):
        if name in package:
            with suppress(DecodeError):
                package.parse(name, facts)
            break
    return facts.facts


def thumbnail_parts(package: OfficePackage) -> Iterator[str]:
    """Yield the names of parts that may be a picture of the file."""
    for one in package.relations("").values():
        if one.kind == "thumbnail":
            yield one.part
    yield from ("docProps/thumbnail.jpeg", "Thumbnails/thumbnail.png")


def split_sections(paragraphs: Iterable[str]) -> list[str]:
    """Return texts of about `SECTION_CHARS` characters, of whole paragraphs if they are short."""
    sections: list[str] = []
    lines: list[str] = []
    size = 0
    for paragraph in paragraphs:
        for line in _split_paragraph(paragraph):
            if size and size + len(line) > SECTION_CHARS:
                sections.append("\n".join(lines))
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
    if lines:
        sections.append("\n".join(lines))
    return sections


def _split_paragraph(text: str) -> Iterator[str]:
    while len(text) > _MAX_PARAGRAPH_CHARS:
        end = text.rfind(" ", SECTION_CHARS // 2, SECTION_CHARS)
        end = SECTION_CHARS if end < 0 else end
        yield text[:end]
        text = text[end:]
    yield text


def _main_part(package: OfficePackage) -> str:
    relations = package.relations("").values()
    named = [one.part for one in relations if one.kind == "officeDocument"]
    for name in (*named, "word/document.xml", "ppt/presentation.xml"):
        if name in package:
            return name
    raise DecodeError("a zip archive, but no office file")


def _parse_as_far_as_possible(
    package: OfficePackage, part: str, collector: _TextCollector
) -> str | None:
    """Parse a part; return what is wrong if something of it was read.

    Raises:
        DecodeError: Nothing of it can be read.
    """
    try:
        package.parse(part, collector)
    except DecodeError as error:
        if not collector.paragraphs:
            raise
        return f"only the beginning of its text can be read: {error.message}"
    return None


def _as_sections(name: str, collector: _TextCollector, damage: str | None) -> OfficeTexts:
    sections = split_sections(collector.paragraphs)
    damages = [damage] if damage else []
    if collector.is_full or len(sections) > MAX_SECTIONS:
        damages.append(f"only its first {MAX_CHARS // 1_000_000} million characters are read")
    return OfficeTexts(name, False, sections[:MAX_SECTIONS], damages)


def _read_slides(package: OfficePackage, main: str, slide_ids: Iterable[str]) -> OfficeTexts:
    relations = package.relations(main)
    slides = [relations[id_].part for id_ in slide_ids if id_ in relations]
    if not slides:
        slides = [one.part for one in relations.values() if one.kind == "slide"]
    texts = OfficeTexts("PPTX", True, [])
    damaged = 0
    for slide in slides[:MAX_SECTIONS]:
        paragraphs: list[str] = []
        try:
            notes = [
                one.part for one in package.relations(slide).values() if one.kind == "notesSlide"
            ]
            for part in (slide, *notes[:1]):
                collector = _TextCollector(text_elements=frozenset({"t"}))
                package.parse(part, collector)
                paragraphs += collector.paragraphs
        except DecodeError:
            damaged += 1
        texts.sections.append("\n".join(paragraphs))
    if slides and damaged == len(texts.sections):
        raise DecodeError("none of its slides can be read")
    if damaged:
        texts.damages.append(f"{damaged:,} of {len(slides):,} slides cannot be read")
    if len(slides) > MAX_SECTIONS:
        texts.damages.append(f"only the first {MAX_SECTIONS:,} of {len(slides):,} slides are read")
    return texts


def _read_odf(package: OfficePackage) -> OfficeTexts:
    manifest = package.read(_ODF_MANIFEST, 1_000_000) or b""
    if b"encryption-data" in manifest:
        raise DecodeError("it can only be opened with its password")
    collector = _TextCollector(text_elements=_PARAGRAPHS)
    damage = _parse_as_far_as_possible(package, "content.xml", collector)
    if collector.body == "presentation":
        slides = ["\n".join(lines) for lines in collector.pages]
        damages = [damage] if damage else []
        if len(slides) > MAX_SECTIONS:
            damages.append(f"only the first {MAX_SECTIONS:,} of {len(slides):,} slides are read")
        return OfficeTexts("ODP", True, slides[:MAX_SECTIONS], damages)
    if collector.body != "text":
        raise DecodeError("an office file that is no text and no presentation")
    return _as_sections("ODT", collector, damage)


class _TextCollector:
    """Collects the paragraphs of a part.

    Args:
        text_elements: Names of the elements whose characters are text.

    Attributes:
        root: Name of the outermost element.
        body: Name of the element in the body of an ODF file, such as ``presentation``.
        paragraphs: The paragraphs that have a text, their spaces normalized.
        pages: The paragraphs of each page of an ODF presentation.
        slide_ids: Relations of the slides of a presentation, in their order.
        is_full: True if the part has more than `MAX_CHARS` characters.
    """

    def __init__(self, text_elements: frozenset[str]) -> None:
        self._text_elements = text_elements
        self._text_depth = 0
        self._left_out_depth = 0
        self._parts: list[str] = []
        self._chars = 0
        self._parent = ""
        self.root = self.body = ""
        self.paragraphs: list[str] = []
        self.pages: list[list[str]] = []
        self.slide_ids: list[str] = []
        self.is_full = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Handle the start of an element."""
        name = local_name(tag)
        self.root = self.root or name
        if self._parent == "body" and not self.body:
            self.body = name
        self._parent = name
        if name in _LEFT_OUT or self._left_out_depth:
            self._left_out_depth += 1
        elif name in self._text_elements:
            self._text_depth += 1
        elif name in _SPACES:
            self._parts.append(" ")
        elif name == "noBreakHyphen":
            self._parts.append("-")
        elif name == "page":
            self.pages.append([])
        elif name == "sldId":
            # The other attribute ``id`` has no namespace.
            self.slide_ids += [value for key, value in attributes.items() if key.endswith("}id")]

    def end(self, tag: str) -> None:
        """Handle the end of an element."""
        self._parent = ""
        if self._left_out_depth:
            self._left_out_depth -= 1
            return
        name = local_name(tag)
        if name in self._text_elements:
            self._text_depth -= 1
        if name in _PARAGRAPHS:
            self._end_paragraph()

    def data(self, text: str) -> None:
        """Handle characters."""
        if self._text_depth and not self._left_out_depth:
            self._parts.append(text)
            self._chars += len(text)
            if self._chars > MAX_CHARS:
                self.is_full = True
                self._end_paragraph()
                raise EnoughError

    def close(self) -> None:
        """Handle the end of the part."""
        self._end_paragraph()

    def _end_paragraph(self) -> None:
        text = re.sub(r"\s+", " ", "".join(self._parts)).strip()
        self._parts.clear()
        if text:
            self.paragraphs.append(text)
            if self.pages:
                self.pages[-1].append(text)


class _FactReader:
    """Reads the properties of a file."""

    def __init__(self) -> None:
        self.facts = OfficeFacts()
        self._name = ""
        self._parts: list[str] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = local_name(tag)
        self._name = name if name in _PROPERTIES else ""
        self._parts.clear()

    def end(self, tag: str) -> None:
        value = "".join(self._parts).strip()[:_MAX_PROPERTY_CHARS]
        if self._name and value:
            self.facts.values.setdefault(self._name, []).append(value)
        self._name = ""
        self._parts.clear()

    def data(self, text: str) -> None:
        if self._name:
            self._parts.append(text)

    def close(self) -> None:
        pass
