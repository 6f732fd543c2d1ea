"""Functions of the simulated runtime: what a loaded model says of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from hardware.card import TensorSpec
from hardware.virtual.abi.codes import INVALID_INDEX, Misuse, Part
from hardware.virtual.abi.opened import Opened, does
from hardware.virtual.abi.structs import IoDims

Thing = TypeVar("Thing")

_DATA_TYPES = {
    "i8": 3, "u8": 4, "i16": 5, "u16": 6, "i32": 7, "u32": 8, "i64": 9, "f16": 13, "bf16": 14, "f32": 15
}  # fmt: skip
_UNUSED_LAYOUT = 0


class Description(Opened):
    """Names and types are told once for all shape groups, sizes for each."""

    @does("axclrtEngineGetIOInfo")
    def io_info(self, model: int) -> int:
        handle = next(self._handles)
        self._infos[handle] = self._model(model)
        return handle

    @does("axclrtEngineDestroyIOInfo")
    def destroy_io_info(self, info: int | None) -> None:
        self._info(info)
        del self._infos[info or 0]

    @does("axclrtEngineGetShapeGroupsCount")
    def groups(self, info: int | None) -> int:
        return self._info(info).groups

    @does("axclrtEngineGetNumInputs")
    def number_of_inputs(self, info: int | None) -> int:
        return len(self._info(info).inputs(0))

    @does("axclrtEngineGetNumOutputs")
    def number_of_outputs(self, info: int | None) -> int:
        return len(self._info(info).outputs(0))

    @does("axclrtEngineGetInputSizeByIndex")
    def input_size(self, info: int | None, group: int, index: int) -> int:
        return at(self._info(info).inputs(group), index).size_bytes

    @does("axclrtEngineGetOutputSizeByIndex")
    def output_size(self, info: int | None, group: int, index: int) -> int:
        return at(self._info(info).outputs(group), index).size_bytes

    @does("axclrtEngineGetInputDims")
    def input_dims(self, info: int | None, group: int, index: int) -> IoDims:
        return _dims(at(self._info(info).inputs(group), index).shape)

    @does("axclrtEngineGetOutputDims")
    def output_dims(self, info: int | None, group: int, index: int) -> IoDims:
        return _dims(at(self._info(info).outputs(group), index).shape)

    @does("axclrtEngineGetInputNameByIndex")
    def input_name(self, info: int | None, index: int) -> str:
        return at(self._info(info).inputs(0), index).name

    @does("axclrtEngineGetOutputNameByIndex")
    def output_name(self, info: int | None, index: int) -> str:
        return at(self._info(info).outputs(0), index).name

    @does("axclrtEngineGetInputIndexByName")
    def input_index(self, info: int | None, name: bytes | None) -> int:
        return index_of(self._info(info).inputs(0), name)

    @does("axclrtEngineGetOutputIndexByName")
    def output_index(self, info: int | None, name: bytes | None) -> int:
        return index_of(self._info(info).outputs(0), name)

    @does("axclrtEngineGetInputDataType")
    def input_type(self, info: int | None, index: int) -> int:
        return _DATA_TYPES[at(self._info(info).inputs(0), index).dtype]

    @does("axclrtEngineGetOutputDataType")
    def output_type(self, info: int | None, index: int) -> int:
        return _DATA_TYPES[at(self._info(info).outputs(0), index).dtype]

    @does("axclrtEngineGetInputDataLayout")
    def input_layout(self, info: int | None, index: int) -> int:
        at(self._info(info).inputs(0), index)
        return _UNUSED_LAYOUT

    @does("axclrtEngineGetOutputDataLayout")
    def output_layout(self, info: int | None, index: int) -> int:
        at(self._info(info).outputs(0), index)
        return _UNUSED_LAYOUT


def at(things: Sequence[Thing], index: int) -> Thing:
    """The thing at ``index``. Raises Misuse when there is none."""
    if not 0 <= index < len(things):
        raise Misuse(Part.ENGINE, INVALID_INDEX, f"there is no tensor {index}")
    return things[index]


def index_of(specs: Sequence[TensorSpec], name: bytes | None) -> int:
    """The number of the tensor called ``name``, or -1, as the vendor's functions have it."""
    names = [spec.name.encode() for spec in specs]
    return names.index(name) if name is not None and name in names else -1


def _dims(shape: Iterable[int]) -> IoDims:
    sizes = list(shape)
    dims = IoDims(dimCount=len(sizes))
    dims.dims[: len(sizes)] = sizes
    return dims
