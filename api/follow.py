"""A journal being followed, begun before anybody listens, and the place in the queue meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from api.context import Context
from tasks import records
from tasks.journal import Entry


class Following:
    """The entries of one journal, as an iterator that is to be closed (``contextlib.aclosing``).

    Following begins at once, so that it costs the first token nothing.
    """

    def __init__(self, context: Context, job_id: str, after: str | None = None, *, renew: bool) -> None:
        self._entries = context.journals.follow(job_id, after, renew=renew)
        self._first = asyncio.create_task(_next(self._entries))
        self._is_first_taken = False

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> Entry:
        if self._is_first_taken:
            return await anext(self._entries)
        entry = await self._first
        self._is_first_taken = True
        if entry is None:
            raise StopAsyncIteration
        return entry

    async def any(self) -> bool:
        """Whether there is an entry; waits for the first one, or the end. Iterate afterwards."""
        return await self._first is not None

    async def aclose(self) -> None:
        self._first.cancel()
        await asyncio.gather(self._first, return_exceptions=True)
        close = getattr(self._entries, "aclose", None)
        if close is not None:
            await close()


async def _next(entries: AsyncIterator[Entry]) -> Entry | None:
    return await anext(entries, None)


async def place_of(context: Context, job_id: str) -> int | None:
    """The job's place in the order of service: 1 is next; None unless queued.

    Who stands behind others is asked for in the forecast: a job of a model on the card may be served before
    an older one of another model.
    """
    place = await records.position(context.redis, job_id)
    if place is None or place == 1:
        return place
    found = (await context.board.outlook(job_id)).jobs.get(job_id)
    return place if found is None else found.place
