"""Routes of single pictures: metadata, original and thumbnail."""

from __future__ import annotations

import os
import stat
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import FileResponse, JSONResponse, Response

from mmsearch.core.records import PictureRecord
from mmsearch.core.results import Item
from mmsearch.server.file_names import content_disposition, original_name, thumbnail_name
from mmsearch.server.media_types import is_download, media_type
from mmsearch.server.originals import OriginalCopy
from mmsearch.server.rendering import render_item
from mmsearch.server.state import RootPathDep, StateDep, WorkerDep
from mmsearch.server.thumbnails import Size

router = APIRouter(tags=["pictures"])

ImageId = Annotated[int, Path(ge=1, le=2**63 - 1)]

SVG_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
)
"""Policy of SVG originals: like that of other answers, but with the styles that a picture contains;
their scripts do not run, and they load nothing."""

PICTURE_RESPONSE = {"content": {"image/*": {}}, "description": "The picture."}


@router.get("/v1/indexes/{name}/pictures/{image_id}", response_model=Item)
async def get_picture(
    server_state: StateDep, worker: WorkerDep, image_id: ImageId, root_path: RootPathDep
) -> JSONResponse:
    """Return the metadata of a picture."""
    record = await server_state.load_record(worker, image_id)
    return JSONResponse(render_item(worker.name, Item.from_record(record), root_path))


@router.get(
    "/v1/indexes/{name}/pictures/{image_id}/original",
    response_class=FileResponse,
    responses={200: PICTURE_RESPONSE},
)
async def get_original(server_state: StateDep, worker: WorkerDep, image_id: ImageId) -> Response:
    """Return the original, whole or in part (Range)."""
    record = await server_state.load_record(worker, image_id)
    if record.uri:
        index = await worker.run(lambda index: index)
        copy = await server_state.run_in_thread(server_state.original_copies.get, index, record)
        return _CopyResponse(copy, record.digest)
    # An untrusted catalog can name any file; only files whose content is a picture are sent.
    path, image_format = await server_state.run_in_thread(
        server_state.thumbnails.originals.path_and_format, record
    )
    return FileResponse(
        os.fsdecode(path),
        media_type=media_type(image_format),
        headers=_headers(os.fsdecode(path), image_format),
        stat_result=_http_stat(record),
    )


@router.get(
    "/v1/indexes/{name}/pictures/{image_id}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/webp": {}}, "description": "A WebP."}},
)
async def get_thumbnail(
    server_state: StateDep,
    worker: WorkerDep,
    image_id: ImageId,
    size: Annotated[Size, Query(description="Long side: 160, 400 or 1280 pixels.")] = Size.MEDIUM,
) -> Response:
    """Return a thumbnail of the picture."""
    record = await server_state.load_record(worker, image_id)
    content, etag = await server_state.run_in_thread(server_state.thumbnails.get, record, size)
    headers = {
        "ETag": f'"{etag}"',
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": content_disposition(thumbnail_name(record.paths[0])),
    }
    return Response(content, media_type="image/webp", headers=headers)


class _CopyResponse(FileResponse):
    """A response with a copy of an original, whose file exists until the response is gone.

    Args:
        copy: The copy.
        digest: sha256 of the content.
    """

    def __init__(self, copy: OriginalCopy, digest: bytes) -> None:
        self._copy = copy
        super().__init__(
            copy.path,
            media_type=media_type(copy.image_format),
            headers=_headers(copy.name, copy.image_format) | {"ETag": f'"{digest.hex()[:40]}"'},
        )


def _headers(name: str, image_format: str) -> dict[str, str]:
    """Return the headers of an original."""
    headers = {
        "Cache-Control": "private, no-cache",
        "Content-Disposition": content_disposition(
            original_name(os.fsencode(name)), download=is_download(image_format)
        ),
    }
    if image_format == "SVG":
        headers["Content-Security-Policy"] = SVG_POLICY
    return headers


def _http_stat(record: PictureRecord) -> os.stat_result:
    """Return a stat result with size and modification time for the HTTP headers.

    They come from the catalog, because HTTP has no dates after the year 9999, which a file system
    may have; dates in the catalog are earlier.
    """
    modified_at = record.mtime_ns / 1e9
    integer_fields = (stat.S_IFREG | 0o400, 0, 0, 1, 0, 0, record.size, 0, int(modified_at), 0)
    return os.stat_result((*integer_fields, 0.0, modified_at, 0.0))
