"""The picture task: what its engine draws becomes a job's end, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
import redis.asyncio
from celery.exceptions import Reject

from config.settings import Settings
from tasks import claim, events, jobs, keys, ownership, scripts, signals
from tasks.engines import Signals, Sketch, engines
from tasks.errors import DiskFull, Unsupported
from tasks.events import Cancelled, Event, Failed, Finished, Queued, StepDone
from tasks.finisher import finisher
from tasks.image import image
from tasks.jobs import ImageJob, JobClass
from tasks.ownership import become_owner
from tasks.submit import send, submit
from tests.tasks.factory import field as record
from tests.tasks.factory import journal_of, until

REF = events.ArtifactRef("artifacts/ab/abc.png", "image/png", 3, "abc")
DRAWN = Finished(jobs.FinishReason.STOP, events.Usage(3, 0), events.Timings(), (REF,))


@dataclass
class Paper:
    """A sketch that does as it is told, and says what was asked of it."""

    finishing: Callable[[], Finished] = lambda: DRAWN
    keeping: Callable[[], None] = lambda: None
    asked: list[str] = field(default_factory=list)

    def keep(self) -> None:
        self.asked.append("keep")
        self.keeping()

    def finish(self) -> Finished:
        self.asked.append("finish")
        return self.finishing()

    def discard(self) -> None:
        self.asked.append("discard")


@dataclass
class Engine:
    paper: Paper
    fault: Exception | None = None
    ending: Event | None = None
    drawing: Callable[[], None] = lambda: None

    def draw(self, job: ImageJob, *, signals: Signals) -> Generator[Event, None, Sketch | None]:
        signals.between_steps()
        yield StepDone(1, job.steps)
        self.drawing()
        if self.fault is not None:
            raise self.fault
        if self.ending is not None:
            yield self.ending
            return None
        return self.paper


Accept = Callable[[], Awaitable[ImageJob]]


def run(job: ImageJob) -> None:
    """The task, and what it leaves to the finisher."""
    image.run(job.submission.id)
    finisher.join()


@pytest.fixture
def engine(store: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    become_owner("c0", store, settings)
    engine = Engine(Paper())
    monkeypatch.setattr(engines(), "image", engine)
    yield engine
    finisher.join()
    ownership._owner = None


@pytest.fixture
def accept_picture(astore: redis.asyncio.Redis, settings: Settings) -> Accept:
    async def accepted() -> ImageJob:
        submission = jobs.Submission(jobs.new_job_id(), jobs.ANONYMOUS, JobClass.IMAGE, 0)
        job = ImageJob(submission, "sd", "a cat", 1, 64, 64, steps=2)
        await submit(astore, job, settings)
        return job

    return accepted


async def test_the_picture_is_the_jobs_output(
    engine: Engine, accept_picture: Accept, store: redis.Redis
) -> None:
    job = await accept_picture()
    run(job)
    assert journal_of(store, job.submission.id)[-2:] == [StepDone(1, 2), DRAWN]
    assert record(store, job, "state") == "succeeded"
    assert record(store, job, "progress") == "1 2 steps"
    assert engine.paper.asked == ["keep", "finish", "discard"]


async def test_a_verdict_ends_the_job_without_a_picture(
    engine: Engine, accept_picture: Accept, store: redis.Redis
) -> None:
    engine.ending = Cancelled("requested")
    job = await accept_picture()
    run(job)
    assert journal_of(store, job.submission.id)[-1] == Cancelled("requested")
    assert engine.paper.asked == []


async def test_what_the_engine_refuses_fails_the_job_with_the_field(
    engine: Engine, accept_picture: Accept, store: redis.Redis
) -> None:
    engine.fault = Unsupported("not in 3 steps", param="steps")
    job = await accept_picture()
    run(job)
    assert journal_of(store, job.submission.id)[-1] == Failed("unsupported_value", "not in 3 steps", "steps")


@pytest.mark.parametrize(
    ("fault", "code"),
    [(DiskFull("no room"), "disk_full"), (OSError(errno.EACCES, "Permission denied"), "internal_error")],
)
async def test_a_file_that_cannot_be_written_fails_the_job(
    engine: Engine, accept_picture: Accept, store: redis.Redis, fault: Exception, code: str
) -> None:
    def failing() -> Finished:
        raise fault

    engine.paper.finishing = failing
    job = await accept_picture()
    run(job)
    last = journal_of(store, job.submission.id)[-1]
    assert isinstance(last, Failed)
    assert last.code == code


async def test_at_shutdown_the_job_goes_back_to_its_queue(
    engine: Engine, accept_picture: Accept, store: redis.Redis
) -> None:
    job = await accept_picture()
    signals.stopping.set()
    with pytest.raises(Reject) as rejected:
        image.run(job.submission.id)
    assert vars(rejected.value)["requeue"] is True
    assert journal_of(store, job.submission.id)[-1] == Queued(1, "shutdown")


@dataclass
class Gate:
    """A finishing that waits until it is let through."""

    opened: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> Finished:
        self.reached.set()
        assert self.opened.wait(10)
        return DRAWN


@pytest.fixture
def gate(engine: Engine) -> Iterator[Gate]:
    gate = Gate()
    engine.paper.finishing = gate
    yield gate
    gate.opened.set()


async def test_the_card_is_free_while_the_file_is_made_and_the_job_stays_ours(
    gate: Gate, accept_picture: Accept, store: redis.Redis, settings: Settings
) -> None:
    job = await accept_picture()
    image.run(job.submission.id)
    assert gate.reached.wait(5)
    assert claim.activity() is None
    assert record(store, job, "state") == "running"
    before = store.zscore(keys.LEASES, job.submission.id)
    assert before is not None
    until(lambda: (store.zscore(keys.LEASES, job.submission.id) or 0) > before)
    gate.opened.set()
    finisher.join()
    assert record(store, job, "state") == "succeeded"


async def test_the_next_picture_waits_for_the_file_of_the_one_before(
    gate: Gate, engine: Engine, accept_picture: Accept, store: redis.Redis
) -> None:
    first, second = await accept_picture(), await accept_picture()
    image.run(first.submission.id)
    assert gate.reached.wait(5)
    engine.paper = Paper()
    drawing = threading.Thread(target=image.run, args=(second.submission.id,))
    drawing.start()
    # It is drawn beside the other's file, and goes no further.
    until(lambda: record(store, second, "progress") == "1 2 steps")
    assert engine.paper.asked == []
    assert drawing.is_alive()
    assert record(store, second, "state") == "running"
    gate.opened.set()
    drawing.join(5)
    finisher.join()
    assert [record(store, job, "state") for job in (first, second)] == ["succeeded", "succeeded"]
    ended = [store.zscore(keys.ENDED, job.submission.id) or 0 for job in (first, second)]
    assert ended[0] <= ended[1]


async def test_a_picture_that_nobody_wants_any_more_becomes_no_file(
    engine: Engine, accept_picture: Accept, store: redis.Redis
) -> None:
    job = await accept_picture()

    def cancelled() -> None:
        scripts.run(store, "cancel", job.submission.id, "requested", 1000)
        until(lambda: mine[0].unwanted() is not None)

    mine: list[claim.Claim] = []
    engine.drawing = lambda: mine.append(claim._current) if claim._current else None
    engine.paper.keeping = cancelled
    run(job)
    assert journal_of(store, job.submission.id)[-1] == Cancelled("requested")
    assert engine.paper.asked == ["keep", "discard"]


async def test_a_file_waits_for_the_card_to_be_at_its_next_job_and_only_then(
    gate: Gate, engine: Engine, accept_picture: Accept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.finisher.CARD_FIRST_S", 30.0)
    first, second = await accept_picture(), await accept_picture()
    image.run(first.submission.id)
    until(lambda: engine.paper.asked == ["keep"])
    paper, engine.paper = engine.paper, Paper()
    working, done = threading.Event(), threading.Event()

    def at_work() -> None:
        assert claim._current is not None
        with claim._current.signals.calling_card(10.0):
            working.set()
            assert done.wait(10)

    engine.drawing = at_work
    drawing = threading.Thread(target=image.run, args=(second.submission.id,))
    assert not gate.reached.is_set()
    drawing.start()
    assert working.wait(5)
    assert gate.reached.wait(5)
    gate.opened.set()
    done.set()
    drawing.join(5)
    finisher.join()
    assert paper.asked == ["keep", "finish", "discard"]


async def test_a_lone_picture_waits_for_nothing(
    engine: Engine, accept_picture: Accept, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.finisher.CARD_FIRST_S", 30.0)
    job = await accept_picture()
    image.run(job.submission.id)
    until(lambda: record(store, job, "state") == "succeeded")


async def test_told_to_stop_it_still_makes_the_file_of_what_is_drawn(
    gate: Gate, accept_picture: Accept, store: redis.Redis
) -> None:
    job = await accept_picture()
    image.run(job.submission.id)
    signals.stopping.set()
    gate.opened.set()
    finisher.join()
    assert record(store, job, "state") == "succeeded"


async def test_the_cards_next_owner_takes_up_what_was_being_finished(
    gate: Gate, engine: Engine, accept_picture: Accept, store: redis.Redis, settings: Settings
) -> None:
    finishing, waiting = await accept_picture(), await accept_picture()
    image.run(finishing.submission.id)
    assert gate.reached.wait(5)
    # Celery has acknowledged its message, and then the process dies.
    dead, finisher._thread = finisher._thread, None
    store.delete("image.sd")
    submit_message(waiting)
    become_owner("c0", store, settings)
    assert record(store, finishing, "state") == "queued"
    assert record(store, finishing, "strikes") == "1"
    assert [message_of(raw) for raw in messages(store)] == [waiting.submission.id, finishing.submission.id]
    paper, engine.paper = engine.paper, Paper()
    run(finishing)
    assert journal_of(store, finishing.submission.id)[-1] == DRAWN
    # The dead one's file, had it come to be, would have changed nothing.
    gate.opened.set()
    assert dead is not None
    dead.join()
    assert journal_of(store, finishing.submission.id).count(DRAWN) == 1
    assert record(store, finishing, "state") == "succeeded"
    assert paper.asked[:2] == ["keep", "finish"]


def submit_message(job: ImageJob) -> None:
    assert send(job.submission.id, "image.sd", jobs.JobKind.IMAGE)


def messages(store: redis.Redis) -> list[bytes]:
    """Of the queue, the one that is taken next last."""
    raw: Any = store.lrange("image.sd", 0, -1)
    return list(raw)


def message_of(raw: bytes) -> str:
    return str(json.loads(raw)["headers"]["id"])
