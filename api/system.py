"""The state of the house: the cards, whether it lives, whether it is ready. Touches no card."""

from __future__ import annotations

import logging
import time

from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from api import context
from api.board import CardFacts
from api.context import VERSION, Context
from api.jobs.schemas import (
    CardList,
    CardOut,
    Health,
    HeartbeatOut,
    HoldOut,
    Ready,
    ResidentOut,
    TelemetryOut,
)
from api.respond import as_json, errors, seconds
from tasks import keys, pauses
from tasks.board import Heartbeat, Hold, Telemetry
from tasks.errors import NotReady

log = logging.getLogger("hearth.api")
router = APIRouter(tags=["The house"])

_CHECKS = ("redis", "catalog", "worker", "monitor", "card", "queue")
_STARTED_S = time.monotonic()


@router.head("/health", include_in_schema=False)
@router.head("/v1/health", include_in_schema=False)
@router.get("/v1/health", response_model=Health, include_in_schema=False)
@router.get("/health", response_model=Health, operation_id="health")
async def health() -> Response:
    """This process lives. Asks nobody: `/ready` says whether jobs can be answered."""
    return as_json(Health(version=VERSION, uptime_s=round(time.monotonic() - _STARTED_S, 3)))


@router.head("/ready", include_in_schema=False)
@router.get(
    "/ready",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "Not now; `why` says why."}},
    operation_id="ready",
)
async def ready(request: Request) -> Response:
    """A job sent now would be worked on: Redis, models, a worker, the monitor, a card that is not held, and a
    queue that is not paused.
    """
    verdict = await readiness(context.of(request))
    headers = None if verdict.ready else {"Retry-After": "2"}
    return as_json(verdict, 200 if verdict.ready else 503, headers)


async def readiness(shared: Context) -> Ready:
    why: dict[str, str | None] = dict.fromkeys(_CHECKS)
    try:
        has_monitor = await shared.redis.exists(keys.MONITOR)
        cards = await shared.board.cards()
        why["catalog"] = await _catalog_fault(shared)
        why["worker"] = _worker_fault(cards)
        why["monitor"] = None if has_monitor else "the monitor has not done its rounds lately"
        why["card"] = _card_fault(cards)
        why["queue"] = await _queue_fault(shared)
    except (RedisError, OSError) as error:
        log.warning("not ready: Redis did not answer: %s", error)
        for name in why:
            why[name] = "Redis does not answer" if name == "redis" else "not known without Redis"
    faults = [f"{name}: {fault}" for name, fault in why.items() if fault is not None]
    return Ready(ready=not faults, checks={name: fault is None for name, fault in why.items()}, why=faults)


async def _catalog_fault(shared: Context) -> str | None:
    try:
        catalog = await shared.board.catalog()
    except NotReady as error:
        return error.message
    if all(model.problem for model in catalog.models):
        return "none of the models found can be used; GET /v1/models says why"
    return None


def _worker_fault(cards: tuple[CardFacts, ...]) -> str | None:
    alive = any(card.heartbeat is not None for card in cards)
    return None if alive else "no process that owns a card has been heard of lately"


def _card_fault(cards: tuple[CardFacts, ...]) -> str | None:
    served = [card for card in cards if card.heartbeat is not None]
    if any(card.hold is None for card in served):
        return None
    # A lost card has no process, but somebody who is getting it back.
    told = [
        f"{card.id} is held ({card.hold.reason}): {card.hold.message}"
        for card in served or cards
        if card.hold
    ]
    return "; ".join(told) or "no card is served"


async def _queue_fault(shared: Context) -> str | None:
    """Why nothing that could be asked would be served; None when some queue is."""
    stopped = await shared.board.pauses()
    if not stopped:
        return None
    try:
        catalog = await shared.board.catalog()
    except NotReady:
        return None
    asked = [f"{model.kind}.{model.id}" for model in catalog.models if not model.problem]
    told = [pause.message for queue in asked if (pause := pauses.over(queue, stopped)) is not None]
    return "; ".join(dict.fromkeys(told)) if len(told) == len(asked) and told else None


@router.get("/v1/device", response_model=CardList, responses=errors(503), operation_id="list_cards")
async def device(request: Request) -> Response:
    """The cards: what is loaded, how warm they are, whether they rest. Nothing here asks a card."""
    cards = await context.of(request).board.cards()
    return as_json(CardList(data=[card_out(card) for card in cards]))


def card_out(card: CardFacts) -> CardOut:
    told = card.residents
    models = () if told is None else told.models
    return CardOut(
        id=card.id,
        virtual=card.is_virtual,
        name=None if told is None else told.name,
        firmware=None if told is None else told.firmware,
        bus_id=None if told is None else told.bus_id,
        memory_total_bytes=None if told is None else told.memory_total_bytes,
        residents=[
            ResidentOut(
                model=model.model,
                size_bytes=model.size_bytes,
                context=model.context,
                used_at=seconds(model.used_at_ms),
            )
            for model in models
        ],
        telemetry=None if card.telemetry is None else _telemetry_out(card.telemetry),
        hold=None if card.hold is None else hold_out(card.hold),
        duty=0.0 if card.hold is not None else (1.0 if card.ease is None else card.ease.duty),
        heartbeat=None if card.heartbeat is None else _heartbeat_out(card.heartbeat),
    )


def hold_out(hold: Hold) -> HoldOut:
    return HoldOut(reason=hold.reason, message=hold.message, since=seconds(hold.since_ms))


def _telemetry_out(reading: Telemetry) -> TelemetryOut:
    return TelemetryOut(
        read_at=seconds(reading.read_at_ms),
        temperature_c=reading.temperature_c,
        memory_total_bytes=reading.memory_total_bytes,
        memory_free_bytes=reading.memory_free_bytes,
        npu_percent=reading.npu_percent,
        cpu_percent=reading.cpu_percent,
    )


def _heartbeat_out(beat: Heartbeat) -> HeartbeatOut:
    # Which job it is stays between its owner and us.
    return HeartbeatOut(
        at=seconds(beat.at_ms),
        busy=beat.job is not None,
        call_since=None if beat.call_since_ms is None else seconds(beat.call_since_ms),
        call_limit_s=beat.call_limit_s,
    )
