"""Asking for pictures and waiting for all of them, as long as somebody is on the line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, aclosing

from fastapi import Request

from api.asked import earlier, warning_header
from api.context import Context
from api.errors import Refusal
from api.follow import Following
from api.pictures import inputs
from api.pictures.inputs import InputPicture
from api.wait import ClientGone, Leaving, on_the_line
from tasks.cancel import cancel
from tasks.events import ArtifactRef, Terminal
from tasks.jobs import ImageJob, JobId
from tasks.submit import Idempotency, submit_many


async def ask(
    shared: Context,
    wanted: Sequence[ImageJob],
    pictures: Sequence[InputPicture] = (),
    idempotency: Idempotency | None = None,
) -> list[ImageJob]:
    """Keep the input pictures, queue the jobs, and return them; those of then when the request is a repeated
    one.

    Raises:
        Busy, IdempotencyConflict, NotReady: see ``submit_many``.
        DiskFull: an input picture could not be kept.
        Refusal: the jobs of a repeated request are no longer there, or were no pictures.
    """
    await inputs.keep(pictures, shared.files)
    accepted = await submit_many(shared.redis, wanted, shared.settings, idempotency)
    if not accepted[0].replayed:
        return list(wanted)
    return [await earlier(shared, each.job_id, ImageJob) for each in accepted]


async def all_ends(
    shared: Context, request: Request, jobs: Sequence[ImageJob], *, keep: bool
) -> list[Terminal]:
    """How each of the jobs ended, in their order.

    When the client leaves, or this process must, all that have not ended are cancelled, unless ``keep``.

    Raises:
        ClientGone: nobody is there any more to be answered.
        Leaving: the process is shutting down.
    """
    ids = [job.submission.id for job in jobs]
    try:
        return await on_the_line(
            shared, request.receive, asyncio.create_task(_ends(shared, ids, renew=not keep))
        )
    except (ClientGone, Leaving):
        if not keep:
            await cancel_all(shared, ids)
        raise


async def _ends(shared: Context, ids: Sequence[JobId], *, renew: bool) -> list[Terminal]:
    async with AsyncExitStack() as open_ones:
        # All are followed from the beginning: each job is to know that it has a reader.
        followed = [
            await open_ones.enter_async_context(aclosing(Following(shared, job_id, renew=renew)))
            for job_id in ids
        ]
        return [await _end(entries) for entries in followed]


async def _end(entries: Following) -> Terminal:
    async for entry in entries:
        if isinstance(entry.event, Terminal):
            return entry.event
    raise RuntimeError("the journal ended without a terminal event. This is a bug.")


async def cancel_all(shared: Context, ids: Sequence[JobId]) -> None:
    """Those that wait first, so that none of them begins when the running one makes room."""
    for job_id in reversed(ids):
        await cancel(shared.redis, job_id, reason="no_reader", settings=shared.settings)


async def read(shared: Context, picture: ArtifactRef) -> bytes:
    """A picture's file. Raises Refusal when it is no longer kept."""
    try:
        return await asyncio.to_thread(shared.files.path(picture).read_bytes)
    except FileNotFoundError:
        raise Refusal("picture_gone", "the picture is no longer kept: files have their time") from None


def headers(jobs: Sequence[ImageJob], warnings: Iterable[str] = ()) -> dict[str, str]:
    """What every answer says of its jobs: the first one, all of them, and what had no effect.

    ``warnings`` are what the engine had to add.
    """
    ids = [str(job.submission.id) for job in jobs]
    told = {"x-job-id": ids[0], "x-job-ids": ",".join(ids)}
    # Pictures of one set mostly have the same to tell.
    notes = dict.fromkeys([*jobs[0].submission.warnings, *warnings])
    if notes:
        told["x-hearth-warnings"] = warning_header(notes)
    return told
