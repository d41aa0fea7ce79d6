"""Routes of indexes and their indexing jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.responses import JSONResponse, StreamingResponse

from mmsearch.core.server_results import IndexSummary, JobStatus, SourceStatus
from mmsearch.core.source_lookup import choose_sources
from mmsearch.server.jobs import Job
from mmsearch.server.schemas import IndexesAnswer, JobBody
from mmsearch.server.state import StateDep, WorkerDep

router = APIRouter(tags=["indexes"])

POLL_INTERVAL_S = 0.2

EVENT_STREAM_RESPONSE = {
    "content": {"text/event-stream": {}},
    "description": "A `job` event for each change.",
}


@router.get("/v1/indexes", response_model=IndexesAnswer)
async def list_indexes(server_state: StateDep) -> JSONResponse:
    """List the served indexes."""
    return JSONResponse({"indexes": server_state.index_pool.names()})


@router.get("/v1/indexes/{name}", response_model=IndexSummary)
async def get_index(worker: WorkerDep) -> JSONResponse:
    """Return the contents and status of an index."""
    status = await worker.run(lambda index: index.status())
    return JSONResponse(IndexSummary.from_status(status).to_dict())


@router.get("/v1/indexes/{name}/sources", response_model=list[SourceStatus])
async def list_sources(worker: WorkerDep) -> JSONResponse:
    """List where the pictures of an index come from, oldest first."""
    sources = await worker.run(lambda index: index.sources())
    return JSONResponse([SourceStatus.from_summary(source).to_dict() for source in sources])


@router.get("/v1/indexes/{name}/jobs", response_model=list[JobStatus])
async def list_jobs(server_state: StateDep, worker: WorkerDep) -> JSONResponse:
    """List the jobs of an index, oldest first."""
    jobs = server_state.jobs.list_for_index(worker.name)
    return JSONResponse([job.status().to_dict() for job in jobs])


@router.post("/v1/indexes/{name}/jobs", response_model=JobStatus, status_code=202)
async def start_job(server_state: StateDep, worker: WorkerDep, body: JobBody) -> JSONResponse:
    """Start a job that updates an index from one of its sources, or from all."""
    server_state.config.check_indexing()
    # A client names a source and no place, so that it cannot make the server read others.
    sources = await worker.run(lambda index: index.sources())
    choose_sources(sources, () if body.source is None else (body.source,))
    job = server_state.jobs.start(
        worker.name, body.source, retry_failed=body.retry_failed, verify=body.verify
    )
    return JSONResponse(job.status().to_dict(), 202)


@router.get("/v1/indexes/{name}/jobs/{job_id}", response_model=JobStatus)
async def get_job(server_state: StateDep, worker: WorkerDep, job_id: str) -> JSONResponse:
    """Return the state and progress of a job."""
    return JSONResponse(server_state.jobs.get(worker.name, job_id).status().to_dict())


@router.delete("/v1/indexes/{name}/jobs/{job_id}", response_model=JobStatus, status_code=202)
async def stop_job(server_state: StateDep, worker: WorkerDep, job_id: str) -> JSONResponse:
    """Stop a job; committed work is kept."""
    job = server_state.jobs.get(worker.name, job_id)
    job.stop()
    return JSONResponse(job.status().to_dict(), 202)


@router.get(
    "/v1/indexes/{name}/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: EVENT_STREAM_RESPONSE},
)
async def follow_job(server_state: StateDep, worker: WorkerDep, job_id: str) -> StreamingResponse:
    """Follow a job to its end, as server-sent events."""
    job = server_state.jobs.get(worker.name, job_id)
    return StreamingResponse(
        _job_events(job), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _job_events(job: Job) -> AsyncIterator[str]:
    last_sent = None
    while True:
        answer = job.status().to_dict()
        if answer != last_sent:
            last_sent = answer
            yield f"event: job\ndata: {json.dumps(answer)}\n\n"
        if answer["state"] != "running":
            return
        await asyncio.sleep(POLL_INTERVAL_S)
