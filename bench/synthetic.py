"""Graphs that do no arithmetic, in the sizes of a model one does not have: what is left is the host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hardware.card import Card, ShapeGroup, TensorSpec
from hardware.virtual.format import FORMAT_KEY, FORMAT_VERSION, GROUPS_KEY, encode_groups
from models.llm.network import Network


@dataclass(frozen=True, slots=True)
class Measures:
    """The size of a model."""

    layers: int
    hidden: int
    kv_width: int
    kv_length: int
    vocab: int


QWEN3_4B = Measures(layers=36, hidden=2560, kv_width=1024, kv_length=2559, vocab=151_936)
"""Source: AXERA-TECH/Qwen3-4B, the log of the vendor's runner."""


def write_graphs(measures: Measures, directory: Path) -> tuple[Path, Path, Path]:
    """One layer, the last graph and an embedding table of zeros (a sparse file) in ``directory``."""
    m = measures
    rows = [1, m.kv_length, m.kv_width]
    layer = ShapeGroup(
        0,
        (
            TensorSpec("K_cache", "bf16", tuple(rows)),
            TensorSpec("V_cache", "bf16", tuple(rows)),
            TensorSpec("indices", "u32", (1, 1)),
            TensorSpec("input", "bf16", (1, 1, m.hidden)),
            TensorSpec("mask", "bf16", (1, 1, m.kv_length + 1)),
        ),
        (
            TensorSpec("K_cache_out", "bf16", (1, 1, m.kv_width)),
            TensorSpec("V_cache_out", "bf16", (1, 1, m.kv_width)),
            TensorSpec("output", "bf16", (1, 1, m.hidden)),
        ),
    )
    post = ShapeGroup(
        0,
        (TensorSpec("input", "bf16", (1, 1, m.hidden)),),
        (TensorSpec("output", "bf16", (1, 1, m.vocab)),),
    )
    paths = directory / "layer.axmodel", directory / "post.axmodel", directory / "embedding.bin"
    _write(layer, {"output": "input"}, paths[0])
    _write(post, {}, paths[1])
    with paths[2].open("wb") as file:
        file.truncate(m.vocab * m.hidden * 2)
    return paths


def _write(group: ShapeGroup, same: dict[str, str], path: Path) -> None:
    """Every output is the input that ``same`` names, or a constant."""
    import onnx
    from onnx import TensorProto, helper

    kinds = {"bf16": TensorProto.BFLOAT16, "u32": TensorProto.UINT32}

    def infos(specs: tuple[TensorSpec, ...]) -> list[Any]:
        return [helper.make_tensor_value_info(spec.name, kinds[spec.dtype], spec.shape) for spec in specs]

    nodes, constants = [], []
    for spec in group.outputs:
        source = same.get(spec.name)
        if source is None:
            source = f"{spec.name}_constant"
            zeros = np.zeros(spec.shape, np.uint16).tobytes()
            constants.append(helper.make_tensor(source, kinds[spec.dtype], spec.shape, zeros, raw=True))
        nodes.append(helper.make_node("Identity", [source], [spec.name]))
    graph = helper.make_graph(nodes, path.stem, infos(group.inputs), infos(group.outputs), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {FORMAT_KEY: FORMAT_VERSION, GROUPS_KEY: encode_groups([group])})
    onnx.save(model, path)


def load(card: Card, measures: Measures, paths: tuple[Path, Path, Path]) -> Network:
    """The synthetic model on ``card``; all layers are the same file."""
    layer, post, embedding = paths
    return Network(card, [card.load(layer) for _ in range(measures.layers)], card.load(post), embedding)
