"""How a card feels, read from outside the process that owns it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from config.settings import Settings
from hardware.card import CardInfo, CardMemory
from hardware.virtual.clock import Clock, SystemClock
from hardware.virtual.state import CardState, Fault

_IDLE_CPU_PERCENT, _BUSY_CPU_PERCENT = 2.0, 8.0
"""What the processors of the modelled card show at rest and at full load: the NPU does the work."""

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


def read_health(settings: Settings, info: CardInfo, *, clock: Clock | None = None) -> Reading:
    """Read the card's health now. Never waits for the card or its owner, and needs no owner."""
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
            cpu_percent=round(_IDLE_CPU_PERCENT + (_BUSY_CPU_PERCENT - _IDLE_CPU_PERCENT) * load, 1),
        )
    finally:
        state.close()
