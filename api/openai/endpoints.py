"""What the lines of a batch may ask for: per endpoint, how a body becomes jobs, and ended jobs an answer.

To enter another endpoint, give it two functions and a row in ``ENDPOINTS``:

- ``read(asked)`` returns the jobs that the body asks for, one or several (``n``), checked by the very
  functions that its live route calls. Their submissions come from ``asked.terms``, which are those of the
  batch. It raises Refusal or JobError, whose ``param`` is the field's name within the body.
- ``tell(ended)`` returns the body that the live route would answer with, made of the records alone: a journal
  lives for an hour, a batch for a day. It is called only when all jobs of the line have succeeded. A field
  whose answer no record keeps is to be refused by ``read``, by name.

Neither sees ``stream``: no line may ask for it. The body that ``tell`` gets is the one that ``read`` took.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.board import resolve, resolve_or_default
from api.context import Context
from api.embeddings import vectors
from api.openai import embeddings, image_answer
from api.openai.answer import Answer, body_of
from api.openai.completion_answer import TextAnswer, text_body
from api.openai.completion_request import Echoes, completion_jobs
from api.openai.completion_schemas import CompletionRequest
from api.openai.faults import unsupported
from api.openai.image_answer import Setting
from api.openai.image_request import NAMES, drawing_of, quality_told
from api.openai.image_schemas import ImageRequest
from api.openai.request import chat_jobs, validated
from api.openai.responses import request as response_request
from api.openai.responses.kept import of_record
from api.openai.schemas import ChatRequest
from api.pictures.drawing import image_jobs
from api.pictures.inputs import Inputs
from api.terms import Terms
from tasks.board import Catalog
from tasks.events import Finished, Started
from tasks.jobs import ChatJob, EmbedJob, ImageJob, Job
from tasks.made import Made
from tasks.records import JobRecord


@dataclass(frozen=True, slots=True)
class Asked:
    """One line's body, and what it shares with its batch."""

    body: Mapping[str, Any]
    terms: Terms
    catalog: Catalog
    shared: Context


@dataclass(frozen=True, slots=True)
class Ended:
    """The same body with the records of its jobs, all succeeded, in the order in which ``read`` made them.

    ``base_url``: how the client reached this server, without a slash at its end.
    """

    body: Mapping[str, Any]
    records: Sequence[JobRecord]
    base_url: str
    shared: Context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """See above."""

    read: Callable[[Asked], Awaitable[Sequence[Job]]]
    tell: Callable[[Ended], Awaitable[dict[str, Any]]]


async def _read_chat(asked: Asked) -> Sequence[Job]:
    fields = validated(ChatRequest, dict(asked.body))
    if fields.logprobs:
        raise unsupported("logprobs", "probabilities are not kept long enough for a batch; leave it out")
    model = resolve(asked.catalog, fields.model, "chat")
    return chat_jobs(fields, model, asked.terms, asked.shared.settings)


async def _tell_chat(ended: Ended) -> dict[str, Any]:
    answer = Answer(ended.shared, *chats_of(ended))
    return await body_of(answer, _made(ended, answer))


def chats_of(ended: Ended) -> list[ChatJob]:
    """The jobs of a line that asked for text. Raises TypeError when one is something else."""
    jobs = [record.job for record in ended.records if isinstance(record.job, ChatJob)]
    if len(jobs) != len(ended.records):
        raise TypeError("a line that asked for text was answered by something else. This is a bug.")
    return jobs


async def _read_response(asked: Asked) -> Sequence[Job]:
    told = await response_request.wanted(dict(asked.body), asked.shared, asked.terms.owner)
    if told.chat.logprobs:
        raise unsupported("include", "probabilities are not kept long enough for a batch; leave them out")
    if told.fields.background:
        raise unsupported("background", "all of a batch is in the background; leave it out")
    model = resolve(asked.catalog, told.fields.model, "chat")
    return [told.job(model, asked.terms, asked.shared.settings)]


async def _tell_response(ended: Ended) -> dict[str, Any]:
    record, job = ended.records[0], ended.records[0].job
    if not isinstance(job, ChatJob):
        raise TypeError(f"{record.id} is no response. This is a bug.")
    return of_record(record, job)


async def _read_text(asked: Asked) -> Sequence[Job]:
    fields = validated(CompletionRequest, dict(asked.body))
    if fields.logprobs is not None:
        raise unsupported("logprobs", "probabilities are not kept long enough for a batch; leave it out")
    model = resolve(asked.catalog, fields.model, "chat")
    return completion_jobs(fields, model, asked.terms, asked.shared.settings)


async def _tell_text(ended: Ended) -> dict[str, Any]:
    fields = validated(CompletionRequest, dict(ended.body))
    answer = TextAnswer(ended.shared, Echoes.of(fields), *chats_of(ended))
    return await text_body(answer, _made(ended, answer))


def _made(ended: Ended, answer: Answer) -> list[tuple[Made, Finished]]:
    told = []
    for record, end in zip(ended.records, finished(ended), strict=True):
        answer.started(Started(record.attempt, record.card or ""))
        told.append((Made.kept(record.text, record.reasoning, record.calls), end))
    return told


async def _read_image(asked: Asked) -> Sequence[Job]:
    fields = validated(ImageRequest, dict(asked.body))
    settings = asked.shared.settings
    model = resolve_or_default(asked.catalog, fields.model, "image")
    drawing = await drawing_of(fields, asked.body, model, Inputs(settings.limits))
    return image_jobs(drawing, model, asked.terms, settings, count=fields.n or 1, names=NAMES)


async def _tell_image(ended: Ended) -> dict[str, Any]:
    fields = validated(ImageRequest, dict(ended.body))
    as_url = fields.response_format == "url"
    setting = Setting("image_generation", quality_told(fields), ended.base_url, as_url)
    jobs = [record.job for record in ended.records if isinstance(record.job, ImageJob)]
    body = await image_answer.body_of(ended.shared, setting, jobs, finished(ended))
    return body.model_dump(by_alias=True, mode="json")


async def _read_embeddings(asked: Asked) -> Sequence[Job]:
    return [embeddings.line_job(asked.body, asked.catalog, asked.terms, asked.shared.settings)]


async def _tell_embeddings(ended: Ended) -> dict[str, Any]:
    record, job = ended.records[0], ended.records[0].job
    if not isinstance(job, EmbedJob):
        raise TypeError(f"{record.id} makes no embeddings. This is a bug.")
    tokens = finished(ended)[0].usage.prompt_tokens
    return embeddings.line_answer(ended.body, job, vectors.of_record(record), tokens)


def finished(ended: Ended) -> list[Finished]:
    """How the jobs ended. Raises ValueError when one of them did not succeed."""
    ends = [record.ending() for record in ended.records]
    good = [end for end in ends if isinstance(end, Finished)]
    if len(good) != len(ends):
        raise ValueError("an answer was to be made of jobs that did not all succeed. This is a bug.")
    return good


ENDPOINTS: dict[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(_read_chat, _tell_chat),
    "/v1/completions": Endpoint(_read_text, _tell_text),
    "/v1/images/generations": Endpoint(_read_image, _tell_image),
    "/v1/embeddings": Endpoint(_read_embeddings, _tell_embeddings),
    "/v1/responses": Endpoint(_read_response, _tell_response),
}
"""By path, as a batch and its lines name it."""
