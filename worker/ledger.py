"""What a card's process remembers of its loads: how long each took, and when a model was replaced."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Self

import redis
from pydantic import ValidationError

from tasks import board, keys

log = logging.getLogger("hearth.residency")


@dataclass(slots=True)
class Ledger:
    """``load_ms``: what the last load of each model took. ``left_ms``: when each was last replaced.

    A model counts as replaced when what took its place is ready: counted from its own unloading, a slow
    successor would be overdue to go again when it has hardly come.
    """

    load_ms: dict[str, float] = field(default_factory=dict)
    left_ms: dict[str, float] = field(default_factory=dict)
    _here: set[str] = field(default_factory=set)

    @classmethod
    def going_on(cls, client: redis.Redis, card_id: str) -> Self:
        """What the card's owner before this one knew; nothing when Redis has no word of it."""
        try:
            told = board.decode(board.Residents, client.get(keys.residents(card_id)))
        except (redis.RedisError, ValidationError) as error:
            log.warning("nothing is known of earlier loads: %s", error)
            return cls()
        return cls() if told is None else cls(dict(told.load_ms), dict(told.left_ms))

    def brought(self, model: str, load_s: float, on_card: Collection[str], now_ms: float) -> None:
        """A load has ended; ``on_card`` is what is there now."""
        self.load_ms[model] = round(load_s * 1000, 1)
        self.left_ms.update(dict.fromkeys(self._here - set(on_card), now_ms))
        self._here = set(on_card)
