from __future__ import annotations

import redis
import redis.asyncio

from tasks import keys
from tasks.cancel import cancel
from tasks.events import Cancelled
from tasks.jobs import JobState
from tasks.ownership import Owner
from tests.tasks.conftest import Accept
from tests.tasks.factory import field, journal_of, make_job, run_to_end


async def test_a_queued_job_is_cancelled_at_once_and_once(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis
) -> None:
    job = await accept()
    for _ in range(2):
        assert await cancel(astore, job.submission.id) is JobState.CANCELLED
    assert journal_of(store, job)[1:] == [Cancelled("requested")]
    assert field(store, job, "state") == "cancelled"
    assert store.hget(keys.COUNTS, "chat") == b"0"
    assert store.zcard(keys.READY) == store.zcard(keys.queue("chat.tiny")) == 0


async def test_an_ended_job_stays_as_it_is(
    accept: Accept, astore: redis.asyncio.Redis, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    run_to_end(job, owner)
    before = journal_of(store, job)
    assert await cancel(astore, job.submission.id) is JobState.SUCCEEDED
    assert journal_of(store, job) == before


async def test_no_such_job_is_none(astore: redis.asyncio.Redis) -> None:
    assert await cancel(astore, make_job().submission.id) is None


async def test_a_caller_who_left_is_told_apart_from_one_who_asked(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis
) -> None:
    job = await accept()
    await cancel(astore, job.submission.id, reason="no_reader")
    assert journal_of(store, job)[-1] == Cancelled("no_reader")
