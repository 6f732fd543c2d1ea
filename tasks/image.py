"""The task that draws a picture job."""

from __future__ import annotations

from celery.exceptions import Reject

from tasks.app import app
from tasks.claim import Claim, claimed
from tasks.engines import Sketch, engines
from tasks.errors import Internal, Shutdown
from tasks.finisher import finisher
from tasks.jobs import ImageJob, JobId


@app.task(name="hearth.image")
def image(job_id: str) -> None:
    """Run one picture job up to its pixels; the finisher brings it to its end beside the card's next one.

    Returns nothing: the journal is the result. See ``tasks.chat``.
    """
    try:
        with claimed(JobId(job_id)) as claim:
            if claim is None:
                return
            sketch = _draw(claim)
            if sketch is not None:
                finisher.take(claim, sketch)
    except Shutdown:
        raise Reject("given back at shutdown", requeue=True) from None


def _draw(claim: Claim) -> Sketch | None:
    engine, job = engines().image, claim.job
    if engine is None or not isinstance(job, ImageJob):
        raise Internal("this worker has no engine for this kind of job")
    drawing = engine.draw(job, signals=claim.signals)
    while True:
        try:
            claim.append(next(drawing))
        except StopIteration as end:
            sketch: Sketch | None = end.value
            return sketch
