"""worker-monitor: reads the card's health on every beat, holds or releases, reaps, publishes the catalog."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import redis
from celery import bootsteps, signals
from celery.beat import EmbeddedService

from config.groups import ThermalSettings
from config.settings import Settings
from hardware.card import CardInfo
from hardware.choose import card_ids
from hardware.errors import HardwareError
from hardware.health import Reading, Sensors
from models.catalog import scan
from tasks import board, keys, thresholds
from tasks.app import MONITOR_QUEUE, app
from tasks.connection import connect
from tasks.monitor import duties
from tasks.reaper import Reaper
from worker import governor
from worker.catalog import CatalogWatch, fitting
from worker.history import KEPT, History
from worker.rescue import STALE_S, Rescue
from worker.service import Pulse, Service, serve

log = logging.getLogger("hearth.monitor")


@dataclass(slots=True)
class _Watched:
    """What the monitor remembers of one card from poll to poll."""

    info: CardInfo
    state: governor.State
    hold: board.Hold | None
    rescue: Rescue
    ease: board.Ease | None = None
    history: History = field(default_factory=History)


class Monitor:
    """Both duties. One thread: there is never more than one reading at a time."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        *,
        cards: Callable[[Settings], list[CardInfo]] = card_ids,
        read: Callable[[Settings, CardInfo], Reading] | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._cards = cards
        self._read = read or Sensors().read
        self._watched: dict[str, _Watched] = {}
        self._reaper = Reaper(client, settings)
        self._catalog = CatalogWatch(client, settings, self._scan)

    def poll(self) -> None:
        """Read every card's health, tell it, hold or release. A Redis that is away is logged, not raised."""
        try:
            limits = thresholds.effective(self._settings.thermal, _stored(self._client))
            for info in self._cards(self._settings):
                self._poll(info, limits)
            self._client.set(keys.MONITOR, _now_ms(), px=self._ttl_ms())
        except (redis.RedisError, OSError) as error:
            log.warning("cannot tell the card's health: %s", error)

    def sweep(self) -> None:
        """Repair what has been left behind; publish the catalog when the model directories changed."""
        self._reaper.beat()
        try:
            self._catalog.look()
        except (redis.RedisError, OSError) as error:
            log.warning("cannot publish the catalog: %s", error)

    def _scan(self, settings: Settings) -> board.Catalog:
        return fitting(scan(settings), self._cards(settings), settings.models.margin_mib)

    def _poll(self, info: CardInfo, limits: ThermalSettings) -> None:
        watched = self._watched.get(info.id) or self._begin(info, limits)
        reading = self._reading(info)
        beat = board.decode(board.Heartbeat, self._client.get(keys.heartbeat(info.id)))
        watched.state = governor.observe(
            watched.state,
            reading.temperature_c,
            at_s=time.monotonic(),
            is_loading=_is_loading(beat),
            limits=limits,
        )
        decision = governor.decide(watched.state, reading.temperature_c, limits)
        lost = watched.rescue.beat(beat, is_read=reading.temperature_c is not None)
        self._tell(watched, reading, decision, lost)

    def _begin(self, info: CardInfo, limits: ThermalSettings) -> _Watched:
        """A monitor that follows another takes over its hold, so that its hysteresis goes on."""
        hold = board.decode(board.Hold, self._client.get(keys.hold(info.id)))
        is_hot = hold is not None and hold.reason == "thermal"
        is_scorched = is_hot and hold is not None and hold.unload
        state = governor.unread(limits, is_hot=is_hot, is_scorched=is_scorched)
        rescue = Rescue(self._client, info.id, self._settings.recovery)
        watched = _Watched(info, state, hold, rescue)
        self._watched[info.id] = watched
        return watched

    def _reading(self, info: CardInfo) -> Reading:
        try:
            return self._read(self._settings, info)
        except (HardwareError, OSError) as error:
            log.warning("card %s cannot be read: %s", info.id, error)
            return Reading(_now_ms())

    def _tell(
        self, watched: _Watched, reading: Reading, decision: governor.Decision, lost: str | None
    ) -> None:
        """Write telemetry and hold in one transaction: nobody sees a fresh reading beside an old hold."""
        before, card, was_eased = watched.hold, watched.info.id, watched.ease is not None
        watched.hold = _dated(_hold_for(decision, lost), before)
        watched.ease = _eased(decision, watched.ease)
        pipe = self._client.pipeline(transaction=True)
        told = _telemetry(reading)
        pipe.set(keys.telemetry(card), board.encode(told), px=self._ttl_ms())
        minute = watched.history.add(told, _duty(decision))
        if minute is not None:
            pipe.lpush(keys.history(card), board.encode(minute))
            pipe.ltrim(keys.history(card), 0, KEPT - 1)
        if watched.hold is None:
            pipe.delete(keys.hold(card))
        else:
            pipe.set(keys.hold(card), board.encode(watched.hold))
        if watched.ease is None:
            pipe.delete(keys.ease(card))
        else:
            pipe.set(keys.ease(card), board.encode(watched.ease), px=self._ttl_ms())
        pipe.execute()
        if watched.ease is not None and not was_eased:
            share = watched.ease.duty * 100
            log.info("card %s eased to %.0f %%: %s", card, share, _degrees(reading.temperature_c))
        if _reason(before) != _reason(watched.hold):
            if watched.hold is None:
                log.info("card %s released: %s", card, _degrees(reading.temperature_c))
            else:
                log.warning("card %s held (%s): %s", card, watched.hold.reason, watched.hold.message)

    def _ttl_ms(self) -> int:
        thermal = self._settings.thermal
        return int(thermal.missing_polls * thermal.poll_s * 1000)


class Beat(bootsteps.StartStopStep):
    """Celery's beat in a thread of this process: as a process of its own it would outlive a killed monitor.

    Its schedule is kept in memory: two intervals of seconds have nothing to remember over a restart.
    """

    def create(self, worker: Any) -> Any:
        worker.beat = EmbeddedService(worker.app, thread=True, scheduler_cls="celery.beat:Scheduler")
        return worker.beat


def run(settings: Settings) -> NoReturn:
    """Watch until told to stop; exits 0 then."""
    monitor = Monitor(connect(settings), settings)
    duties.poll, duties.sweep = monitor.poll, monitor.sweep

    def begin(**_: object) -> None:
        # Now, and not one beat later: everything waits for the first reading and the first catalog.
        monitor.poll()
        monitor.sweep()
        log.info("watching, every %g s", settings.thermal.poll_s)

    signals.worker_ready.connect(begin, weak=False)
    app.steps["worker"].add(Beat)
    app.steps["consumer"].add(Pulse)
    hostname = f"monitor@{socket.gethostname()}"
    worker = serve(Service, app=app, hostname=hostname, pool="solo", concurrency=1, queues=[MONITOR_QUEUE])
    worker.start()
    log.info("worker-monitor stopped")
    sys.exit(worker.exitcode or os.EX_OK)


def _telemetry(reading: Reading) -> board.Telemetry:
    memory = reading.memory
    return board.Telemetry(
        read_at_ms=reading.read_at_ms,
        temperature_c=reading.temperature_c,
        memory_total_bytes=memory.total_bytes if memory else None,
        memory_free_bytes=memory.free_bytes if memory else None,
        npu_percent=reading.npu_percent,
        cpu_percent=reading.cpu_percent,
    )


def _hold_for(decision: governor.Decision, lost: str | None) -> board.Hold | None:
    """A lost card is named before its heat. It keeps nothing, so there is nothing to unload."""
    if lost is not None:
        return board.Hold("card_lost", lost, _now_ms())
    if not isinstance(decision, governor.Hold):
        return None
    is_scorched = isinstance(decision, governor.Unload)
    return board.Hold(decision.reason, decision.message, _now_ms(), unload=is_scorched)


def _dated(hold: board.Hold | None, before: board.Hold | None) -> board.Hold | None:
    """The hold; one that goes on for the same reason keeps its beginning."""
    if hold is None or before is None or before.reason != hold.reason:
        return hold
    return replace(hold, since_ms=before.since_ms)


def _eased(decision: governor.Decision, before: board.Ease | None) -> board.Ease | None:
    if not isinstance(decision, governor.Ease):
        return None
    return board.Ease(round(decision.duty, 3), before.since_ms if before else _now_ms())


def _duty(decision: governor.Decision) -> float:
    if isinstance(decision, governor.Hold):
        return 0.0
    return decision.duty if isinstance(decision, governor.Ease) else 1.0


def _stored(client: redis.Redis) -> bytes | None:
    found = client.get(keys.THRESHOLDS)
    return found if isinstance(found, bytes) else None


def _is_loading(beat: board.Heartbeat | None) -> bool:
    return beat is not None and beat.loading is not None and _now_ms() - beat.at_ms < STALE_S * 1000


def _reason(hold: board.Hold | None) -> str | None:
    return None if hold is None else hold.reason


def _degrees(temperature_c: float | None) -> str:
    return "no temperature" if temperature_c is None else f"{temperature_c:.1f} °C"


def _now_ms() -> int:
    return int(time.time() * 1000)
