"""Forgetting a job before its time, because its owner wants it gone."""

from __future__ import annotations

import redis.asyncio

from tasks import scripts
from tasks.jobs import JobId


async def forget(client: redis.asyncio.Redis, job_id: JobId | str) -> bool:
    """Remove an ended job: record, journal, its place in every list. False when it has not ended, or is gone.

    Files that nothing refers to any more are found by the next sweep.
    """
    was_removed, *_ = await scripts.run_async(client, "forget", str(job_id))
    return bool(was_removed)
