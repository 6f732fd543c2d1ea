from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from config.groups import QueueSettings
from config.settings import Settings, read_settings
from tasks import app, events, keys, submit
from tasks.cancel import cancel
from tasks.connection import connect, connect_async, replies
from tasks.errors import Busy, IdempotencyConflict, NotReady
from tasks.jobs import ChatJob, JobClass
from tasks.ownership import Owner, take_card
from tasks.submit import Idempotency, submit_many
from tests.conftest import RedisServer
from tests.tasks.conftest import Accept
from tests.tasks.factory import field, journal_of, make_job, run_to_end


def _capped(settings: Settings, **caps: Any) -> Settings:
    return settings.model_copy(update={"queue": QueueSettings(**caps)})


async def test_an_accepted_job_is_recorded_journalled_and_sent(accept: Accept, store: redis.Redis) -> None:
    job = await accept()
    assert field(store, job, "state") == "queued"
    assert journal_of(store, job) == [events.Queued(0)]
    assert store.zscore(keys.queue("chat.tiny"), job.submission.id) is not None
    assert store.hget(keys.COUNTS, "chat") == b"1"
    assert store.llen("chat.tiny") == 1


async def test_the_message_carries_the_id_and_nothing_else(accept: Accept, store: redis.Redis) -> None:
    job = await accept()
    message = json.loads(store.lindex("chat.tiny", 0) or b"")
    assert message["headers"]["id"] == job.submission.id
    assert message["headers"]["task"] == "hearth.chat"
    assert message["headers"]["argsrepr"] == f"('{job.submission.id}',)"
    assert "hello" not in json.dumps(message)


async def test_the_same_key_and_body_give_the_same_job(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    key = Idempotency("k", "body-1")
    first = await submit.submit(astore, make_job(), settings, key)
    again = await submit.submit(astore, make_job(), settings, key)
    assert (again.job_id, again.replayed) == (first.job_id, True)
    assert store.zcard(keys.JOBS) == 1
    assert store.llen("chat.tiny") == 1


async def test_the_same_key_with_another_body_is_a_conflict(
    astore: redis.asyncio.Redis, settings: Settings
) -> None:
    await submit.submit(astore, make_job(), settings, Idempotency("k", "body-1"))
    with pytest.raises(IdempotencyConflict):
        await submit.submit(astore, make_job(), settings, Idempotency("k", "body-2"))


async def test_another_owner_may_use_the_same_key(astore: redis.asyncio.Redis, settings: Settings) -> None:
    first = await submit.submit(astore, make_job(owner="a"), settings, Idempotency("k", "b"))
    second = await submit.submit(astore, make_job(owner="b"), settings, Idempotency("k", "b"))
    assert first.job_id != second.job_id
    assert not second.replayed


async def test_a_replay_is_answered_even_when_the_queue_is_full(
    astore: redis.asyncio.Redis, settings: Settings
) -> None:
    full = _capped(settings, chat_cap=1)
    first = await submit.submit(astore, make_job(), full, Idempotency("k", "b"))
    assert (await submit.submit(astore, make_job(), full, Idempotency("k", "b"))).job_id == first.job_id


async def test_concurrent_requests_with_one_key_make_one_job(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    key = Idempotency("k", "b")
    told = await asyncio.gather(*(submit.submit(astore, make_job(), settings, key) for _ in range(8)))
    assert len({accepted.job_id for accepted in told}) == 1
    assert [accepted.replayed for accepted in told].count(False) == 1
    assert store.zcard(keys.JOBS) == 1


async def test_the_cap_is_reached_and_not_passed(
    astore: redis.asyncio.Redis, owner: Owner, settings: Settings
) -> None:
    capped = _capped(settings, chat_cap=2)
    jobs = [make_job() for _ in range(2)]
    for job in jobs:
        await submit.submit(astore, job, capped)
    with pytest.raises(Busy):
        await submit.submit(astore, make_job(), capped)
    await submit.submit(astore, make_job(job_class=JobClass.BATCH), capped)
    assert run_to_end(jobs[0], owner)
    await submit.submit(astore, make_job(), capped)
    await cancel(astore, jobs[1].submission.id, settings=capped)
    await submit.submit(astore, make_job(), capped)
    with pytest.raises(Busy):
        await submit.submit(astore, make_job(), capped)


async def test_a_grid_is_admitted_whole_or_not_at_all(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    capped = _capped(settings, batch_cap=4)

    def grid(n: int) -> list[ChatJob]:
        return [make_job(job_class=JobClass.BATCH, batch="b") for _ in range(n)]

    with pytest.raises(Busy):
        await submit_many(astore, grid(5), capped)
    assert store.zcard(keys.JOBS) == 0
    assert not store.exists(keys.COUNTS)
    accepted = await submit_many(astore, grid(4), capped)
    assert len(accepted) == 4
    in_order: list[bytes] = store.zrange(keys.queue("batch.tiny"), 0, -1)  # type: ignore[assignment]
    assert [job_id.decode() for job_id in in_order] == [one.job_id for one in accepted]
    assert store.zcard(keys.batch("b")) == 4


async def test_one_class_over_its_cap_refuses_a_mixed_request(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    mixed = [make_job(), make_job(job_class=JobClass.BATCH), make_job()]
    with pytest.raises(Busy, match="chat queue"):
        await submit_many(astore, mixed, _capped(settings, chat_cap=1))
    assert store.zcard(keys.JOBS) == 0


@pytest.mark.parametrize(("mean_ms", "wait_s"), [("0", 10), ("200", 1), ("2500", 3), ("900000", 120)])
async def test_retry_after_is_the_time_until_there_is_room(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings, mean_ms: str, wait_s: int
) -> None:
    capped = _capped(settings, chat_cap=1)
    await submit.submit(astore, make_job(), capped)
    store.hset(keys.RATES, "chat.tiny", mean_ms)
    with pytest.raises(Busy) as refused:
        await submit.submit(astore, make_job(), capped)
    assert refused.value.retry_after_s == wait_s


async def test_a_repeated_call_after_a_lost_reply_accepts_once(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    job = make_job()
    for _ in range(2):
        assert not (await submit.submit(astore, job, settings)).replayed
    assert store.hget(keys.COUNTS, "chat") == b"1"
    assert journal_of(store, job) == [events.Queued(0)]


async def test_a_full_redis_refuses_new_jobs_and_lets_accepted_ones_end(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    cramped = read_settings(redis_url=server.url)
    app.configure(cramped)
    client, aclient = connect(cramped), connect_async(cramped)
    try:
        accepted = [make_job(), make_job()]
        await submit_many(aclient, accepted, cramped)
        owner = take_card("c0", client, cramped)
        client.config_set("maxmemory", "1mb")
        with pytest.raises(NotReady, match="memory"):
            await submit.submit(aclient, make_job(), cramped)
        assert client.zcard(keys.JOBS) == 2
        assert run_to_end(accepted[0], owner)
        await cancel(aclient, accepted[1].submission.id, settings=cramped)
        assert field(client, accepted[0], "state") == "succeeded"
        assert field(client, accepted[1], "state") == "cancelled"
    finally:
        client.close()
        await aclient.aclose()
        server.kill()


async def test_the_last_of_the_memory_is_for_jobs_that_were_accepted(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    await submit.submit(astore, make_job(), settings)
    used = int(replies(store).info("memory")["used_memory"])
    store.config_set("maxmemory", int(used / 0.9))
    try:
        with pytest.raises(NotReady, match="memory"):
            await submit.submit(astore, make_job(), settings)
        store.config_set("maxmemory", int(used / 0.6))
        await submit.submit(astore, make_job(), settings)
    finally:
        store.config_set("maxmemory", 0)


async def test_an_unreachable_redis_is_not_ready(tmp_path: Path) -> None:
    nowhere = read_settings(redis_url=f"unix://{tmp_path}/none.sock")
    client = connect_async(nowhere)
    with pytest.raises(NotReady, match="does not answer"):
        await submit.submit(client, make_job(), nowhere)
    await client.aclose()


async def test_a_job_is_accepted_though_its_message_could_not_be_sent(
    accept: Accept, store: redis.Redis, settings: Settings, tmp_path: Path
) -> None:
    app.configure(settings.model_copy(update={"redis_url": _nowhere(tmp_path)}))
    job = await accept()
    assert field(store, job, "state") == "queued"
    assert store.llen("chat.tiny") == 0


def _nowhere(tmp_path: Path) -> object:
    return read_settings(redis_url=f"unix://{tmp_path}/none.sock").redis_url


async def test_sending_goes_on_when_redis_comes_back(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    app.configure(read_settings(redis_url=server.url))
    try:
        assert submit.send("job_0", "chat.tiny")
        server.kill()
        assert not submit.send("job_1", "chat.tiny")
        server.start()
        assert submit.send("job_2", "chat.tiny")
    finally:
        server.kill()


def test_many_threads_may_send_at_once(store: redis.Redis) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as pool:
        sent = list(pool.map(lambda i: submit.send(f"job_{i:040x}", "chat.tiny"), range(64)))
    assert all(sent)
    assert store.llen("chat.tiny") == 64


async def test_nothing_submitted_is_nothing_accepted(astore: redis.asyncio.Redis, settings: Settings) -> None:
    assert await submit_many(astore, [], settings) == []


async def test_a_key_may_have_so_many_jobs_whatever_their_class(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    tight = _capped(settings, key_cap=2)
    mine = [make_job(owner="me"), make_job(owner="me", job_class=JobClass.BATCH)]
    await submit_many(astore, mine, tight)
    with pytest.raises(Busy, match="your key has as many jobs as it may") as refused:
        await submit.submit(astore, make_job(owner="me"), tight)
    assert refused.value.retry_after_s == 10  # nothing was measured: a guess
    await submit.submit(astore, make_job(owner="you"), tight)
    assert run_to_end(mine[0], take_card("c0", store, tight))
    await submit.submit(astore, make_job(owner="me"), tight)
