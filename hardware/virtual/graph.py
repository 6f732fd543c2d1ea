"""Graphs on the virtual card and their steps: every tensor bound, checked once, run as often as wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hardware.base import Bytes, behind
from hardware.binding import Place, checked_feeds, pair, same_names, same_size
from hardware.card import Array, ShapeGroup, Tensors, View
from hardware.errors import FeedMismatch, GraphRejected
from hardware.virtual.format import read_groups
from hardware.virtual.memory import VirtualBuffer
from hardware.virtual.session import Feed, Feeds, open_session, resolve_groups

if TYPE_CHECKING:
    from hardware.virtual.card import VirtualCard


class VirtualGraph:
    """One ONNX file on the card. Its weights stand once, however many shape groups it declares."""

    def __init__(self, card: VirtualCard, path: Path, threads: int) -> None:
        self._card = card
        self._path = path
        self._file = read_groups(path)
        self._session: Any = open_session(path, threads)
        self._feeds = resolve_groups(path, self._file, self._session)
        self._bindings: dict[int, Any] = {}
        self.address: int | None = None

    @property
    def groups(self) -> Sequence[ShapeGroup]:
        return self._file.groups

    @property
    def is_open(self) -> bool:
        return self._session is not None

    def step_s(self, group: int) -> float:
        """How long one execution takes on the modelled card, beyond the call itself."""
        return self._file.step_ms[group] / 1000

    def run(self, feeds: Tensors, *, group: int = 0, timeout_s: float) -> Tensors:
        self._card.begin()
        declared = self._group(group)
        arrays = checked_feeds(self.groups[group], feeds)
        results: dict[str, Array] = {}
        binding = self._session.io_binding()
        for feed in declared:
            if feed.is_output:
                array = results[feed.spec.name] = np.empty(feed.spec.shape, feed.spec.numpy_dtype)
            else:
                array = arrays[feed.spec.name]
            bind(binding, feed, array.ctypes.data)
        self._card.run_once(
            OneShot(self, group, binding),
            up=[array.nbytes for array in arrays.values()],
            down=[array.nbytes for array in results.values()],
            timeout_s=timeout_s,
        )
        return results

    def bind(self, group: int, inputs: Mapping[str, View], outputs: Mapping[str, View]) -> VirtualStep:
        self._card.begin()
        declared = self._group(group)
        same_names(inputs, [f.spec.name for f in declared if not f.is_output], f"inputs of group {group}")
        same_names(outputs, [f.spec.name for f in declared if f.is_output], f"outputs of group {group}")
        views = [(outputs if feed.is_output else inputs)[feed.spec.name] for feed in declared]
        return VirtualStep(self._card, self, group, declared, views)

    def close(self) -> None:
        if self._session is not None:
            self._session = None
            self._card.unload(self)

    def new_binding(self) -> Any:
        return self._session.io_binding()

    def execute(self, binding: Any, options: Any) -> None:
        """Raises GraphRejected when the graph contradicts the shapes it declares."""
        if self._session is None:
            raise FeedMismatch(f"{self._path.name} is closed")
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:  # one class per status, all bare Exceptions
            raise GraphRejected(f"{self._path}: {error}") from None

    def _group(self, group: int) -> Feeds:
        if self._session is None:
            raise FeedMismatch(f"{self._path.name} is closed")
        if not 0 <= group < len(self._feeds):
            raise FeedMismatch(f"{self._path.name} has groups 0 to {len(self._feeds) - 1}, not {group}")
        return self._feeds[group]


class OneShot:
    """A single execution with host arrays, for ``Graph.run``."""

    def __init__(self, graph: VirtualGraph, group: int, binding: Any) -> None:
        self._graph = graph
        self._binding = binding
        self.modelled_s = graph.step_s(group)

    def execute(self, options: Any) -> None:
        self._graph.execute(self._binding, options)


_NOTHING: Bytes = np.zeros(0, np.uint8)


class Slot(Place):
    """Where one tensor of a step stands now, on the card and in this process."""

    __slots__ = ("buffer", "feed", "is_in_place", "row", "scratch")

    def __init__(self, feed: Feed) -> None:
        super().__init__(feed.spec, is_output=feed.is_output)
        self.feed = feed
        self.buffer: VirtualBuffer
        self.is_in_place = False
        self.row = self.scratch = _NOTHING

    def place(self, view: View, buffer: VirtualBuffer) -> None:
        self.buffer = buffer
        self.start = buffer.address + view.offset_bytes
        self.stop = self.start + view.size_bytes


class VirtualStep:
    """One group of one graph with every tensor bound.

    onnxruntime does not say what happens when an output lies in an input, so a K/V row that is written in
    place goes to scratch memory first and is copied to its row when the run has ended.
    """

    def __init__(
        self, card: VirtualCard, graph: VirtualGraph, group: int, feeds: Feeds, views: Sequence[View]
    ) -> None:
        self._card = card
        self._graph = graph
        self.modelled_s = graph.step_s(group)
        self._binding = graph.new_binding()
        self._slots = {feed.spec.name: Slot(feed) for feed in feeds}
        self._outputs = [slot for slot in self._slots.values() if slot.feed.is_output]
        self._in_place: list[Slot] = []
        self._frees_seen = card.frees
        pair(self._slots.values(), group)
        for slot, view in zip(self._slots.values(), views, strict=True):
            slot.place(view, self._fitting(slot, view))
        for output in self._outputs:
            output.check(self._slots.values())
        for slot in self._slots.values():
            self._attach(slot)
        self._refresh()

    def rebind(self, name: str, view: View) -> None:
        self._card.begin()
        slot = self._slots.get(name)
        if slot is None:
            raise FeedMismatch(f"the step has no tensor {name!r}; it has {sorted(self._slots)}")
        before = (slot.buffer, slot.start, slot.stop)
        slot.place(view, self._fitting(slot, view))
        touched = [slot] if slot.feed.is_output else self._outputs
        try:
            for output in touched:
                output.check(self._slots.values())
        except FeedMismatch:
            slot.buffer, slot.start, slot.stop = before
            raise
        self._attach(slot)
        for output in touched:
            if output is not slot:
                self._attach(output)
        self._refresh()

    def execute(self, options: Any) -> None:
        """Run once, after what it is bound to was seen to be still there."""
        if self._frees_seen != self._card.frees:
            self._check_open()
        if self._card.is_torn:
            for slot in self._in_place:
                self._card.tear(slot.row, slot.feed.spec.numpy_dtype)
        self._graph.execute(self._binding, options)
        for slot in self._in_place:
            slot.row[:] = slot.scratch

    def belongs_to(self, card: VirtualCard) -> bool:
        return self._card is card

    def _fitting(self, slot: Slot, view: View) -> VirtualBuffer:
        same_size(slot, view.size_bytes)
        return behind(view, self._card, VirtualBuffer)

    def _attach(self, slot: Slot) -> None:
        """Tell onnxruntime where the tensor is: nothing to tell when a row merely moves within its cache."""
        offset = slot.start - slot.buffer.address
        partner = slot.partner
        if partner is None or not slot.overlaps(partner):
            slot.is_in_place = False
            slot.row = slot.scratch = _NOTHING
            bind(self._binding, slot.feed, slot.buffer.pointer + offset)
            return
        slot.row = slot.buffer.bytes[offset : offset + slot.size_bytes]
        if not slot.is_in_place:
            slot.is_in_place = True
            slot.scratch = np.zeros(slot.size_bytes, np.uint8)
            bind(self._binding, slot.feed, slot.scratch.ctypes.data)

    def _refresh(self) -> None:
        self._in_place = [slot for slot in self._outputs if slot.is_in_place]

    def _check_open(self) -> None:
        for slot in self._slots.values():
            if not slot.buffer.is_open:
                raise FeedMismatch(f"{slot.feed.spec.name} is bound to a closed buffer")
        self._frees_seen = self._card.frees


def bind(binding: Any, feed: Feed, pointer: int) -> None:
    """Bind raw host memory without a copy; the caller keeps it alive."""
    attach = binding.bind_output if feed.is_output else binding.bind_input
    attach(feed.ort_name, "cpu", 0, feed.element_type, feed.shape, pointer)
