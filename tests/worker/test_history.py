from __future__ import annotations

from tasks.board import Minute, Telemetry
from worker.history import History


def reading(second: int, temperature_c: float | None, npu_percent: float = 50.0) -> Telemetry:
    return Telemetry(second * 1000, temperature_c, 7040, 100 + second, npu_percent, 5.0)


def test_a_minute_becomes_one_point_when_the_next_begins() -> None:
    history = History()
    polls = [reading(0, 70.0), reading(20, 76.0), reading(40, None), reading(60, 80.0)]
    told = [history.add(each, duty) for each, duty in zip(polls, (1.0, 0.5, 0.0, 1.0), strict=True)]
    assert told[:3] == [None] * 3
    assert told[3] == Minute(0, 73.0, 76.0, 50.0, 100, 0.5, 1)


def test_a_minute_without_readings_is_told_as_such() -> None:
    history = History()
    history.add(reading(0, None), 0.0)
    minute = history.add(reading(60, 50.0), 1.0)
    assert minute is not None
    assert (minute.mean_c, minute.max_c, minute.missing, minute.duty) == (None, None, 1, 0.0)
