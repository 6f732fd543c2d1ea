"""Cancelling: at once while a job waits, between two steps while it runs."""

from __future__ import annotations

from typing import Literal

import redis.asyncio

from config.settings import Settings
from config.settings import settings as read_settings
from tasks import scripts
from tasks.jobs import JobId, JobState


async def cancel(
    client: redis.asyncio.Redis,
    job_id: JobId | str,
    *,
    reason: Literal["requested", "no_reader"] = "requested",
    settings: Settings | None = None,
) -> JobState | None:
    """Cancel a job; returns the state it is in now, None when there is no such job.

    A queued job is cancelled when this returns, journal and record alike. A running one is still ``running``:
    its worker ends it at the next step. An ended one is left as it is.
    """
    ttl_s = (settings or read_settings()).queue.journal_ttl_s
    state = await scripts.run_async(client, "cancel", str(job_id), reason, int(ttl_s * 1000))
    return None if state is None else JobState(state.decode())
