"""Answers made of models, and what the documentation says of errors."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel

from api.openai.schemas import ErrorEnvelope


def as_json(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A body in full, nulls included: a client need not ask whether a field is there."""
    body = model.model_dump_json(by_alias=True)
    return Response(body, status, headers, media_type="application/json")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For ``responses=``: these statuses are errors, told in the dialect's form (``document``)."""
    return {status: {"model": ErrorEnvelope, "description": SAYS[status]} for status in statuses}


SAYS = {
    400: "A field is wrong, unsupported or missing; it is named.",
    401: "This server wants its API key.",
    403: "This key asks for answers only; or a web page or a name of others asks.",
    404: "There is no such model, job, batch, file, picture or endpoint (for this key).",
    408: "The body did not arrive in time, or not whole.",
    409: "The Idempotency-Key came with another body, the job was cancelled, or a batch needs the file.",
    410: "The file is no longer kept, or this is no longer offered.",
    413: "The body is too large.",
    415: "The body is not announced as JSON (or a form, where one is taken).",
    429: "The queue is full; `Retry-After` says when to try again.",
    501: "Not offered here.",
    502: "The receiver could not be reached, or gave no answer.",
    503: "Starting, or the queue or the card cannot be reached; `Retry-After` says when to try again.",
    507: "The server's disk is full, or the share of it that files may take.",
    504: "The job's deadline passed.",
}


_BODIES: set[type[BaseModel]] = set()


def documented_bodies() -> list[type[BaseModel]]:
    """What ``body_schema`` was asked for, in the order of their names."""
    return sorted(_BODIES, key=lambda model: model.__name__)


def body_schema(
    *models: type[BaseModel], or_list: bool = False, or_form: dict[str, Any] | None = None
) -> dict[str, Any]:
    """For ``openapi_extra=``: a body that the endpoint reads by itself. ``main`` adds the models' schemas.

    ``or_form`` is the schema of the same as a form.
    """
    _BODIES.update(models)
    forms = [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]
    one = forms[0] if len(forms) == 1 else {"anyOf": forms}
    schema = {"anyOf": [*forms, {"type": "array", "items": one}]} if or_list else one
    content = {"application/json": {"schema": schema}}
    if or_form is not None:
        content["multipart/form-data"] = {"schema": or_form}
    return {"requestBody": {"required": True, "content": content}}


def form_body(model: type[BaseModel], *files: str) -> dict[str, Any]:
    """For ``openapi_extra=``: a form that the endpoint reads by itself, as ``form_schema`` has it."""
    _BODIES.add(model)
    content = {"multipart/form-data": {"schema": form_schema(model, *files)}}
    return {"requestBody": {"required": True, "content": content}}


def form_schema(model: type[BaseModel], *files: str) -> dict[str, Any]:
    """For ``or_form=``: the fields of ``model`` in a form, ``files`` as files; the first is needed."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    for name in files:
        told = schema["properties"][name].get("description", "")
        schema["properties"][name] = {"type": "string", "format": "binary", "description": told}
    schema.setdefault("required", []).append(files[0])
    return schema


def seconds(at_ms: float) -> float:
    return round(at_ms) / 1000
