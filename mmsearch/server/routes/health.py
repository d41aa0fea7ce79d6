"""Health checks and metrics for monitoring systems."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from mmsearch.core.errors import MMSearchError
from mmsearch.server.errors import problem_response
from mmsearch.server.state import StateDep

router = APIRouter(tags=["operation"])

public_router = APIRouter(tags=["operation"])
"""Routes that need no token."""

NO_AUTH: dict[str, list[str]] = {"security": []}


@public_router.get("/healthz", response_model=dict[str, bool], openapi_extra=NO_AUTH)
async def healthz() -> JSONResponse:
    """Check that the process is running."""
    return JSONResponse({"ok": True})


@public_router.get("/readyz", response_model=dict[str, bool], openapi_extra=NO_AUTH)
async def readyz(server_state: StateDep) -> JSONResponse:
    """Check that the server can answer queries; a balancer sends requests only then."""
    if server_state.draining.is_set():
        return problem_response(503, "The server is stopping. Send requests to another one.")
    try:
        for name in server_state.index_pool.names():
            await server_state.index_pool.worker(name).run(lambda index: index.exists())
    except MMSearchError as error:
        return problem_response(503, error.served_text)
    return JSONResponse({"ready": True})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
)
async def metrics(server_state: StateDep) -> Response:
    """Return metrics: requests, latencies by stage, queue lengths and numbers of pictures."""
    return Response(
        server_state.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )
