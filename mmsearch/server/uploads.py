"""Readers of pictures and records in request bodies, as streams: JSON Lines and forms."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from mmsearch.core.errors import UsageError
from mmsearch.server.schemas import NewRecordBody, RecordBody

JSON = "application/json"
FORM = "multipart/form-data"
JSON_LINES = ("application/x-ndjson", "application/jsonl", "application/ndjson")

MAX_RECORDS = 100_000
"""Maximum number of records in one request."""

MAX_PART_HEADER_BYTES = 8192

Model = TypeVar("Model", bound=BaseModel)

Take = Callable[[int], None]
"""Counts bytes that are kept in memory; see `mmsearch.server.writes.MemoryBudget`."""

RECORD_LIST = TypeAdapter(list[NewRecordBody])


@dataclass(frozen=True)
class FormPart:
    """A field of a form.

    Attributes:
        name: Name of the field.
        content: Its content.
    """

    name: str
    content: bytes


def media_type(request: Request) -> str:
    """Return the media type of a body in lower case, without parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def unsupported_media_type(*accepted: str) -> HTTPException:
    """Return the error for a body of another media type."""
    return HTTPException(
        415,
        f"The body is not {' or '.join(accepted)}. Send it in that format.",
        {"Accept": ", ".join(accepted)},
    )


async def read_body(request: Request, take: Take) -> bytes:
    """Return the whole body of a request."""
    body = bytearray()
    async for chunk in request.stream():
        take(len(chunk))
        body += chunk
    return bytes(body)


def parse_body(model: type[Model], body: bytes) -> Model:
    """Return a JSON body as a model.

    Raises:
        RequestValidationError: It is not JSON, or not valid.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise to_request_error(error) from error


def to_request_error(error: ValidationError) -> RequestValidationError:
    """Return the error of a body that FastAPI has not read."""
    return RequestValidationError(
        [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
    )


async def iter_form(request: Request, max_bytes: int) -> AsyncIterator[FormPart]:
    """Yield the fields of a form one by one; only one is in memory.

    Args:
        request: The request.
        max_bytes: Maximum size of a field.

    Raises:
        HTTPException: The form is not valid, or a field is too large.
    """
    _, options = parse_options_header(request.headers.get("content-type"))
    reader = _FormReader(max_bytes)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), reader.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            for part in reader.take_parts():
                yield part
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, f"The form cannot be read: {error}.") from error
    if not reader.has_ended:
        raise HTTPException(400, "The form cannot be read: its end is missing.")


class _FormReader:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[FormPart] = []
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._name: str | None = None
        self._content = bytearray()
        self.has_ended = False

    def callbacks(self) -> Any:
        """Return the callbacks of the parser."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_begin": self._on_header_begin,
            "on_header_field": lambda data, start, end: self._on_header(
                self._header_name, data[start:end]
            ),
            "on_header_value": lambda data, start, end: self._on_header(
                self._header_value, data[start:end]
            ),
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def take_parts(self) -> Iterator[FormPart]:
        """Yield the fields that are complete."""
        while self._parts:
            yield self._parts.pop(0)

    def _on_part_begin(self) -> None:
        self._name = None
        self._content = bytearray()

    def _on_header_begin(self) -> None:
        self._header_name.clear()
        self._header_value.clear()

    def _on_header(self, buffer: bytearray, data: bytes) -> None:
        buffer += data
        if len(buffer) > MAX_PART_HEADER_BYTES:
            raise HTTPException(400, "The form cannot be read: a header of a field is too long.")

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._header_value))
            self._name = options.get(b"name", b"").decode("utf-8", "replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]
        if len(self._content) > self._max_bytes:
            raise HTTPException(413, f"A field is larger than {self._max_bytes / 1e6:g} MB.")

    def _on_part_end(self) -> None:
        self._parts.append(FormPart(self._name or "", bytes(self._content)))
        self._content = bytearray()

    def _on_end(self) -> None:
        self.has_ended = True


async def iter_lines(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the lines of a body that are not empty; only one is in memory.

    Raises:
        HTTPException: A line is too large.
    """
    rest = bytearray()
    async for chunk in request.stream():
        *lines, tail = chunk.split(b"\n")
        for line in lines:
            rest += line
            if rest.strip():
                _check_line(rest, max_bytes)
                yield bytes(rest)
            rest.clear()
        rest += tail
        _check_line(rest, max_bytes)
    if rest.strip():
        yield bytes(rest)


def _check_line(line: bytearray, max_bytes: int) -> None:
    if len(line) > max_bytes:
        raise HTTPException(413, f"A line is larger than {max_bytes / 1e6:g} MB.")


def decode_data(record: RecordBody) -> bytes | None:
    """Return the picture that a record contains; None if it has none.

    Raises:
        UsageError: It is not in base64.
    """
    if record.data is None:
        return None
    try:
        return base64.b64decode(record.data, validate=True)
    except (binascii.Error, ValueError):
        raise UsageError("The data of the picture is not base64.") from None
