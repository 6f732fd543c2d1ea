from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from config.groups import QueueSettings
from config.settings import Settings, read_settings
from tasks import keys, submit
from tasks.cancel import cancel
from tasks.claim import claimed
from tasks.connection import connect
from tasks.events import Cancelled, Expired, Failed, Queued
from tasks.jobs import JobClass, JobKind
from tasks.ownership import Owner
from tasks.reaper import Reaper
from tasks.submit import Idempotency
from tests.tasks.conftest import Accept
from tests.tasks.factory import DONE, abandon, field, journal_of, make_job, run_to_end

LEASE_S = 20.0


class Bench:
    """A reaper whose time is told, and whose messages are counted."""

    def __init__(self, store: redis.Redis, settings: Settings) -> None:
        self.monotonic_s = 1000.0
        self.jump_ms = 0.0
        self.sent: list[str] = []
        self._store = store
        # When one lease was watched the told time is the real one.
        self._began_ms = time.time() * 1000 - LEASE_S * 1000
        self.reaper = Reaper(
            store,
            settings,
            send=self._send,
            monotonic=lambda: self.monotonic_s,
            wall_ms=lambda: self._began_ms + (self.monotonic_s - 1000.0) * 1000 + self.jump_ms,
        )

    def _send(self, job_id: str, queue: str, kind: JobKind) -> bool:
        self.sent.append(job_id)
        self._store.lpush(queue, f'{{"id": "{job_id}"}}')
        return True

    def watch_one_lease(self) -> None:
        for _ in range(4):
            report = self.reaper.beat()
            self.monotonic_s += LEASE_S / 4
        assert report.waiting is not None


@pytest.fixture
def bench(store: redis.Redis, settings: Settings) -> Bench:
    return Bench(store, settings)


@pytest.fixture
def steady(bench: Bench) -> Bench:
    bench.watch_one_lease()
    return bench


def _let_leases_expire(store: redis.Redis) -> None:
    members: Any = store.zrange(keys.LEASES, 0, -1)
    for job_id in members:
        store.zadd(keys.LEASES, {job_id: 1})


async def test_an_expired_lease_is_a_strike_and_the_job_is_sent_again(
    accept: Accept, owner: Owner, store: redis.Redis, steady: Bench
) -> None:
    job = await accept()
    abandon(job, owner)
    assert steady.reaper.beat().requeued == []
    _let_leases_expire(store)
    assert steady.reaper.beat().requeued == [job.submission.id]
    assert steady.sent == [job.submission.id]
    assert (field(store, job, "state"), field(store, job, "strikes")) == ("queued", "1")
    assert journal_of(store, job)[-1] == Queued(1, "worker_lost")
    assert run_to_end(job, owner)


async def test_strikes_run_out(accept: Accept, owner: Owner, store: redis.Redis, steady: Bench) -> None:
    job = await accept()
    for _ in range(3):
        abandon(job, owner)
        _let_leases_expire(store)
        report = steady.reaper.beat()
    assert report.failed == [job.submission.id]
    last = journal_of(store, job)[-1]
    assert isinstance(last, Failed)
    assert last.code == "worker_lost"
    assert last.message.endswith("; the last time it no longer renewed its lease")


async def test_nothing_expires_before_redis_was_seen_up_for_one_lease(
    accept: Accept, owner: Owner, store: redis.Redis, bench: Bench
) -> None:
    job = await accept()
    abandon(job, owner)
    _let_leases_expire(store)
    bench.watch_one_lease()
    assert field(store, job, "state") == "running"
    bench.reaper.beat()
    assert field(store, job, "state") == "queued"


async def test_after_an_outage_the_workers_come_first(
    accept: Accept, owner: Owner, store: redis.Redis, steady: Bench, settings: Settings, tmp_path: Path
) -> None:
    job = await accept()
    abandon(job, owner)
    away = connect(read_settings(redis_url=f"unix://{tmp_path}/none.sock"))
    here, steady.reaper._redis = steady.reaper._redis, away
    assert "away" in (steady.reaper.beat().waiting or "")
    steady.reaper._redis = here
    _let_leases_expire(store)
    steady.watch_one_lease()
    assert field(store, job, "state") == "running"
    away.close()


async def test_a_monitor_that_was_stopped_for_long_begins_anew(
    accept: Accept, owner: Owner, store: redis.Redis, steady: Bench
) -> None:
    steady.reaper.beat()
    job = await accept()
    abandon(job, owner)
    _let_leases_expire(store)
    steady.monotonic_s += LEASE_S * 2
    assert steady.reaper.beat().waiting is not None
    assert field(store, job, "state") == "running"


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 1e9])
async def test_a_clock_that_jumps_expires_nothing(
    accept: Accept, owner: Owner, store: redis.Redis, steady: Bench, jump_s: float
) -> None:
    steady.reaper.beat()
    running, waiting = await accept(), await accept(deadline_at_ms=int(time.time() * 1000) + 60_000)
    abandon(running, owner)
    _let_leases_expire(store)
    deadline = int(field(store, waiting, "deadline_at") or 0)
    steady.jump_ms = jump_s * 1000
    steady.monotonic_s += 5
    report = steady.reaper.beat()
    assert report.jumped_ms == pytest.approx(jump_s * 1000, abs=2)
    assert report.waiting is not None
    assert field(store, running, "state") == "running"
    lease = store.zscore(keys.LEASES, running.submission.id)
    assert lease == pytest.approx(time.time() * 1000 + LEASE_S * 1000, abs=5000)
    moved = deadline + jump_s * 1000
    assert int(field(store, waiting, "deadline_at") or 0) == pytest.approx(moved, abs=2)
    assert store.zscore(keys.DEADLINES, waiting.submission.id) == pytest.approx(moved, abs=2)


async def test_a_clock_that_jumps_retires_nothing_that_ended_by_the_wrong_one(
    accept: Accept, owner: Owner, store: redis.Redis, bench: Bench
) -> None:
    bench.watch_one_lease()
    before, lately = await accept(), await accept()
    run_to_end(before, owner)
    run_to_end(lately, owner)
    store.zadd(keys.ENDED, {before.submission.id: time.time() * 1000 - 3_600_000})
    bench.monotonic_s += LEASE_S / 4
    bench.jump_ms = 8 * 86_400_000.0
    bench.watch_one_lease()
    assert bench.reaper.beat().forgotten == [before.submission.id]


async def test_a_clock_that_is_corrected_a_little_is_no_jump(steady: Bench) -> None:
    steady.reaper.beat()
    for _ in range(5):
        steady.jump_ms += 900.0
        steady.monotonic_s += 5
        report = steady.reaper.beat()
        assert (report.jumped_ms, report.waiting) == (0, None)


async def test_a_lost_message_is_sent_again_once(accept: Accept, store: redis.Redis, steady: Bench) -> None:
    lost, kept = await accept(), await accept()
    messages: Any = store.lrange("chat.tiny", 0, -1)
    for message in messages:
        if lost.submission.id.encode() in message:
            store.lrem("chat.tiny", 1, message)
    assert steady.reaper.beat().resent == []
    for job in (lost, kept):
        store.zadd(keys.READY, {job.submission.id: 1})
    assert steady.reaper.beat().resent == [lost.submission.id]
    assert steady.sent == [lost.submission.id]
    assert steady.reaper.beat().resent == []
    in_order: Any = store.zrange(keys.queue("chat.tiny"), 0, -1)
    assert in_order == [kept.submission.id.encode(), lost.submission.id.encode()]


async def test_messages_of_cancelled_jobs_do_not_hide_a_lost_one_for_ever(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, steady: Bench
) -> None:
    stale, lost = await accept(), await accept()
    messages: Any = store.lrange("chat.tiny", 0, -1)
    for message in messages:
        if lost.submission.id.encode() in message:
            store.lrem("chat.tiny", 1, message)
    await cancel(astore, stale.submission.id)
    store.zadd(keys.READY, {lost.submission.id: 1})
    resent: list[str] = []
    for _ in range(13):
        resent += steady.reaper.beat().resent
        steady.monotonic_s += 5
    assert resent == [lost.submission.id]


async def test_a_thousand_waiting_messages_are_told_from_one_lost(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings, steady: Bench
) -> None:
    batch = [make_job(job_class=JobClass.BATCH) for _ in range(1200)]
    await submit.submit_many(astore, batch, settings)
    lost: Any = store.lpop("batch.tiny")
    for job in batch:
        store.zadd(keys.READY, {job.submission.id: 1})
    resent = steady.reaper.beat().resent
    assert len(resent) == 1
    assert resent[0].encode() in lost


async def test_a_deadline_expires_a_waiting_job_and_spares_a_running_one(
    accept: Accept, owner: Owner, store: redis.Redis, steady: Bench
) -> None:
    soon = int(time.time() * 1000) + 60_000
    running, waiting, later = (
        await accept(deadline_at_ms=soon),
        await accept(deadline_at_ms=soon),
        await accept(),
    )
    with claimed(running.submission.id, owner) as mine:
        assert mine is not None
        for job in (running, waiting):
            store.zadd(keys.DEADLINES, {job.submission.id: 1})
        assert steady.reaper.beat().expired == [waiting.submission.id]
        mine.append(DONE)
    assert journal_of(store, waiting)[-1] == Expired()
    assert field(store, running, "state") == "succeeded"
    assert field(store, later, "state") == "queued"


async def test_a_waiting_job_that_nobody_reads_is_cancelled_after_the_grace(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    hasty = settings.model_copy(update={"queue": QueueSettings(reader_grace_s=1e-6)})
    bench = Bench(store, hasty)
    bench.watch_one_lease()
    read, unread, native = make_job(has_reader=True), make_job(has_reader=True), make_job()
    for job in (read, unread, native):
        await submit.submit(astore, job, hasty)
    store.delete(keys.reader(unread.submission.id))
    assert bench.reaper.beat().deserted == []
    assert bench.reaper.beat().deserted == [unread.submission.id]
    assert journal_of(store, unread)[-1] == Cancelled("no_reader")
    assert field(store, read, "state") == field(store, native, "state") == "queued"
    assert store.smembers(keys.WATCHED) == {read.submission.id.encode()}


async def test_old_records_go_with_all_that_refers_to_them(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings, owner: Owner, steady: Bench
) -> None:
    old, young, waiting = (make_job(batch="b") for _ in range(3))
    for job in (old, young, waiting):
        await submit.submit(astore, job, settings)
    run_to_end(old, owner)
    run_to_end(young, owner)
    store.zadd(keys.ENDED, {old.submission.id: time.time() * 1000 - 7 * 86_400_000 - 1000})
    assert steady.reaper.beat().forgotten == [old.submission.id]
    scan: Callable[..., Any] = store.scan_iter
    for key in scan():
        kind = store.type(key)
        members: Any = store.zrange(key, 0, -1) if kind == b"zset" else ()
        assert old.submission.id.encode() not in members
        assert old.submission.id.encode() not in key
    assert field(store, young, "state") == "succeeded"
    assert field(store, waiting, "state") == "queued"


async def test_a_record_outlives_the_key_that_may_replay_it(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings, owner: Owner
) -> None:
    short = settings.model_copy(update={"queue": QueueSettings(retention_s=0.001)})
    job = make_job()
    await submit.submit(astore, job, short, Idempotency("k", "b"))
    run_to_end(job, owner)
    bench = Bench(store, short)
    bench.watch_one_lease()
    assert bench.reaper.beat().forgotten == []
    again = await submit.submit(astore, make_job(), short, Idempotency("k", "b"))
    assert again.job_id == job.submission.id


async def test_a_broker_that_is_away_is_tried_again_at_the_next_beat(
    accept: Accept, store: redis.Redis, steady: Bench
) -> None:
    job = await accept()
    store.delete("chat.tiny")
    store.zadd(keys.READY, {job.submission.id: 1})
    steady.reaper._send = lambda *_: False
    assert steady.reaper.beat().resent == []
    steady.reaper._send = steady._send
    assert steady.reaper.beat().resent == [job.submission.id]
