"""``POST /v1/jobs``: one job or many, taken all or none."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response

from api import auth, context
from api.board import resolve
from api.context import Context
from api.errors import Refusal
from api.follow import Following
from api.jobs.schemas import JobAnswer, JobList, JobOut, JobRequest
from api.jobs.view import job_out
from api.limits import read_json
from api.openai.chat import idempotency
from api.openai.request import Terms, chat_job, job_class, validated
from api.respond import as_json, body_schema, errors
from api.wait import ClientGone, Leaving, on_the_line
from tasks import records
from tasks.board import Catalog
from tasks.errors import JobError
from tasks.eta import Forecast
from tasks.jobs import Job, JobClass, JobId, JobState
from tasks.outlook import tell
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
        **errors(400, 404, 409, 413, 415, 429, 503),
    },
    openapi_extra=body_schema(JobRequest, or_list=True),
    operation_id="submit_jobs",
)
async def create(request: Request) -> Response:
    """Queue a job, or a list of them, and answer at once with what can be asked by id from then on.

    `Idempotency-Key`: the same key and body give the same jobs again, another body a 409. `Prefer: wait=N`
    waits up to N seconds for the end, and answers 200 when it came. Nobody need stay on the line: such a job
    is never cancelled for want of a reader.
    """
    shared = context.of(request)
    body, value = await read_json(request)
    catalog = await shared.board.catalog()
    is_list = isinstance(value, list)
    if is_list:
        wanted = _many(value, catalog, auth.owner(request), shared)
    else:
        wanted = [_one(value, catalog, Terms(auth.owner(request), JobClass.CHAT), shared)]
    accepted = await submit_many(shared.redis, wanted, shared.settings, idempotency(request, body))
    ids = [each.job_id for each in accepted]
    headers = {"Idempotency-Replayed": "true"} if accepted[0].replayed else {}
    wait_s = _wait_s(request, shared)
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
        try:
            await _ends(shared, request, ids, wait_s)
        except ClientGone:
            return Response(status_code=499)
    kept = [record for job_id in ids if (record := await records.fetch(shared.redis, job_id)) is not None]
    return await _answer(shared, kept, is_list=is_list, headers=headers)


def _many(value: list[Any], catalog: Catalog, owner: str, shared: Context) -> list[Job]:
    limit = shared.settings.limits.jobs_per_request
    if not 1 <= len(value) <= limit:
        raise Refusal("invalid_value", f"the list should hold 1 to {limit} jobs, not {len(value)}")
    terms = Terms(owner, JobClass.CHAT, batch="batch_" + secrets.token_hex(12))
    wanted: list[Job] = []
    for index, item in enumerate(value):
        try:
            wanted.append(_one(item, catalog, terms, shared))
        except Refusal as refusal:
            raise refusal.within(f"[{index}]") from None
        except JobError as error:
            error.param = f"[{index}].{error.param}" if error.param else f"[{index}]"
            raise
    return wanted


def _one(value: Any, catalog: Catalog, terms: Terms, shared: Context) -> Job:
    fields = validated(JobRequest, value)
    model = resolve(catalog, fields.model, fields.kind)
    asked = JobClass(fields.job_class) if fields.job_class is not None else job_class(fields)
    own = Terms(terms.owner, asked, deadline_s=fields.deadline_s, batch=terms.batch)
    return chat_job(fields, model, own, shared.settings)


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
    shared: Context, kept: list[JobRecord], *, is_list: bool, headers: dict[str, str]
) -> Response:
    ended = all(record.state.is_terminal for record in kept)
    status = 200 if ended and "Preference-Applied" in headers else 202
    told = await told_all(shared, kept)
    if not is_list:
        headers |= {"Location": told[0].urls.self, "x-job-id": told[0].id}
        return as_json(told[0], status, headers)
    batch = kept[0].job.submission.batch
    headers["Location"] = f"/v1/jobs?batch={batch}"
    return as_json(JobList(data=told, has_more=False, last_id=told[-1].id, batch=batch), status, headers)


async def told_with_position(shared: Context, record: JobRecord) -> JobOut:
    return (await told_all(shared, [record]))[0]


async def told_all(shared: Context, kept: Sequence[JobRecord]) -> list[JobOut]:
    """Records as their owner sees them, those that wait with their place and when they will begin and end."""
    told: list[JobOut] = []
    expected: dict[str, Forecast] = {}
    made_ms = 0.0
    for record in kept:
        if record.state is not JobState.QUEUED:
            told.append(job_out(record, None))
            continue
        outlook = await shared.board.outlook(record.id, record.ready_at_ms)
        forecast = outlook.jobs.get(record.id)
        if forecast is None:
            told.append(job_out(record, await records.position(shared.redis, record.id)))
        else:
            told.append(job_out(record, forecast.place, forecast))
            expected[record.id], made_ms = forecast, outlook.made_ms
    if expected:
        await tell(shared.redis, expected, made_ms)
    return told
