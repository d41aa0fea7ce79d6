"""Routes of the web page and its login form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Form, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mmsearch.core.display import (
    WEAKER_MATCHES,
    divider_position,
    format_match,
    format_position,
)
from mmsearch.core.errors import MMSearchError
from mmsearch.core.facets import FACET_FIELDS
from mmsearch.core.filters import FILTERS
from mmsearch.core.server_results import IndexSummary
from mmsearch.core.sorting import SORTS
from mmsearch.core.validation import format_validation_errors
from mmsearch.server.assets import Asset
from mmsearch.server.auth import (
    SESSION_LIFETIME_S,
    cookie_name,
    create_session,
    is_authenticated,
    is_https,
    token_matches,
)
from mmsearch.server.forwarded import get_root_path
from mmsearch.server.routes.search import run_search
from mmsearch.server.schemas import REQUEST_FIELDS, SearchBody, SearchParams
from mmsearch.server.state import StateDep

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 40
"""Number of hits per page of results."""

PAGE_DIR = Path(__file__).parent.parent / "page"

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

STATIC_ASSETS = {
    path.name: Asset(path.read_bytes(), MEDIA_TYPES[path.suffix])
    for path in sorted(PAGE_DIR.iterdir())
    if path.suffix in MEDIA_TYPES
}

PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "media-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    # With no-referrer, browsers send no origin with a form, and the origin check needs it.
    "Referrer-Policy": "same-origin",
}

SEARCH_PAGE_HEADERS = PAGE_HEADERS | {
    "Permissions-Policy": "camera=(), microphone=(self), geolocation=()"
}
"""Headers of the search page, which may ask for the microphone."""

LIST_FIELDS = ("not", "like", "unlike", "literal_words")

SEPARATORS = {"not": ",", "like": ",", "unlike": ",", "literal_words": "\n"} | {
    spec.name: ";" for spec in FILTERS if spec.multiple
}
"""Separators of the values of fields that take several; words and paths may contain commas."""

FILTER_FIELDS = tuple(spec.name for spec in FILTERS)

FIELDS = ("q", *LIST_FIELDS, "like_url", *FILTER_FIELDS, "fold", "literal", "sort", "cursor")

_templates = Environment(
    loader=FileSystemLoader(PAGE_DIR),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["format_position"] = format_position


@router.get("/")
async def page(request: Request, server_state: StateDep) -> HTMLResponse:
    """Return the search page with the hits for the query in its URL, or the login form."""
    if not is_authenticated(server_state.config.token, request):
        return _render_login(request, request.url.query)
    names = server_state.index_pool.names()
    requested_name = request.query_params.get("index", "")
    name = requested_name if requested_name in names or not names else names[0]
    fields = {
        field: SEPARATORS.get(field, ", ").join(request.query_params.getlist(field))
        for field in FIELDS
    }
    root_path = get_root_path(request.scope)
    context = {
        "name": name,
        "names": names,
        "indexing": server_state.config.allow_indexing,
        "urls": server_state.config.allow_url_queries,
        "speech": server_state.speech.is_available,
        "limit": PAGE_SIZE,
        "fields": fields,
        "filters": FILTERS,
        "facets": FACET_FIELDS,
        "sorts": SORTS,
        "filtered": any(fields[field].strip() for field in FILTER_FIELDS),
        "answer": None,
        "problem": None,
        "index": None,
        "more": None,
        "weaker": WEAKER_MATCHES,
    }
    status = 200
    try:
        worker = server_state.index_pool.worker(name)
        index_status = await worker.run(lambda index: index.status())
        context["index"] = IndexSummary.from_status(index_status).to_dict()
        if any(fields[field].strip() for field in ("q", "like", "like_url", *FILTER_FIELDS)):
            answer = await run_search(server_state, worker, _parse_search_body(fields), root_path)
            non_empty = {field: text for field, text in fields.items() if text.strip()}
            next_page_params = non_empty | {"index": name, "cursor": answer["next_cursor"]}
            address = {key: text for key, text in next_page_params.items() if key != "cursor"}
            context |= {"answer": answer, **_describe_match(answer, address)}
            if answer["next_cursor"]:
                context["more"] = f"{root_path}/?{urlencode(next_page_params)}"
    except MMSearchError as error:
        context["problem"], status = error.served_text, error.http_status
    except ValidationError as error:
        context["problem"], status = (
            f"{format_validation_errors(error.errors(), REQUEST_FIELDS)}.",
            422,
        )
    return _render(request, "page.html", context, status, SEARCH_PAGE_HEADERS)


@router.get("/docs")
async def api_reference(request: Request, server_state: StateDep) -> HTMLResponse:
    """Return the reference of the HTTP API as a page, or the login form."""
    if not is_authenticated(server_state.config.token, request):
        return _render_login(request, "")
    return _render(request, "docs.html", {"document": request.app.openapi()})


@router.post("/session")
async def begin_session(
    request: Request,
    server_state: StateDep,
    token: Annotated[str, Form(max_length=1000)] = "",
    search: Annotated[str, Form(max_length=20_000)] = "",
) -> Response:
    """Log a browser in: check the token and set the session cookie."""
    expected_token = server_state.config.token
    if expected_token is not None and not token_matches(expected_token, token.strip()):
        return _render_login(request, search, "That is not the token of this server.", 401)
    root_path = get_root_path(request.scope)
    query_string = urlencode(parse_qsl(search))
    location = f"{root_path}/?{query_string}" if query_string else f"{root_path}/"
    answer = RedirectResponse(location, 303, {"Cache-Control": "no-store"})
    if expected_token is not None:
        answer.set_cookie(
            cookie_name(request),
            create_session(expected_token),
            max_age=SESSION_LIFETIME_S,
            path=root_path or "/",
            httponly=True,
            samesite="strict",
            secure=is_https(request),
        )
    return answer


@router.get("/static/{name}")
async def serve_static(request: Request, name: str) -> Response:
    """Return a static file of the page."""
    if name not in STATIC_ASSETS:
        raise HTTPException(404)
    return STATIC_ASSETS[name].response(request)


def _parse_search_body(fields: dict[str, str]) -> SearchBody:
    """Return the search of form fields; empty fields are ignored.

    Raises:
        ValidationError: A field has an invalid value.
    """
    values: dict[str, Any] = {"limit": PAGE_SIZE}
    for field, text in fields.items():
        items = [item for each in text.split(SEPARATORS.get(field, ",")) if (item := each.strip())]
        if items:
            values[field] = items if field in SEPARATORS else text.strip()
    if "like_url" in values:
        values["like_url"] = [values["like_url"]]
    return SearchParams.model_validate(values).to_search_body()


def _describe_match(answer: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the label of each hit, the position of the divider, and what stands above the hits.

    Args:
        answer: A search result as a JSON object.
        fields: The fields of the form that are not empty except the cursor, and the index.
    """
    hits, calibrated = answer["hits"], answer["calibrated"]
    labels = [format_match(hit["band"], hit["confidence"], calibrated=calibrated) for hit in hits]
    ranked = fields.get("sort", "score") == "score"
    guesses = [n["text"] for n in answer["notices"] if n["code"] == "best_guesses"]
    if not guesses and answer["match"] == "unlikely" and calibrated:
        guesses = ["No good matches. Closest results:"]
    return {
        "labels": labels,
        "divider": divider_position([hit["rank"] for hit in hits], labels) if ranked else None,
        "nothing": guesses[0] if hits and guesses else "",
        "notices": [
            (n["text"], n["suggestion"] and urlencode({**fields, "q": n["suggestion"]}))
            for n in answer["notices"]
            if n["code"] != "best_guesses"
        ],
        "understood": [
            (chip["label"], urlencode({**fields, "literal_words": _add_words(fields, chip)}))
            for chip in (answer["understood"] or {}).get("chips", ())
        ],
    }


def _add_words(fields: Mapping[str, str], chip: Mapping[str, str]) -> str:
    """Return the words that are not read, with those of a chip among them."""
    name = "literal_words"
    return SEPARATORS[name].join(filter(None, (fields.get(name), chip["words"])))


def _render_login(
    request: Request, search: str, problem: str | None = None, status: int = 200
) -> HTMLResponse:
    return _render(request, "token.html", {"search": search, "problem": problem}, status)


def _render(
    request: Request,
    template: str,
    context: dict[str, Any],
    status: int = 200,
    headers: Mapping[str, str] = PAGE_HEADERS,
) -> HTMLResponse:
    content = _templates.get_template(template).render(context, root=get_root_path(request.scope))
    return HTMLResponse(content, status, headers)
