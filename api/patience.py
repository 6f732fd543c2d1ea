"""Refusing at once what would come too late for the client that asks."""

from __future__ import annotations

import math

from fastapi import Request

from api.context import Context
from tasks import outlook
from tasks.errors import TooLate
from tasks.jobs import Job, queue_of
from tasks.submit import RETRY_AFTER_S

HEADER = "x-stainless-read-timeout"
"""How long OpenAI's SDKs wait for a byte, in seconds; they send it with every request."""
_LONGEST_S = 86400.0


async def refuse_the_hopeless(request: Request, shared: Context, job: Job) -> None:
    """For an answer that comes in one piece: is refused when it would come after the client has given up.

    A client that does not say how long it waits is believed to wait. So is everybody while nothing was
    measured, and while the card is held: a guess is no reason to send anyone away. Raises TooLate.
    """
    patience_s = _patience_s(request)
    if patience_s is None or not await outlook.is_busy(shared.redis):
        return
    told = await outlook.outlook(shared.redis, one_more=(queue_of(job), job.submission.id))
    forecast = told.jobs.get(job.submission.id)
    if forecast is None or not forecast.is_measured:
        return
    wait_s = (forecast.ends_ms - told.made_ms) / 1000
    if wait_s <= patience_s:
        return
    least, most = RETRY_AFTER_S
    raise TooLate(
        f"the answer would come in about {wait_s:.0f} s, and this client gives up after {patience_s:g} s; "
        "stream it, queue it as a job (POST /v1/jobs), or give the client a longer timeout",
        retry_after_s=min(max(math.ceil(wait_s - patience_s), least), most),
    )


def _patience_s(request: Request) -> float | None:
    """What the client says; None when it says nothing, or nothing that can be read."""
    try:
        patience_s = float(request.headers.get(HEADER, ""))
    except ValueError:
        return None
    return patience_s if 0 < patience_s < _LONGEST_S else None
