"""The governor: from readings of the card to how much it may work. Pure; the monitor calls it once a poll."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

GovernorReason = Literal["thermal", "telemetry"]

WINDOW_S = 60.0
"""A trend is drawn through the readings of this long: one is off by a degree, a minute of them is not."""
AHEAD_S = 30.0
"""Easing looks at the temperature that the trend leads to in this time."""
_TREND_READINGS = 4
"""Fewer say nothing of a trend."""


class Limits(Protocol):
    """The part of the settings the governor looks at (``ThermalSettings`` is one)."""

    @property
    def ease_c(self) -> float: ...

    @property
    def hold_c(self) -> float: ...

    @property
    def resume_c(self) -> float: ...

    @property
    def unload_c(self) -> float: ...

    @property
    def least_duty(self) -> float: ...

    @property
    def missing_polls(self) -> int: ...

    @property
    def hold_without_readings(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered between two polls.

    ``is_hot``: it reached the hold temperature and has not cooled since; ``is_scorched``: it even reached the
    one at which models leave it. ``missing``: for how many polls it was not read. ``recent`` are the last
    readings as (seconds of a steady clock, °C).
    """

    is_hot: bool
    missing: int
    is_scorched: bool = False
    recent: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """The card may work."""


@dataclass(frozen=True, slots=True)
class Ease:
    """The card may work this share of the time (below 1), resting between steps."""

    duty: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Why the card must rest, for people."""

    reason: GovernorReason
    message: str


@dataclass(frozen=True, slots=True)
class Unload(Hold):
    """It must rest with nothing on it."""


Decision = Run | Ease | Hold


def unread(limits: Limits, *, is_hot: bool = False, is_scorched: bool = False) -> State:
    """The state before the first reading: as blind as can be, because nobody knows how hot the card is.

    ``is_hot``, ``is_scorched``: a monitor before this one was holding the card for its heat.
    """
    return State(is_hot=is_hot or is_scorched, missing=limits.missing_polls, is_scorched=is_scorched)


def observe(
    state: State, temperature_c: float | None, *, at_s: float, is_loading: bool, limits: Limits
) -> State:
    """The state after one poll; ``temperature_c`` None or not finite is a poll without a reading.

    ``at_s``: by a clock that never jumps. Polls without a reading do not count while a model loads: a card
    that is busy loading may well not answer.
    """
    recent = tuple(reading for reading in state.recent if at_s - WINDOW_S < reading[0] <= at_s)
    if temperature_c is None or not math.isfinite(temperature_c):
        missing = state.missing if is_loading else min(state.missing + 1, limits.missing_polls)
        is_blind = missing >= limits.missing_polls and not is_loading
        forgets = is_blind and not limits.hold_without_readings
        return State(state.is_hot and not forgets, missing, state.is_scorched and not forgets, recent)
    bound_c = limits.resume_c if state.is_hot else limits.hold_c
    is_hot = temperature_c > bound_c if state.is_hot else temperature_c >= bound_c
    is_scorched = is_hot and (state.is_scorched or temperature_c >= limits.unload_c)
    return State(is_hot, 0, is_scorched, (*recent, (at_s, temperature_c)))


def decide(state: State, temperature_c: float | None, limits: Limits) -> Decision:
    """How much the card may work now. Heat is named before blindness."""
    if state.is_hot:
        now = "" if temperature_c is None else f"the card is at {temperature_c:.1f} °C; "
        if state.is_scorched:
            return Unload("thermal", f"{now}models are unloaded and work goes on at {limits.resume_c:g} °C")
        return Hold("thermal", f"{now}work goes on at {limits.resume_c:g} °C")
    if state.missing >= limits.missing_polls and limits.hold_without_readings:
        return Hold("telemetry", "the card's temperature cannot be read; work goes on with the next reading")
    return _eased(state.recent, limits)


def trend(recent: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The temperature now (°C) and its slope (°C/s) by the straight line that fits the readings best.

    ``recent`` is not empty; the last one is from now.
    """
    times, temperatures = zip(*recent, strict=True)
    if len(recent) < _TREND_READINGS:
        return temperatures[-1], 0.0
    mean_s, mean_c = sum(times) / len(times), sum(temperatures) / len(temperatures)
    spread = sum((at_s - mean_s) ** 2 for at_s in times)
    if spread <= 0.0:
        return mean_c, 0.0
    slope = sum((at_s - mean_s) * (reading_c - mean_c) for at_s, reading_c in recent) / spread
    return mean_c + slope * (times[-1] - mean_s), slope


def _eased(recent: Sequence[tuple[float, float]], limits: Limits) -> Run | Ease:
    """Full work below ``ease_c``; from there the duty falls with the square of the way to ``hold_c``.

    The square keeps a warm card near its limit, where it does most work: a card gives its heat away the
    faster the warmer it is.
    """
    if not recent:
        return Run()
    level_c, slope = trend(recent)
    if level_c < limits.ease_c:
        return Run()
    way = (level_c + slope * AHEAD_S - limits.ease_c) / (limits.hold_c - limits.ease_c)
    duty = 1.0 - (1.0 - limits.least_duty) * min(max(way, 0.0), 1.0) ** 2
    return Ease(max(duty, limits.least_duty)) if duty < 1.0 else Run()
