"""Routes of pictures that clients keep by ids of their own: add, replace, change, delete, list."""

from __future__ import annotations

import io
from typing import Annotated, Any
from urllib.parse import quote, unquote_to_bytes

from fastapi import APIRouter, Depends, HTTPException, Path
from fastapi import Query as QueryParams
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from mmsearch import api
from mmsearch.api.records import to_key, to_metadata, to_texts
from mmsearch.core.cursors import decode_cursor, encode_cursor
from mmsearch.core.errors import DecodeError, InvalidQueryError, UnknownNameError, UsageError
from mmsearch.core.query import PAGE_LIMIT
from mmsearch.core.results import Item
from mmsearch.core.write_reports import DeleteReport, ItemsPage, WriteReport
from mmsearch.server.bulk import (
    BulkWrite,
    IncomingRecord,
    iter_form_records,
    iter_line_records,
    to_addition,
)
from mmsearch.server.deadline import pause_deadline
from mmsearch.server.rate_limit import charge
from mmsearch.server.rendering import render_item
from mmsearch.server.schemas import (
    BoundedText,
    FormRecordBody,
    KeysBody,
    NewRecordBody,
    PatchBody,
    PatchesBody,
    RecordBody,
    UpdatedAnswer,
)
from mmsearch.server.state import RootPathDep, ServerState, StateDep, WorkerDep, WriterDep
from mmsearch.server.uploads import (
    FORM,
    JSON,
    JSON_LINES,
    Take,
    decode_data,
    iter_form,
    media_type,
    parse_body,
    read_body,
    unsupported_media_type,
)
from mmsearch.server.writes import LOCK_WAIT_S

router = APIRouter(tags=["items"])

MAX_ITEM_ID = 2**63 - 1

KEEP_ORIGINALS = QueryParams(
    description="Keep the content in the index, for `original`; a thumbnail is kept in any case."
)


async def get_key(
    request: Request,
    key: Annotated[
        str, Path(description="Id of the picture, percent-encoded. It may contain slashes.")
    ],
) -> str:
    """Return the key in the path.

    Raises:
        UsageError: It is too long, or not valid UTF-8.
    """
    try:
        unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:
        raise UsageError("The key is not UTF-8.", "Percent-encode its UTF-8 bytes.") from None
    return to_key(key)


KeyDep = Annotated[str, Depends(get_key)]


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": _schema(RecordBody)},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["picture"],
                    "properties": {
                        "picture": {"type": "string", "format": "binary"},
                        "record": _schema(FormRecordBody),
                    },
                },
                "encoding": {"record": {"contentType": JSON}},
            },
        },
    }
}

PICTURES_BODY = {
    "requestBody": {
        "required": True,
        "description": "A record a line; or a form with a field `records`, a list of records, and"
        " then a field `picture` for each of them that has neither data nor url, in order.",
        "content": {
            JSON_LINES[0]: {"schema": _schema(NewRecordBody)},
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["records"],
                    "properties": {
                        "records": {"type": "array", "items": _schema(NewRecordBody)},
                        "picture": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        },
                    },
                },
                "encoding": {"records": {"contentType": JSON}},
            },
        },
    }
}


@router.get("/v1/indexes/{name}/items", response_model=ItemsPage)
async def list_items(
    worker: WorkerDep,
    root_path: RootPathDep,
    limit: Annotated[int, QueryParams(ge=1, le=PAGE_LIMIT)] = 100,
    cursor: Annotated[
        BoundedText | None, QueryParams(description="The next_cursor of the former page.")
    ] = None,
) -> JSONResponse:
    """List all pictures of the index, in the order of their ids."""
    listing = f"items of {worker.name}"
    after_id = decode_cursor(cursor, listing, MAX_ITEM_ID)
    # One picture beyond the page shows if there is a next page.
    items = await worker.run(lambda index: index.list_items(after_id, limit + 1))
    next_cursor = encode_cursor(items[limit - 1].id, listing) if len(items) > limit else None
    rendered = [render_item(worker.name, item, root_path) for item in items[:limit]]
    return JSONResponse({"items": rendered, "next_cursor": next_cursor})


@router.post("/v1/indexes/{name}/items", response_model=WriteReport, openapi_extra=PICTURES_BODY)
async def add_items(
    request: Request,
    server_state: StateDep,
    writer: WriterDep,
    *,
    keep_originals: Annotated[bool, KEEP_ORIGINALS] = False,
) -> Response:
    """Add or replace many pictures; those that cannot be added are in the report."""
    max_bytes = int(server_state.config.max_upload_mb * 1e6)
    if media_type(request) in JSON_LINES:
        records = iter_line_records(request, max_bytes)
    elif media_type(request) == FORM:
        records = iter_form_records(request, max_bytes)
    else:
        raise unsupported_media_type(JSON_LINES[0], FORM)
    write = BulkWrite(request, server_state, writer, keep_originals=keep_originals)
    try:
        report = await write.execute(records)
    except ClientDisconnect:
        # Nobody reads this answer; what was written stays.
        return Response(status_code=400)
    return JSONResponse(report.to_dict())


@router.patch("/v1/indexes/{name}/items", response_model=UpdatedAnswer)
async def update_items(
    request: Request, server_state: StateDep, writer: WriterDep, body: PatchesBody
) -> JSONResponse:
    """Replace the texts or metadata of several pictures; of all, or of none if one is unknown."""
    charge(request, len(body.items))
    with pause_deadline(request):
        await writer.run(lambda index: _update(index, {to_key(i.key): i for i in body.items}))
    server_state.metrics.observe_records(writer.name, {"updated": len(body.items)})
    return JSONResponse({"updated": len(body.items)})


@router.post("/v1/indexes/{name}/deletions", response_model=DeleteReport)
async def delete_items(
    request: Request, server_state: StateDep, writer: WriterDep, body: KeysBody
) -> JSONResponse:
    """Delete several pictures; unknown keys are in the report."""
    charge(request, len(body.keys))
    keys = list(dict.fromkeys(map(to_key, body.keys)))
    with pause_deadline(request):
        missing = await writer.run(lambda index: _delete(index, keys))
    deleted = len(keys) - len(missing)
    server_state.metrics.observe_records(writer.name, {"deleted": deleted})
    return JSONResponse(DeleteReport(deleted, tuple(missing)).to_dict())


@router.get("/v1/indexes/{name}/items/{key:path}", response_model=Item)
async def get_item(worker: WorkerDep, key: KeyDep, root_path: RootPathDep) -> JSONResponse:
    """Return a picture by the key that it was added with."""
    item = await worker.run(lambda index: index.get(key))
    if item is None:
        raise _unknown_key(worker.name, key)
    return JSONResponse(render_item(worker.name, item, root_path))


@router.put(
    "/v1/indexes/{name}/items/{key:path}",
    response_model=Item,
    responses={201: {"model": Item, "description": "The key is new."}},
    openapi_extra=PICTURE_BODY,
)
async def put_item(
    request: Request,
    server_state: StateDep,
    writer: WriterDep,
    key: KeyDep,
    root_path: RootPathDep,
    *,
    keep_originals: Annotated[bool, KEEP_ORIGINALS] = False,
) -> Response:
    """Add a picture, or replace the one with the same key."""
    with server_state.writers.memory.open_share() as take:
        try:
            record, content = await _read_picture(request, server_state, take)
        except ClientDisconnect:
            # Nobody reads this answer.
            return Response(status_code=400)
        addition = to_addition(
            IncomingRecord(1, NewRecordBody(key=key, **record.model_dump(exclude={"url", "data"}))),
            content,
            keep_originals=keep_originals,
        )
        with pause_deadline(request):
            (result,) = await writer.add([addition])
    server_state.metrics.observe_records(writer.name, {result.outcome: 1})
    if result.item is None:
        raise DecodeError(f"The picture cannot be read: {result.error}.")
    status = 200 if result.before is not None else 201
    path = f"{root_path}/v1/indexes/{writer.name}/items/{quote(key, safe='')}"
    return JSONResponse(
        render_item(writer.name, result.item, root_path),
        status,
        {"Location": path} if status == 201 else None,
    )


@router.patch("/v1/indexes/{name}/items/{key:path}", response_model=Item)
async def update_item(
    request: Request,
    server_state: StateDep,
    writer: WriterDep,
    key: KeyDep,
    body: PatchBody,
    root_path: RootPathDep,
) -> JSONResponse:
    """Replace the texts or metadata of a picture."""

    def work(index: api.Index) -> Item | None:
        _update(index, {key: body})
        return index.get(key)

    with pause_deadline(request):
        item = await writer.run(work)
    if item is None:
        raise _unknown_key(writer.name, key)
    server_state.metrics.observe_records(writer.name, {"updated": 1})
    return JSONResponse(render_item(writer.name, item, root_path))


@router.delete("/v1/indexes/{name}/items/{key:path}", status_code=204)
async def delete_item(
    request: Request, server_state: StateDep, writer: WriterDep, key: KeyDep
) -> Response:
    """Delete a picture that was added."""
    with pause_deadline(request):
        missing = await writer.run(lambda index: _delete(index, [key]))
    if missing:
        raise _unknown_key(writer.name, key)
    server_state.metrics.observe_records(writer.name, {"deleted": 1})
    return Response(status_code=204)


def _unknown_key(index: str, key: str) -> UnknownNameError:
    return UnknownNameError(
        f"Index {index!r} has no item {key!r}.", "PUT adds it; GET /items lists them."
    )


async def _read_picture(
    request: Request, server_state: ServerState, take: Take
) -> tuple[RecordBody | FormRecordBody, bytes]:
    """Return the record and the content in the body of a request.

    Raises:
        InvalidQueryError: It has no picture, or several.
        MMSearchError: See `ServerState.require_fetcher` and `Fetcher.fetch`.
    """
    if media_type(request) == FORM:
        return await _read_picture_form(request, server_state, take)
    if media_type(request) != JSON:
        raise unsupported_media_type(JSON, FORM)
    record = parse_body(RecordBody, await read_body(request, take))
    if (record.url is None) == (record.data is None):
        raise InvalidQueryError(
            "The request needs exactly one picture.", "Give its url, or its content as data."
        )
    content = decode_data(record)
    if content is None:
        file = io.BytesIO()
        await server_state.require_fetcher().fetch(record.url or "", file)
        content = file.getvalue()
        take(len(content))
    return record, content


async def _read_picture_form(
    request: Request, server_state: ServerState, take: Take
) -> tuple[FormRecordBody, bytes]:
    record, content = FormRecordBody(), None
    async for part in iter_form(request, int(server_state.config.max_upload_mb * 1e6)):
        take(len(part.content))
        if part.name == "record":
            record = parse_body(FormRecordBody, part.content)
        elif part.name == "picture" and content is None:
            content = part.content
        else:
            raise HTTPException(
                400,
                "The form must have one field 'picture', and may have a field 'record'."
                f" It has {part.name[:60]!r} too.",
            )
    if content is None:
        raise InvalidQueryError("The form has no picture.", "Send it in the field 'picture'.")
    return record, content


def _update(index: api.Index, patches: dict[str, PatchBody] | Any) -> None:
    """Replace the texts or metadata of pictures, of all or of none.

    Raises:
        UnknownNameError: There is no picture with one of the keys.
        InvalidQueryError: A patch changes nothing.
    """
    for key, patch in patches.items():
        if not patch.model_fields_set & {"texts", "metadata"}:
            raise InvalidQueryError(
                f"The patch of {key!r} changes nothing.", "Give texts, metadata or both."
            )
        to_texts(patch.texts)
        to_metadata(patch.metadata)
        if index.get(key) is None:
            raise _unknown_key(index.name, key)
    for names in ({"texts"}, {"metadata"}, {"texts", "metadata"}):
        keys = [
            key
            for key, patch in patches.items()
            if patch.model_fields_set & {"texts", "metadata"} == names
        ]
        if keys:
            index.update(
                keys,
                **{name: [getattr(patches[key], name) for key in keys] for name in names},
                wait_s=LOCK_WAIT_S,
            )


def _delete(index: api.Index, keys: list[str]) -> list[str]:
    """Delete pictures, and return the keys that the index does not have."""
    missing = [key for key in keys if index.get(key) is None]
    # What could not be read has no picture, but is kept as failed.
    index.delete(keys, wait_s=LOCK_WAIT_S)
    return missing
