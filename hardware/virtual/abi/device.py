"""One simulated device: its memory with addresses like the card's, its bus, its faults and its clock."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from bisect import bisect_right, insort
from contextlib import suppress

import numpy as np

from hardware.card import Counters
from hardware.errors import CardBusy, OutOfCardMemory
from hardware.lock import CardLock
from hardware.virtual.abi.codes import (
    EXECUTE_FAIL,
    NO_CONNECT,
    NO_MEMORY,
    NOT_DEVICE_MEMORY,
    Fail,
    Misuse,
    Part,
)
from hardware.virtual.abi.options import Quirk, SimOptions, device_id
from hardware.virtual.arena import BASE_ADDRESS, PAGE_BYTES, Arena
from hardware.virtual.clock import SystemClock
from hardware.virtual.meter import Meter
from hardware.virtual.state import CardState, Fault, Orders, lock_path
from hardware.virtual.timing import TIMINGS

_NO_RESERVE = 0x4000
"""MAP_NORESERVE of Linux, which Python names only from 3.13 on."""
_REPORT_EVERY_S = 0.02
_HANG_LOOK_S = 0.01
_DIRT = 0xFF
"""Fresh memory is full of it: as bf16 and as f32 it reads as NaN."""
_DIRTY_BYTES = 1 << 20
"""Of a larger allocation only the two ends are made dirty."""


class Debt:
    """Lets modelled time pass, so that sums are right though single calls are not.

    A sleep ends late, and what answers a call here is Python: what one call took too long, the next ones make
    up for; waits too short to be worth a sleep are saved up.
    """

    _WORTH_A_SLEEP_S, _MOST_S = 0.5e-3, 0.005

    def __init__(self, clock: SystemClock) -> None:
        self._clock = clock
        self._late_s = 0.0

    def pay(self, began_s: float, lasts_s: float) -> None:
        """A call began at ``began_s`` and is to last ``lasts_s``."""
        self._late_s += self._clock.steady() - began_s - lasts_s
        if self._late_s < -self._WORTH_A_SLEEP_S:
            until_s = self._clock.steady() - self._late_s
            self._clock.sleep(-self._late_s)
            self._late_s = self._clock.steady() - until_s
        self._late_s = min(self._late_s, self._MOST_S)


class Device:
    """What one process sees of a device. Opened by the first ``axclrtSetDevice`` of the process."""

    def __init__(self, options: SimOptions, index: int) -> None:
        self.options = options
        self.index = index
        self.id = device_id(index)
        self.counters = Counters()
        self.timing = TIMINGS[options.timing]
        self.frees = 0
        self.is_dead = False
        self._clock = SystemClock()
        self._debt = Debt(self._clock)
        self._state = CardState.open(options.state, index, self._clock)
        self._boots = self._state.orders().boots
        self._lock: CardLock | None = None
        with suppress(CardBusy):  # a second process uses the device as well, as on a real card
            self._lock = CardLock(lock_path(options.state, index), f"device {self.id}", pause=lambda _: None)
        self._meter = Meter(self._state, self._clock, options.ambient_c, options.memory_bytes)
        self._arena = Arena(options.memory_bytes)
        self._sizes: dict[int, int] = {}
        self._starts: list[int] = []
        # What the quirk kept from an earlier life of this very process, for those who open the device twice.
        kept = [each for each in self._state.holders() if each.pid == os.getpid() and each.is_kept]
        self._kept_bytes = sum(each.size_bytes for each in kept)
        self._pages = mmap.mmap(
            -1, self._arena.size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        )
        self._offset = int(np.frombuffer(self._pages, np.uint8).ctypes.data) - BASE_ADDRESS
        self._busy_s = 0.0
        self._told_s = 0.0
        self._began_s = 0.0

    @property
    def state(self) -> CardState:
        return self._state

    def begin(self) -> Orders:
        """What every call that reaches the device starts with. Raises Fail when it is gone."""
        orders = self._meter.look()
        if orders.fault is Fault.LOST or orders.boots != self._boots:
            self.is_dead = True
        if self.is_dead:
            raise Fail(Part.DEVICE, NO_CONNECT, f"device {self.id} is dead")
        self._began_s = self._clock.steady()
        return orders

    def hang_if_dead(self) -> None:
        """With the quirk, giving back to a dead device never returns."""
        with suppress(Fail):
            self.begin()
        while self.is_dead and Quirk.FREE_HANGS_WHEN_DEAD in self.options.quirks:
            time.sleep(_HANG_LOOK_S)

    def drop(self) -> None:
        """Leave the bus."""
        self._state.order(fault=Fault.LOST)
        self.is_dead = True
        self.begin()

    # Memory. Addresses are the device's; ``pointer`` is where the bytes stand in this process.

    def allocate(self, size_bytes: int, part: Part = Part.MEMORY) -> int:
        orders = self.begin()
        try:
            if orders.fault is Fault.OOM:
                raise OutOfCardMemory("the fault 'oom' is set")
            address = self._arena.take(size_bytes)
            if not self._hold():
                self._arena.give_back(address)
                raise OutOfCardMemory("other processes hold too much")
        except (OutOfCardMemory, ValueError) as error:
            told = EXECUTE_FAIL if Quirk.OOM_AS_070C in self.options.quirks else NO_MEMORY
            raise Fail(part, told, str(error)) from None
        self._sizes[address] = size_bytes
        insort(self._starts, address)
        if self.options.is_dirty:
            ends = {0, max(0, size_bytes - _DIRTY_BYTES)}
            for start in ends:
                ctypes.memset(self.pointer(address + start), _DIRT, min(_DIRTY_BYTES, size_bytes - start))
        self.tell()
        return address

    def free(self, address: int) -> None:
        size_bytes = self._sizes.pop(address, None)
        if size_bytes is None:
            raise Misuse(Part.MEMORY, NOT_DEVICE_MEMORY, f"{address:#x} was not allocated")
        self._starts.remove(address)
        self.frees += 1
        if Quirk.CMM_NOT_RETURNED in self.options.quirks:
            return
        self._forget(address, size_bytes)
        self._arena.give_back(address)
        self._hold()
        self.tell()

    def start_of(self, address: int, size_bytes: int) -> int:
        """Where the allocation begins that holds all of the range. Raises Misuse when none does."""
        at = bisect_right(self._starts, address) - 1
        if at >= 0:
            start = self._starts[at]
            if address + size_bytes <= start + self._sizes[start]:
                return start
        raise Misuse(
            Part.MEMORY, NOT_DEVICE_MEMORY, f"memory {address:#x} is not allocated by device {self.id}"
        )

    def pointer(self, address: int) -> int:
        return address + self._offset

    def set(self, address: int, value: int, size_bytes: int) -> None:
        """Fill the range."""
        self.begin()
        self.start_of(address, size_bytes)
        if value == 0:
            self._forget(address, size_bytes)
        else:
            ctypes.memset(self.pointer(address), value, size_bytes)
        self.counters.h2d_calls += 1

    def moved(self, way: str, size_bytes: int) -> None:
        """A copy has been made: up (``h2d``), down (``d2h``) or within (``d2d``)."""
        counters = self.counters
        if way == "h2d":
            counters.h2d_bytes += size_bytes
            counters.h2d_calls += 1
        elif way == "d2h":
            counters.d2h_bytes += size_bytes
            counters.d2h_calls += 1
        else:
            counters.d2d_bytes += size_bytes
            counters.d2d_calls += 1
        bus_bytes = 0 if way == "d2d" else size_bytes
        self.take_time(self.options.call_s + bus_bytes * self.timing.bus_s_per_byte)

    def take_time(self, seconds: float) -> None:
        """Let modelled time pass since ``begin``."""
        if self.timing.is_modelled or self.options.call_s:
            self._debt.pay(self._began_s, seconds)

    # Executing.

    def hang(self) -> None:
        """Give no answer until the fault is over, or the device is booted anew. Raises Fail then."""
        while not self._hang_is_over():
            time.sleep(_HANG_LOOK_S)
        self.after_execute()

    def hang_for(self, seconds: float) -> bool:
        """Like ``hang``, for so long at most; whether it is over."""
        until_s = time.monotonic() + seconds
        while not self._hang_is_over():
            if time.monotonic() >= until_s:
                return False
            time.sleep(_HANG_LOOK_S)
        return True

    def _hang_is_over(self) -> bool:
        orders = self._meter.look()
        return orders.fault is not Fault.HANG or orders.boots != self._boots

    def after_execute(self) -> None:
        """Raises Fail when the device was lost meanwhile."""
        try:
            self.begin()
        except Fail as error:
            raise Fail(Part.ENGINE, EXECUTE_FAIL, str(error)) from None

    def worked(self, began_s: float, computed_s: float, modelled_s: float) -> None:
        """An execution began at ``began_s``: its graph took ``computed_s``, or ``modelled_s`` on the card."""
        orders, lasted_s = self._meter.orders, computed_s
        if self.timing.is_modelled:
            lasted_s = max(computed_s, self.timing.execute_s + modelled_s)
        if orders.fault is Fault.SLOW:
            lasted_s *= orders.slow_factor
        if self.timing.is_modelled or lasted_s > computed_s:
            self._debt.pay(began_s, lasted_s)
        self.counters.executes += 1
        self.counters.busy_s += lasted_s
        self._busy_s += lasted_s
        if began_s - self._told_s > _REPORT_EVERY_S:
            self.tell()

    def now_s(self) -> float:
        return self._clock.steady()

    def tell(self) -> None:
        """Write what others may know: heat, load, counters, memory."""
        self._told_s = self._clock.steady()
        self._meter.tell(self.counters, self._held_bytes, busy_s=self._busy_s, is_lost=self.is_dead)
        self._busy_s = 0.0

    def close(self) -> None:
        """Give everything back. What the quirk keeps stays taken for all who come."""
        self.tell()
        is_kept = Quirk.CMM_NOT_RETURNED in self.options.quirks
        if not is_kept and not self.is_dead:
            self._state.hold(0, self.options.memory_bytes)
        if self._lock is not None:
            self._lock.close()
        self._state.close()
        self._starts, self._sizes = [], {}
        self._pages.madvise(mmap.MADV_DONTNEED)

    @property
    def _held_bytes(self) -> int:
        return self._arena.used_bytes + self._kept_bytes

    def _hold(self) -> bool:
        is_kept = Quirk.CMM_NOT_RETURNED in self.options.quirks
        return self._state.hold(self._held_bytes, self.options.memory_bytes, is_kept=is_kept)

    def _forget(self, address: int, size_bytes: int) -> None:
        """Make the range zero; whole pages are given back to the system, which brings them back as zeros."""
        page = max(mmap.PAGESIZE, PAGE_BYTES)
        start = address - BASE_ADDRESS
        first, last = -(-start // page) * page, (start + size_bytes) // page * page
        if last - first < 64 * page:
            ctypes.memset(self.pointer(address), 0, size_bytes)
            return
        ctypes.memset(self.pointer(address), 0, first - start)
        ctypes.memset(self.pointer(BASE_ADDRESS + last), 0, start + size_bytes - last)
        self._pages.madvise(mmap.MADV_DONTNEED, first, last - first)
