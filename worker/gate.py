"""The gate: a consumer bootstep that brings worker-npu to the queues it should consume now.

Level-triggered: every look reads the facts anew and sets what follows from them, so nothing that was missed
while the worker was away has to be replayed. It acts directly inside the loop: ``call_soon`` keeps its
callbacks in a set, and two changes made in one tick could be applied in either order (kombu 5.7.0, hub.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import redis
from celery import bootsteps
from pydantic import ValidationError

from config.settings import Settings
from tasks import board, keys, outlook, steering, thresholds
from tasks.jobs import QueueName
from worker.link import Link, Stage

log = logging.getLogger("hearth.gate")

LOOK_S = 0.5
"""How often the facts are read from Redis."""
_EXPECTED = frozenset({"starting", "draining"})
"""Holds that are no news."""
GLANCE_S = 0.1
"""How often the shared page is looked at: the child became ready, died, or we are to drain."""


class Consumer(Protocol):
    """The part of Celery's consumer the gate uses; also what its tests stand in for."""

    app: Any
    timer: Any
    task_consumer: Any

    def add_task_queue(self, queue: str) -> None: ...

    def cancel_task_queue(self, queue: str) -> None: ...


_HOLD_WHEN_BLIND = """#!lua flags=allow-oom
if redis.call('EXISTS', KEYS[2]) == 1 then return redis.call('GET', KEYS[1]) end
local hold = redis.call('GET', KEYS[1])
if not hold then
  local t = redis.call('TIME')
  hold = ARGV[1] .. string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)) .. '}'
  redis.call('SET', KEYS[1], hold, 'PX', ARGV[2])
elseif redis.call('PTTL', KEYS[1]) > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return hold
"""
"""Without telemetry there is no monitor that could hold the card, so the gate does it in its place.

The hold is the same key the monitor writes, because that is what the running job looks at; this one expires
by itself, and the monitor's (which has no expiry) is never touched. A full Redis takes it, too: it takes no
telemetry, so nobody else would rest a hot card.
"""
_BLIND = (
    '{"reason":"telemetry","message":"no word of the card\'s health; is the monitor running?","since_ms":'
)
_BLIND_TTL_MS = 3000


class FactReader:
    """Reads the facts of one card in one round trip, and holds the card while there is no telemetry."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._thermal = settings.thermal
        self._thresholds: bytes | None = None
        self._without_readings = not settings.thermal.hold_without_readings
        self._catalog_data: bytes | None = None
        self._models: tuple[board.Model, ...] = ()
        self._queues: frozenset[QueueName] = frozenset()

    def read(self, card_id: str) -> steering.Facts:
        """Raises redis.RedisError when Redis cannot be read."""
        known = sorted(self._queues)
        pipe = self._client.pipeline(transaction=False)
        if self._without_readings:
            pipe.get(keys.hold(card_id))
        else:
            pipe.eval(_HOLD_WHEN_BLIND, 2, keys.hold(card_id), keys.telemetry(card_id), _BLIND, _BLIND_TTL_MS)
        pipe.hkeys(keys.PAUSES)
        pipe.get(keys.CATALOG)
        pipe.smembers(keys.QUEUES)
        pipe.get(keys.THRESHOLDS)
        pipe.get(keys.residents(card_id))
        pipe.time()
        for name in known:
            pipe.zrange(keys.queue(name), 0, 0, withscores=True)
        hold, paused, catalog, seen, changed, residents, clock, *oldest = pipe.execute()
        self._obey(changed)
        models = self._models_of(catalog)
        self._queues = steering.queues_of((model.id for model in models), (name.decode() for name in seen))
        return outlook.facts(
            self._queues,
            now_ms=clock[0] * 1000 + clock[1] / 1000,
            oldest_ready_ms={name: int(rows[0][1]) for name, rows in zip(known, oldest, strict=True) if rows},
            paused=(name.decode() for name in paused),
            held=_reason(hold),
            models=models,
            residents=board.decode(board.Residents, residents),
        )

    def _obey(self, changed: bytes | None) -> None:
        """Whether blindness holds, from the next look on."""
        if changed != self._thresholds:
            self._thresholds = changed
            limits = thresholds.effective(self._thermal, changed)
            self._without_readings = not limits.hold_without_readings

    def _models_of(self, catalog: bytes | None) -> tuple[board.Model, ...]:
        if catalog != self._catalog_data:
            found = board.decode(board.Catalog, catalog)
            self._models = found.models if found else ()
            self._catalog_data = catalog
        return self._models


class Level:
    """Brings one Celery consumer to an ordered list of queues."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._doubtful: tuple[str, ...] = ()
        self.queues: tuple[str, ...] = ()

    def bring_to(self, wanted: Sequence[str]) -> bool:
        """Consume exactly ``wanted``, in that order. Returns whether anything changed.

        After an error (the broker went away) the next call starts from nothing.
        """
        target = tuple(wanted)
        if target == self.queues and not self._doubtful:
            return False
        # Celery appends a queue it starts to consume, so whatever does not stand at its place already is
        # taken out and added again. A message that arrives for a queue just taken out goes back by itself.
        keep = 0 if self._doubtful else _common(target, self.queues)
        out = dict.fromkeys((*self.queues[keep:], *self._doubtful))
        self._doubtful = (*out, *target)
        for name in out:
            self._consumer.cancel_task_queue(name)
        for name in target[keep:]:
            self._consumer.add_task_queue(name)
        self.queues, self._doubtful = target, ()
        return True


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many names both begin with."""
    count = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        count += 1
    return count


class Gate(bootsteps.StartStopStep):
    """Requires the task consumer, so it runs when that exists and before the loop reads its first message."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    link: ClassVar[Link]
    reader: ClassVar[FactReader]

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer_entry: Any = None
        self._level: Level | None = None
        self._looked_at_s = 0.0
        self._glance: tuple[Stage, bool] | None = None
        self._told: str | None = None
        self._was_open = False

    def start(self, consumer: Any) -> None:
        deselect(consumer.app)
        self._level = Level(consumer)
        self._glance = None
        self._look()
        self._timer_entry = consumer.timer.call_repeatedly(GLANCE_S, self._tick)

    def stop(self, consumer: Any) -> None:
        if self._timer_entry is not None:
            self._timer_entry.cancel()
            self._timer_entry = None
        # After a lost connection Celery would consume at once what was selected before it.
        deselect(consumer.app)
        self._level = None

    def _tick(self) -> None:
        glance = (Gate.link.stage, Gate.link.is_draining)
        if glance != self._glance or time.monotonic() - self._looked_at_s >= LOOK_S:
            self._look()

    def _look(self) -> None:
        if self._level is None:
            return
        self._looked_at_s = time.monotonic()
        self._glance = (Gate.link.stage, Gate.link.is_draining)
        facts = self._facts()
        if self._level.bring_to(steering.level(facts)):
            log.debug("consuming %s", ", ".join(self._level.queues) or "nothing")
        self._tell(facts)

    def _facts(self) -> steering.Facts:
        stage, is_draining = self._glance or (Stage.STARTING, False)
        if is_draining:
            return _held("draining: the worker was told to stop")
        if stage is not Stage.READY:
            return _held("starting: the card is being opened")
        try:
            return Gate.reader.read(Gate.link.text)
        except (redis.RedisError, ValidationError, UnicodeDecodeError) as error:
            return _held(f"redis: {type(error).__name__}: {error}")

    def _tell(self, facts: steering.Facts) -> None:
        # One line per change, not per degree: the message after the colon may differ at every look.
        now = (facts.held or "open").partition(":")[0]
        if now != self._told:
            self._told = now
            if facts.held is None:
                self._was_open = True
                log.info("open for %d queues", len(steering.level(facts)))
            else:
                # Before it was ever open, a worker waits for its first reading: that is no warning.
                loud = logging.WARNING if self._was_open else logging.INFO
                log.log(logging.DEBUG if now in _EXPECTED else loud, "held by %s", facts.held)


def deselect(app: Any) -> None:
    """Consume nothing until the gate says so: fail closed."""
    app.amqp.queues.deselect(list(app.amqp.queues))


def _reason(hold: bytes | None) -> str | None:
    fact = board.decode(board.Hold, hold)
    return None if fact is None else f"{fact.reason}: {fact.message}"


def _held(reason: str) -> steering.Facts:
    return steering.Facts(queues=frozenset(), held=reason)
