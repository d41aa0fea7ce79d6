"""Routes that count pictures by year, place, camera and other fields."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi import Query as QueryParams
from starlette.responses import JSONResponse

from mmsearch import api
from mmsearch.core.facets import Facets
from mmsearch.core.filters import NO_FILTERS
from mmsearch.core.query import Query
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.routes.search import fetch_query_pictures, make_query, parse_filters
from mmsearch.server.schemas import FacetsBody, FacetsParams
from mmsearch.server.state import ServerState, StateDep, WorkerDep

router = APIRouter(tags=["search"])


@router.post("/v1/indexes/{name}/facets", response_model=Facets)
async def count_facets(server_state: StateDep, worker: WorkerDep, body: FacetsBody) -> JSONResponse:
    """Count the pictures of a search by year, place, camera and other fields."""
    return JSONResponse(await run_facets(server_state, worker, body))


@router.get("/v1/indexes/{name}/facets", response_model=Facets)
async def count_facets_by_url(
    server_state: StateDep, worker: WorkerDep, params: Annotated[FacetsParams, QueryParams()]
) -> JSONResponse:
    """Count the pictures of a search, given by URL parameters."""
    return JSONResponse(await run_facets(server_state, worker, params.to_facets_body()))


async def run_facets(
    server_state: ServerState, worker: IndexWorker, body: FacetsBody
) -> dict[str, Any]:
    """Count the pictures of a request; see `Facets`.

    Raises:
        MMSearchError: The query is invalid, or the search fails.
    """
    if body.query.strip() or body.without or body.like or body.unlike or body.like_url:
        query = make_query(body)
    else:
        query = Query((), parse_filters(body.filters) or NO_FILTERS)

    async with fetch_query_pictures(server_state, query) as (fetched, _):

        def work(index: api.Index) -> Facets:
            return index.facets(
                fetched,
                fields=body.fields,
                limit=body.limit,
                fold=body.fold,
                literal=body.literal,
                literal_words=body.literal_words,
            )

        return (await worker.run(work)).to_dict()
