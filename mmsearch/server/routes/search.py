"""Searching and encoding."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form
from fastapi import Query as Params
from pydantic import Json
from starlette.requests import Request
from starlette.responses import JSONResponse

from mmsearch import api
from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, MMSearchError
from mmsearch.core.queries import Filters, Query, Term
from mmsearch.core.requests import SearchRequest, SearchResult
from mmsearch.core.types import Vectors
from mmsearch.server.batcher import Desk
from mmsearch.server.rate_limit import counted
from mmsearch.server.rendering import offset_of, search_answer
from mmsearch.server.schemas import (
    K_LIMIT,
    PAGE_LIMIT,
    URLS_LIMIT,
    BatchAnswer,
    BatchBody,
    EmbeddingsAnswer,
    FilterBody,
    SearchAnswer,
    SearchBody,
    SearchParams,
    Text,
    TextsBody,
)
from mmsearch.server.state import Service, TheDesk, TheService
from mmsearch.server.uploads import Upload, UploadRoute

router = APIRouter(tags=["search"], route_class=UploadRoute)

A_PICTURE = File(description="JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF.")

Picture = Annotated[Upload, A_PICTURE]


@router.post("/v1/indexes/{name}/search", response_model=SearchAnswer)
async def search(service: TheService, desk: TheDesk, body: SearchBody) -> JSONResponse:
    """Search by text, by pictures of the index or of the web, or by both."""
    return JSONResponse(await answer_search(service, desk, body))


@router.get("/v1/indexes/{name}/search", response_model=SearchAnswer)
async def search_by_url(
    service: TheService,
    desk: TheDesk,
    asked: Annotated[SearchParams, Params()],
) -> JSONResponse:
    """The same by a URL, with the most usual filters."""
    return JSONResponse(await answer_search(service, desk, asked.body()))


@router.post("/v1/indexes/{name}/search/batch", response_model=BatchAnswer)
async def search_batch(
    request: Request, service: TheService, desk: TheDesk, body: BatchBody
) -> JSONResponse:
    """Several searches; one that cannot be answered says so in its place."""
    counted(request, len(body.searches))

    async def one(search: SearchBody) -> dict[str, Any]:
        try:
            return await answer_search(service, desk, search)
        except MMSearchError as error:
            return {
                "type": "about:blank",
                "title": type(error).__name__,
                "status": error.http_status,
                "detail": str(error),
            }

    return JSONResponse({"answers": await asyncio.gather(*map(one, body.searches))})


@router.post("/v1/indexes/{name}/search/picture", response_model=SearchAnswer)
async def search_by_picture(
    service: TheService,
    desk: TheDesk,
    picture: Picture,
    *,
    query: Annotated[Text, Form(description="Text to go with it.")] = "",
    without: Annotated[list[Text], Form(alias="not", max_length=20)] = [],  # noqa: B006
    filters: Annotated[
        Json[FilterBody] | None,
        Form(description="As in a search, in JSON.", examples=['{"orientation": "portrait"}']),
    ] = None,
    mode: Annotated[Literal["vector", "text", "hybrid"] | None, Form()] = None,
    min_score: Annotated[float | None, Form(allow_inf_nan=False)] = None,
    min_confidence: Annotated[float | None, Form(ge=0, le=1, allow_inf_nan=False)] = None,
    limit: Annotated[int, Form(ge=1, le=PAGE_LIMIT)] = 20,
    cursor: Annotated[Text | None, Form()] = None,
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
    async with service.uploaded(picture) as path:
        answer = await answer_search(service, desk, body, [path])
    # Where it lay meanwhile is nobody's business.
    shown = answer["query"].replace(display_path(path), "(picture)")
    return JSONResponse(answer | {"query": shown})


@router.post("/v1/indexes/{name}/embeddings/texts", response_model=EmbeddingsAnswer)
async def embed_texts(request: Request, desk: TheDesk, body: TextsBody) -> JSONResponse:
    """The vectors of texts, as queries use them."""
    counted(request, len(body.texts))
    return JSONResponse(await _embedded(desk, [Term(text) for text in body.texts]))


@router.post("/v1/indexes/{name}/embeddings/picture", response_model=EmbeddingsAnswer)
async def embed_picture(
    service: TheService,
    desk: TheDesk,
    picture: Annotated[Upload | None, A_PICTURE] = None,
    url: Annotated[Text | None, Form(description="Of a picture, in place of one sent.")] = None,
) -> JSONResponse:
    """The vector of a picture that is sent, or that is at a URL if the server fetches it."""
    if picture is not None and url is None:
        async with service.uploaded(picture) as path:
            return JSONResponse(await _embedded(desk, [Term(image=path)]))
    if url is None or picture is not None:
        raise InvalidQueryError("One picture is encoded at a time.", "Send it, or name its URL.")
    async with service.fetched([url]) as files:
        return JSONResponse(await _embedded(desk, [Term(image=files[url])]))


async def answer_search(
    service: Service, desk: Desk, body: SearchBody, pictures: list[Path] | None = None
) -> dict[str, Any]:
    """A page of hits; see `SearchAnswer`.

    Args:
        service: Of the server.
        desk: Of the index.
        body: What is asked.
        pictures: Files that hits shall look like, besides what the query names.

    Raises:
        MMSearchError: It cannot be answered; the sentence says why.
    """
    offset = offset_of(body.cursor, K_LIMIT)
    limit = min(body.limit, K_LIMIT - offset)
    images = pictures or []
    query = api.parse_query(
        body.query,
        without=body.without,
        images=images,
        like=body.like,
        urls=body.like_url,
        filters=_filters(body.filters),
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
    k = min(offset + limit + 1, K_LIMIT)
    request = SearchRequest(query, k, body.min_score, body.min_confidence, body.explain)
    if any(term.url is not None for term in query.terms):
        return await _answer_fetched(service, desk, request, offset, limit)
    return _page(service, desk, await desk.search(request), offset, limit)


async def _answer_fetched(
    service: Service, desk: Desk, request: SearchRequest, offset: int, limit: int
) -> dict[str, Any]:
    async with _fetched(service, request.query) as (asked, urls):
        result = await desk.search(replace(request, query=asked))
    answer = _page(service, desk, result, offset, limit)
    for path, url in urls.items():
        answer["query"] = answer["query"].replace(display_path(path), f"image:{display_path(url)}")
    return answer


def _page(
    service: Service, desk: Desk, result: SearchResult, offset: int, limit: int
) -> dict[str, Any]:
    service.telemetry.note_search(desk.name, result)
    return search_answer(desk.name, result, offset, limit)


@asynccontextmanager
async def _fetched(service: Service, query: Query) -> AsyncIterator[tuple[Query, dict[Path, str]]]:
    """A query with files in the place of URLs, and which URL each was.

    Raises:
        InvalidQueryError: It names too many.
        MMSearchError: See `Service.fetched`.
    """
    urls = [term.url for term in query.terms if term.url is not None]
    if len(urls) > URLS_LIMIT:
        raise InvalidQueryError(
            f"The query names {len(urls)} pictures by URL; {URLS_LIMIT} are fetched at most."
        )
    async with service.fetched(urls) as files:
        terms = [
            term if term.url is None else Term(image=files[term.url], weight=term.weight)
            for term in query.terms
        ]
        yield replace(query, terms=tuple(terms)), {path: url for url, path in files.items()}


def _filters(body: FilterBody) -> Filters | None:
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


async def _embedded(desk: Desk, terms: list[Term]) -> dict[str, Any]:
    def work(index: api.Index) -> tuple[Vectors, Any]:
        return index.embed(terms), index.status().identity

    vectors, identity = await desk.ask(work)
    return {
        "encoder": identity.encoder.name,
        "fingerprint": identity.encoder.fingerprint,
        "dim": vectors.shape[1],
        "embeddings": vectors.tolist(),
    }
