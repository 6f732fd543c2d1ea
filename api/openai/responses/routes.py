"""``/v1/responses``: made, streamed, polled, gone on with, cancelled and deleted."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from api import auth, context
from api.asked import Asked, ask, earlier, keeps, warning_header
from api.board import resolve
from api.context import Context
from api.errors import Refusal
from api.follow import Following, place_of
from api.limits import read_json
from api.openai.chat import idempotency
from api.openai.faults import invalid
from api.openai.request import Terms
from api.openai.responses import kept
from api.openai.responses.body import problem_of_end
from api.openai.responses.items import input_items
from api.openai.responses.kept import Kept
from api.openai.responses.request import wanted
from api.openai.responses.schemas import DeletedResponse, ItemList, ResponseOut, ResponsesRequest
from api.openai.responses.voice import ResponseVoice, stream_gone
from api.patience import refuse_the_hopeless
from api.request_id import request_id
from api.respond import as_json, body_schema, errors
from api.stream import JournalStream
from api.wait import ClientGone, Leaving, on_the_line
from tasks import keys
from tasks.cancel import cancel
from tasks.forget import forget
from tasks.jobs import ChatJob
from tasks.submit import Idempotency, submit
from tasks.webhooks.words import Announcement

router = APIRouter(tags=["OpenAI"])

CANCEL_WAIT_S = 5.0
"""How long a cancelled response is waited for: its worker ends it at the next step, which may be a load."""

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "With `stream`: server-sent events.", "content": {"text/event-stream": {}}}
}


@router.post(
    "/v1/responses",
    response_model=ResponseOut,
    responses={**_STREAM, **errors(400, 404, 409, 413, 415, 429, 503, 504)},
    openapi_extra=body_schema(ResponsesRequest),
    operation_id="create_response",
)
async def create(request: Request) -> Response:
    """Answer an input.

    With `stream`, the answer comes as OpenAI's events, numbered by `sequence_number`, and comment lines while
    the job waits (`: queued position=2`). With `background` the job goes on whoever listens: without `stream`
    the answer comes at once, `queued`. Otherwise it is as with chat completions: who closes the connection
    cancels the job, and `x-hearth-keep: true` prevents it.
    The job behind an answer stands in `x-job-id`; what had no effect stands in `x-hearth-warnings`.
    """
    shared = context.of(request)
    body, value = await read_json(request)
    owner = auth.owner(request)
    asked_for = await wanted(value, shared, owner)
    fields = asked_for.fields
    model = resolve(await shared.board.catalog(), fields.model, "chat")
    keep = keeps(request) or fields.background is True
    given = asked_for.job_class(may_go_ahead=auth.may_go_ahead(request, shared.settings.queue))
    # Who waits on the line need not be told.
    told = Announcement("response") if fields.background else None
    terms = Terms(owner, given, has_reader=not keep, announcement=told)
    job = asked_for.job(model, terms, shared.settings)
    key = idempotency(request, body)
    if fields.background and not fields.stream:
        return await _queued(shared, job, key)
    if not fields.stream and not keep:
        await refuse_the_hopeless(request, shared, job)
    asked = await ask(request, shared, job, key, keep=keep)
    if fields.stream:
        return asked.stream(shared, ResponseVoice(shared, asked.job), request_id(request))
    return await _whole(request, shared, asked)


async def _queued(shared: Context, job: ChatJob, key: Idempotency | None) -> Response:
    accepted = await submit(shared.redis, job, shared.settings, key)
    if accepted.replayed:
        job = await earlier(shared, accepted.job_id, ChatJob)
    headers = {"x-job-id": str(job.submission.id)}
    place = await place_of(shared, job.submission.id)
    if place is not None:
        headers["x-queue-position"] = str(place)
    if job.submission.warnings:
        headers["x-hearth-warnings"] = warning_header(job.submission.warnings)
    return JSONResponse(await kept.standing(shared, job), headers=headers)


async def _whole(request: Request, shared: Context, asked: Asked) -> Response:
    told = await asked.told(request, shared, problem_of=problem_of_end)
    if isinstance(told, Response):
        return told
    headers = dict(asked.headers)
    if told.end.warnings:
        headers["x-hearth-warnings"] = warning_header((*asked.job.submission.warnings, *told.end.warnings))
    return JSONResponse(await kept.standing(shared, asked.job), headers=headers)


@router.get(
    "/v1/responses/{response_id}",
    response_model=ResponseOut,
    responses={**_STREAM, **errors(400, 404, 410, 503)},
    operation_id="show_response",
)
async def show(
    request: Request,
    response_id: str,
    stream: Annotated[bool, Query(description="Its events, from the beginning, as they come.")] = False,
    starting_after: Annotated[
        int | None, Query(ge=0, description="With `stream`: only the events behind this `sequence_number`.")
    ] = None,
) -> Response:
    """A stored response as far as it has come. Its events are told one by one until an hour after its end;
    later they are made once more from what is kept."""
    shared = context.of(request)
    found = await kept.find(shared, auth.owner(request), response_id)
    if not stream:
        if starting_after is not None:
            raise invalid("starting_after", "left out, or 'stream' true")
        return JSONResponse(await kept.standing(shared, found.job), headers=_named(found))
    if (
        starting_after is not None
        and found.record.state.is_terminal
        and not await _has_journal(shared, found)
    ):
        raise stream_gone()
    return JournalStream(
        shared,
        found.record.id,
        Following(shared, found.record.id, renew=found.job.submission.has_reader),
        ResponseVoice(shared, found.job, starting_after),
        request_id=request_id(request),
        headers={},
        place=await place_of(shared, found.record.id),
    )


async def _has_journal(shared: Context, found: Kept) -> bool:
    return bool(await shared.redis.exists(keys.journal(found.record.id)))


@router.delete(
    "/v1/responses/{response_id}",
    response_model=DeletedResponse,
    responses=errors(404, 409, 503),
    operation_id="delete_response",
)
async def delete(request: Request, response_id: str) -> Response:
    """Delete a response that has ended, and its job. What went on from it keeps the conversation."""
    shared = context.of(request)
    found = await kept.find(shared, auth.owner(request), response_id)
    if not await forget(shared.redis, found.record.id):
        raise Refusal("response_not_ended", "the response has not ended: cancel it, or wait for its end")
    return as_json(DeletedResponse(id=response_id))


@router.post(
    "/v1/responses/{response_id}/cancel",
    response_model=ResponseOut,
    responses=errors(400, 404, 503),
    operation_id="cancel_response",
)
async def stop(request: Request, response_id: str) -> Response:
    """Cancel a background response. One that has ended stays as it is; asking twice does no harm."""
    shared = context.of(request)
    found = await kept.find(shared, auth.owner(request), response_id)
    if not found.terms.is_background:
        raise Refusal(
            "unsupported_value",
            "only a response with 'background' true is cancelled; another one by closing its connection, or "
            f"as a job: POST /v1/jobs/{found.record.id}/cancel",
        )
    await cancel(shared.redis, found.record.id, settings=shared.settings)
    shared.board.forget()
    await _end(request, shared, found)
    return JSONResponse(await kept.standing(shared, found.job), headers=_named(found))


async def _end(request: Request, shared: Context, found: Kept) -> None:
    """Returns when it has ended, or the time is up."""

    async def ended() -> None:
        async with aclosing(Following(shared, found.record.id, renew=False)) as entries:
            async for _ in entries:
                pass

    try:
        async with asyncio.timeout(CANCEL_WAIT_S):
            await on_the_line(shared, request.receive, asyncio.create_task(ended()))
    except (TimeoutError, Leaving, ClientGone):
        return


@router.get(
    "/v1/responses/{response_id}/input_items",
    response_model=ItemList,
    responses=errors(400, 404, 503),
    operation_id="list_response_input_items",
)
async def index(
    request: Request,
    response_id: str,
    after: Annotated[str | None, Query(description="The `last_id` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Items on a page.")] = 20,
    order: Annotated[Literal["asc", "desc"], Query(description="`desc`: the newest first.")] = "desc",
) -> Response:
    """The items that a response was asked with, as the model was told them. Instructions are not among them,
    nor what `previous_response_id` brought: that one has input items of its own."""
    shared = context.of(request)
    found = await kept.find(shared, auth.owner(request), response_id)
    items = input_items(found.job)
    if order == "desc":
        items.reverse()
    if after is not None:
        names = [item["id"] for item in items]
        if after not in names:
            raise invalid("after", "the id of one of these items")
        items = items[names.index(after) + 1 :]
    page = items[:limit]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return as_json(ItemList(data=page, first_id=first, last_id=last, has_more=len(items) > limit))


def _named(found: Kept) -> dict[str, str]:
    return {"x-job-id": str(found.record.id)}
