"""How much a key may ask for within a minute."""

from __future__ import annotations

import asyncio
import math
import time

import httpx
import pytest
import redis
from pydantic import SecretStr

from api.rates import makes_jobs
from config.groups import RateSettings
from config.keyring import Keyring, Scope
from config.settings import Settings
from tasks import keys
from tasks.connection import replies
from tests.api.conftest import client_of
from tests.api.routes import changing
from tests.api.support import StandIn, ask, until
from tests.conftest import RedisServer

FREE = {
    "/api/blobs/{digest}",
    "/api/copy",
    "/api/create",
    "/api/delete",
    "/api/pull",
    "/api/push",
    "/api/show",
    "/internal/progress",
    "/sdapi/v1/extra-batch-images",
    "/sdapi/v1/extra-single-image",
    "/sdapi/v1/interrogate",
    "/sdapi/v1/interrupt",
    "/sdapi/v1/options",
    "/sdapi/v1/png-info",
    "/sdapi/v1/refresh-checkpoints",
    "/sdapi/v1/refresh-loras",
    "/sdapi/v1/refresh-vae",
    "/sdapi/v1/reload-checkpoint",
    "/sdapi/v1/skip",
    "/sdapi/v1/unload-checkpoint",
    "/v1/batches/{batch_id}/cancel",
    "/v1/device/thresholds",
    "/v1/files",
    "/v1/files/{file_id}",
    "/v1/images/variations",
    "/v1/jobs/batches/{batch_id}/cancel",
    "/v1/jobs/{job_id}/cancel",
    "/v1/models/load",
    "/v1/models/unload",
    "/v1/queue/pause",
    "/v1/queue/resume",
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/cancel",
    "/v1/webhook_endpoints",
    "/v1/webhook_endpoints/{endpoint_id}",
    "/v1/webhook_endpoints/{endpoint_id}/rotate_secret",
    "/v1/webhook_endpoints/{endpoint_id}/test",
    "/v1/webhook_secret/rotate",
}
"""Paths that change something, and make no jobs that answer anybody: what looks, polls, cancels, refuses, or
is an administrator's."""


def limited(settings: Settings, requests: int | None = None, tokens: int | None = None) -> Settings:
    return settings.model_copy(
        update={"rates": RateSettings(requests_per_minute=requests, tokens_per_minute=tokens)}
    )


def test_every_route_that_makes_jobs_is_counted(settings: Settings) -> None:
    paths = {path for _, path in changing(settings)}
    counted = {path for method, path in changing(settings) if makes_jobs(method, path)}
    assert "/v1/chat/completions" in counted
    unknown = sorted(paths - counted - FREE)
    assert not unknown, (
        f"{unknown}: add them to MAKING_JOBS in api/rates.py, or to FREE here: do they make jobs?"
    )
    assert paths - counted == FREE


async def test_one_request_more_than_a_minute_holds_is_refused(
    settings: Settings, house: redis.Redis, worker: StandIn
) -> None:
    async with client_of(limited(settings, requests=2)) as client:
        for left in ("1", "0"):
            answer = await client.post("/v1/chat/completions", json=ask())
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
            assert answer.headers["x-ratelimit-remaining-requests"] == left
            assert 55 < float(answer.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
        refused = await client.post("/v1/chat/completions", json=ask())
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (429, "rate_limit_exceeded")
        assert error["type"] == "rate_limit_error"
        assert "2 requests a minute" in error["message"]
        assert 55 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        for path in ("/v1/models", "/v1/jobs", "/health", "/api/tags"):
            assert (await client.get(path)).status_code == 200, "looking is free"


async def test_each_dialect_is_refused_in_its_own_words(settings: Settings, house: redis.Redis) -> None:
    async with client_of(limited(settings, requests=1)) as client:
        await client.post("/v1/jobs", json=ask())
        for path, field in (
            ("/api/chat", "error"),
            ("/api/generate", "error"),
            ("/sdapi/v1/txt2img", "detail"),
        ):
            refused = await client.post(path, json={})
            assert refused.status_code == 429
            assert "1 requests a minute" in refused.json()[field]
            assert int(refused.headers["retry-after"]) <= 60
            assert "x-ratelimit-limit-requests" not in refused.headers


async def test_a_stream_says_what_is_left(settings: Settings, worker: StandIn) -> None:
    async with client_of(limited(settings, requests=5)) as client:
        answer = await client.post("/v1/chat/completions", json=ask("say a|b", stream=True))
        assert answer.headers["x-ratelimit-remaining-requests"] == "4"
        assert answer.text.endswith("data: [DONE]\n\n")


async def test_of_many_at_once_as_many_as_may_are_taken(settings: Settings, house: redis.Redis) -> None:
    async with client_of(limited(settings, requests=7)) as client:
        asked = [client.post("/v1/jobs", json=ask()) for _ in range(20)]
        statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert (statuses.count(202), statuses.count(429)) == (7, 13)


async def test_each_key_has_a_minute_of_its_own(settings: Settings, house: redis.Redis) -> None:
    ring = Keyring(settings.data_dir)
    made = [ring.add("plain", Scope.INFER)[1], ring.add("more", Scope.INFER, per_minute=3)[1]]
    async with client_of(limited(settings, requests=1)) as client:
        for key, may in zip(made, (1, 3), strict=True):
            told = [
                await client.post("/v1/jobs", json=ask(), headers={"Authorization": f"Bearer {key}"})
                for _ in range(may + 1)
            ]
            assert [answer.status_code for answer in told] == [202] * may + [429]


async def test_the_minute_moves_on(settings: Settings, house: redis.Redis) -> None:
    """Nothing waits for a full minute here: the one request that counts is made to be a minute old."""
    async with client_of(limited(settings, requests=1)) as client:
        assert (await client.post("/v1/jobs", json=ask())).status_code == 202
        (window,) = house.scan_iter(f"{keys.WINDOWS}*")
        house.lset(window.decode(), 0, str(time.time() - 60.5))
        assert (await client.post("/v1/jobs", json=ask())).status_code == 202
        assert (await client.post("/v1/jobs", json=ask())).status_code == 429


async def test_tokens_of_jobs_that_ended_delay_the_next_request(settings: Settings, worker: StandIn) -> None:
    """A prompt of 5 characters, which the stand-in counts as tokens, and as many words as it says."""
    async with client_of(limited(settings, tokens=12)) as client:
        first = await client.post("/v1/chat/completions", json=ask("hello"))
        usage = first.json()["usage"]
        assert usage["total_tokens"] == 6
        assert first.headers["x-ratelimit-remaining-tokens"] == "12"
        second = await client.post("/v1/chat/completions", json=ask("hello"))
        assert second.headers["x-ratelimit-remaining-tokens"] == "6"
        refused = await client.post("/v1/chat/completions", json=ask("hello"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "12 tokens a minute" in refused.json()["error"]["message"]
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
        assert 55 <= int(refused.headers["retry-after"]) <= 60


async def test_tokens_of_a_job_by_its_id_count_too(
    settings: Settings, house: redis.Redis, worker: StandIn
) -> None:
    """Whoever reads the answer, and whether anybody does: it is the worker that counts."""
    async with client_of(limited(settings, tokens=5)) as client:
        made = await client.post("/v1/jobs", json=ask("hello"), headers={"Prefer": "wait=20"})
        assert made.json()["state"] == "succeeded"
        assert (await client.post("/api/chat", json=ask("hello"))).status_code == 429
        record = replies(house).hgetall(keys.job(made.json()["id"]))
        spent = keys.spent(record[b"owner"].decode())
        assert 0 < house.ttl(spent) <= 60
        house.lpush(spent, f"{int(time.time() * 1000) - 50_000} 5", f"{int(time.time() * 1000) - 61_000} 9")
        house.lset(spent, 2, f"{int(time.time() * 1000) - 70_000} 6")
        refused = await client.post("/v1/chat/completions", json=ask("hello"))
        assert 2 <= int(refused.headers["retry-after"]) <= 10


async def test_a_job_that_was_stopped_has_spent_what_it_made(
    settings: Settings, house: redis.Redis, worker: StandIn
) -> None:
    async with client_of(limited(settings, tokens=10_000)) as client:
        made = (await client.post("/v1/jobs", json=ask("wait"))).json()
        running = f"/v1/jobs/{made['id']}"
        await asyncio.to_thread(until, lambda: house.hexists(keys.job(made["id"]), "progress"))
        await client.post(f"{running}/cancel")
        await client.get(f"{running}/events")
        answer = await client.post("/v1/jobs", json=ask())
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 10_000


async def test_without_limits_nothing_is_counted_or_told(
    client: httpx.AsyncClient, house: redis.Redis
) -> None:
    answer = await client.post("/v1/jobs", json=ask())
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert not list(house.scan_iter(f"{keys.WINDOWS}*:*"))


async def test_a_redis_that_is_away_is_503_as_ever(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away = RedisServer(tmp_path_factory.mktemp("away"))
    away.kill()
    there = settings.model_copy(update={"redis_url": SecretStr(away.url)})
    async with client_of(limited(there, requests=1, tokens=1)) as client:
        refused = await client.post("/v1/chat/completions", json=ask())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_unavailable")
        assert refused.headers["retry-after"] == "2"


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "/v1/jobs/x", "/v1/jobs/batches/a/b/retry-failed"])
def test_only_whole_paths_count(path: str) -> None:
    assert not makes_jobs("POST", path)
    assert not makes_jobs("GET", "/v1/jobs")


def test_no_wait_is_longer_than_clients_bear() -> None:
    """OpenAI's SDK does not ask again by itself beyond two minutes."""
    from tasks.spending import WINDOW_S

    assert math.ceil(WINDOW_S) <= 120
