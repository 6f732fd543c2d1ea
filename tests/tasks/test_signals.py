from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
import redis
import redis.asyncio

from config.groups import QueueSettings
from config.settings import Settings
from tasks import board, claim, events, keys, pauses, signals
from tasks.cancel import cancel
from tasks.claim import claimed
from tasks.engines import Verdict
from tasks.errors import TooHot
from tasks.events import Cancelled, Expired, Finished, Held, Queued, Resumed
from tasks.jobs import ChatJob, FinishReason, JobClass
from tasks.ownership import Owner, take_card
from tasks.pauses import Scope
from tasks.submit import submit
from tests.tasks.conftest import Accept
from tests.tasks.factory import (
    DONE,
    abandon,
    auntil,
    await_verdict,
    field,
    hold_card,
    journal_of,
    make_job,
    run_to_end,
    until,
)


async def test_cancelling_reaches_a_running_job_between_two_steps(
    accept: Accept, owner: Owner, store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        assert await cancel(astore, job.submission.id) == "running"
        await asyncio.to_thread(await_verdict, mine, Verdict.CANCEL)
        mine.append(Finished(FinishReason.CANCELLED, events.Usage(3, 1), events.Timings()))
    assert journal_of(store, job)[-1] == Cancelled("requested", events.Usage(3, 1))
    assert field(store, job, "state") == "cancelled"


async def test_a_job_that_ends_before_it_hears_of_the_cancelling_has_succeeded(
    accept: Accept, owner: Owner, store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        await cancel(astore, job.submission.id)
        mine.append(DONE)
    assert journal_of(store, job)[-1] == DONE


async def test_an_engine_that_leaves_at_a_verdict_has_its_end_written(
    accept: Accept, owner: Owner, store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        await cancel(astore, job.submission.id)
        await asyncio.to_thread(await_verdict, mine, Verdict.CANCEL)
    assert journal_of(store, job)[-1] == Cancelled("requested")


async def test_cancelling_a_job_whose_worker_died_ends_it_at_the_handover(
    accept: Accept, owner: Owner, store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    job = await accept()
    abandon(job, owner)
    await cancel(astore, job.submission.id)
    take_card("c0", store, owner.settings)
    assert journal_of(store, job)[-1] == Cancelled("requested")


async def test_a_deadline_that_passes_while_queued_expires_the_job(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept(deadline_at_ms=int(time.time() * 1000) - 1)
    assert not run_to_end(job, owner)
    assert journal_of(store, job)[-1] == Expired()
    assert field(store, job, "state") == "expired"


async def test_a_deadline_that_passes_while_running_expires_the_job(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept(deadline_at_ms=int(time.time() * 1000) + 100)
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        await_verdict(mine, Verdict.EXPIRE)
    assert journal_of(store, job)[-1] == Expired()


async def test_a_clock_that_jumped_ahead_of_the_reaper_expires_nothing(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept(deadline_at_ms=int(time.time() * 1000) - 1)
    store.set(keys.CLOCK, int((time.time() - 3600) * 1000))
    assert run_to_end(job, owner)


@pytest.mark.parametrize("reason", ["thermal", "telemetry", "operator", "card_lost"])
async def test_a_running_job_rests_while_its_card_is_held_and_says_so_once(
    accept: Accept, owner: Owner, store: redis.Redis, reason: events.HoldReason
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        hold_card(store, "c0", reason)
        until(lambda: mine._scribe.orders.hold is not None)
        resting = threading.Thread(target=mine.signals.between_steps)
        resting.start()
        until(lambda: Held(reason, "resting") in journal_of(store, job))
        store.delete(keys.hold("c0"))
        resting.join(timeout=30)
        assert mine.signals.between_steps() is Verdict.GO_ON
        mine.append(DONE)
    told = journal_of(store, job)
    assert [type(event) for event in told[2:]] == [Held, Resumed, Finished]
    assert field(store, job, "strikes") == "0"


@pytest.mark.parametrize(
    "scope", [Scope(), Scope(JobClass.CHAT), Scope(model="tiny"), Scope(JobClass.CHAT, "tiny")]
)
async def test_a_running_job_rests_for_a_pause_that_says_so(
    accept: Accept, owner: Owner, store: redis.Redis, astore: redis.asyncio.Redis, scope: Scope
) -> None:
    job = await accept()
    await pauses.pause(astore, Scope(JobClass.BATCH), rests=True)
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        heard_at = mine._scribe.orders.heard_at
        until(lambda: mine._scribe.orders.heard_at > heard_at)
        assert mine._scribe.orders.hold is None
        await pauses.pause(astore, scope, message="dusting", rests=True)
        until(lambda: mine._scribe.orders.hold is not None)
        resting = asyncio.create_task(asyncio.to_thread(mine.signals.between_steps))
        await auntil(lambda: Held("operator", "dusting") in journal_of(store, job))
        await pauses.resume(astore, scope)
        assert await resting is Verdict.GO_ON
        mine.append(DONE)
    assert [type(event) for event in journal_of(store, job)[2:]] == [Held, Resumed, Finished]


async def test_a_job_does_not_rest_for_its_own_loading(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    hold_card(store, "c0", "loading")
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        until(lambda: mine._scribe.orders.hold is not None)
        assert mine.signals.between_steps() is Verdict.GO_ON
        mine.append(DONE)


async def test_a_resting_job_can_be_cancelled(
    accept: Accept, owner: Owner, store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        hold_card(store, "c0", "thermal")
        until(lambda: mine._scribe.orders.hold is not None)
        resting = asyncio.create_task(asyncio.to_thread(mine.signals.between_steps))
        await cancel(astore, job.submission.id)
        assert await resting is Verdict.CANCEL
    assert isinstance(journal_of(store, job)[-1], Cancelled)


def ease_card(store: redis.Redis, duty: float) -> None:
    store.set(keys.ease("c0"), board.encode(board.Ease(duty, 0)))


async def test_a_job_on_a_warm_card_rests_between_steps_for_its_share(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    ease_card(store, 0.5)
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        until(lambda: mine._scribe.orders.ease is not None)
        mine.signals.between_steps()
        times = [(_time_of(lambda: time.sleep(0.05)), _time_of(mine.signals.between_steps)) for _ in range(5)]
        mine.append(DONE)
    worked_s, rested_s = (sum(column) for column in zip(*times, strict=True))
    assert rested_s >= 0.8 * worked_s
    assert [type(event) for event in journal_of(store, job)[2:]] == [Finished]


async def test_an_eased_job_can_be_cancelled_in_its_rest(
    accept: Accept, owner: Owner, store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    job = await accept()
    ease_card(store, 0.05)
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        until(lambda: mine._scribe.orders.ease is not None)
        mine.signals.between_steps()
        signals.pace.rest_s(0.05, time.monotonic() + 60.0)  # as after a minute's work: half a minute's rest
        resting = asyncio.create_task(asyncio.to_thread(mine.signals.between_steps))
        await cancel(astore, job.submission.id)
        async with asyncio.timeout(10):
            assert await resting is Verdict.CANCEL


async def test_a_step_of_a_cool_card_costs_microseconds(accept: Accept, owner: Owner) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        best_s = min(_time_of(mine.signals.between_steps) for _ in range(200))
        mine.append(DONE)
    assert best_s < 50e-6


def _time_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _step_under(hold: board.Hold, job: ChatJob, owner: Owner, store: redis.Redis) -> None:
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        store.set(keys.hold("c0"), board.encode(hold))
        until(lambda: mine._scribe.orders.hold is not None)
        mine.signals.between_steps()


async def test_a_card_too_hot_for_its_models_gives_the_job_back_without_a_strike(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    hold = board.Hold("thermal", "91 °C", int(time.time() * 1000), unload=True)
    with pytest.raises(TooHot):
        _step_under(hold, job, owner, store)
    assert journal_of(store, job)[-1] == Queued(1, "too_hot")
    assert field(store, job, "strikes") == "0"


async def test_a_call_that_outlasts_its_limit_lets_the_lease_run_out(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()

    def lease() -> float:
        return store.zscore(keys.LEASES, job.submission.id) or 0.0

    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        before = lease()
        with mine.signals.calling_card(5.0):
            assert mine.signals.call_limit_s == 5.0
            until(lambda: lease() > before)
        with mine.signals.calling_card(-1.0):
            asked_at = mine._scribe.orders.heard_at
            until(lambda: mine._scribe.orders.heard_at > asked_at)
            stuck = lease()
            asked_at = mine._scribe.orders.heard_at
            until(lambda: mine._scribe.orders.heard_at > asked_at)
            assert lease() == stuck
        assert mine.signals.call_since_ms is None
        until(lambda: lease() > stuck)
        mine.append(DONE)


async def test_the_process_can_say_what_it_is_at(accept: Accept, owner: Owner) -> None:
    job = await accept()
    assert claim.activity() is None
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        with mine.signals.calling_card(2.0):
            now = claim.activity()
            assert now is not None
            assert (now.job_id, now.call_limit_s) == (job.submission.id, 2.0)
        mine.append(DONE)
    assert claim.activity() is None


async def test_a_job_that_nobody_reads_is_cancelled_after_the_grace(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    hasty = settings.model_copy(update={"queue": QueueSettings(reader_grace_s=0.05)})
    job = make_job(has_reader=True)
    await submit(astore, job, hasty)
    owner = take_card("c0", store, hasty)
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        until(lambda: mine._scribe.orders.heard_at)
        assert mine.signals.between_steps() is Verdict.GO_ON
        store.delete(keys.reader(job.submission.id))
        await_verdict(mine, Verdict.CANCEL)
    assert journal_of(store, job)[-1] == Cancelled("no_reader")


async def test_a_reader_who_comes_back_within_the_grace_keeps_the_job(
    accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept(has_reader=True)
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        store.delete(keys.reader(job.submission.id))
        until(lambda: field(store, job, "reader_gone_at") is not None)
        store.set(keys.reader(job.submission.id), "1")
        until(lambda: field(store, job, "reader_gone_at") is None)
        assert mine.signals.between_steps() is Verdict.GO_ON
        mine.append(DONE)
