"""The OpenAPI document: what FastAPI makes of the routes, and what it cannot know of them.

Endpoints read their bodies by themselves, and every layer around them may refuse a request in the shape of
the dialect that is spoken. What may be answered is a promise: it is written down here, once for all routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.auth import OPEN_PATHS
from api.errors import OLLAMA, WEB_UI
from api.openai.schemas import ErrorEnvelope
from api.respond import SAYS, documented_bodies

Document = dict[str, Any]
_TEMPLATE = "#/components/schemas/{model}"
_ENVELOPE = _TEMPLATE.format(model=ErrorEnvelope.__name__)
_FROM_FASTAPI = ("HTTPValidationError", "ValidationError")


class OllamaError(BaseModel):
    """What is wrong, in words."""

    error: str


class WebUiFault(BaseModel):
    """A field at fault, by its place."""

    loc: list[str | int]
    msg: str
    type: str


class WebUiError(BaseModel):
    """The fields at fault, or what the web UI makes of an exception."""

    detail: list[WebUiFault] | str
    error: str | None = None
    body: str | None = None
    errors: str | None = None


def completed(plain: Callable[[], Document]) -> Callable[[], Document]:
    """``plain``, which makes FastAPI's document, with all of this added to what it makes."""

    def openapi() -> Document:
        document = plain()
        schemas = document["components"]["schemas"]
        if OllamaError.__name__ in schemas:  # FastAPI hands out the same object each time
            return document
        for name in _FROM_FASTAPI:
            schemas.pop(name, None)
        wanted = [(body, "validation") for body in documented_bodies()]
        shapes = [(shape, "serialization") for shape in (ErrorEnvelope, OllamaError, WebUiError)]
        _, definitions = models_json_schema([*wanted, *shapes], ref_template=_TEMPLATE)  # type: ignore[list-item]
        schemas.update(definitions["$defs"])
        for path, methods in document["paths"].items():
            for operation in methods.values():
                _complete(path, operation)
        return document

    return openapi


def _complete(path: str, operation: Document) -> None:
    responses = operation["responses"]
    for status in _refusals(path, operation):
        responses.setdefault(str(status), {"description": SAYS[status]})
    responses.pop("422", None)
    if path.startswith(WEB_UI) and "400" in responses:
        responses["422"] = responses.pop("400")
    for status, answer in responses.items():
        if int(status) >= 400 and _is_ours(answer):
            answer["content"] = {"application/json": {"schema": {"$ref": _shape(path)}}}
    operation["responses"] = dict(sorted(responses.items()))


def _refusals(path: str, operation: Document) -> Iterator[int]:
    """What the layers around an endpoint, and the reading of its request, may answer in its place."""
    yield 403
    if path not in OPEN_PATHS:
        yield from (401, 503)
    if any(
        each["schema"] != {**each["schema"], "type": "string"} for each in operation.get("parameters", ())
    ):
        yield 400
    if "requestBody" in operation:
        yield from (400, 408, 413)
        if not path.startswith(OLLAMA):
            yield 415


def _is_ours(answer: Document) -> bool:
    """Whether it is an error as all others: told as the envelope, or not told of at all."""
    schemas = [content.get("schema", {}) for content in answer.get("content", {}).values()]
    return all(schema.get("$ref", _ENVELOPE) == _ENVELOPE for schema in schemas)


def _shape(path: str) -> str:
    """The error of the dialect that is spoken at ``path``."""
    if path.startswith(WEB_UI):
        return _TEMPLATE.format(model=WebUiError.__name__)
    return _TEMPLATE.format(model=OllamaError.__name__) if path.startswith(OLLAMA) else _ENVELOPE
