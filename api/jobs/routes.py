"""The native job routes: list, show, cancel, follow; submitting stands in ``submit.py``."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api import auth, context
from api.errors import Refusal
from api.follow import Following
from api.jobs import batches, embeddings, images, owned, submit
from api.jobs.events import EventVoice
from api.jobs.schemas import JobList, JobOut
from api.jobs.view import job_list, told
from api.request_id import request_id
from api.respond import as_json, errors
from api.stream import JournalStream
from tasks import records
from tasks.cancel import cancel
from tasks.jobs import JobKind, JobState

router = APIRouter(tags=["Jobs"])
for part in (submit.router, batches.router, images.router, embeddings.router):
    router.include_router(part)

EVENT_ID = r"^[0-9]{1,20}-[0-9]{1,20}$"
_EVENT_ID = re.compile(EVENT_ID)


@router.get("/v1/jobs", response_model=JobList, responses=errors(400, 503), operation_id="list_jobs")
async def index(
    request: Request,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind.")] = None,
    model: Annotated[str | None, Query(description="Only jobs of this model, by id.")] = None,
    batch: Annotated[str | None, Query(description="Only the jobs of this batch.")] = None,
    after: Annotated[str | None, Query(description="The `last_id` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs on a page.")] = 20,
) -> Response:
    """Your jobs, newest first. Ids of jobs that another version of Hearth wrote stand in `unreadable`."""
    shared = context.of(request)
    try:
        page = await records.page(
            shared.redis,
            owner=auth.owner(request),
            state=state,
            kind=kind,
            model=model,
            batch=batch,
            after=after,
            limit=limit,
        )
    except KeyError:
        raise Refusal("invalid_value", "'after' is not the id of one of these jobs", "after") from None
    jobs = await told(shared, page.records)
    more = page.next_after is not None
    listed = job_list(jobs, has_more=more, batch=batch, unreadable=page.unreadable)
    return as_json(listed.model_copy(update={"last_id": page.next_after or listed.last_id}))


@router.get("/v1/jobs/{job_id}", response_model=JobOut, responses=errors(404, 503), operation_id="show_job")
async def show(request: Request, job_id: str) -> Response:
    """One job: its state, its place, what it made."""
    shared = context.of(request)
    return as_json((await told(shared, [await owned.job(request, shared, job_id)]))[0])


@router.post(
    "/v1/jobs/{job_id}/cancel", response_model=JobOut, responses=errors(404, 503), operation_id="cancel_job"
)
async def stop(request: Request, job_id: str) -> Response:
    """Cancel a job. One that waits is cancelled at once, one that runs at its next step; one that has ended
    stays as it is. Asking twice does no harm."""
    shared = context.of(request)
    record = await owned.job(request, shared, job_id)
    await cancel(shared.redis, record.id, settings=shared.settings)
    shared.board.forget()
    return as_json((await told(shared, [await owned.job(request, shared, job_id)]))[0])


@router.get(
    "/v1/jobs/{job_id}/events",
    response_class=Response,
    responses={
        200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}},
        204: {"description": "The job has ended, and you know all of it."},
        **errors(400, 404, 503),
    },
    operation_id="follow_job",
)
async def follow(
    request: Request,
    job_id: str,
    after: Annotated[
        str | None, Query(pattern=EVENT_ID, description="An event's `id`; what came behind it is sent.")
    ] = None,
) -> Response:
    """The job's journal as server-sent events: `id`, `event` (its type), `data` (JSON). Ends behind the
    terminal event. To resume, send the last `id` as `Last-Event-ID` or `after`. Comment lines tell the place
    in the queue."""
    shared = context.of(request)
    record = await owned.job(request, shared, job_id)
    begin = _begin(request, after)
    entries = Following(shared, record.id, begin, renew=record.job.submission.has_reader)
    if record.state.is_terminal and begin is not None and not await entries.any():
        await entries.aclose()
        # Tells a browser's EventSource to leave it at that.
        return Response(status_code=204)
    return JournalStream(
        shared,
        record.id,
        entries,
        EventVoice(record.id),
        request_id=request_id(request),
        headers={},
        place=None,
    )


def _begin(request: Request, after: str | None) -> str | None:
    """A browser that reconnects repeats the address, so the header is the newer of the two."""
    header = request.headers.get("last-event-id")
    begin, name = (after, "after") if header is None else (header, "Last-Event-ID")
    if begin is not None and not _EVENT_ID.fullmatch(begin):
        raise Refusal("invalid_value", f"'{name}' is not the id of an event, like 1763791234567-0", name)
    return begin
