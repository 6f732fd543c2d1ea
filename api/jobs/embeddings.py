"""Native jobs of kind ``embed``: what one asks for, and the vectors it made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, WithJsonSchema

from api import context
from api.embeddings import vectors
from api.embeddings.wanted import Shape, embed_job, read_ids, read_texts
from api.errors import Refusal
from api.jobs import owned
from api.jobs.schemas import DeadlineS, GridIn
from api.openai.embeddings import EmbeddingList, Texts
from api.openai.faults import missing, unknown_names, unsupported
from api.openai.schemas import Wire
from api.respond import errors
from api.terms import Terms
from api.webhooks.asked import WebhookField
from config.settings import Settings
from tasks.board import Model
from tasks.jobs import EmbedJob, JobState, Text

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["Jobs"])

_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
Ids = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "array", "items": _IDS}, {"type": "null"}]})]


class EmbedJobRequest(Wire):
    """Vectors of texts. They are not in the job's record but at `/v1/jobs/{id}/embeddings`."""

    kind: Literal["embed"]
    model: Annotated[
        str | None,
        Field(min_length=1, description="Id or alias of an embedding model; default the first there is."),
    ] = None
    input: Annotated[Texts, Field(description="A text, or a list of them.")] = None
    token_ids: Annotated[
        Ids,
        Field(
            description="Instead of `input`: token ids of the model's own tokenizer, marks included; one "
            "list for each text."
        ),
    ] = None
    dimensions: Annotated[
        int | None, Field(ge=1, description="Shorter vectors, where the package says they may be cut.")
    ] = None
    prompt_name: Annotated[
        str | None, Field(description="Which of the package's prompts stands before each text.")
    ] = None
    truncate: Annotated[
        bool | None, Field(description="Cut texts that are too long; default: the job fails.")
    ] = None
    metadata: Annotated[
        dict[str, str] | None, Field(description="Up to 16 pairs, kept with the job (64 and 512 characters).")
    ] = None
    job_class: Annotated[
        Literal["chat", "batch"] | None,
        Field(alias="class", description="Default `batch`, which waits behind everybody else."),
    ] = None
    deadline_s: DeadlineS = None
    webhook: WebhookField = None
    grid: GridIn = None


def wanted_vectors(
    fields: EmbedJobRequest, body: dict[str, Any], model: Model, terms: Terms, settings: Settings
) -> EmbedJob:
    """Raises Refusal, naming the field at fault."""
    return embed_job(
        _inputs(fields, settings.limits.embedding_inputs),
        Shape(fields.dimensions, fields.prompt_name, bool(fields.truncate)),
        model,
        terms,
        settings,
        metadata=fields.metadata,
        warnings=tuple(unknown_names(body, EmbedJobRequest)),
    )


def _inputs(fields: EmbedJobRequest, most: int) -> tuple[Text, ...]:
    if fields.token_ids is None:
        if fields.input is None:
            raise missing("input")
        return read_texts(fields.input, most, "input")
    if fields.input is not None:
        raise unsupported("token_ids", "there is 'input' beside it: send one of the two")
    if fields.prompt_name is not None:
        raise unsupported("prompt_name", "ids are taken as they are: no prompt can stand before them")
    return read_ids(fields.token_ids, most, "token_ids")


@router.get(
    "/embeddings",
    response_model=EmbeddingList,
    responses=errors(400, 404, 409, 503),
    operation_id="show_embeddings",
)
async def show(
    request: Request,
    job_id: str,
    encoding_format: Annotated[
        Literal["float", "base64"], Query(description="`base64`: of float32, little-endian.")
    ] = "float",
) -> Response:
    """The vectors that the job made, as `POST /v1/embeddings` tells them. 409 until the job has ended."""
    shared = context.of(request)
    record = await owned.job(request, shared, job_id)
    if not isinstance(record.job, EmbedJob):
        raise Refusal("vectors_not_found", "this is no job that makes embeddings")
    if not record.state.is_terminal:
        raise Refusal("vectors_not_ready", f"the vectors are not ready: the job is {record.state}")
    if record.state is not JobState.SUCCEEDED:
        raise Refusal("vectors_not_found", f"there are no vectors: the job is {record.state}")
    tokens = record.usage.prompt_tokens if record.usage else 0
    found = vectors.of_record(record)
    return await vectors.respond(record.job.model, found, tokens, as_base64=encoding_format == "base64")
