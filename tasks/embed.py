"""The task that turns texts into vectors."""

from __future__ import annotations

from celery.exceptions import Reject

from tasks.app import app
from tasks.claim import claimed
from tasks.engines import engines
from tasks.errors import Internal, Shutdown
from tasks.jobs import EmbedJob, JobId


@app.task(name="hearth.embed")
def embed(job_id: str) -> None:
    """Run one embedding job. Returns nothing: the journal is the result. See ``tasks.chat``."""
    try:
        with claimed(JobId(job_id)) as claim:
            if claim is None:
                return
            engine, job = engines().embed, claim.job
            if engine is None or not isinstance(job, EmbedJob):
                raise Internal("this worker has no engine for this kind of job")
            for event in engine.embed(job, emitted=claim.embedded, signals=claim.signals):
                claim.append(event)
    except Shutdown:
        raise Reject("given back at shutdown", requeue=True) from None
