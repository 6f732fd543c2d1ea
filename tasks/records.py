"""Reading the queue: one job, its place, pages of jobs, the whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis.asyncio

from config.logs import words_of
from tasks import board, jobs, keys, outcome, pauses, scripts
from tasks.board import Hold
from tasks.connection import replies
from tasks.events import ArtifactRef, Failed, Terminal, Timings, Usage
from tasks.jobs import Call, FinishReason, Job, JobClass, JobId, JobKind, JobState, QueueName
from tasks.resting import Resting, read_resting

log = logging.getLogger("hearth.tasks.records")

_PAGE_SCAN = 200
"""Records looked at in one trip while a page is filtered."""


class Progress(NamedTuple):
    """``done`` of ``total`` ``unit`` (``files`` while loading, then ``tokens``, ``steps`` or ``inputs``); no
    total where none is known.
    """

    done: int
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """All that is known of a job. Times are wall-clock milliseconds by Redis' clock.

    ``started_at_ms`` is the first start; ``queued_ms`` and ``run_ms`` are summed over all attempts that
    ended. ``hold`` is why the job's card, or its queue, rests now. ``vectors``: those of all inputs in a
    row, float32, little-endian. ``letters`` are the ids of the deliveries that tell webhooks of its end.
    """

    job: Job
    state: JobState
    attempt: int
    strikes: int
    created_at_ms: int
    ready_at_ms: int
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    text: str | None = None
    reasoning: str | None = None
    calls: tuple[Call, ...] = ()
    output: tuple[ArtifactRef, ...] = ()
    vectors: bytes = b""
    error: Failed | None = None
    warnings: tuple[str, ...] = ()
    progress: Progress | None = None
    hold: Hold | None = None
    finish_reason: FinishReason | None = None
    card: str | None = None
    queued_ms: int = 0
    run_ms: int = 0
    load_ms: float = 0.0
    cancelled_because: str | None = None
    retried_as: JobId | None = None
    letters: tuple[str, ...] = ()

    @property
    def id(self) -> JobId:
        return self.job.submission.id

    @property
    def queue(self) -> QueueName:
        return jobs.queue_of(self.job)

    def ending(self) -> Terminal | None:
        """The terminal event, made once more from the record; None while the job has not ended."""
        if not self.state.is_terminal:
            return None
        return outcome.rebuilt(
            self.state,
            error=self.error,
            finish_reason=self.finish_reason,
            usage=self.usage,
            timings=self.timings,
            output=self.output,
            # Those of the submission were told when the job was accepted.
            warnings=self.warnings[len(self.job.submission.warnings) :],
            cancelled_because=self.cancelled_because,
        )


class Glance(NamedTuple):
    """What can be said of a job without reading all of it. A running job that is to stop ``is_stopping``."""

    state: JobState
    progress: Progress | None
    started_at_ms: int | None
    is_stopping: bool


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that another version of Hearth wrote, and that this one does not understand."""

    id: JobId


@dataclass(frozen=True, slots=True)
class Page:
    """Records, newest first. ``next_after`` continues behind the last one; None when there is no more.

    Those that cannot be read are told by id in ``unreadable``.
    """

    records: tuple[JobRecord, ...]
    next_after: JobId | None
    unreadable: tuple[JobId, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One queue. ``oldest_ready_ms`` is when the job that waits longest became ready."""

    name: QueueName
    job_class: JobClass
    model: str
    queued: int
    running: int
    oldest_ready_ms: int | None
    paused: bool


@dataclass(frozen=True, slots=True)
class QueueOverview:
    """All queues in class order, every card that is held now, and what an operator paused, by scope."""

    queues: tuple[QueueLine, ...]
    queued: int
    running: int
    holds: Mapping[str, Hold]
    pauses: pauses.Pauses = field(default_factory=dict)


async def fetch(client: redis.asyncio.Redis, job_id: JobId | str) -> JobRecord | None:
    """The record of one job; None when there is no such job.

    Raises:
        ValueError: it was written by a version of Hearth that this one does not understand.
    """
    found = await fetch_many(client, [job_id])
    if found and isinstance(found[0], Unreadable):
        raise ValueError(f"the record of {job_id} cannot be read")
    return found[0] if found and isinstance(found[0], JobRecord) else None


async def fetch_many(client: redis.asyncio.Redis, ids: Sequence[JobId | str]) -> list[JobRecord | Unreadable]:
    """The records of those jobs that there are, in the order of ``ids``, in one trip."""
    async with client.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hgetall(keys.job(job_id))
        rows = await pipe.execute()
    alive = any(fields.get(b"state") in (b"queued", b"running") for fields in rows)
    resting = await read_resting(client) if alive else Resting()
    return [
        _record_or_not(JobId(str(job_id)), fields, resting)
        for job_id, fields in zip(ids, rows, strict=True)
        if fields
    ]


async def glances(client: redis.asyncio.Redis, ids: Sequence[JobId]) -> list[Glance | None]:
    """One look at many jobs, in one trip; None for a job that is not there any more."""
    async with client.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(keys.job(job_id), "state", "progress", "started_at", "cancel")
        rows = await pipe.execute()
    return [_glance(*row) for row in rows]


async def position(client: redis.asyncio.Redis, job_id: JobId | str) -> int | None:
    """The job's place among all that wait, in the order of service: 1 is next; None unless queued."""
    return (await positions(client, [job_id]))[0]


async def positions(client: redis.asyncio.Redis, ids: Sequence[JobId | str]) -> list[int | None]:
    """The places of several jobs, as ``position`` has them."""
    if not ids:
        return []
    places = await scripts.run_async(client, "place", len(JobClass), *JobClass, *map(str, ids))
    return [place or None for place in places]


async def page(
    client: redis.asyncio.Redis,
    *,
    owner: str,
    state: JobState | None = None,
    kind: JobKind | None = None,
    model: str | None = None,
    batch: str | None = None,
    after: JobId | str | None = None,
    limit: int,
) -> Page:
    """The owner's jobs that match, newest first, at most ``limit`` of them.

    Raises:
        KeyError: ``after`` is not, or no longer, one of them.
    """
    wanted = _Filter(owner, state, kind, model)
    index = keys.batch(batch) if batch is not None else keys.owner(owner)
    found: list[str] = []
    highest, skip_to = "+inf", None
    if after is not None:
        score = await client.zscore(index, str(after))
        if score is None:
            raise KeyError(str(after))
        highest, skip_to = repr(float(score)), str(after)
    offset = 0
    while len(found) <= limit:
        raw = await replies(client).zrevrangebyscore(index, highest, "-inf", start=offset, num=_PAGE_SCAN)
        ids = [job_id.decode() for job_id in raw]
        offset += len(ids)
        if not ids:
            break
        if skip_to in ids:
            ids, skip_to = ids[ids.index(skip_to) + 1 :], None
        found.extend(await _matching(client, ids, wanted))
    more = len(found) > limit
    told = await fetch_many(client, found[:limit])
    return Page(
        tuple(one for one in told if isinstance(one, JobRecord)),
        JobId(found[limit - 1]) if more else None,
        tuple(one.id for one in told if isinstance(one, Unreadable)),
    )


async def overview(client: redis.asyncio.Redis) -> QueueOverview:
    """Every queue that has ever held a job, and every hold."""
    names = [name.decode() for name in await replies(client).smembers(keys.QUEUES)]
    names.sort(key=lambda name: (_rank(_class_of(name)), name))
    cards = sorted(card.decode() for card in await replies(client).smembers(keys.CARDS))
    running = await _running_by_queue(client)
    async with client.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.PAUSES)
        for card in cards:
            pipe.get(keys.hold(card))
        for name in names:
            pipe.zcard(keys.queue(name))
            pipe.zrange(keys.queue(name), 0, 0, withscores=True)
        paused, *rest = await pipe.execute()
    stopped = pauses.decode(paused)
    holds = {
        card: hold
        for card, raw in zip(cards, rest[: len(cards)], strict=True)
        if (hold := board.decode(Hold, raw)) is not None
    }
    told = rest[len(cards) :]
    lines = tuple(
        _line(name, queued, oldest, running.get(name, 0), pauses.is_paused(name, stopped))
        for name, queued, oldest in zip(names, told[::2], told[1::2], strict=True)
    )
    return QueueOverview(lines, sum(line.queued for line in lines), sum(running.values()), holds, stopped)


def _line(name: str, queued: int, oldest: Sequence[Any], running: int, paused: bool) -> QueueLine:
    return QueueLine(
        name=QueueName(name),
        job_class=_class_of(name),
        model=name.partition(".")[2],
        queued=queued,
        running=running,
        oldest_ready_ms=int(oldest[0][1]) if oldest else None,
        paused=paused,
    )


async def _running_by_queue(client: redis.asyncio.Redis) -> dict[str, int]:
    ids = [job_id.decode() for job_id in await replies(client).zrange(keys.LEASES, 0, -1)]
    async with client.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hget(keys.job(job_id), "queue")
        names = [name.decode() for name in await pipe.execute() if name is not None]
    return {name: names.count(name) for name in names}


@dataclass(frozen=True, slots=True)
class _Filter:
    owner: str
    state: JobState | None
    kind: JobKind | None
    model: str | None

    def passes(
        self, owner: bytes | None, state: bytes | None, kind: bytes | None, model: bytes | None
    ) -> bool:
        pairs = ((self.owner, owner), (self.state, state), (self.kind, kind), (self.model, model))
        return all(want is None or (is_ is not None and want == is_.decode()) for want, is_ in pairs)


async def _matching(client: redis.asyncio.Redis, ids: Sequence[str], wanted: _Filter) -> list[str]:
    async with client.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(keys.job(job_id), "owner", "state", "kind", "model")
        rows = await pipe.execute()
    return [job_id for job_id, row in zip(ids, rows, strict=True) if wanted.passes(*row)]


def _record_or_not(job_id: JobId, fields: Mapping[bytes, bytes], resting: Resting) -> JobRecord | Unreadable:
    try:
        return _record(fields, resting.hold_of(fields))
    except (ValueError, KeyError) as error:
        log.warning("the record of %s cannot be read: %s", job_id, words_of(error))
        return Unreadable(job_id)


def _record(fields: Mapping[bytes, bytes], hold: Hold | None) -> JobRecord:
    job = jobs.decode(fields[b"job"])
    state = JobState(fields[b"state"].decode())
    timings = outcome.TIMINGS.validate_json(fields[b"timings"]) if b"timings" in fields else None
    warnings = outcome.WARNINGS.validate_json(fields.get(b"warnings", b"[]"))
    reason = _text(fields, b"finish_reason")
    return JobRecord(
        job=job,
        state=state,
        attempt=int(fields[b"attempt"]),
        strikes=int(fields[b"strikes"]),
        created_at_ms=job.submission.created_at_ms,
        ready_at_ms=int(fields[b"ready_at"]),
        started_at_ms=_number(fields, b"started_at"),
        ended_at_ms=_number(fields, b"ended_at"),
        usage=outcome.USAGE.validate_json(fields[b"usage"]) if b"usage" in fields else None,
        timings=timings,
        text=_text(fields, b"text"),
        reasoning=_text(fields, b"reasoning"),
        calls=outcome.CALLS.validate_json(fields.get(b"calls", b"[]")),
        output=outcome.OUTPUT.validate_json(fields.get(b"output", b"[]")),
        vectors=fields.get(b"vectors", b""),
        error=_error(fields.get(b"error")),
        warnings=(*job.submission.warnings, *warnings),
        progress=_progress(fields.get(b"progress")),
        hold=hold,
        finish_reason=FinishReason(reason) if reason is not None else None,
        card=_text(fields, b"card"),
        queued_ms=int(fields[b"queued_ms"]),
        run_ms=int(fields[b"run_ms"]),
        load_ms=timings.load_ms if timings is not None else 0.0,
        cancelled_because=_text(fields, b"cancelled_because"),
        retried_as=JobId(fields[b"retried_as"].decode()) if b"retried_as" in fields else None,
        letters=tuple(fields.get(b"letters", b"").decode().split()),
    )


def _glance(
    state: bytes | None, progress: bytes | None, started_at: bytes | None, cancel: bytes | None
) -> Glance | None:
    if state is None:
        return None
    started_at_ms = None if started_at is None else int(started_at)
    return Glance(JobState(state.decode()), _progress(progress), started_at_ms, cancel is not None)


def _number(fields: Mapping[bytes, bytes], name: bytes) -> int | None:
    return int(fields[name]) if name in fields else None


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    return fields[name].decode() if name in fields else None


def _error(raw: bytes | None) -> Failed | None:
    if raw is None:
        return None
    return outcome.FAILED.validate_json(raw)


def _progress(raw: bytes | None) -> Progress | None:
    if raw is None:
        return None
    done, total, unit = raw.decode().split(" ")
    return Progress(int(done), int(total) if total else None, unit)


def _class_of(queue: str) -> JobClass:
    return JobClass(queue.partition(".")[0])


def _rank(job_class: JobClass) -> int:
    return list(JobClass).index(job_class)
