"""Waiting for a job's end while somebody is on the line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Receive

from api.context import Context
from api.follow import Following
from api.stream import until_gone
from tasks.events import Finished, Started, Terminal
from tasks.made import Made

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """What a journal said from its beginning to its end."""

    made: Made
    end: Terminal


class ClientGone(Exception):
    """The connection was closed before there was an answer."""


class Leaving(Exception):
    """The process is shutting down and cannot wait any longer."""


async def whole(entries: Following, on_start: Callable[[Started], None]) -> Told:
    """Read a journal to its end."""
    made = Made()
    async with aclosing(entries):
        async for entry in entries:
            made.add(entry.event)
            if isinstance(entry.event, Started):
                on_start(entry.event)
            elif isinstance(entry.event, Terminal):
                return Told(made, entry.event)
    raise RuntimeError("the journal ended without a terminal event. This is a bug.")


async def wholes(entries: Sequence[Following], on_start: Callable[[Started], None]) -> list[Told]:
    """Read several journals to their ends; when one ends unhappily, only what has ended until then."""
    reading = [asyncio.create_task(whole(each, on_start)) for each in entries]
    try:
        for done in asyncio.as_completed(reading):
            if not isinstance((await done).end, Finished):
                break
        return [each.result() for each in reading if each.done()]
    finally:
        for each in reading:
            each.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def on_the_line(context: Context, receive: Receive, work: asyncio.Task[T]) -> T:
    """The result of ``work``, as long as the client and this process stay. ``work`` is cancelled otherwise.

    Raises:
        ClientGone: the client closed the connection.
        Leaving: the process is shutting down.
    """
    gone = asyncio.create_task(until_gone(receive))
    leaving = context.closing.waiter()
    try:
        pending: set[asyncio.Future[Any]] = {work, gone, leaving}
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientGone if gone.done() else Leaving
    finally:
        for waiter in (work, gone, leaving):
            waiter.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
