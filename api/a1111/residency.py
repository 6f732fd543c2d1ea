"""``unload-checkpoint`` and ``reload-checkpoint``: the model off the card, and on again."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from api import auth, context, stock
from api.a1111 import checkpoints, options
from api.errors import of_end, shutting_down
from api.follow import Following
from api.respond import errors
from api.wait import ClientGone, Leaving, on_the_line, whole
from tasks.events import Finished

router = APIRouter(tags=["Automatic1111"])

_CLIENT_CLOSED = 499
_STATUSES = (400, 404, 409, 429, 504)


@router.post(
    "/sdapi/v1/unload-checkpoint",
    response_model=dict[str, str],
    responses=errors(*_STATUSES),
    operation_id="a1111_unload_checkpoint",
)
async def unload(request: Request) -> Response:
    """Take the model of the options off the card, and answer when that is done. Its next picture brings it
    back."""
    return await _done(request, "unload")


@router.post(
    "/sdapi/v1/reload-checkpoint",
    response_model=dict[str, str],
    responses=errors(*_STATUSES),
    operation_id="a1111_reload_checkpoint",
)
async def reload(request: Request) -> Response:
    """Bring the model of the options to the card, and answer when it is there."""
    return await _done(request, "load")


async def _done(request: Request, action: Literal["load", "unload"]) -> Response:
    """It goes on when the client leaves: half a model is of no use to anybody."""
    shared, owner = context.of(request), auth.owner(request)
    chosen = (await options.current(shared, owner)).sd_model_checkpoint
    model = checkpoints.checkpoint(await shared.board.catalog(), chosen)
    job = await stock.put(shared, owner, model, action)
    entries = Following(shared, job.submission.id, renew=False)
    try:
        told = await on_the_line(shared, request.receive, asyncio.create_task(whole(entries, lambda _: None)))
    except ClientGone:
        return Response(status_code=_CLIENT_CLOSED)
    except Leaving:
        return shutting_down().response(request.url.path)
    headers = {"x-job-id": str(job.submission.id)}
    if isinstance(told.end, Finished):
        return JSONResponse({}, headers=headers)
    response = of_end(told.end).response(request.url.path)
    response.headers.update(headers)
    return response
