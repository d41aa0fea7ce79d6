"""Media types of originals, by the name of their format."""

from __future__ import annotations

from typing import Final

_PICTURES: Final = {
    name: f"image/{name.lower()}"
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF", "JXL")
} | {"SVG": "image/svg+xml", "JPEG2000": "image/jp2"}

_OTHERS: Final = {
    "PDF": "application/pdf",
    "DOCX": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "PPTX": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "ODT": "application/vnd.oasis.opendocument.text",
    "ODP": "application/vnd.oasis.opendocument.presentation",
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
    "3GP": "video/3gpp",
    "WEBM": "video/webm",
    "MKV": "video/x-matroska",
    "AVI": "video/x-msvideo",
    "MPEG": "video/mpeg",
    **dict.fromkeys(("MPEGTS", "TS"), "video/mp2t"),
    **dict.fromkeys(("ASF", "WMV"), "video/x-ms-asf"),
    "FLV": "video/x-flv",
    "OGG": "application/ogg",
    "MP3": "audio/mpeg",
    "M4A": "audio/mp4",
    "AAC": "audio/aac",
    "WAV": "audio/wav",
    "FLAC": "audio/flac",
    "OPUS": "audio/ogg",
    "WMA": "audio/x-ms-wma",
    "AIFF": "audio/aiff",
    "AMR": "audio/amr",
    "CAF": "audio/x-caf",
    "MKA": "audio/x-matroska",
}


def media_type(image_format: str) -> str:
    """Return the media type of a format such as ``JPEG``; unknown formats are bytes."""
    return _PICTURES.get(image_format) or _OTHERS.get(image_format, "application/octet-stream")


def is_download(image_format: str) -> bool:
    """Return True if a browser saves originals of that format: documents, films and sounds.

    The policy of answers keeps its viewers of them from running. A player of a page plays films
    and sounds in spite of it.
    """
    return image_format in _OTHERS
