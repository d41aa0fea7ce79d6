"""Errors as RFC 9457 problem documents, with the sentences of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1


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
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(Exception, _unknown)


def known_problem(error: MMSearchError) -> Response:
    """What is wrong, in the error's own sentence."""
    return problem(error.http_status, str(error), kind=type(error).__name__)


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


async def _of_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return problem(error.status_code, str(error.detail), error.headers)


async def _of_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    found = [
        {"where": ".".join(str(part) for part in each["loc"]), "what": each["msg"]}
        for each in error.errors()
    ]
    said = "; ".join(f"{each['where']}: {each['what']}" for each in found)
    return problem(422, f"The request is not as it should be: {said}.", errors=found)


async def _unknown(request: Request, error: Exception) -> Response:
    return unknown_problem(error)
