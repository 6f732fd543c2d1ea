"""The picture task: what its engine draws becomes a job's end, whatever happens on the way."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field

import pytest
import redis
import redis.asyncio
from celery.exceptions import Reject

from config.settings import Settings
from tasks import claim, events, jobs
from tasks.claim import become_owner
from tasks.engines import Signals, Sketch, engines
from tasks.errors import DiskFull, Unsupported
from tasks.events import Cancelled, Event, Failed, Finished, Queued, StepDone
from tasks.image import image
from tasks.jobs import ImageJob, JobClass
from tasks.submit import submit
from tests.tasks.factory import field as record
from tests.tasks.factory import journal_of

REF = events.ArtifactRef("artifacts/ab/abc.png", "image/png", 3, "abc")
DRAWN = Finished(jobs.FinishReason.STOP, events.Usage(3, 0), events.Timings(), (REF,))


@dataclass
class Paper:
    """A sketch that does as it is told, and says what was asked of it."""

    finishing: Callable[[], Finished] = lambda: DRAWN
    asked: list[str] = field(default_factory=list)

    def keep(self) -> None:
        self.asked.append("keep")

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

    def draw(self, job: ImageJob, *, signals: Signals) -> Generator[Event, None, Sketch | None]:
        signals.between_steps()
        yield StepDone(1, job.steps)
        if self.fault is not None:
            raise self.fault
        if self.ending is not None:
            yield self.ending
            return None
        return self.paper


Accept = Callable[[], Awaitable[ImageJob]]


@pytest.fixture
def engine(store: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    become_owner("c0", store, settings)
    engine = Engine(Paper())
    monkeypatch.setattr(engines(), "image", engine)
    yield engine
    claim._owner = None


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
    image.run(job.submission.id)
    assert journal_of(store, job.submission.id)[-2:] == [StepDone(1, 2), DRAWN]
    assert record(store, job, "state") == "succeeded"
    assert record(store, job, "progress") == "1 2 steps"


async def test_a_verdict_ends_the_job_without_a_picture(
    engine: Engine, accept_picture: Accept, store: redis.Redis
) -> None:
    engine.ending = Cancelled("requested")
    job = await accept_picture()
    image.run(job.submission.id)
    assert journal_of(store, job.submission.id)[-1] == Cancelled("requested")
    assert engine.paper.asked == []


async def test_what_the_engine_refuses_fails_the_job_with_the_field(
    engine: Engine, accept_picture: Accept, store: redis.Redis
) -> None:
    engine.fault = Unsupported("not in 3 steps", param="steps")
    job = await accept_picture()
    image.run(job.submission.id)
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
    image.run(job.submission.id)
    last = journal_of(store, job.submission.id)[-1]
    assert isinstance(last, Failed)
    assert last.code == code


async def test_at_shutdown_the_job_goes_back_to_its_queue(
    engine: Engine, accept_picture: Accept, store: redis.Redis
) -> None:
    job = await accept_picture()
    claim.stopping.set()
    with pytest.raises(Reject) as rejected:
        image.run(job.submission.id)
    assert vars(rejected.value)["requeue"] is True
    assert journal_of(store, job.submission.id)[-1] == Queued(1, "shutdown")
