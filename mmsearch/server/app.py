"""The application: routes, the quick way to the one that is asked most, and a guard before all."""

from __future__ import annotations

import json
from functools import cache

from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import HTTPBearer
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from mmsearch import __version__
from mmsearch.server.assets import Asset
from mmsearch.server.deadline import Deadline
from mmsearch.server.errors import MEDIA_TYPE, tell_problems
from mmsearch.server.http_semantics import ErrorDocuments, Semantics
from mmsearch.server.metrics import Timed
from mmsearch.server.routes import health, indexes, page, pictures, search
from mmsearch.server.schemas import Problem
from mmsearch.server.search_fast_path import Quick
from mmsearch.server.security import Guard
from mmsearch.server.state import Service

DESCRIPTION = "Find pictures by describing them. Errors are problem documents (RFC 9457)."


A_PROBLEM = {
    "model": Problem,
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}

TAGS = {
    "search": "Pictures that look like words or pictures, and vectors of both.",
    "pictures": "What is known of a picture, and itself.",
    "indexes": "What an index holds, and jobs that bring it up to date.",
    "operation": "Whether the server works, and how.",
}

TOKEN = Depends(HTTPBearer(auto_error=False, description="--token"))


def make_app(service: Service) -> FastAPI:
    """The routes over a service, without a guard."""
    app = FastAPI(
        title="mmsearch",
        version=__version__,
        description=DESCRIPTION,
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "Where this document is."}],
        openapi_tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        generate_unique_id_function=lambda route: route.name,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # The document is an asset, see below.
        openapi_url=None,
        responses={
            "4XX": {**A_PROBLEM, "description": "The request cannot be answered as it is."},
            "5XX": {**A_PROBLEM, "description": "The server cannot answer now."},
        },
    )
    app.state.service = service
    tell_problems(app)
    for part in (search, pictures, indexes, health, page):
        app.include_router(part.router, dependencies=[TOKEN])
    app.include_router(health.open_router)
    described = cache(lambda: Asset(json.dumps(app.openapi()).encode(), "application/json"))

    async def document(request: Request) -> Response:
        return described().response(request)

    app.add_route("/openapi.json", document)
    return app


def guarded(app: FastAPI) -> ASGIApp:
    """An application behind its service's rules, and counted."""
    service: Service = app.state.service
    inner: ASGIApp = Deadline(Quick(Semantics(app), service), service.rules.deadline_s)
    if service.rules.origins:
        inner = CORSMiddleware(
            inner,
            allow_origins=service.rules.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Allow", "Content-Range", "ETag", "Retry-After"],
        )
    return Timed(Guard(ErrorDocuments(inner), service.rules), service.telemetry)
