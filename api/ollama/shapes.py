"""What Ollama's routes answer, for the documentation. Durations are nanoseconds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.ollama.answer import NDJSON

_Ns = Annotated[int, Field(ge=0)]


class VersionOut(BaseModel):
    version: Annotated[str, Field(description="Of Ollama's API as it is spoken here.")]
    hearth: str


class DetailsOut(BaseModel):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class TagOut(BaseModel):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: DetailsOut


class TagsOut(BaseModel):
    models: list[TagOut]


class ResidentOut(TagOut):
    size_vram: int
    expires_at: Annotated[str, Field(description="Far ahead: a resident has no date of departure.")]
    context_length: int


class ResidentsOut(BaseModel):
    models: list[ResidentOut]


class ShownOut(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    modelfile: str
    parameters: str
    template: str
    details: DetailsOut
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class CalledOut(BaseModel):
    index: int
    name: str
    arguments: dict[str, Any]


class CallOut(BaseModel):
    id: str
    function: CalledOut


class MessageOut(BaseModel):
    role: Literal["assistant"]
    content: str
    thinking: str | None = None
    tool_calls: list[CallOut] | None = None


class _Told(BaseModel):
    """A whole answer. As lines, the last one has all of this and the others only what came anew."""

    model: str
    created_at: str
    done: bool
    done_reason: Literal["stop", "length", "load"]
    total_duration: Annotated[_Ns, Field(description="The time in the queue included.")]
    queue_duration: _Ns
    load_duration: _Ns
    prompt_eval_count: int
    prompt_eval_duration: _Ns
    eval_count: int
    eval_duration: _Ns
    job_id: str
    warnings: list[str]


class ChatTold(_Told):
    message: MessageOut


class TextTold(_Told):
    response: str
    thinking: str | None = None


class _VectorsTold(BaseModel):
    total_duration: Annotated[_Ns, Field(description="The time in the queue included.")]
    queue_duration: _Ns
    load_duration: _Ns
    prompt_eval_count: int
    job_id: str
    warnings: list[str]


class EmbedTold(_VectorsTold):
    model: str
    embeddings: list[list[float]]


class EmbeddingTold(_VectorsTold):
    embedding: list[float]


class StatusOut(BaseModel):
    status: str


def lines_or(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """For ``responses=``: lines of JSON, or one object with ``stream`` false."""
    told = "Lines of JSON as they are made; with `stream` false this object alone."
    return {200: {"model": model, "description": told, "content": {NDJSON: {}}}}
