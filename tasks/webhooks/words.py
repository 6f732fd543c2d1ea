"""The words of webhooks: which events there are, and what a job says of its own end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

JOB_EVENTS = ("job.succeeded", "job.failed", "job.cancelled", "job.expired", "job_batch.ended")
"""The ends of native jobs; ``job_batch.ended`` when the last job of a list, a grid or a set has ended."""
RESPONSE_EVENTS = ("response.completed", "response.failed", "response.cancelled", "response.incomplete")
"""The ends of background responses, as OpenAI names them."""
BATCH_EVENTS = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
"""The ends of OpenAI's batches."""
EVENTS = (*BATCH_EVENTS, *RESPONSE_EVENTS, *JOB_EVENTS)
"""Every event an endpoint can ask for."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the end of a job is told as; a job without one ends in silence.

    ``url`` is an address that the request itself named, for those of the ``events``; endpoints that the owner
    has registered are told without it.
    """

    topic: Literal["job", "response"]
    url: str | None = None
    events: tuple[str, ...] = ()
