"""Embeddings that somebody waits for: the job, its end, and the vectors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request, Response

from api.asked import ask, keeps, warning_header
from api.context import Context
from api.embeddings import vectors
from api.errors import Refusal
from api.patience import refuse_the_hopeless
from tasks import records
from tasks.events import Finished, Started
from tasks.jobs import EmbedJob
from tasks.submit import Idempotency


@dataclass(frozen=True, slots=True)
class Made:
    """``vectors``: float32, little-endian, one for each input. Times are by this process's clock."""

    job: EmbedJob
    vectors: list[bytes]
    end: Finished
    headers: Mapping[str, str]
    total_ms: float
    queued_ms: float


async def made(
    request: Request, shared: Context, wanted: EmbedJob, idempotency: Idempotency | None = None
) -> Made | Response:
    """The vectors of ``wanted``, or what is answered instead. Raises JobError and Refusal."""
    keep, began_s, started_s = keeps(request), time.monotonic(), list[float]()

    def started(_: Started) -> None:
        started_s.append(time.monotonic())

    if not keep:
        await refuse_the_hopeless(request, shared, wanted)
    asked = await ask(request, shared, wanted, idempotency, keep=keep)
    told = await asked.told(request, shared, started)
    if isinstance(told, Response):
        return told
    found = vectors.of_journal(told.made)
    if len(found) != len(asked.job.inputs):
        found = await _kept(shared, asked.job)
    headers = dict(asked.headers)
    if told.end.warnings:
        headers["x-hearth-warnings"] = warning_header((*asked.job.submission.warnings, *told.end.warnings))
    now_s = time.monotonic()
    queued_s = (started_s[0] if started_s else began_s) - began_s
    return Made(asked.job, found, told.end, headers, (now_s - began_s) * 1000, queued_s * 1000)


async def _kept(shared: Context, job: EmbedJob) -> list[bytes]:
    """The vectors of a job whose journal is gone: an Idempotency-Key lives longer."""
    record = await records.fetch(shared.redis, job.submission.id)
    found = [] if record is None else vectors.of_record(record)
    if len(found) != len(job.inputs):
        raise Refusal(
            "job_not_found", "the vectors of this Idempotency-Key are no longer kept; use another key"
        )
    return found
