"""Media types of originals, and which of them a browser saves."""

import pytest

from mmsearch.server.media_types import is_download, media_type


@pytest.mark.parametrize(
    ("image_format", "expected", "saved"),
    [
        ("JPEG", "image/jpeg", False),
        ("SVG", "image/svg+xml", False),
        ("PDF", "application/pdf", True),
        ("MP4", "video/mp4", True),
        ("MKV", "video/x-matroska", True),
        ("MP3", "audio/mpeg", True),
        ("OF A LATER VERSION", "application/octet-stream", False),
    ],
)
def test_films_sounds_and_documents_have_media_types_and_are_saved(image_format, expected, saved):
    assert (media_type(image_format), is_download(image_format)) == (expected, saved)
