"""Contents of sidecars: texts as plain text, JSON or XMP."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any, Final

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import open_source_file, os_error_reason
from mmsearch.core.types import Text, TextSource
from mmsearch.modalities._texts.normalize import decode, make_keyword_texts, make_texts
from mmsearch.modalities._texts.xmp import parse_xmp

MAX_SIDECAR_BYTES: Final = 1_000_000
"""Maximum size of a sidecar, in bytes."""

# Kinds of text by field of a JSON object.
_TEXT_FIELDS: Final = {
    "caption": "caption",
    "captions": "caption",
    "text": "caption",
    "alt": "caption",
    "alt_text": "caption",
    "description": "description",
    "title": "title",
}
_KEYWORD_FIELDS: Final = ("keywords", "tags")
# Export programs often write the picture's file name as its title.
_FILE_NAME: Final = re.compile(r"\S+\.[A-Za-z0-9]{2,5}")
_KEYWORD_SEPARATOR: Final = re.compile("[,;]")


def read_sidecar(path: bytes) -> tuple[Text, ...]:
    """Return the texts of a sidecar, if it contains any.

    Raises:
        DecodeError: The sidecar cannot be read; the message is the reason.
    """
    try:
        with open_source_file(path) as file:
            content = file.read(MAX_SIDECAR_BYTES + 1)
    except OSError as error:
        raise DecodeError(os_error_reason(error)) from error
    if len(content) > MAX_SIDECAR_BYTES:
        raise DecodeError(f"it is larger than {MAX_SIDECAR_BYTES / 1e6:g} MB")
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - bytes
    if suffix == b".xmp":
        return parse_xmp(content, TextSource.SIDECAR).texts
    if suffix == b".json":
        return tuple(_parse_json(decode(content)))
    return make_texts("caption", decode(content), TextSource.SIDECAR)


def _parse_json(content: str) -> Iterator[Text]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DecodeError("it is not JSON") from error
    if not isinstance(value, dict):
        return
    words: list[str] = []
    for name, field_value in value.items():
        field = name.lower()
        texts = list(_iter_strings(field_value))
        if field in _TEXT_FIELDS:
            for text in texts:
                if field != "title" or not _FILE_NAME.fullmatch(text.strip()):
                    yield from make_texts(_TEXT_FIELDS[field], text, TextSource.SIDECAR)
        elif field in _KEYWORD_FIELDS:
            is_list = isinstance(field_value, list)
            words += (
                texts if is_list else [word for t in texts for word in _KEYWORD_SEPARATOR.split(t)]
            )
    yield from make_keyword_texts(words, TextSource.SIDECAR)


def _iter_strings(value: Any) -> Iterator[str]:
    """Yield the value if it is a string, or the strings of a list."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield item
