"""Routes of suggestions, for search boxes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi import Query as QueryParams
from starlette.responses import JSONResponse

from mmsearch.core.suggestions import DEFAULT_LIMIT, MAX_LIMIT, SuggestionKind
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.schemas import BoundedText, SuggestionsAnswer
from mmsearch.server.state import StateDep, WorkerDep

router = APIRouter(tags=["search"])

Prefix = Annotated[
    BoundedText,
    QueryParams(description="What was typed; empty for the most useful words.", examples=["be"]),
]
Limit = Annotated[int, QueryParams(ge=1, le=MAX_LIMIT, description="Maximum number of them.")]
Kinds = Annotated[
    list[SuggestionKind], QueryParams(description="Kinds of suggestions; default: all.")
]

MAX_AGE_S = 10
"""Seconds that a browser may keep suggestions."""


@router.get("/v1/indexes/{name}/suggest", response_model=SuggestionsAnswer)
async def suggest(
    worker: WorkerDep,
    *,
    q: Prefix = "",
    limit: Limit = DEFAULT_LIMIT,
    kind: Kinds = [],  # noqa: B006 - FastAPI copies it
) -> JSONResponse:
    """Complete what somebody types with words that the library can answer."""
    return await answer_suggestions(worker, q, limit, kind)


@router.get("/suggest", response_model=SuggestionsAnswer)
async def suggest_of_page(
    server_state: StateDep,
    *,
    q: Prefix = "",
    limit: Limit = DEFAULT_LIMIT,
    kind: Kinds = [],  # noqa: B006 - as above
    index: Annotated[
        BoundedText, QueryParams(description="Name of the index; default: that of the page.")
    ] = "",
) -> JSONResponse:
    """Complete what somebody types on the page, which shows the first index by default."""
    pool = server_state.index_pool
    names = pool.names()
    worker = pool.worker(index or (names[0] if names else "default"))
    return await answer_suggestions(worker, q, limit, kind)


async def answer_suggestions(
    worker: IndexWorker, prefix: str, limit: int, kinds: list[SuggestionKind]
) -> JSONResponse:
    """Return the suggestions of an index, or of several."""
    found = await worker.run(lambda index: index.suggest(prefix, limit, kinds=kinds))
    return JSONResponse(
        {"suggestions": [suggestion.to_dict() for suggestion in found]},
        headers={"Cache-Control": f"private, max-age={MAX_AGE_S}"},
    )
