"""Errors as RFC 9457 problem documents, with the sentences of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Form
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError
from mmsearch.core.io_errors import readable_os_error
from mmsearch.core.validation import place_of, validation_sentence, validation_sentences

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> JSONResponse:
    """A problem document.

    Args:
        status: Of the response.
        detail: A sentence: what is wrong with which input, and what to do next.
        headers: Of the response.
        **members: Further members of the document.
    """
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": display_path(detail),
        **members,
    }
    waits = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    return JSONResponse(document, status, {**waits, **(headers or {})}, media_type=MEDIA_TYPE)


def tell_problems(app: FastAPI) -> None:
    """Let every error of an application end as a problem document."""
    app.add_exception_handler(MMSearchError, _known)
    for refused in (OSError, MemoryError):
        app.add_exception_handler(refused, _refused)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(Exception, _unknown)


def known_problem(error: MMSearchError) -> Response:
    """What is wrong, in the error's own sentence."""
    return problem(error.http_status, str(error), kind=type(error).__name__)


def problem_of(error: Exception) -> Response:
    """What is wrong, for any error."""
    known = error if isinstance(error, MMSearchError) else readable_os_error(error)
    return unknown_problem(error) if known is None else known_problem(known)


def unknown_problem(error: Exception) -> Response:
    """A fault of ours."""
    return problem(
        500,
        f"Something went wrong that should not: {type(error).__name__}."
        " The server's log says more.",
    )


async def _known(request: Request, error: Exception) -> Response:
    if not isinstance(error, MMSearchError):
        raise error
    return known_problem(error)


async def _refused(request: Request, error: Exception) -> Response:
    return problem_of(error)


async def _of_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _not_allowed(request)
    if request.method == "OPTIONS" and request.scope["path"] == "*":
        # The server as a whole.
        return Response(status_code=204, headers={"Allow": ", ".join(METHODS)})
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(404, f"Nothing is at {request.scope['path'][:200]}.", error.headers)
    return problem(error.status_code, str(error.detail), error.headers)


def _not_allowed(request: Request) -> Response:
    """Say which methods a path has, in whichever routers its routes are."""
    scope, routes = request.scope, request.app.router.routes
    known = {
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    }
    # Every GET is answered to HEAD, too, and this is the answer to OPTIONS.
    known |= {"OPTIONS"} | ({"HEAD"} if "GET" in known else set())
    allowed = ", ".join(method for method in METHODS if method in known)
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allowed})
    return problem(
        405, f"{request.method} is not answered here; {allowed} are.", {"Allow": allowed}
    )


async def _of_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    expected = _expected_media_type(request)
    if expected is not None:
        return problem(415, f"The body is not {expected}; send it as that.", {"Accept": expected})
    found = error.errors()
    return problem(
        422,
        f"{validation_sentences(found)}. See /openapi.json.",
        errors=[
            {"where": place_of(each), "what": validation_sentence("it", each)} for each in found
        ],
    )


def _expected_media_type(request: Request) -> str | None:
    """Return what a route reads, if the request says that its body is something else."""
    said = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = getattr(request.scope.get("route"), "body_field", None)
    if not said or body is None:
        return None
    if isinstance(body.field_info, Form):
        forms = ("multipart/form-data", "application/x-www-form-urlencoded")
        return None if said in forms else forms[0]
    is_json = said == "application/json" or said.endswith("+json")
    return None if is_json else "application/json"


async def _unknown(request: Request, error: Exception) -> Response:
    return unknown_problem(error)
