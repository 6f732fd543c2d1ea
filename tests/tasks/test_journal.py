from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import redis
import redis.asyncio

from config.groups import QueueSettings
from config.settings import Settings, read_settings
from tasks import app, events, journal, keys, lanes
from tasks.cancel import cancel
from tasks.claim import claimed
from tasks.connection import connect, connect_async
from tasks.events import Cancelled, Finished, Queued, Started
from tasks.jobs import ChatJob
from tasks.journal import Entry, Journals
from tasks.ownership import Owner, take_card
from tasks.submit import submit
from tests.conftest import RedisServer
from tests.tasks.conftest import Accept
from tests.tasks.factory import DONE, auntil, delta, journal_of, make_job, run_to_end


@pytest.fixture
async def journals(astore: redis.asyncio.Redis, settings: Settings) -> AsyncIterator[Journals]:
    async with Journals(astore, settings) as hub:
        yield hub


async def _all(hub: Journals, job: ChatJob, after: str | None = None, *, renew: bool = False) -> list[Entry]:
    return [entry async for entry in hub.follow(job.submission.id, after, renew=renew)]


async def _following(hub: Journals, many: int) -> None:
    await auntil(lambda: hub.following == many)


async def test_a_follower_sees_every_event_once_and_in_order(
    journals: Journals, accept: Accept, owner: Owner, store: redis.Redis
) -> None:
    job = await accept()
    following = asyncio.create_task(_all(journals, job))
    await _following(journals, 1)
    await asyncio.to_thread(run_to_end, job, owner, *(delta(f"{i} ", i) for i in range(50)))
    entries = await asyncio.wait_for(following, 30)
    assert [entry.event for entry in entries] == journal_of(store, job)
    assert journal.token_ids(entries) == tuple(range(50))
    assert entries[-1].event == DONE
    assert journals.following == 0


async def test_many_followers_of_many_jobs_share_one_reader(
    journals: Journals, accept: Accept, owner: Owner
) -> None:
    batch = [await accept() for _ in range(8)]
    following = [asyncio.create_task(_all(journals, job)) for job in batch for _ in range(3)]
    await _following(journals, 24)
    for job in batch:
        await asyncio.to_thread(run_to_end, job, owner, delta("a", 1), delta("b", 2))
    for entries in await asyncio.wait_for(asyncio.gather(*following), 30):
        assert journal.text(entries) == "ab"
        assert events.is_terminal(entries[-1].event)


async def test_journals_that_fall_silent_are_waited_for_apart_and_come_back(
    journals: Journals, accept: Accept, owner: Owner, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "FEW", 1)
    monkeypatch.setattr(lanes, "SILENT_S", 0.0)
    batch = [await accept() for _ in range(8)]
    following = [asyncio.create_task(_all(journals, job)) for job in batch for _ in range(2)]
    await _following(journals, 16)
    await auntil(lambda: len(journals._lanes.quiet.groups) >= 7)
    for job in batch:
        await asyncio.to_thread(run_to_end, job, owner, *(delta(f"{i} ", i) for i in range(20)))
    told = await asyncio.wait_for(asyncio.gather(*following), 30)
    for job, entries in zip([job for job in batch for _ in range(2)], told, strict=True):
        assert len(entries) == len(journal_of(store, job))
        assert journal.token_ids(entries) == tuple(range(20)), "each once, in order, whatever lane it came by"
    assert journals.following == 0


async def test_a_reader_goes_on_behind_the_last_event_it_has_seen(
    journals: Journals, accept: Accept, owner: Owner
) -> None:
    job = await accept()
    run_to_end(job, owner, delta("a", 1))
    entries = await _all(journals, job)
    for seen in range(len(entries)):
        assert await _all(journals, job, entries[seen].id) == entries[seen + 1 :]


async def test_who_joins_while_a_read_is_under_way_misses_nothing(
    journals: Journals,
    accept: Accept,
    owner: Owner,
    store: redis.Redis,
    astore: redis.asyncio.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The read began where the first follower was; what it brings is not all that the second one lacks."""
    job = await accept()
    arrived, go_on, is_held = asyncio.Event(), asyncio.Event(), False
    read: Any = astore.xread

    async def held(streams: Any, **options: Any) -> Any:
        reply = await read(streams, **options)
        if is_held and any(name.decode() == keys.journal(job.submission.id) for name, _ in reply or ()):
            arrived.set()
            await go_on.wait()
        return reply

    monkeypatch.setattr(astore, "xread", held)
    first = journals.follow(job.submission.id)
    assert (await asyncio.wait_for(anext(first), 5)).event == Queued(0)
    is_held = True
    rest = asyncio.create_task(_rest(first))
    await asyncio.to_thread(run_to_end, job, owner, delta("a", 1))
    await asyncio.wait_for(arrived.wait(), 5)
    # The second one has looked before the job ended.
    monkeypatch.setattr(journals, "_rest_of_ended", AsyncMock(return_value=None))
    late = asyncio.create_task(_all(journals, job))
    await _following(journals, 2)
    go_on.set()
    assert [entry.event for entry in await asyncio.wait_for(late, 5)] == journal_of(store, job)
    assert len(await rest) == len(journal_of(store, job)) - 1


async def _rest(entries: AsyncIterator[Entry]) -> list[Entry]:
    return [entry async for entry in entries]


async def test_a_late_follower_of_a_running_job_gets_the_beginning_too(
    journals: Journals, accept: Accept, owner: Owner
) -> None:
    job = await accept()
    first: list[Entry] = []

    async def follow_early() -> None:
        async for entry in journals.follow(job.submission.id):
            first.append(entry)

    early = asyncio.create_task(follow_early())
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        mine.append(delta("a", 1))
        await auntil(lambda: journal.text(first) == "a")
        # From here on the journal is read from its beginning, for the sake of the late one.
        late = asyncio.create_task(_all(journals, job))
        await _following(journals, 2)
        mine.append(delta("b", 2))
        mine.append(DONE)
    second = await asyncio.wait_for(late, 30)
    await asyncio.wait_for(early, 30)
    assert first == second
    assert journal.text(first) == "ab"


async def test_an_unknown_job_is_a_key_error(journals: Journals) -> None:
    with pytest.raises(KeyError):
        await _all(journals, make_job())


@pytest.mark.parametrize("after", ["x", "1", "-1-0", "1-0; drop", "9" * 30 + "-0"])
async def test_a_place_that_cannot_be_is_refused(journals: Journals, accept: Accept, after: str) -> None:
    with pytest.raises(ValueError, match="not the id"):
        await _all(journals, await accept(), after)


async def test_an_expired_journal_leaves_its_terminal_event(
    journals: Journals, accept: Accept, owner: Owner, store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    succeeded, cancelled = await accept(), await accept()
    run_to_end(succeeded, owner, delta("a", 1))
    await cancel(astore, cancelled.submission.id)
    store.delete(keys.journal(succeeded.submission.id), keys.journal(cancelled.submission.id))
    (ending,) = await _all(journals, succeeded)
    assert ending.event == DONE
    assert await _all(journals, succeeded, ending.id) == []
    assert [entry.event for entry in await _all(journals, cancelled)] == [Cancelled("requested")]


async def test_a_follower_that_leaves_leaves_nothing_behind(
    journals: Journals, accept: Accept, store: redis.Redis
) -> None:
    job = await accept(has_reader=True)
    assert store.exists(keys.reader(job.submission.id))
    following = asyncio.create_task(_all(journals, job, renew=True))
    await _following(journals, 1)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    assert journals.following == 0
    await auntil(lambda: not store.exists(keys.reader(job.submission.id)))


async def test_a_reader_is_renewed_while_it_follows_and_only_then(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    hasty = settings.model_copy(update={"queue": QueueSettings(reader_ttl_s=0.06)})
    job = make_job(has_reader=True)
    async with Journals(astore, hasty) as hub:
        await submit(astore, job, hasty)
        following = asyncio.create_task(_all(hub, job, renew=True))
        await _following(hub, 1)
        for _ in range(3):
            store.delete(keys.reader(job.submission.id))
            await auntil(lambda: store.exists(keys.reader(job.submission.id)))
        await cancel(astore, job.submission.id, settings=hasty)
        await asyncio.wait_for(following, 30)


async def test_a_follower_outlives_a_killed_redis(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--appendonly", "yes")
    settings = read_settings(redis_url=server.url)
    app.configure(settings)
    client, aclient = connect(settings), connect_async(settings)
    job = make_job()
    try:
        async with Journals(aclient, settings) as hub:
            await submit(aclient, job, settings)
            following = asyncio.create_task(_all(hub, job))
            await _following(hub, 1)
            with claimed(job.submission.id, take_card("c0", client, settings)) as mine:
                assert mine is not None
                mine.append(delta("before ", 1))
                server.kill()
                mine.append(delta("during ", 2))
                await asyncio.to_thread(server.start)
                mine.append(delta("after", 3))
                mine.append(DONE)
            entries = await asyncio.wait_for(following, 30)
        assert [type(entry.event) for entry in entries[:2]] == [Queued, Started]
        assert journal.text(entries) == "before during after"
        assert journal.token_ids(entries) == (1, 2, 3)
    finally:
        client.close()
        await aclient.aclose()
        server.kill()


async def test_a_redis_that_lost_the_job_ends_the_follower(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    hasty = settings.model_copy(update={"queue": QueueSettings(reader_ttl_s=0.06)})
    job = make_job()
    async with Journals(astore, hasty) as hub:
        await submit(astore, job, hasty)
        following = asyncio.create_task(_all(hub, job))
        await _following(hub, 1)
        store.flushall()
        with pytest.raises(KeyError):
            await asyncio.wait_for(following, 30)


async def test_a_redis_that_is_full_still_serves_those_who_follow(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    hasty = settings.model_copy(update={"queue": QueueSettings(reader_ttl_s=0.06)})
    job = make_job(has_reader=True)
    reader = keys.reader(job.submission.id)
    async with Journals(astore, hasty) as hub:
        await submit(astore, job, hasty)
        store.config_set("maxmemory", 1)
        try:
            following = asyncio.create_task(_all(hub, job, renew=True))
            await _following(hub, 1)
            for _ in range(2):
                store.delete(reader)
                await auntil(lambda: store.exists(reader))
            await cancel(astore, job.submission.id, settings=hasty)
            entries = await asyncio.wait_for(following, 30)
        finally:
            store.config_set("maxmemory", 0)
    assert entries[-1].event == Cancelled("requested")


async def test_one_journal_that_cannot_be_read_spares_the_others(
    journals: Journals, accept: Accept, astore: redis.asyncio.Redis, store: redis.Redis
) -> None:
    spoilt, sound = await accept(), await accept()
    store.xadd(keys.journal(spoilt.submission.id), {"e": '{"type": "of another version"}'})
    both = [asyncio.create_task(_all(journals, job)) for job in (spoilt, sound)]
    with pytest.raises(ValueError, match="another version"):
        await asyncio.wait_for(both[0], 30)
    await cancel(astore, sound.submission.id)
    entries = await asyncio.wait_for(both[1], 30)
    assert entries[-1].event == Cancelled("requested")


async def test_the_worker_reads_a_journal_at_once(accept: Accept, owner: Owner, store: redis.Redis) -> None:
    job = await accept()
    run_to_end(job, owner, delta("a", 1), delta("b", 2, 3))
    entries = journal.read(store, job.submission.id)
    assert journal.text(entries) == "ab"
    assert journal.token_ids(entries) == (1, 2, 3)
    assert isinstance(entries[-1].event, Finished)
    assert journal.read(store, "job_none") == []
