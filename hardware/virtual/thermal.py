"""How warm the virtual card gets: a first-order model of one heat capacity and one path to the room.

Figures: an LLM-8850 idles at 37 to 41 °C in a room of 25 °C and reaches 50 to 70 °C under load
(gathered from reports of owners). The time constant is a guess at a small finned heat sink with a fan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

IDLE_RISE_C = 12.0
"""Above the room's temperature after a long rest."""
FULL_RISE_C = 45.0
"""Above the room's temperature after long work without a pause."""
TIME_CONSTANT_S = 180.0
"""After so long 63 % of the way to the new temperature is done."""
NOISE_C = 1.0
"""A reading is off by at most this much."""
LOAD_TIME_CONSTANT_S = 2.0
"""How long the displayed load remembers."""


@dataclass(frozen=True, slots=True)
class Body:
    """The constants of one card in its case; as they stand here, those of the virtual card."""

    idle_rise_c: float = IDLE_RISE_C
    full_rise_c: float = FULL_RISE_C
    time_constant_s: float = TIME_CONSTANT_S
    noise_c: float = NOISE_C


_VIRTUAL = Body()


def resting_c(ambient_c: float) -> float:
    """The temperature of a card that has rested long."""
    return ambient_c + IDLE_RISE_C


def temperature_after(
    seconds: float, *, start_c: float, ambient_c: float, load: float, body: Body = _VIRTUAL
) -> float:
    """The temperature after ``seconds`` at a constant ``load`` (0 to 1)."""
    goal_c = ambient_c + body.idle_rise_c + (body.full_rise_c - body.idle_rise_c) * load
    return goal_c + (start_c - goal_c) * math.exp(-seconds / body.time_constant_s)


def load_after(seconds: float, *, start: float, load: float) -> float:
    """The displayed load (0 to 1) after ``seconds`` at a constant ``load``."""
    return load + (start - load) * math.exp(-seconds / LOAD_TIME_CONSTANT_S)
