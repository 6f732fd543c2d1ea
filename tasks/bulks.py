"""Bulks: batches that come as a file of requests and end as files of answers (``/v1/batches``).

A bulk goes ``validating → in_progress → finalizing → completed | expired``; from the first two also by
``cancelling`` (and ``finalizing``) to ``cancelled``, and from the first to ``failed`` or ``expired``. Its
jobs are those of the batch with the same id (``tasks.batches``). Each change of state is one script: the one
that accepts its jobs is the one that begins its progress (``submit.lua``).

Every bulk ends in ``close``, over ``close_bulk.lua``, once: that is the place to tell others that one has
ended, in the script, so that neither can come without the other.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import redis.asyncio
from pydantic import TypeAdapter

from config.settings import Settings
from tasks import keys, scripts
from tasks.connection import replies
from tasks.documents import Purpose

log = logging.getLogger("hearth.tasks.bulks")


class BulkState(StrEnum):
    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (BulkState.COMPLETED, BulkState.FAILED, BulkState.EXPIRED, BulkState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for. ``base_url``: how the client reached this server; ``output_keep_s``: how long what
    comes of it is kept.
    """

    endpoint: str
    window: str
    base_url: str
    output_keep_s: float
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class LineFault:
    """What is wrong with one line of a bulk's file, the first of which is 1; None: with the whole file."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the requests of a bulk, which are the lines of its file."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens that all answers of a bulk took."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a bulk came to."""

    counts: Counts = Counts()
    used: Used = Used()


Which = Literal["output", "error"]
"""The two files that a bulk may come to: the answers, and what got none."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that a bulk came to."""

    which: Which
    name: str
    size_bytes: int
    keep_s: float


@dataclass(frozen=True, slots=True)
class Bulk:
    """All that is known of a bulk. ``times_ms`` has every state that it has come to, by Redis' clock.

    ``sizes`` is how many jobs each of its lines became; empty until they were read. ``model`` is the one that
    all of them name. While it is finalized ``output_id`` and ``error_id`` are what its files will be called;
    later, those that there are.
    """

    id: str
    owner: str
    state: BulkState
    order: Order
    input_id: str
    created_at_ms: int
    expires_at_ms: int
    times_ms: Mapping[BulkState, int] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    model: str | None = None
    output_id: str | None = None
    error_id: str | None = None
    faults: tuple[LineFault, ...] = ()
    outcome: Outcome | None = None

    @property
    def was_cancelled(self) -> bool:
        return BulkState.CANCELLING in self.times_ms


class Opened(StrEnum):
    """What became of a bulk that was to begin. ``PURPOSE``: its file is for something else."""

    OPENED = "opened"
    NO_FILE = "no_file"
    PURPOSE = "purpose"
    TOO_MANY = "many"


class BulkPage(NamedTuple):
    bulks: tuple[Bulk, ...]
    has_more: bool


_ORDER: TypeAdapter[Order] = TypeAdapter(Order)
_FAULTS: TypeAdapter[tuple[LineFault, ...]] = TypeAdapter(tuple[LineFault, ...])
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)
_SIZES: TypeAdapter[tuple[int, ...]] = TypeAdapter(tuple[int, ...])


async def open_bulk(
    client: redis.asyncio.Redis, bulk_id: str, owner: str, input_id: str, order: Order, settings: Settings
) -> Opened:
    """Begin a bulk: from now on it is brought to its end, and its file stays until then."""
    window_ms = int(settings.queue.batch_deadline_s * 1000)
    asked, most = _ORDER.dump_json(order), settings.limits.batches_per_key
    args = (bulk_id, owner, input_id, Purpose.BATCH.value, asked, window_ms, most)
    reply = await scripts.run_async(client, "open_bulk", *args)
    return Opened(reply[0].decode())


async def fetch(client: redis.asyncio.Redis, bulk_id: str) -> Bulk | None:
    """One bulk; None when there is none of that id, or none any more."""
    return _bulk(bulk_id, await replies(client).hgetall(keys.bulk(bulk_id)))


async def page(client: redis.asyncio.Redis, owner: str, *, after: str | None = None, limit: int) -> BulkPage:
    """The owner's bulks, newest first, at most ``limit`` of them, behind ``after``.

    Raises:
        KeyError: ``after`` is not, or no longer, one of them.
    """
    raw = await replies(client).zrevrange(keys.bulks_of(owner), 0, -1)
    ids = [bulk_id.decode() for bulk_id in raw]
    if after is not None:
        if after not in ids:
            raise KeyError(after)
        ids = ids[ids.index(after) + 1 :]
    found: list[Bulk] = []
    for start in range(0, len(ids), limit + 1):
        found += await _read(client, ids[start : start + limit + 1])
        if len(found) > limit:
            break
    return BulkPage(tuple(found[:limit]), len(found) > limit)


async def unfinished(client: redis.asyncio.Redis) -> list[Bulk]:
    """All that have not ended, of every owner, oldest first."""
    raw = await replies(client).zrange(keys.BULKS, 0, -1)
    return await _read(client, [bulk_id.decode() for bulk_id in raw])


async def note_lines(
    client: redis.asyncio.Redis, bulk_id: str, sizes: Sequence[int], model: str | None
) -> None:
    """Note how many jobs each line becomes; to be done before they are submitted."""
    about = {"sizes": json.dumps(list(sizes), separators=(",", ":")), "model": model or ""}
    await replies(client).hset(keys.bulk(bulk_id), mapping=about)


async def stop(client: redis.asyncio.Redis, bulk_id: str) -> bool:
    """Let it end as soon as it can; its jobs are to be cancelled then. False: there is nothing to stop."""
    return bool(await scripts.run_async(client, "move_bulk", bulk_id, BulkState.CANCELLING.value, "", ""))


async def finalize(client: redis.asyncio.Redis, bulk_id: str, output_id: str, error_id: str) -> bool:
    """All its jobs have ended: say what its files are to be called. False when it is not to be finalized."""
    args = (bulk_id, BulkState.FINALIZING.value, output_id, error_id)
    return bool(await scripts.run_async(client, "move_bulk", *args))


async def close(
    client: redis.asyncio.Redis,
    bulk: Bulk,
    end: BulkState,
    settings: Settings,
    *,
    faults: Sequence[LineFault] = (),
    outcome: Outcome | None = None,
    files: Sequence[NewFile] = (),
) -> bool:
    """End ``bulk``, which is in the state that was read; True for the one call that did it.

    ``files`` are on the disk under the names that it was finalized with.
    """
    args: list[bytes | str | float] = [
        bulk.id,
        bulk.state.value,
        end.value,
        int(settings.queue.file_retention_s * 1000),
        _FAULTS.dump_json(tuple(faults)) if faults else "",
        "" if outcome is None else _OUTCOME.dump_json(outcome),
    ]
    for file in files:
        args += [file.which, file.name, file.size_bytes, int(file.keep_s * 1000)]
    return bool(await scripts.run_async(client, "close_bulk", *args))


async def states(client: redis.asyncio.Redis, bulk_id: str) -> str:
    """The state of each of its jobs, in their order, as one letter: ``q r s f c e``, ``-`` for a lost one."""
    reply: bytes = await scripts.run_async(client, "bulk_states", bulk_id)
    return reply.decode()


def tally(sizes: Sequence[int], letters: str) -> Counts:
    """How the requests stand whose jobs are in these states. Pure.

    A request is completed when all its jobs have succeeded, and failed when one has ended otherwise.
    """
    completed = failed = 0
    for part in parts(sizes, letters):
        if part.strip("s") == "" and part:
            completed += 1
        elif part.strip("qrs"):
            failed += 1
    return Counts(len(sizes), completed, failed)


def parts(sizes: Sequence[int], letters: str) -> Iterator[str]:
    """The letters of each request."""
    at = 0
    for size in sizes:
        yield letters[at : at + size]
        at += size


def last_alive(letters: str) -> int | None:
    """The rank of the last job that has not ended; None when all have."""
    rank = max(letters.rfind("q"), letters.rfind("r"))
    return None if rank < 0 else rank


def end_of(bulk: Bulk, letters: str) -> BulkState:
    """How a bulk ends whose jobs have all ended. Jobs of a bulk expire only when its window closes. Pure."""
    if bulk.was_cancelled:
        return BulkState.CANCELLED
    return BulkState.EXPIRED if "e" in letters else BulkState.COMPLETED


def is_over(bulk: Bulk) -> bool:
    """Whether its window has closed."""
    return time.time() * 1000 >= bulk.expires_at_ms


async def _read(client: redis.asyncio.Redis, ids: Sequence[str]) -> list[Bulk]:
    async with client.pipeline(transaction=False) as pipe:
        for bulk_id in ids:
            pipe.hgetall(keys.bulk(bulk_id))
        rows = await pipe.execute()
    read = (_bulk_or_none(bulk_id, fields) for bulk_id, fields in zip(ids, rows, strict=True))
    return [bulk for bulk in read if bulk is not None]


def _bulk_or_none(bulk_id: str, fields: dict[bytes, bytes]) -> Bulk | None:
    """One that another version of Hearth wrote must not hide the others."""
    try:
        return _bulk(bulk_id, fields)
    except (ValueError, KeyError) as error:
        log.warning("the batch %s cannot be read: %s", bulk_id, error)
        return None


def _bulk(bulk_id: str, fields: dict[bytes, bytes]) -> Bulk | None:
    if not fields:
        return None
    told: dict[str, Any] = {name.decode(): value for name, value in fields.items()}
    return Bulk(
        bulk_id,
        told["owner"].decode(),
        BulkState(told["state"].decode()),
        _ORDER.validate_json(told["asked"]),
        told["input"].decode(),
        int(told["created_at"]),
        int(told["expires_at"]),
        {state: int(told[f"{state}_at"]) for state in BulkState if f"{state}_at" in told},
        _SIZES.validate_json(told["sizes"]) if "sizes" in told else (),
        told.get("model", b"").decode() or None,
        told["output"].decode() if "output" in told else None,
        told["error"].decode() if "error" in told else None,
        _FAULTS.validate_json(told["errors"]) if "errors" in told else (),
        _OUTCOME.validate_json(told["outcome"]) if "outcome" in told else None,
    )
