"""Base class of the modalities."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BufferedReader
from typing import ClassVar

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import HEAD_BYTES, open_source_file
from mmsearch.core.types import IMAGE_KIND, WHOLE, DecodedImage, ItemLocator, TextItem
from mmsearch.modalities._pillow import make_thumbnail, map_decode_errors

DEFAULT_MAX_PIXELS = 300_000_000
"""Default limit of a picture's width times height."""


@dataclass(frozen=True)
class FileReader:
    """Base of a modality, by default of still pictures; see `mmsearch.core.protocols.Modality`.

    Args:
        max_pixels: Limit of width times height; larger pictures are rejected before decoding.

    Attributes:
        kind: See `mmsearch.core.protocols.Modality`.
        max_items: See `mmsearch.core.protocols.Modality`.
        suffixes: Endings of file names, in lower case.
        package: Python package of an extra that reads the files, or None.
        extra: Name of the extra.
    """

    max_pixels: int

    kind: ClassVar[str] = IMAGE_KIND
    max_items: ClassVar[int] = 1
    suffixes: ClassVar[frozenset[bytes]]
    package: ClassVar[str | None] = None
    extra: ClassVar[str | None] = None

    @property
    def missing_extra(self) -> str | None:
        """Name of the extra that is not installed and without which no file can be read."""
        return None if self.package is None or find_spec(self.package) else self.extra

    def can_read(self, path: bytes) -> bool:
        """Return True if the file name has the suffix of a supported format."""
        return path[path.rfind(b".") :].lower() in self.suffixes

    def items(
        self, path: bytes, edge_px: int, first_part: int = 0, known: ItemLocator = WHOLE
    ) -> Iterator[DecodedImage | TextItem]:
        """Yield the picture of a file, its only item; see `read`."""
        if first_part == 0:
            yield self.read(path, edge_px)

    def read(self, path: bytes, edge_px: int) -> DecodedImage:
        """Decode a picture and read its metadata.

        Args:
            path: Absolute path of the file.
            edge_px: Minimum short side in pixels: a picture may be decoded at a fraction of its
                size that is still at least this large. 0 decodes the full size.

        Raises:
            DecodeError: The picture cannot be read; the message is a clause with the reason.
        """
        with self._open(path) as (file, head):
            return self._decode(file, head, edge_px)

    def thumbnail(
        self, path: bytes, edge_px: int, file_format: str = "JPEG", locator: ItemLocator = WHOLE
    ) -> bytes:
        """Return an encoded thumbnail whose long side is at most ``edge_px`` pixels.

        Raises:
            DecodeError: The picture cannot be read; the message is a clause with the reason.
        """
        if locator.part:
            raise DecodeError("it is one still picture")
        return make_thumbnail(self.read(path, edge_px).pixels, edge_px, file_format)

    @contextmanager
    def _open(self, path: bytes) -> Iterator[tuple[BufferedReader, bytes]]:
        """Open a file; yield it with its first bytes, and map the errors of decoders.

        Raises:
            DecodeError: It is empty, or its extra is not installed.
        """
        with open_source_file(path) as file, map_decode_errors():
            head = file.peek(HEAD_BYTES)[:HEAD_BYTES]
            if not head:
                raise DecodeError("the file is empty")
            if (extra := self.missing_extra) is not None:
                raise DecodeError(
                    f"it needs the Python package {self.package!r}, which is not installed "
                    f"(pip install '.[{extra}]')"
                )
            yield file, head

    def _decode(self, file: BufferedReader, head: bytes, edge_px: int) -> DecodedImage:
        """Decode a picture; ``head`` is the start of the file."""
        raise NotImplementedError
