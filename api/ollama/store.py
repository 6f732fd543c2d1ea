"""Ollama's words for packages: pulled from the catalogue of this machine, and deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from api import auth, context
from api.context import Context
from api.errors import Problem, Refusal, shutting_down
from api.limits import read_json
from api.ollama import names
from api.ollama.answer import NDJSON
from api.ollama.schemas import OllamaDelete, OllamaPull
from api.ollama.shapes import StatusOut, lines_or
from api.openai.request import validated
from api.packages import shelf
from api.packages.copying import Stopped
from api.packages.pulls import Pull, known
from api.packages.removal import remove
from api.request_id import problem_of, request_id
from api.respond import body_schema, errors
from api.wait import ClientGone, Leaving, on_the_line
from tasks.board import Catalog
from tasks.errors import ModelUnusable

router = APIRouter(tags=["Ollama"])

_SUCCESS = {"status": "success"}
_CLIENT_CLOSED = 499


@router.post(
    "/api/pull",
    responses={**lines_or(StatusOut), **errors(404, 409, 507)},
    openapi_extra=body_schema(OllamaPull),
    operation_id="ollama_pull",
)
async def pull(request: Request) -> Response:
    """Bring a package from the catalogue of this machine; succeeds at once for a model that is here.

    Nothing is downloaded. Whoever asks for a package that is on its way follows the same pull; it stops when
    nobody does any more, and the next one goes on where it stopped.
    """
    shared = context.of(request)
    fields = validated(OllamaPull, (await read_json(request))[1])
    name = names.named(fields)
    is_stream = fields.stream is not False
    if _is_here(await known(shared.board), name):
        return _lines_of({"status": "pulling manifest"}, _SUCCESS) if is_stream else JSONResponse(_SUCCESS)
    if shared.settings.models_dir is None:  # one that was named may be a disk that is not there just now
        shared.settings.packages_dir.mkdir(exist_ok=True)
    bare = name.removesuffix(names.LATEST)
    package = await asyncio.to_thread(shelf.find, shared.settings.models, bare)
    going = await shared.pulls.join(package, shared.settings.packages_dir, shared.board, shared.closing)
    if is_stream:
        return StreamingResponse(_told(going, request_id(request)), media_type=NDJSON)
    return await _whole(request, shared, going)


@router.delete(
    "/api/delete",
    response_class=Response,
    responses=errors(404, 409, 429, 504),
    openapi_extra=body_schema(OllamaDelete),
    operation_id="ollama_delete",
)
async def delete(request: Request) -> Response:
    """Take a model off the card and remove its package from the models directory.

    Refused while jobs need it, and for what lies elsewhere: demo models never leave.
    """
    shared = context.of(request)
    name = names.named(validated(OllamaDelete, (await read_json(request))[1]))
    model = names.look(await known(shared.board), name)
    if model is None:
        raise Refusal("model_not_found", f"there is no model {name[:100]!a} here", "model")
    await remove(shared, auth.owner(request), model)
    return Response()


def _is_here(catalog: Catalog, name: str) -> bool:
    """Raises ModelUnusable when it is, but is of no use."""
    model = names.look(catalog, name)
    if model is not None and model.problem is not None:
        told = f"'{model.id}' is here, but cannot be used: {model.problem}"
        raise ModelUnusable(told, param="model")
    return model is not None


async def _told(going: Pull, request_name: str) -> AsyncIterator[bytes]:
    try:
        async with aclosing(going.follow()) as lines:
            async for line in lines:
                yield _line(line)
        yield _line(_SUCCESS)
    except Exception as error:
        yield _line({"error": _problem(error, request_name).message})


async def _whole(request: Request, shared: Context, going: Pull) -> Response:
    try:
        await on_the_line(shared, request.receive, asyncio.create_task(_to_the_end(going)))
    except ClientGone:
        return Response(status_code=_CLIENT_CLOSED)
    except (Leaving, Stopped):
        return shutting_down().response(request.url.path)
    return JSONResponse(_SUCCESS)


async def _to_the_end(going: Pull) -> None:
    async with aclosing(going.follow()) as lines:
        async for _ in lines:
            pass


def _problem(error: Exception, request_name: str) -> Problem:
    return shutting_down() if isinstance(error, Stopped) else problem_of(error, request_name)


def _lines_of(*lines: dict[str, Any]) -> Response:
    return Response(b"".join(map(_line, lines)), media_type=NDJSON)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
