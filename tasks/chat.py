"""The task that answers a chat job."""

from __future__ import annotations

from celery.exceptions import Reject

from tasks.app import app
from tasks.claim import claimed
from tasks.engines import engines
from tasks.errors import Internal, Shutdown
from tasks.jobs import ChatJob, JobId


@app.task(name="hearth.chat")
def chat(job_id: str) -> None:
    """Run one chat job. Returns nothing: the journal is the result.

    ``claimed`` takes the job's lease and sees to exactly one terminal event on exit, so a reader of the
    journal never waits for a job that has died. A message for a job that has ended or is someone else's is
    swallowed.
    """
    try:
        with claimed(JobId(job_id)) as claim:
            if claim is None:
                return
            engine, job = engines().chat, claim.job
            if engine is None or not isinstance(job, ChatJob):
                raise Internal("this worker has no engine for this kind of job")
            for event in engine.stream(job, emitted=claim.emitted, signals=claim.signals):
                claim.append(event)
    except Shutdown:
        raise Reject("given back at shutdown", requeue=True) from None
