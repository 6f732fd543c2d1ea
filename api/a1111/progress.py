"""How far the caller's pictures are, and how to stop them: ``progress``, ``interrupt``, ``skip``."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from api import auth, context
from api.a1111 import calls
from api.a1111.calls import Going
from api.a1111.schemas import PendingTasks, ProgressAnswer, ProgressRequest, TaskProgress
from api.context import Context
from api.follow import place_of
from api.limits import read_json
from api.openai.request import validated
from api.respond import body_schema
from tasks import journal, records
from tasks.cancel import cancel
from tasks.events import ArtifactRef, Preview
from tasks.jobs import JobState
from tasks.records import Glance

router = APIRouter(tags=["Automatic1111"])

_BEGUN = 0.01
"""Progress of a call from the moment it was accepted: never 0, which means that nothing is going on."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a call is, in the web UI's measures."""

    count: int
    number: int
    step: int
    steps: int
    elapsed_s: float

    @property
    def progress(self) -> float:
        """Between 0 and 1: whole pictures, and the steps of the one that is being drawn."""
        share = self.step / self.steps if self.steps else 0.0
        return min(1.0, _BEGUN + (self.number + share) / self.count)

    @property
    def left_s(self) -> float:
        """By the pace so far. 0 while nothing has begun."""
        return self.elapsed_s / self.progress - self.elapsed_s


def standing(going: Going, now_s: float) -> Standing:
    begun = [job.started_at_ms for job in going.jobs if job is not None and job.started_at_ms is not None]
    running = going.running
    return Standing(
        count=len(going.jobs),
        number=going.ended,
        step=0 if running is None else _steps_done(running[1]),
        steps=going.call.steps,
        elapsed_s=max(0.0, now_s - min(begun) / 1000) if begun else 0.0,
    )


def _steps_done(job: Glance) -> int:
    return job.progress.done if job.progress is not None and job.progress.unit == "steps" else 0


def state_of(going: Going | None, at: Standing | None) -> dict[str, Any]:
    """What the web UI tells of itself; all zeros when nothing is going on."""
    stopping = going is not None and any(job is not None and job.is_stopping for job in going.jobs)
    stamp = "0" if going is None else _stamp(going.call.created_at_ms)
    return {
        "skipped": False,
        "interrupted": stopping,
        "stopping_generation": False,
        "job": "" if going is None else going.call.id,
        "job_count": 0 if at is None else at.count,
        "job_timestamp": stamp,
        "job_no": 0 if at is None else at.number,
        "sampling_step": 0 if at is None else at.step,
        "sampling_steps": 0 if at is None else at.steps,
    }


def _stamp(at_ms: int) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.localtime(at_ms / 1000))


@router.get("/sdapi/v1/progress", response_model=ProgressAnswer, operation_id="a1111_progress")
async def show(
    request: Request,
    skip_current_image: Annotated[bool, Query(description="Leave the picture out.")] = False,
) -> Response:
    """How far the caller's current request is, with its newest preview. `state.job_count` counts its pictures
    and is 0 when nothing of the caller's waits or runs."""
    shared = context.of(request)
    now = calls.current(await calls.going(shared, auth.owner(request)))
    if now is None:
        body: dict[str, Any] = {"progress": 0.0, "eta_relative": 0.0, "state": state_of(None, None)}
        return JSONResponse({**body, "current_image": None, "textinfo": None})
    at = standing(now, time.time())
    seen = None if skip_current_image else await _preview(shared, now)
    return JSONResponse(
        {
            "progress": at.progress,
            "eta_relative": await _left_s(shared, now, at),
            "state": state_of(now, at),
            "current_image": None if seen is None else await _file(shared, seen.picture),
            "textinfo": await _words(shared, now),
        }
    )


@router.post(
    "/internal/progress",
    response_model=TaskProgress,
    openapi_extra=body_schema(ProgressRequest),
    operation_id="a1111_task_progress",
)
async def of_task(request: Request) -> Response:
    """How far one request is, by the `force_task_id` it was sent with."""
    shared, owner = context.of(request), auth.owner(request)
    _, value = await read_json(request)
    asked = validated(ProgressRequest, value)
    every = await calls.going(shared, owner)
    now = next((one for one in every if one.call.id == asked.id_task), None)
    told: dict[str, Any] = {
        "active": now is not None and now.is_running,
        "queued": now is not None and not now.is_running,
        "paused": False,
        "completed": now is None and await calls.is_past(shared, owner, asked.id_task),
        "progress": None,
        "eta": None,
        "live_preview": None,
        "id_live_preview": -1,
        "textinfo": "Waiting..." if now is None else await _words(shared, now) or "",
    }
    if now is not None and now.is_running:
        at = standing(now, time.time())
        told |= {
            "progress": at.progress,
            "eta": await _left_s(shared, now, at),
            "id_live_preview": asked.id_live_preview,
        }
        told |= await _news(shared, now, asked)
    return JSONResponse(told)


@router.get("/internal/pending-tasks", response_model=PendingTasks, operation_id="a1111_pending_tasks")
async def pending(request: Request) -> Response:
    """The ids of the caller's requests of which nothing is drawn yet."""
    waiting = [
        one.call.id
        for one in await calls.going(context.of(request), auth.owner(request))
        if not one.is_running
    ]
    return JSONResponse({"size": len(waiting), "tasks": waiting})


@router.post("/sdapi/v1/interrupt", response_model=dict[str, str], operation_id="a1111_interrupt")
async def interrupt(request: Request) -> Response:
    """Stop the caller's current request: its pictures that are not done are cancelled, and it answers with
    those that are."""
    shared = context.of(request)
    now = calls.current(await calls.going(shared, auth.owner(request)))
    for job_id in () if now is None else now.unended:
        await cancel(shared.redis, job_id, settings=shared.settings)
    return JSONResponse({})


@router.post("/sdapi/v1/skip", response_model=None, operation_id="a1111_skip")
async def skip(request: Request) -> Response:
    """Leave out the picture that is being drawn, and go on with the next one of the request."""
    shared = context.of(request)
    now = calls.current(await calls.going(shared, auth.owner(request)))
    if now is not None and now.running is not None:
        await cancel(shared.redis, now.running[0], settings=shared.settings)
    return JSONResponse(None)


async def _left_s(shared: Context, going: Going, at: Standing) -> float:
    """Until the last picture is expected, whoever is served between; by the pace so far where none waits."""
    last = going.last_waiting
    if last is None:
        return at.left_s
    outlook = await shared.board.outlook(last)
    found = outlook.jobs.get(last)
    return at.left_s if found is None else max(0.0, (found.ends_ms - time.time() * 1000) / 1000)


async def _words(shared: Context, going: Going) -> str | None:
    """What happens while no step is done: a hold, a place in the queue, a model on its way to the card."""
    if not going.unended:
        return None
    first = going.unended[0] if going.running is None else going.running[0]
    record = await records.fetch(shared.redis, first)
    if record is None or record.state.is_terminal:
        return None
    if record.hold is not None:
        return f"Waiting: {record.hold.message}"
    if record.state is JobState.QUEUED:
        place = await place_of(shared, first)
        return None if place is None else f"In queue: {place}"
    if record.progress is not None and record.progress.unit == "files":
        return f"Loading the model: {record.progress.done}/{record.progress.total or '?'}"
    return None


async def _preview(shared: Context, going: Going) -> Preview | None:
    running = going.running
    return None if running is None else await journal.last_preview(shared.redis, running[0])


async def _file(shared: Context, picture: ArtifactRef) -> str | None:
    """The file's bytes in base64; None when it has gone with its job."""
    try:
        data = await asyncio.to_thread(shared.files.path(picture).read_bytes)
    except FileNotFoundError:
        return None
    return base64.b64encode(data).decode()


async def _news(shared: Context, going: Going, asked: ProgressRequest) -> dict[str, Any]:
    """The newest preview as a ``data:`` address, if it is another than the one the client has."""
    seen = await _preview(shared, going)
    if seen is None or not asked.live_preview:
        return {}
    number = going.ended * 1000 + seen.step
    if number == asked.id_live_preview:
        return {}
    data = await _file(shared, seen.picture)
    if data is None:
        return {}
    return {"live_preview": f"data:{seen.picture.media_type};base64,{data}", "id_live_preview": number}
