from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import redis
import redis.asyncio
from celery.exceptions import Reject

from config.settings import CHECKOUT, Settings
from tasks import events, keys, ownership, signals
from tasks.cancel import cancel
from tasks.chat import chat
from tasks.engines import Signals, engines
from tasks.events import Event, Failed, Queued, TextDelta
from tasks.jobs import ChatJob
from tasks.journal import Journals, text, token_ids
from tasks.ownership import become_owner
from tasks.submit import submit
from tests.conftest import RedisServer
from tests.tasks.conftest import Accept
from tests.tasks.factory import DONE, auntil, delta, field, journal_of, make_job


class Engine:
    def stream(self, job: ChatJob, *, emitted: Sequence[int], signals: Signals) -> Iterator[Event]:
        signals.between_steps()
        yield delta("hi", 1)
        yield DONE


@pytest.fixture
def owned(store: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    become_owner("c0", store, settings)
    monkeypatch.setattr(engines(), "chat", Engine())
    yield
    ownership._owner = None


@pytest.mark.usefixtures("owned")
async def test_the_task_runs_the_engine_and_returns_nothing(accept: Accept, store: redis.Redis) -> None:
    job = await accept()
    assert chat.run(job.submission.id) is None
    assert journal_of(store, job)[-2:] == [delta("hi", 1), DONE]


@pytest.mark.usefixtures("owned")
async def test_a_message_too_many_is_swallowed_in_silence(accept: Accept, store: redis.Redis) -> None:
    job = await accept()
    chat.run(job.submission.id)
    before = journal_of(store, job)
    chat.run(job.submission.id)
    assert journal_of(store, job) == before


@pytest.mark.usefixtures("owned")
async def test_at_shutdown_the_message_goes_back_to_its_queue(accept: Accept, store: redis.Redis) -> None:
    job = await accept()
    signals.stopping.set()
    with pytest.raises(Reject) as rejected:
        chat.run(job.submission.id)
    assert vars(rejected.value)["requeue"] is True
    assert (field(store, job, "state"), field(store, job, "strikes")) == ("queued", "0")
    assert journal_of(store, job)[-1] == Queued(1, "shutdown")


@pytest.mark.usefixtures("owned")
async def test_a_worker_without_an_engine_fails_the_job(
    accept: Accept, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines(), "chat", None)
    job = await accept()
    chat.run(job.submission.id)
    last = journal_of(store, job)[-1]
    assert isinstance(last, Failed)
    assert last.code == "internal_error"


@pytest.fixture
def worker(redis_server: RedisServer, store: redis.Redis, tmp_path: Path) -> Iterator[None]:
    """A real Celery worker on the test's Redis."""
    log = (tmp_path / "worker.log").open("wb")
    command = [sys.executable, "-m", "celery", "-A", "tests.tasks.worker_app", "worker", "-P", "prefork"]
    command += ["-c", "1", "-Q", "chat.tiny", "-n", "test@%h", "--without-mingle", "--without-gossip"]
    environment = {**os.environ, "HEARTH_REDIS_URL": redis_server.url, "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    yield
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    finally:
        process.kill()
        log.close()


@pytest.mark.usefixtures("worker")
async def test_a_real_worker_survives_its_child_and_goes_on_where_it_stopped(
    astore: redis.asyncio.Redis, store: redis.Redis, settings: Settings
) -> None:
    mortal, fine, unwanted = (make_job() for _ in range(3))
    mortal = replace(mortal, sampling=replace(mortal.sampling, seed=13))
    async with asyncio.timeout(60), Journals(astore, settings) as journals:
        for job in (unwanted, mortal, fine):
            await submit(astore, job, settings)
            if job is unwanted:
                await cancel(astore, job.submission.id, settings=settings)
        for job in (mortal, fine):
            entries = [entry async for entry in journals.follow(job.submission.id)]
            assert text(entries) == "0 1 2 3 4 5 6 7 8 9 "
            assert token_ids(entries) == tuple(range(10))
            assert entries[-1].event == DONE
    assert (field(store, mortal, "attempt"), field(store, mortal, "strikes")) == ("2", "1")
    assert (field(store, fine, "attempt"), field(store, fine, "strikes")) == ("1", "0")
    assert sum(isinstance(event, TextDelta) for event in journal_of(store, unwanted)) == 0
    assert [type(event) for event in journal_of(store, unwanted)] == [Queued, events.Cancelled]
    # Every message is acknowledged: nothing comes back when the visibility timeout is over.
    await auntil(lambda: store.hlen("unacked") == store.llen("chat.tiny") == 0)
    assert store.hget(keys.COUNTS, "chat") == b"0"
