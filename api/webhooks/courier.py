"""Takes what is due out of the outbox and brings it to its receivers, again and again until one says yes.

Every API process has a courier; a delivery is lent to one of them at a time, so that it is sent once, and
comes back when its courier dies.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from redis.asyncio import Redis
from redis.exceptions import RedisError
from standardwebhooks import Webhook

from api.webhooks.targets import origin_of
from api.webhooks.wire import Answer, Unreached, Wire
from config.groups import WebhookSettings
from config.settings import Settings
from tasks.connection import AWAY
from tasks.webhooks import endpoints, outbox
from tasks.webhooks.outbox import DeliveryState, Letter, Verdict

log = logging.getLogger("hearth.api.webhooks")

_PATIENCE_S = 4.0
"""The longest wait for somebody to ring; shorter than a socket's timeout."""
_LEASE_MARGIN_S = 10.0
"""Beyond the time an attempt may take: to settle it with a Redis that is slow."""
_AWAY_S = 0.5
_LEAVING_S = 3.0
"""So long attempts may go on when the process leaves; then they are given back."""
_GROWTH = 3.0
_JITTER = 0.2
"""Waits are changed by up to this share, so that what failed together does not come again together."""


def signed(letter_id: str, body: str, secrets: list[str], now_s: float) -> dict[str, str]:
    """The headers of one attempt, by Standard Webhooks 1.0: each secret signs, and any of them will do."""
    at = datetime.fromtimestamp(int(now_s), UTC)
    signatures = [Webhook(secret).sign(letter_id, at, body) for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": letter_id,
        "webhook-timestamp": str(int(now_s)),
        "webhook-signature": " ".join(signatures),
    }


def verdict_on(
    letter: Letter, answer: Answer | Unreached, settings: WebhookSettings, chance: float
) -> Verdict:
    """What follows from an attempt. ``chance``, 0 to 1, is the jitter's. Pure."""
    if isinstance(answer, Unreached):
        return _again(letter, None, str(answer), None, settings, chance)
    if 200 <= answer.status < 300:
        return Verdict(DeliveryState.DELIVERED, answer.status)
    if answer.status == 410:
        return Verdict(DeliveryState.FAILED, 410, "the receiver wants no more (410 Gone)", is_gone=True)
    error = "a redirect is not followed" if 300 <= answer.status < 400 else f"answered {answer.status}"
    return _again(letter, answer.status, error, answer.retry_after_s, settings, chance)


def _again(
    letter: Letter,
    status: int | None,
    error: str,
    asked_s: float | None,
    settings: WebhookSettings,
    chance: float,
) -> Verdict:
    grown_s = settings.retry_first_s * _GROWTH ** min(letter.attempt - 1, 50)
    wait_s = min(grown_s, settings.retry_most_s) * (1 + _JITTER * (2 * chance - 1))
    if asked_s is not None:
        wait_s = max(wait_s, min(asked_s, settings.retry_most_s))
    if letter.age_s + wait_s > settings.give_up_s:
        return Verdict(DeliveryState.FAILED, status, f"given up: {error}")
    return Verdict(DeliveryState.PENDING, status, error, wait_s)


class Courier:
    """``async with``: delivers in the background. Never raises for a Redis or a receiver that is away."""

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        wire: Wire | None = None,
        now_s: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._redis = redis
        self._settings = settings.webhooks
        self._keep_s = max(settings.queue.retention_s, settings.queue.idempotency_ttl_s)
        self._lease_s = settings.webhooks.timeout_s + _LEASE_MARGIN_S
        self._wire = wire or Wire(settings)
        self._now_s = now_s
        self._chance = chance
        self._attempts: set[asyncio.Task[None]] = set()
        self._seen = "0-0"
        self._is_away = False

    async def __aenter__(self) -> Courier:
        self._round = asyncio.create_task(self._go())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._round.cancel()
        with suppress(asyncio.CancelledError):
            await self._round
        if self._attempts:
            waited = await asyncio.wait(self._attempts, timeout=_LEAVING_S)
            for attempt in waited[1]:
                attempt.cancel()
            await asyncio.gather(*waited[1], return_exceptions=True)
        await self._wire.aclose()

    async def _go(self) -> None:
        while True:
            try:
                await self._lend()
                self._is_away = False
                await self._wait()
            except (*AWAY, RedisError) as error:
                if not self._is_away:
                    log.warning("webhooks wait for Redis: %s", error)
                self._is_away = True
                await asyncio.sleep(_AWAY_S)

    async def _lend(self) -> None:
        """Begin as many attempts as there is room for. Only reads while nothing is due."""
        due_s = await outbox.due_in_s(self._redis)
        room = self._settings.at_once - len(self._attempts)
        if due_s is None or due_s > 0 or room <= 0:
            return
        for letter in await outbox.lend(self._redis, room, self._lease_s):
            attempt = asyncio.create_task(self._attempt(letter))
            self._attempts.add(attempt)
            attempt.add_done_callback(self._attempts.discard)

    async def _wait(self) -> None:
        """Until there is room again, something was posted, or something is due."""
        if len(self._attempts) >= self._settings.at_once:
            await asyncio.wait(self._attempts, return_when=asyncio.FIRST_COMPLETED)
            return
        due_s = await outbox.due_in_s(self._redis)
        patience_s = _PATIENCE_S if due_s is None else min(max(due_s, 0.001), _PATIENCE_S)
        self._seen = await outbox.until_posted(self._redis, self._seen, patience_s)

    async def _attempt(self, letter: Letter) -> None:
        try:
            verdict = await self._verdict(letter)
        except asyncio.CancelledError:
            verdict = Verdict(DeliveryState.PENDING, error="the server was restarted meanwhile")
        except (*AWAY, RedisError):
            return  # the lease gives it back
        except Exception:
            # A bug of ours must not end in an event that is neither tried again nor seen.
            log.exception("webhook %s: an internal error", letter.event)
            verdict = _again(letter, None, "an internal error", None, self._settings, self._chance())
        await self._settle(letter, verdict)

    async def _settle(self, letter: Letter, verdict: Verdict) -> None:
        """Note what became of an attempt; a Redis that is away is waited for, but not beyond the lease."""
        give_up_at = time.monotonic() + _LEASE_MARGIN_S
        while time.monotonic() < give_up_at:
            try:
                await outbox.settle(self._redis, letter, verdict, self._keep_s)
                return
            except (*AWAY, RedisError):
                await asyncio.sleep(_AWAY_S)
        log.warning("webhook %s: what became of it could not be noted: it is sent again", letter.event)

    async def _verdict(self, letter: Letter) -> Verdict:
        address, secrets = await self._where(letter)
        if address is None:
            return Verdict(DeliveryState.FAILED, error="the endpoint is no longer registered")
        answer = await self.send(letter.event, letter.body, address, secrets)
        verdict = verdict_on(letter, answer, self._settings, self._chance())
        _tell(letter, address, verdict)
        return verdict

    async def _where(self, letter: Letter) -> tuple[str | None, list[str]]:
        if letter.endpoint is None:
            return letter.url, [await endpoints.owner_secret(self._redis, letter.owner)]
        endpoint = await endpoints.find(self._redis, letter.owner, letter.endpoint)
        if endpoint is None or await endpoints.gone(self._redis, [endpoint.id]):
            return None, []
        return endpoint.url, endpoint.secrets_at(self._now_s() * 1000)

    async def send(self, event: str, body: str, address: str, secrets: list[str]) -> Answer | Unreached:
        """One attempt, signed now."""
        try:
            return await self._wire.post(address, body.encode(), signed(event, body, secrets, self._now_s()))
        except Unreached as unreached:
            return unreached


def _tell(letter: Letter, address: str, verdict: Verdict) -> None:
    told = (letter.event, letter.kind, origin_of(address), letter.attempt)
    if verdict.state is DeliveryState.DELIVERED:
        log.info("webhook %s (%s) to %s: delivered at attempt %d", *told)
    elif verdict.state is DeliveryState.PENDING:
        log.info(
            "webhook %s (%s) to %s: attempt %d: %s; again in %.0f s", *told, verdict.error, verdict.again_s
        )
    else:
        log.warning("webhook %s (%s) to %s: failed at attempt %d: %s", *told, verdict.error)
