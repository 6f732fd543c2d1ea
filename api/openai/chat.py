"""``POST /v1/chat/completions``: a job, and its answer in OpenAI's words, at once or as a stream."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api import auth, context
from api.board import resolve
from api.context import Context
from api.errors import Refusal, of_end, shutting_down
from api.follow import Following, place_of
from api.limits import read_json
from api.openai.answer import Answer, ChunkVoice, body_of
from api.openai.request import Terms, chat_job, job_class, validated
from api.openai.schemas import ChatCompletion, ChatRequest
from api.request_id import request_id
from api.respond import body_schema, errors
from api.stream import JournalStream
from api.wait import ClientGone, Leaving, on_the_line, whole
from tasks import records
from tasks.cancel import cancel
from tasks.events import Cancelled, Expired, Failed
from tasks.jobs import ChatJob, JobId
from tasks.submit import Idempotency, submit

router = APIRouter(tags=["OpenAI"])

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_CLIENT_CLOSED = 499
"""Nobody reads it; nginx's word for a client that left."""


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses=errors(400, 404, 409, 413, 415, 429, 503, 504),
    openapi_extra=body_schema(ChatRequest),
    operation_id="create_chat_completion",
)
async def create(request: Request) -> Response:
    """Answer a conversation.

    With `stream`, the answer comes as server-sent events: chunks as OpenAI sends them, `data: [DONE]` at the
    end, and comment lines while the job waits (`: queued position=2`). Without, a client that closes the
    connection cancels its job; a stream's job is cancelled after a grace without readers.
    `x-hearth-keep: true` prevents both.
    The job behind an answer stands in `x-job-id`; what had no effect stands in `x-hearth-warnings`.
    """
    shared = context.of(request)
    body, value = await read_json(request)
    fields = validated(ChatRequest, value)
    model = resolve(await shared.board.catalog(), fields.model, "chat")
    keep = request.headers.get("x-hearth-keep", "").lower() == "true"
    terms = Terms(auth.owner(request), job_class(fields), has_reader=not keep)
    wanted = chat_job(fields, model, terms, shared.settings)
    accepted = await submit(shared.redis, wanted, shared.settings, idempotency(request, body))
    job = wanted if not accepted.replayed else await _earlier(shared, accepted.job_id)

    entries = Following(shared, job.submission.id, renew=not keep)
    try:
        place = await place_of(shared, job.submission.id)
    except BaseException:
        await entries.aclose()
        raise
    headers = _headers(job, place)
    answer = Answer(shared, job)
    if fields.stream:
        options = fields.stream_options
        voice = ChunkVoice(answer, include_usage=bool(options and options.include_usage))
        return JournalStream(
            shared,
            job.submission.id,
            entries,
            voice,
            request_id=request_id(request),
            headers=headers,
            place=place,
        )
    return await _whole(request, shared, answer, entries, headers, keep=keep)


async def _whole(
    request: Request,
    shared: Context,
    answer: Answer,
    entries: Following,
    headers: dict[str, str],
    *,
    keep: bool,
) -> Response:
    job_id = answer.job.submission.id
    try:
        told = await on_the_line(shared, request.receive, asyncio.create_task(whole(entries, answer.started)))
    except ClientGone:
        if not keep:
            await cancel(shared.redis, job_id, reason="no_reader", settings=shared.settings)
        return Response(status_code=_CLIENT_CLOSED, headers=headers)
    except Leaving:
        # The SDK will ask again by itself; two jobs for one question would be one too many.
        if not keep:
            await cancel(shared.redis, job_id, reason="no_reader", settings=shared.settings)
        response: Response = shutting_down().response()
        response.headers.update(headers)
        return response
    end = told.end
    if isinstance(end, Failed | Cancelled | Expired):
        response = of_end(end).response()
        response.headers.update(headers)
        return response
    if end.warnings:
        headers["x-hearth-warnings"] = warning_header((*answer.job.submission.warnings, *end.warnings))
    made = told.made if told.made.token_ids else await answer.late()
    return JSONResponse(await body_of(answer, made, end), headers=headers)


def _headers(job: ChatJob, place: int | None) -> dict[str, str]:
    headers = {"x-job-id": str(job.submission.id)}
    if place is not None:
        headers["x-queue-position"] = str(place)
    if job.submission.warnings:
        headers["x-hearth-warnings"] = warning_header(job.submission.warnings)
    return headers


def warning_header(warnings: Iterable[str]) -> str:
    """All warnings in one line that a header can hold."""
    return "; ".join(warnings).encode("ascii", "replace").decode()


def idempotency(request: Request, body: bytes) -> Idempotency | None:
    """What makes a repeated request the same. Raises Refusal for a key that no header may hold."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Refusal(
            "invalid_value",
            "'Idempotency-Key' should be 1 to 255 printable ASCII characters",
            "Idempotency-Key",
        )
    return Idempotency(key, hashlib.sha256(request.url.path.encode() + b"\0" + body).hexdigest())


async def _earlier(shared: Context, job_id: JobId) -> ChatJob:
    record = await records.fetch(shared.redis, job_id)
    if record is None:
        raise Refusal("job_not_found", "the job of this Idempotency-Key is no longer kept; use another key")
    if not isinstance(record.job, ChatJob):
        raise Refusal(
            "invalid_value", "this Idempotency-Key belongs to a job of another kind; use another key"
        )
    return record.job
