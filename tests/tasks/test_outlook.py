"""From Redis to what a waiting job can expect, and back to how good that was."""

from __future__ import annotations

import time

import pytest
import redis
import redis.asyncio

from tasks import board, events, jobs, keys, outlook, pauses
from tasks.claim import claimed
from tasks.jobs import JobClass
from tasks.ownership import Owner
from tasks.pauses import Scope
from tests.tasks.conftest import Accept
from tests.tasks.factory import field, hold_card, make_job, run_to_end

MODEL = board.Model("tiny", "chat", "", 1000, 0)
LARGE = board.Model("large", "chat", "", 1000, 0, needs_bytes=60)


def publish(store: redis.Redis, *models: str) -> None:
    """A card of 100 bytes with these models on it."""
    here = tuple(board.Resident(name, 60, 0) for name in models)
    told = board.Residents(
        1, "c0", "", "", "", True, 100, here, load_ms={"large": 88_000.0, "tiny": 20_000.0}
    )
    store.set(keys.residents("c0"), board.encode(told))
    store.set(keys.CATALOG, board.encode(board.Catalog(0, (MODEL, LARGE))))


async def test_waiting_jobs_are_told_in_the_order_in_which_they_will_be_served(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, owner: Owner
) -> None:
    publish(store, "tiny")
    store.hset(keys.RATES, mapping={"chat.tiny": 2000, "chat.large": 3000})
    other = (await accept(model="large")).submission.id
    mine = [(await accept()).submission.id for _ in range(2)]
    told = await outlook.outlook(astore)
    assert [told.jobs[job_id].place for job_id in (*mine, other)] == [1, 2, 3]
    assert told.jobs[other].starts_ms == pytest.approx(told.made_ms + 4000)
    assert told.jobs[other].ends_ms == pytest.approx(told.made_ms + 4000 + 88_000 + 3000)


async def test_the_running_job_comes_first(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, owner: Owner
) -> None:
    publish(store, "tiny")
    store.hset(keys.RATES, "chat.tiny", 60_000)
    running, waiting = await accept(), await accept()
    with claimed(running.submission.id, owner) as mine:
        assert mine is not None
        claimed_ms = int(field(store, running, "claimed_at") or 0)
        told = (await outlook.outlook(astore)).jobs[waiting.submission.id]
        assert told.starts_ms == pytest.approx(claimed_ms + 60_000)
        mine.append(events.Cancelled("requested"))


async def test_nobody_can_say_when_a_held_card_or_a_paused_queue_goes_on(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, owner: Owner
) -> None:
    chat, batch = await accept(), await accept(job_class=JobClass.BATCH)
    await pauses.pause(astore, Scope(JobClass.BATCH))
    told = (await outlook.outlook(astore)).jobs
    assert set(told) == {chat.submission.id}
    assert not told[chat.submission.id].is_measured
    hold_card(store, "c0", "thermal")
    assert (await outlook.outlook(astore)).jobs == {}
    assert batch.submission.id not in told


async def test_a_queues_rate_counts_neither_loading_nor_rests(
    accept: Accept, store: redis.Redis, owner: Owner
) -> None:
    job = await accept()
    began = time.monotonic()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        mine.signals.rested_s = 3600.0
        mine.append(events.Finished(jobs.FinishReason.STOP, events.Usage(1, 1), events.Timings()))
    assert store.hget(keys.RATES, "chat.tiny") == b"0"
    assert time.monotonic() - began < 60
    assert run_to_end(await accept(), owner)  # its own timings tell of 5 ms of loading
    assert float(store.hget(keys.RATES, "chat.tiny") or 0) < 1000


async def test_what_was_told_first_is_held_against_what_came(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, owner: Owner
) -> None:
    assert await outlook.error(astore) == (None, 0)
    job = await accept()
    told = await outlook.outlook(astore)
    for more_ms in (0, 3_600_000):
        forecast = told.jobs[job.submission.id]
        later = type(forecast)(forecast.starts_ms, told.made_ms + 4000 + more_ms, 1, True)
        await outlook.tell(astore, {job.submission.id: later}, told.made_ms)
    assert run_to_end(job, owner)
    median, count = await outlook.error(astore)
    assert count == 1
    assert median is not None
    # Told to end in 4 s, it ended at once: off by nearly 4 s, of at least one.
    assert 0.5 < median <= 4.0
    assert field(store, job, "eta_told") is None


def test_a_clock_that_was_put_back_keeps_no_model_waiting() -> None:
    told = board.Residents(1, "c0", "", "", "", True, 100, (), left_ms={"tiny": 9_000.0})
    facts = outlook.facts(
        frozenset({jobs.queue_of(make_job())}),
        now_ms=5_000.0,
        oldest_ready_ms={},
        paused=(key for key in ["*.tiny"]),
        held=None,
        models=(MODEL,),
        residents=told,
    )
    assert facts.left_ms == {"tiny": 5_000.0}
    assert facts.paused == {"*.tiny"}
