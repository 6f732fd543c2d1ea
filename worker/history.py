"""A card's day in minutes: many readings become one point. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.board import Minute, Telemetry

KEPT = 24 * 60
"""Points kept: a day of minutes."""
_MINUTE_MS = 60_000


@dataclass(slots=True)
class History:
    """Collects readings; hands out a point when its minute is over."""

    _readings: list[Telemetry] = field(default_factory=list)
    _duties: list[float] = field(default_factory=list)

    def add(self, reading: Telemetry, duty: float) -> Minute | None:
        """Take in one poll. Returns the point of the minute before, when this poll begins another."""
        done = None
        if self._readings and _minute(self._readings[0]) != _minute(reading):
            done = _point(self._readings, self._duties)
            self._readings, self._duties = [], []
        self._readings.append(reading)
        self._duties.append(duty)
        return done


def _minute(reading: Telemetry) -> int:
    return reading.read_at_ms // _MINUTE_MS


def _point(readings: Sequence[Telemetry], duties: Sequence[float]) -> Minute:
    shown = [each.temperature_c for each in readings if each.temperature_c is not None]
    load = [each.npu_percent for each in readings if each.npu_percent is not None]
    free = [each.memory_free_bytes for each in readings if each.memory_free_bytes is not None]
    return Minute(
        at_ms=_minute(readings[0]) * _MINUTE_MS,
        mean_c=round(sum(shown) / len(shown), 2) if shown else None,
        max_c=max(shown, default=None),
        npu_percent=round(sum(load) / len(load), 1) if load else None,
        memory_free_bytes=min(free, default=None),
        duty=round(sum(duties) / len(duties), 3),
        missing=len(readings) - len(shown),
    )
