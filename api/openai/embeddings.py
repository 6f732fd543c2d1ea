"""``POST /v1/embeddings``: a job, and its vectors in OpenAI's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, WithJsonSchema

from api import auth, context
from api.asked import keeps
from api.embeddings import vectors
from api.embeddings.call import made
from api.embeddings.wanted import Shape, embed_job, read_texts, refuse_ids, resolve_embedding
from api.limits import read_json
from api.openai.chat import idempotency
from api.openai.request import validated
from api.openai.schemas import Wire
from api.respond import body_schema, errors
from api.terms import Terms
from config.settings import Settings
from tasks.board import Catalog, Model
from tasks.jobs import EmbedJob, JobClass

router = APIRouter(tags=["OpenAI"])

_TEXT = {"type": "string", "minLength": 1}
Texts = Annotated[
    Any,
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}], "title": "Input"}),
]


class EmbeddingRequest(Wire):
    """Texts to be turned into vectors. What Hearth does not know is ignored."""

    model: Annotated[str, Field(min_length=1, description="Id or alias of a model of kind `embed`.")]
    input: Annotated[Texts, Field(description="A text, or a list of them. Token ids are refused.")]
    encoding_format: Annotated[
        Literal["float", "base64"] | None,
        Field(description="`base64`: of float32, little-endian. Default `float`."),
    ] = None
    dimensions: Annotated[
        int | None, Field(ge=1, description="Shorter vectors, where the package says they may be cut.")
    ] = None
    user: str | None = None
    prompt_name: Annotated[
        str | None,
        Field(description="Which of the package's prompts stands before each text (`GET /v1/models`)."),
    ] = None


class EmbeddingOut(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: Annotated[list[float] | str, Field(description="Of length 1: numbers, or their base64.")]


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """One vector for each input, in their order."""

    object: Literal["list"] = "list"
    data: list[EmbeddingOut]
    model: str
    usage: EmbeddingUsage


@router.post(
    "/v1/embeddings",
    response_model=EmbeddingList,
    responses=errors(400, 404, 409, 413, 415, 429, 503, 504),
    openapi_extra=body_schema(EmbeddingRequest),
    operation_id="create_embeddings",
)
async def create(request: Request) -> Response:
    """Turn texts into vectors of length 1.

    A text that is longer than the model's context is refused, never cut. 404 where no embedding model is
    installed; the message says how to add one. A client that closes the connection cancels its job;
    `x-hearth-keep: true` prevents it. The job behind an answer stands in `x-job-id`; it is kept for two
    minutes, those of `POST /v1/jobs` for a week.
    """
    shared = context.of(request)
    body, value = await read_json(request)
    fields = validated(EmbeddingRequest, value)
    model = resolve_embedding(await shared.board.catalog(), fields.model)
    terms = Terms(auth.owner(request), JobClass.CHAT, has_reader=not keeps(request))
    wanted = wanted_vectors(fields, model, terms, shared.settings)
    told = await made(request, shared, wanted, idempotency(request, body))
    if isinstance(told, Response):
        return told
    return await vectors.respond(
        wanted.model,
        told.vectors,
        told.end.usage.prompt_tokens,
        as_base64=fields.encoding_format == "base64",
        headers=told.headers,
    )


def wanted_vectors(fields: EmbeddingRequest, model: Model, terms: Terms, settings: Settings) -> EmbedJob:
    """Raises Refusal, naming the field at fault."""
    first = fields.input[0] if isinstance(fields.input, list) and fields.input else None
    if isinstance(first, int | list):
        raise refuse_ids(model)
    texts = read_texts(fields.input, settings.limits.embedding_inputs, "input")
    return embed_job(texts, Shape(fields.dimensions, fields.prompt_name), model, terms, settings)


def line_job(body: Mapping[str, Any], catalog: Catalog, terms: Terms, settings: Settings) -> EmbedJob:
    """The job of one line of a batch. Raises as the route does."""
    fields = validated(EmbeddingRequest, dict(body))
    return wanted_vectors(fields, resolve_embedding(catalog, fields.model), terms, settings)


def line_answer(body: Mapping[str, Any], job: EmbedJob, found: list[bytes], tokens: int) -> dict[str, Any]:
    """The body that the route would have answered that line with."""
    return vectors.listed(job.model, found, tokens, as_base64=body.get("encoding_format") == "base64")
