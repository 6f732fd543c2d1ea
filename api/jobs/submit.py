"""``POST /v1/jobs``: one job, a list or a grid, taken all or none."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from api import auth, context
from api.context import Context
from api.errors import Refusal
from api.follow import Following
from api.jobs.embeddings import EmbedJobRequest
from api.jobs.pictures import ImageJobRequest
from api.jobs.schemas import JobAnswer, JobRequest
from api.jobs.view import job_list, told
from api.jobs.wanted import wanted
from api.limits import read_json
from api.openai.chat import idempotency
from api.pictures import inputs
from api.respond import as_json, body_schema, errors
from api.wait import ClientGone, Leaving, on_the_line
from tasks import records
from tasks.jobs import JobId
from tasks.records import JobRecord
from tasks.submit import submit_many

router = APIRouter(tags=["Jobs"])

_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,9})(?:$|[,;\s])")


@router.post(
    "/v1/jobs",
    status_code=202,
    response_model=JobAnswer,
    responses={
        200: {"model": JobAnswer, "description": "`Prefer: wait=N`: it ended while you waited."},
        **errors(400, 404, 409, 413, 415, 429, 503, 507),
    },
    openapi_extra=body_schema(JobRequest, ImageJobRequest, EmbedJobRequest, or_list=True),
    operation_id="submit_jobs",
)
async def create(request: Request) -> Response:
    """Queue a job, a list of them, or a grid, and answer at once with what can be asked by id from then on.

    A list may mix chats, pictures and embeddings. `grid` holds lists of values for fields that are left out
    beside it: one job for each combination, in the order of nested loops, the first field outermost. A list,
    a grid, and a picture with `n` above 1 are a batch: its `batch` and `jobs` (ids in order) stand in the
    answer, and `/v1/jobs/batches/{batch}` tells how it stands. All of them are taken, or none.

    `Idempotency-Key`: the same key and body give the same jobs again, another body a 409. `Prefer: wait=N`
    waits up to N seconds for the end, and answers 200 when it came. Nobody need stay on the line: such a job
    is never cancelled for want of a reader.
    """
    shared = context.of(request)
    body, value = await read_json(request)
    ahead = auth.may_go_ahead(request, shared.settings.queue)
    catalog = await shared.board.catalog()
    asked = await wanted(value, catalog, auth.owner(request), shared, may_go_ahead=ahead)
    await inputs.keep(asked.inputs, shared.files)
    accepted = await submit_many(shared.redis, asked.jobs, shared.settings, idempotency(request, body))
    ids = [each.job_id for each in accepted]
    headers = {"Idempotency-Replayed": "true"} if accepted[0].replayed else {}
    wait_s = _wait_s(request, shared)
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
        try:
            await _ends(shared, request, ids, wait_s)
        except ClientGone:
            return Response(status_code=499)
    found = await records.fetch_many(shared.redis, ids)
    kept = [record for record in found if isinstance(record, JobRecord)]
    return await _answer(shared, kept, is_set=asked.is_set, headers=headers)


def _wait_s(request: Request, shared: Context) -> int:
    """Seconds to wait, within the settings; what cannot be read is no preference (RFC 7240, section 2)."""
    found = _WAIT.search(request.headers.get("prefer", ""))
    return min(int(found[1]), int(shared.settings.limits.wait_s)) if found else 0


async def _ends(shared: Context, request: Request, ids: list[JobId], wait_s: float) -> None:
    """Returns when all have ended, or the time is up. Raises ClientGone."""

    async def all_of_them() -> None:
        for job_id in ids:
            async with aclosing(Following(shared, job_id, renew=False)) as entries:
                async for _ in entries:
                    pass

    try:
        async with asyncio.timeout(wait_s):
            await on_the_line(shared, request.receive, asyncio.create_task(all_of_them()))
    except (TimeoutError, Leaving):
        return


async def _answer(
    shared: Context, kept: list[JobRecord], *, is_set: bool, headers: dict[str, str]
) -> Response:
    if not kept:
        raise Refusal("job_not_found", "the jobs of this Idempotency-Key are no longer kept; use another key")
    ended = all(record.state.is_terminal for record in kept)
    status = 200 if ended and "Preference-Applied" in headers else 202
    jobs = await told(shared, kept)
    if not is_set:
        headers |= {"Location": jobs[0].urls.self, "x-job-id": jobs[0].id}
        return as_json(jobs[0], status, headers)
    batch = kept[0].job.submission.batch
    headers["Location"] = f"/v1/jobs?batch={batch}"
    return as_json(job_list(jobs, batch=batch), status, headers)
