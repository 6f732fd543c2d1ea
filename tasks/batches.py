"""Jobs that belong together: how they stand, cancelling them all, trying again what did not succeed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import redis.asyncio

from config.settings import Settings
from tasks import bulks, keys, records, scripts
from tasks.connection import replies
from tasks.jobs import Job, JobId, JobState, new_job_id
from tasks.records import JobRecord
from tasks.submit import AlreadyRetried, submit_many

_AT_ONCE = 250
"""Jobs cancelled, or looked at, in one trip, so that Redis is never kept busy for long."""
_TO_RETRY = (JobState.FAILED, JobState.EXPIRED)


@dataclass(frozen=True, slots=True)
class BatchOverview:
    """How the jobs of a batch stand. Times are wall-clock milliseconds by Redis' clock.

    ``counts`` has every state; a job that was retried is in ``retried`` instead: another has its place.
    ``ended_at_ms`` is None until all have ended. ``waiting`` is the first and the last of those that wait.
    """

    id: str
    owner: str
    counts: Mapping[JobState, int]
    retried: int
    created_at_ms: int
    started_at_ms: int | None
    ended_at_ms: int | None
    waiting: tuple[JobId, JobId] | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        return sum(count for state, count in self.counts.items() if state.is_terminal)


async def overview(client: redis.asyncio.Redis, batch_id: str) -> BatchOverview | None:
    """How a batch stands; None when there is no such batch, or none of its jobs is kept any more."""
    reply = await scripts.run_async(client, "batch", batch_id)
    if reply is None:
        return None
    owner, created, started, ended, first, last, *told = reply
    by_word = {word.decode(): int(count) for word, count in zip(told[::2], told[1::2], strict=True)}
    counts = {state: by_word.get(state.value, 0) for state in JobState}
    alive = counts[JobState.QUEUED] + counts[JobState.RUNNING]
    return BatchOverview(
        id=batch_id,
        owner=owner.decode(),
        counts=counts,
        retried=by_word.get("retried", 0),
        created_at_ms=int(created),
        started_at_ms=int(started) if started else None,
        ended_at_ms=int(ended) if ended and not alive else None,
        waiting=(JobId(first.decode()), JobId(last.decode())) if first else None,
    )


async def cancel(client: redis.asyncio.Redis, batch_id: str, settings: Settings) -> None:
    """Cancel what has not ended, as ``tasks.cancel`` does one job.

    The last ones first, so that none of them begins when the running one makes room. A batch of
    ``/v1/batches`` is cancelling from then on.
    """
    await bulks.stop(client, batch_id)
    ttl_ms = int(settings.queue.journal_ttl_s * 1000)
    count = await replies(client).zcard(keys.batch(batch_id))
    for first in reversed(range(0, count, _AT_ONCE)):
        last = first + _AT_ONCE - 1
        await scripts.run_async(client, "cancel_batch", batch_id, "requested", ttl_ms, first, last)


async def retry_failed(client: redis.asyncio.Redis, batch_id: str, settings: Settings) -> list[JobId]:
    """Queue a job in the place of each that failed or expired; those made now and before, in their order.

    Asking again gives the same jobs, as long as no other has failed meanwhile.

    Raises:
        Busy, NotReady: as ``submit_many``; nothing was queued then.
    """
    while True:
        found = await _read(client, batch_id)
        again = [_once_more(record) for record in found if _is_to_retry(record)]
        try:
            await submit_many(client, again, settings)
        except AlreadyRetried:
            continue  # by somebody who was faster: there is less left to do now
        standing = [record.id for record in found if _stands_in(record)]
        return standing + [job.submission.id for job in again]


def _is_to_retry(record: JobRecord) -> bool:
    return record.state in _TO_RETRY and record.retried_as is None


def _stands_in(record: JobRecord) -> bool:
    return (
        record.job.submission.retry_of is not None and record.retried_as is None and not _is_to_retry(record)
    )


async def _read(client: redis.asyncio.Redis, batch_id: str) -> list[JobRecord]:
    ids = await replies(client).zrange(keys.batch(batch_id), 0, -1)
    wanted, seen = [JobId(job_id.decode()) for job_id in ids], set[JobId]()
    found: list[JobRecord] = []
    while wanted:
        some = wanted[:_AT_ONCE]
        seen.update(some)
        told = await records.fetch_many(client, some)
        read = [record for record in told if isinstance(record, JobRecord)]
        found += read
        # One that has been retried since we asked for the ids leads to the job that has its place.
        known = seen.union(wanted)
        later = [record.retried_as for record in read if record.retried_as and record.retried_as not in known]
        wanted = wanted[_AT_ONCE:] + later
    return found


def _once_more(record: JobRecord) -> Job:
    """The same job with an id of its own, and as much time as the first one had."""
    about = record.job.submission
    now_ms = time.time_ns() // 1_000_000
    until_ms = None if about.deadline_at_ms is None else now_ms + about.deadline_at_ms - about.created_at_ms
    fresh = replace(
        about,
        id=new_job_id(),
        created_at_ms=now_ms,
        deadline_at_ms=until_ms,
        has_reader=False,
        retry_of=record.id,
    )
    return replace(record.job, submission=fresh)
