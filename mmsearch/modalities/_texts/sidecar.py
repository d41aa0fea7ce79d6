"""Files beside a picture that say something of it: x.txt, x.caption, x.json, x.xmp."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterator
from typing import Any, Final

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import open_regular, reason_of
from mmsearch.core.types import Text, TextSource
from mmsearch.modalities._texts.plain import decode, keywords, make_text
from mmsearch.modalities._texts.xmp import parse_xmp

SUFFIXES: Final = (b".caption", b".json", b".txt", b".xmp")

MAX_BYTES: Final = 1_000_000

# Field of a JSON object -> kind of text.
_FIELDS: Final = {
    "caption": "caption",
    "captions": "caption",
    "text": "caption",
    "alt": "caption",
    "alt_text": "caption",
    "description": "description",
    "title": "title",
}
_LISTS: Final = ("keywords", "tags")
# What export programs write as a title: the picture's own file name.
_FILE_NAME: Final = re.compile(r"\S+\.[A-Za-z0-9]{2,5}")
_BETWEEN: Final = re.compile("[,;]")


def sidecars_of(picture: bytes, beside: Container[bytes]) -> list[bytes]:
    """The names of a picture's sidecars: its own name, or that without its ending, and a suffix.

    Args:
        picture: File name.
        beside: Lower-cased names of the files of the same folder.

    Returns:
        Lower-cased names, sorted.
    """
    stem = os.path.splitext(picture)[0]  # noqa: PTH122 - bytes
    wanted = {(begin + suffix).lower() for begin in (picture, stem) for suffix in SUFFIXES}
    return sorted(name for name in wanted if name in beside)


def read_sidecar(path: bytes) -> tuple[Text, ...]:
    """The texts of a sidecar; none if it says nothing of the kind.

    Raises:
        DecodeError: It cannot be read; the message is the reason.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DecodeError(reason_of(error)) from error
    if len(content) > MAX_BYTES:
        raise DecodeError(f"it is larger than {MAX_BYTES / 1e6:g} MB")
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - bytes
    if suffix == b".xmp":
        return parse_xmp(content, TextSource.SIDECAR).texts
    if suffix == b".json":
        return tuple(_of_json(decode(content)))
    return make_text("caption", decode(content), TextSource.SIDECAR)


def _of_json(content: str) -> Iterator[Text]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DecodeError("it is not JSON") from error
    if not isinstance(value, dict):
        return
    words: list[str] = []
    for name, own in value.items():
        field = name.lower()
        texts = list(_strings(own))
        if field in _FIELDS:
            for text in texts:
                if field != "title" or not _FILE_NAME.fullmatch(text.strip()):
                    yield from make_text(_FIELDS[field], text, TextSource.SIDECAR)
        elif field in _LISTS:
            listed = isinstance(own, list)
            words += texts if listed else [word for t in texts for word in _BETWEEN.split(t)]
    yield from keywords(words, TextSource.SIDECAR)


def _strings(value: Any) -> Iterator[str]:
    """A string, or those of a list."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield item
