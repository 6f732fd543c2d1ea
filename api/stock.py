"""Models on the card and off it: bringing them there ahead of their jobs, and taking them off."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import auth, context
from api.board import resolve
from api.context import Context
from api.jobs.schemas import JobOut, Seconds
from api.jobs.view import told
from api.limits import read_json
from api.openai.request import validated
from api.respond import as_json, body_schema, errors, seconds
from tasks import records
from tasks.board import Model
from tasks.jobs import JobClass, ModelJob, Submission, new_job_id
from tasks.submit import submit

router = APIRouter(tags=["The house"])


class ModelRequest(BaseModel):
    """Which model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, description="Its id, or an alias.")]


class LoadedModel(BaseModel):
    """A model on a card. ``load_s``: what bringing it took last time."""

    id: str
    card: str
    size_bytes: int
    used_at: Seconds
    is_pinned: Annotated[bool, Field(description="It does not make room for others: models.pinned.")]
    load_s: float | None


class LoadedList(BaseModel):
    object: Literal["list"] = "list"
    data: list[LoadedModel]
    loading: Annotated[list[str], Field(description="On their way to a card just now.")]


class AvailableModel(BaseModel):
    """A model that is on no card, but could be."""

    id: str
    kind: str
    needs_bytes: int | None
    load_s: Annotated[float | None, Field(description="What bringing it took last time; null: not known.")]


class AvailableList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AvailableModel]


@router.get("/v1/models/loaded", response_model=LoadedList, responses=errors(503), operation_id="list_loaded")
async def loaded(request: Request) -> Response:
    """The models on the cards, and those on their way."""
    cards = await context.of(request).board.cards()
    found = [
        LoadedModel(
            id=model.model,
            card=card.id,
            size_bytes=model.size_bytes,
            used_at=seconds(model.used_at_ms),
            is_pinned=model.model in card.residents.pinned,
            load_s=_in_seconds(card.residents.load_ms.get(model.model)),
        )
        for card in cards
        if card.residents is not None
        for model in card.residents.models
    ]
    loading = [card.heartbeat.loading for card in cards if card.heartbeat and card.heartbeat.loading]
    return as_json(LoadedList(data=found, loading=loading))


@router.get(
    "/v1/models/available", response_model=AvailableList, responses=errors(503), operation_id="list_available"
)
async def available(request: Request) -> Response:
    """The usable models that are on no card."""
    board = context.of(request).board
    catalog, cards = await board.catalog(), await board.cards()
    told = [card.residents for card in cards if card.residents is not None]
    here = {model.model for card in told for model in card.models}
    load_ms = {name: taken for card in told for name, taken in card.load_ms.items()}
    found = [
        AvailableModel(
            id=model.id,
            kind=model.kind,
            needs_bytes=model.needs_bytes,
            load_s=_in_seconds(load_ms.get(model.id)),
        )
        for model in catalog.models
        if model.problem is None and model.id not in here
    ]
    return as_json(AvailableList(data=found))


def _in_seconds(taken_ms: float | None) -> float | None:
    return None if taken_ms is None else taken_ms / 1000


@router.post(
    "/v1/models/load",
    status_code=202,
    response_model=JobOut,
    responses=errors(400, 404, 415, 429, 503),
    openapi_extra=body_schema(ModelRequest),
    operation_id="load_model",
)
async def load(request: Request) -> Response:
    """Bring a model to the card ahead of its jobs.

    It is a job that takes its turn like any other of that model: its events tell the progress, and it can be
    cancelled. Whatever must make room is unloaded, pinned models never.
    """
    return await _asked(request, "load")


@router.post(
    "/v1/models/unload",
    status_code=202,
    response_model=JobOut,
    responses=errors(400, 404, 415, 429, 503),
    openapi_extra=body_schema(ModelRequest),
    operation_id="unload_model",
)
async def unload(request: Request) -> Response:
    """Take a model off the card; one that is on none is left alone. Its next job brings it back."""
    return await _asked(request, "unload")


async def _asked(request: Request, action: Literal["load", "unload"]) -> Response:
    shared = context.of(request)
    wanted = validated(ModelRequest, (await read_json(request))[1])
    model = _usable(await shared.board.catalog(), wanted.model)
    job = await put(shared, auth.owner(request), model, action)
    return await _told(shared, job.submission)


async def put(shared: Context, owner: str, model: Model, action: Literal["load", "unload"]) -> ModelJob:
    """A job that brings ``model`` to the card or takes it off. Raises as ``submit``."""
    now_ms = time.time_ns() // 1_000_000
    submission = Submission(
        id=new_job_id(),
        owner=owner,
        job_class=JobClass.CHAT,
        created_at_ms=now_ms,
        deadline_at_ms=now_ms + round(shared.settings.queue.chat_deadline_s * 1000),
    )
    job = ModelJob(submission, model.id, action)
    await submit(shared.redis, job, shared.settings)
    return job


def _usable(catalog: Any, name: str) -> Model:
    found = catalog.find(name)
    return resolve(catalog, name, "chat" if found is None else found.kind)


async def _told(shared: Context, submission: Submission) -> Response:
    record = await records.fetch(shared.redis, submission.id)
    if record is None:
        raise RuntimeError("a job that was just accepted is gone. This is a bug.")
    (job,) = await told(shared, [record])
    return as_json(job, 202, {"Location": job.urls.self, "x-job-id": job.id})
