"""Accepting a job: one Lua decides and records, then Celery is told the id."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis.asyncio
from redis.exceptions import OutOfMemoryError, RedisError

from config.settings import Settings
from tasks import app, jobs, keys, scripts
from tasks.artifacts import input_paths
from tasks.connection import AWAY, connect
from tasks.errors import Busy, IdempotencyConflict, NotReady
from tasks.eta import GUESS_MS
from tasks.jobs import Job, JobClass, JobId, JobKind, QueueName
from tasks.webhooks.words import Announcement

log = logging.getLogger("hearth.tasks.submit")

_OWNER = "owner"
_MANY = 100
"""More jobs than this are submitted in a thread: to write down and to send five thousand takes 0.15 s of a
desktop's processor (November 2026), for which the loop would stand still.
"""
RETRY_AFTER_S = (1, 120)
"""Bounds of what a client is told to wait when the queue is full."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """What makes a repeated request the same one: the client's key and the hash of the body it came with."""

    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """``replayed``: this request was accepted before, ``job_id`` is the job of then."""

    job_id: JobId
    replayed: bool = False


class AlreadyRetried(Exception):
    """Somebody else has retried one of these jobs meanwhile; nothing was accepted."""


class BatchClosed(Exception):
    """The batch of ``/v1/batches`` that the jobs are of has its jobs, or was cancelled; none was accepted."""


async def submit(
    client: redis.asyncio.Redis, job: Job, settings: Settings, idempotency: Idempotency | None = None
) -> Accepted:
    """Accept one job. See ``submit_many``."""
    return (await submit_many(client, [job], settings, idempotency))[0]


async def submit_many(
    client: redis.asyncio.Redis,
    wanted: Sequence[Job],
    settings: Settings,
    idempotency: Idempotency | None = None,
) -> list[Accepted]:
    """Accept all the jobs or none; they are queued in this order. All have one owner.

    On return they are in the queue. A message that Celery could not be given is sent again by the reaper.

    Raises:
        Busy: a class would exceed its cap.
        IdempotencyConflict: the key was used with another body.
        NotReady: Redis is out of memory or does not answer.
        AlreadyRetried: a job that one of them retries has been retried before.
        BatchClosed: they are of a batch of ``/v1/batches`` that has its jobs, or was cancelled.
    """
    if not wanted:
        return []
    try:
        if len(wanted) > _MANY:
            reply = await asyncio.to_thread(_submit_beside, wanted, settings, idempotency)
        else:
            args = _arguments(wanted, settings, idempotency)
            reply = await scripts.run_async(client, "submit", *args)
    except OutOfMemoryError:
        reply = [b"full"]
    except (*AWAY, RedisError) as error:
        log.error("Redis does not answer, or refuses: %s", error)
        raise NotReady("the queue does not answer; try again later") from None
    accepted = _verdict(reply, wanted, _caps(settings))
    if not accepted[0].replayed:
        await asyncio.to_thread(_send_all, wanted)
    return accepted


def _submit_beside(wanted: Sequence[Job], settings: Settings, idempotency: Idempotency | None) -> list[Any]:
    with connect(settings) as client:
        reply: list[Any] = scripts.run(client, "submit", *_arguments(wanted, settings, idempotency))
        return reply


def send(job_id: JobId | str, queue: QueueName | str, kind: JobKind = JobKind.CHAT) -> bool:
    """Tell Celery about a queued job; thread-safe. False when it could not be reached: never raises for that.

    Sending twice does no harm: only a queued job can be claimed.
    """
    return app.send(f"hearth.{kind.value}", str(job_id), str(queue))


def _send_all(accepted: Sequence[Job]) -> None:
    for job in accepted:
        if not send(job.submission.id, jobs.queue_of(job), job.kind):
            # One failure took its retries already; a thousand of them would take minutes.
            log.warning("job %s and those after it wait for the reaper to send them", job.submission.id)
            return


def _arguments(
    wanted: Sequence[Job], settings: Settings, idempotency: Idempotency | None
) -> list[bytes | str | float]:
    key, body = "", ""
    if idempotency is not None:
        digest = hashlib.sha256(idempotency.key.encode()).hexdigest()
        key = keys.idempotency(wanted[0].submission.owner, digest)
        body = idempotency.body_sha256
    args: list[bytes | str | float] = [
        key,
        body,
        int(settings.queue.idempotency_ttl_s * 1000),
        json.dumps(_caps(settings) | _key_cap(settings)),
        int(settings.queue.reader_ttl_s * 1000),
        len(wanted),
    ]
    for job in wanted:
        args.extend(_job_arguments(job))
    return args


def _job_arguments(job: Job) -> list[bytes | str | float]:
    about = job.submission
    return [
        about.id,
        jobs.encode(job),
        about.owner,
        about.job_class.value,
        jobs.queue_of(job),
        job.model,
        job.kind.value,
        about.batch or "",
        "" if about.deadline_at_ms is None else about.deadline_at_ms,
        int(about.has_reader),
        about.retry_of or "",
        " ".join(input_paths(job)),
        "" if about.announcement is None else json.dumps(_told(about.announcement)),
    ]


def _told(announcement: Announcement) -> dict[str, Any]:
    """What the scripts know of it: nothing is null there."""
    return {name: value for name, value in asdict(announcement).items() if value is not None}


def _caps(settings: Settings) -> dict[JobClass, int]:
    queue = settings.queue
    return {
        JobClass.PRIORITY: queue.priority_cap,
        JobClass.CHAT: queue.chat_cap,
        JobClass.IMAGE: queue.image_cap,
        JobClass.BATCH: queue.batch_cap,
    }


def _key_cap(settings: Settings) -> dict[str, int]:
    return {} if settings.queue.key_cap is None else {_OWNER: settings.queue.key_cap}


def _verdict(reply: list[Any], wanted: Sequence[Job], caps: dict[JobClass, int]) -> list[Accepted]:
    match reply[0]:
        case b"accepted":
            return [Accepted(job.submission.id) for job in wanted]
        case b"replayed":
            return [Accepted(JobId(job_id.decode()), replayed=True) for job_id in reply[1:]]
        case b"conflict":
            raise IdempotencyConflict("this Idempotency-Key was used with a different request body")
        case b"retried":
            raise AlreadyRetried
        case b"closed":
            raise BatchClosed
        case b"full":
            log.error("Redis is short of memory: jobs are refused until some are done or maxmemory is raised")
            raise NotReady("the queue's memory is full; try again later")
        case _:
            whose, over, mean_run_ms = reply[1].decode(), int(reply[2]), float(reply[3])
            if whose == _OWNER:
                told = f"your key has as many jobs as it may; {over} of {len(wanted)} cannot be taken"
            else:
                told = _too_many(wanted, JobClass(whose), over, caps)
            raise Busy(told, retry_after_s=_retry_after_s(wanted[0], over, mean_run_ms))


def _retry_after_s(job: Job, over: int, mean_run_ms: float) -> int:
    """So many jobs must end before there is room; until one was measured, a guess of what each takes."""
    least, most = RETRY_AFTER_S
    each_ms = mean_run_ms or GUESS_MS[job.submission.job_class]
    return min(max(math.ceil(over * each_ms / 1000), least), most)


def _too_many(wanted: Sequence[Job], job_class: JobClass, over: int, caps: dict[JobClass, int]) -> str:
    """What a client is told: to come again, or, where that could never help, what would."""
    asked, cap = sum(job.submission.job_class is job_class for job in wanted), caps[job_class]
    if asked > cap:
        told = f"{asked} jobs are more than the {job_class} queue ever holds ({cap})"
        roomy = max(caps, key=lambda each: caps[each])
        return told + (f"; the class {roomy} takes {caps[roomy]}" if caps[roomy] >= asked else "")
    if len(wanted) > 1:
        return f"the {job_class} queue is full; {over} of these jobs cannot be taken"
    return f"the {job_class} queue is full"
