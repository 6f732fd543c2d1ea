"""Kills the processes and breaks the card of one ``hearth up``, at random by a seed: its children, by pid."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hardware.virtual.state import CardState, Fault

KILLS = ("child", "npu", "monitor", "api", "redis")
FAULTS = ("hang", "lost", "oom", "hot")
_PAUSE_S = (1.5, 4.0)
"""Between two blows: a process needs two or three seconds to be back."""
_LONGEST_S = 3.0
"""So long a fault of the card lasts that does not end by itself."""


@dataclass(slots=True)
class Blow:
    what: str
    at_s: float
    """Wall clock, seconds since the epoch: what records of jobs count in."""


@dataclass(slots=True)
class Tally:
    blows: list[Blow] = field(default_factory=list)
    missed: int = 0
    """Processes that were not there when they were to be killed."""

    def count(self, kinds: tuple[str, ...]) -> int:
        return sum(blow.what in kinds for blow in self.blows)


class Havoc:
    """A thread that strikes until it is told to stop, and leaves the card whole."""

    def __init__(self, supervisor_pid: int, data_dir: Path, seed: int, most_losses: int) -> None:
        """``most_losses``: how often the card may be lost; after three reboots a person is waited for."""
        self._supervisor = psutil.Process(supervisor_pid)
        self._state = CardState.open(data_dir / "card")
        self._chance = random.Random(seed)
        self._losses_left = most_losses
        self._left: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.tally = Tally()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        self._state.order(fault=Fault.NONE)
        self._state.close()

    def _work(self) -> None:
        while not self._stop.wait(self._chance.uniform(*_PAUSE_S)):
            what = self._next()
            if what == "lost" and self._losses_left == 0:
                what = "child"
            self.tally.blows.append(Blow(what, time.time()))
            if what in KILLS:
                self._kill(what)
            else:
                self._break(what)

    def _next(self) -> str:
        """Each kind as often as every other, in an order of chance: few blows, too, are of all kinds."""
        if not self._left:
            self._left = [*KILLS, *FAULTS]
            self._chance.shuffle(self._left)
        return self._left.pop()

    def _kill(self, name: str) -> None:
        victim = self._find(name)
        if victim is None:
            self.tally.missed += 1
            return
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            self.tally.missed += 1

    def _find(self, name: str) -> psutil.Process | None:
        try:
            family = self._supervisor.children(recursive=True)
            return next((one for one in family if _IS[name](one, self._supervisor.pid)), None)
        except psutil.Error:
            return None

    def _break(self, what: str) -> None:
        if what == "lost":
            self._losses_left -= 1
            self._state.order(fault=Fault.LOST)  # the monitor reboots it, which ends the fault
            return
        if what == "hot":
            self._state.set_temperature(88.0)
            self._stop.wait(_LONGEST_S)
            self._state.set_temperature(45.0)
            return
        self._state.order(fault=Fault[what.upper()])
        self._stop.wait(_LONGEST_S)
        self._state.order(fault=Fault.NONE)


def _runs(*words: str) -> Callable[[psutil.Process, int], bool]:
    def is_it(process: psutil.Process, supervisor_pid: int) -> bool:
        line = process.cmdline()
        return process.ppid() == supervisor_pid and line[-len(words) :] == list(words)

    return is_it


def _is_child_of_npu(process: psutil.Process, supervisor_pid: int) -> bool:
    parent = process.parent()
    return parent is not None and _IS["npu"](parent, supervisor_pid)


def _is_redis(process: psutil.Process, supervisor_pid: int) -> bool:
    return process.ppid() == supervisor_pid and process.name().startswith(("redis-server", "valkey"))


_IS: dict[str, Callable[[psutil.Process, int], bool]] = {
    "api": _runs("-m", "api"),
    "npu": _runs("worker", "npu"),
    "monitor": _runs("worker", "monitor"),
    "child": _is_child_of_npu,
    "redis": _is_redis,
}
