"""Reading journals: at once for the worker, as a stream of events for any number of followers in the API.

The one module with both faces, over the same keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import redis
import redis.asyncio
from redis.exceptions import RedisError

from config.settings import Settings
from config.settings import settings as read_settings
from tasks import events, keys, records, scripts
from tasks.connection import AWAY, replies
from tasks.events import Event, Preview
from tasks.jobs import JobId
from tasks.lanes import START, Follower, Lane, Lanes, places
from tasks.made import Made

log = logging.getLogger("hearth.tasks.journal")

_BLOCK_MS = 2000
"""How long one read waits; below the socket's timeout."""
_NEWEST = 8
"""Between two previews there are a step or two, and now and then a hold."""
_BATCH = 1000
"""Entries of one stream in one read."""
_GATHER_S = 0.002
"""While events come thick, a read waits this long for more to share its cost."""
_RETRY_S = 0.2
_STREAM_ID = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event and the id of its place in the journal, which is the SSE id."""

    id: str
    event: Event


def read(client: redis.Redis, job_id: JobId | str) -> list[Entry]:
    """All of a journal as it is now; empty when there is none."""
    return [_entry(item) for item in replies(client).xrange(keys.journal(job_id))]


async def last_preview(client: redis.asyncio.Redis, job_id: JobId | str) -> Preview | None:
    """The newest preview of a picture in the making, if there is one among the last events."""
    items = await replies(client).xrevrange(keys.journal(job_id), count=_NEWEST)
    found = (entry.event for entry in map(_entry, items) if isinstance(entry.event, Preview))
    return next(found, None)


async def read_async(client: redis.asyncio.Redis, job_id: JobId | str) -> list[Entry]:
    """Like ``read``, on the event loop."""
    return [_entry(item) for item in await replies(client).xrange(keys.journal(job_id))]


def token_ids(entries: Iterable[Entry]) -> tuple[int, ...]:
    """The token ids journalled so far, of all deltas in order: what another attempt goes on from."""
    return tuple(made(entries).token_ids)


def text(entries: Iterable[Entry]) -> str:
    """The text journalled so far."""
    return made(entries).text


def made(entries: Iterable[Entry]) -> Made:
    """All that the deltas journalled so far come to."""
    return Made.of(entry.event for entry in entries)


def _entry(item: Any) -> Entry:
    return Entry(item[0].decode(), events.decode(item[1][b"e"]))


_LOOK = None
"""Told to a follower: the record may know more than the journal does."""


class Journals:
    """All the journals that this process follows, over two connections (see ``tasks.lanes``).

    A loop reads every followed stream of its lane in one blocking command and hands the events out; who joins
    ends the running read by a word in the lane's stream ``wake``. After an outage it goes on where it was.
    """

    def __init__(self, client: redis.asyncio.Redis, settings: Settings | None = None) -> None:
        self._redis: Any = client
        queue = (settings or read_settings()).queue
        self._reader_ttl_s = queue.reader_ttl_s
        self._lanes = Lanes(Lane(keys.WAKE), Lane(keys.WAKE_QUIET))
        self._left: set[str] = set()
        self._tidy = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._read_for_ever(self._lanes.lively), name="journals-read"),
            asyncio.create_task(self._read_for_ever(self._lanes.quiet), name="journals-wait"),
            asyncio.create_task(self._keep_for_ever(), name="journals-keep"),
        ]

    async def stop(self) -> None:
        """End the loops. Followers that are still there wait for ever: close them first."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def following(self) -> int:
        """How many followers there are now."""
        return sum(len(group.followers) for group in self._lanes.groups.values())

    async def follow(
        self, job_id: JobId | str, after: str | None = None, *, renew: bool = False
    ) -> AsyncIterator[Entry]:
        """Yield the job's events behind ``after`` as they come; end behind the terminal one.

        With ``renew`` the job knows that it has a reader. Of a journal that has expired the terminal event is
        left, made from the record.

        Raises:
            KeyError: there is no such job.
            ValueError: ``after`` is not the id of an entry, or an entry is not of this version.
        """
        after = after or START
        if _STREAM_ID.fullmatch(after) is None:
            raise ValueError(f"{after!r} is not the id of a journal's entry")
        follower = Follower(str(job_id), after, renew)
        rest = await self._rest_of_ended(follower.job_id, after)
        if rest is not None:
            for entry in rest:
                yield entry
            return
        lane = self._add(follower)
        try:
            await self._wake(lane)
            async for entry in self._live(follower):
                yield entry
        finally:
            self._remove(follower)

    async def _live(self, follower: Follower) -> AsyncIterator[Entry]:
        last = follower.after
        while True:
            entry = await follower.inbox.get()
            if entry is _LOOK:
                rest = await self._rest_of_ended(follower.job_id, last)
                if rest is None:
                    continue
                for entry in rest:
                    yield entry
                return
            if isinstance(entry, ValueError):
                raise entry
            last = entry.id
            yield entry
            if events.is_terminal(entry.event):
                return

    async def _rest_of_ended(self, job_id: str, after: str) -> list[Entry] | None:
        """What an ended job's journal has behind ``after``; None while the job has not ended. Raises
        KeyError.
        """
        state = await self._redis.hget(keys.job(job_id), "state")
        if state is None:
            raise KeyError(job_id)
        if state in (b"queued", b"running"):
            return None
        raw = await self._redis.xrange(keys.journal(job_id), min=f"({after}")
        if raw or await self._redis.exists(keys.journal(job_id)):
            return [_entry(item) for item in raw]
        record = await records.fetch(self._redis, job_id)
        if record is None:
            raise KeyError(job_id)
        # An id that no entry has: whoever resumes behind it finds the journal gone as well.
        made_up = f"{record.ended_at_ms}-{2**32}"
        ending = record.ending()
        return [] if ending is None or after == made_up else [Entry(made_up, ending)]

    def _add(self, follower: Follower) -> Lane:
        lane = self._lanes.add(follower)
        self._left.discard(follower.job_id)
        if follower.renew:
            self._tidy.set()
        return lane

    def _remove(self, follower: Follower) -> None:
        group = self._lanes.remove(follower)
        if follower.renew and not any(other.renew for other in group.followers):
            self._left.add(follower.job_id)
            self._tidy.set()

    async def _wake(self, lane: Lane) -> None:
        # Without it the loop takes up what is new in its lane with its next read.
        with contextlib.suppress(*AWAY, RedisError):
            await scripts.run_async(self._redis, "wake", lane.wake)

    async def _read_for_ever(self, lane: Lane) -> None:
        while True:
            await lane.someone.wait()
            try:
                busy = await self._read_once(lane)
            except (*AWAY, RedisError) as error:
                log.warning("journals wait for Redis: %s", error)
                # A Redis that lost its data counts anew who was woken.
                lane.woken = START
                await asyncio.sleep(_RETRY_S)
            else:
                if busy:
                    await asyncio.sleep(_GATHER_S)

    async def _read_once(self, lane: Lane) -> bool:
        """One read and what came of it; True when several streams had news: more is about to come."""
        # Whoever joins while this read is under way may be further back than it began: the next one is his.
        groups = {job_id: tuple(group.followers) for job_id, group in lane.groups.items()}
        begin = {keys.journal(job_id): after for job_id, after in places(groups).items()}
        reply = await self._redis.xread({lane.wake: lane.woken, **begin}, count=_BATCH, block=_BLOCK_MS)
        prefix = len(keys.journal(""))
        told: list[str] = []
        for name, items in reply or ():
            stream = name.decode()
            if stream == lane.wake:
                lane.woken = items[-1][0].decode()
                continue
            told.append(stream[prefix:])
            group = groups[stream[prefix:]]
            try:
                entries = [_entry(item) for item in items]
            except ValueError as error:
                # Those who follow it hear of it; the others must not suffer.
                for follower in group:
                    follower.inbox.put_nowait(error)
                continue
            for follower in group:
                follower.take(entries)
        if self._lanes.heard(told):
            await self._wake(self._lanes.lively)
        if self._lanes.settle():
            await self._wake(self._lanes.quiet)
        return bool(told) and len(lane.groups) > 1

    async def _keep_for_ever(self) -> None:
        """Renew the readers' keys, drop those of who left, and have the records looked at now and then."""
        every_s = self._reader_ttl_s / 3
        look_at = time.monotonic() + every_s
        while True:
            # Not wait_for: in Python 3.11 it can lose a cancellation that comes with the timeout.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, look_at - time.monotonic())):
                    await self._tidy.wait()
            self._tidy.clear()
            try:
                await self._keep_readers()
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + every_s
                    self._look_at_records()
            except (*AWAY, RedisError) as error:
                log.warning("readers not renewed: %s", error)
                await asyncio.sleep(_RETRY_S)
                self._tidy.set()

    async def _keep_readers(self) -> None:
        left, self._left = self._left, set()
        read = [
            job_id
            for job_id, group in self._lanes.groups.items()
            if any(follower.renew for follower in group.followers)
        ]
        if not left and not read:
            return
        # What is dropped here and followed in another process is renewed there, within the grace.
        ttl_ms = int(self._reader_ttl_s * 1000)
        try:
            await scripts.run_async(self._redis, "readers", ttl_ms, len(left), *left, *read)
        except (*AWAY, RedisError):
            self._left |= left
            raise

    def _look_at_records(self) -> None:
        for group in self._lanes.groups.values():
            for follower in group.followers:
                follower.inbox.put_nowait(_LOOK)
