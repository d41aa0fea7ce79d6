"""Indexes, and the jobs that bring them up to date."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.responses import JSONResponse, StreamingResponse

from mmsearch.core.errors import StateError, UnknownNameError
from mmsearch.server.jobs import Job
from mmsearch.server.rendering import index_answer
from mmsearch.server.schemas import IndexAnswer, IndexesAnswer, JobAnswer, JobBody
from mmsearch.server.state import TheDesk, TheService

router = APIRouter(tags=["indexes"])

LOOK_EVERY_S = 0.2

EVENTS = {"content": {"text/event-stream": {}}, "description": "An event `job` for each change."}


@router.get("/v1/indexes", response_model=IndexesAnswer)
async def list_indexes(service: TheService) -> JSONResponse:
    """The indexes that are served."""
    return JSONResponse({"indexes": service.desks.names()})


@router.get("/v1/indexes/{name}", response_model=IndexAnswer)
async def get_index(desk: TheDesk) -> JSONResponse:
    """What an index holds."""
    return JSONResponse(index_answer(await desk.ask(lambda index: index.status())))


@router.get("/v1/indexes/{name}/jobs", response_model=list[JobAnswer])
async def list_jobs(service: TheService, desk: TheDesk) -> JSONResponse:
    """The jobs of an index, oldest first."""
    return JSONResponse([job.answer() for job in service.jobs.of(desk.name)])


@router.post("/v1/indexes/{name}/jobs", response_model=JobAnswer, status_code=202)
async def start_job(service: TheService, desk: TheDesk, body: JobBody) -> JSONResponse:
    """Bring an index up to date with a folder that it knows already."""
    if not service.rules.indexing:
        raise StateError("This server does not index.")
    roots = await desk.ask(lambda index: index.roots())
    root = next((each for each in roots if each.name == body.root), None)
    if root is None:
        raise UnknownNameError(
            f"Index {desk.name!r} has no folder {body.root!r}.",
            f"It has: {', '.join(each.name for each in roots)}.",
        )
    job = service.jobs.start(desk.name, root, retry_failed=body.retry_failed)
    return JSONResponse(job.answer(), 202)


@router.get("/v1/indexes/{name}/jobs/{job_id}", response_model=JobAnswer)
async def get_job(service: TheService, desk: TheDesk, job_id: str) -> JSONResponse:
    """How far a job is."""
    return JSONResponse(service.jobs.job(desk.name, job_id).answer())


@router.delete("/v1/indexes/{name}/jobs/{job_id}", response_model=JobAnswer, status_code=202)
async def stop_job(service: TheService, desk: TheDesk, job_id: str) -> JSONResponse:
    """Stop a job; what it has committed stays."""
    job = service.jobs.job(desk.name, job_id)
    job.stop()
    return JSONResponse(job.answer(), 202)


@router.get(
    "/v1/indexes/{name}/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: EVENTS},
)
async def follow_job(service: TheService, desk: TheDesk, job_id: str) -> StreamingResponse:
    """Follow a job to its end, as server-sent events."""
    job = service.jobs.job(desk.name, job_id)
    return StreamingResponse(
        _events(job), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _events(job: Job) -> AsyncIterator[str]:
    told = None
    while True:
        answer = job.answer()
        if answer != told:
            told = answer
            yield f"event: job\ndata: {json.dumps(answer)}\n\n"
        if answer["state"] != "running":
            return
        await asyncio.sleep(LOOK_EVERY_S)
