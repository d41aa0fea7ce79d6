"""Routes for searching and for computing embeddings."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, HTTPException
from fastapi import Query as QueryParams
from pydantic import Json
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mmsearch import api
from mmsearch.core.cursors import cursor_position, decode_cursor
from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, MMSearchError
from mmsearch.core.filters import FILTERS, Filters
from mmsearch.core.query import HITS_LIMIT, PAGE_LIMIT, Query, SearchRequest, Term
from mmsearch.core.results import SearchPage
from mmsearch.core.speech import MAX_SOUND_BYTES, SpokenSearchPage, Transcript
from mmsearch.core.types import Vectors
from mmsearch.search.query_parser import quote_text
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.rate_limit import charge
from mmsearch.server.rendering import render_search
from mmsearch.server.route_classes import SearchRoute, Upload, UploadRoute
from mmsearch.server.schemas import (
    CLICKS_LIMIT,
    METADATA_PREFIX,
    URLS_LIMIT,
    BatchAnswer,
    BatchBody,
    BoundedText,
    EmbeddingsAnswer,
    FilterBody,
    FoldOption,
    LiteralOption,
    QueryBody,
    SearchBody,
    SearchParams,
    SortOrder,
    TextsBody,
)
from mmsearch.server.state import RootPathDep, ServerState, StateDep, WorkerDep

router = APIRouter(tags=["search"], route_class=UploadRoute)

PICTURE_FILE = File(description="JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF.")

Picture = Annotated[Upload, PICTURE_FILE]
PictureQuery = Annotated[BoundedText, Form(description="Query text to combine with the picture.")]
Recording = Annotated[
    Upload, File(description="A recording of at most 60 seconds: WebM, MPEG-4, Ogg, WAV, MP3.")
]
SpokenLanguage = Annotated[
    str | None,
    Form(
        min_length=2,
        max_length=10,
        description="Code of the language that is spoken; default: detected.",
        examples=["en"],
    ),
]


async def search(
    server_state: StateDep, worker: WorkerDep, body: SearchBody, root_path: RootPathDep
) -> Response:
    """Search by text, by pictures of the index or of the web, or by a combination."""
    content = to_json(await run_search(server_state, worker, body, root_path))
    return Response(content, media_type="application/json")


router.add_api_route(
    "/v1/indexes/{name}/search",
    search,
    methods=["POST"],
    response_model=SearchPage,
    route_class_override=SearchRoute,
)


@router.get("/v1/indexes/{name}/search", response_model=SearchPage)
async def search_by_url(
    server_state: StateDep,
    worker: WorkerDep,
    params: Annotated[SearchParams, QueryParams()],
    root_path: RootPathDep,
) -> JSONResponse:
    """Search with URL parameters, including filters."""
    body = params.to_search_body()
    return JSONResponse(await run_search(server_state, worker, body, root_path))


@router.post("/v1/indexes/{name}/search/batch", response_model=BatchAnswer)
async def search_batch(
    request: Request,
    server_state: StateDep,
    worker: WorkerDep,
    body: BatchBody,
    root_path: RootPathDep,
) -> JSONResponse:
    """Run several searches; a failed one has a problem in place of its answer."""
    charge(request, len(body.searches))

    async def search_one(search: SearchBody) -> dict[str, Any]:
        try:
            return await run_search(server_state, worker, search, root_path)
        except MMSearchError as error:
            return {
                "type": "about:blank",
                "title": type(error).__name__,
                "status": error.http_status,
                "detail": error.served_text,
                "kind": type(error).__name__,
            }

    return JSONResponse({"answers": await asyncio.gather(*map(search_one, body.searches))})


def read_search_form(
    *,
    without: Annotated[list[BoundedText], Form(alias="not", max_length=20)] = [],  # noqa: B006
    like: Annotated[list[int], Form(max_length=CLICKS_LIMIT)] = [],  # noqa: B006
    unlike: Annotated[list[int], Form(max_length=CLICKS_LIMIT)] = [],  # noqa: B006
    filters: Annotated[
        Json[FilterBody] | None,
        Form(
            description="Filters as in a search, as JSON.", examples=['{"orientation": "portrait"}']
        ),
    ] = None,
    mode: Annotated[Literal["vector", "text", "hybrid"] | None, Form()] = None,
    min_score: Annotated[float | None, Form(allow_inf_nan=False)] = None,
    min_confidence: Annotated[float | None, Form(ge=0, le=1, allow_inf_nan=False)] = None,
    sort: Annotated[SortOrder, Form()] = "score",
    fold: Annotated[FoldOption, Form()] = True,
    literal: Annotated[LiteralOption, Form()] = False,
    literal_words: Annotated[list[BoundedText], Form(max_length=20)] = [],  # noqa: B006
    limit: Annotated[int, Form(ge=1, le=PAGE_LIMIT)] = 20,
    cursor: Annotated[BoundedText | None, Form()] = None,
) -> SearchBody:
    """Return the search of the fields that accompany an upload, without a query."""
    return SearchBody.model_validate(
        {
            "not": without,
            "like": like,
            "unlike": unlike,
            "filters": filters or {},
            "mode": mode,
            "min_score": min_score,
            "min_confidence": min_confidence,
            "sort": sort,
            "fold": fold,
            "literal": literal,
            "literal_words": literal_words,
            "limit": limit,
            "cursor": cursor,
        }
    )


SearchForm = Annotated[SearchBody, Depends(read_search_form)]


@router.post("/v1/indexes/{name}/search/picture", response_model=SearchPage)
async def search_by_picture(
    server_state: StateDep,
    worker: WorkerDep,
    picture: Picture,
    root_path: RootPathDep,
    form: SearchForm,
    *,
    query: PictureQuery = "",
) -> JSONResponse:
    """Search by an uploaded picture, with or without text."""
    body = form.model_copy(update={"query": query})
    return JSONResponse(await search_upload(server_state, worker, picture, body, root_path))


@router.post("/v1/indexes/{name}/search/speech", response_model=SpokenSearchPage)
async def search_by_speech(
    server_state: StateDep,
    worker: WorkerDep,
    speech: Recording,
    root_path: RootPathDep,
    form: SearchForm,
    *,
    language: SpokenLanguage = None,
) -> JSONResponse:
    """Search by an uploaded recording of a spoken description, which is taken literally."""
    answer = await search_recording(server_state, worker, speech, form, root_path, language)
    return JSONResponse(answer)


@router.post("/v1/indexes/{name}/embeddings/texts", response_model=EmbeddingsAnswer)
async def embed_texts(request: Request, worker: WorkerDep, body: TextsBody) -> JSONResponse:
    """Return the embeddings of texts, computed as for queries."""
    charge(request, len(body.texts))
    return JSONResponse(await _embed(worker, [Term(text) for text in body.texts]))


@router.post("/v1/indexes/{name}/embeddings/picture", response_model=EmbeddingsAnswer)
async def embed_picture(
    server_state: StateDep,
    worker: WorkerDep,
    picture: Annotated[Upload | None, PICTURE_FILE] = None,
    url: Annotated[
        BoundedText | None, Form(description="URL of a picture, instead of an upload.")
    ] = None,
) -> JSONResponse:
    """Return the embedding of an uploaded picture, or of one at a URL if the server allows it."""
    if picture is not None and url is None:
        async with server_state.save_upload(picture) as path:
            return JSONResponse(await _embed(worker, [Term(image=path)]))
    if url is None or picture is not None:
        raise InvalidQueryError(
            "The request needs exactly one picture.", "Upload it, or give its URL."
        )
    async with server_state.fetch_images([url]) as files:
        return JSONResponse(await _embed(worker, [Term(image=files[url])]))


async def run_search(
    server_state: ServerState,
    worker: IndexWorker,
    body: SearchBody,
    root_path: str,
    picture_paths: list[Path] | None = None,
    transcript: Transcript | None = None,
) -> dict[str, Any]:
    """Run a search, and return one page of hits; see `SearchPage`.

    Args:
        server_state: State of the server.
        worker: Worker of the index.
        body: The search request.
        root_path: Path below which the client sees the server, for the links of hits.
        picture_paths: Files of pictures to search by, in addition to those in the query.
        transcript: Words to search for, in place of the query.

    Raises:
        MMSearchError: The search is invalid or fails.
    """
    offset = cursor_position(body.cursor, HITS_LIMIT)
    limit = min(body.limit, HITS_LIMIT - offset)
    images = picture_paths or []
    query = make_query(body, images, transcript)
    if not body.explain and body.min_confidence is not None:
        raise InvalidQueryError(
            "min_confidence cannot be used when explain is false.", "Omit one of them."
        )
    # One hit beyond the page shows if there is a next page.
    k = min(offset + limit + 1, HITS_LIMIT)
    request = SearchRequest(
        query,
        k,
        body.min_score,
        body.min_confidence,
        body.explain,
        fold=body.fold,
        literal=body.literal,
        literal_words=tuple(body.literal_words),
    )
    async with fetch_query_pictures(server_state, query) as (fetched, urls):
        request = replace(request, query=fetched)
        query_key = await _make_query_key(server_state, worker.name, request)
        decode_cursor(body.cursor, query_key, HITS_LIMIT)
        result = await worker.search(request)
    server_state.metrics.observe_search(worker.name, result)
    answer = render_search(worker.name, result, offset, limit, query_key, root_path, body.sort)
    for path, url in urls.items():
        answer["query"] = answer["query"].replace(display_path(path), f"image:{display_path(url)}")
    return answer


async def search_upload(
    server_state: ServerState,
    worker: IndexWorker,
    picture: Upload,
    body: SearchBody,
    root_path: str,
) -> dict[str, Any]:
    """Search by an uploaded picture and a query; see `run_search`."""
    async with server_state.save_upload(picture) as path:
        answer = await run_search(server_state, worker, body, root_path, [path])
    # Do not reveal the path of the temporary file.
    return answer | {"query": answer["query"].replace(display_path(path), "(picture)")}


async def search_recording(
    server_state: ServerState,
    worker: IndexWorker,
    speech: Upload,
    body: SearchBody,
    root_path: str,
    language: str | None,
) -> dict[str, Any]:
    """Search by the words of an uploaded recording; see `run_search`."""
    content = await speech.read(MAX_SOUND_BYTES + 1)
    if len(content) > MAX_SOUND_BYTES:
        raise HTTPException(413, f"The recording is larger than {MAX_SOUND_BYTES / 1e6:g} MB.")
    transcript = await server_state.speech.listen(content, language)
    answer = await run_search(server_state, worker, body, root_path, transcript=transcript)
    return answer | {"query": quote_text(transcript.text), "heard": transcript.heard.to_dict()}


def make_query(
    body: QueryBody, images: Sequence[Path] = (), transcript: Transcript | None = None
) -> Query:
    """Return the query of a request, whose URLs are not fetched yet.

    Args:
        body: The request.
        images: Files of pictures to search by, in addition to those in the query.
        transcript: Words to search for, in place of the query.

    Raises:
        InvalidQueryError: The query is invalid, or names a file.
    """
    query = api.parse_query(
        transcript or body.query,
        without=body.without,
        images=images,
        like=body.like,
        unlike=body.unlike,
        urls=body.like_url,
        filters=parse_filters(body.filters),
        mode=body.mode,
        blend=body.blend,
        prompts=body.prompts,
    )
    if any(term.image is not None and term.image not in images for term in query.terms):
        raise InvalidQueryError(
            "A query over HTTP cannot name files.", "Upload the picture, or give its id in 'like'."
        )
    return query


async def _make_query_key(server_state: ServerState, index: str, request: SearchRequest) -> str:
    """Return a text that is different for each query: its cursors are valid for no other one.

    A picture counts by its content, so that the next page may be asked for with another copy of it.
    """
    images = [term.image for term in request.query.terms if term.image is not None]
    digests = {}
    if images:
        digests = await server_state.run_in_thread(lambda: {path: _digest(path) for path in images})
    terms = [
        (term.text, term.weight, term.picture, term.image and digests[term.image])
        for term in request.query.terms
    ]
    literal_words = [term.literal_words for term in request.query.terms]
    query = replace(request.query, terms=())
    limits = (request.min_score, request.min_confidence, request.fold, request.literal)
    return repr((index, terms, literal_words, query, limits, request.literal_words))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


@asynccontextmanager
async def fetch_query_pictures(
    server_state: ServerState, query: Query
) -> AsyncIterator[tuple[Query, dict[Path, str]]]:
    """Fetch the pictures of a query; yield it with files instead of URLs, and the URL of each file.

    Raises:
        InvalidQueryError: The query names too many URLs.
        MMSearchError: See `ServerState.fetch_images`.
    """
    urls = [term.url for term in query.terms if term.url is not None]
    if len(urls) > URLS_LIMIT:
        raise InvalidQueryError(
            f"The query names {len(urls)} pictures by URL; the maximum is {URLS_LIMIT}."
        )
    async with server_state.fetch_images(urls) as files:
        terms = [
            term if term.url is None else Term(image=files[term.url], weight=term.weight)
            for term in query.terms
        ]
        yield replace(query, terms=tuple(terms)), {path: url for url, path in files.items()}


def parse_filters(body: FilterBody) -> Filters | None:
    """Return the filters of a request; None without any."""
    # Skip parsing for searches without filters, which are the most common.
    if not body.model_fields_set:
        return None
    on_metadata = {f"{METADATA_PREFIX}{name}": value for name, value in body.metadata.items()}
    values = {spec.keyword: getattr(body, spec.name) for spec in FILTERS}
    return api.parse_filters(**values, **on_metadata)


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
