"""A clock for tests: time passes when it is told to, and when somebody sleeps."""

from __future__ import annotations


class FakeClock:
    def __init__(self) -> None:
        self.boot_id = b"first boot of it"
        self.now_s = 1000.0
        self.wall_minus_steady_s = 1.7e9
        self.slept_s = 0.0

    def steady(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s + self.wall_minus_steady_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.now_s += seconds
