"""A record or a batch, if it is the asker's own: somebody else's does not exist for him."""

from __future__ import annotations

import re

from fastapi import Request

from api import auth
from api.context import Context
from api.errors import Refusal
from tasks import batches, records
from tasks.batches import BatchOverview
from tasks.records import JobRecord

_JOB_ID = re.compile(r"job_[0-9a-f]{40}")
_BATCH_ID = re.compile(r"batch_[0-9a-f]{40}")


async def job(request: Request, shared: Context, job_id: str) -> JobRecord:
    """Raises Refusal when there is no such job for this key, or another version wrote it."""
    try:
        record = await records.fetch(shared.redis, job_id) if _JOB_ID.fullmatch(job_id) else None
    except ValueError:
        raise Refusal(
            "job_unreadable", f"another version of Hearth wrote the job {job_id}, and this one cannot read it"
        ) from None
    if record is None or record.job.submission.owner != auth.owner(request):
        raise Refusal("job_not_found", f"there is no job {job_id[:60]!a} here")
    return record


async def batch(request: Request, shared: Context, batch_id: str) -> BatchOverview:
    """Raises Refusal when there is no such batch for this key."""
    found = await batches.overview(shared.redis, batch_id) if _BATCH_ID.fullmatch(batch_id) else None
    if found is None or found.owner != auth.owner(request):
        raise Refusal("batch_not_found", f"there is no batch {batch_id[:60]!a} here")
    return found
