"""A client that gives up before its answer could come is told so at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest
import redis

from api.patience import HEADER
from tasks import keys
from tests.api.support import ask
from tests.tasks.factory import auntil

PATH = "/v1/chat/completions"


@pytest.fixture
async def busy(client: httpx.AsyncClient, store: redis.Redis) -> httpx.AsyncClient:
    """Three jobs of 30 s wait, and nobody serves them."""
    store.hset(keys.RATES, "chat.tiny-chat", 30_000)
    for _ in range(3):
        assert (await client.post("/v1/jobs", json=ask())).status_code == 202
    return client


async def test_an_answer_that_would_come_too_late_is_refused_at_once(
    busy: httpx.AsyncClient, store: redis.Redis
) -> None:
    response = await busy.post(PATH, json=ask(), headers={HEADER: "60"})
    assert response.status_code == 429
    error = response.json()["error"]
    assert error["code"] == "would_time_out"
    assert "in about 120 s, and this client gives up after 60 s" in error["message"]
    assert 55 <= int(response.headers["retry-after"]) <= 61
    assert response.headers["x-should-retry"] == "false"
    assert store.zcard(keys.READY) == 3, "it was not accepted"


@pytest.mark.parametrize("said", ["600", "nan", "-1", "soon", "inf"])
async def test_who_waits_long_enough_or_does_not_say_is_let_in(
    busy: httpx.AsyncClient, store: redis.Redis, said: str
) -> None:
    await _is_let_in(store, busy.post(PATH, json=ask(), headers={HEADER: said}))


async def test_a_guess_turns_nobody_away(busy: httpx.AsyncClient, store: redis.Redis) -> None:
    store.delete(keys.RATES)
    await _is_let_in(store, busy.post(PATH, json=ask(), headers={HEADER: "1"}))


async def _is_let_in(store: redis.Redis, asking: Coroutine[Any, Any, httpx.Response]) -> None:
    """The job is accepted; nobody will answer it."""
    waiting = asyncio.create_task(asking)
    await auntil(lambda: store.zcard(keys.JOBS) == 4)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
