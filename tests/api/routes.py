"""Every route of the application, those that the documentation does not show included."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from api.main import create_app
from config.settings import Settings


def routes_of(settings: Settings) -> list[tuple[str, str]]:
    """Method and path; a new route is among them without anybody's doing."""
    return sorted(_routes(create_app(settings)))


def _routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            yield method, str(route.path)


def changing(settings: Settings) -> list[tuple[str, str]]:
    """The routes of methods that may change something."""
    return [route for route in routes_of(settings) if route[0] not in ("GET", "HEAD")]
