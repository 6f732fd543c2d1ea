"""Jobs that belong together: counted, cancelled and tried again in one go."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
import redis
import redis.asyncio

from config.settings import Settings
from tasks import batches, events, keys, records
from tasks.errors import Busy
from tasks.jobs import ChatJob, JobClass, JobState
from tasks.ownership import Owner
from tasks.submit import submit_many
from tests.tasks.factory import abandon, field, journal_of, make_job, run_to_end

FAULT = events.Failed("internal_error", "an internal error")


async def a_batch(client: redis.asyncio.Redis, settings: Settings, count: int = 4) -> list[ChatJob]:
    now_ms = int(time.time() * 1000)
    made = [
        make_job(job_class=JobClass.BATCH, batch="b", deadline_at_ms=now_ms + 60_000, has_reader=True)
        for _ in range(count)
    ]
    await submit_many(client, made, settings)
    return made


async def counted(client: redis.asyncio.Redis) -> dict[str, int]:
    seen = await batches.overview(client, "b")
    assert seen is not None
    return {**{state.value: count for state, count in seen.counts.items() if count}, "retried": seen.retried}


async def test_a_batch_counts_its_jobs_by_state(
    astore: redis.asyncio.Redis, settings: Settings, owner: Owner
) -> None:
    jobs = await a_batch(astore, settings)
    seen = await batches.overview(astore, "b")
    assert seen is not None
    assert (seen.total, seen.ended, seen.owner) == (4, 0, "anonymous")
    assert (seen.started_at_ms, seen.ended_at_ms) == (None, None)
    run_to_end(jobs[0], owner)
    run_to_end(jobs[1], owner, ending=FAULT)
    abandon(jobs[2], owner)
    assert await counted(astore) == {"succeeded": 1, "failed": 1, "running": 1, "queued": 1, "retried": 0}
    await batches.cancel(astore, "b", settings)
    assert await counted(astore) == {"succeeded": 1, "failed": 1, "running": 1, "cancelled": 1, "retried": 0}
    seen = await batches.overview(astore, "b")
    assert seen is not None
    assert seen.created_at_ms <= (seen.started_at_ms or 0)
    assert seen.ended_at_ms is None
    assert seen.ended == 3


async def test_a_batch_that_has_ended_says_when(
    astore: redis.asyncio.Redis, settings: Settings, owner: Owner
) -> None:
    for job in await a_batch(astore, settings, 2):
        run_to_end(job, owner)
    seen = await batches.overview(astore, "b")
    assert seen is not None
    assert (seen.started_at_ms or 0) <= (seen.ended_at_ms or 0)


async def test_no_batch_is_none(astore: redis.asyncio.Redis) -> None:
    assert await batches.overview(astore, "none") is None


async def test_a_running_job_is_told_and_ended_ones_are_left(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings, owner: Owner
) -> None:
    done, running, waiting = await a_batch(astore, settings, 3)
    run_to_end(done, owner)
    abandon(running, owner)
    for _ in range(2):
        await batches.cancel(astore, "b", settings)
    assert field(store, done, "state") == "succeeded"
    assert (field(store, running, "state"), field(store, running, "cancel")) == ("running", "requested")
    assert isinstance(journal_of(store, waiting)[-1], events.Cancelled)


async def test_what_failed_or_expired_is_tried_again_once(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings, owner: Owner
) -> None:
    jobs = await a_batch(astore, settings)
    run_to_end(jobs[0], owner)
    run_to_end(jobs[1], owner, ending=FAULT)
    run_to_end(jobs[2], owner, ending=events.Expired())
    made = await batches.retry_failed(astore, "b", settings)
    assert len(made) == 2
    assert await batches.retry_failed(astore, "b", settings) == made
    assert await counted(astore) == {"succeeded": 1, "queued": 3, "retried": 2}
    fresh, old = await records.fetch(astore, made[0]), await records.fetch(astore, jobs[1].submission.id)
    assert fresh is not None
    assert old is not None
    assert (fresh.job.submission.retry_of, old.retried_as) == (old.id, fresh.id)
    assert (fresh.state, fresh.job.submission.has_reader) == (JobState.QUEUED, False)
    assert isinstance(fresh.job, ChatJob)
    assert replace(fresh.job, submission=jobs[1].submission) == jobs[1]
    about = fresh.job.submission
    assert about.deadline_at_ms is not None
    assert about.deadline_at_ms - about.created_at_ms == pytest.approx(60_000, abs=1000)
    # One that fails once more is tried once more, and stands in the place of the first.
    assert isinstance(fresh.job, ChatJob)
    run_to_end(fresh.job, owner, ending=FAULT)
    again = await batches.retry_failed(astore, "b", settings)
    assert again[0] == made[1]
    assert again[1] not in made
    assert await counted(astore) == {"succeeded": 1, "queued": 3, "retried": 3}


async def test_however_many_ask_at_once_each_is_retried_once(
    astore: redis.asyncio.Redis,
    store: redis.Redis,
    settings: Settings,
    owner: Owner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for job in await a_batch(astore, settings, 6):
        run_to_end(job, owner, ending=FAULT)
    have_read, all_have = 0, asyncio.Event()

    async def when_all_have_read(*args: Any) -> Any:
        nonlocal have_read
        have_read += 1
        if have_read >= 8:
            all_have.set()
        await all_have.wait()
        return await submit_many(*args)

    monkeypatch.setattr(batches, "submit_many", when_all_have_read)
    told = await asyncio.gather(*(batches.retry_failed(astore, "b", settings) for _ in range(8)))
    assert len({tuple(ids) for ids in told}) == 1
    assert store.zcard(keys.batch("b")) == 12
    assert await counted(astore) == {"queued": 6, "retried": 6}


async def test_a_retry_without_room_changes_nothing(
    astore: redis.asyncio.Redis, settings: Settings, owner: Owner
) -> None:
    for job in await a_batch(astore, settings, 3):
        run_to_end(job, owner, ending=FAULT)
    small = settings.model_copy(update={"queue": settings.queue.model_copy(update={"batch_cap": 2})})
    with pytest.raises(Busy, match="3 jobs are more than the batch queue ever holds"):
        await batches.retry_failed(astore, "b", small)
    assert await counted(astore) == {"failed": 3, "retried": 0}
    assert len(await batches.retry_failed(astore, "b", settings)) == 3


async def test_a_record_of_another_version_does_not_hide_the_others(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    jobs = await a_batch(astore, settings, 3)
    store.hset(keys.job(jobs[1].submission.id), "job", '{"kind":"opera"}')
    page = await records.page(astore, owner="anonymous", limit=10)
    assert [record.id for record in page.records] == [jobs[2].submission.id, jobs[0].submission.id]
    assert page.unreadable == (jobs[1].submission.id,)
    with pytest.raises(ValueError, match="cannot be read"):
        await records.fetch(astore, jobs[1].submission.id)
    assert await counted(astore) == {"queued": 3, "retried": 0}
