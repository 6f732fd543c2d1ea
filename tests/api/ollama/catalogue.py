"""A catalogue on this machine for tests, and a stand-in for the monitor that lists what arrives from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from config.settings import Settings
from tasks.board import Model
from tasks.naming import slug
from tests.api.support import BROKEN, PICTURES, TINY, publish

LAYER = b"layer " * 1000


def put(catalogue: Path, name: str, size_bytes: int = len(LAYER)) -> Path:
    """A package of two files, as far as this room can tell."""
    place = catalogue / name
    place.mkdir(parents=True)
    (place / "layer0").write_bytes((LAYER * (size_bytes // len(LAYER) + 1))[:size_bytes])
    (place / "config.json").write_text("{}")
    return place


@contextmanager
def watching(settings: Settings, store: redis.Redis) -> Iterator[None]:
    """Lists the directories of the models directory as the monitor does; ``bad-…`` cannot be used."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            found = [] if not settings.packages_dir.is_dir() else sorted(settings.packages_dir.iterdir())
            listed = [_model(place) for place in found if not place.name.startswith(".")]
            publish(store, TINY, BROKEN, PICTURES, *listed)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _model(place: Path) -> Model:
    problem = "the post graph is missing: download it again" if place.name.startswith("bad-") else None
    return Model(
        slug(place.name), "chat", str(place), 6002, 1_760_000_003, 512, problem=problem, knows_tools=True
    )
