"""The seam over the vendor's Python package ``axengine``: an AX650N that runs Hearth itself, or behind PCIe.

The package keeps nothing on the card between two runs: every input goes up and every output comes down, each
time. So buffers are memory of the host here, and ``traits`` says so. It is a way to run at all, not a fast
one. Its faults (0.1.3, seen in 2026) are met in this file and nowhere else; each place says which.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.util
import io
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hardware.base import Closing, behind
from hardware.binding import Place, checked_feeds, pair, same_names, same_size
from hardware.card import (
    NUMPY_DTYPES,
    Array,
    CardInfo,
    CardMemory,
    CardTraits,
    Counters,
    KvWrite,
    Mix,
    Prefill,
    ShapeGroup,
    Step,
    Tensors,
    TensorSpec,
    View,
)
from hardware.errors import CardLost, FeedMismatch, GraphRejected
from hardware.host_memory import HostBuffer
from hardware.lock import CardLock

log = logging.getLogger("hearth.card")

PACKAGE = "axengine"
ON_BOARD, BEHIND_PCIE = "AxEngineExecutionProvider", "AXCLRTExecutionProvider"
_BASE_ADDRESS = 0x1000_0000
_PAGE_BYTES = 4096
_MEMORY_BYTES = 7040 << 20
"""What is said of the card's memory: the package cannot tell."""
_NAMES = {dtype: name for name, dtype in NUMPY_DTYPES.items()}


def is_usable() -> bool:
    """Whether the package is installed. It is on no index: HEARTH_AXENGINE_WHEEL names its wheel."""
    return importlib.util.find_spec(PACKAGE) is not None


@lru_cache
def is_on_board() -> bool:
    """Whether this machine is an AX650N: it has the engine's own library. Looking costs three processes."""
    return ctypes.util.find_library("ax_engine") is not None


def axengine_info(index: int) -> CardInfo:
    return CardInfo(
        id=f"axengine-{index}",
        name="AX650N",
        index=index,
        bus_id="on board" if is_on_board() else "unknown",
        memory_bytes=_MEMORY_BYTES,
        firmware="axengine",
        is_virtual=False,
    )


class AxengineCard(Closing):
    """An AX650N through ``axengine``.

    Raises:
        CardBusy: another process of ours has opened it.
        CardLost: the package is not there, or finds no device; the message says what to do.
    """

    def __init__(self, directory: Path, info: CardInfo) -> None:
        self.info = info
        self.counters = Counters()
        self._lost: str | None = None
        self._next_address = _BASE_ADDRESS
        self._used_bytes = 0
        self._graphs: list[AxengineGraph] = []
        self._lock = CardLock(directory / f"{info.id}.lock", info.id)
        try:
            self._package = _import()
            self._provider = self._choose()
        except BaseException:
            self._lock.close()
            raise

    @property
    def traits(self) -> CardTraits:
        return CardTraits(
            resident_buffers=False,
            kv_write=KvWrite.COPY,
            # One set of buffers serves all shape groups in the package, which cards were seen to get wrong.
            prefill=Prefill.DECODE,
            stream_execution=False,
            mix=Mix.FREE if self._provider == ON_BOARD else Mix.RESTART,
        )

    def memory(self) -> CardMemory:
        self.begin()
        total_bytes = self.info.memory_bytes
        return CardMemory(total_bytes, max(0, total_bytes - self._used_bytes))

    def load(self, path: Path) -> AxengineGraph:
        self.begin()
        try:
            size_bytes = path.stat().st_size
        except OSError as error:
            raise GraphRejected(f"{path}: {error.strerror}") from None
        if size_bytes == 0:
            raise GraphRejected(f"{path} is empty")
        graph = AxengineGraph(self, path, self._session(path), size_bytes)
        self._graphs.append(graph)
        self._used_bytes += size_bytes
        return graph

    def allocate(self, size_bytes: int) -> HostBuffer:
        self.begin()
        buffer = HostBuffer(self, self._next_address, size_bytes)
        self._next_address += -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES
        return buffer

    def execute(self, steps: Sequence[Step], *, timeout_s: float) -> None:
        """See ``Card``. A run cannot be given up."""
        self.begin()
        for step in steps:
            if not isinstance(step, AxengineStep) or not step.belongs_to(self):
                raise FeedMismatch("the step belongs to another card")
            step.execute()

    def close(self) -> None:
        if self._lost is None:
            for graph in reversed(self._graphs.copy()):
                graph.close()
            self._lost = f"{self.info.id} is closed"
        self._lock.close()

    def begin(self) -> None:
        if self._lost is not None:
            raise CardLost(self._lost)

    def lose(self, error: Exception) -> NoReturn:
        """A run that failed says nothing of what it left behind: the card counts as lost."""
        self._lost = f"{self.info.id} is lost: {_words(error)}"
        raise CardLost(self._lost) from None

    def release(self, buffer: HostBuffer) -> None:
        """Its memory is the host's, and goes by itself."""

    def unload(self, graph: AxengineGraph, session: Any) -> None:
        if graph in self._graphs:
            self._graphs.remove(graph)
            self._used_bytes -= graph.size_bytes
            if self._lost is None:
                _release(session)

    def _choose(self) -> str:
        available = list(self._package.get_available_providers())
        for provider in (ON_BOARD, BEHIND_PCIE) if is_on_board() else (BEHIND_PCIE, ON_BOARD):
            if provider in available:
                return provider
        raise CardLost(f"axengine finds no device it could run on; it knows {available}")

    def _session(self, path: Path) -> Any:
        with _quiet():
            try:
                # The device's number is ignored beside its provider in a tuple; a Path has no encode, so the
                # path must be a str; and a list must be a list.
                return self._package.InferenceSession(
                    str(path), providers=[self._provider], provider_options=[{"device_id": self.info.index}]
                )
            except (RuntimeError, ValueError, AttributeError, OSError) as error:
                # AttributeError: what it says when the engine cannot be started a second time.
                raise GraphRejected(f"{path}: axengine refuses it: {_words(error)}") from None


class AxengineGraph:
    """One session of the package."""

    def __init__(self, card: AxengineCard, path: Path, session: Any, size_bytes: int) -> None:
        self._card = card
        self.path = path
        self.size_bytes = size_bytes
        self._session: Any = session
        self._groups = tuple(_groups(session, path))

    @property
    def groups(self) -> Sequence[ShapeGroup]:
        return self._groups

    def run(self, feeds: Tensors, *, group: int = 0, timeout_s: float) -> Tensors:
        return self.run_group(group, checked_feeds(self._group(group), feeds))

    def bind(self, group: int, inputs: Mapping[str, View], outputs: Mapping[str, View]) -> AxengineStep:
        return AxengineStep(self._card, self, self._group(group), inputs, outputs)

    def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            self._card.unload(self, session)

    def run_group(self, group: int, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Everything up, one run, everything down; counted as what crosses the bus."""
        declared = self._group(group)
        began_s = time.perf_counter()
        with _quiet():
            try:
                # A list of output names other than None is answered wrongly. Arrays go up as they lie in
                # memory, whatever their strides, so they must be C-contiguous; shapes are checked by assert,
                # that is, not at all under -O.
                made = self._session.run(None, dict(feeds), shape_group=group)
            except Exception as error:  # whatever it was, nobody knows what the device did
                self._card.lose(error)
        self._count(feeds.values(), made)
        self._card.counters.busy_s += time.perf_counter() - began_s
        # It names outputs by the first group; their order is that of the declaration.
        return {
            spec.name: np.asarray(array).view(spec.numpy_dtype).reshape(spec.shape)
            for spec, array in zip(declared.outputs, made, strict=True)
        }

    def _count(self, up: Any, down: Sequence[Array]) -> None:
        counters = self._card.counters
        for array in up:
            counters.h2d_bytes += array.nbytes
            counters.h2d_calls += 1
        for array in down:
            counters.d2h_bytes += array.nbytes
            counters.d2h_calls += 1
        counters.executes += 1

    def _group(self, group: int) -> ShapeGroup:
        self._card.begin()
        if self._session is None:
            raise FeedMismatch(f"{self.path.name} is closed")
        if not 0 <= group < len(self._groups):
            raise FeedMismatch(f"{self.path.name} has groups 0 to {len(self._groups) - 1}, not {group}")
        return self._groups[group]


class _Bound(Place):
    """A tensor of a step, and the buffer that stands for card memory."""

    __slots__ = ("buffer", "offset_bytes")

    buffer: HostBuffer
    offset_bytes: int


class AxengineStep:
    """One group of one graph with every tensor bound to memory of the host."""

    def __init__(
        self,
        card: AxengineCard,
        graph: AxengineGraph,
        group: ShapeGroup,
        inputs: Mapping[str, View],
        outputs: Mapping[str, View],
    ) -> None:
        self._card, self._graph, self._group = card, graph, group
        same_names(inputs, [spec.name for spec in group.inputs], f"inputs of group {group.index}")
        same_names(outputs, [spec.name for spec in group.outputs], f"outputs of group {group.index}")
        self._places = {
            spec.name: _Bound(spec, is_output=is_output)
            for side, is_output in ((group.inputs, False), (group.outputs, True))
            for spec in side
        }
        pair(self._places.values(), group.index)
        for name, place in self._places.items():
            self._stand(place, (outputs if place.is_output else inputs)[name])
        self._check()

    def rebind(self, name: str, view: View) -> None:
        self._card.begin()
        place = self._places.get(name)
        if place is None:
            raise FeedMismatch(f"the step has no tensor {name!r}; it has {sorted(self._places)}")
        before = View(place.buffer, place.offset_bytes, place.stop - place.start)
        self._stand(place, view)
        try:
            self._check()
        except FeedMismatch:
            self._stand(place, before)
            raise

    def execute(self) -> None:
        feeds = {
            spec.name: _window(self._places[spec.name]).view(spec.numpy_dtype).reshape(spec.shape)
            for spec in self._group.inputs
        }
        for name, array in self._graph.run_group(self._group.index, feeds).items():
            _window(self._places[name])[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def belongs_to(self, card: AxengineCard) -> bool:
        return self._card is card

    def _stand(self, place: _Bound, view: View) -> None:
        same_size(place, view.size_bytes)
        place.buffer, place.offset_bytes = behind(view, self._card, HostBuffer), view.offset_bytes
        place.start = place.buffer.address + view.offset_bytes
        place.stop = place.start + view.size_bytes

    def _check(self) -> None:
        for place in self._places.values():
            if place.is_output:
                place.check(self._places.values())


def _window(place: _Bound) -> NDArray[np.uint8]:
    return place.buffer.window(place.offset_bytes, place.stop - place.start)


def _groups(session: Any, path: Path) -> Iterator[ShapeGroup]:
    """The package does not say how many there are, and its bound is off by one: the end is an IndexError."""
    index = 0
    while True:
        try:
            inputs, outputs = session.get_inputs(index), session.get_outputs(index)
        except IndexError:
            return
        yield ShapeGroup(index, _specs(inputs, path), _specs(outputs, path))
        index += 1


def _specs(arguments: Sequence[Any], path: Path) -> tuple[TensorSpec, ...]:
    specs = []
    for argument in arguments:
        name = _NAMES.get(np.dtype(argument.dtype))
        if name is None:
            raise GraphRejected(f"{path}: {argument.name} has elements of type {argument.dtype}")
        specs.append(TensorSpec(str(argument.name), name, tuple(int(size) for size in argument.shape)))
    return tuple(specs)


def _release(session: Any) -> None:
    """The package keeps every session alive until the process ends, and with it the card's memory.

    It has no way to close one, so its own list is cleaned up by name (at which the session's destructor
    complains on stderr, harmlessly); where that has changed, the memory stays taken, and the log says so.
    """
    inner = getattr(session, "_sess", None)
    module = importlib.import_module(type(inner).__module__) if inner is not None else None
    instances = getattr(module, "_all_model_instances", None)
    try:
        inner._unload()  # type: ignore[union-attr]
        if instances is not None and inner in instances:
            instances.remove(inner)
    except (AttributeError, RuntimeError) as error:
        log.warning("axengine cannot give a model back before the process ends: %s", error)


def _import() -> Any:
    with _quiet():
        try:
            return importlib.import_module(PACKAGE)
        except ImportError as error:
            raise CardLost(
                f"the vendor's Python package axengine cannot be used ({error}); it is on no index: set "
                "HEARTH_AXENGINE_WHEEL to its wheel, and install the card's driver package"
            ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The package prints to stdout, which belongs to programs that read us."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            yield
    finally:
        for line in told.getvalue().splitlines():
            log.debug("axengine: %s", line)


def _words(error: Exception) -> str:
    text = str(error)
    # It prints return codes as signed numbers: 0x-7fcff8f4 for 0x8030070c.
    before, mark, number = text.partition("0x-")
    if mark:
        digits = number[:8]
        try:
            return f"{before}{-int(digits, 16) & 0xFFFFFFFF:#010x}{number[8:]}"
        except ValueError:
            return text
    return text or type(error).__name__
