"""The requests that are being worked on: what the web UI calls tasks, one of them the current one.

Every request for pictures is several jobs, one a picture. Progress, interrupting and skipping are about all
of them together, so they are noted per owner while they last; what they have come to is read from the jobs.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from api.context import Context
from tasks import keys, records
from tasks.connection import replies
from tasks.jobs import JobId, JobState
from tasks.records import Glance

_REMEMBERED = 16
"""Ended calls whose ids are known for a while, as many as the web UI remembers."""
_FORGOTTEN_S = 86_400


@dataclass(frozen=True, slots=True)
class Call:
    """One request: ``id`` is the client's own ``force_task_id`` where it sent one."""

    id: str
    kind: str
    created_at_ms: int
    jobs: tuple[JobId, ...]
    steps: int


_CALL: TypeAdapter[Call] = TypeAdapter(Call)


@dataclass(frozen=True, slots=True)
class Going:
    """A call that has not ended, and how its jobs stand, in order."""

    call: Call
    jobs: tuple[Glance | None, ...]

    @property
    def ended(self) -> int:
        return sum(job is None or job.state.is_terminal for job in self.jobs)

    @property
    def is_running(self) -> bool:
        """Whether a picture of it is being drawn, or has been: between two of them it is still its turn."""
        return any(job is not None and job.state is not JobState.QUEUED for job in self.jobs)

    @property
    def running(self) -> tuple[JobId, Glance] | None:
        """The picture that is being drawn now."""
        for job_id, job in zip(self.call.jobs, self.jobs, strict=True):
            if job is not None and job.state is JobState.RUNNING:
                return job_id, job
        return None

    @property
    def last_waiting(self) -> JobId | None:
        pairs = zip(reversed(self.call.jobs), reversed(self.jobs), strict=True)
        return next((id_ for id_, job in pairs if job is not None and job.state is JobState.QUEUED), None)

    @property
    def unended(self) -> tuple[JobId, ...]:
        pairs = zip(self.call.jobs, self.jobs, strict=True)
        return tuple(job_id for job_id, job in pairs if job is not None and not job.state.is_terminal)


def new_id(kind: str) -> str:
    """As the web UI makes them: ``task(txt2img-ABC1234)``."""
    return f"task({kind}-{secrets.token_hex(4).upper()[:7]})"


async def begin(
    shared: Context, owner: str, kind: str, task_id: str, jobs: Sequence[JobId], steps: int
) -> Call:
    """Note a call whose jobs have been accepted."""
    call = Call(task_id, kind, time.time_ns() // 1_000_000, tuple(jobs), steps)
    async with shared.redis.pipeline(transaction=False) as pipe:
        pipe.hset(keys.calls(owner), task_id, _CALL.dump_json(call))
        pipe.expire(keys.calls(owner), _FORGOTTEN_S)
        await pipe.execute()
    return call


async def going(shared: Context, owner: str) -> list[Going]:
    """The owner's calls that have not ended, oldest first; those that have are moved to the past ones."""
    kept = await replies(shared.redis).hvals(keys.calls(owner))
    noted = sorted((_CALL.validate_json(each) for each in kept), key=lambda call: call.created_at_ms)
    told = iter(await records.glances(shared.redis, [job_id for call in noted for job_id in call.jobs]))
    calls = [Going(call, tuple(next(told) for _ in call.jobs)) for call in noted]
    await _retire(shared, owner, (one.call for one in calls if one.ended == len(one.jobs)))
    return [one for one in calls if one.ended < len(one.jobs)]


def current(calls: Sequence[Going]) -> Going | None:
    """The call whose turn it is: the oldest that is being drawn, else the one that has waited longest."""
    return next((one for one in calls if one.is_running), calls[0] if calls else None)


async def is_past(shared: Context, owner: str, task_id: str) -> bool:
    return task_id.encode() in await replies(shared.redis).lrange(keys.past_calls(owner), 0, -1)


async def _retire(shared: Context, owner: str, calls: Iterable[Call]) -> None:
    for call in calls:
        # Of several that look at the same time one moves it.
        if await replies(shared.redis).hdel(keys.calls(owner), call.id):
            async with shared.redis.pipeline(transaction=False) as pipe:
                pipe.lpush(keys.past_calls(owner), call.id)
                pipe.ltrim(keys.past_calls(owner), 0, _REMEMBERED - 1)
                pipe.expire(keys.past_calls(owner), _FORGOTTEN_S)
                await pipe.execute()
