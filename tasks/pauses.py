"""What an operator has paused: queues by class, by model, one of them, or all. Pure but for its end.

A pause is kept under its scope, ``class.model`` with ``*`` for any: ``*.*``, ``chat.*``, ``*.qwen3-4b``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from tasks import board, keys
from tasks.board import Hold
from tasks.connection import replies
from tasks.jobs import JobClass

ANY = "*"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which queues are meant; None is any."""

    job_class: JobClass | None = None
    model: str | None = None

    @property
    def key(self) -> str:
        return f"{self.job_class or ANY}.{self.model or ANY}"

    def within(self, key: str) -> bool:
        """Whether the scope kept as ``key`` lies in this one."""
        job_class, _, model = key.partition(".")
        return self.job_class in (None, job_class) and self.model in (None, model)

    def __str__(self) -> str:
        what = "all queues" if self.job_class is None else f"all {self.job_class} queues"
        if self.model is None:
            return what
        return f"{what} of {self.model}" if self.job_class is None else f"the queue {self.key}"


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause. ``rests``: a running job rests, too, instead of being finished."""

    message: str
    since_ms: int
    rests: bool = False

    @property
    def hold(self) -> Hold:
        return Hold("operator", self.message, self.since_ms)


Pauses = Mapping[str, Pause]
"""Scope key → pause."""


def scopes_over(queue: str) -> tuple[str, ...]:
    """The keys of all scopes that a queue lies in, the widest first."""
    job_class, _, model = queue.partition(".")
    return f"{ANY}.{ANY}", f"{job_class}.{ANY}", f"{ANY}.{model}", queue


def is_paused(queue: str, scopes: Iterable[str]) -> bool:
    paused = scopes if isinstance(scopes, set | frozenset | Mapping) else set(scopes)
    return any(key in paused for key in scopes_over(queue))


def over(queue: str, pauses: Pauses) -> Pause | None:
    """The widest pause that the queue is under; None when it is served."""
    return next((pauses[key] for key in scopes_over(queue) if key in pauses), None)


def decode(raw: Mapping[Any, Any]) -> dict[str, Pause]:
    """The pauses as Redis keeps them."""
    found = {key.decode(): board.decode(Pause, value) for key, value in raw.items()}
    return {key: pause for key, pause in sorted(found.items()) if pause is not None}


async def read(client: redis.asyncio.Redis) -> dict[str, Pause]:
    return decode(await replies(client).hgetall(keys.PAUSES))


async def pause(client: redis.asyncio.Redis, scope: Scope, *, message: str = "", rests: bool = False) -> None:
    """Pause these queues. One that is paused already keeps its beginning."""
    before = (await read(client)).get(scope.key)
    since_ms = before.since_ms if before is not None else time.time_ns() // 1_000_000
    said = message or f"an operator has paused {scope}"
    await replies(client).hset(keys.PAUSES, scope.key, board.encode(Pause(said, since_ms, rests)))


async def resume(client: redis.asyncio.Redis, scope: Scope) -> None:
    """Take back every pause that lies in this scope. A wider one stays."""
    ended = [key for key in await read(client) if scope.within(key)]
    if ended:
        await replies(client).hdel(keys.PAUSES, *ended)
