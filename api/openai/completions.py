"""``POST /v1/completions``: texts gone on with, without a chat template, at once or as a stream."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api import auth, context
from api.asked import ask_all, keeps
from api.board import resolve
from api.limits import read_json
from api.openai.chat import idempotency, made_of
from api.openai.completion_answer import TextAnswer, TextVoice, text_body
from api.openai.completion_request import Echoes, completion_jobs
from api.openai.completion_schemas import Completion, CompletionRequest
from api.openai.request import Terms, job_class, validated
from api.patience import refuse_the_hopeless
from api.request_id import request_id
from api.respond import body_schema, errors

router = APIRouter(tags=["OpenAI"])


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses=errors(400, 404, 409, 413, 415, 429, 503, 504),
    openapi_extra=body_schema(CompletionRequest),
    operation_id="create_completion",
)
async def create(request: Request) -> Response:
    """Go on with a text as it stands, or fill the gap before `suffix`.

    Several prompts, and `n` choices of each, are as many jobs. Streaming, cancelling, `x-job-id`,
    `x-hearth-keep` and `x-hearth-warnings` are as of a chat.
    """
    shared, keep = context.of(request), keeps(request)
    body, value = await read_json(request)
    fields = validated(CompletionRequest, value)
    model = resolve(await shared.board.catalog(), fields.model, "chat")
    given = job_class(fields, may_go_ahead=auth.may_go_ahead(request, shared.settings.queue))
    terms = Terms(auth.owner(request), given, has_reader=not keep)
    wanted = completion_jobs(fields, model, terms, shared.settings)
    if not fields.stream and not keep:
        await refuse_the_hopeless(request, shared, wanted[-1])
    asked = await ask_all(request, shared, wanted, idempotency(request, body), keep=keep)
    answer = TextAnswer(shared, Echoes.of(fields), *asked.jobs)
    if fields.stream:
        options = fields.stream_options
        voice = TextVoice(answer, include_usage=bool(options and options.include_usage))
        return asked.stream(shared, voice, request_id(request))
    told = await asked.all_told(request, shared, answer.started)
    if isinstance(told, Response):
        return told
    whole, headers = await made_of(answer, told, asked)
    return JSONResponse(await text_body(answer, whole), headers=headers)
