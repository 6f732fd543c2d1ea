"""From the end of a job to a receiver that has heard of it: once, signed, again when it must be."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from api.webhooks.courier import Courier, signed, verdict_on
from api.webhooks.wire import Answer, Unreached
from config.groups import WebhookSettings
from config.settings import Settings
from tasks import keys, scripts
from tasks.connection import connect_async
from tasks.webhooks import endpoints, outbox
from tasks.webhooks.outbox import DeliveryState, Letter, Verdict
from tests.api.conftest import client_of
from tests.api.support import StandIn, ask
from tests.api.webhooks.receiver import Receiver, heard
from tests.conftest import RedisServer

WAIT = {"Prefer": "wait=10"}


async def settled(client: httpx.AsyncClient, job: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of a job's webhooks, as soon as none is on its way."""
    for _ in range(500):
        told: list[dict[str, Any]] = (await client.get(job["urls"]["self"])).json()["webhooks"]
        if told and all(each["state"] in ("delivered", "failed") for each in told):
            return told
        await asyncio.sleep(0.01)
    raise AssertionError(f"still on its way: {told}")


async def asked(
    client: httpx.AsyncClient, receiver: Receiver, text: str = "say a", **more: Any
) -> dict[str, Any]:
    response = await client.post("/v1/jobs", json=ask(text, webhook=receiver.url, **more))
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    return job


async def secret_of(client: httpx.AsyncClient) -> str:
    told: str = (await client.get("/v1/webhook_secret")).json()["secret"]
    return told


async def test_the_end_of_a_job_is_told_signed_and_without_its_words(
    client: httpx.AsyncClient, worker: StandIn, receiver: Receiver
) -> None:
    job = await asked(client, receiver, "say secret words", metadata={"private": "thing"})
    waiting = {"state": "waiting", "url": receiver.url, "event": None, "attempts": 0}
    assert job["webhooks"][0].items() >= waiting.items() or job["state"] != "queued"
    (request,) = await heard(receiver)
    body, headers = request.body, request.headers
    assert Webhook(await secret_of(client)).verify(body, headers) == request.event
    assert request.event == {
        "id": headers["webhook-id"],
        "object": "event",
        "created_at": request.event["created_at"],
        "type": "job.succeeded",
        "data": {"id": job["id"], "object": "job", "state": "succeeded", "url": job["urls"]["self"]},
    }
    assert b"secret" not in body
    assert b"private" not in body
    (told,) = await settled(client, job)
    assert (
        told.items()
        >= {
            "event": headers["webhook-id"],
            "type": "job.succeeded",
            "url": receiver.url,
            "endpoint": None,
            "state": "delivered",
            "attempts": 1,
            "last_status": 204,
            "next_at": None,
        }.items()
    )


async def test_a_receiver_that_fails_first_is_told_again_the_same(
    client: httpx.AsyncClient, worker: StandIn, receiver: Receiver
) -> None:
    receiver.answers.extend([500, 302, 404])
    job = await asked(client, receiver)
    requests = await heard(receiver, 4)
    assert len({request.headers["webhook-id"] for request in requests}) == 1
    assert len({request.body for request in requests}) == 1
    (told,) = await settled(client, job)
    assert (told["state"], told["attempts"], told["last_status"]) == ("delivered", 4, 204)


async def test_what_nobody_takes_is_given_up_and_seen(
    settings: Settings, house: redis.Redis, receiver: Receiver
) -> None:
    hasty = settings.webhooks.model_copy(update={"give_up_s": 0.3})
    receiver.answers.extend([500] * 20)
    async with client_of(settings.model_copy(update={"webhooks": hasty})) as client:
        job = await asked(client, receiver)
        await client.post(job["urls"]["cancel"])
        (told,) = await settled(client, job)
    assert (told["type"], told["state"], told["last_status"]) == ("job.cancelled", "failed", 500)
    assert told["last_error"].startswith("given up")
    assert told["attempts"] == len(receiver.heard) > 1
    assert house.zcard(keys.OUTBOX) == 0


@pytest.mark.parametrize(("text", "kind"), [("too long", "job.failed"), ("lost", "job.failed")])
async def test_a_failure_is_told(
    client: httpx.AsyncClient, worker: StandIn, receiver: Receiver, text: str, kind: str
) -> None:
    await asked(client, receiver, text)
    assert (await heard(receiver))[0].event["type"] == kind


async def test_an_expired_job_is_told(
    client: httpx.AsyncClient, house: redis.Redis, receiver: Receiver
) -> None:
    await asked(client, receiver, deadline_s=0.01)
    await asyncio.sleep(0.02)
    scripts.run(house, "reap", 3, 3_600_000, 10_000, 100)
    assert (await heard(receiver))[0].event["type"] == "job.expired"


async def test_only_the_events_that_were_asked_for_are_told(
    client: httpx.AsyncClient, worker: StandIn, receiver: Receiver
) -> None:
    webhook = {"url": receiver.url, "events": ["job.failed"]}
    for text in ("say a", "too long"):
        await client.post("/v1/jobs", json=ask(text, webhook=webhook), headers=WAIT)
    await heard(receiver)
    assert [request.event["type"] for request in receiver.heard] == ["job.failed"]


async def test_a_grid_is_told_of_when_all_of_it_has_ended(
    client: httpx.AsyncClient, worker: StandIn, receiver: Receiver
) -> None:
    body = ask("say a", webhook={"url": receiver.url, "events": ["job_batch.ended"]})
    body["grid"] = {"seed": [1, 2, 3]}
    batch = (await client.post("/v1/jobs", json=body, headers=WAIT)).json()["batch"]
    (request,) = await heard(receiver)
    url = f"/v1/jobs/batches/{batch}"
    assert request.event["type"] == "job_batch.ended"
    assert request.event["data"] == {"id": batch, "object": "batch", "url": url}
    told = (await client.get(url)).json()
    assert told["state"] == "ended"
    assert [each["type"] for each in told["webhooks"]] == ["job_batch.ended"]


async def test_nobody_is_told_of_what_somebody_waits_for(
    client: httpx.AsyncClient, worker: StandIn, receiver: Receiver, house: redis.Redis
) -> None:
    await client.post("/v1/webhook_endpoints", json={"url": receiver.url})
    assert (await client.post("/v1/chat/completions", json=ask("say a"))).status_code == 200
    assert house.zcard(keys.OUTBOX) == 0


async def test_many_processes_tell_once(
    settings: Settings, house: redis.Redis, worker: StandIn, receiver: Receiver
) -> None:
    jobs = [ask(f"say {n}", webhook={"url": receiver.url, "events": ["job.succeeded"]}) for n in range(24)]
    async with client_of(settings), client_of(settings), client_of(settings) as client:
        listed = (await client.post("/v1/jobs", json=jobs, headers=WAIT)).json()["jobs"]
        await heard(receiver, 24)
        for job in listed:
            await settled(client, {"urls": {"self": job["url"]}})
    ids = [request.event["data"]["id"] for request in receiver.heard]
    assert sorted(ids) == sorted(job["id"] for job in listed)


async def test_what_a_dead_process_had_begun_comes_again_as_the_same_event(
    settings: Settings, house: redis.Redis, receiver: Receiver
) -> None:
    async with client_of(settings) as client:
        job = await asked(client, receiver)
    # It was lent to a process that then died.
    await _cancel_without_courier(settings, job)
    async with connect_async(settings) as lender:
        (letter,) = await outbox.lend(lender, 5, lease_s=3600)
        assert await outbox.lend(lender, 5, lease_s=3600) == []
        async with client_of(settings):
            house.zadd(keys.OUTBOX, {letter.id: 0})  # the lease has run out
            house.xadd(keys.POSTED, {"p": ""})
            (request,) = await heard(receiver)
        assert request.headers["webhook-id"] == letter.event
        late = Verdict(DeliveryState.FAILED, 500, "too late")
        assert not await outbox.settle(lender, letter, late, 60), "its word counts no more"
    assert house.hget(keys.delivery(letter.id), "state") == b"delivered"


async def _cancel_without_courier(settings: Settings, job: dict[str, Any]) -> None:
    async with connect_async(settings) as client:
        assert await scripts.run_async(client, "cancel", job["id"], "requested", 3_600_000) == b"cancelled"


async def test_a_redis_that_is_killed_forgets_nothing(
    settings: Settings, house: redis.Redis, redis_server: RedisServer, receiver: Receiver
) -> None:
    async with client_of(settings) as client:
        receiver.answers.append(500)
        slow = settings.webhooks.model_copy(update={"retry_first_s": 0.2})
        job = await asked(client, receiver)
    await _cancel_without_courier(settings, job)
    async with client_of(settings.model_copy(update={"webhooks": slow})) as client:
        await heard(receiver)
        await asyncio.to_thread(redis_server.kill)
        await asyncio.to_thread(redis_server.start)
        first, second = await heard(receiver, 2)
        assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_a_forgotten_job_leaves_nothing_behind(
    client: httpx.AsyncClient, house: redis.Redis, receiver: Receiver
) -> None:
    """Delivered or not, of a job or of a batch: what webhooks need goes with the record."""
    before = _all(house)
    receiver.answers.extend([500] * 50)
    body = ask("say a", webhook=receiver.url)
    body["grid"] = {"seed": [1, 2]}
    listed = (await client.post("/v1/jobs", json=body)).json()
    await client.post(f"/v1/jobs/batches/{listed['batch']}/cancel")
    await heard(receiver, 3)
    assert house.keys(keys.delivery("*"))
    for job in listed["jobs"]:
        assert scripts.run(house, "forget", job["id"])[0] == 1
    # Attempts that were going on settle into nothing.
    await asyncio.sleep(0.05)
    shared = {keys.POSTED, keys.HOOK_SECRETS, keys.QUEUES, keys.OWNED, keys.COUNTS}
    assert _all(house) - before - shared == set()


def _all(house: redis.Redis) -> set[str]:
    found: Any = house.keys(keys.PREFIX + "*")
    return {key.decode() for key in found}


async def test_a_clock_that_jumps_takes_what_is_on_its_way_along(
    client: httpx.AsyncClient, house: redis.Redis, receiver: Receiver
) -> None:
    house.zadd(keys.OUTBOX, {"evt_x.1": 5e15})
    house.hset(keys.delivery("evt_x.1"), mapping={"next_at": 5_000_000_000_000_000, "created_at": 1000})
    scripts.run(house, "restamp", -1000, 20_000, 0, 0)
    assert house.zscore(keys.OUTBOX, "evt_x.1") == 5e15 - 1000
    assert house.hmget(keys.delivery("evt_x.1"), "next_at", "created_at") == [b"4999999999999000", b"0"]


# --- Endpoints


async def test_a_registered_endpoint_hears_of_native_jobs(
    client: httpx.AsyncClient, worker: StandIn, receiver: Receiver
) -> None:
    made = (
        await client.post(
            "/v1/webhook_endpoints", json={"url": receiver.url, "event_types": ["job.succeeded"]}
        )
    ).json()
    job = (await client.post("/v1/jobs", json=ask("say a"))).json()
    (request,) = await heard(receiver)
    assert Webhook(made["signing_secret"]).verify(request.body, request.headers)["data"]["id"] == job["id"]
    (told,) = await settled(client, job)
    assert (told["endpoint"], told["url"], told["state"]) == (made["id"], None, "delivered")


async def test_an_endpoint_that_is_gone_is_left_alone_until_it_is_changed(
    client: httpx.AsyncClient, worker: StandIn, receiver: Receiver
) -> None:
    made = (await client.post("/v1/webhook_endpoints", json={"url": receiver.url})).json()
    here = f"/v1/webhook_endpoints/{made['id']}"
    receiver.answers.append(410)
    job = (await client.post("/v1/jobs", json=ask("say a"), headers=WAIT)).json()
    (told,) = await settled(client, job)
    assert (told["state"], told["attempts"], told["last_status"]) == ("failed", 1, 410)
    assert (await client.get(here)).json()["disabled"]
    silent = (await client.post("/v1/jobs", json=ask("say b"), headers=WAIT)).json()
    assert (await client.get(silent["urls"]["self"])).json()["webhooks"] == []
    assert not (await client.post(here, json={})).json()["disabled"]
    job = (await client.post("/v1/jobs", json=ask("say c"), headers=WAIT)).json()
    assert (await settled(client, job))[0]["state"] == "delivered"
    assert len(receiver.heard) == 2


async def test_what_is_on_its_way_to_an_endpoint_that_was_removed_is_given_up(
    settings: Settings, house: redis.Redis, receiver: Receiver
) -> None:
    async with client_of(settings) as client:
        made = (await client.post("/v1/webhook_endpoints", json={"url": receiver.url})).json()
        job = (await client.post("/v1/jobs", json=ask("say a"))).json()
    await _cancel_without_courier(settings, job)
    async with connect_async(settings) as direct:
        endpoint = await endpoints.find(direct, "anonymous", made["id"])
        assert endpoint is not None
        await endpoints.remove(direct, endpoint)
    async with client_of(settings) as client:
        (told,) = await settled(client, job)
    assert (told["state"], told["last_error"]) == ("failed", "the endpoint is no longer registered")
    assert receiver.heard == []


# --- Pure parts


def letter(attempt: int = 1, age_s: float = 0.0) -> Letter:
    return Letter(
        "evt_1.1", attempt, "evt_1", "job.failed", "{}", "anonymous", None, "https://x.test/", age_s
    )


def test_waits_grow_to_an_hour_and_end_after_a_day() -> None:
    rules, waits, age_s = WebhookSettings(), [], 0.0
    for attempt in range(1, 100):
        verdict = verdict_on(letter(attempt, age_s), Answer(500), rules, 0.5)
        if verdict.state is DeliveryState.FAILED:
            break
        waits.append(verdict.again_s)
        age_s += verdict.again_s
    assert waits[:8] == [5, 15, 45, 135, 405, 1215, 3600, 3600]
    assert 22 * 3600 < age_s <= 24 * 3600
    assert len(waits) < 40


@given(
    attempt=st.integers(1, 10_000),
    chance=st.floats(0, 1),
    asked_s=st.none() | st.floats(0, 1e12),
    status=st.integers(100, 599) | st.none(),
)
def test_every_answer_has_a_consequence(
    attempt: int, chance: float, asked_s: float | None, status: int | None
) -> None:
    rules = WebhookSettings()
    answer = Unreached("no") if status is None else Answer(status, asked_s)
    verdict = verdict_on(letter(attempt), answer, rules, chance)
    if status is not None and 200 <= status < 300:
        assert verdict.state is DeliveryState.DELIVERED
    elif status == 410:
        assert verdict.state is DeliveryState.FAILED
        assert verdict.is_gone
    else:
        assert verdict.state is DeliveryState.PENDING
        assert 0 < verdict.again_s <= rules.retry_most_s * 1.2
        if status is not None and asked_s is not None:
            assert verdict.again_s >= min(asked_s, rules.retry_most_s)


def test_each_secret_signs() -> None:
    first, second = endpoints.new_secret(), endpoints.new_secret()
    headers = signed("evt_1", '{"a":1}', [first, second], time.time())
    for secret in (first, second):
        assert Webhook(secret).verify(b'{"a":1}', headers) == {"a": 1}
    assert json.dumps(headers).count("whsec") == 0


async def test_it_only_reads_while_there_is_nothing_to_do(settings: Settings, store: redis.Redis) -> None:
    def writes() -> int:
        told: Any = store.info("commandstats")
        return sum(int(told.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("evalsha", "eval"))

    async with connect_async(settings) as client:
        before = writes()
        async with Courier(client, settings):
            await asyncio.sleep(0.1)
        assert writes() == before
