"""The governor: from readings of the card to whether it may work. Pure; the monitor calls it once a poll."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

GovernorReason = Literal["thermal", "telemetry"]


class Limits(Protocol):
    """The part of the settings the governor looks at (``ThermalSettings`` is one)."""

    @property
    def hold_c(self) -> float: ...

    @property
    def resume_c(self) -> float: ...

    @property
    def missing_polls(self) -> int: ...

    @property
    def hold_without_readings(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered between two polls: was the card too hot, and for how many polls was it not read."""

    is_hot: bool
    missing: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Why the card must rest, for people."""

    reason: GovernorReason
    message: str


def unread(limits: Limits, *, is_hot: bool = False) -> State:
    """The state before the first reading: as blind as can be, because nobody knows how hot the card is.

    ``is_hot``: a monitor before this one was holding the card for its heat.
    """
    return State(is_hot=is_hot, missing=limits.missing_polls)


def observe(state: State, temperature_c: float | None, *, is_loading: bool, limits: Limits) -> State:
    """The state after one poll; ``temperature_c`` None or not finite is a poll without a reading.

    Polls without a reading do not count while a model loads: a card that is busy loading may well not answer.
    """
    if temperature_c is None or not math.isfinite(temperature_c):
        if is_loading:
            return state
        missing = min(state.missing + 1, limits.missing_polls)
        blind_by_choice = missing >= limits.missing_polls and not limits.hold_without_readings
        return State(is_hot=state.is_hot and not blind_by_choice, missing=missing)
    if state.is_hot:
        return State(is_hot=temperature_c > limits.resume_c, missing=0)
    return State(is_hot=temperature_c >= limits.hold_c, missing=0)


def decide(state: State, temperature_c: float | None, limits: Limits) -> Hold | None:
    """Why the card must rest now; None lets it work. Heat is named before blindness."""
    if state.is_hot:
        now = "" if temperature_c is None else f"the card is at {temperature_c:.1f} °C; "
        return Hold("thermal", f"{now}work goes on at {limits.resume_c:g} °C")
    if state.missing >= limits.missing_polls and limits.hold_without_readings:
        return Hold("telemetry", "the card's temperature cannot be read; work goes on with the next reading")
    return None
