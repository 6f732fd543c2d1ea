"""The embedding task: every vector is journalled once, whatever happens on the way."""

from __future__ import annotations

import struct
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import redis
import redis.asyncio

from config.settings import Settings
from tasks import board, claim, events, jobs, keys, ownership, records
from tasks.embed import embed
from tasks.engines import Signals, Verdict, engines
from tasks.errors import ContextTooLong
from tasks.events import Cancelled, Embedded, Event, Failed, Finished
from tasks.jobs import EmbedJob, JobClass, JobState, Submission
from tasks.retention import Retention
from tasks.submit import submit
from tests.tasks.factory import field as record
from tests.tasks.factory import journal_of

TEXTS = ("one", "two", (3, 4))


def vector(index: int) -> str:
    return b64encode(struct.pack("<2f", index, 0.5)).decode()


@dataclass
class Engine:
    """Says one vector for each input that has none; before input ``at`` it does what ``act`` does."""

    at: int | None = None
    act: Callable[[], None] = lambda: None
    emitted: list[int] = field(default_factory=list)

    def embed(self, job: EmbedJob, *, emitted: Sequence[Embedded], signals: Signals) -> Iterator[Event]:
        self.emitted.append(len(emitted))
        for index in range(len(emitted), len(job.inputs)):
            if index == self.at:
                self.act()
            if signals.between_steps() is Verdict.CANCEL:
                yield Cancelled("requested")
                return
            yield Embedded(index, vector(index), 5)
        yield Finished(jobs.FinishReason.STOP, events.Usage(15, 0), events.Timings())


Accept = Callable[..., Awaitable[EmbedJob]]


@pytest.fixture
def engine(store: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    ownership.become_owner("c0", store, settings)
    engine = Engine()
    monkeypatch.setattr(engines(), "embed", engine)
    yield engine
    ownership._owner = None


@pytest.fixture
def accept_texts(astore: redis.asyncio.Redis, settings: Settings) -> Accept:
    async def accepted(*, has_reader: bool = False) -> EmbedJob:
        submission = Submission(jobs.new_job_id(), jobs.ANONYMOUS, JobClass.CHAT, 0, has_reader=has_reader)
        job = EmbedJob(submission, "bge", TEXTS)
        await submit(astore, job, settings)
        return job

    return accepted


async def test_the_record_keeps_all_vectors_in_a_row(
    engine: Engine, accept_texts: Accept, store: redis.Redis, astore: redis.asyncio.Redis
) -> None:
    job = await accept_texts()
    embed.run(job.submission.id)
    kept = await records.fetch(astore, job.submission.id)
    assert kept is not None
    assert (kept.state, kept.job) == (JobState.SUCCEEDED, job)
    assert kept.progress == records.Progress(3, 3, "inputs")
    assert struct.unpack("<6f", kept.vectors) == (0, 0.5, 1, 0.5, 2, 0.5)
    told = [event for event in journal_of(store, job.submission.id) if isinstance(event, Embedded)]
    assert told == [Embedded(index, vector(index), 5) for index in range(3)]


class _Killed(BaseException):
    """In a test's process, what SIGKILL is to a worker: nothing is tidied up."""


async def test_after_a_death_in_mid_list_the_next_attempt_goes_on(
    engine: Engine,
    accept_texts: Accept,
    store: redis.Redis,
    settings: Settings,
    astore: redis.asyncio.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = await accept_texts()

    def die() -> None:
        deadline = time.monotonic() + 5
        while len(journal_of(store, job.submission.id)) < 4:  # queued, started, two vectors
            assert time.monotonic() < deadline
            time.sleep(0.002)
        raise _Killed

    engine.at, engine.act = 2, die
    with monkeypatch.context() as dying:
        dying.setattr(claim.Claim, "give_back", lambda self, reason: self.release())
        with pytest.raises(_Killed):
            embed.run(job.submission.id)
    engine.at = None
    ownership.become_owner("c0", store, settings)
    embed.run(job.submission.id)
    assert engine.emitted == [0, 2]
    kept = await records.fetch(astore, job.submission.id)
    assert kept is not None
    assert (kept.state, kept.attempt, kept.strikes) == (JobState.SUCCEEDED, 2, 1)
    assert struct.unpack("<6f", kept.vectors) == (0, 0.5, 1, 0.5, 2, 0.5)
    told = [event.index for event in journal_of(store, job.submission.id) if isinstance(event, Embedded)]
    assert told == [0, 1, 2], "none twice, none missing"


async def test_a_fault_ends_it_without_vectors(
    engine: Engine, accept_texts: Accept, store: redis.Redis
) -> None:
    def refuse() -> None:
        raise ContextTooLong("input 2 has 600 tokens", param="input[2]")

    engine.at, engine.act = 2, refuse
    job = await accept_texts()
    embed.run(job.submission.id)
    ending = journal_of(store, job.submission.id)[-1]
    assert isinstance(ending, Failed)
    assert (ending.code, ending.param) == ("context_length_exceeded", "input[2]")
    assert record(store, job, "vectors") is None


async def test_what_somebody_waited_for_is_forgotten_soon(
    engine: Engine, accept_texts: Accept, store: redis.Redis, settings: Settings
) -> None:
    waited, queued = await accept_texts(has_reader=True), await accept_texts()
    for job in (waited, queued):
        embed.run(job.submission.id)
    now_ms = time.time() * 1000
    retention = Retention(store, settings)
    assert retention.retire(now_ms) == []
    assert retention.retire(now_ms + settings.queue.vectors_ttl_s * 1000 + 5000) == [waited.submission.id]
    assert not store.exists(keys.job(waited.submission.id), keys.journal(waited.submission.id), keys.BRIEF)
    assert store.exists(keys.job(queued.submission.id))


def test_a_job_of_texts_and_ids_survives_its_encoding() -> None:
    submission = Submission(jobs.new_job_id(), "me", JobClass.BATCH, 0)
    job = EmbedJob(submission, "bge", TEXTS, dimensions=8, prompt_name="query", truncate=True)
    assert jobs.decode(jobs.encode(job)) == job
    assert board.decode(Embedded, board.encode(Embedded(0, vector(0), 5))) == Embedded(0, vector(0), 5)
