"""Why a job rests: its card is held, or an operator has paused its queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import redis.asyncio

from tasks import board, keys, pauses
from tasks.board import Hold
from tasks.connection import replies
from tasks.pauses import Pauses


@dataclass(frozen=True, slots=True)
class Resting:
    """What rests now: what is paused, and the hold of each card that has one; None for those that work."""

    pauses: Pauses = field(default_factory=dict)
    cards: Mapping[str, Hold | None] = field(default_factory=dict)

    def hold_of(self, fields: Mapping[bytes, bytes]) -> Hold | None:
        """Of a job, by the fields of its record.

        A running job rests with its card; a queued one when its queue is paused or no card works.
        """
        if fields[b"state"] not in (b"queued", b"running"):
            return None
        stopped = pauses.over(fields[b"queue"].decode(), self.pauses)
        if fields[b"state"] == b"running":
            own = self.cards.get(fields[b"card"].decode())
            return stopped.hold if own is None and stopped is not None and stopped.rests else own
        if stopped is not None:
            return stopped.hold
        held = [hold for hold in self.cards.values() if hold is not None]
        if held and len(held) == len(self.cards):
            return min(held, key=lambda hold: hold.since_ms)
        return None


async def read_resting(client: redis.asyncio.Redis) -> Resting:
    """All of it, in two trips."""
    async with client.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.PAUSES)
        pipe.smembers(keys.CARDS)
        paused, names = await pipe.execute()
    cards = [name.decode() for name in names]
    raw = await replies(client).mget([keys.hold(card) for card in cards]) if cards else []
    holds = {card: board.decode(Hold, each) for card, each in zip(cards, raw, strict=True)}
    return Resting(pauses.decode(paused), holds)
