"""How a card feels, read from outside the process that owns it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from config.settings import Settings
from hardware.card import CardInfo, CardMemory
from hardware.smi.text import SmiCard, Summary, complaint, read_summary
from hardware.smi.tool import Smi, SmiError, find_smi
from hardware.virtual.clock import Clock, SystemClock
from hardware.virtual.state import CardState, Fault

log = logging.getLogger("hearth.health")

SMI_LOCK = "axcl-smi.lock"
"""Under the data directory: held by the tool while it runs."""
_IDLE_CPU_PERCENT, _BUSY_CPU_PERCENT = 2.0, 8.0
"""What the processors of the modelled card show at rest and at full load: the NPU does the work."""
_SAME_POLL_SHARE = 0.5
"""A table younger than this part of the time between two polls was read in the same poll."""

_noise = random.Random()


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a card. A part that the card did not tell is None: news, not zero.

    ``read_at_ms``: wall clock. Percentages are 0 to 100.
    """

    read_at_ms: int
    temperature_c: float | None = None
    memory: CardMemory | None = None
    npu_percent: float | None = None
    cpu_percent: float | None = None


class Sensors:
    """Reads any card's health: the virtual one's from its state, real ones' by one ``axcl-smi`` a poll.

    ``run`` gives what the tool prints; it raises SmiError.
    """

    def __init__(
        self, run: Callable[[], str] | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._run = run
        self._monotonic = monotonic
        self._table = Summary(None, None)
        self._asked_s = float("-inf")
        self._asked_at_ms = 0
        self._trouble: str | None = None
        self._said: dict[str, str | None] = {}

    def read(self, settings: Settings, info: CardInfo) -> Reading:
        """The card's health now; a Reading without parts when it cannot be told. Raises OSError."""
        if info.is_virtual:
            return read_health(settings, info)
        if self._monotonic() - self._asked_s >= settings.thermal.poll_s * _SAME_POLL_SHARE:
            self._ask(settings)
        card = self._table.card(info.bus_id, info.index)
        self._say(info.id, self._trouble if card is None else None)
        return _reading(self._asked_at_ms, card)

    def _ask(self, settings: Settings) -> None:
        self._asked_s, self._asked_at_ms = self._monotonic(), int(time.time() * 1000)
        self._table = Summary(None, None)
        if self._run is None:
            self._run = smi_runner(settings)
        try:
            text = self._run()
        except SmiError as error:
            self._trouble = str(error)
            return
        self._table = read_summary(text)
        shown = ", ".join(card.bus_id for card in self._table.cards)
        self._trouble = complaint(text) or f"axcl-smi shows {f'only {shown}' if shown else 'no card'}"

    def _say(self, card: str, trouble: str | None) -> None:
        """Once when it begins, changes or ends."""
        if trouble == self._said.get(card):
            return
        self._said[card] = trouble
        if trouble is None:
            log.info("card %s can be read", card)
        else:
            log.warning("card %s cannot be read: %s", card, trouble)


def smi_runner(settings: Settings) -> Callable[[], str]:
    """What runs the ``axcl-smi`` of this machine, looked for anew as long as there is none."""
    found: list[Smi] = []

    def run() -> str:
        if not found:
            found.append(smi_tool(settings))
        return found[0].run()

    return run


def smi_tool(settings: Settings) -> Smi:
    """Raises SmiError when the tool is not there."""
    program = find_smi(settings.axcl.smi)
    if program is None:
        raise SmiError("axcl-smi is not installed, or not where its package puts it: set HEARTH_AXCL__SMI")
    return Smi(program, settings.data_dir / SMI_LOCK, timeout_s=settings.axcl.smi_timeout_s)


def _reading(read_at_ms: int, card: SmiCard | None) -> Reading:
    if card is None:
        return Reading(read_at_ms)
    return Reading(read_at_ms, card.temperature_c, card.memory, card.npu_percent, card.cpu_percent)


def read_health(settings: Settings, info: CardInfo, *, clock: Clock | None = None) -> Reading:
    """Read a virtual card's health now. Never waits for the card or its owner, and needs no owner."""
    if not info.is_virtual:
        raise ValueError(f"{info.id} is real: Sensors reads it. This is a bug.")
    clock = clock or SystemClock()
    read_at_ms = int(clock.wall() * 1000)
    state = CardState.open(settings.card_state_dir, info.index, clock)
    try:
        report = state.report()
        lost_by_owner = report is not None and report.is_lost and state.is_owned()
        if lost_by_owner or state.orders().fault in (Fault.BLIND, Fault.LOST):
            return Reading(read_at_ms)
        load = state.npu_load()
        return Reading(
            read_at_ms,
            temperature_c=round(state.reading_c(settings.virtual_card.ambient_c, _noise), 3),
            memory=state.memory(info.memory_bytes),
            npu_percent=round(100 * load, 1),
            cpu_percent=round(cpu_percent(load), 1),
        )
    finally:
        state.close()


def cpu_percent(npu_load: float) -> float:
    """What the modelled card's processors show at that load (0 to 1) of its NPU."""
    return _IDLE_CPU_PERCENT + (_BUSY_CPU_PERCENT - _IDLE_CPU_PERCENT) * npu_load
