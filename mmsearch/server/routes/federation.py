"""Routes that search several indexes as one."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Form
from fastapi import Query as QueryParams
from starlette.responses import JSONResponse

from mmsearch.core.facets import Facets
from mmsearch.core.federated_ids import parse_picture, split_id
from mmsearch.core.results import SearchPage
from mmsearch.core.speech import SpokenSearchPage
from mmsearch.core.suggestions import DEFAULT_LIMIT
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.federated_schemas import (
    FederatedFacetsBody,
    FederatedFacetsParams,
    FederatedLikeList,
    FederatedSearchBody,
    FederatedSearchParams,
    FederatedUnlikeList,
    IndexNames,
)
from mmsearch.server.route_classes import UploadRoute
from mmsearch.server.routes.facets import run_facets
from mmsearch.server.routes.search import (
    Picture,
    PictureQuery,
    Recording,
    SpokenLanguage,
    read_search_form,
    run_search,
    search_recording,
    search_upload,
)
from mmsearch.server.routes.suggestions import Kinds, Limit, Prefix, answer_suggestions
from mmsearch.server.schemas import SuggestionsAnswer
from mmsearch.server.state import RootPathDep, ServerState, StateDep

router = APIRouter(tags=["search"], route_class=UploadRoute)

Body = TypeVar("Body", FederatedSearchBody, FederatedFacetsBody)

FORM_FIELDS = {"indexes": IndexNames, "like": FederatedLikeList, "unlike": FederatedUnlikeList}
"""Fields of a form that are other ones than in a search of one index."""


def read_federated_form(**fields: Any) -> FederatedSearchBody:
    """Return the search of the fields that accompany an upload, without a query."""
    own = {name: fields.pop(name) for name in FORM_FIELDS}
    body = read_search_form(**fields).model_dump(by_alias=True, exclude_unset=True)
    return FederatedSearchBody.model_validate(body | own)


def _add_form_fields() -> Signature:
    """Return the parameters of `read_federated_form`, which FastAPI reads."""
    others = signature(read_search_form, eval_str=True).parameters.values()
    own = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=[], annotation=Annotated[field, Form()])
        for name, field in FORM_FIELDS.items()
    ]
    return Signature([*(each for each in others if each.name not in FORM_FIELDS), *own])


read_federated_form.__signature__ = _add_form_fields()  # type: ignore[attr-defined]

FederatedForm = Annotated[FederatedSearchBody, Depends(read_federated_form)]


@router.post("/v1/search", response_model=SearchPage)
async def search_indexes(
    server_state: StateDep, body: FederatedSearchBody, root_path: RootPathDep
) -> JSONResponse:
    """Search several indexes as one; each hit names its index."""
    worker, body = _find_indexes(server_state, body)
    return JSONResponse(await run_search(server_state, worker, body, root_path))


@router.get("/v1/search", response_model=SearchPage)
async def search_indexes_by_url(
    server_state: StateDep,
    params: Annotated[FederatedSearchParams, QueryParams()],
    root_path: RootPathDep,
) -> JSONResponse:
    """Search several indexes as one, with URL parameters."""
    worker, body = _find_indexes(server_state, params.to_search_body())
    return JSONResponse(await run_search(server_state, worker, body, root_path))


@router.post("/v1/search/picture", response_model=SearchPage)
async def search_indexes_by_picture(
    server_state: StateDep,
    picture: Picture,
    root_path: RootPathDep,
    form: FederatedForm,
    *,
    query: PictureQuery = "",
) -> JSONResponse:
    """Search several indexes by an uploaded picture, with or without text."""
    worker, form = _find_indexes(server_state, form)
    body = form.model_copy(update={"query": query})
    return JSONResponse(await search_upload(server_state, worker, picture, body, root_path))


@router.post("/v1/search/speech", response_model=SpokenSearchPage)
async def search_indexes_by_speech(
    server_state: StateDep,
    speech: Recording,
    root_path: RootPathDep,
    form: FederatedForm,
    *,
    language: SpokenLanguage = None,
) -> JSONResponse:
    """Search several indexes by an uploaded recording, whose words are taken literally."""
    worker, form = _find_indexes(server_state, form)
    answer = await search_recording(server_state, worker, speech, form, root_path, language)
    return JSONResponse(answer)


@router.post("/v1/facets", response_model=Facets)
async def count_facets_of_indexes(
    server_state: StateDep, body: FederatedFacetsBody
) -> JSONResponse:
    """Count the pictures of several indexes by year, place, camera and other fields."""
    worker, body = _find_indexes(server_state, body)
    return JSONResponse(await run_facets(server_state, worker, body))


@router.get("/v1/facets", response_model=Facets)
async def count_facets_of_indexes_by_url(
    server_state: StateDep, params: Annotated[FederatedFacetsParams, QueryParams()]
) -> JSONResponse:
    """Count the pictures of several indexes, given by URL parameters."""
    worker, body = _find_indexes(server_state, params.to_facets_body())
    return JSONResponse(await run_facets(server_state, worker, body))


@router.get("/v1/suggest", response_model=SuggestionsAnswer)
async def suggest_from_indexes(
    server_state: StateDep,
    *,
    q: Prefix = "",
    limit: Limit = DEFAULT_LIMIT,
    kind: Kinds = [],  # noqa: B006 - FastAPI copies it
    indexes: Annotated[IndexNames, QueryParams()] = [],  # noqa: B006 - as above
) -> JSONResponse:
    """Complete what somebody types with words that one of several indexes can answer."""
    worker, _ = server_state.index_pool.federation(indexes)
    return await answer_suggestions(worker, q, limit, kind)


def _find_indexes(server_state: ServerState, body: Body) -> tuple[IndexWorker, Body]:
    """Return the worker of the indexes of a request, and the request with ids for it."""
    worker, names = server_state.index_pool.federation(body.indexes)
    ids = {
        option: [_parse_id(text, names) for text in getattr(body, option)]
        for option in ("like", "unlike")
    }
    return worker, body.model_copy(update=ids)


def _parse_id(text: str, names: Sequence[str]) -> int:
    if len(names) > 1:
        return parse_picture(text, names)
    # The only index answers itself, with its own ids.
    return split_id(parse_picture(text if ":" in text else f"{names[0]}:{text}", names))[1]
