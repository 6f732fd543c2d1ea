"""What may be changed about a card while it works: its thresholds. And what its last day was like."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from redis.exceptions import WatchError

from api import context
from api.context import Context
from api.device_schemas import History, HistoryPoint, ThresholdsOut, ThresholdsPatch, ThresholdValues
from api.errors import Refusal
from api.limits import read_json
from api.openai.request import refusal_of, validated
from api.respond import as_json, body_schema, errors, seconds
from config.groups import ThermalSettings
from tasks import board, keys, thresholds
from tasks.connection import replies

router = APIRouter(tags=["The house"])


@router.get(
    "/v1/device/thresholds",
    response_model=ThresholdsOut,
    responses=errors(503),
    operation_id="show_thresholds",
)
async def show(request: Request) -> Response:
    """When the card is eased, held and released, and which of these values were changed while it ran."""
    shared = context.of(request)
    stored = await shared.redis.get(keys.THRESHOLDS)
    return as_json(_told(shared, thresholds.effective(shared.settings.thermal, stored), stored))


@router.patch(
    "/v1/device/thresholds",
    response_model=ThresholdsOut,
    responses=errors(400, 415, 503),
    openapi_extra=body_schema(ThresholdsPatch),
    operation_id="change_thresholds",
)
async def change(request: Request) -> Response:
    """Change some of the thresholds; they are obeyed from the next reading on and outlast a restart.

    A value of null takes a change back. The whole is checked: `resume_c < ease_c < hold_c < unload_c`.
    """
    shared = context.of(request)
    _, value = await read_json(request)
    patch = validated(ThresholdsPatch, value).model_dump(exclude_unset=True)
    while True:
        async with replies(shared.redis).pipeline() as pipe:
            try:
                await pipe.watch(keys.THRESHOLDS)
                stored = await pipe.get(keys.THRESHOLDS)
                result, kept = _changed(shared, stored, patch)
                pipe.multi()
                if kept is None:
                    pipe.delete(keys.THRESHOLDS)
                else:
                    pipe.set(keys.THRESHOLDS, kept)
                await pipe.execute()
                return as_json(_told(shared, result, kept))
            except WatchError:
                continue  # somebody else changed them in between: look again


def _changed(
    shared: Context, stored: bytes | str | None, patch: dict[str, float | int | bool | None]
) -> tuple[ThermalSettings, bytes | None]:
    try:
        return thresholds.changed(shared.settings.thermal, stored, patch)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        if fault["loc"]:
            raise refusal_of(fault) from None
        message = str(fault["msg"]).removeprefix("Value error, ")
        raise Refusal("invalid_value", message, message.partition(" ")[0]) from None


def _told(shared: Context, now: ThermalSettings, stored: bytes | str | None) -> ThresholdsOut:
    return ThresholdsOut(
        **now.model_dump(exclude=set(thresholds.FIXED)),
        changed=sorted(thresholds.changes(stored)),
        configured=ThresholdValues(**shared.settings.thermal.model_dump(exclude=set(thresholds.FIXED))),
    )


@router.get(
    "/v1/device/history", response_model=History, responses=errors(400, 503), operation_id="card_history"
)
async def history(
    request: Request,
    card: Annotated[str | None, Query(description="Which card; default: the first.")] = None,
    hours: Annotated[float, Query(gt=0, le=24, description="How far back.")] = 24.0,
) -> Response:
    """One point a minute over the last day: how warm the card was, how busy, and how long it rested."""
    redis = context.of(request).redis
    known = sorted(name.decode() for name in await redis.smembers(keys.CARDS) if isinstance(name, bytes))
    chosen = card if card is not None else (known[0] if known else "")
    if card is not None and card not in known:
        raise Refusal("invalid_value", f"'card' should be one of {', '.join(known) or 'none yet'}", "card")
    raw = await redis.lrange(keys.history(chosen), 0, -1)
    points = [point for each in reversed(raw) if (point := board.decode(board.Minute, each)) is not None]
    since_ms = points[-1].at_ms - hours * 3600_000 if points else 0
    return as_json(History(card=chosen, data=[_point(point) for point in points if point.at_ms > since_ms]))


def _point(minute: board.Minute) -> HistoryPoint:
    return HistoryPoint(
        at=seconds(minute.at_ms),
        temperature_c=minute.mean_c,
        max_c=minute.max_c,
        npu_percent=minute.npu_percent,
        memory_free_bytes=minute.memory_free_bytes,
        duty=minute.duty,
        missing=minute.missing,
    )
