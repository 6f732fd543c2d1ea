"""Ollama's routes: what is answered, and what is refused because it would change the models.

What brings packages and removes them is in ``store``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse

from api import auth, background, context
from api.asked import ask, keeps
from api.context import VERSION
from api.errors import Refusal
from api.limits import read_json
from api.ollama import names
from api.ollama.answer import NDJSON, Answer, LineVoice, Say, as_message, as_response, farewell
from api.ollama.request import is_farewell, is_warm_up, wanted_chat, wanted_text
from api.ollama.schemas import OllamaChat, OllamaGenerate, OllamaShow
from api.ollama.shapes import ChatTold, ResidentsOut, ShownOut, TagsOut, TextTold, VersionOut, lines_or
from api.openai.request import Terms, validated
from api.request_id import request_id
from api.respond import body_schema, errors
from api.unloading import take_off
from tasks.board import Model
from tasks.jobs import ChatJob, JobClass

router = APIRouter(tags=["Ollama"])

OLLAMA_VERSION = "0.13.5"
"""The version whose API is spoken here: clients look at it to know what they may ask for."""
_ASKED = (403, 404, 409, 429, 504)
_STAYS = timedelta(days=3650)
"""A resident has no date of departure: it leaves when another one needs its room. The field wants a date."""


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def root(request: Request) -> Response:
    """What Ollama says to who looks whether it lives; a browser is shown the documentation."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/docs")
    return PlainTextResponse("Ollama is running")


@router.head("/api/version", include_in_schema=False)
@router.get("/api/version", response_model=VersionOut, operation_id="ollama_version")
async def version() -> dict[str, str]:
    """The version of Ollama's API that is spoken here, and Hearth's own."""
    return {"version": OLLAMA_VERSION, "hearth": VERSION}


@router.head("/api/tags", include_in_schema=False)
@router.get("/api/tags", response_model=TagsOut, operation_id="ollama_tags")
async def tags(request: Request) -> Response:
    """The models that can be chatted with, and those that make embeddings."""
    catalog = await context.of(request).board.catalog()
    return JSONResponse({"models": [_listed(model) for model in catalog.models if _is_usable(model)]})


@router.get("/api/ps", response_model=ResidentsOut, operation_id="ollama_ps")
async def ps(request: Request) -> Response:
    """The models on the cards now. They have no date of departure: `expires_at` lies far ahead."""
    board = context.of(request).board
    catalog, cards = await board.catalog(), await board.cards()
    leaves = (datetime.now(UTC) + _STAYS).isoformat()
    told = []
    for card in cards:
        for resident in card.residents.models if card.residents else ():
            model = catalog.find(resident.model)
            if model is not None:
                size = {"size": resident.size_bytes, "size_vram": resident.size_bytes}
                more = {"expires_at": leaves, "context_length": resident.context or model.context or 0}
                told.append({**_listed(model), **size, **more})
    return JSONResponse({"models": told})


@router.post(
    "/api/show",
    response_model=ShownOut,
    responses=errors(404),
    openapi_extra=body_schema(OllamaShow),
    operation_id="ollama_show",
)
async def show(request: Request) -> Response:
    """One model: its family, context and capabilities."""
    _, value = await read_json(request)
    catalog = await context.of(request).board.catalog()
    model = names.find_any(catalog, names.named(validated(OllamaShow, value)))
    architecture = model.family or "unknown"
    info: dict[str, Any] = {"general.architecture": architecture, "general.basename": model.id}
    if model.context is not None:
        info[f"{architecture}.context_length"] = model.context
    if model.embedding is not None and model.embedding.dimensions is not None:
        info[f"{architecture}.embedding_length"] = model.embedding.dimensions
    parameters = "\n".join(f"{name:<30} {value:g}" for name, value in sorted(model.sampling.items()))
    told = {
        "modelfile": "",
        "parameters": parameters,
        "template": "",
        "details": names.details(model),
        "model_info": info,
        "capabilities": _capabilities(model),
        "modified_at": _changed_at(model),
    }
    return JSONResponse(told)


@router.post(
    "/api/chat",
    responses={**lines_or(ChatTold), **errors(*_ASKED)},
    openapi_extra=body_schema(OllamaChat),
    operation_id="ollama_chat",
)
async def chat(request: Request) -> Response:
    """Answer a conversation: lines of JSON as they are made, or with `stream` false one object.

    While a job waits, lines with a `status` and no text tell its place in the queue. `x-job-id` is its id.
    """
    shared = context.of(request)
    _, value = await read_json(request)
    fields = validated(OllamaChat, value)
    model = names.find(await shared.board.catalog(), fields.model)
    if is_farewell(fields):
        return await _sent_away(request, model, fields.model, as_message)
    terms = _terms(request)
    if shared.settings.queue.background_last and _is_background(request, fields):
        terms = terms.last(background.NOTE)
    job = wanted_chat(fields, model, terms, shared.settings)
    return await _answered(request, job, Answer(job, fields.model, as_message, is_warm_up(fields)), fields)


@router.post(
    "/api/generate",
    responses={**lines_or(TextTold), **errors(*_ASKED)},
    openapi_extra=body_schema(OllamaGenerate),
    operation_id="ollama_generate",
)
async def generate(request: Request) -> Response:
    """Answer a prompt, as the user's turn of a conversation; streams as `/api/chat` does."""
    shared = context.of(request)
    _, value = await read_json(request)
    fields = validated(OllamaGenerate, value)
    model = names.find(await shared.board.catalog(), fields.model)
    if is_farewell(fields):
        return await _sent_away(request, model, fields.model, as_response)
    job = wanted_text(fields, model, _terms(request), shared.settings)
    return await _answered(request, job, Answer(job, fields.model, as_response, is_warm_up(fields)), fields)


@router.post("/api/create", include_in_schema=False)
@router.post("/api/push", include_in_schema=False)
@router.post("/api/copy", include_in_schema=False)
@router.head("/api/blobs/{digest}", include_in_schema=False)
@router.post("/api/blobs/{digest}", include_in_schema=False)
async def refused() -> Response:
    """Models are directories on the server: who may write there needs none of these routes."""
    raise Refusal("not_supported", "models are directories on the server; they cannot be changed from here")


async def _answered(
    request: Request, job: ChatJob, answer: Answer, fields: OllamaChat | OllamaGenerate
) -> Response:
    shared = context.of(request)
    asked = await ask(request, shared, job, keep=keeps(request))
    if fields.stream is not False:
        return asked.stream(shared, LineVoice(answer), request_id(request), NDJSON)
    told = await asked.told(request, shared, answer.started)
    if isinstance(told, Response):
        return told
    return JSONResponse(answer.whole(told.made, told.end), headers=asked.headers)


async def _sent_away(request: Request, model: Model, name: str, say: Say) -> Response:
    """One object, streamed or not: that is how a stream of one line looks, too."""
    if not auth.is_admin(request):
        told = "keep_alive: 0 without a prompt takes the model from everybody: it needs a key with 'admin'"
        raise Refusal("permission_denied", told, "keep_alive")
    await take_off(context.of(request), auth.owner(request), model)
    return JSONResponse(farewell(name, say))


def _is_background(request: Request, fields: OllamaChat) -> bool:
    turns = [(turn.role, turn.content or "") for turn in fields.messages or ()]
    streams = fields.stream is not False or bool(fields.tools)
    return background.is_background(request.headers, None, turns, streams=streams)


def _terms(request: Request) -> Terms:
    return Terms(auth.owner(request), JobClass.CHAT, has_reader=not keeps(request))


def _is_usable(model: Model) -> bool:
    return model.kind in names.KINDS and model.problem is None


def _listed(model: Model) -> dict[str, Any]:
    name = names.tagged(model)
    return {
        "name": name,
        "model": name,
        "modified_at": _changed_at(model),
        "size": model.size_bytes,
        "digest": names.digest(model),
        "details": names.details(model),
    }


def _capabilities(model: Model) -> list[str]:
    if model.kind == "embed":
        return ["embedding"]
    more = {"tools": model.knows_tools, "thinking": model.knows_thinking}
    return ["completion", *(name for name, knows in more.items() if knows)]


def _changed_at(model: Model) -> str:
    return datetime.fromtimestamp(model.created_at_s, UTC).isoformat()
