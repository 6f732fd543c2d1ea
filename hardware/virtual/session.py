"""onnxruntime, the one place that knows it: a session per graph file, and bindings made of raw pointers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware.binding import base_name
from hardware.card import ShapeGroup, TensorSpec
from hardware.errors import GraphRejected
from hardware.virtual.format import GraphFile

ELEMENT_TYPES: Mapping[str, tuple[int, str]] = {
    "f32": (1, "tensor(float)"),
    "u8": (2, "tensor(uint8)"),
    "i8": (3, "tensor(int8)"),
    "u16": (4, "tensor(uint16)"),
    "i16": (5, "tensor(int16)"),
    "i32": (6, "tensor(int32)"),
    "i64": (7, "tensor(int64)"),
    "f16": (10, "tensor(float16)"),
    "u32": (12, "tensor(uint32)"),
    "bf16": (16, "tensor(bfloat16)"),
}
"""Short name → (number in ONNX, name in onnxruntime). Source: onnx/onnx, TensorProto.DataType."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One tensor of one group as onnxruntime takes it. ``shape`` differs from the spec's for placeholders."""

    spec: TensorSpec
    is_output: bool
    ort_name: str
    element_type: int
    shape: tuple[int, ...]


Feeds = tuple[Feed, ...]


def open_session(path: Path, threads: int) -> Any:
    """An onnxruntime session of the file. Raises GraphRejected."""
    import onnxruntime  # half a second that only an opened card should cost

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Threads that wait for work must not burn the cores that API and tokenizer need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each status, all bare Exceptions
        raise GraphRejected(f"{path}: onnxruntime refuses it: {error}") from None


def resolve_groups(path: Path, file: GraphFile, session: Any) -> tuple[Feeds, ...]:
    """Bring the declared groups and the graph together. Raises GraphRejected where they disagree."""
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    try:
        return tuple(
            (
                *_side(group, group.inputs, inputs, placeholders, is_output=False),
                *_side(group, group.outputs, outputs, frozenset(), is_output=True),
            )
            for group, placeholders in zip(file.groups, file.placeholders, strict=True)
        )
    except _Disagreement as error:
        raise GraphRejected(f"{path}: {error}") from None


class _Disagreement(Exception):
    pass


def _side(
    group: ShapeGroup,
    specs: tuple[TensorSpec, ...],
    nodes: Mapping[str, Any],
    placeholders: frozenset[str],
    *,
    is_output: bool,
) -> list[Feed]:
    names = {
        spec.name: spec.name if spec.name in nodes else base_name(spec.name, group.index) for spec in specs
    }
    if sorted(names.values()) != sorted(nodes):
        what = "outputs" if is_output else "inputs"
        raise _Disagreement(
            f"group {group.index} declares {what} {sorted(names)}, the graph has {sorted(nodes)}"
        )
    feeds = []
    for spec in specs:
        node = nodes[names[spec.name]]
        number, type_name = ELEMENT_TYPES[spec.dtype]
        if node.type != type_name:
            raise _Disagreement(f"group {group.index}: {spec.name} is {spec.dtype}, in the graph {node.type}")
        shape = _no_rows(group, spec, node) if spec.name in placeholders else spec.shape
        if len(shape) != len(node.shape) or any(
            isinstance(fixed, int) and fixed != size for fixed, size in zip(node.shape, shape, strict=True)
        ):
            raise _Disagreement(
                f"group {group.index}: {spec.name} is {list(shape)}, in the graph {node.shape}"
            )
        feeds.append(Feed(spec, is_output, node.name, number, shape))
    return feeds


def _no_rows(group: ShapeGroup, spec: TensorSpec, node: Any) -> tuple[int, ...]:
    shape = list(node.shape)
    if len(shape) < 2 or isinstance(shape[1], int):
        raise _Disagreement(f"group {group.index}: {spec.name} has no free axis 1 that could be empty")
    shape[1] = 0
    if not all(isinstance(size, int) for size in shape):
        raise _Disagreement(f"group {group.index}: {spec.name} must be fixed on every axis but 1")
    return tuple(shape)
