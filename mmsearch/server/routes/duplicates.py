"""Route of duplicates, for people who tidy up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as QueryParams
from starlette.responses import JSONResponse

from mmsearch.core.duplicate_groups import (
    DEFAULT_GROUPS,
    MAX_GROUPS,
    DuplicateGroups,
    DuplicateKind,
)
from mmsearch.server.rendering import render_duplicates
from mmsearch.server.schemas import BoundedText
from mmsearch.server.state import WorkerDep

router = APIRouter(tags=["indexes"])


@router.get("/v1/indexes/{name}/duplicates", response_model=DuplicateGroups)
async def list_duplicates(
    worker: WorkerDep,
    kind: Annotated[
        DuplicateKind | None, QueryParams(description="Kind of the groups; default: all.")
    ] = None,
    limit: Annotated[int, QueryParams(ge=1, le=MAX_GROUPS)] = DEFAULT_GROUPS,
    cursor: Annotated[
        BoundedText | None, QueryParams(description="The next_cursor of the former page.")
    ] = None,
) -> JSONResponse:
    """List groups of duplicate files, each with a suggestion of which one to keep."""
    found = await worker.run(lambda index: index.duplicates(kind, limit=limit, cursor=cursor))
    return JSONResponse(render_duplicates(found))
