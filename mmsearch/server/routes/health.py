"""What machines ask that look after a server."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from mmsearch.core.errors import MMSearchError
from mmsearch.server.errors import problem
from mmsearch.server.state import TheService

router = APIRouter(tags=["operation"])

open_router = APIRouter(tags=["operation"])
"""Asks for no token."""

NO_TOKEN: dict[str, list[str]] = {"security": []}


@open_router.get("/healthz", response_model=dict[str, bool], openapi_extra=NO_TOKEN)
async def healthz() -> JSONResponse:
    """Whether the process answers at all."""
    return JSONResponse({"ok": True})


@open_router.get("/readyz", response_model=dict[str, bool], openapi_extra=NO_TOKEN)
async def readyz(service: TheService) -> JSONResponse:
    """Whether queries will be answered."""
    try:
        for name in service.desks.names()[:1]:
            await service.desks.desk(name).ask(lambda index: index.exists())
    except MMSearchError as error:
        return problem(503, str(error))
    return JSONResponse({"ready": True})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
)
async def metrics(service: TheService) -> Response:
    """Latencies by step, requests, what waits, and how many pictures there are."""
    return Response(service.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
