"""PDF documents, page by page, read with PDFium (extra ``documents``).

Each page is an item with its picture and with the text that is written on it. Scripts, forms and
links are ignored, and nothing but the file itself and the fonts of the system is read. PDFium is
not thread-safe: a process reads one document at a time, as decode workers do.
"""

from __future__ import annotations

import math
import re
import time
import unicodedata
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Modality
from mmsearch.core.texts import MAX_TEXT_CHARS, make_texts
from mmsearch.core.types import (
    WHOLE,
    DecodedImage,
    ItemLocator,
    Metadata,
    Picture,
    Pixels,
    TextSource,
)
from mmsearch.modalities._damage import END_MISSING
from mmsearch.modalities._pillow import make_thumbnail
from mmsearch.modalities._reader import DEFAULT_MAX_PIXELS, FileReader

if TYPE_CHECKING:
    import pypdfium2 as pdfium

MAX_PAGES: Final = 5000
"""Number of pages of a document that are read: the first ones."""

PIXELS_PER_POINT: Final = 2.0
"""Pixels of a page for each point, of which an inch has 72."""

MAX_SIDE_PX: Final = 8192
"""Longest side of a page in pixels; larger pages are reduced to it."""

MAX_DRAWING_S: Final = 1.5
"""CPU time in seconds after which a page is left as far as it is drawn.

A worker has time for `mmsearch.indexing.encode.WINDOW_ITEMS` of them.
"""

_HEAD: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*%PDF-")
_END: Final = b"%%EOF"
_SEARCHED_BYTES: Final = 1024
"""Bytes at the start and at the end of a file in which its marks are searched, as readers do."""

_DEFAULT_SIZE: Final = (612.0, 792.0)
_MAX_CHARS: Final = 10 * MAX_TEXT_CHARS
# PDFium writes this in place of a hyphen at the end of a line, which it joins with the next one.
_HYPHENS: Final = re.compile("[\x02\ufffe]")
_TITLE_PREFIX: Final = re.compile(r"Microsoft (?:Word|PowerPoint|Excel) - ")
_PASSWORD, _SECURITY = 4, 5


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """Return the modality of PDF documents.

    Args:
        max_pixels: Limit of width times height of a page, to which a larger one is reduced.
    """
    return DocumentModality(max_pixels)


@dataclass(frozen=True)
class DocumentModality(FileReader):
    """Reads PDF documents; see `mmsearch.core.protocols.Modality`."""

    kind = "document"
    max_items = MAX_PAGES
    suffixes = frozenset([b".pdf"])
    package = "pypdfium2"
    extra = "documents"

    def recognizes(self, head: bytes) -> bool:
        """Return True if the first bytes of a file are those of a PDF."""
        return _HEAD.match(head) is not None

    def items(
        self, path: bytes, edge_px: int, first_part: int = 0, known: ItemLocator = WHOLE
    ) -> Iterator[DecodedImage]:
        """Yield the pages of a document in order, without those that cannot be read.

        The first page, which stands for the document, is white if it cannot be read. Its damage
        says what is wrong with the document.

        Raises:
            DecodeError: No page can be read; the message is a clause with the reason.
        """
        with self._open(path) as (file, _), _open_document(file) as document:
            damages = _find_damages(document, file) if first_part == 0 else []
            for part in range(first_part, min(len(document), MAX_PAGES)):
                with closing(_Page(document, part, self.max_pixels)) as page:
                    if part and not page.is_readable:
                        continue
                    pixels, damage = page.draw(*page.size_for(edge_px))
                    damages += [damage] if damage else []
                    metadata = page.read_metadata()
                picture = Picture(
                    *page.size_px, "PDF", damage="; ".join(damages) or None, **vars(metadata)
                )
                damages = []
                yield DecodedImage(picture, pixels, ItemLocator(part, page=part + 1))

    def thumbnail(
        self, path: bytes, edge_px: int, file_format: str = "JPEG", locator: ItemLocator = WHOLE
    ) -> bytes:
        """Return an image file of a page whose long side is at most ``edge_px`` pixels.

        Raises:
            DecodeError: The page cannot be read; the message is a clause with the reason.
        """
        with self._open(path) as (file, _), _open_document(file) as document:
            if not 0 <= locator.part < min(len(document), MAX_PAGES):
                raise DecodeError(f"it has no page {locator.part + 1}")
            with closing(_Page(document, locator.part, self.max_pixels)) as page:
                width, height = page.size_px
                scale = min(1.0, edge_px / max(width, height))
                pixels, _ = page.draw(_scale(width, scale), _scale(height, scale))
        return make_thumbnail(pixels, edge_px, file_format)


@contextmanager
def _open_document(file: BufferedReader) -> Iterator[pdfium.PdfDocument]:
    """Open a document and close it.

    Raises:
        DecodeError: It has no pages that PDFium finds; the message is the reason.
    """
    import pypdfium2 as pdfium  # noqa: PLC0415 - only decode workers need it
    from pypdfium2 import internal, raw  # noqa: PLC0415

    # The reader must live as long as the document.
    reader, _held = internal.get_bufreader(file)
    # PdfDocument(file) reports an earlier error for a document without pages.
    handle = raw.FPDF_LoadCustomDocument(reader, None)
    if not handle:
        raise DecodeError(_explain(file, raw.FPDF_GetLastError()))
    with closing(pdfium.PdfDocument(handle)) as document:
        if not len(document):
            raise DecodeError("it has no pages")
        yield document


def _explain(file: BufferedReader, code: int) -> str:
    """Return the reason why PDFium refused a file."""
    if code == _PASSWORD:
        return "it can only be opened with its password"
    if code == _SECURITY:
        return "its encryption is not supported"
    file.seek(0)
    if b"%PDF-" not in file.read(_SEARCHED_BYTES):
        return "not a PDF"
    return "a PDF that is damaged" if _has_end(file) else "a PDF of which the end is missing"


def _has_end(file: BufferedReader) -> bool:
    """Return True if a file has the mark of its end near its end."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _SEARCHED_BYTES))
    return _END in file.read(_SEARCHED_BYTES)


def _find_damages(document: pdfium.PdfDocument, file: BufferedReader) -> list[str]:
    """Return what is wrong with a document as a whole, as clauses.

    Raises:
        DecodeError: None of its pages can be read.
    """
    count = len(document)
    read = min(count, MAX_PAGES)
    damaged = [part for part in range(read) if _read_size(document, part) is None]
    if len(damaged) == read:
        raise DecodeError("none of its pages can be read")
    damages = []
    if len(damaged) == 1:
        damages.append(f"page {damaged[0] + 1:,} cannot be read")
    elif damaged:
        damages.append(f"{len(damaged):,} of {read:,} pages cannot be read")
    if count > MAX_PAGES:
        damages.append(f"only the first {MAX_PAGES:,} of {count:,} pages are read")
    if not _has_end(file):
        damages.append(END_MISSING)
    return damages


def _read_size(document: pdfium.PdfDocument, part: int) -> tuple[float, float] | None:
    """Return width and height of a page in points; None if it cannot be read."""
    import pypdfium2 as pdfium  # noqa: PLC0415 - only decode workers need it

    try:
        width, height = document.get_page_size(part)
    except pdfium.PdfiumError:
        return None
    is_valid = 0 < width < math.inf and 0 < height < math.inf
    return (width, height) if is_valid else _DEFAULT_SIZE


def _load_page(document: pdfium.PdfDocument, part: int) -> pdfium.PdfPage | None:
    import pypdfium2 as pdfium  # noqa: PLC0415 - only decode workers need it

    try:
        return document[part]
    except pdfium.PdfiumError:
        return None


def _scale(side: float, scale: float) -> int:
    return max(1, math.ceil(side * scale - 1e-9))


class _Page:
    """A page of a document; `close` it before the next one is opened.

    Args:
        document: The document.
        part: Number of the page, from 0.
        max_pixels: Limit of width times height.

    Attributes:
        is_readable: True if the page can be read; it is white if not.
        size_px: Width and height in pixels, which no picture of the page exceeds.
    """

    def __init__(self, document: pdfium.PdfDocument, part: int, max_pixels: int) -> None:
        self._document = document
        self._part = part
        self._page = _load_page(document, part)
        self.is_readable = self._page is not None
        width, height = _read_size(document, part) or _DEFAULT_SIZE
        scale = min(
            PIXELS_PER_POINT,
            MAX_SIDE_PX / max(width, height),
            math.sqrt(max_pixels / (width * height)),
        )
        self.size_px = (max(1, round(width * scale)), max(1, round(height * scale)))
        while math.prod(self.size_px) > max(max_pixels, 1):
            longer = int(self.size_px[1] > self.size_px[0])
            self.size_px = (self.size_px[0] - (1 - longer), self.size_px[1] - longer)

    def close(self) -> None:
        """Close the page."""
        if self._page is not None:
            self._page.close()

    def size_for(self, edge_px: int) -> tuple[int, int]:
        """Return width and height of a picture with a short side of ``edge_px``; 0 for all of it.

        A page is not enlarged.
        """
        width, height = self.size_px
        scale = min(1.0, edge_px / min(width, height)) if edge_px else 1.0
        return _scale(width, scale), _scale(height, scale)

    def draw(self, width: int, height: int) -> tuple[Pixels, str | None]:
        """Return the page over white, uint8 (height, width, 3), and what is wrong with that."""
        from pypdfium2 import PdfBitmap, raw  # noqa: PLC0415 - only decode workers need it

        if self._page is None:
            return np.full((height, width, 3), 255, np.uint8), None
        deadline = time.thread_time() + MAX_DRAWING_S
        # The reference keeps the function that PDFium calls alive.
        pause = raw.IFSDK_PAUSE(version=1)
        pause.NeedToPauseNow = type(pause.NeedToPauseNow)(
            lambda _: int(time.thread_time() > deadline)
        )
        bitmap = PdfBitmap.new_native(width, height, raw.FPDFBitmap_BGR, rev_byteorder=True)
        with closing(bitmap):
            bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
            flags = raw.FPDF_ANNOT | raw.FPDF_REVERSE_BYTE_ORDER
            area = (0, 0, width, height, 0)
            state = raw.FPDF_RenderPageBitmap_Start(bitmap, self._page, *area, flags, pause)
            raw.FPDF_RenderPage_Close(self._page)
            pixels: Any = np.array(bitmap.to_numpy(), order="C")
        if state == raw.FPDF_RENDER_TOBECONTINUED:
            return pixels, f"this page takes over {MAX_DRAWING_S:g} seconds to draw"
        return pixels, None if state == raw.FPDF_RENDER_DONE else "this page cannot be drawn"

    def read_metadata(self) -> Metadata:
        """Return the text of the page, and what the document says about itself.

        Title, author, description and keywords belong to the first page, the date to all of them.
        """
        from mmsearch.modalities._texts.dates import Role  # noqa: PLC0415 - only decode workers
        from mmsearch.modalities._texts.facts import Facts, merge  # noqa: PLC0415

        facts = Facts()
        created = self._document.get_metadata_value("CreationDate")
        facts.add_date(Role.ORIGINAL, "document", created.removeprefix("D:"))
        authors = ""
        if self._part == 0:
            title, authors, subject, keywords = map(
                self._document.get_metadata_value, ("Title", "Author", "Subject", "Keywords")
            )
            title = _TITLE_PREFIX.sub("", title)
            facts.texts += make_texts("title", title, TextSource.METADATA)
            facts.texts += make_texts("description", subject, TextSource.METADATA)
            facts.keywords += re.split("[,;]", keywords)
        metadata = merge([facts], TextSource.METADATA)
        own = (
            *make_texts("author", authors, TextSource.DOCUMENT),
            *make_texts("page", self._read_text(), TextSource.DOCUMENT),
        )
        return Metadata(**{**vars(metadata), "texts": (*metadata.texts, *own)})

    def _read_text(self) -> str:
        """Return what is written on the page, at most `_MAX_CHARS` characters of it."""
        if self._page is None:
            return ""
        with closing(self._page.get_textpage()) as page_text:
            count = page_text.count_chars()
            if count > _MAX_CHARS:
                text = page_text.get_text_range(0, _MAX_CHARS)
            else:
                text = page_text.get_text_bounded()
        # Ligatures and letters of full width are found by the letters that they stand for.
        return unicodedata.normalize("NFKC", _HYPHENS.sub("", text))
