"""Pictures, texts and metadata that a program passes to add them to an index."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from mmsearch.core.arguments import describe_value
from mmsearch.core.errors import DecodeError, UsageError
from mmsearch.core.files import decode_error_from_os, expand_user
from mmsearch.core.types import LIST_KINDS, Text, TextSource
from mmsearch.maintenance.records import Record
from mmsearch.modalities._memory import encode_image

MAX_KEY_BYTES = 1000
"""Maximum length of an id, in UTF-8."""

_END = object()


def iter_records(
    images: Any, ids: Any, texts: Any, metadata: Any, load_url: Any
) -> Iterator[Record]:
    """Yield the records of parallel inputs; see `mmsearch.Index.add`.

    Raises:
        UsageError: An input has the wrong type, an id is given twice, or the inputs have different
            lengths.
    """
    columns = {"images": _to_iterable("images", images)}
    for name, values in (("ids", ids), ("texts", texts), ("metadata", metadata)):
        columns[name] = repeat(None) if values is None else _to_iterable(name, values)
    iterators = {name: iter(values) for name, values in columns.items()}
    seen: set[str] = set()
    while True:
        row = {name: next(values, _END) for name, values in iterators.items()}
        ended = [name for name, value in row.items() if value is _END]
        if "images" in ended and len(ended) == sum(
            values is not None for values in (images, ids, texts, metadata)
        ):
            return
        if ended:
            raise UsageError(
                f"There are fewer {ended[0]} than other values.",
                "Pass one of each for every picture.",
            )
        key = None if row["ids"] is None else to_key(row["ids"])
        if key is not None:
            if key in seen:
                raise UsageError(f"The id {key!r} is given twice.", "Give each picture its own.")
            seen.add(key)
        yield Record(
            key,
            _Loader(row["images"], load_url),
            to_texts(row["texts"]),
            to_metadata(row["metadata"]),
        )


def _to_iterable(name: str, values: Any) -> Iterable[Any]:
    is_one = isinstance(values, str | bytes | bytearray | os.PathLike | Mapping)
    if is_one or not isinstance(values, Iterable) or (name == "images" and _is_picture(values)):
        raise UsageError(
            f"{name} must be a list or another iterable, got {describe_value(values)}.",
            "Put a single one into a list.",
        )
    return values


def _is_picture(value: Any) -> bool:
    return hasattr(value, "getexif") or getattr(value, "ndim", 4) < 4


class _Loader:
    """Returns the content of a picture as a program gave it."""

    def __init__(self, value: Any, load_url: Any) -> None:
        self._load_url = load_url
        self._value = value
        if not isinstance(value, str | bytes | bytearray | os.PathLike):
            content = encode_image(value)
            if content is None:
                raise UsageError(
                    f"A picture must be a path, a URL, bytes, a Pillow image or a uint8 array, got"
                    f" {describe_value(value)}."
                )
            self._value = content

    def __call__(self) -> bytes:
        value = self._value
        if isinstance(value, bytes | bytearray):
            return bytes(value)
        if isinstance(value, str) and re.match(r"https?://", value, re.IGNORECASE):
            content: bytes = self._load_url(value)
            return content
        try:
            return Path(expand_user(value)).read_bytes()
        except OSError as error:
            raise decode_error_from_os(error) from error
        except ValueError as error:
            raise DecodeError("its path is not valid") from error


def to_key(value: Any) -> str:
    """Return an id that a program gives a picture.

    Raises:
        UsageError: It is not a text of 1 to `MAX_KEY_BYTES` bytes.
    """
    if not isinstance(value, str):
        raise UsageError(f"An id must be a string, got {describe_value(value)}.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_KEY_BYTES or "\0" in value:
        raise UsageError(f"An id must have 1 to {MAX_KEY_BYTES:,} bytes of valid UTF-8.")
    return value


def to_keys(values: Any) -> list[str]:
    """Return the ids of one id or several."""
    if isinstance(values, str):
        return [to_key(values)]
    if isinstance(values, Iterable) and not isinstance(values, bytes | Mapping):
        return [to_key(value) for value in values]
    raise UsageError(f"ids must be strings, got {describe_value(values)}.")


def to_texts(value: Any) -> tuple[Text, ...]:
    """Return the texts of a picture: a caption, a mapping of kinds to texts, or a list of texts.

    Raises:
        UsageError: It is of another type.
    """
    if value is None:
        return ()
    if isinstance(value, str | Text):
        value = [value]
    if isinstance(value, Mapping):
        value = [_to_kind(str(kind), text) for kind, text in value.items()]
    if not isinstance(value, Sequence):
        raise _texts_error(value)
    return tuple(_to_text(text) for text in value)


def _to_kind(kind: str, value: Any) -> Text:
    if kind in LIST_KINDS and isinstance(value, list | tuple):
        value = "; ".join(map(str, value))
    return Text(kind, value)


def _to_text(value: Any) -> Text:
    text = Text("caption", value) if isinstance(value, str) else value
    if not isinstance(text, Text) or not isinstance(text.text, str):
        raise _texts_error(value)
    _check_utf8("The texts have", text.text)
    return Text(text.kind, text.text, text.language, TextSource.TABLE)


def _texts_error(value: Any) -> UsageError:
    return UsageError(
        f"The texts of a picture must be a string, a list of strings or a mapping such as"
        f" {{'title': '...'}}, got {describe_value(value)}."
    )


def to_metadata(value: Any) -> Mapping[str, Any] | None:
    """Return the metadata of a picture, as JSON has it.

    Raises:
        UsageError: It is not a mapping of strings to values that JSON has.
    """
    if value is None:
        return None
    try:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            content = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
            _check_utf8("The metadata has", content)
            loaded: Mapping[str, Any] = json.loads(content)
            return loaded
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"The metadata has a value that JSON does not have: {error}.") from error
    raise UsageError(f"The metadata must be a mapping, got {describe_value(value)}.")


def _check_utf8(subject: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{subject} a character that UTF-8 does not have: a half of a surrogate pair.",
            "Leave it out.",
        ) from None


def parse_update(
    ids: Any, texts: Any, metadata: Any
) -> tuple[list[str], list[tuple[Text, ...]] | None, list[Mapping[str, Any]] | None]:
    """Return ids, texts and metadata of an update; see `mmsearch.Index.update`.

    Raises:
        UsageError: An input has the wrong type or length.
    """
    keys = to_keys(ids)
    if isinstance(ids, str):
        texts = None if texts is None else [texts]
        metadata = None if metadata is None else [metadata]
    new_texts = None if texts is None else [to_texts(t) for t in _to_iterable("texts", texts)]
    new_metadata = (
        None
        if metadata is None
        else [to_metadata(m) or {} for m in _to_iterable("metadata", metadata)]
    )
    for name, values in (("texts", new_texts), ("metadata", new_metadata)):
        if values is not None and len(values) != len(keys):
            raise UsageError(
                f"There are {len(values):,} {name} for {len(keys):,} ids.", "Pass one for each id."
            )
    if len(set(keys)) != len(keys):
        raise UsageError("An id is given twice.", "Give each picture once.")
    return keys, new_texts, new_metadata
