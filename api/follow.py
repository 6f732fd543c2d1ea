"""Journals being followed, begun before anybody listens, and the place in the queue meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from api.context import Context
from tasks import records
from tasks.events import Finished, Terminal
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

    def is_last(self, entry: Entry) -> bool:
        """Whether nothing is to come after ``entry``, which was the last one given."""
        return isinstance(entry.event, Terminal)

    async def aclose(self) -> None:
        self._first.cancel()
        await asyncio.gather(self._first, return_exceptions=True)
        close = getattr(self._entries, "aclose", None)
        if close is not None:
            await close()


@dataclass(frozen=True, slots=True)
class Part(Entry):
    """An entry of one of several journals that are told together; ``choice`` is which of them, from 0."""

    choice: int


class Chorus:
    """Several journals followed as one, as their entries come.

    It is over when all of them are, or with the first unhappy end: the others are abandoned then.
    """

    def __init__(self, followed: Sequence[Following], abandon: Callable[[], Awaitable[None]]) -> None:
        self._followed = followed
        self._abandon = abandon
        self._waiting = {
            asyncio.create_task(_next(aiter(each))): choice for choice, each in enumerate(followed)
        }
        self._come: deque[Part] = deque()

    def __aiter__(self) -> Chorus:
        return self

    async def __anext__(self) -> Part:
        while not self._come:
            if not self._waiting:
                raise StopAsyncIteration
            await self._gather()
        part = self._come.popleft()
        if isinstance(part.event, Terminal) and not isinstance(part.event, Finished):
            await self._abandon()
        return part

    def is_last(self, entry: Entry) -> bool:
        """Whether nothing is to come after ``entry``, which was the last one given."""
        if isinstance(entry.event, Terminal) and not isinstance(entry.event, Finished):
            return True
        return not self._waiting and not self._come

    async def aclose(self) -> None:
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        for each in self._followed:
            await each.aclose()

    async def _gather(self) -> None:
        """Take what has come, at least one entry or end."""
        done, _ = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            choice = self._waiting.pop(task)
            entry = task.result()
            if entry is None:
                continue
            self._come.append(Part(entry.id, entry.event, choice))
            if not isinstance(entry.event, Terminal):
                self._waiting[asyncio.create_task(_next(self._followed[choice]))] = choice


async def _next(entries: AsyncIterator[Entry]) -> Entry | None:
    return await anext(entries, None)


async def place_of(context: Context, job_id: str) -> int | None:
    """The job's place in the order of service: 1 is next; None unless queued.

    Who stands behind others is asked for in the forecast: a job of a model on the card may be served before
    an older one of another model.
    """
    return await _in_order(context, job_id, await records.position(context.redis, job_id))


async def place_lately(context: Context, job_id: str) -> int | None:
    """The same, up to a second old: for who tells it again and again, which hundreds may do at once."""
    return await _in_order(context, job_id, await context.board.place(job_id))


async def _in_order(context: Context, job_id: str, place: int | None) -> int | None:
    if place is None or place == 1:
        return place
    found = (await context.board.outlook(job_id)).jobs.get(job_id)
    return place if found is None else found.place
