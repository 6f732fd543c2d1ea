"""The task that brings a model to the card, or takes it off."""

from __future__ import annotations

from celery.exceptions import Reject

from tasks.app import app
from tasks.claim import claimed
from tasks.engines import engines
from tasks.errors import Internal, Shutdown
from tasks.jobs import JobId, ModelJob


@app.task(name="hearth.model")
def model(job_id: str) -> None:
    """Run one model job. Returns nothing: the journal is the result. See ``tasks.chat``."""
    try:
        with claimed(JobId(job_id)) as claim:
            if claim is None:
                return
            engine, job = engines().models, claim.job
            if engine is None or not isinstance(job, ModelJob):
                raise Internal("this worker has no engine for this kind of job")
            for event in engine.manage(job, signals=claim.signals):
                claim.append(event)
    except Shutdown:
        raise Reject("given back at shutdown", requeue=True) from None
