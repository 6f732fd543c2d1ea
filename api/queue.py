"""The queue: what waits and runs, and an operator's pauses. Touches no card."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api import context
from api.context import Context
from api.jobs.schemas import CardHold, EtaErrorOut, PauseOut, PauseRequest, QueueOut, QueueRow, ResumeRequest
from api.limits import read_json
from api.openai.request import validated
from api.respond import as_json, body_schema, errors, seconds
from api.system import hold_out
from tasks import outlook, pauses, records
from tasks.errors import UnknownModel
from tasks.jobs import JobClass
from tasks.pauses import Pause, Pauses, Scope
from tasks.records import QueueLine

router = APIRouter(tags=["The house"])


@router.get("/v1/queue", response_model=QueueOut, responses=errors(503), operation_id="show_queue")
async def show(request: Request) -> Response:
    """What waits and runs in each queue, in the order in which they are served."""
    return await _answer(context.of(request))


@router.post(
    "/v1/queue/pause",
    response_model=QueueOut,
    responses=errors(400, 404, 415, 503),
    openapi_extra=body_schema(PauseRequest),
    operation_id="pause_queues",
)
async def pause(request: Request) -> Response:
    """Serve no more jobs of a class, of a model, of both, or none at all (an empty object).

    Jobs are still accepted. One that runs is finished, unless `rest_running` has it rest between two steps.
    """
    shared = context.of(request)
    wanted = validated(PauseRequest, (await read_json(request))[1])
    scope = await _scope(shared, wanted)
    if wanted.model is not None and (await shared.board.catalog()).find(wanted.model) is None:
        raise UnknownModel(f"there is no model '{wanted.model}' here", param="model")
    await pauses.pause(shared.redis, scope, message=wanted.message, rests=wanted.rest_running)
    shared.board.forget()
    return await _answer(shared)


@router.post(
    "/v1/queue/resume",
    response_model=QueueOut,
    responses=errors(400, 415, 503),
    openapi_extra=body_schema(ResumeRequest),
    operation_id="resume_queues",
)
async def resume(request: Request) -> Response:
    """Take back every pause of this class, of this model, or all of them (an empty object)."""
    shared = context.of(request)
    wanted = validated(ResumeRequest, (await read_json(request))[1])
    await pauses.resume(shared.redis, await _scope(shared, wanted))
    shared.board.forget()
    return await _answer(shared)


async def _scope(shared: Context, wanted: ResumeRequest) -> Scope:
    """A model goes by its id, whatever it was called; one that has left can still be resumed."""
    job_class = None if wanted.job_class is None else JobClass(wanted.job_class)
    if wanted.model is None:
        return Scope(job_class)
    known = (await shared.board.catalog()).find(wanted.model)
    return Scope(job_class, wanted.model if known is None else known.id)


async def _answer(shared: Context) -> Response:
    overview = await records.overview(shared.redis)
    median, count = await outlook.error(shared.redis)
    holds = [CardHold(card=card, **hold_out(hold).model_dump()) for card, hold in overview.holds.items()]
    return as_json(
        QueueOut(
            queued=overview.queued,
            running=overview.running,
            queues=[_row(line) for line in overview.queues],
            holds=holds,
            eta_error=EtaErrorOut(median=median, jobs=count),
            pauses=_pauses_out(overview.pauses),
        )
    )


def _row(line: QueueLine) -> QueueRow:
    return QueueRow.model_validate(
        {
            "name": line.name,
            "class": line.job_class,
            "model": line.model,
            "queued": line.queued,
            "running": line.running,
            "oldest_ready_at": None if line.oldest_ready_ms is None else seconds(line.oldest_ready_ms),
            "is_paused": line.paused,
        }
    )


def _pauses_out(found: Pauses) -> list[PauseOut]:
    return [_pause_out(key, pause) for key, pause in found.items()]


def _pause_out(key: str, pause: Pause) -> PauseOut:
    job_class, _, model = key.partition(".")
    return PauseOut.model_validate(
        {
            "class": None if job_class == pauses.ANY else job_class,
            "model": None if model == pauses.ANY else model,
            "message": pause.message,
            "since": seconds(pause.since_ms),
            "rest_running": pause.rests,
        }
    )
