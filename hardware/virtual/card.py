"""The virtual card: an AX650N made of software behind the seam of ``hardware.card``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from config.groups import VirtualCardSettings
from hardware.base import Bytes, Closing
from hardware.card import CardInfo, CardMemory, CardTraits, Counters, KvWrite, Prefill, Step
from hardware.errors import CardLost, CardTimeout, FeedMismatch, GraphRejected, OutOfCardMemory
from hardware.lock import CardLock
from hardware.virtual.arena import Arena
from hardware.virtual.clock import Clock, SystemClock
from hardware.virtual.graph import OneShot, VirtualGraph, VirtualStep
from hardware.virtual.memory import VirtualBuffer
from hardware.virtual.meter import Meter
from hardware.virtual.state import CardState, Fault, lock_path
from hardware.virtual.timing import TIMINGS, Pace
from hardware.virtual.watchdog import Watchdog

MIB = 1 << 20


class _Runs(Protocol):
    modelled_s: float

    def execute(self, options: Any) -> None: ...


def virtual_info(options: VirtualCardSettings, index: int = 0) -> CardInfo:
    """Who the virtual card is, without opening it."""
    return CardInfo(
        id=f"virtual-{index}",
        name="virtual AX650N",
        index=index,
        bus_id=f"virtual:{index}",
        memory_bytes=options.memory_mib * MIB,
        firmware=f"onnxruntime {version('onnxruntime')}",
        is_virtual=True,
    )


class VirtualCard(Closing):
    """An opened virtual card. ``state_dir`` holds its lock and what others may know of it.

    Raises:
        CardBusy: another process has opened it.
        CardLost: the fault ``lost`` is set.
    """

    def __init__(
        self, state_dir: Path, options: VirtualCardSettings, *, index: int = 0, clock: Clock | None = None
    ) -> None:
        import onnxruntime  # half a second that only an opened card should cost

        self._options = options
        self._info = virtual_info(options, index)
        self._clock = clock or SystemClock()
        self._counters = Counters()
        self._arena = Arena(self._info.memory_bytes)
        self._timing = TIMINGS[options.timing]
        self._pace = Pace(self._clock)
        self._began_at = 0.0
        self._lost: str | None = None
        self._closed = False
        self._graphs: list[VirtualGraph] = []
        self._buffers: set[VirtualBuffer] = set()
        self._noise = np.random.default_rng(8850)
        self.frees = 0
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = 4
        # Without this entry each run costs 30 µs more: the Python face of onnxruntime 1.31 looks it up and
        # meets an exception. It means "no graph capture", which only WebGPU has.
        self._run_options.add_run_config_entry("gpu_graph_id", "-1")
        self._lock = CardLock(lock_path(state_dir, index), self._info.id, pause=self._clock.sleep)
        try:
            self._state = CardState(state_dir, index, self._clock)
        except OSError:
            self._lock.close()
            raise
        self._meter = Meter(self._state, self._clock, options.ambient_c, self._arena.size_bytes)
        self._watchdog = Watchdog(self._stop_run)
        try:
            self.begin()
        except CardLost:
            self.close()
            raise
        self._tell()

    @property
    def info(self) -> CardInfo:
        return self._info

    @property
    def traits(self) -> CardTraits:
        return CardTraits(
            resident_buffers=True, kv_write=KvWrite.ROW, prefill=Prefill.CHUNK, stream_execution=False
        )

    @property
    def counters(self) -> Counters:
        return self._counters

    def memory(self) -> CardMemory:
        self.begin()
        return CardMemory(self._arena.size_bytes, self._arena.free_bytes)

    def load(self, path: Path) -> VirtualGraph:
        self.begin()
        try:
            size_bytes = path.stat().st_size
        except OSError as error:
            raise GraphRejected(f"{path}: {error.strerror}") from None
        if size_bytes == 0:
            raise GraphRejected(f"{path} is empty")
        address = self._take(size_bytes)
        try:
            graph = VirtualGraph(self, path, self._options.threads)
        except BaseException:
            self._arena.give_back(address)
            raise
        graph.address = address
        self._graphs.append(graph)
        self._counters.h2d_bytes += size_bytes
        self._counters.h2d_calls += 1
        self._take_time(size_bytes * self._timing.load_s_per_byte)
        self._tell()
        return graph

    def allocate(self, size_bytes: int) -> VirtualBuffer:
        self.begin()
        address = self._take(size_bytes)
        try:
            buffer = VirtualBuffer(self, address, size_bytes)
        except (OSError, MemoryError) as error:
            self._arena.give_back(address)
            raise OutOfCardMemory(f"the host has no {size_bytes} bytes for the card: {error}") from None
        self._buffers.add(buffer)
        self._tell()
        return buffer

    def execute(self, steps: Sequence[Step], *, timeout_s: float) -> None:
        self.begin()
        runs: list[_Runs] = []
        for step in steps:
            if not isinstance(step, VirtualStep) or not step.belongs_to(self):
                raise FeedMismatch("the step belongs to another card")
            runs.append(step)
        self._execute(runs, timeout_s)

    def run_once(self, run: OneShot, *, up: Sequence[int], down: Sequence[int], timeout_s: float) -> None:
        """``Graph.run``: everything up, one execution, everything down."""
        self.begin()
        for size_bytes in up:
            self.moved_up(size_bytes)
        self._execute([run], timeout_s)
        self._began_at = self._clock.steady()
        for size_bytes in down:
            self.moved_down(size_bytes)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watchdog.close()
        if self._lost is None:
            for graph in list(self._graphs):
                graph.close()
            for buffer in list(self._buffers):
                buffer.close()
            self._lost = f"{self._info.id} is closed"
        self._state.close()
        self._lock.close()

    # What buffers, graphs and steps tell their card.

    def begin(self) -> None:
        if self._lost is not None:
            raise CardLost(self._lost)
        if self._meter.look().fault is Fault.LOST:
            self._lose("the device left the bus")
            raise CardLost(self._lost)
        self._began_at = self._clock.steady()

    def moved_up(self, size_bytes: int) -> None:
        self._counters.h2d_bytes += size_bytes
        self._counters.h2d_calls += 1
        self._take_time(size_bytes * self._timing.bus_s_per_byte)

    def moved_down(self, size_bytes: int) -> None:
        self._counters.d2h_bytes += size_bytes
        self._counters.d2h_calls += 1
        self._take_time(size_bytes * self._timing.bus_s_per_byte)
        self._tell()

    def moved_within(self, size_bytes: int) -> None:
        self._counters.d2d_bytes += size_bytes
        self._counters.d2d_calls += 1

    def release(self, buffer: VirtualBuffer) -> None:
        self._buffers.discard(buffer)
        self._free(buffer.address)

    def unload(self, graph: VirtualGraph) -> None:
        if graph in self._graphs and graph.address is not None:
            self._graphs.remove(graph)
            self._free(graph.address)

    @property
    def is_torn(self) -> bool:
        return self._options.torn

    def tear(self, row: Bytes, dtype: np.dtype[Any]) -> None:
        """Fill a row that is about to be written with what a former row could have held.

        Finite, and small enough for an additive mask of -65536 to hide.
        """
        count = row.size // dtype.itemsize
        row[:] = (self._noise.standard_normal(count) * 4).astype(dtype).view(np.uint8)

    def _free(self, address: int) -> None:
        if self._lost is None:
            self._arena.give_back(address)
            self.frees += 1
            self._tell()

    def _take(self, size_bytes: int) -> int:
        if self._meter.orders.fault is Fault.OOM:
            raise OutOfCardMemory(f"{size_bytes} bytes do not fit: the fault 'oom' is set")
        return self._arena.take(size_bytes)

    def _execute(self, runs: Sequence[_Runs], timeout_s: float) -> None:
        began_at = self._clock.steady()
        if self._meter.orders.fault is Fault.HANG:
            self._pace.wait_until(began_at + timeout_s)
            self._time_out(timeout_s)
        self._watchdog.arm(timeout_s)
        try:
            for run in runs:
                run.execute(self._run_options)
                self._counters.executes += 1
        except GraphRejected:
            if not self._watchdog.fired:
                raise
        finally:
            self._watchdog.disarm()
        self._account(began_at, runs, timeout_s)

    def _account(self, began_at: float, runs: Sequence[_Runs], timeout_s: float) -> None:
        real_s = lasted_s = self._clock.steady() - began_at
        if self._timing.is_modelled:
            lasted_s = max(lasted_s, sum(self._timing.execute_s + run.modelled_s for run in runs))
        if self._meter.orders.fault is Fault.SLOW:
            lasted_s *= self._meter.orders.slow_factor
        if self._watchdog.fired or lasted_s > timeout_s:
            self._pace.wait_until(began_at + timeout_s)
            self._time_out(timeout_s)
        if lasted_s > real_s:
            self._pace.last(began_at, lasted_s)
        self._counters.busy_s += lasted_s
        self._tell(busy_s=lasted_s)

    def _time_out(self, timeout_s: float) -> NoReturn:
        self._counters.busy_s += timeout_s
        self._lose(f"no answer within {timeout_s:g} s")
        raise CardTimeout(f"{self._info.id}: no answer within {timeout_s:g} s")

    def _take_time(self, seconds: float) -> None:
        if self._timing.is_modelled:
            self._pace.last(self._began_at, seconds)

    def _lose(self, reason: str) -> None:
        self._lost = f"{self._info.id} is lost: {reason}"
        self._tell(is_lost=True)

    def _tell(self, *, busy_s: float = 0.0, is_lost: bool = False) -> None:
        self._meter.tell(self._counters, self._arena.used_bytes, busy_s=busy_s, is_lost=is_lost)

    def _stop_run(self) -> None:
        self._run_options.terminate = True
