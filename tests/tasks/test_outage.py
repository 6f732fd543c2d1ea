from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio

from config.groups import QueueSettings
from config.settings import Settings, read_settings
from tasks import app, events, keys, signals
from tasks.claim import claimed
from tasks.connection import connect, connect_async
from tasks.engines import Verdict
from tasks.errors import QueueAway, Shutdown
from tasks.events import Queued
from tasks.ownership import Owner, take_card
from tasks.submit import submit
from tests.conftest import RedisServer
from tests.tasks.conftest import Accept
from tests.tasks.factory import (
    DONE,
    await_verdict,
    delta,
    field,
    journal_of,
    make_job,
    until,
)


async def test_a_job_whose_hold_cannot_be_read_goes_back_in_the_end(
    accept: Accept, owner: Owner, store: redis.Redis, settings: Settings
) -> None:
    hasty = settings.model_copy(update={"queue": QueueSettings(redis_patience_s=0.05)})
    job = await accept()
    store.set(keys.hold("c0"), '{"written by": "another version"}')

    def run() -> None:
        with claimed(job.submission.id, Owner("c0", owner.epoch, store, hasty)) as mine:
            assert mine is not None
            await_verdict(mine, Verdict.LOST)

    with pytest.raises(QueueAway):
        run()
    assert (field(store, job, "state"), field(store, job, "strikes")) == ("queued", "0")


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "everysec")
    yield server
    server.kill()


async def test_a_job_outlives_a_killed_redis(durable: RedisServer) -> None:
    settings = read_settings(redis_url=durable.url)
    app.configure(settings)
    client, aclient = connect(settings), connect_async(settings)
    job = make_job()
    await submit(aclient, job, settings)
    owner = take_card("c0", client, settings)
    with claimed(job.submission.id, owner) as mine:
        assert mine is not None
        mine.append(delta("before ", 1))
        until(lambda: len(journal_of(client, job)) == 3)
        durable.kill()
        mine.append(delta("during ", 2))
        mine.append(delta("and still ", 3))
        assert mine.signals.between_steps() is Verdict.GO_ON
        starting = threading.Thread(target=durable.start)
        starting.start()
        mine.append(delta("after", 4))
        mine.append(DONE)
        starting.join()
    told = journal_of(client, job)
    assert [token for event in told if isinstance(event, events.TextDelta) for token in event.token_ids] == [
        1,
        2,
        3,
        4,
    ]
    assert (field(client, job, "state"), field(client, job, "strikes")) == ("succeeded", "0")
    assert field(client, job, "text") == "before during and still after"
    client.close()
    await aclient.aclose()


async def test_an_outage_beyond_patience_is_no_strike(durable: RedisServer) -> None:
    settings = read_settings(redis_url=durable.url, queue=QueueSettings(redis_patience_s=0.05))
    app.configure(settings)
    client, aclient = connect(settings), connect_async(settings)
    job = make_job()
    await submit(aclient, job, settings)
    owner = take_card("c0", client, settings)
    starting = threading.Thread(target=durable.start)

    def run_through_the_outage() -> None:
        with claimed(job.submission.id, owner) as mine:
            assert mine is not None
            durable.kill()
            mine.append(delta("unheard", 1))
            await_verdict(mine, Verdict.LOST)
            starting.start()

    with pytest.raises(QueueAway):
        run_through_the_outage()
    starting.join()
    assert (field(client, job, "state"), field(client, job, "strikes")) == ("queued", "0")
    assert journal_of(client, job)[-2:] == [delta("unheard", 1), Queued(1, "queue_away")]
    client.close()
    await aclient.aclose()


async def test_who_is_told_to_stop_does_not_wait_for_an_absent_redis(
    accept: Accept, owner: Owner, settings: Settings, tmp_path: Path
) -> None:
    nowhere = connect(read_settings(redis_url=f"unix://{tmp_path}/none.sock"))
    lonely = Owner("c0", 1, nowhere, settings)
    signals.stopping.set()
    with pytest.raises(Shutdown), claimed(make_job().submission.id, lonely):
        pass
    nowhere.close()
