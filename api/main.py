"""The application: its routes, its layers, and what is opened and closed with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kombu import pools
from kombu.exceptions import OperationalError
from redis.asyncio import Redis
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match

from api import device, docs, queue, stock, system
from api.a1111 import routes as a1111
from api.auth import Keys
from api.board import Board
from api.bulk.clerk import Clerk
from api.context import VERSION, Context
from api.document import completed
from api.errors import Problem
from api.headers import EXPOSED, Headers
from api.jobs import routes as jobs
from api.limits import BodyCap
from api.ollama import embed as ollama_embed
from api.ollama import routes as ollama
from api.ollama import store as ollama_store
from api.openai import batches, chat, completions, embeddings, files, images, models
from api.openai.request import refusal_of
from api.openai.responses import routes as responses
from api.packages.removal import tidy
from api.rates import Rates
from api.request_id import Guard
from api.visitors import Visitors
from api.webhooks import routes as webhooks
from api.webhooks.courier import Courier
from config.keyring import Keyring
from config.settings import Settings
from config.settings import settings as read_settings
from tasks import app as celery
from tasks.artifacts import ArtifactStore
from tasks.connection import connect_async
from tasks.journal import Journals

_ROOMS = (
    chat,
    responses,
    completions,
    images,
    embeddings,
    files,
    batches,
    stock,
    models,
    ollama,
    ollama_store,
    ollama_embed,
    jobs,
    webhooks,
    a1111,
    system,
    queue,
    device,
    docs,
)
"""What has routes. ``stock`` stands before ``models``, which takes any name below its path."""

_ABOUT = """Keeps the models warm and the card cool: an inference server for a small computer with an NPU.

Every request becomes a job in a queue. OpenAI's endpoints wait for it; `/v1/jobs` hands it to you by its id.
Errors come as `{"error": {"message", "type", "param", "code"}}`; every answer carries `x-request-id`."""

_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def app() -> FastAPI:
    """The application with the settings of this process: ``uvicorn --factory api.main:app``."""
    return create_app(read_settings())


def create_app(settings: Settings) -> FastAPI:
    """The application. Redis is reached when it is needed, not here. Raises SettingsError without a Redis."""
    redis = connect_async(settings)
    celery.configure(settings)
    context = Context(
        settings,
        redis,
        Journals(redis, settings),
        Board(redis),
        ArtifactStore(settings.data_dir),
        Courier(redis, settings),
    )
    clerk = Clerk(context)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(asyncio.to_thread(_warm))
        tidying = asyncio.create_task(asyncio.to_thread(tidy, settings.packages_dir))
        async with context.journals, context.courier, clerk:
            yield
        await asyncio.gather(warming, tidying)
        await redis.aclose()

    made = FastAPI(
        title="Hearth",
        description=_ABOUT,
        version=VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        exception_handlers={HTTPException: _http_error, RequestValidationError: _parameter_error},
        middleware=_layers(settings, redis),
        # Nobody collects them, and they cost on every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    made.state.context = context
    made.state.clerk = clerk
    for room in _ROOMS:
        made.include_router(room.router)
    made.openapi = completed(made.openapi)  # type: ignore[method-assign]
    return made


def _layers(settings: Settings, redis: Redis) -> list[Middleware]:
    """What every request goes through before it reaches a route, and every answer on its way back.

    The first is the outermost. Refusals are made further in than what dresses them: each bears the headers,
    may be read by pages that may ask, and has a request id. What costs little comes before what costs more,
    and nothing of a body is read before it is known who sends it.
    """
    layers = [
        Middleware(Headers),
        Middleware(Guard),  # errors of all that lies within become answers here
        Middleware(Visitors, settings),  # other people's web pages
        Middleware(Keys, settings, Keyring(settings.data_dir)),  # who asks
        Middleware(Rates, settings, redis),  # how much
        Middleware(
            BodyCap,
            settings.limits.body_bytes,
            settings.limits.picture_body_bytes,
            settings.limits.file_bytes,
        ),
    ]
    if settings.cors_origins:
        # Outside the keys: browsers send none when they ask whether they may ask.
        layers.insert(1, _pages(settings))
    return layers


def _pages(settings: Settings) -> Middleware:
    """Tells browsers which pages of other origins may ask and read."""
    return Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        # Those that the page asks for: SDKs send a dozen of their own. There are no cookies to ride on.
        allow_headers=("*",),
        expose_headers=EXPOSED,
    )


def _warm() -> None:
    """Open Celery's way to the broker, so that the first job need not wait for half a second of imports."""
    with suppress(OperationalError, OSError):
        connection = celery.app.connection_for_write()
        with pools.producers[connection].acquire(block=True, timeout=5.0) as producer:
            producer.connection.ensure_connection(max_retries=1)
        celery.app.amqp.router.route({}, "hearth.chat")


async def _http_error(request: Request, error: Any) -> JSONResponse:
    """What the router refuses: an unknown path, or a method that a path does not know."""
    what = f"{request.method} {ascii(request.url.path[:200])[1:-1]}"
    if error.status_code == 404:
        return Problem("unknown_url", f"there is no {what}; the paths are listed at /docs").response(
            request.url.path
        )
    allowed = ", ".join(_allowed(request))
    return Problem(
        "method_not_allowed", f"there is no {what}; this path knows {allowed}", headers={"Allow": allowed}
    ).response(request.url.path)


def _allowed(request: Request) -> list[str]:
    """The methods of a path: several routes may share it, and the router knows only of the first."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _parameter_error(request: Request, error: Any) -> JSONResponse:
    """Query parameters are checked by FastAPI; its own answer would be a 422 in another shape."""
    fault = error.errors()[0]
    fault["loc"] = fault["loc"][1:]
    return refusal_of(fault).problem.response(request.url.path)
