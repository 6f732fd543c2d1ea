"""Brings every batch of ``/v1/batches`` to its end, whether anybody asks for it or not.

Each API process has a clerk that looks at all unfinished batches, of whatever process. A step is taken under
a lock of the batch; should two clerks work on one all the same (a process that stood still), nothing comes of
it but work done twice: what changes a state is a script that only the first of them gets through, and what
they write is the same. A clerk remembers nothing that another could not find out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio.lock import Lock
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import LockError, OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from api.bulk import reading, writing
from api.context import Context
from tasks import batches, bulks, keys
from tasks.bulks import Bulk, BulkState, LineFault, Outcome
from tasks.connection import AWAY, replies
from tasks.documents import new_document_id
from tasks.errors import Busy, NotReady
from tasks.jobs import JobClass
from tasks.submit import BatchClosed, submit_many

log = logging.getLogger("hearth.api.bulk")

LOOK_S = 1.0
"""How often the unfinished batches are looked at."""
LOCK_S = 15.0
"""A clerk that has not renewed its lock for so long has died; another goes on."""
AGAIN_S = 10.0
"""What did not work (no room on the disk, none in the queue) is tried again after so long."""


class Clerk:
    """``async with``: works in the background until it is left."""

    def __init__(self, shared: Context) -> None:
        self._shared = shared
        self._called = asyncio.Event()
        self._not_before_s: dict[str, float] = {}
        self._watched: dict[str, int] = {}
        self._stopped: set[str] = set()

    async def __aenter__(self) -> Clerk:
        self._working = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._working.cancel()
        await asyncio.gather(self._working, return_exceptions=True)

    def call(self) -> None:
        """There is something new to do."""
        self._called.set()

    async def _work(self) -> None:
        while True:
            self._called.clear()
            try:
                for bulk in await bulks.unfinished(self._shared.redis):
                    await self._try(bulk)
            except (*AWAY, RedisError) as error:
                log.warning("batches are not looked at: %s", error)
            except Exception:
                log.exception("batches are not looked at")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._called.wait()

    async def _try(self, bulk: Bulk) -> None:
        """One batch must not keep the others from their ends."""
        if time.monotonic() < self._not_before_s.get(bulk.id, 0.0):
            return
        try:
            async with _alone(self._shared, bulk.id) as is_mine:
                fresh = await bulks.fetch(self._shared.redis, bulk.id) if is_mine else None
                if fresh is not None and not fresh.state.is_terminal:
                    await self._step(fresh)
        except (RedisConnectionError, RedisTimeoutError):
            raise
        except (OSError, NotReady, RedisError) as error:
            log.warning("%s has to wait: %s", bulk.id, error)
            self._wait(bulk)
        except Exception:
            log.exception("%s cannot be brought on", bulk.id)
            self._wait(bulk)

    def _wait(self, bulk: Bulk) -> None:
        self._not_before_s[bulk.id] = time.monotonic() + AGAIN_S

    async def _step(self, bulk: Bulk) -> None:
        """As far as it goes now."""
        match bulk.state:
            case BulkState.VALIDATING:
                await self._begin(bulk)
            case BulkState.IN_PROGRESS | BulkState.CANCELLING:
                if await self._has_ended(bulk):
                    await bulks.finalize(self._shared.redis, bulk.id, new_document_id(), new_document_id())
                    await self._again(bulk)
            case BulkState.FINALIZING:
                await self._finish(bulk)

    async def _again(self, bulk: Bulk) -> None:
        fresh = await bulks.fetch(self._shared.redis, bulk.id)
        if fresh is not None and fresh.state is not bulk.state and not fresh.state.is_terminal:
            await self._step(fresh)

    async def _begin(self, bulk: Bulk) -> None:
        """Check its lines, and queue their jobs as soon as there is room for all of them."""
        shared = self._shared
        if bulks.is_over(bulk):
            await self._close(bulk, BulkState.EXPIRED)
            return
        if bulk.sizes and not await self._has_room(sum(bulk.sizes)):
            self._wait(bulk)
            return
        found = await reading.read(shared, bulk)
        faults = found.faults or self._never_fits(len(found.jobs))
        if faults:
            await self._close(bulk, BulkState.FAILED, faults=faults)
            return
        await bulks.note_lines(shared.redis, bulk.id, found.sizes, found.model)
        try:
            await submit_many(shared.redis, found.jobs, shared.settings)
        except Busy as busy:
            log.info("%s waits for room in the queue: %s", bulk.id, busy)
            self._wait(bulk)
        except BatchClosed:
            log.info("%s was cancelled while it was checked", bulk.id)
        shared.board.forget()

    def _never_fits(self, count: int) -> list[LineFault]:
        queue = self._shared.settings.queue
        most = min(queue.batch_cap, queue.key_cap or queue.batch_cap)
        if count <= most:
            return []
        what = f"the lines ask for {count} jobs, and the queue holds {most}; make several batches of them"
        return [LineFault("too_many_requests", what)]

    async def _has_room(self, count: int) -> bool:
        taken = await replies(self._shared.redis).hget(keys.COUNTS, JobClass.BATCH.value)
        return int(taken or 0) + count <= self._shared.settings.queue.batch_cap

    async def _has_ended(self, bulk: Bulk) -> bool:
        """Whether all its jobs have. Until the one that was last in line has, the others need no look."""
        shared = self._shared
        rank = self._watched.get(bulk.id)
        if bulk.state is BulkState.CANCELLING and bulk.id not in self._stopped:
            # Whoever cancelled it may have died before its jobs were told.
            await batches.cancel(shared.redis, bulk.id, shared.settings)
            self._stopped.add(bulk.id)
        if rank is not None and await self._is_alive(bulk, rank):
            return False
        last = bulks.last_alive(await bulks.states(shared.redis, bulk.id))
        if last is None:
            self._watched.pop(bulk.id, None)
            return True
        self._watched[bulk.id] = last
        return False

    async def _is_alive(self, bulk: Bulk, rank: int) -> bool:
        client = replies(self._shared.redis)
        ids = await client.zrange(keys.batch(bulk.id), rank, rank)
        return bool(ids) and await client.hget(keys.job(ids[0].decode()), "state") in (b"queued", b"running")

    async def _finish(self, bulk: Bulk) -> None:
        """Write its files and end it."""
        if not bulk.sizes:  # cancelled before it had any jobs
            await self._close(bulk, BulkState.CANCELLED)
            return
        letters = await bulks.states(self._shared.redis, bulk.id)
        try:
            files, outcome = await writing.write(self._shared, bulk)
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            log.error("%s cannot be told of: its file is gone or damaged: %s", bulk.id, error)
            gone = LineFault("file_not_found", "the input file is no longer there, or damaged")
            await self._close(bulk, BulkState.FAILED, faults=[gone])
            return
        await self._close(bulk, bulks.end_of(bulk, letters), outcome=outcome, files=files)

    async def _close(
        self,
        bulk: Bulk,
        end: BulkState,
        *,
        faults: list[LineFault] | None = None,
        outcome: Outcome | None = None,
        files: list[bulks.NewFile] | None = None,
    ) -> None:
        shared = self._shared
        is_ours = await bulks.close(
            shared.redis,
            bulk,
            end,
            shared.settings,
            faults=faults or (),
            outcome=outcome,
            files=files or (),
        )
        self._not_before_s.pop(bulk.id, None)
        self._watched.pop(bulk.id, None)
        self._stopped.discard(bulk.id)
        if is_ours:
            log.info("%s %s", bulk.id, end)


@asynccontextmanager
async def _alone(shared: Context, bulk_id: str) -> AsyncIterator[bool]:
    """Whether this process is the only one at work on a batch; it says so again and again while inside."""
    lock = Lock(shared.redis, keys.clerk(bulk_id), timeout=LOCK_S, blocking=False, thread_local=False)
    try:
        is_mine = await lock.acquire()
    except OutOfMemoryError:
        # What takes no memory may go on: a batch that ends makes room.
        yield True
        return
    if not is_mine:
        yield False
        return
    renewing = asyncio.create_task(_renew(lock))
    try:
        yield True
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with suppress(LockError, *AWAY):
            await lock.release()


async def _renew(lock: Lock) -> None:
    while True:
        await asyncio.sleep(LOCK_S / 3)
        with suppress(LockError, *AWAY):
            await lock.reacquire()
