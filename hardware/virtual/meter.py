"""The owner's side of the shared state: heat and load follow from the work done."""

from __future__ import annotations

import os

from hardware.card import Counters
from hardware.virtual import thermal
from hardware.virtual.clock import Clock
from hardware.virtual.state import CardState, Orders, Report, Stamp


class Meter:
    """Keeps the report true for one opened card. It continues at the temperature the card has when opened."""

    def __init__(self, state: CardState, clock: Clock, ambient_c: float, memory_total_bytes: int) -> None:
        self._state = state
        self._clock = clock
        self._configured_ambient_c = ambient_c
        self._memory_total_bytes = memory_total_bytes
        self.orders: Orders = state.orders()
        self._order_seen = self.orders.set_number
        self._temperature_c = state.model_c(ambient_c)
        self._load = 0.0
        self._at_s = clock.steady()

    def look(self) -> Orders:
        """The orders now."""
        if self._state.has_new_orders():
            self.orders = self._state.orders()
        return self.orders

    def _pass_time(self, busy_s: float) -> None:
        now_s = self._clock.steady()
        passed_s = max(0.0, now_s - self._at_s)
        self._at_s = now_s
        if passed_s > busy_s:
            self._live(passed_s - busy_s, load=0.0)
        if busy_s:
            self._live(busy_s, load=1.0)
        self._take_set_temperature()

    def tell(
        self, counters: Counters, used_bytes: int, *, busy_s: float = 0.0, is_lost: bool = False
    ) -> None:
        """Write the report. Since the last one the card rested, then worked for ``busy_s`` until now."""
        self._pass_time(busy_s)
        self._state.write_report(
            Report(
                os.getpid(),
                Stamp.now(self._clock),
                self._temperature_c,
                self._load,
                self._order_seen,
                self._memory_total_bytes,
                used_bytes,
                is_lost,
                counters,
            )
        )

    def _live(self, seconds: float, load: float) -> None:
        ambient_c = self._ambient_c()
        self._temperature_c = thermal.temperature_after(
            seconds, start_c=self._temperature_c, ambient_c=ambient_c, load=load
        )
        self._load = thermal.load_after(seconds, start=self._load, load=load)

    def _take_set_temperature(self) -> None:
        orders = self.look()
        if orders.set_number != self._order_seen:
            self._order_seen = orders.set_number
            age_s = orders.set_stamp.age_s(self._clock) or 0.0
            self._temperature_c = thermal.temperature_after(
                age_s, start_c=orders.set_c, ambient_c=self._ambient_c(), load=0.0
            )

    def _ambient_c(self) -> float:
        ordered = self.orders.ambient_c
        return self._configured_ambient_c if ordered is None else ordered
