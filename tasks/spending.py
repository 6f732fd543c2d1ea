"""The tokens a key has spent lately: what its jobs of the last minute took, prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio

from tasks import keys
from tasks.connection import replies

WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What one job took, and how long ago it ended."""

    age_s: float
    tokens: int


async def spending(client: redis.asyncio.Redis, owner: str) -> list[Spent]:
    """The jobs of one key that ended within the last minute, newest first. ``finish.lua`` writes them,
    by the clock of Redis."""
    pipeline = client.pipeline(transaction=False)
    pipeline.lrange(keys.spent(owner), 0, -1)
    pipeline.time()
    entries, (second, microsecond) = await replies(pipeline).execute()
    now_s = second + microsecond / 1e6
    pairs = (entry.split() for entry in entries)
    spent = [Spent(max(0.0, now_s - int(ended_ms) / 1000), int(tokens)) for ended_ms, tokens in pairs]
    return [each for each in spent if each.age_s < WINDOW_S]


def total(spent: Sequence[Spent]) -> int:
    return sum(each.tokens for each in spent)


def below_in_s(spent: Sequence[Spent], limit: int) -> float:
    """When those that are still within the window will have taken less than ``limit``; 0 when they have."""
    left = total(spent)
    wait_s = 0.0
    for each in sorted(spent, key=lambda each: -each.age_s):
        if left < limit:
            break
        left -= each.tokens
        wait_s = WINDOW_S - each.age_s
    return wait_s
