"""Ollama's embeddings: ``/api/embed``, and ``/api/embeddings`` as older clients know it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, WithJsonSchema

from api import auth, context
from api.asked import keeps
from api.context import Context
from api.embeddings import vectors
from api.embeddings.call import Made, made
from api.embeddings.wanted import Shape, embed_job, read_texts, resolve_embedding
from api.limits import read_json
from api.ollama import names
from api.ollama.request import check_keep_alive
from api.ollama.schemas import KeepAlive, NameRequest
from api.ollama.shapes import EmbeddingTold, EmbedTold
from api.openai.request import validated
from api.respond import body_schema, errors
from api.terms import Terms
from tasks.jobs import JobClass

router = APIRouter(tags=["Ollama"])

_TEXT = {"type": "string"}
_INPUT = Annotated[
    Any, WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "null"}]})
]


class _Request(NameRequest):
    keep_alive: Annotated[KeepAlive, Field(description="A wish only.")] = None
    options: Annotated[dict[str, Any] | None, Field(description="None has an effect on vectors.")] = None


class OllamaEmbed(_Request):
    """Texts to be turned into vectors. Without any: bring the model to the card."""

    input: Annotated[_INPUT, Field(description="A text, or a list of them.")] = None
    truncate: Annotated[
        bool | None, Field(description="Cut texts that are too long, which is the default; else refuse them.")
    ] = None
    dimensions: Annotated[
        int | None, Field(ge=1, description="Shorter vectors, where the package says they may be cut.")
    ] = None


class OllamaEmbeddings(_Request):
    """One text, in the older form."""

    prompt: str | None = None


@router.post(
    "/api/embed",
    response_model=EmbedTold,
    responses=errors(404, 504),
    openapi_extra=body_schema(OllamaEmbed),
    operation_id="ollama_embed",
)
async def embed(request: Request) -> Response:
    """Turn texts into vectors of length 1."""
    shared = context.of(request)
    _, value = await read_json(request)
    fields = validated(OllamaEmbed, value)
    shape = Shape(fields.dimensions, truncate=fields.truncate is not False)
    told = await _made(request, shared, fields, fields.input or [], shape)
    if isinstance(told, Response):
        return told
    return _answer(
        told, {"model": names.named(fields), "embeddings": list(map(vectors.numbers, told.vectors))}
    )


@router.post(
    "/api/embeddings",
    response_model=EmbeddingTold,
    responses=errors(404, 504),
    openapi_extra=body_schema(OllamaEmbeddings),
    operation_id="ollama_embeddings",
)
async def embeddings(request: Request) -> Response:
    """The vector of one text, in the form that `/api/embed` has replaced."""
    shared = context.of(request)
    _, value = await read_json(request)
    fields = validated(OllamaEmbeddings, value)
    told = await _made(request, shared, fields, fields.prompt or [], Shape(truncate=True))
    if isinstance(told, Response):
        return told
    return _answer(told, {"embedding": vectors.numbers(b"".join(told.vectors))})


async def _made(
    request: Request, shared: Context, fields: _Request, texts: Any, shape: Shape
) -> Made | Response:
    name, catalog = names.named(fields), await shared.board.catalog()
    found = names.look(catalog, name)
    model = resolve_embedding(catalog, name if found is None else found.id)
    check_keep_alive(fields.keep_alive)
    inputs = read_texts(texts, shared.settings.limits.embedding_inputs, "input", may_be_blank=True)
    terms = Terms(auth.owner(request), JobClass.CHAT, has_reader=not keeps(request))
    return await made(request, shared, embed_job(inputs, shape, model, terms, shared.settings))


def _answer(told: Made, fields: dict[str, Any]) -> Response:
    """Durations are nanoseconds; ``queue_duration`` is a part of ``total_duration``."""
    body = {
        **fields,
        "total_duration": _ns(told.total_ms),
        "queue_duration": _ns(told.queued_ms),
        "load_duration": _ns(told.end.timings.load_ms),
        "prompt_eval_count": told.end.usage.prompt_tokens,
        "job_id": told.job.submission.id,
        "warnings": [*told.job.submission.warnings, *told.end.warnings],
    }
    return JSONResponse(body, headers=dict(told.headers))


def _ns(milliseconds: float) -> int:
    return round(milliseconds * 1_000_000)
