"""What is on its way to webhooks: taken for an attempt, settled after it, looked at by its job's owner.

Entries are made by the script that ends a job (``announce`` in ``tasks/lua/common.lua``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import redis.asyncio

from tasks import keys, scripts
from tasks.connection import replies

_KEPT_PAST_RECORDS_MS = 3_600_000
"""A settled delivery goes with its record; this is for what has none any more."""


class DeliveryState(StrEnum):
    """``waiting`` for the end it tells of → ``pending`` → ``delivered | failed``."""

    WAITING = "waiting"
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Letter:
    """One event for one address, lent for one attempt. ``body`` is the same at every attempt.

    It goes to the ``endpoint`` of this id, or to the ``url`` that the request named.
    """

    id: str
    attempt: int
    event: str
    kind: str
    body: str
    owner: str
    endpoint: str | None
    url: str | None
    age_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an attempt; ``PENDING`` tries again ``again_s`` later. ``is_gone``: never send there."""

    state: DeliveryState
    status: int | None = None
    error: str | None = None
    again_s: float = 0.0
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far an event has come on its way. ``next_at_ms`` is None when there will be no other attempt;
    ``event`` and ``kind`` are None until there is one."""

    event: str | None
    kind: str | None
    endpoint: str | None
    url: str | None
    state: DeliveryState
    attempts: int
    status: int | None
    error: str | None
    next_at_ms: int | None


async def due_in_s(client: redis.asyncio.Redis) -> float | None:
    """Until something is due; at most 0 when it is, None when nothing is on its way. Only reads."""
    async with client.pipeline(transaction=False) as pipe:
        pipe.zrange(keys.OUTBOX, 0, 0, withscores=True)
        pipe.time()
        first, (seconds, micros) = await pipe.execute()
    return first[0][1] / 1000 - (seconds + micros / 1e6) if first else None


async def until_posted(client: redis.asyncio.Redis, seen: str, patience_s: float) -> str:
    """Wait until somebody rings, at most ``patience_s``. Only reads. Returns the next call's ``seen``."""
    told = await replies(client).xread({keys.POSTED: seen}, block=max(1, int(patience_s * 1000)))
    if not told:
        return seen
    _, entries = told[0]
    return str(entries[-1][0].decode())


async def lend(client: redis.asyncio.Redis, most: int, lease_s: float) -> list[Letter]:
    """Take up to ``most`` deliveries that are due; nobody else gets them for ``lease_s``."""
    lent = await scripts.run_async(client, "lend", most, int(lease_s * 1000))
    return [_letter(*row) for row in lent]


def _letter(
    letter_id: bytes,
    attempt: int,
    event: bytes,
    kind: bytes,
    body: bytes,
    owner: bytes,
    endpoint: bytes,
    url: bytes,
    age_ms: int,
) -> Letter:
    return Letter(
        id=letter_id.decode(),
        attempt=int(attempt),
        event=event.decode(),
        kind=kind.decode(),
        body=body.decode(),
        owner=owner.decode(),
        endpoint=endpoint.decode() or None,
        url=url.decode() or None,
        age_s=int(age_ms) / 1000,
    )


async def settle(client: redis.asyncio.Redis, letter: Letter, verdict: Verdict, keep_s: float) -> bool:
    """Note what became of an attempt. False when it took longer than its lease and another has begun."""
    gone = letter.endpoint if verdict.is_gone and letter.endpoint else ""
    reply = await scripts.run_async(
        client,
        "settle",
        letter.id,
        letter.attempt,
        verdict.state.value,
        "" if verdict.status is None else verdict.status,
        verdict.error or "",
        int(verdict.again_s * 1000),
        int(keep_s * 1000) + _KEPT_PAST_RECORDS_MS,
        gone,
    )
    return bool(reply)


async def deliveries(client: redis.asyncio.Redis, ids: Sequence[str]) -> dict[str, Delivery]:
    """How far these have come, in one trip; those that are kept no more are left out."""
    if not ids:
        return {}
    async with client.pipeline(transaction=False) as pipe:
        for each in ids:
            pipe.hmget(
                keys.delivery(each),
                ["event", "type", "endpoint", "url", "state", "attempts", "status", "error", "next_at"],
            )
        rows = await pipe.execute()
    return {each: _delivery(*row) for each, row in zip(ids, rows, strict=True) if row[0] is not None}


def _delivery(
    event: bytes,
    kind: bytes,
    endpoint: bytes | None,
    url: bytes | None,
    state: bytes,
    attempts: bytes,
    status: bytes | None,
    error: bytes | None,
    next_at: bytes | None,
) -> Delivery:
    return Delivery(
        event=event.decode(),
        kind=kind.decode(),
        endpoint=endpoint.decode() if endpoint else None,
        url=url.decode() if url else None,
        state=DeliveryState(state.decode()),
        attempts=int(attempts),
        status=int(status) if status else None,
        error=error.decode() if error else None,
        next_at_ms=int(next_at) if next_at else None,
    )


async def letters_of_batch(client: redis.asyncio.Redis, batch_id: str) -> list[str]:
    found = await replies(client).lrange(keys.batch_letters(batch_id), 0, -1)
    return [each.decode() for each in found]
