"""Pictures of an index: what is known of them, and themselves."""

from __future__ import annotations

import os
import stat
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query
from starlette.responses import FileResponse, JSONResponse, Response

from mmsearch.core.records import Record
from mmsearch.server.ranges import in_part
from mmsearch.server.rendering import picture_answer
from mmsearch.server.schemas import PictureAnswer
from mmsearch.server.state import TheDesk, TheService
from mmsearch.server.thumbnails import Size

router = APIRouter(tags=["pictures"])

ImageId = Annotated[int, Path(ge=1, le=2**63 - 1)]

MEDIA_TYPES = {
    name: f"image/{name.lower()}"
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")
}

A_PICTURE = {"content": {"image/*": {}}, "description": "The picture."}


@router.get("/v1/indexes/{name}/pictures/{image_id}", response_model=PictureAnswer)
async def get_picture(service: TheService, desk: TheDesk, image_id: ImageId) -> JSONResponse:
    """What is known of a picture."""
    return JSONResponse(picture_answer(desk.name, await service.record(desk, image_id)))


@router.get(
    "/v1/indexes/{name}/pictures/{image_id}/original",
    response_class=FileResponse,
    responses={200: A_PICTURE},
)
async def get_original(service: TheService, desk: TheDesk, image_id: ImageId) -> Response:
    """The file itself, whole or in part (Range)."""
    record = await service.record(desk, image_id)
    # A catalog may be anybody's, and name any file: what goes out is a picture by its content.
    path, found = await service.in_thread(service.thumbnails.originals.path_and_format, record)
    media_type = MEDIA_TYPES.get(found, "application/octet-stream")
    return FileResponse(
        os.fsdecode(path),
        media_type=media_type,
        headers={"Cache-Control": "private, no-cache"},
        stat_result=_facts_for_http(record),
    )


@router.get(
    "/v1/indexes/{name}/pictures/{image_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/webp": {}}, "description": "A WebP."}},
)
async def get_thumbnail(
    service: TheService,
    desk: TheDesk,
    image_id: ImageId,
    size: Annotated[Size, Query(description="Long side: 160, 400 or 1280 pixels.")] = Size.MEDIUM,
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """The picture made small, whole or in part (Range)."""
    record = await service.record(desk, image_id)
    content, tag = await service.in_thread(service.thumbnails.get, record, size)
    headers = {"ETag": f'"{tag}"', "Cache-Control": "private, max-age=3600"}
    # A part of another picture would not fit to what somebody has of this one.
    fits = if_range in (None, f'"{tag}"')
    return in_part(content, wanted if fits else None, "image/webp", headers)


def _facts_for_http(record: Record) -> os.stat_result:
    """Return size and time for HTTP's headers, which have no dates after the year 9999.

    A file system may have such dates; those of the catalog are earlier.
    """
    modified_at = record.mtime_ns / 1e9
    whole = (stat.S_IFREG | 0o400, 0, 0, 1, 0, 0, record.size, 0, int(modified_at), 0)
    return os.stat_result((*whole, 0.0, modified_at, 0.0))
