"""Graphs on the card and their steps: one IO handle for each step, every tensor bound to its exact size."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hardware.axcl.abi import DTYPES
from hardware.axcl.codes import Doing
from hardware.axcl.library import Library, ffi
from hardware.axcl.memory import AxclBuffer
from hardware.base import behind
from hardware.binding import Place, checked_feeds, pair, same_names, same_size
from hardware.card import Array, ShapeGroup, Tensors, TensorSpec, View
from hardware.errors import FeedMismatch, GraphRejected

if TYPE_CHECKING:
    from hardware.axcl.card import AxclCard

log = logging.getLogger("hearth.card")

_MOST_DIMENSIONS = 32


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the runtime calls a model that is on the card."""

    model: int
    context: int
    info: int


class AxclGraph:
    """One compiled network on the card. Made by ``AxclCard.load``."""

    def __init__(self, card: AxclCard, path: Path, loaded: Loaded, size_bytes: int) -> None:
        self._card = card
        self.path = path
        self.size_bytes = size_bytes
        self._loaded = loaded
        self._steps: list[AxclStep] = []
        self._one_shots: dict[int, _OneShot] = {}
        self.is_open = True
        self._groups = read_groups(card.library, loaded.info, path)
        log.debug("%s: %s", path.name, self._groups)

    @property
    def groups(self) -> Sequence[ShapeGroup]:
        return self._groups

    def run(self, feeds: Tensors, *, group: int = 0, timeout_s: float) -> Tensors:
        arrays = checked_feeds(self._group(group), feeds)
        if group not in self._one_shots:
            self._one_shots[group] = _OneShot(self._card, self, group)
        return self._one_shots[group].run(arrays, timeout_s)

    def bind(self, group: int, inputs: Mapping[str, View], outputs: Mapping[str, View]) -> AxclStep:
        declared = self._group(group)
        same_names(inputs, [spec.name for spec in declared.inputs], f"inputs of group {group}")
        same_names(outputs, [spec.name for spec in declared.outputs], f"outputs of group {group}")
        step = AxclStep(self._card, self, self._loaded, declared, inputs, outputs)
        self._steps.append(step)
        return step

    def close(self) -> None:
        """Destroy what was bound, then unload. A lost card is left alone."""
        if not self.is_open:
            return
        self.is_open = False
        for one_shot in self._one_shots.values():
            one_shot.close()
        for step in self._steps:
            step.close()
        self._one_shots, self._steps = {}, []
        self._card.unload(self, self._loaded)

    def _group(self, group: int) -> ShapeGroup:
        self._card.begin()
        if not self.is_open:
            raise FeedMismatch(f"{self.path.name} is closed")
        if not 0 <= group < len(self._groups):
            raise FeedMismatch(f"{self.path.name} has groups 0 to {len(self._groups) - 1}, not {group}")
        return self._groups[group]


class _Bound(Place):
    """Where one tensor of a step stands; ``number`` is the runtime's, among inputs or among outputs."""

    __slots__ = ("buffer", "number")

    def __init__(self, spec: TensorSpec, number: int, *, is_output: bool) -> None:
        super().__init__(spec, is_output=is_output)
        self.number = number
        self.buffer: AxclBuffer


class AxclStep:
    """One group of one graph with every tensor bound in an IO handle of its own."""

    def __init__(
        self,
        card: AxclCard,
        graph: AxclGraph,
        loaded: Loaded,
        group: ShapeGroup,
        inputs: Mapping[str, View],
        outputs: Mapping[str, View],
    ) -> None:
        self._card = card
        self._graph = graph
        self._places = {
            spec.name: _Bound(spec, number, is_output=is_output)
            for side, is_output in ((group.inputs, False), (group.outputs, True))
            for number, spec in enumerate(side)
        }
        self._all = list(self._places.values())
        self._outputs = [place for place in self._all if place.is_output]
        self._frees_seen = card.frees
        self._set_input = card.functions.axclrtEngineSetInputBufferByIndex
        self._set_output = card.functions.axclrtEngineSetOutputBufferByIndex
        pair(self._all, group.index)
        for place in self._all:
            self._stand(place, (outputs if place.is_output else inputs)[place.spec.name])
        for place in self._outputs:
            place.check(self._all)
        self.model, self.context, self.group = loaded.model, loaded.context, group.index
        self.io = card.library.number("axclrtEngineCreateIO", "uintptr_t", loaded.info, doing=Doing.BINDING)
        try:
            for place in self._all:
                self._tell(place)
        except BaseException:
            self.close()
            raise

    def rebind(self, name: str, view: View) -> None:
        self._card.begin()
        place = self._places.get(name)
        if place is None:
            raise FeedMismatch(f"the step has no tensor {name!r}; it has {sorted(self._places)}")
        before = (place.buffer, place.start, place.stop)
        self._stand(place, view)
        try:
            for output in (place,) if place.is_output else self._outputs:
                output.check(self._all)
        except FeedMismatch:
            place.buffer, place.start, place.stop = before
            raise
        self._tell(place)

    def ready(self) -> None:
        """Raises FeedMismatch when something that is bound was given back meanwhile."""
        if not self._graph.is_open:
            raise FeedMismatch(f"{self._graph.path.name} is closed")
        if self._frees_seen != self._card.frees:
            for place in self._all:
                if not place.buffer.is_open:
                    raise FeedMismatch(f"{place.spec.name} is bound to a closed buffer")
            self._frees_seen = self._card.frees

    def belongs_to(self, card: AxclCard) -> bool:
        return self._card is card

    def close(self) -> None:
        self._card.destroy_io(self.io)

    def _stand(self, place: _Bound, view: View) -> None:
        same_size(place, view.size_bytes)
        place.buffer = behind(view, self._card, AxclBuffer)
        place.start = place.buffer.address + view.offset_bytes
        place.stop = place.start + view.size_bytes

    def _tell(self, place: _Bound) -> None:
        if place.is_output:
            code = self._set_output(self.io, place.number, place.start, place.size_bytes)
        else:
            code = self._set_input(self.io, place.number, place.start, place.size_bytes)
        if code:
            side = "Output" if place.is_output else "Input"
            self._card.check(f"axclrtEngineSet{side}BufferByIndex", code, Doing.BINDING)


class _OneShot:
    """Buffers and a step for ``Graph.run``, kept for the next call of the same group."""

    def __init__(self, card: AxclCard, graph: AxclGraph, group: int) -> None:
        self._card = card
        declared = graph.groups[group]
        with ExitStack() as undo:
            self._inputs, self._outputs = (
                {spec.name: _allocated(card, spec, undo) for spec in side}
                for side in (declared.inputs, declared.outputs)
            )
            self._step = graph.bind(
                group,
                {name: buffer.view() for name, buffer in self._inputs.items()},
                {name: buffer.view() for name, buffer in self._outputs.items()},
            )
            self._specs = declared.outputs
            self._undo = undo.pop_all()

    def run(self, arrays: Mapping[str, Array], timeout_s: float) -> dict[str, Array]:
        for name, array in arrays.items():
            self._inputs[name].write(array)
        self._card.execute([self._step], timeout_s=timeout_s)
        results = {spec.name: np.empty(spec.shape, spec.numpy_dtype) for spec in self._specs}
        for name, array in results.items():
            self._outputs[name].read_into(array)
        return results

    def close(self) -> None:
        self._undo.close()


def _allocated(card: AxclCard, spec: TensorSpec, undo: ExitStack) -> AxclBuffer:
    buffer = card.allocate(spec.size_bytes)
    undo.callback(buffer.close)
    return buffer


def read_groups(library: Library, info: int, path: Path) -> tuple[ShapeGroup, ...]:
    """The shape groups as the runtime tells them; it knows names and types once for all groups.

    Raises:
        GraphRejected: a type that is not known here, or a size that is not that of shape and type.
    """
    count = library.number("axclrtEngineGetShapeGroupsCount", "int32_t", info, doing=Doing.LOADING)
    return tuple(
        ShapeGroup(
            index, _side(library, info, index, path, "Input"), _side(library, info, index, path, "Output")
        )
        for index in range(max(count, 1))
    )


def _side(library: Library, info: int, group: int, path: Path, side: str) -> tuple[TensorSpec, ...]:
    count = getattr(library.functions, f"axclrtEngineGetNum{side}s")(info)
    return tuple(_spec(library, info, group, number, path, side) for number in range(count))


def _spec(library: Library, info: int, group: int, number: int, path: Path, side: str) -> TensorSpec:
    name = library.text(f"axclrtEngineGet{side}NameByIndex", info, number)
    kind = library.number(f"axclrtEngineGet{side}DataType", "int", info, number, doing=Doing.LOADING)
    if kind not in DTYPES:
        raise GraphRejected(f"{path}: {name} has elements of type {kind}, which Hearth does not know")
    dims = ffi.new("axclrtEngineIODims *")
    library.call(f"axclrtEngineGet{side}Dims", info, group, number, dims, doing=Doing.LOADING)
    shape = tuple(int(dims.dims[at]) for at in range(min(dims.dimCount, _MOST_DIMENSIONS)))
    spec = TensorSpec(name, DTYPES[kind], shape)
    told = getattr(library.functions, f"axclrtEngineGet{side}SizeByIndex")(info, group, number)
    if told != spec.size_bytes or math.prod(shape) < 1:
        raise GraphRejected(
            f"{path}: {name} of group {group} is {spec.dtype}{list(shape)}, {spec.size_bytes} bytes, but the "
            f"runtime says {told}"
        )
    return spec
