"""Pictures that a program adds through a server, as requests of JSON Lines."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from os import PathLike
from typing import Any

from mmsearch.client._requests import as_url, read_picture
from mmsearch.core.arguments import describe_value
from mmsearch.core.errors import SourceError, UsageError
from mmsearch.core.write_reports import FailedRecord

MAX_BATCH_RECORDS = 500
"""Maximum number of pictures in one request."""

MAX_BATCH_BYTES = 24_000_000
"""Size of a request, in bytes, after which it takes no further pictures."""

KEYS_PER_REQUEST = 1000
"""Number of pictures that one request changes or deletes."""

_END = object()


@dataclass
class RecordBatch:
    """Pictures for one request.

    Attributes:
        numbers: Number of each picture in the call, from 1.
        lines: Its record, as JSON.
        failed: Pictures that cannot be read on this machine.
        num_bytes: Size of all lines.
    """

    numbers: list[int] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    failed: list[FailedRecord] = field(default_factory=list)
    num_bytes: int = 0

    @property
    def is_full(self) -> bool:
        """True if the request should be sent now."""
        return len(self.lines) >= MAX_BATCH_RECORDS or self.num_bytes >= MAX_BATCH_BYTES

    def append(self, number: int, line: bytes) -> None:
        """Append a record."""
        self.numbers.append(number)
        self.lines.append(line)
        self.num_bytes += len(line)


def iter_batches(images: Any, ids: Any, texts: Any, metadata: Any) -> Iterator[RecordBatch]:
    """Yield the pictures of a call in batches; see `mmsearch.Client.add`.

    Raises:
        UsageError: An input has the wrong type, or the inputs have different lengths.
    """
    batch = RecordBatch()
    for number, (image, key, text, values) in enumerate(_rows(images, ids, texts, metadata), 1):
        record: dict[str, Any] = {"key": key, "texts": text, "metadata": values}
        if (url := as_url(image)) is not None:
            record["url"] = url
        else:
            try:
                content = _read(image)
            except SourceError as error:
                batch.failed.append(FailedRecord(number, key, error.message))
                continue
            record["data"] = base64.b64encode(content).decode()
        batch.append(number, to_json(record))
        if batch.is_full:
            yield batch
            batch = RecordBatch()
    if batch.lines or batch.failed:
        yield batch


def to_json(value: Mapping[str, Any]) -> bytes:
    """Return a JSON object without line breaks, without the members that are None.

    Raises:
        UsageError: It contains a value that JSON does not have.
    """
    present = {name: member for name, member in value.items() if member is not None}
    try:
        return json.dumps(present, allow_nan=False, default=_to_jsonable).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"The texts or the metadata have a value that JSON does not have: {error}."
        ) from error


def _to_jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(describe_value(value))


def _rows(
    images: Any, ids: Any, texts: Any, metadata: Any
) -> Iterator[tuple[Any, str | None, Any, Any]]:
    columns = {"images": images, "ids": ids, "texts": texts, "metadata": metadata}
    iterators = {
        name: iter(repeat(None) if values is None and name != "images" else to_rows(name, values))
        for name, values in columns.items()
    }
    given = sum(values is not None for values in columns.values())
    while True:
        row = {name: next(values, _END) for name, values in iterators.items()}
        ended = [name for name, value in row.items() if value is _END]
        if "images" in ended and len(ended) == given:
            return
        if ended:
            raise UsageError(
                f"There are fewer {ended[0]} than other values.",
                "Pass one of each for every picture.",
            )
        if not (row["ids"] is None or isinstance(row["ids"], str)):
            raise UsageError(f"An id must be a string, got {describe_value(row['ids'])}.")
        yield row["images"], row["ids"], row["texts"], row["metadata"]


def to_rows(name: str, values: Any) -> Iterable[Any]:
    """Return the values of several pictures.

    Raises:
        UsageError: It is one value, or not iterable.
    """
    is_one = isinstance(values, str | bytes | bytearray | PathLike | Mapping)
    is_picture = hasattr(values, "getexif") or getattr(values, "ndim", 4) < 4
    if is_one or hasattr(values, "read") or is_picture or not isinstance(values, Iterable):
        raise UsageError(
            f"{name} must be a list or another iterable, got {describe_value(values)}.",
            "Put a single one into a list.",
        )
    return values


def _read(image: Any) -> bytes:
    if hasattr(image, "read"):
        try:
            image = image.read()
        except (OSError, ValueError) as error:
            raise SourceError(f"A file cannot be read: {error}.") from error
        if not isinstance(image, bytes):
            raise UsageError("A file of a picture is open as text.", "Open it with mode 'rb'.")
    return read_picture(image)


def to_key_list(ids: Any) -> list[str]:
    """Return the ids of one id or several.

    Raises:
        UsageError: One of them is not a string.
    """
    keys = [ids] if isinstance(ids, str) else list(to_rows("ids", ids))
    for key in keys:
        if not isinstance(key, str):
            raise UsageError(f"An id must be a string, got {describe_value(key)}.")
    return keys


def build_patches(ids: Any, texts: Any, metadata: Any) -> list[dict[str, Any]]:
    """Return the changes of several pictures; see `mmsearch.Client.update`.

    Raises:
        UsageError: An input has the wrong type or length, or there is nothing to change.
    """
    keys = to_key_list(ids)
    patches: list[dict[str, Any]] = [{"key": key} for key in keys]
    if texts is None and metadata is None:
        raise UsageError("There is nothing to change.", "Pass texts, metadata or both.")
    for name, values in (("texts", texts), ("metadata", metadata)):
        if values is None:
            continue
        rows = [values] if isinstance(ids, str) else list(to_rows(name, values))
        if len(rows) != len(keys):
            raise UsageError(
                f"There are {len(rows):,} {name} for {len(keys):,} ids.", "Pass one for each id."
            )
        for patch, row in zip(patches, rows, strict=True):
            patch[name] = row
    return patches
