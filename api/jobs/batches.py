"""Batches: the jobs of a list, a grid or a set, together."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api import context
from api.errors import Refusal
from api.jobs import owned
from api.jobs.schemas import BatchOut, JobList
from api.jobs.view import batch_told, job_list, told
from api.respond import as_json, errors
from tasks import batches, bulks, records
from tasks.records import JobRecord

router = APIRouter(prefix="/v1/jobs/batches", tags=["Jobs"])


@router.get("/{batch_id}", response_model=BatchOut, responses=errors(404, 503), operation_id="show_batch")
async def show(request: Request, batch_id: str) -> Response:
    """How a batch stands: its jobs by state. `GET /v1/jobs?batch=…` lists them."""
    shared = context.of(request)
    return as_json(await batch_told(shared, await owned.batch(request, shared, batch_id)))


@router.post(
    "/{batch_id}/cancel", response_model=BatchOut, responses=errors(404, 503), operation_id="cancel_batch"
)
async def stop(request: Request, batch_id: str) -> Response:
    """Cancel all jobs of a batch that have not ended, as each could be by itself. Twice does no harm."""
    shared = context.of(request)
    await owned.batch(request, shared, batch_id)
    await batches.cancel(shared.redis, batch_id, shared.settings)
    shared.board.forget()
    return as_json(await batch_told(shared, await owned.batch(request, shared, batch_id)))


@router.post(
    "/{batch_id}/retry-failed",
    status_code=202,
    response_model=JobList,
    responses=errors(400, 404, 429, 503),
    operation_id="retry_failed_jobs",
)
async def retry(request: Request, batch_id: str) -> Response:
    """Queue a new job in the same batch for each that failed or expired, with the same seed and values.

    The answer lists the jobs that stand in the place of others, those from earlier calls included: repeated
    at once it is the same list, and no job is made twice. All are queued or, when there is no room, none.
    A batch of `/v1/batches` is not retried: its files tell what became of the requests it was given.
    """
    shared = context.of(request)
    await owned.batch(request, shared, batch_id)
    if await bulks.fetch(shared.redis, batch_id) is not None:
        message = "a batch of /v1/batches is not retried; make another one of the lines of its error file"
        raise Refusal("unsupported_value", message)
    ids = await batches.retry_failed(shared.redis, batch_id, shared.settings)
    found = await records.fetch_many(shared.redis, ids)
    kept = [record for record in found if isinstance(record, JobRecord)]
    return as_json(job_list(await told(shared, kept), batch=batch_id), 202)
