"""What the API knows of models and cards: only what other processes have published in Redis."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from redis.asyncio import Redis

from api.errors import Refusal
from tasks import board, keys, pauses, records
from tasks.board import Catalog, Ease, Heartbeat, Hold, Model, Residents, Telemetry
from tasks.errors import ModelUnusable, NotReady, UnknownModel
from tasks.outlook import Outlook, outlook
from tasks.pauses import Pauses

_FRESH_S = 0.5
"""An answer of Redis is good this long: each trip saved is half a millisecond off the first token."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """One card as its worker and the monitor tell of it; what is None was not told, or not lately."""

    id: str
    residents: Residents | None
    telemetry: Telemetry | None
    hold: Hold | None
    heartbeat: Heartbeat | None
    ease: Ease | None = None

    @property
    def is_virtual(self) -> bool:
        return self.residents is not None and self.residents.is_virtual


class Board:
    """Reads the facts, each at most twice a second."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._catalog = Catalog(scanned_at_ms=0)
        self._catalog_read_s = float("-inf")
        self._cards: tuple[CardFacts, ...] = ()
        self._cards_read_s = float("-inf")
        self._pauses: Pauses = {}
        self._pauses_read_s = float("-inf")
        self._outlook = Outlook(0.0, {})
        self._outlook_read_s = float("-inf")
        self._places: dict[str, int | None] = {}
        self._places_read_s = float("-inf")
        self._asked_for: set[str] = set()
        self._reading = asyncio.Lock()
        self._placing = asyncio.Lock()
        self._looking = asyncio.Lock()

    async def catalog(self) -> Catalog:
        """The published catalog. Raises NotReady while there is none, or nothing in it."""
        if time.monotonic() - self._catalog_read_s > _FRESH_S:
            catalog = board.decode(Catalog, await self._redis.get(keys.CATALOG))
            if catalog is None:
                raise NotReady("the server is starting: the models have not been looked through yet")
            if not catalog.models:
                raise NotReady("no models were found: put a model package into the models directory")
            self._catalog, self._catalog_read_s = catalog, time.monotonic()
        return self._catalog

    async def cards(self) -> tuple[CardFacts, ...]:
        """All cards that have ever had a worker."""
        if time.monotonic() - self._cards_read_s > _FRESH_S:
            async with self._reading:
                if time.monotonic() - self._cards_read_s > _FRESH_S:
                    self._cards = await self._read_cards()
                    self._cards_read_s = time.monotonic()
        return self._cards

    async def pauses(self) -> Pauses:
        """What an operator has paused, by scope."""
        if time.monotonic() - self._pauses_read_s > _FRESH_S:
            self._pauses = await pauses.read(self._redis)
            self._pauses_read_s = time.monotonic()
        return self._pauses

    async def outlook(self, job_id: str, ready_ms: float | None = None) -> Outlook:
        """What waiting jobs can expect, not older than a second; made anew for a job that is younger than it.

        ``ready_ms``: when the job became ready, if that is known.
        """
        async with self._looking:
            age_s = time.monotonic() - self._outlook_read_s
            is_missing = job_id not in self._outlook.jobs
            is_young = age_s > _FRESH_S / 2 if ready_ms is None else ready_ms >= self._outlook.made_ms
            if age_s > 2 * _FRESH_S or (is_missing and is_young):
                self._outlook = await outlook(self._redis)
                self._outlook_read_s = time.monotonic()
            return self._outlook

    async def place(self, job_id: str) -> int | None:
        """As ``records.position``, up to a second old: all who ask again and again are asked for at once."""
        self._asked_for.add(job_id)
        async with self._placing:
            is_old = time.monotonic() - self._places_read_s > 2 * _FRESH_S
            if is_old or job_id not in self._places:
                ids = list(self._asked_for) if is_old else [job_id]
                told = dict(zip(ids, await records.positions(self._redis, ids), strict=True))
                if is_old:
                    self._places, self._asked_for, self._places_read_s = {}, set(), time.monotonic()
                self._places.update(told)
            return self._places[job_id]

    def forget(self) -> None:
        """Pauses or the queue were just changed through us: the next answer is a fresh one."""
        self._pauses_read_s = self._outlook_read_s = self._places_read_s = float("-inf")

    async def _read_cards(self) -> tuple[CardFacts, ...]:
        names = await self._redis.smembers(keys.CARDS)
        ids = sorted(name.decode() for name in names if isinstance(name, bytes))
        facts = (keys.residents, keys.telemetry, keys.hold, keys.heartbeat, keys.ease)
        wanted = [fact(card) for card in ids for fact in facts]
        told = iter(await self._redis.mget(wanted) if wanted else [])
        return tuple(
            CardFacts(
                card,
                board.decode(Residents, next(told)),
                board.decode(Telemetry, next(told)),
                board.decode(Hold, next(told)),
                board.decode(Heartbeat, next(told)),
                board.decode(Ease, next(told)),
            )
            for card in ids
        )


def resolve(catalog: Catalog, name: str, kind: str) -> Model:
    """The model of that id or alias, if it can be asked for a job of this kind.

    Raises:
        UnknownModel: there is none; the message lists those there are.
        ModelUnusable: its package cannot be run; the message says why.
        Refusal: it answers another kind of job.
    """
    model = catalog.find(name)
    if model is None:
        known = (
            ", ".join(other.id for other in catalog.models if not other.problem) or "none that can be used"
        )
        shown = name if name.isprintable() and len(name) <= 100 else ascii(name[:100])
        raise UnknownModel(f"there is no model '{shown}' here; there is: {known}", param="model")
    if model.problem:
        raise ModelUnusable(f"the model '{model.id}' cannot be used: {model.problem}", param="model")
    if model.kind != kind:
        told = (
            f"the model '{model.id}' {_DOES.get(model.kind, 'is for other jobs')}; {_others(catalog, kind)}"
        )
        raise Refusal("unsupported_value", told, "model")
    return model


_DOES = {"chat": "answers chats", "image": "draws pictures", "embed": "makes embeddings"}
_TO_DO = {"chat": "to chat with", "image": "for pictures", "embed": "for embeddings"}


def _others(catalog: Catalog, kind: str) -> str:
    """Which models there are instead."""
    usable = [model.id for model in catalog.models if model.kind == kind and not model.problem]
    return f"{_TO_DO.get(kind, 'for this')} there is {', '.join(usable) or 'none here'}"


def default_model(catalog: Catalog, kind: str) -> Model:
    """The model for those who name none: the first usable one, demo models last. Raises UnknownModel."""
    usable = [model for model in catalog.models if model.kind == kind and not model.problem]
    if not usable:
        raise UnknownModel(f"there is no model for {kind} jobs here; GET /v1/models lists those there are")
    return min(usable, key=lambda model: model.is_demo)


def resolve_or_default(catalog: Catalog, name: str | None, kind: str) -> Model:
    """As ``resolve``, or ``default_model`` where no name is given."""
    return default_model(catalog, kind) if name is None else resolve(catalog, name, kind)
