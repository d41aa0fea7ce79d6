"""Pictures in the memory of a Python program: Pillow images and arrays, as files to search by."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from mmsearch.core.errors import SourceError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
"""Modes of Pillow images that PNG can hold; the others are converted."""


def encode_image(value: Any) -> bytes | None:
    """Return a picture as the content of a PNG file; None if the value is no picture in memory.

    Args:
        value: A Pillow image, or a uint8 array of shape (h, w, 3) in RGB, (h, w, 4) in RGBA or
            (h, w) in grey.

    Raises:
        UsageError: An array has another type or shape.
        SourceError: Pillow cannot read the file of the image.
    """
    image = _to_image(value)
    if image is None:
        return None
    from PIL import ImageOps  # noqa: PLC0415 - most queries have no picture

    content = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode not in PNG_MODES:
            upright = upright.convert("RGB")
        upright.save(content, "PNG", compress_level=1)
    # Pillow reads a file only now, and raises many kinds of errors for damaged ones.
    except Exception as error:
        raise SourceError(
            f"The given picture cannot be read: {error}.", "Pass another picture, or its file."
        ) from error
    return content.getvalue()


def _to_image(value: Any) -> Image | None:
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(value, pillow.Image):
        image: Image = value
        return image
    shape = getattr(value, "shape", ())
    # The numbers of numpy have an empty shape.
    if not shape:
        return None
    is_picture = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if str(getattr(value, "dtype", "")) != "uint8" or not is_picture or 0 in shape:
        raise UsageError(
            f"An array of {getattr(value, 'dtype', 'unknown type')} and shape {tuple(shape)} is not"
            " a picture.",
            "Pass a uint8 array of shape (h, w, 3) in RGB, with values from 0 to 255.",
        )
    from PIL import Image  # noqa: PLC0415 - most queries have no picture

    return Image.fromarray(value)
