"""A real server, a stand-in worker that draws one picture after the other, and a model of the usual size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from config.settings import Settings
from tasks.board import Model, Pictures, PictureSize
from tests.api.conftest import Served
from tests.api.support import TINY, StandIn, publish

SHA256 = "0123456789abcdef" * 4
SIZES = (PictureSize(512, 512), PictureSize(64, 96))
DRAWER = Model(
    id="drawer",
    kind="image",
    directory="/models/drawer",
    size_bytes=10,
    created_at_s=1_760_000_000,
    pictures=Pictures(SIZES, (1, 2, 4), 4, from_pictures=True, sha256=SHA256),
)
OTHER = Model(
    id="other",
    kind="image",
    directory="/models/other",
    size_bytes=10,
    created_at_s=1_760_000_001,
    pictures=Pictures((PictureSize(64, 64),), (1, 2, 4), 4),
)


@pytest.fixture
def house(store: redis.Redis) -> redis.Redis:
    """A Redis in which two models that draw are published, and one that talks."""
    publish(store, TINY, DRAWER, OTHER)
    return store


@pytest.fixture
def begin(settings: Settings) -> Iterator[Callable[[Served], StandIn]]:
    """Starts a worker of one thread beside a server: the files of the one are found by the other."""
    begun: list[StandIn] = []

    def start(served: Served) -> StandIn:
        worker = StandIn(settings.model_copy(update={"data_dir": served.log.parent}))
        worker.start(threads=1)
        begun.append(worker)
        return worker

    yield start
    for worker in begun:
        worker.stop()


@pytest.fixture
def painter(begin: Callable[[Served], StandIn], served: Served) -> StandIn:
    return begin(served)
