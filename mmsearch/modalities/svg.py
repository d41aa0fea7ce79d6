"""SVG drawings, rendered over white with resvg (extra ``svg``).

Nothing but the drawing itself is read: links to other files and to the network are removed.
"""

from __future__ import annotations

import gzip
import io
import math
import re
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Modality
from mmsearch.core.texts import to_single_line
from mmsearch.core.types import DecodedImage, Picture, Text
from mmsearch.modalities._pillow import PillowReader
from mmsearch.modalities._pillow_globals import pillow_globals
from mmsearch.modalities._reader import DEFAULT_MAX_PIXELS, FileReader

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES: Final = 50_000_000
"""Size of the largest drawing that is read, in bytes, unpacked."""

MIN_LONG_SIDE_PX: Final = 512
"""Length to which the long side of a smaller drawing, such as an icon, is enlarged."""

_GZIP: Final = b"\x1f\x8b"
_NAMESPACE: Final = "{http://www.w3.org/2000/svg}"
_HEAD: Final = re.compile(
    rb"\s*(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*(?:<svg[\s>]|<!DOCTYPE\s+svg)",
    re.DOTALL,
)
_LENGTH: Final = re.compile(r"\s*(\d*\.?\d+(?:[eE][+-]?\d+)?)\s*(px|pt|pc|mm|cm|in|em|ex|Q)?\s*")
_UNITS_PX: Final = {
    "px": 1.0,
    "pt": 96 / 72,
    "pc": 16.0,
    "in": 96.0,
    "em": 16.0,
    "ex": 8.0,
    "mm": 96 / 25.4,
    "cm": 96 / 2.54,
    "Q": 96 / 101.6,
}
_DEFAULT_SIZE: Final = (300.0, 150.0)
_PEAK_BYTES: Final = 12
_TEXT_KINDS: Final = {"title": "title", "desc": "description"}


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """Return the modality of SVG drawings.

    Args:
        max_pixels: Limit of width times height; larger drawings are rejected before rendering.
    """
    return SvgModality(max_pixels)


@dataclass(frozen=True)
class SvgModality(FileReader):
    """Reads SVG drawings; see `mmsearch.core.protocols.Modality`."""

    suffixes = frozenset([b".svg", b".svgz"])
    package = "resvg_py"
    extra = "svg"

    def recognizes(self, head: bytes) -> bool:
        """Return True if the first bytes of a file are those of a drawing, not packed."""
        return _HEAD.match(head) is not None

    def _decode(self, file: BufferedReader, head: bytes, edge_px: int) -> DecodedImage:
        import resvg_py  # noqa: PLC0415 - few files need it

        root = _parse(_read(file, head))
        reader = PillowReader(("PNG",), self.max_pixels)
        width, height = _size(root)
        reader.check_size(math.ceil(width), math.ceil(height), _PEAK_BYTES)
        picture = Picture(round(width), round(height), "SVG", texts=tuple(_texts(root)))
        scale = min(1.0, edge_px / min(width, height)) if edge_px else 1.0
        root.set("width", str(max(1, math.ceil(picture.width * scale))))
        root.set("height", str(max(1, math.ceil(picture.height * scale))))
        rendered = resvg_py.svg_to_bytes(
            svg_string=_to_text(root), background="#ffffff", dpi=96.0, skip_system_fonts=False
        )
        with pillow_globals, Image.open(io.BytesIO(bytes(rendered)), formats=("PNG",)) as image:
            return DecodedImage(picture, np.asarray(image.convert("RGB")))


def _read(file: BufferedReader, head: bytes) -> bytes:
    """Return a drawing, unpacked."""
    if head.startswith(_GZIP):
        with gzip.open(file) as unpacked:
            content = unpacked.read(MAX_BYTES + 1)
    else:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DecodeError(f"the drawing is larger than {MAX_BYTES / 1e6:g} MB")
    return content


def _parse(content: bytes) -> Element:
    """Return the root of a drawing without its links to other files.

    Expat limits how much entities may expand, and loads none from other files.
    """
    from xml.etree.ElementTree import ParseError  # noqa: PLC0415 - few files need it

    import defusedxml  # noqa: PLC0415
    from defusedxml.ElementTree import fromstring  # noqa: PLC0415

    try:
        root = fromstring(content, forbid_dtd=False, forbid_entities=False, forbid_external=True)
    except ParseError as error:
        raise DecodeError("not a picture in a known format") from error
    except defusedxml.DefusedXmlException as error:
        raise DecodeError("it refers to other files") from error
    if root.tag not in (f"{_NAMESPACE}svg", "svg"):
        raise DecodeError("not a picture in a known format")
    for element in root.iter():
        for name, value in list(element.items()):
            is_link = name.rpartition("}")[2] in ("href", "base")
            if is_link and not value.strip().startswith(("#", "data:")):
                del element.attrib[name]
    return root


def _size(root: Element) -> tuple[float, float]:
    """Return width and height in pixels, and set the visible area, which they imply."""
    box = [float(number) for number in re.findall(r"[-+\d.eE]+", root.get("viewBox", ""))[:4]]
    has_box = len(box) == 4 and all(map(math.isfinite, box)) and min(box[2:]) > 0
    width, height = _length(root.get("width")), _length(root.get("height"))
    if has_box:
        ratio = box[2] / box[3]
        width = width or (height * ratio if height else box[2])
        height = height or width / ratio
    width, height = width or _DEFAULT_SIZE[0], height or _DEFAULT_SIZE[1]
    if not has_box:
        root.set("viewBox", f"0 0 {width:g} {height:g}")
    scale = max(1.0, MIN_LONG_SIDE_PX / max(width, height))
    return max(1.0, width * scale), max(1.0, height * scale)


def _length(text: str | None) -> float | None:
    """Return a length in pixels; None if it is missing, zero or relative."""
    match = _LENGTH.fullmatch(text or "")
    value = float(match[1]) * _UNITS_PX[match[2] or "px"] if match else 0.0
    return value if 0 < value < math.inf else None


def _texts(root: Element) -> list[Text]:
    """Return title and description of the whole drawing."""
    texts = []
    for element in root:
        kind = _TEXT_KINDS.get(str(element.tag).rpartition("}")[2])
        text = to_single_line("".join(element.itertext()))
        if kind and text:
            texts.append(Text(kind, text))
    return texts


def _to_text(root: Element) -> str:
    from xml.etree.ElementTree import tostring  # noqa: PLC0415

    return tostring(root, encoding="unicode")
