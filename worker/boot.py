"""Boot of the child: from a fresh fork to the owner of a card, and back.

Nothing here runs in the parent, so this is where the rooms that load device libraries are imported.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import redis

from config.groups import WorkerSettings
from config.settings import Settings, settings
from tasks import board, claim, keys, ownership, signals
from tasks.app import MONITOR_QUEUE
from tasks.connection import connect
from tasks.engines import Sketch, engines
from tasks.finisher import finisher
from tasks.jobs import ImageJob
from tasks.monitor import poll
from worker import obituary
from worker.link import Link
from worker.pool import BootError

if TYPE_CHECKING:
    from hardware.card import Card, CardInfo
    from worker.loaded import Loader
    from worker.residency import Residency

log = logging.getLogger("hearth.card")

STOP_LOOK_S = 0.1
BEAT_S = 1.0
PROBE_EVERY_S = 5.0
PROBE_LIMIT_S = 10.0
"""Asking a card whether it is there takes milliseconds."""
HEARTBEAT_TTL_S = 10.0
FIRST_READING_EXPIRES_S = 30.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1
_RETRY_S = 0.2
_REOPEN_S = 1.0


class Stop:
    """Whether this process was told to leave: by a signal, by its parent, or by losing its parent.

    A thread looks, and passes it on to the job that runs (``tasks.signals.stopping``).
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._told = False
        self._parent = os.getppid()

    def is_set(self) -> bool:
        return self._told or self._link.is_draining or os.getppid() != self._parent

    def install(self) -> None:
        """Turn the signals that ask to stop into a flag; nothing is interrupted in a call into the card."""
        for number in _STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        threading.Thread(target=self._watch, name="stop", daemon=True).start()

    def _on_signal(self, number: int, frame: object) -> None:
        self._told = True

    def _watch(self) -> None:
        while not self.is_set():
            time.sleep(STOP_LOOK_S)
        signals.stopping.set()


class CardOwner:
    """The child at work. Made by :func:`boot`; satisfies ``worker.pool.Owner``."""

    def __init__(
        self,
        card: Card,
        epoch: int,
        client: redis.Redis,
        residency: Residency,
        stop: Stop,
        limits: WorkerSettings,
    ) -> None:
        self.card = card
        self._limits = limits
        self.epoch = epoch
        self._client = client
        self._residency = residency
        self._stop = stop
        self._hold: board.Hold | None = None
        self._probed_s = float("-inf")
        self._probe_since_ms: int | None = None
        self._reading: board.Telemetry | None = None
        self._gone = threading.Event()
        self._beat = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)

    def is_stopping(self) -> bool:
        # A lost card is poisoned, a forgotten epoch void: a new child opens and takes the card anew.
        # One that has loaded what must not come before what is wanted now makes room for a fresh one as well.
        has_to = self._residency.is_lost or self._residency.must_leave
        return self._stop.is_set() or has_to or ownership.forgotten.is_set()

    def announce(self, link: Link) -> None:
        """Tell Redis that the card has an owner, then the parent that work may come."""
        self._client.delete(keys.lost(self.card.info.id))
        self._publish_heartbeat()
        self._residency.publish()
        self._beat.start()
        link.ready(self.card.info.id)
        ask_for_reading()

    def settle(self) -> None:
        """Load what the settings name, or the only chat model: the first request need not wait for it."""
        try:
            self._residency.preload()
        except Exception:
            # Jobs can still be answered, or fail one by one with words; else the child would die here,
            # and its successor too.
            log.exception("could not load a model ahead of its first job")

    def attend(self) -> None:
        """Take everything off a card that is too hot to keep it; ask one that cannot be read if it is there.

        And see that a card gave back what was unloaded. Raises HardwareError when unloading fails.
        """
        self._residency.compare_memory(self._reading)
        if self._hold is not None and self._hold.reason == "telemetry":
            self._probe()
        if self._hold is not None and self._hold.unload and self._residency.residents:
            log.warning("the card is too hot to keep its models")
            self._residency.close()
            with suppress(redis.RedisError):
                self._residency.publish()

    def _probe(self) -> None:
        """A card that is lost while nobody works on it would be noticed by nobody: no job is begun on it."""
        if time.monotonic() - self._probed_s < PROBE_EVERY_S:
            return
        self._probe_since_ms = int(time.time() * 1000)
        self._residency.probe()
        self._probe_since_ms = None
        self._probed_s = time.monotonic()

    def has_outgrown(self) -> bool:
        """Whether this process has more memory than the settings allow."""
        from hardware.errors import HardwareError
        from worker.memory import MIB, excess_bytes

        try:
            excess = excess_bytes(self.card, self._limits)
        except HardwareError:
            return False  # whoever calls the card next hears of it in words
        if excess > 0:
            log.warning("%d MiB more than worker.child_memory_mib: a fresh process takes over", excess // MIB)
        return excess > 0

    def leave(self) -> None:
        """Finish what is drawn, unload in order, close the card, stop beating. A lost card is left alone."""
        finisher.join()
        self._gone.set()
        self._residency.close()
        if not self._residency.is_lost:
            self.card.close()
            log.info("card %s closed", self.card.info.id)
            self._boot_card_anew()
        with suppress(redis.RedisError):
            if self._residency.is_lost:
                _report_loss(self._client, self.card.info.id, "a call found it gone, or got no answer")
            self._residency.publish()
            self._client.delete(keys.heartbeat(self.card.info.id))

    def _boot_card_anew(self) -> None:
        """Where the settings want that between a language model and a network from ONNX."""
        from hardware.card import Mix
        from hardware.reboot import LIMIT_S, command

        if self._residency.must_leave and self.card.traits.mix is Mix.REBOOT:
            try:
                subprocess.run(command(self.card.info.id), timeout=LIMIT_S, check=True)
                log.info("card %s is booted anew", self.card.info.id)
            except (OSError, subprocess.SubprocessError) as error:
                log.error("card %s could not be booted anew: %s", self.card.info.id, error)

    def _keep_beating(self) -> None:
        while not self._gone.wait(BEAT_S):
            with suppress(redis.RedisError):
                self._publish_heartbeat()
                self._residency.publish_when_stale()
                self._hold = self._read_hold()
                if not self.card.info.is_virtual:
                    self._reading = self._read_telemetry()

    def _read_hold(self) -> board.Hold | None:
        found = self._client.get(keys.hold(self.card.info.id))
        return board.decode(board.Hold, found if isinstance(found, bytes) else None)

    def _read_telemetry(self) -> board.Telemetry | None:
        found = self._client.get(keys.telemetry(self.card.info.id))
        return board.decode(board.Telemetry, found if isinstance(found, bytes) else None)

    def _publish_heartbeat(self) -> None:
        told = heartbeat(self._residency.loading)
        if self._probe_since_ms is not None:
            told = replace(told, call_since_ms=self._probe_since_ms, call_limit_s=PROBE_LIMIT_S)
        beat = board.encode(told)
        self._client.set(keys.heartbeat(self.card.info.id), beat, px=int(HEARTBEAT_TTL_S * 1000))


@dataclass(frozen=True, slots=True)
class Models:
    """What the child needs of the models room."""

    scan: Callable[[Settings], board.Catalog]
    loading: Loader
    find_sketch: Callable[[ImageJob], Sketch | None]


SWITCH_S = 0.0005
"""Python lets a waiting thread wait 5 ms for its turn; the journal's would tell the first token that late."""


def models_here() -> Models:
    """The models room; importing it loads device libraries, so only the child may ask."""
    from models.catalog import scan
    from models.load import find_sketch, loading

    config = settings()
    return Models(
        scan,
        partial(loading, options=config.models, data_dir=config.data_dir),
        partial(find_sketch, data_dir=config.data_dir),
    )


def boot(link: Link, models: Callable[[], Models] = models_here) -> CardOwner:
    """Become the owner of the card: signals, lock, epoch, engines, announcement.

    Raises:
        BootError: the card is taken or cannot be opened, or Redis cannot be reached; one line.
    """
    # Device libraries come in here, after the fork.
    from hardware.choose import card_ids, open_card
    from worker.residency import Residency

    sys.setswitchinterval(SWITCH_S)
    config = settings()
    stop = Stop(link)
    info = card_ids(config)[0]
    _survive_the_parent(info)
    stop.install()
    _say_which(info)
    client = connect(config)
    card = _open(lambda: open_card(config), info, client, stop)
    frames = obituary.path_of(config.card_state_dir, card.info.id)
    words = obituary.last_words(link.death, obituary.last_frames(frames))
    epoch = _take_over(card.info.id, client, config, stop, words)
    obituary.leave_frames(frames)
    room = models()
    residency = Residency(
        card,
        epoch,
        client,
        lambda: room.scan(config),
        room.loading,
        stop.is_set,
        room.find_sketch,
        config.models,
    )
    engines().chat = engines().image = engines().embed = engines().models = residency
    owner = CardOwner(card, epoch, client, residency, stop, config.worker)
    owner.announce(link)
    log.info("card %s is ours, epoch %d, pid %d", card.info.id, epoch, os.getpid())
    return owner


def _open(open_card: Callable[[], Card], info: CardInfo, client: redis.Redis, stop: Stop) -> Card:
    """The card, open. One that was there before is waited for: the monitor is getting it back.

    Raises:
        BootError: it is taken, cannot be opened, or is gone and never had an owner.
    """
    from hardware.errors import CardLost, HardwareError

    is_told = False
    while True:
        try:
            return open_card()
        except (HardwareError, OSError) as error:
            is_lost = isinstance(error, CardLost) and _was_owned(client, info.id)
            if not is_lost or stop.is_set():
                raise BootError(f"cannot open card {info.id}: {error}") from error
            if not is_told:
                log.error("%s; waiting for it to come back", error)
            is_told = True
            with suppress(redis.RedisError):
                _report_loss(client, info.id, str(error))
        time.sleep(_REOPEN_S)


def _was_owned(client: redis.Redis, card_id: str) -> bool:
    with suppress(redis.RedisError):
        return bool(client.exists(keys.epoch(card_id)))
    return False


def _report_loss(client: redis.Redis, card_id: str, message: str) -> None:
    client.set(keys.lost(card_id), board.encode(board.Loss(int(time.time() * 1000), message)))


def heartbeat(loading: str | None) -> board.Heartbeat:
    """What the child says of itself: the job it runs and the call into the card it is in, if any."""
    activity = claim.activity()
    return board.Heartbeat(
        at_ms=int(time.time() * 1000),
        pid=os.getpid(),
        job=activity.job_id if activity else None,
        call_since_ms=activity.call_since_ms if activity else None,
        call_limit_s=activity.call_limit_s if activity else None,
        loading=loading,
    )


def ask_for_reading() -> None:
    """Have the monitor read the card's health now, not one beat later: the gate waits for it."""
    try:
        poll.apply_async(queue=MONITOR_QUEUE, retry=False, expires=FIRST_READING_EXPIRES_S)
    except Exception as error:
        log.warning("could not ask for the first reading (%s); it comes with the monitor's next beat", error)


def _survive_the_parent(info: CardInfo) -> None:
    """Undo prefork's PDEATHSIG=SIGKILL where a kill in mid-call would cost a reboot of a real card.

    A virtual card suffers nothing, and a child that dies with its parent frees the lock at once.
    """
    if not info.is_virtual:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, 0)


def _say_which(info: CardInfo) -> None:
    if info.is_virtual:
        log.warning(
            "card %s is VIRTUAL: software stands in for an NPU, so speed and heat are made up", info.id
        )
    else:
        log.info("card %s: %s at %s", info.id, info.name, info.bus_id)


def _take_over(card_id: str, client: redis.Redis, config: Settings, stop: Stop, last_words: str) -> int:
    """Raise the card's epoch, waiting for a Redis that is being restarted. Raises BootError."""
    deadline_s = time.monotonic() + config.queue.redis_patience_s
    while True:
        try:
            return ownership.become_owner(card_id, client, config, last_words)
        except redis.RedisError as error:
            if stop.is_set() or time.monotonic() > deadline_s:
                raise BootError(f"Redis cannot be reached: {error}") from error
            time.sleep(_RETRY_S)
