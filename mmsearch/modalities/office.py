"""Texts and slides of office programs: .docx, .pptx, .odt and .odp, found by their words.

A slide is an item with its number as the page; a text, which has no pages until an office program
lays it out, is cut into items of about a page. They have no pixels. Macros, links, embedded files
and pictures are ignored.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Modality
from mmsearch.core.texts import make_texts
from mmsearch.core.types import (
    WHOLE,
    ItemLocator,
    Metadata,
    Picture,
    Pixels,
    TextItem,
    TextSource,
)
from mmsearch.modalities._office.package import OfficePackage, open_package
from mmsearch.modalities._office.texts import (
    MAX_SECTIONS,
    OfficeTexts,
    read_facts,
    read_texts,
    thumbnail_parts,
)
from mmsearch.modalities._pillow import PillowReader, make_thumbnail
from mmsearch.modalities._reader import DEFAULT_MAX_PIXELS, FileReader

_ZIP: Final = b"PK\x03\x04"
_HEAD: Final = re.compile(
    rb"PK\x03\x04.{26}(?:\[Content_Types\]\.xml|_rels/\.rels|docProps/|word/|ppt/"
    rb"|mimetypeapplication/vnd\.oasis\.open)",
    re.DOTALL,
)
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_SEARCHED_BYTES: Final = 1 << 20

_MAX_THUMBNAIL_BYTES: Final = 4_000_000
_MAX_THUMBNAIL_PIXELS: Final = 8_000_000
_MIN_CARD_PX: Final = 640
_MAX_CARD_PX: Final = 8192
_MAX_CARD_LINES: Final = 40


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """Return the modality of texts and slides.

    Args:
        max_pixels: Limit of width times height of pictures; these files have none.
    """
    return OfficeModality(max_pixels)


@dataclass(frozen=True)
class OfficeModality(FileReader):
    """Reads texts and slides; see `mmsearch.core.protocols.Modality`."""

    kind = "document"
    max_items = MAX_SECTIONS
    suffixes = frozenset(
        [b".docx", b".docm", b".pptx", b".pptm", b".ppsx", b".ppsm", b".odt", b".odp"]
    )

    def recognizes(self, head: bytes) -> bool:
        """Return True if the first bytes of a file are those of a package of an office program.

        They do not tell texts and slides from tables.
        """
        return _HEAD.match(head) is not None

    def items(
        self, path: bytes, edge_px: int, first_part: int = 0, known: ItemLocator = WHOLE
    ) -> Iterator[TextItem]:
        """Yield the slides of a presentation, or the sections of a text, without empty ones.

        The first one, which stands for the file, may be empty. Its damage says what is wrong with
        the file.

        Raises:
            DecodeError: Nothing of it can be read; the message is a clause with the reason.
        """
        with self._open(path) as (file, head):
            _check_head(file, head)
            texts, metadata = _last_file.read(file)
        for part, text in enumerate(texts.sections or [""]):
            if part >= first_part and (text or not part):
                yield _make_item(texts, metadata, part, text)

    def thumbnail(
        self, path: bytes, edge_px: int, file_format: str = "JPEG", locator: ItemLocator = WHOLE
    ) -> bytes:
        """Return an image file: the picture that the file has of itself, or a card with the text.

        Raises:
            DecodeError: The file cannot be read, or has no such item.
        """
        with self._open(path) as (file, head):
            _check_head(file, head)
            texts, _ = _last_file.read(file)
            sections = texts.sections or [""]
            if not 0 <= locator.part < len(sections):
                raise DecodeError(f"it has no part {locator.part + 1}")
            with open_package(file) as package:
                pixels = None if locator.part else _read_thumbnail(package)
            if pixels is None:
                long_px = min(max(edge_px, _MIN_CARD_PX), _MAX_CARD_PX)
                size = (long_px, long_px * 3 // 4)
                pixels = draw_card(sections[locator.part], size if texts.has_pages else size[::-1])
            return make_thumbnail(pixels, edge_px, file_format)


class _LastFile:
    """The texts of the file that this process has read last.

    A long file is read in several windows, each of which would parse all of it.
    """

    def __init__(self) -> None:
        self._known: tuple[bytes, OfficeTexts, Metadata] | None = None

    def read(self, file: BufferedReader) -> tuple[OfficeTexts, Metadata]:
        """Return the texts of a file, and what it says about itself.

        Raises:
            DecodeError: Nothing of it can be read; the message is a clause with the reason.
        """
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
        known = self._known
        if known is None or known[0] != digest:
            with open_package(file) as package:
                known = (digest, read_texts(package), _read_metadata(package))
            self._known = known
        return known[1:]


_last_file = _LastFile()


def _check_head(file: BufferedReader, head: bytes) -> None:
    """Raise a DecodeError if a file is no zip archive; the message says what it is."""
    if head.startswith(_ZIP):
        return
    if not head.startswith(_OLE):
        raise DecodeError("not an office file")
    # An encrypted file is a stream in the container of the old formats.
    file.seek(0)
    if _ENCRYPTED in file.read(_SEARCHED_BYTES):
        raise DecodeError("it can only be opened with its password")
    file.seek(0, 2)
    file.seek(max(0, file.tell() - _SEARCHED_BYTES))
    if _ENCRYPTED in file.read(_SEARCHED_BYTES):
        raise DecodeError("it can only be opened with its password")
    raise DecodeError("a file of an old office format; save it as DOCX, PPTX or PDF")


def _make_item(texts: OfficeTexts, metadata: Metadata, part: int, text: str) -> TextItem:
    facts = vars(metadata)
    if part:
        facts = {"taken_at": metadata.taken_at, "taken_from": metadata.taken_from, "texts": ()}
    # Ligatures and letters of full width are found by the letters that they stand for.
    page = make_texts("page", unicodedata.normalize("NFKC", text), TextSource.DOCUMENT)
    facts = {**facts, "texts": (*facts["texts"], *page)}
    damage = None if part else "; ".join(texts.damages) or None
    locator = ItemLocator(part, page=part + 1 if texts.has_pages else None)
    return TextItem(Picture(0, 0, texts.format, damage=damage, **facts), locator)


def _read_metadata(package: OfficePackage) -> Metadata:
    """Return what a file says about itself, for its first item."""
    from mmsearch.modalities._texts.dates import Role  # noqa: PLC0415 - only decode workers
    from mmsearch.modalities._texts.facts import Facts, merge  # noqa: PLC0415

    values = read_facts(package)
    facts = Facts()
    facts.add_date(Role.ORIGINAL, "document", values.get("created", "creation-date"))
    facts.texts += make_texts("title", values.get("title"), TextSource.METADATA)
    facts.texts += make_texts(
        "description", values.get("description", "subject"), TextSource.METADATA
    )
    for name in ("keywords", "keyword"):
        for value in values.values.get(name, ()):
            facts.keywords += re.split("[,;]", value)
    metadata = merge([facts], TextSource.METADATA)
    authors = make_texts("author", values.get("initial-creator", "creator"), TextSource.DOCUMENT)
    return Metadata(**{**vars(metadata), "texts": (*metadata.texts, *authors)})


def _read_thumbnail(package: OfficePackage) -> Pixels | None:
    """Return the picture that a file has of itself; None without one that can be read."""
    reader = PillowReader(("JPEG", "PNG"), _MAX_THUMBNAIL_PIXELS)
    for name in thumbnail_parts(package):
        content = package.read(name, _MAX_THUMBNAIL_BYTES)
        if content:
            try:
                return reader.decode(io.BytesIO(content), 0).pixels
            except DecodeError:
                continue
    return None


def draw_card(text: str, size: tuple[int, int]) -> Pixels:
    """Return the first lines of a text in black on white, uint8 (height, width, 3).

    Args:
        text: The text.
        size: Width and height in pixels.
    """
    card = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(card)
    letter_px = max(size) // 32
    font = ImageFont.load_default(letter_px)
    margin = size[0] // 16
    top = margin
    for line in _wrap(canvas, font, text, size[0] - 2 * margin):
        if top + letter_px > size[1] - margin:
            break
        canvas.text((margin, top), line, fill=(40, 40, 40), font=font)
        top += letter_px * 3 // 2
    return np.asarray(card).copy()


def _wrap(
    canvas: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    text: str,
    width: int,
) -> Iterator[str]:
    """Yield lines of a text that fit into a width in pixels."""
    printable = "".join(char if char.isprintable() or char == "\n" else " " for char in text)
    count = 0
    for paragraph in printable[: 100 * _MAX_CARD_LINES].split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word[:80]}".strip()
            if line and canvas.textlength(longer, font) > width:
                yield line
                longer = word[:80]
                count += 1
            line = longer
        yield line
        count += 1
        if count > _MAX_CARD_LINES:
            return
