"""``POST /v1/chat/completions``: a job, and its answer in OpenAI's words, at once or as a stream."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api import auth, background, context
from api.asked import Answered, Asked, ask_all, keeps, warning_header
from api.board import resolve
from api.context import Context
from api.errors import Refusal
from api.limits import read_json
from api.openai.answer import Answer, ChunkVoice, body_of
from api.openai.request import Terms, chat_jobs, job_class, validated
from api.openai.schemas import ChatCompletion, ChatRequest
from api.patience import refuse_the_hopeless
from api.request_id import request_id
from api.respond import body_schema, errors
from tasks.events import Finished
from tasks.made import Made
from tasks.submit import Idempotency

router = APIRouter(tags=["OpenAI"])

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


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
    With `n`, each choice is a job: they are accepted together or not at all, and when one fails, so does the
    whole. The job behind an answer stands in `x-job-id` (the first one, and all of them in `x-job-ids`); what
    had no effect stands in `x-hearth-warnings`.
    """
    shared = context.of(request)
    body, value = await read_json(request)
    fields = validated(ChatRequest, value)
    model = resolve(await shared.board.catalog(), fields.model, "chat")
    keep = keeps(request)
    given = job_class(fields, may_go_ahead=auth.may_go_ahead(request, shared.settings.queue))
    terms = Terms(auth.owner(request), given, has_reader=not keep)
    if shared.settings.queue.background_last and _is_background(request, fields):
        terms = terms.last(background.NOTE)
    wanted = chat_jobs(fields, model, terms, shared.settings)
    if not fields.stream and not keep:
        await refuse_the_hopeless(request, shared, wanted[-1])
    asked = await ask_all(request, shared, wanted, idempotency(request, body), keep=keep)
    answer = Answer(shared, *asked.jobs)
    if fields.stream:
        options = fields.stream_options
        voice = ChunkVoice(answer, include_usage=bool(options and options.include_usage))
        return asked.stream(shared, voice, request_id(request))
    return await _whole(request, shared, answer, asked)


def _is_background(request: Request, fields: ChatRequest) -> bool:
    """Who names a tier knows what it wants."""
    if fields.service_tier not in (None, "auto") or fields.tools:
        return False
    turns = [(turn.role, turn.content) for turn in fields.messages if isinstance(turn.content, str)]
    has_parts = len(turns) < len(fields.messages)
    return background.is_background(
        request.headers, fields.metadata, [] if has_parts else turns, streams=bool(fields.stream)
    )


async def _whole(request: Request, shared: Context, answer: Answer, asked: Asked) -> Response:
    told = await asked.all_told(request, shared, answer.started)
    if isinstance(told, Response):
        return told
    whole, headers = await made_of(answer, told, asked)
    return JSONResponse(await body_of(answer, whole), headers=headers)


async def made_of(
    answer: Answer, told: Sequence[Answered], asked: Asked
) -> tuple[list[tuple[Made, Finished]], dict[str, str]]:
    """What a body is made of, also when the journals of a repeated request have gone, and its headers."""
    headers = dict(asked.headers)
    # The choices of one request mostly have the same to tell.
    late = dict.fromkeys(warning for one in told for warning in one.end.warnings)
    if late:
        headers["x-hearth-warnings"] = warning_header((*answer.job.submission.warnings, *late))
    whole = [
        (one.made if one.made.token_ids else await answer.late(choice), one.end)
        for choice, one in enumerate(told)
    ]
    return whole, headers


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
