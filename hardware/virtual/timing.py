"""How long the modelled card takes for what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hardware.virtual.clock import Clock


@dataclass(frozen=True, slots=True)
class Timing:
    """What calls cost. Zeros mean: as long as it happens to take."""

    bus_s_per_byte: float
    load_s_per_byte: float
    execute_s: float
    is_modelled: bool


TIMINGS: Mapping[str, Timing] = {
    "none": Timing(0.0, 0.0, 0.0, is_modelled=False),
    # 400 MB/s: what KV traffic reaches over the one PCIe 2.0 lane of a Raspberry Pi 5. 60 MB/s: Qwen3-4B's
    # 5.2 GB in 88 s (M5Stack's figures for the LLM-8850). 0.46 ms: one synchronous engine call over PCIe,
    # measured on a Raspberry Pi 5 with that card (github.com/woolcoxm/Axera-AX8850-GGUF-Support).
    "pi5": Timing(1 / 400e6, 1 / 60e6, 0.46e-3, is_modelled=True),
}


class Pace:
    """Lets the modelled time pass.

    Short waits are saved up until they are worth a sleep (a sleep of 10 µs takes 70), and the next operation
    starts when the former would have ended; so sums are right even where single calls are early.
    """

    _WORTH_A_SLEEP_S = 0.5e-3

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready_at = 0.0

    def last(self, began_at: float, seconds: float) -> float:
        """Wait for the end of an operation of ``seconds`` that began at ``began_at``; return the end."""
        self._ready_at = max(began_at, self._ready_at) + seconds
        self.wait_until(self._ready_at)
        return self._ready_at

    def wait_until(self, moment: float) -> None:
        """Sleep until then, if that is worth it."""
        left = moment - self._clock.steady()
        if left > self._WORTH_A_SLEEP_S:
            self._clock.sleep(left)
