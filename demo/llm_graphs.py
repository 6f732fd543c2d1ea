"""One transformer layer, and the last graph, as plain ONNX for the virtual card.

Weights stand once, in bf16, whatever shape groups a graph has: its dimensions are symbolic. What crosses its
border is bf16, and so are the new K/V before attention reads them, so that a token's row is the same number
whether it comes from the cache or was made in the same execution.

Inside it computes in float64 or float32. Libraries sum in another order for one row than for many, and for
another width of the cache. In float64 those orders differ by parts in 10^16 while bf16 keeps one in 256, so a
row is the same whatever it was computed with; in float32 some bit of every third row differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from demo.checkpoint import Architecture, Checkpoint
from hardware.card import ShapeGroup, TensorSpec
from hardware.virtual.format import FORMAT_KEY, FORMAT_VERSION, GROUPS_KEY, encode_groups

OPSET = 17
IR_VERSION = 8

_BF16, _F32, _F64 = TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE
_TYPES = {"bf16": TensorProto.BFLOAT16, "u32": TensorProto.UINT32}


class Compute(StrEnum):
    """The precision inside a graph. ``F64`` takes 8 bytes of host memory per weight, ``F32`` takes 4."""

    F64 = "f64"
    F32 = "f32"


class _Graph:
    """Nodes and initializers as they are added; every operation returns the name of what it makes."""

    def __init__(self, compute: Compute) -> None:
        self.kind = _F64 if compute is Compute.F64 else _F32
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._count = 0

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or self._name(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        names = [self._name("Split") for _ in sizes]
        self.nodes.append(helper.make_node("Split", [value, self.ints(sizes)], names, axis=axis))
        return names

    def cast(self, value: str, to: int, out: str | None = None) -> str:
        return self.op("Cast", value, to=to, out=out)

    def reshape(self, value: str, *shape: int) -> str:
        """0 keeps a dimension, −1 takes what is left."""
        return self.op("Reshape", value, self.ints(shape))

    def ints(self, values: Sequence[int]) -> str:
        return self._constant(np.array(values, np.int64), TensorProto.INT64)

    def wide(self, value: str) -> str:
        """``value`` in the precision the graph computes in."""
        return self.cast(value, self.kind)

    def floats(self, values: float | Sequence[float] | NDArray[Any]) -> str:
        dtype = np.float64 if self.kind == _F64 else np.float32
        return self._constant(np.array(values, dtype), self.kind)

    def singles(self, values: NDArray[Any]) -> str:
        return self._constant(np.array(values, np.float32), _F32)

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """A bf16 weight, and what computes with it: its wide form."""
        tensor = helper.make_tensor(
            name, _BF16, values.shape, np.ascontiguousarray(values).tobytes(), raw=True
        )
        self.initializers.append(tensor)
        return self.wide(name)

    def project(self, value: str, name: str, matrix: NDArray[Any]) -> str:
        """``[tokens, from]`` through a weight as checkpoints have it, ``[to, from]``."""
        # With the matrix on the right and transposed, float64 is packed least: a third faster than MatMul.
        return self.op("Gemm", value, self.weight(name, matrix), transB=1)

    def rms_norm(self, value: str, scale: str, epsilon: float) -> str:
        # Spelled the way onnxruntime recognises and replaces by one kernel.
        mean = self.op("ReduceMean", self.op("Pow", value, self.floats(2.0)), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.floats(epsilon)))
        return self.op("Mul", self.op("Div", value, root), scale)

    def _constant(self, values: NDArray[Any], kind: int) -> str:
        name = self._name("const")
        self.initializers.append(helper.make_tensor(name, kind, values.shape, values.tobytes(), raw=True))
        return name

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind.lower()}_{self._count}"


def layer_groups(
    architecture: Architecture, kv_length: int, chunk: int, histories: Sequence[int]
) -> list[ShapeGroup]:
    """Group 0 decodes over ``kv_length`` rows; one more group for each history prefills ``chunk`` tokens."""
    groups = [_group(0, architecture, 1, kv_length)]
    for index, history in enumerate(histories, 1):
        groups.append(_group(index, architecture, chunk, history))
    return groups


def _group(index: int, architecture: Architecture, tokens: int, history: int) -> ShapeGroup:
    hidden, width = architecture.hidden, architecture.kv_width
    cache = (1, history, width) if history else (1, 1, hidden)
    inputs = (
        TensorSpec("K_cache", "bf16", cache),
        TensorSpec("V_cache", "bf16", cache),
        TensorSpec("indices", "u32", (1, tokens)),
        TensorSpec("input", "bf16", (1, tokens, hidden)),
        TensorSpec("mask", "bf16", (1, tokens, history + tokens)),
    )
    outputs = (
        TensorSpec("K_cache_out", "bf16", (1, tokens, width)),
        TensorSpec("V_cache_out", "bf16", (1, tokens, width)),
        TensorSpec("output", "bf16", (1, tokens, hidden)),
    )
    return ShapeGroup(index, inputs, outputs)


def layer_model(
    checkpoint: Checkpoint, layer: int, groups: Sequence[ShapeGroup], compute: Compute
) -> onnx.ModelProto:
    """Layer ``layer`` with the tensor names, shapes and types of AXERA's packages."""
    a = checkpoint.architecture
    graph = _Graph(compute)
    prefix = f"model.layers.{layer}."
    hidden = graph.reshape(graph.wide("input"), -1, a.hidden)
    norm = graph.weight("input_layernorm", checkpoint.matrix(prefix + "input_layernorm.weight"))
    attended = _attention(graph, checkpoint, prefix, graph.rms_norm(hidden, norm, a.epsilon))
    hidden = graph.op("Add", hidden, attended)
    norm = graph.weight(
        "post_attention_layernorm", checkpoint.matrix(prefix + "post_attention_layernorm.weight")
    )
    fed = _feed_forward(graph, checkpoint, prefix, graph.rms_norm(hidden, norm, a.epsilon))
    output = graph.cast(graph.op("Add", hidden, fed), _BF16)
    graph.op("Reshape", output, graph.ints([1, -1, a.hidden]), out="output")
    cache: list[int | str] = [1, "history", a.kv_width]
    new: list[int | str] = [1, "tokens", a.kv_width]
    inputs: dict[str, tuple[str, list[int | str]]] = {
        "K_cache": ("bf16", cache),
        "V_cache": ("bf16", cache),
        "indices": ("u32", [1, "tokens"]),
        "input": ("bf16", [1, "tokens", a.hidden]),
        "mask": ("bf16", [1, "tokens", "rows"]),
    }
    outputs = {"K_cache_out": ("bf16", new), "V_cache_out": ("bf16", new), "output": inputs["input"]}
    return _model(graph, f"{a.family}_l{layer}", inputs, outputs, groups)


def post_model(checkpoint: Checkpoint) -> onnx.ModelProto:
    """Final norm and output matrix: one hidden row to the logits of the vocabulary.

    Always float32: it never sees more than one row, so its sums have but one order.
    """
    a = checkpoint.architecture
    graph = _Graph(Compute.F32)
    head = checkpoint.matrix("model.embed_tokens.weight" if a.is_tied else "lm_head.weight")
    norm = graph.weight("norm", checkpoint.matrix("model.norm.weight"))
    row = graph.rms_norm(graph.reshape(graph.wide("input"), 1, a.hidden), norm, a.epsilon)
    logits = graph.cast(graph.project(row, "lm_head", head), _BF16)
    graph.op("Reshape", logits, graph.ints([1, 1, a.vocab]), out="output")
    group = ShapeGroup(
        0, (TensorSpec("input", "bf16", (1, 1, a.hidden)),), (TensorSpec("output", "bf16", (1, 1, a.vocab)),)
    )
    inputs: dict[str, tuple[str, list[int | str]]] = {"input": ("bf16", [1, 1, a.hidden])}
    outputs: dict[str, tuple[str, list[int | str]]] = {"output": ("bf16", [1, 1, a.vocab])}
    return _model(graph, f"{a.family}_post", inputs, outputs, [group])


def _attention(graph: _Graph, checkpoint: Checkpoint, prefix: str, value: str) -> str:
    """``[tokens, hidden]`` → the same; also makes ``K_cache_out`` and ``V_cache_out``."""
    a = checkpoint.architecture
    queries_keys, values = _projections(graph, checkpoint, prefix, value)
    queries, keys = graph.split(_rotated(graph, queries_keys, a), [a.heads, a.kv_heads], axis=1)
    keys = _with_cache(graph, keys, "K_cache", a)
    values = _with_cache(graph, values, "V_cache", a)
    shared = a.heads // a.kv_heads
    queries = graph.op("Mul", queries, graph.floats(a.head_size**-0.5))
    queries = graph.reshape(queries, -1, a.kv_heads, shared, a.head_size)
    queries = graph.op("Transpose", queries, perm=[1, 2, 0, 3])
    scores = graph.op(
        "MatMul",
        graph.reshape(queries, a.kv_heads, -1, a.head_size),
        graph.op("Transpose", keys, perm=[1, 2, 0]),
    )
    # From [kv heads, shared × tokens, rows] to [kv heads, shared, tokens, rows], to meet the mask, and back.
    rows = graph.op("Shape", "mask", start=1, end=3)
    shape = graph.op("Concat", graph.ints([a.kv_heads, shared]), rows, axis=0)
    scores = graph.op("Add", graph.op("Reshape", scores, shape), graph.wide("mask"))
    weights = graph.op("Softmax", scores, axis=-1)
    flat = graph.op("Concat", graph.ints([a.kv_heads, -1]), graph.op("Shape", "mask", start=2, end=3), axis=0)
    attended = graph.op(
        "MatMul", graph.op("Reshape", weights, flat), graph.op("Transpose", values, perm=[1, 0, 2])
    )
    attended = graph.op(
        "Transpose", graph.reshape(attended, a.kv_heads, shared, -1, a.head_size), perm=[2, 0, 1, 3]
    )
    matrix = checkpoint.matrix(prefix + "self_attn.o_proj.weight")
    return graph.project(graph.reshape(attended, -1, a.heads * a.head_size), "o_proj", matrix)


def _projections(graph: _Graph, checkpoint: Checkpoint, prefix: str, value: str) -> tuple[str, str]:
    """Queries and keys, normed, ``[tokens, heads + kv heads, head size]``, and the values."""
    a = checkpoint.architecture
    names = [f"{prefix}self_attn.{part}_proj" for part in "qkv"]
    matrix = np.concatenate([checkpoint.matrix(name + ".weight") for name in names])
    projected = graph.project(value, "qkv_proj", matrix)
    if names[0] + ".bias" in checkpoint.weights:
        bias = np.concatenate([checkpoint.matrix(name + ".bias") for name in names])
        projected = graph.op("Add", projected, graph.weight("qkv_bias", bias))
    split = graph.reshape(projected, -1, a.heads + 2 * a.kv_heads, a.head_size)
    queries_keys, values = graph.split(split, [a.heads + a.kv_heads, a.kv_heads], axis=1)
    if prefix + "self_attn.q_norm.weight" in checkpoint.weights:
        scale = np.concatenate(
            [
                np.tile(checkpoint.matrix(prefix + "self_attn.q_norm.weight"), (a.heads, 1)),
                np.tile(checkpoint.matrix(prefix + "self_attn.k_norm.weight"), (a.kv_heads, 1)),
            ]
        )
        queries_keys = graph.rms_norm(queries_keys, graph.weight("qk_norm", scale), a.epsilon)
    return queries_keys, values


def _rotated(graph: _Graph, value: str, a: Architecture) -> str:
    """Rotary positions over ``[tokens, heads, head size]``, by halves."""
    half = a.head_size // 2
    frequencies = 1.0 / a.rope_theta ** (np.arange(half, dtype=np.float32) * 2 / a.head_size)
    positions = graph.reshape(graph.cast("indices", _F32), -1, 1, 1)
    # Angles are float32 in the models' own code, and stay so. onnxruntime has a Sin in float64 but no Cos.
    angles = graph.wide(graph.op("Mul", positions, graph.singles(frequencies)))
    sin = graph.op("Sin", angles)
    cos = graph.op("Sin", graph.op("Add", angles, graph.floats(np.pi / 2)))
    low, high = graph.split(value, [half, half], axis=2)
    turned = (
        graph.op("Sub", graph.op("Mul", low, cos), graph.op("Mul", high, sin)),
        graph.op("Add", graph.op("Mul", high, cos), graph.op("Mul", low, sin)),
    )
    return graph.op("Concat", *turned, axis=2)


def _with_cache(graph: _Graph, new: str, cache: str, a: Architecture) -> str:
    """The rows of the cache and then the new ones, ``[rows, kv heads, head size]``."""
    rounded = graph.cast(graph.reshape(new, 1, -1, a.kv_width), _BF16, out=f"{cache}_out")
    rows = graph.op("Concat", cache, rounded, axis=1)
    return graph.reshape(graph.wide(rows), -1, a.kv_heads, a.head_size)


def _feed_forward(graph: _Graph, checkpoint: Checkpoint, prefix: str, value: str) -> str:
    a = checkpoint.architecture
    parts = [checkpoint.matrix(f"{prefix}mlp.{name}_proj.weight") for name in ("gate", "up")]
    both = graph.project(value, "gate_up_proj", np.concatenate(parts))
    gate, up = graph.split(both, [a.inner, a.inner], axis=1)
    active = graph.op("Mul", graph.op("Mul", gate, graph.op("Sigmoid", gate)), up)
    matrix = checkpoint.matrix(prefix + "mlp.down_proj.weight")
    return graph.project(active, "down_proj", matrix)


def _model(
    graph: _Graph,
    name: str,
    inputs: dict[str, tuple[str, list[int | str]]],
    outputs: dict[str, tuple[str, list[int | str]]],
    groups: Sequence[ShapeGroup],
) -> onnx.ModelProto:
    def infos(tensors: dict[str, tuple[str, list[int | str]]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(key, _TYPES[dtype], shape)
            for key, (dtype, shape) in tensors.items()
        ]

    proto = helper.make_graph(graph.nodes, name, infos(inputs), infos(outputs), graph.initializers)
    model = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="hearth"
    )
    bare = [group.index for group in groups if group.index and _history(group) == 0]
    helper.set_model_props(
        model, {FORMAT_KEY: FORMAT_VERSION, GROUPS_KEY: encode_groups(groups, without_history=bare)}
    )
    onnx.checker.check_model(model)
    return model


def _history(group: ShapeGroup) -> int:
    mask = group.input("mask").shape
    return mask[2] - mask[1]
