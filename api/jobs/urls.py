"""Where things are, as paths of this server."""

from __future__ import annotations

from tasks.jobs import JobId


def job(job_id: JobId | str) -> str:
    return f"/v1/jobs/{job_id}"


def picture(job_id: JobId | str, number: int = 0) -> str:
    """The file of one picture that the job made."""
    return f"{job(job_id)}/images/{number}"


def preview(job_id: JobId | str, step: int | None = None) -> str:
    """What the picture looked like after ``step``; None is the latest."""
    return f"{job(job_id)}/preview" + ("" if step is None else f"?step={step}")


def embeddings(job_id: JobId | str) -> str:
    """The vectors that the job made."""
    return f"{job(job_id)}/embeddings"


def batch(batch_id: str) -> str:
    return f"/v1/jobs/batches/{batch_id}"
