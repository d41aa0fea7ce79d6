"""RAW files of cameras (CR2, CR3, NEF, ARW, DNG, RAF, ORF, RW2 and others; extra ``raw``).

A RAW file is read by its largest embedded preview, which is what the camera showed. LibRaw develops
the sensor's values only if there is no preview of a useful size.
"""

from __future__ import annotations

import io
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BufferedReader
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import ExifTags, Image

from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Modality
from mmsearch.core.types import DecodedImage, Picture, merge_metadata
from mmsearch.modalities._pillow import PillowReader
from mmsearch.modalities._pillow_globals import pillow_globals
from mmsearch.modalities._pixels import FIRST_SWAPPED_ORIENTATION, apply_orientation
from mmsearch.modalities._reader import DEFAULT_MAX_PIXELS, FileReader

if TYPE_CHECKING:
    import rawpy

MIN_PREVIEW_PX: Final = 400
"""Short side in pixels from which a preview is used; models see about 224 to 384 pixels."""

MAX_BYTES: Final = 2**30
"""Size of the largest file that is read, in bytes."""

SUFFIXES: Final = frozenset(
    b".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw"
    b" .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)

_SIGNATURES: Final = {
    "CR2": re.compile(rb"(?:II\*\0|MM\0\*)....CR", re.DOTALL),
    "CR3": re.compile(rb"....ftypcrx ", re.DOTALL),
    "RAF": re.compile(rb"FUJIFILMCCD-RAW"),
    "RW2": re.compile(rb"IIU\0"),
    "ORF": re.compile(rb"II(?:RO|RS)|MMOR"),
    "CRW": re.compile(rb"II\x1a\0\0\0HEAPCCDR"),
    "MRW": re.compile(rb"\0MRM"),
    "X3F": re.compile(rb"FOVb"),
    # Of most other formats, the first picture is a small preview: NEF, DNG, ARW, PEF, SRW.
    "RAW": re.compile(
        rb"II\*\0\x08\0\0\0..\xfe\0\x04\0\x01\0\0\0\x01\0\0\0"
        rb"|MM\0\*\0\0\0\x08..\0\xfe\0\x04\0\0\0\x01\0\0\0\x01",
        re.DOTALL,
    ),
}
_TIFF_HEAD: Final = re.compile(rb"II[*UR][\0OS]|MM[\0O][*R]")
_DNG_VERSION_TAG: Final = 50706
# Formats that differ from TIFF in their tags only, by the start of the maker's name.
_FORMATS_BY_MAKER: Final = {
    "nikon": "NEF",
    "sony": "ARW",
    "pentax": "PEF",
    "ricoh": "PEF",
    "samsung": "SRW",
    "canon": "CR2",
}

_JPEG: Final = re.compile(rb"\xff\xd8\xff[\xc0\xc1\xc2\xc4\xdb\xdd\xe0-\xef\xfe]")
_MAX_PREVIEWS: Final = 1000
_MAX_HEADER_BYTES: Final = 2**18
# LibRaw's names of rotations as EXIF orientations.
_ORIENTATIONS: Final = {3: 3, 5: 8, 6: 6}


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """Return the modality of RAW files.

    Args:
        max_pixels: Limit of width times height; larger pictures are rejected before decoding.
    """
    return RawModality(max_pixels)


@dataclass(frozen=True)
class RawModality(FileReader):
    """Reads RAW files; see `mmsearch.core.protocols.Modality`."""

    suffixes = SUFFIXES
    package = "rawpy"
    extra = "raw"

    def recognizes(self, head: bytes) -> bool:
        """Return True if the first bytes of a file are those of a RAW file."""
        return any(signature.match(head) for signature in _SIGNATURES.values())

    def _decode(self, file: BufferedReader, head: bytes, edge_px: int) -> DecodedImage:
        content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise DecodeError(f"the file is larger than {MAX_BYTES / 1e6:,.0f} MB")
        reader = PillowReader(("JPEG",), self.max_pixels)
        decoded = _read_with_libraw(content, reader, edge_px)
        if decoded is None:
            decoded = _read_largest_jpeg(content, reader, edge_px)
        if decoded is None:
            raise DecodeError("a RAW file that is damaged or of an unsupported kind")
        picture = replace(decoded.picture, format=_find_format(content))
        return replace(decoded, picture=picture)


def _find_format(content: bytes) -> str:
    for name, signature in _SIGNATURES.items():
        if name != "RAW" and signature.match(content):
            return name
    container = _container_exif(content)
    exif = container.getexif() if container else {}
    if _DNG_VERSION_TAG in exif:
        return "DNG"
    maker = str(exif.get(ExifTags.Base.Make, "")).lower()
    return next((kind for name, kind in _FORMATS_BY_MAKER.items() if maker.startswith(name)), "RAW")


# --- LibRaw ---


def _read_with_libraw(content: bytes, reader: PillowReader, edge_px: int) -> DecodedImage | None:
    """Return the preview that LibRaw finds, or the developed picture; None if it refuses a file."""
    import rawpy  # noqa: PLC0415 - few files need it

    try:
        with rawpy.imread(io.BytesIO(content)) as raw:
            sizes = raw.sizes
            reader.check_size(sizes.raw_width, sizes.raw_height)
            turn = _ORIENTATIONS.get(sizes.flip, 1)
            decoded = _read_preview(raw, reader, edge_px, turn)
            if decoded is None:
                developed = raw.postprocess(half_size=True, use_camera_wb=True)
                decoded = DecodedImage(_picture(developed), np.ascontiguousarray(developed))
            width, height = sizes.width, sizes.height
            if turn >= FIRST_SWAPPED_ORIENTATION:
                width, height = height, width
    except rawpy.LibRawError:
        return None
    picture = _with_metadata(decoded.picture, content)
    if width and height:
        picture = replace(picture, width=width, height=height)
    return replace(decoded, picture=picture)


def _read_preview(
    raw: rawpy.RawPy, reader: PillowReader, edge_px: int, turn: int
) -> DecodedImage | None:
    """Return the largest preview, upright; None if no preview has a useful size."""
    import rawpy  # noqa: PLC0415 - few files need it

    with suppress(rawpy.LibRawError, DecodeError):
        preview = raw.extract_thumb()
        if isinstance(preview.data, bytes):
            decoded = _read_jpeg(preview.data, reader, edge_px, turn)
        else:
            pixels = np.ascontiguousarray(apply_orientation(preview.data, turn))
            decoded = DecodedImage(_picture(pixels), pixels)
        short_side = min(raw.sizes.width, raw.sizes.height)
        if min(decoded.picture.width, decoded.picture.height) >= min(MIN_PREVIEW_PX, short_side):
            return decoded
    return None


def _picture(pixels: Any) -> Picture:
    return Picture(pixels.shape[1], pixels.shape[0], "RAW")


# --- previews and metadata without LibRaw ---


def _read_jpeg(content: bytes, reader: PillowReader, edge_px: int, turn: int) -> DecodedImage:
    """Return an embedded JPEG, upright.

    Args:
        content: The JPEG. If it states its own orientation, that one counts.
        reader: Reader of JPEG.
        edge_px: See `PillowReader.decode`.
        turn: EXIF orientation of the RAW file.
    """
    decoded = reader.decode(io.BytesIO(content), edge_px)
    with pillow_globals, Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
        width, height = image.size
        if ExifTags.Base.Orientation in image.getexif():
            return decoded
    # Sensors are wider than high: a high preview was turned by the camera.
    if turn == 1 or (turn >= FIRST_SWAPPED_ORIENTATION and height > width):
        return decoded
    pixels = np.ascontiguousarray(apply_orientation(decoded.pixels, turn))
    if turn >= FIRST_SWAPPED_ORIENTATION:
        width, height = height, width
    return DecodedImage(replace(decoded.picture, width=width, height=height), pixels)


def _read_largest_jpeg(content: bytes, reader: PillowReader, edge_px: int) -> DecodedImage | None:
    """Return the largest JPEG in a file, upright; None if no JPEG can be decoded."""
    candidates: list[tuple[int, int]] = []
    for match in islice(_JPEG.finditer(content), _MAX_PREVIEWS):
        start = match.start()
        with suppress(Exception), pillow_globals:
            stream = io.BytesIO(content[start : start + _MAX_HEADER_BYTES])
            with Image.open(stream, formats=("JPEG",)) as image:
                candidates.append((image.width * image.height, start))
    from mmsearch.modalities import _metadata  # noqa: PLC0415 - only workers decode

    exif = _container_exif(content)
    turn = _metadata.orientation(exif) if exif else 1
    for _, start in sorted(candidates, reverse=True):
        with suppress(DecodeError):
            decoded = _read_jpeg(content[start:], reader, edge_px, turn)
            return replace(decoded, picture=_with_metadata(decoded.picture, content))
    return None


def _with_metadata(picture: Picture, content: bytes) -> Picture:
    """Return a picture with the metadata of its RAW file; that of the preview fills the gaps."""
    from mmsearch.modalities import _metadata  # noqa: PLC0415 - only workers decode

    if _SIGNATURES["CR3"].match(content):
        known = _metadata.read_cr3_metadata(content)
    elif container := _container_exif(content):
        known = _metadata.read_metadata(container)
    else:
        return picture
    return replace(picture, texts=known.texts or picture.texts, **merge_metadata((known, picture)))


def _container_exif(content: bytes) -> Image.Image | None:
    """Return an empty image with the EXIF block of a RAW file with the structure of a TIFF."""
    if not _TIFF_HEAD.match(content):
        return None
    # The marks of ORF and RW2 differ from that of TIFF.
    mark = b"II*\0" if content.startswith(b"II") else b"MM\0*"
    image = Image.new("L", (1, 1))
    image.info["exif"] = b"Exif\0\0" + mark + content[4:]
    return image
