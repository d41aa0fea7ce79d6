"""Errors as RFC 9457 problem documents, with the same sentences as the command line."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Match

from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError, to_storage_error
from mmsearch.core.validation import (
    error_location,
    format_validation_error,
    format_validation_errors,
)
from mmsearch.server.forwarded import get_root_path
from mmsearch.server.schemas import REQUEST_FIELDS

PROBLEM_MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> JSONResponse:
    """Return a problem document as a response.

    Args:
        status: HTTP status of the response.
        detail: A sentence: what is wrong with which input, and what to do next.
        headers: Further headers of the response.
        **members: Further members of the document.
    """
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": display_path(detail),
        **members,
    }
    retry_headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    return JSONResponse(
        document, status, {**retry_headers, **(headers or {})}, media_type=PROBLEM_MEDIA_TYPE
    )


def install_error_handlers(app: FastAPI) -> None:
    """Make an application answer every error with a problem document."""
    for error_type in (MMSearchError, OSError, MemoryError, Exception):
        app.add_exception_handler(error_type, _handle_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)


def response_for_error(error: Exception) -> Response:
    """Return the problem document of an error; an unexpected one has status 500."""
    known_error = error if isinstance(error, MMSearchError) else to_storage_error(error)
    if known_error is None:
        return problem_response(
            500,
            f"Something unexpected went wrong: {type(error).__name__}."
            " See the server's log for details.",
        )
    return problem_response(
        known_error.http_status, known_error.served_text, kind=type(known_error).__name__
    )


async def _handle_error(request: Request, error: Exception) -> Response:
    return response_for_error(error)


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _method_not_allowed(request)
    if request.method == "OPTIONS" and request.scope["path"] == "*":
        # "OPTIONS *" asks about the server as a whole.
        return Response(status_code=204, headers={"Allow": ", ".join(METHODS)})
    if error.status_code == HTTPStatus.NOT_FOUND:
        redirect = _redirect_without_slash(request)
        if redirect is not None:
            return redirect
        return problem_response(
            404, f"There is nothing at {request.scope['path'][:200]}.", error.headers
        )
    return problem_response(error.status_code, str(error.detail), error.headers)


def _redirect_without_slash(request: Request) -> Response | None:
    """Return a redirect to the path without slashes at its end if only that path exists.

    Its location has no host, because the one that a proxy requests is not that of the client.
    """
    path = request.scope["path"].rstrip("/")
    scope = {**request.scope, "path": path}
    if path == request.scope["path"] or all(
        route.matches(scope)[0] is Match.NONE for route in request.app.router.routes
    ):
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(quote(path) + query)


def _method_not_allowed(request: Request) -> Response:
    """Return 405, or 204 for OPTIONS, with the methods of all routes that match the path."""
    scope, routes = request.scope, request.app.router.routes
    route_methods = {
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    }
    # Every GET route answers HEAD as well, and OPTIONS is answered below.
    route_methods |= {"OPTIONS"} | ({"HEAD"} if "GET" in route_methods else set())
    allow_header = ", ".join(method for method in METHODS if method in route_methods)
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allow_header})
    return problem_response(
        405, f"{request.method} is not allowed here. Use {allow_header}.", {"Allow": allow_header}
    )


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    expected = _expected_media_type(request)
    if expected is not None:
        return problem_response(
            415, f"The body is not {expected}. Send it in that format.", {"Accept": expected}
        )
    validation_errors = error.errors()
    sentence = f"{format_validation_errors(validation_errors, REQUEST_FIELDS)}."
    return problem_response(
        422,
        f"{sentence} See {get_root_path(request.scope)}/openapi.json.",
        errors=[
            {"where": error_location(item), "what": format_validation_error("it", item)}
            for item in validation_errors
        ],
    )


def _expected_media_type(request: Request) -> str | None:
    """Return the media type that a route reads if the request declares another one, else None."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = getattr(request.scope.get("route"), "body_field", None)
    if not content_type or body is None:
        return None
    if isinstance(body.field_info, Form):
        form_types = ("multipart/form-data", "application/x-www-form-urlencoded")
        return None if content_type in form_types else form_types[0]
    is_json = content_type == "application/json" or content_type.endswith("+json")
    return None if is_json else "application/json"
