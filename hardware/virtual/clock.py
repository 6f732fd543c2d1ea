"""Time as the virtual card sees it, so that tests can let hours pass in no time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts through suspend, where the system has it."""


class Clock(Protocol):
    @property
    def boot_id(self) -> bytes:
        """16 bytes that change when the machine restarts."""
        ...

    def steady(self) -> float:
        """Seconds since the machine started; never goes backwards within one ``boot_id``."""
        ...

    def wall(self) -> float:
        """Seconds since 1970, as far as the machine knows."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._boot_id = _read_boot_id()

    @property
    def boot_id(self) -> bytes:
        return self._boot_id

    def steady(self) -> float:
        return time.clock_gettime(_BOOT_CLOCK)

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def _read_boot_id() -> bytes:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:  # not Linux: zeros say that only the wall clock can be compared between processes
        return bytes(16)
    return bytes.fromhex(text.strip().replace("-", ""))
