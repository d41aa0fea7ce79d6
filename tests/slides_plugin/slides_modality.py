"""A modality of another package: a file of slides, each of which is a JPEG with a caption.

The file begins with ``slides`` and a line break. Each slide has a line of JSON with ``bytes``, the
length of its JPEG, and ``caption``; the JPEG follows.
"""

import json
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import open_source_file
from mmsearch.core.types import WHOLE, DecodedImage, ItemLocator, Picture, Text
from mmsearch.modalities._pillow import make_thumbnail

HEAD = b"slides\n"


def write_slides(path, slides):
    """Write a file of slides, (path of a JPEG, caption)."""
    with open(path, "wb") as file:
        file.write(HEAD)
        for photo, caption in slides:
            content = photo.read_bytes()
            file.write(json.dumps({"bytes": len(content), "caption": caption}).encode() + b"\n")
            file.write(content)


def build(max_pixels=0):
    return SlidesModality()


@dataclass(frozen=True)
class SlidesModality:
    """Reads files of slides as pages; see `mmsearch.core.protocols.Modality`."""

    kind = "document"
    max_items = 10_000
    missing_extra = None

    def can_read(self, path):
        return path.endswith(b".slides")

    def recognizes(self, head):
        return head.startswith(HEAD)

    def items(self, path, edge_px, first_part=0, known=WHOLE):
        for part, (caption, content) in enumerate(read_slides(path)):
            if part >= first_part:
                with Image.open(BytesIO(content)) as image:
                    pixels = np.asarray(image.convert("RGB"))
                    texts = (Text("caption", caption),) if caption else ()
                    picture = Picture(*image.size, "JPEG", texts=texts)
                    yield DecodedImage(picture, pixels, ItemLocator(part, page=part + 1))

    def thumbnail(self, path, edge_px, file_format="JPEG", locator=WHOLE):
        for slide in self.items(path, edge_px, locator.part):
            return make_thumbnail(slide.pixels, edge_px, file_format)
        raise DecodeError("it has no such slide")


def read_slides(path):
    """Yield the caption and the JPEG of each slide."""
    with open_source_file(path) as file:
        if file.readline() != HEAD:
            raise DecodeError("it does not begin with 'slides'")
        while line := file.readline():
            facts = json.loads(line)
            yield facts["caption"], file.read(facts["bytes"])
