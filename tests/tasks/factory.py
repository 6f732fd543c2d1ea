"""Jobs for tests, and the shortest ways to put them through their life."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import redis

from tasks import board, claim, events, jobs, keys
from tasks.engines import Verdict
from tasks.events import Event
from tasks.jobs import ChatJob, Job, JobClass, JobId
from tasks.ownership import Owner

DONE = events.Finished(jobs.FinishReason.STOP, events.Usage(3, 2), events.Timings(load_ms=5.0))


def make_job(
    model: str = "tiny",
    job_class: JobClass = JobClass.CHAT,
    owner: str = jobs.ANONYMOUS,
    max_tokens: int | None = 10,
    **about: Any,
) -> ChatJob:
    submission = jobs.Submission(
        id=jobs.new_job_id(),
        owner=owner,
        job_class=job_class,
        created_at_ms=int(time.time() * 1000),
        **about,
    )
    messages = (jobs.Message("user", "hello"),)
    return ChatJob(submission, model, messages, jobs.Sampling(seed=1, max_tokens=max_tokens))


def run_to_end(job: ChatJob, owner: Owner, *said: Event, ending: Event = DONE) -> bool:
    """Claim and end a job; False when it could not be claimed."""
    with claim.claimed(job.submission.id, owner) as mine:
        if mine is None:
            return False
        for event in said:
            mine.append(event)
        mine.append(ending)
    return True


def journal_of(store: redis.Redis, job: ChatJob | JobId) -> list[Event]:
    job_id = job.submission.id if isinstance(job, ChatJob) else job
    raw: Any = store.xrange(keys.journal(job_id))
    return [events.decode(fields[b"e"]) for _, fields in raw]


def field(store: redis.Redis, job: Job, name: str) -> str | None:
    raw: Any = store.hget(keys.job(job.submission.id), name)
    return None if raw is None else raw.decode()


def abandon(job: ChatJob, owner: Owner) -> None:
    """Claim a job and die: the lease stays, nobody renews it."""
    assert claim._take(owner, job.submission.id) is not None


def until(true: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait for something that another thread or process brings about."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.002)


async def auntil(true: Callable[[], object], within_s: float = 5.0) -> None:
    """``until`` for the event loop."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110  # what is waited for is in Redis, which has no event to await
            await asyncio.sleep(0.001)


def await_verdict(mine: claim.Claim, verdict: Verdict) -> None:
    until(lambda: mine.signals.between_steps() is verdict)


def hold_card(store: redis.Redis, card: str, reason: events.HoldReason) -> None:
    store.set(keys.hold(card), board.encode(board.Hold(reason, "resting", int(time.time() * 1000))))


def delta(text: str, *token_ids: int) -> events.TextDelta:
    return events.TextDelta(text, token_ids)
