"""The ASGI application of the HTTP API: routes, middleware, and a server that runs it."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import HTTPBearer
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from mmsearch import __version__
from mmsearch.server.assets import Asset
from mmsearch.server.deadline import DeadlineMiddleware
from mmsearch.server.drain import DrainMiddleware
from mmsearch.server.errors import PROBLEM_MEDIA_TYPE, install_error_handlers
from mmsearch.server.forwarded import ForwardedMiddleware, get_root_path
from mmsearch.server.http_semantics import HttpSemanticsMiddleware, ProblemDetailsMiddleware
from mmsearch.server.metrics import MetricsMiddleware
from mmsearch.server.parameters import STRICT_PARAMETERS
from mmsearch.server.routes import (
    duplicates,
    facets,
    federation,
    health,
    indexes,
    items,
    page,
    pictures,
    search,
    suggestions,
)
from mmsearch.server.schemas import Problem, describe_fields
from mmsearch.server.security import SecurityMiddleware
from mmsearch.server.serve import serve_app
from mmsearch.server.state import ServerState

DESCRIPTION = "Find pictures by describing them. Errors are problem documents (RFC 9457)."


PROBLEM_RESPONSE = {
    "model": Problem,
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}

TAG_DESCRIPTIONS = {
    "search": "Search by text or by pictures, and embeddings of both.",
    "pictures": "Metadata, original and thumbnail of a picture.",
    "items": "Pictures by ids of your own: add, replace, change, delete.",
    "indexes": "Contents and sources of an index, and jobs that update it.",
    "operation": "Health checks and metrics.",
}

BEARER_AUTH = Depends(HTTPBearer(auto_error=False, description="--token"))


MAX_CACHED_DOCUMENTS = 8
"""Maximum number of OpenAPI documents that are kept, one for each root path."""


def describe_server(root_path: str = "") -> list[dict[str, str]]:
    """Return the ``servers`` of an OpenAPI document: its own, below a path of the host."""
    return [{"url": root_path or "/", "description": "The server of this document."}]


class App(FastAPI):
    """A FastAPI application whose document describes the members of answers."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = describe_fields(super().openapi())
        for name in ("Hit", "Suggestion"):
            schema = document["components"]["schemas"][name]
            # Only answers of several indexes have it.
            schema["required"] = [member for member in schema["required"] if member != "index"]
        return document


def make_app(server_state: ServerState) -> FastAPI:
    """Return the application with all routes, without the middleware."""
    app = App(
        title="mmsearch",
        version=__version__,
        description=DESCRIPTION,
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        servers=describe_server(),
        openapi_tags=[
            {"name": name, "description": text} for name, text in TAG_DESCRIPTIONS.items()
        ],
        generate_unique_id_function=lambda route: route.name,
        # These pages load scripts from other sites; a route of the page serves /docs.
        docs_url=None,
        redoc_url=None,
        # A route below serves the document as a static asset.
        openapi_url=None,
        # The redirect would name the host that a proxy requests; an error handler does it.
        redirect_slashes=False,
        responses={
            "4XX": {**PROBLEM_RESPONSE, "description": "The request is invalid or not allowed."},
            "5XX": {**PROBLEM_RESPONSE, "description": "The server cannot answer now."},
        },
    )
    app.state.server_state = server_state
    install_error_handlers(app)
    reading = (search, federation, facets, suggestions, duplicates, pictures)
    for route_module in (*reading, items, indexes, health):
        app.include_router(route_module.router, dependencies=[BEARER_AUTH, STRICT_PARAMETERS])
    # Addresses of the page may carry parameters of others, such as those of mail programs, and
    # balancers add some to health checks.
    app.include_router(page.router, dependencies=[BEARER_AUTH])
    app.include_router(health.public_router)

    @lru_cache(MAX_CACHED_DOCUMENTS)
    def openapi_asset(root_path: str) -> Asset:
        document = app.openapi() | {"servers": describe_server(root_path)}
        return Asset(json.dumps(document).encode(), "application/json")

    async def serve_openapi(request: Request) -> Response:
        return openapi_asset(get_root_path(request.scope)).response(request)

    app.add_route("/openapi.json", serve_openapi)
    return app


def wrap_with_middleware(app: FastAPI) -> ASGIApp:
    """Return an application with all middleware: limits, security checks and metrics."""
    server_state: ServerState = app.state.server_state
    inner: ASGIApp = DeadlineMiddleware(
        HttpSemanticsMiddleware(app), server_state.config.deadline_s
    )
    if server_state.config.allowed_origins:
        inner = CORSMiddleware(
            inner,
            allow_origins=server_state.config.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=[
                "Allow",
                "Content-Disposition",
                "Content-Range",
                "ETag",
                "Location",
                "Retry-After",
            ],
        )
    return DrainMiddleware(
        ForwardedMiddleware(
            MetricsMiddleware(
                SecurityMiddleware(ProblemDetailsMiddleware(inner), server_state.config),
                server_state.metrics,
            ),
            server_state.config,
        ),
        server_state,
    )


def serve_in_thread(server_state: ServerState, port: int) -> AbstractContextManager[str]:
    """Serve requests until the context ends; see `mmsearch.server.serve.serve_app`.

    Args:
        server_state: State of the server.
        port: Port to bind; 0 for any free port.

    Returns:
        A context that yields the server's address, as a URL.

    Raises:
        UsageError: The address cannot be bound.
    """
    return serve_app(wrap_with_middleware(make_app(server_state)), server_state.config.host, port)
