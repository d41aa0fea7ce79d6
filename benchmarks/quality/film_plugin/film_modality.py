"""A modality of films whose moments are given: ranking is measured apart from finding shots.

The file begins with ``frames`` and a line break. Each moment has a line of JSON with ``bytes``, the
length of its JPEG, ``start_ms``, ``end_ms`` and ``texts``, fields of `Text`; the JPEG follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import open_source_file
from mmsearch.core.types import WHOLE, DecodedImage, ItemLocator, Picture, Text
from mmsearch.modalities._pillow import make_thumbnail

HEAD = b"frames\n"


class Shown(Protocol):
    """A moment of a film: its frame and its texts."""

    photo: Path
    start_ms: int
    end_ms: int
    texts: Sequence[Text]


def write_film(path: Path, moments: Sequence[Shown]) -> None:
    """Write a film."""
    with path.open("wb") as file:
        file.write(HEAD)
        for moment in moments:
            content = moment.photo.read_bytes()
            facts = {
                "bytes": len(content),
                "start_ms": moment.start_ms,
                "end_ms": moment.end_ms,
                "texts": [asdict(text) for text in moment.texts],
            }
            file.write(json.dumps(facts).encode() + b"\n")
            file.write(content)


def build(max_pixels: int = 0) -> FilmModality:
    """Return the modality."""
    return FilmModality()


@dataclass(frozen=True)
class FilmModality:
    """Reads films; see `mmsearch.core.protocols.Modality`."""

    kind = "video"
    max_items = 10_000
    missing_extra = None

    def can_read(self, path: bytes) -> bool:
        """Return True for the names of films."""
        return path.endswith(b".frames")

    def recognizes(self, head: bytes) -> bool:
        """Return True for the first bytes of a film."""
        return head.startswith(HEAD)

    def items(
        self, path: Any, edge_px: int, first_part: int = 0, known: ItemLocator = WHOLE
    ) -> Iterator[DecodedImage]:
        """Yield the moments, from a part on."""
        for part, (facts, content) in enumerate(_read_film(path)):
            if part >= first_part:
                with Image.open(BytesIO(content)) as image:
                    pixels = np.asarray(image.convert("RGB"))
                texts = tuple(Text(**fields) for fields in facts["texts"])
                picture = Picture(pixels.shape[1], pixels.shape[0], "JPEG", texts=texts)
                locator = ItemLocator(part, facts["start_ms"], facts["end_ms"])
                yield DecodedImage(picture, pixels, locator)

    def thumbnail(
        self, path: Any, edge_px: int, file_format: str = "JPEG", locator: ItemLocator = WHOLE
    ) -> Any:
        """Return the thumbnail of a moment."""
        for moment in self.items(path, edge_px, locator.part):
            return make_thumbnail(moment.pixels, edge_px, file_format)
        raise DecodeError("it has no such moment")


def _read_film(path: Any) -> Iterator[tuple[dict[str, Any], bytes]]:
    with open_source_file(path) as file:
        if file.readline() != HEAD:
            raise DecodeError("it does not begin with 'frames'")
        while line := file.readline():
            facts = json.loads(line)
            yield facts, file.read(facts["bytes"])
