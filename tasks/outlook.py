"""From what Redis holds to what steering looks at, and on to what every waiting job can expect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis.asyncio

from tasks import board, eta, keys, pauses
from tasks.board import Catalog, Ease, Hold, Model, Residents
from tasks.connection import replies
from tasks.eta import Forecast, Pace, Waiting
from tasks.jobs import QueueName
from tasks.steering import Facts, model_of

LOAD_BYTES_S = 60_000_000
"""How fast a model comes to the card until it was measured: 88 s for 5 GB, as owners report."""
_NEED_SHARE, _NEED_BYTES = 1.05, 64 << 20
"""What a package needs of the card where the catalog does not say."""
_REST_SHARE = 0.25
"""A job that has run for longer than the mean is expected to take this share of the mean more."""


def facts(
    queues: frozenset[QueueName],
    *,
    now_ms: float,
    oldest_ready_ms: Mapping[str, int],
    paused: Iterable[str],
    held: str | None,
    models: Sequence[Model],
    residents: Residents | None,
) -> Facts:
    """What steering looks at. Without ``residents`` every model counts as being on the card."""
    told = Facts(queues, frozenset(paused), held, oldest_ready_ms, now_ms)
    if residents is None:
        return told
    here = sorted(residents.models, key=lambda model: model.used_at_ms)
    return replace(
        told,
        residents=tuple(model.model for model in here),
        # A clock that was put back must not make a model wait until then.
        left_ms={name: min(at_ms, now_ms) for name, at_ms in residents.left_ms.items()},
        load_ms={**{model.id: load_guess_ms(model) for model in models}, **residents.load_ms},
        needs_bytes={
            **{model.id: need_guess_bytes(model) for model in models},
            **{model.model: model.size_bytes for model in here},
        },
        capacity_bytes=residents.memory_total_bytes,
        pinned=frozenset(residents.pinned),
    )


def load_guess_ms(model: Model) -> float:
    return model.size_bytes / LOAD_BYTES_S * 1000


def need_guess_bytes(model: Model) -> int:
    if model.needs_bytes is not None:
        return model.needs_bytes
    return int(model.size_bytes * _NEED_SHARE) + _NEED_BYTES


@dataclass(frozen=True, slots=True)
class _Running:
    queue: str
    claimed_ms: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What every waiting job can expect, by its id, as of ``made_ms`` by Redis' clock."""

    made_ms: float
    jobs: Mapping[str, Forecast]


async def is_busy(client: redis.asyncio.Redis) -> bool:
    """Whether anything waits or runs."""
    async with replies(client).pipeline(transaction=False) as pipe:
        pipe.zcard(keys.READY).zcard(keys.LEASES)
        return any(await pipe.execute())


async def outlook(client: redis.asyncio.Redis, *, one_more: tuple[QueueName, str] | None = None) -> Outlook:
    """The outlook now. Nothing is known of the jobs of a held card or of a paused queue.

    ``one_more``: queue and id of a job that is not accepted yet, as if it were.

    With several cards it tells what the first one that works would do alone.
    """
    async with replies(client).pipeline(transaction=False) as pipe:
        pipe.time().smembers(keys.QUEUES).smembers(keys.CARDS).zrange(keys.LEASES, 0, -1)
        pipe.get(keys.CATALOG).hkeys(keys.PAUSES).hgetall(keys.RATES)
        clock, names, cards, leases, catalog, paused, rates = await pipe.execute()
    queues = sorted({name.decode() for name in names} | ({one_more[0]} if one_more else set()))
    stopped = {key.decode() for key in paused}
    served = [name for name in queues if not pauses.is_paused(name, stopped)]
    async with replies(client).pipeline(transaction=False) as pipe:
        for card in sorted(cards):
            pipe.mget([fact(card.decode()) for fact in (keys.residents, keys.hold, keys.ease)])
        for job_id in leases:
            pipe.hmget(keys.job(job_id.decode()), "queue", "claimed_at")
        for name in served:
            pipe.zrange(keys.queue(name), 0, -1, withscores=True)
        told = iter(await pipe.execute())
    on_cards = [_card(next(told)) for _ in cards]
    running = [_running(next(told)) for _ in leases]
    waiting = {name: [Waiting(raw.decode(), ready) for raw, ready in next(told)] for name in served}
    now_ms = clock[0] * 1000 + clock[1] / 1000
    if one_more is not None and one_more[0] in waiting:
        waiting[one_more[0]].append(Waiting(one_more[1], clock[0] * 1000 + clock[1] / 1000))
    working = next((each for each in on_cards if each[1] is None), None)
    if working is None:
        return Outlook(now_ms, {})
    found = board.decode(Catalog, catalog)
    known = facts(
        frozenset(QueueName(name) for name in served),
        now_ms=now_ms,
        oldest_ready_ms={},
        paused=(),
        held=None,
        models=found.models if found else (),
        residents=working[0],
    )
    duty = 1.0 if working[2] is None else working[2].duty
    pace = Pace({name.decode(): float(mean) for name, mean in rates.items()}, duty)
    free_ms = _free_ms([each for each in running if each], known, pace)
    return Outlook(now_ms, eta.forecast(known, waiting, pace, free_ms))


async def tell(client: redis.asyncio.Redis, told: Mapping[str, Forecast], now_ms: float) -> None:
    """Remember what these jobs were told first, so that it can be held against what comes."""
    async with replies(client).pipeline(transaction=False) as pipe:
        for job_id, forecast in told.items():
            pipe.hsetnx(keys.job(job_id), "eta_told", f"{now_ms:.0f} {forecast.ends_ms:.0f}")
        await pipe.execute()


async def error(client: redis.asyncio.Redis) -> tuple[float | None, int]:
    """By which share of its whole time a job's end was off, the median of the last ones; and of how many."""
    found = sorted(float(each) for each in await replies(client).lrange(keys.ETA_ERRORS, 0, -1))
    return (found[len(found) // 2] if found else None), len(found)


def _card(raw: Sequence[Any]) -> tuple[Residents | None, Hold | None, Ease | None]:
    residents, hold, ease = raw
    return board.decode(Residents, residents), board.decode(Hold, hold), board.decode(Ease, ease)


def _running(raw: Sequence[Any]) -> _Running | None:
    queue, claimed = raw
    return None if queue is None or claimed is None else _Running(queue.decode(), float(claimed))


def _free_ms(running: Iterable[_Running], known: Facts, pace: Pace) -> float:
    """When the card will be done with what it runs now."""
    free_ms = known.now_ms
    for job in running:
        mean_ms = pace.of(job.queue)
        load_ms = known.load_ms.get(model_of(job.queue), 0.0)
        is_here = known.residents is None or model_of(job.queue) in known.residents
        ends_ms = job.claimed_ms + mean_ms + (0.0 if is_here else load_ms)
        free_ms = max(free_ms, ends_ms, known.now_ms + mean_ms * _REST_SHARE)
    return free_ms
