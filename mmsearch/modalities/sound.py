"""Sound files, minute by minute, read with FFmpeg (extra ``speech``).

A sound has no pictures: its items have no pixels, and words find them. Each is a minute, so that
what is said counts near its time, and a hit says the minute of a podcast of hours. What is said is
the work of an enricher; this reader knows the length of a sound and what the file says about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mmsearch.core.protocols import Modality
from mmsearch.core.types import WHOLE, ItemLocator, TextItem
from mmsearch.modalities._reader import DEFAULT_MAX_PIXELS, FileReader
from mmsearch.modalities._recordings import MAX_ITEMS, draw_item, is_sound, iter_items
from mmsearch.modalities._video.heads import is_film

_SUFFIXES: Final = (
    "aac aif aifc aiff amr caf flac m4a m4b m4r mka mp3 oga ogg opus spx w64 wav wave weba wma"
)


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """Return the modality of sounds.

    Args:
        max_pixels: Ignored: a sound has no pixels.
    """
    return SoundModality(max_pixels)


@dataclass(frozen=True)
class SoundModality(FileReader):
    """Reads sound files; see `mmsearch.core.protocols.Modality`."""

    kind = "sound"
    max_items = MAX_ITEMS
    suffixes = frozenset(f".{suffix}".encode() for suffix in _SUFFIXES.split())
    package = "av"
    extra = "speech"

    def recognizes(self, head: bytes) -> bool:
        """Return True if the first bytes of a file are those of a sound, or of a film.

        Sound is often in the container of a film; the name decides then.
        """
        return is_sound(head) or is_film(head)

    def items(
        self, path: bytes, edge_px: int, first_part: int = 0, known: ItemLocator = WHOLE
    ) -> Iterator[TextItem]:
        """Yield the minutes of a sound in order; see `iter_items`."""
        with self._open(path) as (file, head):
            yield from iter_items(file, head, first_part)

    def thumbnail(
        self, path: bytes, edge_px: int, file_format: str = "JPEG", locator: ItemLocator = WHOLE
    ) -> bytes:
        """Return an image file of the waveform of an item; see `draw_item`."""
        with self._open(path) as (file, head):
            return draw_item(file, head, edge_px, file_format, locator)
