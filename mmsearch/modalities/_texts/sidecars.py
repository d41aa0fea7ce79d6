"""Contents of sidecars: plain texts, JSON and XMP."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Final

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import open_source_file, os_error_reason
from mmsearch.core.records import NO_METADATA
from mmsearch.core.texts import decode, iter_json_texts, parse_plain_sidecar
from mmsearch.core.types import Metadata
from mmsearch.modalities._texts.subtitles import SUBTITLE_SUFFIXES, parse_subtitles
from mmsearch.modalities._texts.takeout import is_takeout, parse_takeout
from mmsearch.modalities._texts.xmp import MAX_BYTES as MAX_XMP_BYTES
from mmsearch.modalities._texts.xmp import parse_xmp_sidecar

MAX_SIDECAR_BYTES: Final = 1_000_000
"""Maximum size of a sidecar other than XMP, in bytes."""


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
    # So do subtitles have many lines.
    is_long = suffix == b".xmp" or suffix in SUBTITLE_SUFFIXES
    max_bytes = MAX_XMP_BYTES if is_long else MAX_SIDECAR_BYTES
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
    if suffix in SUBTITLE_SUFFIXES:
        return SidecarContent(Metadata(texts=parse_subtitles(content, path)))
    try:
        return SidecarContent(Metadata(texts=parse_plain_sidecar(content)))
    except ValueError as error:
        raise DecodeError(str(error)) from error


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
    return SidecarContent(Metadata(texts=tuple(iter_json_texts(fields))))
