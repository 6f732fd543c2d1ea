"""What the tests of this room share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest
import redis
import redis.asyncio

from config.settings import Settings
from tasks import app, claim, ownership, scribe, signals
from tasks.jobs import ChatJob
from tasks.ownership import Owner
from tasks.submit import submit
from tests.tasks.factory import make_job

Accept = Callable[..., Awaitable[ChatJob]]


@pytest.fixture(autouse=True)
def _broker(settings: Settings) -> None:
    app.configure(settings)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ask and retry often, so that no test waits for a beat; nobody is told to stop."""
    monkeypatch.setattr(scribe, "BEAT_S", 0.01)
    monkeypatch.setattr(scribe, "RETRY_S", 0.01)
    monkeypatch.setattr(claim, "RETRY_S", 0.01)
    monkeypatch.setattr(signals, "RETRY_S", 0.01)
    yield
    signals.stopping.clear()
    ownership.forgotten.clear()


@pytest.fixture
def owner(store: redis.Redis, settings: Settings) -> Owner:
    """A process that owns card c0."""
    return ownership.take_card("c0", store, settings)


@pytest.fixture
def accept(astore: redis.asyncio.Redis, settings: Settings) -> Accept:
    """Submit a job made of the given words."""

    async def accept_one(**words: object) -> ChatJob:
        job = make_job(**words)  # type: ignore[arg-type]  # the words are the test's own
        await submit(astore, job, settings)
        return job

    return accept_one
