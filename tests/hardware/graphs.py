"""Tiny graph files for the tests: an adder, and a layer of attention in the shape of a real one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from hardware.card import ShapeGroup, TensorSpec
from hardware.virtual.format import FORMAT_KEY, FORMAT_VERSION, GROUPS_KEY, STEP_MS_KEY, encode_groups

ONNX_TYPES = {"f32": TensorProto.FLOAT, "bf16": TensorProto.BFLOAT16, "u32": TensorProto.UINT32}
WIDTH, HIDDEN, ROWS, CHUNK = 4, 4, 6, 2


def save(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, str, Sequence[Any]]],
    outputs: Sequence[tuple[str, str, Sequence[Any]]],
    groups: str,
    *,
    constants: Sequence[Any] = (),
    opset: int = 17,
    step_ms: Any = None,
) -> Path:
    takes, gives = (
        [helper.make_tensor_value_info(name, ONNX_TYPES[kind], shape) for name, kind, shape in side]
        for side in (inputs, outputs)
    )
    graph = helper.make_graph(list(nodes), "tiny", takes, gives, initializer=list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    metadata = {FORMAT_KEY: FORMAT_VERSION, GROUPS_KEY: groups}
    if step_ms is not None:
        metadata[STEP_MS_KEY] = json.dumps(step_ms)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def group(index: int, inputs: Sequence[Any], outputs: Sequence[Any]) -> ShapeGroup:
    return ShapeGroup(
        index, tuple(TensorSpec(*spec) for spec in inputs), tuple(TensorSpec(*spec) for spec in outputs)
    )


def adder(path: Path, *, step_ms: Any = None) -> Path:
    """``sum = a + b``, float32[1, n], declared for n = 4 and n = 8."""
    groups = [
        group(index, [("a", "f32", (1, n)), ("b", "f32", (1, n))], [("sum", "f32", (1, n))])
        for index, n in enumerate((4, 8))
    ]
    return save(
        path,
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        [("a", "f32", [1, "n"]), ("b", "f32", [1, "n"])],
        [("sum", "f32", [1, "n"])],
        encode_groups(groups),
        step_ms=step_ms,
    )


def doubler(path: Path) -> Path:
    """``y = 2 * x``, float32[1, 4]."""
    spec = [group(0, [("x", "f32", (1, 4))], [("y", "f32", (1, 4))])]
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return save(path, [node], [("x", "f32", [1, 4])], [("y", "f32", [1, 4])], encode_groups(spec))


def layer_groups(*, suffix: bool = False, dummy_width: int = 7) -> list[ShapeGroup]:
    """Decode over ROWS rows, prefill of CHUNK rows without history (dummy caches), prefill after 2 rows."""

    def one(index: int, history: tuple[int, int], chunk: int, columns: int) -> ShapeGroup:
        mark = f"_{index}" if suffix and index else ""
        return group(
            index,
            [
                (f"K_cache{mark}", "bf16", (1, *history)),
                (f"V_cache{mark}", "bf16", (1, *history)),
                (f"indices{mark}", "u32", (1, chunk)),
                (f"input{mark}", "bf16", (1, chunk, HIDDEN)),
                (f"mask{mark}", "bf16", (1, chunk, columns)),
            ],
            [
                (f"K_cache_out{mark}", "bf16", (1, chunk, WIDTH)),
                (f"V_cache_out{mark}", "bf16", (1, chunk, WIDTH)),
                (f"output{mark}", "bf16", (1, chunk, HIDDEN)),
            ],
        )

    return [
        one(0, (ROWS, WIDTH), 1, ROWS + 1),
        one(1, (1, dummy_width), CHUNK, CHUNK),
        one(2, (2, WIDTH), CHUNK, 2 + CHUNK),
    ]


def layer(path: Path, *, suffix: bool = False, groups: str | None = None) -> Path:
    """One layer of attention without weights: K = input, V = input + position, output = attention + input."""
    cast, node = helper.make_node, helper.make_node
    nodes = [
        *(
            cast("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT)
            for name in ("K_cache", "V_cache", "indices", "input", "mask")
        ),
        node("Unsqueeze", ["indices_f", "last"], ["position"]),
        node("Identity", ["input_f"], ["k"]),
        node("Add", ["input_f", "position"], ["v"]),
        node("Concat", ["K_cache_f", "k"], ["all_k"], axis=1),
        node("Concat", ["V_cache_f", "v"], ["all_v"], axis=1),
        node("Transpose", ["all_k"], ["k_t"], perm=[0, 2, 1]),
        node("MatMul", ["input_f", "k_t"], ["raw"]),
        node("Add", ["raw", "mask_f"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=-1),
        node("MatMul", ["weights", "all_v"], ["attended"]),
        node("Add", ["attended", "input_f"], ["hidden"]),
        *(
            cast("Cast", [name], [f"{result}"], to=TensorProto.BFLOAT16)
            for name, result in (("k", "K_cache_out"), ("v", "V_cache_out"), ("hidden", "output"))
        ),
    ]
    caches = [(name, "bf16", [1, "history", WIDTH]) for name in ("K_cache", "V_cache")]
    return save(
        path,
        nodes,
        [
            *caches,
            ("indices", "u32", [1, "chunk"]),
            ("input", "bf16", [1, "chunk", HIDDEN]),
            ("mask", "bf16", [1, "chunk", "columns"]),
        ],
        [
            ("K_cache_out", "bf16", [1, "chunk", WIDTH]),
            ("V_cache_out", "bf16", [1, "chunk", WIDTH]),
            ("output", "bf16", [1, "chunk", HIDDEN]),
        ],
        encode_groups(layer_groups(suffix=suffix), without_history={1}) if groups is None else groups,
        constants=[helper.make_tensor("last", TensorProto.INT64, [1], [2])],
    )
