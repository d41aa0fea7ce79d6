"""Searching and encoding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form
from fastapi import Query as QueryParams
from pydantic import Json
from starlette.requests import Request
from starlette.responses import JSONResponse

from mmsearch import api
from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, MMSearchError
from mmsearch.core.queries import Filters, Query, Term
from mmsearch.core.requests import SearchRequest, SearchResult
from mmsearch.core.types import Vectors
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.rate_limit import charge
from mmsearch.server.rendering import decode_cursor, render_search
from mmsearch.server.schemas import (
    HITS_LIMIT,
    PAGE_LIMIT,
    URLS_LIMIT,
    BatchAnswer,
    BatchBody,
    BoundedText,
    EmbeddingsAnswer,
    FilterBody,
    SearchAnswer,
    SearchBody,
    SearchParams,
    TextsBody,
)
from mmsearch.server.state import ServerState, StateDep, WorkerDep
from mmsearch.server.uploads import Upload, UploadRoute

router = APIRouter(tags=["search"], route_class=UploadRoute)

PICTURE_FILE = File(description="JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF.")

Picture = Annotated[Upload, PICTURE_FILE]


@router.post("/v1/indexes/{name}/search", response_model=SearchAnswer)
async def search(server_state: StateDep, worker: WorkerDep, body: SearchBody) -> JSONResponse:
    """Search by text, by pictures of the index or of the web, or by both."""
    return JSONResponse(await run_search(server_state, worker, body))


@router.get("/v1/indexes/{name}/search", response_model=SearchAnswer)
async def search_by_url(
    server_state: StateDep,
    worker: WorkerDep,
    params: Annotated[SearchParams, QueryParams()],
) -> JSONResponse:
    """The same by a URL, with the most usual filters."""
    return JSONResponse(await run_search(server_state, worker, params.to_search_body()))


@router.post("/v1/indexes/{name}/search/batch", response_model=BatchAnswer)
async def search_batch(
    request: Request, server_state: StateDep, worker: WorkerDep, body: BatchBody
) -> JSONResponse:
    """Several searches; one that cannot be answered says so in its place."""
    charge(request, len(body.searches))

    async def search_one(search: SearchBody) -> dict[str, Any]:
        try:
            return await run_search(server_state, worker, search)
        except MMSearchError as error:
            return {
                "type": "about:blank",
                "title": type(error).__name__,
                "status": error.http_status,
                "detail": str(error),
            }

    return JSONResponse({"answers": await asyncio.gather(*map(search_one, body.searches))})


@router.post("/v1/indexes/{name}/search/picture", response_model=SearchAnswer)
async def search_by_picture(
    server_state: StateDep,
    worker: WorkerDep,
    picture: Picture,
    *,
    query: Annotated[BoundedText, Form(description="Text to go with it.")] = "",
    without: Annotated[list[BoundedText], Form(alias="not", max_length=20)] = [],  # noqa: B006
    filters: Annotated[
        Json[FilterBody] | None,
        Form(description="As in a search, in JSON.", examples=['{"orientation": "portrait"}']),
    ] = None,
    mode: Annotated[Literal["vector", "text", "hybrid"] | None, Form()] = None,
    min_score: Annotated[float | None, Form(allow_inf_nan=False)] = None,
    min_confidence: Annotated[float | None, Form(ge=0, le=1, allow_inf_nan=False)] = None,
    limit: Annotated[int, Form(ge=1, le=PAGE_LIMIT)] = 20,
    cursor: Annotated[BoundedText | None, Form()] = None,
) -> JSONResponse:
    """Search by a picture that is sent, with or without text."""
    body = SearchBody.model_validate(
        {
            "query": query,
            "not": without,
            "filters": filters or {},
            "mode": mode,
            "min_score": min_score,
            "min_confidence": min_confidence,
            "limit": limit,
            "cursor": cursor,
        }
    )
    async with server_state.save_upload(picture) as path:
        answer = await run_search(server_state, worker, body, [path])
    # Where it lay meanwhile is nobody's business.
    query_text = answer["query"].replace(display_path(path), "(picture)")
    return JSONResponse(answer | {"query": query_text})


@router.post("/v1/indexes/{name}/embeddings/texts", response_model=EmbeddingsAnswer)
async def embed_texts(request: Request, worker: WorkerDep, body: TextsBody) -> JSONResponse:
    """The vectors of texts, as queries use them."""
    charge(request, len(body.texts))
    return JSONResponse(await _embed(worker, [Term(text) for text in body.texts]))


@router.post("/v1/indexes/{name}/embeddings/picture", response_model=EmbeddingsAnswer)
async def embed_picture(
    server_state: StateDep,
    worker: WorkerDep,
    picture: Annotated[Upload | None, PICTURE_FILE] = None,
    url: Annotated[
        BoundedText | None, Form(description="Of a picture, in place of one sent.")
    ] = None,
) -> JSONResponse:
    """The vector of a picture that is sent, or that is at a URL if the server fetches it."""
    if picture is not None and url is None:
        async with server_state.save_upload(picture) as path:
            return JSONResponse(await _embed(worker, [Term(image=path)]))
    if url is None or picture is not None:
        raise InvalidQueryError("One picture is encoded at a time.", "Send it, or name its URL.")
    async with server_state.fetch_images([url]) as files:
        return JSONResponse(await _embed(worker, [Term(image=files[url])]))


async def run_search(
    server_state: ServerState,
    worker: IndexWorker,
    body: SearchBody,
    picture_paths: list[Path] | None = None,
) -> dict[str, Any]:
    """A page of hits; see `SearchAnswer`.

    Args:
        server_state: Of the server.
        worker: Of the index.
        to_search_body: What is asked.
        picture_paths: Files that hits shall look like, besides what the query names.

    Raises:
        MMSearchError: It cannot be answered; the sentence says why.
    """
    offset = decode_cursor(body.cursor, HITS_LIMIT)
    limit = min(body.limit, HITS_LIMIT - offset)
    images = picture_paths or []
    query = api.parse_query(
        body.query,
        without=body.without,
        images=images,
        like=body.like,
        urls=body.like_url,
        filters=_parse_filters(body.filters),
        mode=body.mode,
        blend=body.blend,
        prompts=body.prompts,
    )
    if any(term.image is not None and term.image not in images for term in query.terms):
        raise InvalidQueryError(
            "A query over HTTP cannot name files.", "Send the picture, or say its id in 'like'."
        )
    if not body.explain and body.min_confidence is not None:
        raise InvalidQueryError(
            "A least confidence was asked for, but no explanation.", "Leave one of them out."
        )
    # One more than the page tells whether there is a further one.
    k = min(offset + limit + 1, HITS_LIMIT)
    request = SearchRequest(query, k, body.min_score, body.min_confidence, body.explain)
    if any(term.url is not None for term in query.terms):
        return await _search_with_urls(server_state, worker, request, offset, limit)
    return _render_page(server_state, worker, await worker.search(request), offset, limit)


async def _search_with_urls(
    server_state: ServerState, worker: IndexWorker, request: SearchRequest, offset: int, limit: int
) -> dict[str, Any]:
    async with _fetch_query_pictures(server_state, request.query) as (query, urls):
        result = await worker.search(replace(request, query=query))
    answer = _render_page(server_state, worker, result, offset, limit)
    for path, url in urls.items():
        answer["query"] = answer["query"].replace(display_path(path), f"image:{display_path(url)}")
    return answer


def _render_page(
    server_state: ServerState, worker: IndexWorker, result: SearchResult, offset: int, limit: int
) -> dict[str, Any]:
    server_state.metrics.observe_search(worker.name, result)
    return render_search(worker.name, result, offset, limit)


@asynccontextmanager
async def _fetch_query_pictures(
    server_state: ServerState, query: Query
) -> AsyncIterator[tuple[Query, dict[Path, str]]]:
    """A query with files in the place of URLs, and which URL each was.

    Raises:
        InvalidQueryError: It names too many.
        MMSearchError: See `ServerState.fetch_images`.
    """
    urls = [term.url for term in query.terms if term.url is not None]
    if len(urls) > URLS_LIMIT:
        raise InvalidQueryError(
            f"The query names {len(urls)} pictures by URL; {URLS_LIMIT} are fetched at most."
        )
    async with server_state.fetch_images(urls) as files:
        terms = [
            term if term.url is None else Term(image=files[term.url], weight=term.weight)
            for term in query.terms
        ]
        yield replace(query, terms=tuple(terms)), {path: url for url, path in files.items()}


def _parse_filters(body: FilterBody) -> Filters | None:
    # Most searches have none.
    if not body.model_fields_set:
        return None
    return api.parse_filters(
        paths=body.path,
        after=body.after,
        before=body.before,
        min_width=body.min_width,
        min_height=body.min_height,
        orientation=body.orientation,
        formats=body.format,
        cameras=body.camera,
        near=body.near,
        tags=body.tag,
        where=body.where,
    )


async def _embed(worker: IndexWorker, terms: list[Term]) -> dict[str, Any]:
    def work(index: api.Index) -> tuple[Vectors, Any]:
        return index.embed(terms), index.status().identity

    vectors, identity = await worker.run(work)
    return {
        "encoder": identity.encoder.name,
        "fingerprint": identity.encoder.fingerprint,
        "dim": vectors.shape[1],
        "embeddings": vectors.tolist(),
    }
