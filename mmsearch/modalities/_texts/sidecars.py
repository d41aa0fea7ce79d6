"""Contents of sidecars: plain texts, JSON and XMP."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import open_source_file, os_error_reason
from mmsearch.core.records import NO_METADATA
from mmsearch.core.types import Metadata, Text, TextSource
from mmsearch.modalities._texts.normalize import decode, make_keyword_texts, make_texts
from mmsearch.modalities._texts.takeout import is_takeout, parse_takeout
from mmsearch.modalities._texts.xmp import MAX_BYTES as MAX_XMP_BYTES
from mmsearch.modalities._texts.xmp import parse_xmp_sidecar

MAX_SIDECAR_BYTES: Final = 1_000_000
"""Maximum size of a sidecar other than XMP, in bytes."""

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
# Pictures and archives have these characters, texts do not; some editors end a text with Ctrl-Z.
_CONTROL_CHARACTER: Final = re.compile(r"[\0-\x08\x0e-\x19\x1c-\x1f]")


@dataclass(frozen=True)
class SidecarContent:
    """Content of a sidecar.

    Attributes:
        metadata: Texts and, from XMP and Google Takeout, further metadata.
        fallbacks: Metadata that is used where nothing else says it.
        is_override: True if the metadata was written for the picture file and replaces its own.
        is_takeout: True for a JSON file of Google Takeout.
    """

    metadata: Metadata
    is_override: bool = False
    is_takeout: bool = False
    fallbacks: Metadata = NO_METADATA


def read_sidecar(path: bytes) -> SidecarContent:
    """Return the texts and the metadata of a sidecar, if it contains any.

    Raises:
        DecodeError: The sidecar cannot be read; the message is the reason.
    """
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - bytes
    # Programs store their masks and the history of their edits in XMP.
    max_bytes = MAX_XMP_BYTES if suffix == b".xmp" else MAX_SIDECAR_BYTES
    try:
        with open_source_file(path) as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise DecodeError(os_error_reason(error)) from error
    if len(content) > max_bytes:
        raise DecodeError(f"it is larger than {max_bytes / 1e6:g} MB")
    if suffix == b".xmp":
        metadata, fallbacks = parse_xmp_sidecar(content)
        return SidecarContent(metadata, is_override=True, fallbacks=fallbacks)
    if suffix == b".json":
        return _parse_json(decode(content))
    text = decode(content).rstrip("\0")
    if _CONTROL_CHARACTER.search(text):
        raise DecodeError("it is not text")
    return SidecarContent(Metadata(texts=make_texts("caption", text, TextSource.SIDECAR)))


def _parse_json(content: str) -> SidecarContent:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DecodeError("it is not JSON") from error
    if not isinstance(value, dict):
        return SidecarContent(Metadata())
    fields = {name.lower(): field_value for name, field_value in value.items()}
    if is_takeout(fields):
        return SidecarContent(parse_takeout(fields), is_takeout=True)
    return SidecarContent(Metadata(texts=tuple(_iter_json_texts(fields))))


def _iter_json_texts(fields: Mapping[str, Any]) -> Iterator[Text]:
    words: list[str] = []
    for field, value in fields.items():
        texts = list(_iter_strings(value))
        if field in _TEXT_FIELDS:
            for text in texts:
                if field != "title" or not _FILE_NAME.fullmatch(text.strip()):
                    yield from make_texts(_TEXT_FIELDS[field], text, TextSource.SIDECAR)
        elif field in _KEYWORD_FIELDS:
            is_list = isinstance(value, list)
            words += (
                texts if is_list else [word for t in texts for word in _KEYWORD_SEPARATOR.split(t)]
            )
    yield from make_keyword_texts(words, TextSource.SIDECAR)


def _iter_strings(value: Any) -> Iterator[str]:
    """Yield the value if it is a string, or the strings of a list."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield item
