"""Additions of many pictures in one request: read as a stream, and written in batches."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import HTTPException
from pydantic import ValidationError
from starlette.requests import Request

from mmsearch.api.records import to_key, to_metadata, to_texts
from mmsearch.core.errors import BusyError, ForbiddenError, SourceError, UsageError
from mmsearch.core.validation import format_validation_errors
from mmsearch.core.write_reports import FailedRecord, WriteReport
from mmsearch.server.deadline import pause_deadline
from mmsearch.server.schemas import REQUEST_FIELDS, NewRecordBody
from mmsearch.server.state import ServerState
from mmsearch.server.uploads import (
    MAX_RECORDS,
    RECORD_LIST,
    decode_data,
    iter_form,
    iter_lines,
    to_request_error,
)
from mmsearch.server.writes import (
    MAX_BATCH_BYTES,
    MAX_BATCH_RECORDS,
    Addition,
    AdditionResult,
    IndexWriter,
    count_outcomes,
)

MAX_FETCHES = 4
"""Maximum number of pictures that are fetched at the same time for one request."""

FETCH_TRIES = 3
"""Maximum number of tries to fetch a picture while the server fetches many others."""


@dataclass(frozen=True)
class IncomingRecord:
    """A record of a request: a picture to add, or the reason why it cannot be added.

    Attributes:
        number: Number of the record in the request, from 1.
        body: The record; None if it is not valid.
        content: Content of its picture, if the request has it.
        error: What is wrong with the record.
    """

    number: int
    body: NewRecordBody | None = None
    content: bytes | None = None
    error: str | None = None


async def iter_line_records(request: Request, max_bytes: int) -> AsyncIterator[IncomingRecord]:
    """Yield the records of a body of JSON Lines."""
    number = 0
    async for line in iter_lines(request, max_bytes * 4 // 3 + 65_536):
        number += 1
        _check_count(number)
        try:
            body = NewRecordBody.model_validate_json(line)
        except ValidationError as error:
            yield IncomingRecord(number, error=_describe(error))
        else:
            yield _to_incoming(number, body)


async def iter_form_records(request: Request, max_bytes: int) -> AsyncIterator[IncomingRecord]:
    """Yield the records of a form: a list in the field ``records``, then their pictures, in order.

    Raises:
        HTTPException: The form is not valid.
    """
    waiting: deque[tuple[int, NewRecordBody]] | None = None
    async for part in iter_form(request, max_bytes):
        if part.name == "records" and waiting is None:
            try:
                bodies = RECORD_LIST.validate_json(part.content)
            except ValidationError as error:
                raise to_request_error(error) from error
            _check_count(len(bodies))
            waiting = deque()
            for number, body in enumerate(bodies, 1):
                if body.data is None and body.url is None:
                    waiting.append((number, body))
                else:
                    yield _to_incoming(number, body)
        elif part.name == "picture" and waiting:
            number, body = waiting.popleft()
            yield IncomingRecord(number, body, part.content)
        else:
            raise HTTPException(
                400,
                "The form must have a field 'records' with a list of records, and then a field"
                f" 'picture' for each of them without data or url. It has {part.name[:60]!r} too.",
            )
    if waiting is None:
        raise HTTPException(400, "The form has no field 'records'.")
    for number, body in waiting:
        yield IncomingRecord(number, body, error="The form has no picture for it.")


def _check_count(count: int) -> None:
    if count > MAX_RECORDS:
        raise HTTPException(
            413,
            f"The request has more than {MAX_RECORDS:,} records. Send the others in another one;"
            " what was written stays.",
        )


def _to_incoming(number: int, body: NewRecordBody) -> IncomingRecord:
    if (body.data is None) == (body.url is None):
        return IncomingRecord(number, body, error="It needs either data or a url.")
    try:
        return IncomingRecord(number, body, decode_data(body))
    except UsageError as error:
        return IncomingRecord(number, body, error=error.message)


def _describe(error: ValidationError) -> str:
    return f"{format_validation_errors(error.errors(), REQUEST_FIELDS)}."


class BulkWrite:
    """Adds the records of a request in batches; one is written while the next is received.

    Args:
        request: The request; its deadline does not run while the server writes or fetches.
        server_state: State of the server.
        writer: Writer of the index.
        keep_originals: True to keep the contents in the index.
    """

    def __init__(
        self,
        request: Request,
        server_state: ServerState,
        writer: IndexWriter,
        *,
        keep_originals: bool,
    ) -> None:
        self._request = request
        self._server_state = server_state
        self._writer = writer
        self._keep_originals = keep_originals
        self._fetches: deque[tuple[IncomingRecord, asyncio.Task[bytes]]] = deque()
        self._batch: dict[str, tuple[int, Addition]] = {}
        self._batch_bytes = 0
        self._writing: asyncio.Task[list[AdditionResult]] | None = None
        self._written: list[tuple[int, Addition]] = []
        self._counts: Counter[str] = Counter()
        self._failed: list[FailedRecord] = []

    async def execute(self, records: AsyncIterator[IncomingRecord]) -> WriteReport:
        """Add all records; those that cannot be added are in the report.

        Raises:
            MMSearchError: The index cannot be written. What was written before stays.
        """
        try:
            async for record in records:
                if record.error is not None or record.body is None:
                    self._fail(record, record.error or "")
                elif record.content is None:
                    await self._start_fetch(record, record.body.url or "")
                else:
                    # Later records with the same key come last.
                    await self._finish_fetches(0)
                    await self._add(record, record.content)
            await self._finish_fetches(0)
            await self._write()
            await self._finish_write()
        finally:
            tasks = [task for _, task in self._fetches]
            for task in (*tasks, self._writing):
                if task is not None:
                    task.cancel()
            self._server_state.writers.memory.give(self._batch_bytes)
            self._server_state.writers.memory.give(_num_bytes(self._written))
        counts = self._counts
        failed = tuple(sorted(self._failed, key=lambda failure: failure.record))
        return WriteReport(counts["added"], counts["updated"], counts["unchanged"], failed)

    async def _start_fetch(self, record: IncomingRecord, url: str) -> None:
        await self._finish_fetches(MAX_FETCHES - 1)
        self._fetches.append((record, asyncio.create_task(self._fetch(url))))

    async def _fetch(self, url: str) -> bytes:
        file = io.BytesIO()
        for attempt in range(1, FETCH_TRIES + 1):
            try:
                await self._server_state.require_fetcher().fetch(url, file)
            except BusyError:
                if attempt == FETCH_TRIES:
                    raise
            else:
                break
        return file.getvalue()

    async def _finish_fetches(self, max_running: int) -> None:
        while len(self._fetches) > max_running:
            record, task = self._fetches.popleft()
            with pause_deadline(self._request):
                try:
                    content = await task
                except (SourceError, BusyError, ForbiddenError) as error:
                    self._fail(record, error.served_text)
                    continue
            await self._add(record, content)

    async def _add(self, record: IncomingRecord, content: bytes) -> None:
        try:
            addition = to_addition(record, content, keep_originals=self._keep_originals)
        except UsageError as error:
            self._fail(record, error.served_text)
            return
        if (
            addition.key in self._batch
            or len(self._batch) >= MAX_BATCH_RECORDS
            or self._batch_bytes >= MAX_BATCH_BYTES
        ):
            await self._write()
        self._server_state.writers.memory.take(len(content))
        self._batch_bytes += len(content)
        self._batch[addition.key] = (record.number, addition)

    async def _write(self) -> None:
        """Start to write the batch when the former one is written."""
        await self._finish_write()
        if self._batch:
            self._written = list(self._batch.values())
            self._batch, self._batch_bytes = {}, 0
            write = self._writer.add([addition for _, addition in self._written])
            self._writing = asyncio.create_task(write)

    async def _finish_write(self) -> None:
        if self._writing is None:
            return
        with pause_deadline(self._request):
            results = await self._writing
        counts = count_outcomes(results)
        self._counts += counts
        self._server_state.metrics.observe_records(self._writer.name, counts)
        for (number, addition), result in zip(self._written, results, strict=True):
            if result.outcome == "failed":
                reason = f"The picture cannot be read: {result.error}."
                self._failed.append(FailedRecord(number, addition.key, reason))
        self._server_state.writers.memory.give(_num_bytes(self._written))
        self._writing, self._written = None, []

    def _fail(self, record: IncomingRecord, reason: str) -> None:
        key = None if record.body is None else record.body.key
        self._failed.append(FailedRecord(record.number, key, reason))
        self._server_state.metrics.observe_records(self._writer.name, {"failed": 1})


def _num_bytes(written: list[tuple[int, Addition]]) -> int:
    return sum(len(addition.content) for _, addition in written)


def to_addition(record: IncomingRecord, content: bytes, *, keep_originals: bool) -> Addition:
    """Return the addition of a valid record.

    Raises:
        UsageError: Its key, texts or metadata are not valid.
    """
    body = record.body or NewRecordBody()
    key = hashlib.sha256(content).hexdigest() if body.key is None else to_key(body.key)
    # One client's invalid values must not fail the additions of others in the same batch.
    to_texts(body.texts)
    return Addition(key, content, body.texts, to_metadata(body.metadata), keep_originals)
