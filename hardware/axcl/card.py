"""The card behind PCIe: the seam of ``hardware.card`` over libaxcl_rt.so."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from config.groups import AxclSettings
from hardware.axcl.abi import NORMAL_PAGES
from hardware.axcl.codes import Doing, error_of
from hardware.axcl.graph import AxclGraph, AxclStep, Loaded
from hardware.axcl.library import Library, ffi
from hardware.axcl.memory import AxclBuffer, Bus
from hardware.axcl.session import Session, finish_calls_before_leaving
from hardware.base import Bytes, Closing
from hardware.card import (
    Array,
    CardInfo,
    CardMemory,
    CardTraits,
    Counters,
    KvWrite,
    Mix,
    Prefill,
    Step,
)
from hardware.errors import (
    CardLost,
    CardTimeout,
    FeedMismatch,
    GraphRejected,
    HardwareError,
    OutOfCardMemory,
)
from hardware.lock import CardLock

log = logging.getLogger("hearth.card")

MIB = 1 << 20
PAGE_BYTES = 4096
"""The granularity of CMM blocks."""
SYSTEM_BYTES = 20 * MIB
"""CMM that the card's own processes hold at rest: 18 MiB on an LLM-8850 with SDK V3.6.3."""
_STREAM_FUNCTIONS = (
    "axclrtCreateStream",
    "axclrtDestroyStream",
    "axclrtSynchronizeStreamWithTimeout",
    "axclrtEngineExecuteAsync",
)


def lock_path(directory: Path, info: CardInfo) -> Path:
    """The file whose flock says who owns the card."""
    return directory / f"{info.id}.lock"


def device_path(directory: Path, info: CardInfo) -> Path:
    """The file that remembers what the runtime calls the card: a card that is lost is in no list."""
    return directory / f"{info.id}.device"


class AxclCard(Closing):
    """An opened card. ``directory`` holds its lock, and the runtime's configuration and log; a load that
    leaves less than ``margin_bytes`` free is taken back.

    Its memory is kept account of here, not asked for: what could tell it runs shell commands on the card. All
    calls come from the thread that opened it.

    Raises:
        CardBusy: another process of ours has opened it.
        CardLost: it cannot be opened; the message says why and what to do.
    """

    def __init__(
        self, directory: Path, options: AxclSettings, info: CardInfo, *, margin_bytes: int = 0
    ) -> None:
        self._options = options
        self._margin_bytes = margin_bytes
        self._thread = threading.get_ident()
        self._lost: str | None = None
        self._closed = False
        self._graphs: list[AxclGraph] = []
        self._buffers: dict[int, AxclBuffer] = {}
        self._used_bytes = SYSTEM_BYTES
        self._stream = 0
        self.counters = Counters()
        self.frees = 0
        self._lock = CardLock(lock_path(directory, info), info.id)
        try:
            self.library = Library(options.library)
            self.functions: Any = self.library.functions
            finish_calls_before_leaving()
            self._session = Session(self.library, options, info.index, directory)
        except BaseException:
            self._lock.close()
            raise
        atexit.register(self.close)
        try:
            self.info = self._described(info)
            device_path(directory, info).write_text(f"{self._session.device}\n")
            self._bus = Bus(self)
            self._is_streaming = options.execute == "stream" and self._open_stream()
            self._compare_staging()
        except BaseException:
            self.close()
            raise

    @property
    def traits(self) -> CardTraits:
        return CardTraits(
            resident_buffers=True,
            kv_write=KvWrite.COPY,
            prefill=Prefill.DECODE,
            stream_execution=self._is_streaming,
            mix=Mix(self._options.mix),
            post_first=self._options.post_first,
        )

    def memory(self) -> CardMemory:
        self.begin()
        total_bytes = self.info.memory_bytes
        return CardMemory(total_bytes, max(0, total_bytes - self._used_bytes))

    def load(self, path: Path) -> AxclGraph:
        self.begin()
        size_bytes = _size_of(path)
        free_bytes = self.memory().free_bytes
        if size_bytes > free_bytes:
            raise OutOfCardMemory(f"{path.name} has {size_bytes} bytes, the card has {free_bytes} free")
        with ExitStack() as undo:
            model = ffi.new("uint64_t *")
            result = self.functions.axclrtEngineLoadFromFile(str(path).encode(), model)
            if result:
                self._refuse(path, size_bytes, result)
            undo.callback(self._unload, int(model[0]))
            graph = self._graph(path, int(model[0]), size_bytes, undo)
            undo.pop_all()
        self._graphs.append(graph)
        self._used_bytes += graph.size_bytes
        self.counters.h2d_bytes += size_bytes
        self.counters.h2d_calls += 1
        left_bytes = self.memory().free_bytes
        if left_bytes < self._margin_bytes:
            graph.close()
            raise OutOfCardMemory(
                f"with {path.name} the card has {left_bytes // MIB} MiB left, less than the margin of "
                f"{self._margin_bytes // MIB} MiB"
            )
        return graph

    def allocate(self, size_bytes: int) -> AxclBuffer:
        self.begin()
        if size_bytes < 1:
            raise ValueError(f"{size_bytes} bytes cannot be allocated")
        free_bytes = self.memory().free_bytes
        if size_bytes > free_bytes:
            raise OutOfCardMemory(f"{size_bytes} bytes do not fit: {free_bytes} are free")
        address = ffi.new("uintptr_t *")
        result = self.functions.axclrtMalloc(address, size_bytes, NORMAL_PAGES)
        self.check("axclrtMalloc", result, Doing.ALLOCATING)
        buffer = AxclBuffer(self, int(address[0]), size_bytes)
        self._buffers[buffer.address] = buffer
        self._used_bytes += _pages(size_bytes)
        try:
            self._bus.zero(buffer.address, size_bytes, self._options.zero)
        except CardLost as error:
            self._lose(str(error))
        return buffer

    def execute(self, steps: Sequence[Step], *, timeout_s: float) -> None:
        """See ``Card``. An execution that is not on a stream cannot be given up: one that ends too late has
        still ended, and only the monitor, who looks from outside, sees one that never does."""
        self.begin()
        ours: list[AxclStep] = []
        for step in steps:
            if not isinstance(step, AxclStep) or not step.belongs_to(self):
                raise FeedMismatch("the step belongs to another card")
            step.ready()
            ours.append(step)
        began_s = time.perf_counter()
        if self._is_streaming and len(ours) > 1:
            self._run_on_stream(ours, timeout_s)
        else:
            execute = self.functions.axclrtEngineExecute
            for step in ours:
                result = execute(step.model, step.context, step.group, step.io)
                if result:
                    self.check("axclrtEngineExecute", result, Doing.EXECUTING)
        lasted_s = time.perf_counter() - began_s
        self.counters.executes += len(ours)
        self.counters.busy_s += lasted_s
        if lasted_s > timeout_s:
            log.warning("%s took %.1f s for what should take at most %.1f", self.info.id, lasted_s, timeout_s)

    def stream(self, on: bool) -> None:
        """Run lists of steps on the stream from now on, or one by one. Without a stream nothing changes."""
        self._is_streaming = on and self._stream != 0

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self._lost is None:
            self._give_back()
            self._lost = f"{self.info.id} is closed"
        self._session.forget()
        self._lock.close()

    # What buffers, graphs and steps tell their card.

    def begin(self) -> None:
        """What every call starts with. Raises CardLost when the card is poisoned."""
        if self._lost is not None:
            raise CardLost(self._lost)
        if threading.get_ident() != self._thread:
            raise FeedMismatch(f"{self.info.id} is used from another thread than the one that opened it")
        self._session.speak()

    def _is_there(self) -> bool:
        """Whether things may be given back: nothing is, to a lost card."""
        if self._lost is not None:
            return False
        self._session.speak()
        return True

    def check(self, function: str, result: int, doing: Doing) -> None:
        """Raises what ``result`` stands for, if it is a failure; a lost card is poisoned."""
        if not result:
            return
        error = error_of(function, result, doing)
        if isinstance(error, (CardLost, CardTimeout)):
            self._poison(str(error))
        raise error

    def copied(self, function: str, result: int) -> None:
        if result:
            self.check(function, result, Doing.COPYING)

    def send(self, address: int, source: Bytes) -> None:
        self.begin()
        self._bus.up(address, source)

    def fetch(self, target: Array, address: int) -> None:
        self.begin()
        self._bus.down(target, address)

    def copy(self, to: int, source: int, size_bytes: int) -> None:
        self.begin()
        self._bus.within(to, source, size_bytes)

    def release(self, buffer: AxclBuffer) -> None:
        self.frees += 1
        self._buffers.pop(buffer.address, None)
        if self._is_there():
            self._used_bytes -= _pages(buffer.size_bytes)
            self.check("axclrtFree", self.functions.axclrtFree(buffer.address), Doing.CLOSING)

    def unload(self, graph: AxclGraph, loaded: Loaded) -> None:
        if graph in self._graphs:
            self._graphs.remove(graph)
            self._used_bytes -= graph.size_bytes
        if self._is_there():
            self._destroy_info(loaded.info)
            self._unload(loaded.model)

    def destroy_io(self, io: int) -> None:
        if self._is_there():
            self.check("axclrtEngineDestroyIO", self.functions.axclrtEngineDestroyIO(io), Doing.CLOSING)

    def _described(self, info: CardInfo) -> CardInfo:
        """``info`` with what only the opened runtime knows."""
        library = self.library
        name = library.text("axclrtGetSocName") or info.name
        if library.is_simulated:
            name += " (simulated)"
            log.warning("%s is SIMULATED: its library is made of software", info.id)
        log.info("%s: device %d, SDK %s, %s", info.id, self._session.device, library.version(), library.path)
        return CardInfo(
            info.id, name, info.index, info.bus_id, info.memory_bytes, library.version(), is_virtual=False
        )

    def _graph(self, path: Path, model: int, size_bytes: int, undo: ExitStack) -> AxclGraph:
        library = self.library
        context = library.number("axclrtEngineCreateContext", "uint64_t", model, doing=Doing.LOADING)
        info = library.number("axclrtEngineGetIOInfo", "uintptr_t", model, doing=Doing.LOADING)
        undo.callback(self._destroy_info, info)
        return AxclGraph(self, path, Loaded(model, context, info), max(size_bytes, self._usage(model)))

    def _usage(self, model: int) -> int:
        """CMM that a loaded model takes, where the runtime can tell. Asked by path it would load it again."""
        if not self.library.has("axclrtEngineGetUsageFromModelId"):
            return 0
        system, cmm = ffi.new("int64_t *"), ffi.new("int64_t *")
        result = self.functions.axclrtEngineGetUsageFromModelId(model, system, cmm)
        return 0 if result else int(cmm[0])

    def _refuse(self, path: Path, size_bytes: int, result: int) -> NoReturn:
        """The file was not taken. A full memory and a file that is none look alike: try the memory."""
        error = error_of("axclrtEngineLoadFromFile", result, Doing.LOADING)
        if not isinstance(error, GraphRejected):
            self._lose(str(error))
        try:
            if self._session.device not in self.library.devices():
                self._lose(f"{error}, and the card is gone")
        except HardwareError as gone:
            self._lose(f"{error}; then {gone}")
        if self._has_room(size_bytes):
            raise GraphRejected(f"{path}: {error}")
        raise OutOfCardMemory(f"{path.name}: {error}; and {size_bytes} bytes cannot be allocated")

    def _has_room(self, size_bytes: int) -> bool:
        address = ffi.new("uintptr_t *")
        if self.functions.axclrtMalloc(address, size_bytes, NORMAL_PAGES):
            return False
        self.check("axclrtFree", self.functions.axclrtFree(int(address[0])), Doing.CLOSING)
        return True

    def _unload(self, model: int) -> None:
        self.check("axclrtEngineUnload", self.functions.axclrtEngineUnload(model), Doing.CLOSING)

    def _destroy_info(self, info: int) -> None:
        if self.library.has("axclrtEngineDestroyIOInfo"):
            self.check(
                "axclrtEngineDestroyIOInfo", self.functions.axclrtEngineDestroyIOInfo(info), Doing.CLOSING
            )

    def _open_stream(self) -> bool:
        missing = [name for name in _STREAM_FUNCTIONS if not self.library.has(name)]
        if missing:
            log.warning("steps run one by one: this runtime has no %s", missing[0])
            return False
        self._stream = self.library.number("axclrtCreateStream", "uintptr_t", doing=Doing.OPENING)
        return True

    def _run_on_stream(self, steps: Sequence[AxclStep], timeout_s: float) -> None:
        execute = self.functions.axclrtEngineExecuteAsync
        for step in steps:
            result = execute(step.model, step.context, step.group, step.io, self._stream)
            if result:
                self.check("axclrtEngineExecuteAsync", result, Doing.EXECUTING)
        result = self.functions.axclrtSynchronizeStreamWithTimeout(self._stream, int(timeout_s * 1000))
        self.check("axclrtSynchronizeStreamWithTimeout", result, Doing.EXECUTING)

    def _compare_staging(self) -> None:
        """Say once what a small transfer costs: on a real card this is news."""
        buffer = self.allocate(PAGE_BYTES * 2)
        staged_s, fresh_s = self._bus.compare_staging(buffer.address)
        buffer.close()
        log.info(
            "5 KB up: %.0f µs from the staging block, %.0f µs from fresh memory",
            staged_s * 1e6,
            fresh_s * 1e6,
        )

    def _give_back(self) -> None:
        """Graphs, buffers, stream, engine, device, runtime. A card that is lost at that is left alone."""
        try:
            self._session.speak()
            for graph in reversed(self._graphs.copy()):
                graph.close()
            for buffer in list(self._buffers.values()):
                buffer.close()
            if self._stream:
                self.library.call("axclrtDestroyStream", self._stream, doing=Doing.CLOSING)
        except HardwareError as error:
            log.warning("%s could not be emptied: %s", self.info.id, error)
        if self._lost is None:
            self._session.close()

    def _poison(self, reason: str) -> None:
        self._lost = f"{self.info.id} is lost: {reason}"
        log.error("%s", self._lost)

    def _lose(self, reason: str) -> NoReturn:
        self._poison(reason)
        raise CardLost(self._lost)


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def _size_of(path: Path) -> int:
    """Raises GraphRejected when there is nothing to load."""
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise GraphRejected(f"{path}: {error.strerror}") from None
    if size_bytes == 0:
        raise GraphRejected(f"{path} is empty")
    return size_bytes
