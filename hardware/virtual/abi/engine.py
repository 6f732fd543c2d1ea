"""The engine of a simulated device: models, their IO handles, and executing a shape group of one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.binding import CACHE_INPUTS, base_name
from hardware.card import ShapeGroup, TensorSpec
from hardware.errors import GraphRejected
from hardware.virtual.abi.codes import EXECUTE_FAIL, ILLEGAL_PARAM, INVALID_INDEX, OPEN, Fail, Misuse, Part
from hardware.virtual.abi.device import Device
from hardware.virtual.abi.options import Mode, Quirk
from hardware.virtual.format import read_groups
from hardware.virtual.graph import bind
from hardware.virtual.session import Feed, open_session, resolve_groups

_SMALL_CHUNK = 64
_NOTHING: NDArray[np.uint8] = np.zeros(0, np.uint8)
Place = tuple[int, int]
"""Address and bytes of a bound buffer."""


class Model:
    """A graph on a device. Its file's size stands for what it takes of the device's memory."""

    def __init__(self, device: Device, path: Path) -> None:
        self.device = device
        self.path = path
        try:
            self.size_bytes = path.stat().st_size
        except OSError as error:
            raise Fail(Part.ENGINE, OPEN, f"{path}: {error.strerror}") from None
        self.address = device.allocate(max(1, self.size_bytes), Part.ENGINE)
        try:
            self._file = read_groups(path)
            self.session: Any = open_session(path, device.options.threads)
            self.feeds = resolve_groups(path, self._file, self.session)
        except GraphRejected as error:
            device.free(self.address)
            raise Fail(Part.ENGINE, EXECUTE_FAIL, str(error)) from None
        device.counters.h2d_bytes += self.size_bytes
        device.counters.h2d_calls += 1
        device.take_time(self.size_bytes * device.timing.load_s_per_byte)
        self.contexts: set[int] = set()

    @property
    def groups(self) -> int:
        return len(self.feeds)

    @property
    def is_language_model(self) -> bool:
        """A layer by its cache, the last graph by its plain names; what else there is came from ONNX."""
        names = {spec.name for spec in (*self.inputs(0), *self.outputs(0))}
        return CACHE_INPUTS[0] in names or names == {"input", "output"}

    def inputs(self, group: int) -> Sequence[TensorSpec]:
        return self._group(group).inputs

    def outputs(self, group: int) -> Sequence[TensorSpec]:
        return self._group(group).outputs

    def step_s(self, group: int) -> float:
        return self._file.step_ms[group] / 1000

    def _group(self, group: int) -> ShapeGroup:
        if not 0 <= group < len(self._file.groups):
            raise Misuse(Part.ENGINE, INVALID_INDEX, f"{self.path.name} has no shape group {group}")
        return self._file.groups[group]

    def unload(self) -> None:
        self.session = None
        self.device.free(self.address)


class Io:
    """Buffers for all tensors of a model, and how they were last given to onnxruntime, by shape group."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.inputs: list[Place | None] = [None] * len(model.inputs(0))
        self.outputs: list[Place | None] = [None] * len(model.outputs(0))
        self.version = 0
        self._plans: dict[int, _Plan] = {}
        self._first_group: int | None = None

    def place(self, places: list[Place | None], index: int, address: int, size_bytes: int) -> None:
        """Bind a buffer. Raises Misuse where it is no piece of the device's memory."""
        if not 0 <= index < len(places):
            raise Misuse(Part.ENGINE, INVALID_INDEX, f"there is no tensor {index}")
        self.model.device.start_of(address, size_bytes)
        places[index] = (address, size_bytes)
        self.version += 1

    def execute(self, group: int) -> None:
        """Run the group with what is bound now. Raises Fail."""
        model, device = self.model, self.model.device
        if not 0 <= group < model.groups:
            raise Misuse(Part.ENGINE, INVALID_INDEX, f"{model.path.name} has no shape group {group}")
        quirks = device.options.quirks
        if self._first_group is None:
            self._first_group = group
        if Quirk.GROUP_SHARES_IO_STALE in quirks and group != self._first_group:
            return
        began_s = device.now_s()
        plan = self._plans.get(group)
        if plan is None:
            plan = self._plans[group] = _Plan(model, group)
        plan.renew(self)
        runs_s = device.now_s()
        plan.run()
        device.worked(began_s, device.now_s() - runs_s, model.step_s(group))


class _Plan:
    """One shape group as onnxruntime runs it. A row within its own cache goes to scratch memory first."""

    def __init__(self, model: Model, group: int) -> None:
        self._model = model
        self._device = model.device
        self._feeds = model.feeds[group]
        self._sizes = [feed.spec.size_bytes for feed in self._feeds]
        self._outputs = [at for at, feed in enumerate(self._feeds) if feed.is_output]
        self._binding = model.session.io_binding()
        self._bound: list[int] = [0] * len(self._feeds)
        self._addresses: list[int] = [0] * len(self._feeds)
        self._seen = (-1, -1)
        self._rows: dict[int, NDArray[np.uint8]] = {}
        self._scratch: dict[int, NDArray[np.uint8]] = {}
        inputs = {base_name(f.spec.name, group): at for at, f in enumerate(self._feeds) if not f.is_output}
        names = {at: base_name(self._feeds[at].spec.name, group).removesuffix("_out") for at in self._outputs}
        self._partners = {at: inputs.get(name) for at, name in names.items() if name in CACHE_INPUTS}
        self._never_written = set(_never_written(self._feeds, model.device.options.quirks))

    def renew(self, io: Io) -> None:
        """Give onnxruntime what changed since the last run. Raises Misuse."""
        seen = (io.version, self._device.frees)
        if seen == self._seen:
            return
        addresses = [self._checked(at, place) for at, place in enumerate([*io.inputs, *io.outputs])]
        changed = [at for at, address in enumerate(addresses) if address != self._addresses[at]]
        self._addresses = addresses
        if any(not self._feeds[at].is_output for at in changed):
            changed = sorted({*changed, *self._outputs})
        try:
            for at in changed:
                self._attach(at)
        except Misuse:
            self._seen, self._addresses = (-1, -1), [0] * len(self._feeds)
            raise
        self._seen = seen

    def run(self) -> None:
        if self._device.options.torn:
            for at, row in self._rows.items():
                _tear(row, self._feeds[at].spec.numpy_dtype)
        try:
            self._model.session.run_with_iobinding(self._binding, None)
        except Exception as error:  # one class per status, all bare Exceptions
            raise Fail(Part.ENGINE, EXECUTE_FAIL, f"{self._model.path}: {error}") from None
        for at, row in self._rows.items():
            row[:] = self._scratch[at]

    def _checked(self, at: int, place: Place | None) -> int:
        """The address the tensor is bound to. Raises Misuse."""
        needed = self._sizes[at]
        if place is None:
            raise Misuse(Part.ENGINE, ILLEGAL_PARAM, f"{self._feeds[at].spec.name} is not bound")
        address, size_bytes = place
        is_strict = self._device.options.mode is not Mode.PLAIN
        if size_bytes < needed or (is_strict and size_bytes != needed):
            name = self._feeds[at].spec.name
            raise Misuse(Part.ENGINE, ILLEGAL_PARAM, f"{name} takes {needed} bytes, {size_bytes} are bound")
        self._device.start_of(address, needed)
        return address

    def _attach(self, at: int) -> None:
        feed, address, quirks = self._feeds[at], self._addresses[at], self._device.options.quirks
        is_lost = at in self._never_written
        if Quirk.OFFSET_BIND_STALE in quirks:
            start = self._device.start_of(address, self._sizes[at])
            is_lost, address = is_lost or address != start, start
        if not feed.is_output:
            self._bind(at, self._device.pointer(address))
            return
        self._rows.pop(at, None)
        is_row = self._is_row(at)
        is_lost = is_lost or (is_row and Quirk.ROW_IGNORED in quirks)
        if not is_row and not is_lost:
            self._bind(at, self._device.pointer(address))
            return
        if at not in self._scratch:
            self._scratch[at] = np.zeros(self._sizes[at], np.uint8)
        self._bind(at, int(self._scratch[at].ctypes.data))
        if not is_lost:
            self._rows[at] = _bytes_at(self._device.pointer(address), self._sizes[at])

    def _bind(self, at: int, pointer: int) -> None:
        if self._bound[at] != pointer:
            bind(self._binding, self._feeds[at], pointer)
            self._bound[at] = pointer

    def _is_row(self, at: int) -> bool:
        """Whether an output lies within its own cache. Raises Misuse when it overlaps anything else."""
        start, partner = self._addresses[at], self._partners.get(at)
        stop = start + self._sizes[at]
        is_row = False
        for other, (address, size_bytes) in enumerate(zip(self._addresses, self._sizes, strict=True)):
            end = address + size_bytes
            if start >= end or address >= stop or other == at:
                continue
            if other != partner or start < address or stop > end:
                names = self._feeds[at].spec.name, self._feeds[other].spec.name
                raise Misuse(Part.ENGINE, ILLEGAL_PARAM, f"{names[0]} overlaps {names[1]}")
            is_row = True
        return is_row


def _never_written(feeds: Sequence[Feed], quirks: frozenset[Quirk]) -> Iterator[int]:
    """The outputs that a card with the quirk leaves as they were."""
    if Quirk.SMALL_CHUNK_STALE not in quirks:
        return
    for at, feed in enumerate(feeds):
        tokens = feed.spec.shape[1] if len(feed.spec.shape) == 3 else 1
        if feed.is_output and feed.spec.name.startswith("output") and 1 < tokens < _SMALL_CHUNK:
            yield at


def _bytes_at(pointer: int, size_bytes: int) -> NDArray[np.uint8]:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(pointer))


_noise = np.random.default_rng(8850)


def _tear(row: NDArray[np.uint8], dtype: np.dtype[Any]) -> None:
    """Fill a row that is about to be written with what a former row could have held."""
    count = row.size // dtype.itemsize
    row[:] = (_noise.standard_normal(count) * 4).astype(dtype).view(np.uint8)
