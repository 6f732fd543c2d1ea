from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
import redis
import redis.asyncio

from config.settings import Settings
from tasks import events, keys, pauses
from tasks.cancel import cancel
from tasks.claim import claimed
from tasks.errors import ContextTooLong, Shutdown
from tasks.events import Failed, Loading, Usage
from tasks.jobs import Call, FinishReason, JobClass, JobKind, JobState
from tasks.ownership import Owner, take_card
from tasks.pauses import Scope
from tasks.records import Progress, fetch, overview, page, position
from tasks.submit import submit_many
from tests.tasks.conftest import Accept
from tests.tasks.factory import DONE, abandon, auntil, delta, hold_card, make_job, run_to_end


async def test_a_record_tells_the_whole_story(
    accept: Accept, astore: redis.asyncio.Redis, owner: Owner
) -> None:
    job = await accept(warnings=("top_a is not known",), metadata={"who": "me"})
    ending = events.Finished(FinishReason.LENGTH, Usage(3, 2), DONE.timings, warnings=("cut",))
    run_to_end(job, owner, delta("Grüße", 1, 2), ending=ending)
    record = await fetch(astore, job.submission.id)
    assert record is not None
    assert record.job == job
    assert record.state is JobState.SUCCEEDED
    assert (record.text, record.finish_reason, record.usage) == ("Grüße", FinishReason.LENGTH, Usage(3, 2))
    assert record.warnings == ("top_a is not known", "cut")
    assert (record.attempt, record.strikes, record.card) == (1, 0, "c0")
    assert record.progress == Progress(2, 10, "tokens")
    assert record.load_ms == 5.0
    assert record.started_at_ms is not None
    assert record.ended_at_ms is not None
    assert record.created_at_ms <= record.started_at_ms <= record.ended_at_ms
    assert record.ending() == ending


@pytest.mark.parametrize("how", ["cancelled", "expired", "lost"])
async def test_what_was_said_outlives_a_job_that_nobody_ends(
    accept: Accept,
    astore: redis.asyncio.Redis,
    owner: Owner,
    store: redis.Redis,
    settings: Settings,
    how: str,
) -> None:
    deadline_at_ms = int(time.time() * 1000) + 300 if how == "expired" else None
    job = await accept(deadline_at_ms=deadline_at_ms)
    call = events.ToolCall(0, "call_1", "add", '{"a": "/\u2028"}', (3,))
    with contextlib.suppress(Shutdown), claimed(job.submission.id, owner) as mine:
        assert mine is not None
        for said in (events.ReasoningDelta("hm ", (1,)), delta("Grüße \U0001f44d\n", 2), call):
            mine.append(said)
        raise Shutdown
    if how == "cancelled":
        await cancel(astore, job.submission.id, settings=settings)
    elif how == "expired":
        await asyncio.sleep(0.35)
        assert not run_to_end(job, owner)
    else:
        for _ in range(settings.queue.max_strikes):
            abandon(job, owner)
            owner = take_card("c0", store, settings)
    await astore.delete(keys.journal(job.submission.id))
    record = await fetch(astore, job.submission.id)
    assert record is not None
    assert record.state.value == {"lost": "failed"}.get(how, how)
    assert (record.reasoning, record.text) == ("hm ", "Grüße \U0001f44d\n")
    assert record.calls == (Call("call_1", "add", '{"a": "/\u2028"}'),)


async def test_thoughts_and_calls_outlive_the_journal(
    accept: Accept, astore: redis.asyncio.Redis, owner: Owner
) -> None:
    job = await accept()
    call = events.ToolCall(0, "call_1", "add", '{"a": 1}', (3, 4))
    ending = events.Finished(
        FinishReason.TOOL_CALLS, Usage(3, 4, reasoning_tokens=1), DONE.timings, warnings=("w",)
    )
    run_to_end(job, owner, events.ReasoningDelta("hm", (1,)), delta("So", 2), call, ending=ending)
    await astore.delete(keys.journal(job.submission.id))
    record = await fetch(astore, job.submission.id)
    assert record is not None
    assert (record.reasoning, record.text) == ("hm", "So")
    assert record.calls == (Call("call_1", "add", '{"a": 1}'),)
    assert record.progress == Progress(4, 10, "tokens")
    assert record.ending() == ending


async def test_no_job_is_none(astore: redis.asyncio.Redis) -> None:
    assert await fetch(astore, make_job().submission.id) is None


async def test_the_error_is_in_the_record(accept: Accept, astore: redis.asyncio.Redis, owner: Owner) -> None:
    job = await accept()

    def fail() -> None:
        raise ContextTooLong("too long", param="messages")

    with claimed(job.submission.id, owner):
        fail()
    record = await fetch(astore, job.submission.id)
    assert record is not None
    assert record.error == Failed("context_length_exceeded", "too long", "messages")


async def test_progress_shows_files_while_loading(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, owner: Owner
) -> None:
    job = await accept(max_tokens=None)
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        mine.append(Loading("tiny", 31, 37))
        await auntil(lambda: store.hexists(keys.job(job.submission.id), "progress"))
        record = await fetch(astore, job.submission.id)
        assert record is not None
        assert record.progress == Progress(31, 37, "files")
        mine.append(delta("a", 1))
        mine.append(DONE)
    record = await fetch(astore, job.submission.id)
    assert record is not None
    assert record.progress == Progress(1, None, "tokens")


async def test_positions_follow_the_order_of_service(
    accept: Accept, astore: redis.asyncio.Redis, owner: Owner
) -> None:
    batch = await accept(job_class=JobClass.BATCH)
    first = await accept(model="b")
    second = await accept(model="a")
    third = await accept(model="b")

    async def place(job: object) -> int | None:
        record = await fetch(astore, job.submission.id)  # type: ignore[attr-defined]
        assert record is not None
        return await position(astore, record.id)

    assert [await place(job) for job in (first, second, third, batch)] == [1, 2, 3, 4]
    await cancel(astore, first.submission.id)
    assert [await place(job) for job in (first, second, third, batch)] == [None, 1, 2, 3]
    run_to_end(second, owner)
    assert [await place(job) for job in (second, third, batch)] == [None, 1, 2]


async def test_a_grid_has_distinct_positions(astore: redis.asyncio.Redis, settings: Settings) -> None:
    grid = [make_job() for _ in range(20)]
    await submit_many(astore, grid, settings)
    places = []
    for job in grid:
        record = await fetch(astore, job.submission.id)
        assert record is not None
        places.append(await position(astore, record.id))
    assert places == list(range(1, 21))


async def test_pages_are_newest_first_and_complete(accept: Accept, astore: redis.asyncio.Redis) -> None:
    jobs = [await accept() for _ in range(7)]
    await accept(owner="somebody else")
    seen: list[str] = []
    after = None
    for _ in range(4):
        told = await page(astore, owner="anonymous", after=after, limit=2)
        seen += [record.id for record in told.records]
        after = told.next_after
        # A job that comes while we turn pages is newer than all of them.
        await accept(owner="anonymous", model="late")
    assert seen == [job.submission.id for job in reversed(jobs)]
    assert after is None


async def test_pages_filter(accept: Accept, astore: redis.asyncio.Redis, owner: Owner) -> None:
    done, waiting = await accept(model="a"), await accept(model="b", batch="night")
    run_to_end(done, owner)

    async def found(**words: object) -> list[str]:
        told = await page(astore, owner="anonymous", limit=10, **words)  # type: ignore[arg-type]
        return [record.id for record in told.records]

    assert await found(state=JobState.SUCCEEDED) == [done.submission.id]
    assert await found(state=JobState.QUEUED) == [waiting.submission.id]
    assert await found(model="b") == [waiting.submission.id]
    assert await found(batch="night") == [waiting.submission.id]
    assert await found(kind=JobKind.CHAT) == [waiting.submission.id, done.submission.id]
    assert await found(kind=JobKind.IMAGE) == []
    assert await page(astore, owner="nobody", limit=10) == (await page(astore, owner="x", limit=1))


async def test_nobody_sees_another_owners_batch(accept: Accept, astore: redis.asyncio.Redis) -> None:
    await accept(owner="a", batch="night")
    assert (await page(astore, owner="b", batch="night", limit=10)).records == ()


async def test_a_page_behind_an_unknown_job_is_a_key_error(astore: redis.asyncio.Redis) -> None:
    with pytest.raises(KeyError):
        await page(astore, owner="anonymous", after="job_none", limit=1)


async def test_a_hold_is_shown_beside_the_state(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, owner: Owner
) -> None:
    running, waiting = await accept(), await accept()
    with claimed(running.submission.id, owner) as mine:
        assert mine is not None
        hold_card(store, "c0", "thermal")
        for job, state in ((running, JobState.RUNNING), (waiting, JobState.QUEUED)):
            record = await fetch(astore, job.submission.id)
            assert record is not None
            assert record.hold is not None
            assert (record.state, record.hold.reason) == (state, "thermal")
        store.delete(keys.hold("c0"))
        record = await fetch(astore, waiting.submission.id)
        assert record is not None
        assert record.hold is None
        mine.append(DONE)


async def test_one_card_that_works_is_enough_for_a_waiting_job(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, owner: Owner
) -> None:
    store.sadd(keys.CARDS, "c1")
    hold_card(store, "c0", "thermal")
    record = await fetch(astore, (await accept()).submission.id)
    assert record is not None
    assert record.hold is None


async def test_a_paused_queue_holds_its_jobs(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis
) -> None:
    await pauses.pause(astore, Scope(JobClass.CHAT, "tiny"))
    record = await fetch(astore, (await accept()).submission.id)
    assert record is not None
    assert record.hold is not None
    assert record.hold.reason == "operator"


async def test_a_running_job_is_held_by_a_pause_that_says_so(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, owner: Owner
) -> None:
    job = await accept()
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        for rests in (False, True):
            await pauses.pause(astore, Scope(), rests=rests)
            record = await fetch(astore, job.submission.id)
            assert record is not None
            assert (record.hold is not None) is rests
        mine.append(DONE)


async def test_the_overview_counts_every_queue(
    accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis, owner: Owner
) -> None:
    before_ms = int(time.time() * 1000)
    await accept(job_class=JobClass.BATCH, model="sd.1.5")
    running = await accept()
    await accept()
    hold_card(store, "c0", "thermal")
    await pauses.pause(astore, Scope(model="sd.1.5"), message="cleaning")
    with claimed(running.submission.id, owner) as mine:
        assert mine is not None
        told = await overview(astore)
        mine.append(DONE)
    chat, batch = told.queues
    assert (chat.name, chat.queued, chat.running, chat.paused) == ("chat.tiny", 1, 1, False)
    assert (batch.job_class, batch.model, batch.queued, batch.paused) == (JobClass.BATCH, "sd.1.5", 1, True)
    assert chat.oldest_ready_ms is not None
    assert before_ms <= chat.oldest_ready_ms <= before_ms + 60_000
    assert (told.queued, told.running) == (2, 1)
    assert told.holds["c0"].reason == "thermal"
    assert [(key, pause.message) for key, pause in told.pauses.items()] == [("*.sd.1.5", "cleaning")]
