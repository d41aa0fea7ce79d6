"""The page for people, and the form that lets their browsers in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Form, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mmsearch.core.errors import MMSearchError
from mmsearch.core.validation import validation_sentences
from mmsearch.server.assets import Asset
from mmsearch.server.auth import (
    LASTS_S,
    cookie_name,
    is_encrypted,
    is_token,
    knows_token,
    new_session,
)
from mmsearch.server.rendering import index_answer
from mmsearch.server.routes.search import answer_search
from mmsearch.server.schemas import SearchBody, SearchParams
from mmsearch.server.state import TheService

router = APIRouter(include_in_schema=False)

HITS = 40
"""Of a page of results."""

FOLDER = Path(__file__).parent.parent / "page"

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

STATIC = {
    path.name: Asset(path.read_bytes(), MEDIA_TYPES[path.suffix])
    for path in sorted(FOLDER.iterdir())
    if path.suffix in MEDIA_TYPES
}

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    # Without any referrer browsers hide where a form comes from, and the guard must know it.
    "Referrer-Policy": "same-origin",
}

LISTS = ("not", "like")
"""Fields that take several values, with commas between them."""

FILTERS = ("after", "before", "path", "min_width", "orientation", "camera")

FIELDS = ("q", *LISTS, "like_url", *FILTERS, "cursor")

_templates = Environment(
    loader=FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@router.get("/")
async def page(request: Request, service: TheService) -> HTMLResponse:
    """The search, with the hits of what its URL asks for."""
    if not knows_token(service.rules.token, request):
        return _form(request.url.query)
    names = service.desks.names()
    wanted = request.query_params.get("index", "")
    name = wanted if wanted in names or not names else names[0]
    fields = {field: ", ".join(request.query_params.getlist(field)) for field in FIELDS}
    shown = {
        "name": name,
        "names": names,
        "indexing": service.rules.indexing,
        "urls": service.rules.url_queries,
        "limit": HITS,
        "fields": fields,
        "filtered": any(fields[field].strip() for field in FILTERS),
        "answer": None,
        "problem": None,
        "index": None,
        "more": None,
    }
    status = 200
    try:
        desk = service.desks.desk(name)
        shown["index"] = index_answer(await desk.ask(lambda index: index.status()))
        if any(fields[field].strip() for field in ("q", "like", "like_url")):
            answer = await answer_search(service, desk, _body(fields))
            kept = {field: text for field, text in fields.items() if text.strip()}
            further = kept | {"index": name, "cursor": answer["next_cursor"]}
            shown["answer"] = answer
            shown["more"] = f"/?{urlencode(further)}" if answer["next_cursor"] else None
    except MMSearchError as error:
        shown["problem"], status = str(error), error.http_status
    except ValidationError as error:
        shown["problem"], status = f"{validation_sentences(error.errors())}.", 422
    return _rendered("page.html", shown, status)


@router.post("/session")
async def begin_session(
    request: Request,
    service: TheService,
    token: Annotated[str, Form(max_length=1000)] = "",
    search: Annotated[str, Form(max_length=20_000)] = "",
) -> Response:
    """Let a browser in whose user knows the token."""
    expected = service.rules.token
    if expected is not None and not is_token(expected, token.strip()):
        return _form(search, "That is not the token of this server.", 401)
    asked = urlencode(parse_qsl(search))
    answer = RedirectResponse(f"/?{asked}" if asked else "/", 303, {"Cache-Control": "no-store"})
    if expected is not None:
        answer.set_cookie(
            cookie_name(request),
            new_session(expected),
            max_age=LASTS_S,
            httponly=True,
            samesite="strict",
            secure=is_encrypted(request),
        )
    return answer


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    """The page's style and scripts."""
    if name not in STATIC:
        raise HTTPException(404)
    return STATIC[name].response(request)


def _body(fields: dict[str, str]) -> SearchBody:
    """A search from fields; empty ones say nothing.

    Raises:
        ValidationError: One holds what it cannot hold.
    """
    given: dict[str, Any] = {"limit": HITS}
    for field, text in fields.items():
        parts = [part for each in text.split(",") if (part := each.strip())]
        if parts:
            given[field] = parts if field in LISTS else text.strip()
    # A URL may hold commas: there is one.
    for field in ("path", "camera", "like_url"):
        if field in given:
            given[field] = [given[field]]
    return SearchParams.model_validate(given).body()


def _form(search: str, problem: str | None = None, status: int = 200) -> HTMLResponse:
    return _rendered("token.html", {"search": search, "problem": problem}, status)


def _rendered(template: str, shown: dict[str, Any], status: int = 200) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(shown), status, HEADERS)
