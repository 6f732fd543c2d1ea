"""The golden picture model as a package for the virtual card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hardware.card import ShapeGroup
from hardware.virtual.format import FORMAT_KEY, FORMAT_VERSION, GROUPS_KEY, STEP_MS_KEY, encode_groups
from tests.golden.diffusion import MLP_WIDTH
from tests.golden.pictures import CELL, CHANNELS, HEIGHT_PX, TEXT_WIDTH, TOKENS, WIDTH_PX, weights
from tests.models.diffusion.files import TIME_NAME, Shapes, group, table, write_mlp, write_tokenizer

_TYPES = {"f32": TensorProto.FLOAT, "i32": TensorProto.INT32}


def write_tiny(
    root: Path,
    height: int = HEIGHT_PX,
    width: int = WIDTH_PX,
    *,
    text: bool = True,
    encoder: bool = True,
    mlp: bool = True,
    step_ms: dict[str, float] | None = None,
) -> Path:
    """A whole package in ``root``, or one more size of it (``text=False``: its text encoder is another's).

    ``step_ms``: by role (text, unet, decoder, encoder), how long an execution takes on a card with timing.
    """
    root.mkdir(parents=True, exist_ok=True)
    latent = (1, CHANNELS, height // CELL, width // CELL)
    picture, hidden = (1, 3, height, width), (1, TOKENS, TEXT_WIDTH)
    times = step_ms or {}
    if text:
        write_tokenizer(root / "tokenizer")
        shapes = group([("input_ids", "i32", (1, TOKENS))], [("last_hidden_state", "f32", hidden)])
        _write(root / "text_encoder" / "sd15_text_encoder_sim.axmodel", shapes, _text(), times.get("text", 0))
    feeds: Shapes = [
        ("sample", "f32", latent),
        (TIME_NAME, "f32", (1, MLP_WIDTH)),
        ("encoder_hidden_states", "f32", hidden),
    ]
    _write(root / "unet.axmodel", group(feeds, [("2976", "f32", latent)]), _unet(), times.get("unet", 0))
    shapes = group([("x", "f32", latent)], [("image", "f32", picture)])
    _write(root / "vae_decoder.axmodel", shapes, _decoder(), times.get("decoder", 0))
    if encoder:
        moments = (1, 2 * CHANNELS, *latent[2:])
        shapes = group([("image_sample", "f32", picture)], [("latent_sample", "f32", moments)])
        _write(root / "vae_encoder.axmodel", shapes, _encoder(), times.get("encoder", 0))
    np.save(root / "time_input_txt2img.npy", table())
    if mlp:
        write_mlp(root / "time_mlp.safetensors")
    return root


def _text() -> list[NodeProto]:
    return [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Add", ["words", "places"], ["last_hidden_state"]),
    ]


def _unet() -> list[NodeProto]:
    return [
        helper.make_node("Conv", ["sample", "mix"], ["mixed"]),
        helper.make_node("Conv", ["sample", "inner"], ["seen"]),
        helper.make_node("MatMul", [TIME_NAME, "by_time"], ["when"]),
        helper.make_node("ReduceMean", ["encoder_hidden_states"], ["gist"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["gist", "by_text"], ["what"]),
        helper.make_node("Add", ["when", "what"], ["told"]),
        helper.make_node("Unsqueeze", ["told", "last_axes"], ["spread"]),
        helper.make_node("Add", ["seen", "spread"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["bent"]),
        helper.make_node("Add", ["mixed", "bent"], ["2976"]),
    ]


def _decoder() -> list[NodeProto]:
    return [
        helper.make_node("Conv", ["x", "colours"], ["small"]),
        helper.make_node("Tanh", ["small"], ["bright"]),
        helper.make_node(
            "Resize",
            ["bright", "", "scales"],
            ["image"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
    ]


def _encoder() -> list[NodeProto]:
    return [
        helper.make_node(
            "AveragePool", ["image_sample"], ["small"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]
        ),
        helper.make_node("Conv", ["small", "moments"], ["latent_sample"]),
    ]


def _constants() -> dict[str, np.ndarray[Any, Any]]:
    kernels = {"mix", "inner", "colours", "moments"}
    made = {
        name: values[..., None, None] if name in kernels else values for name, values in weights().items()
    }
    return {
        **made,
        "last_axes": np.array([2, 3], np.int64),
        "scales": np.array([1, 1, CELL, CELL], np.float32),
    }


def _write(path: Path, shapes: ShapeGroup, nodes: Sequence[NodeProto], step_ms: float) -> None:
    used = {name for node in nodes for name in node.input}
    constants = [numpy_helper.from_array(v, name) for name, v in _constants().items() if name in used]
    inputs, outputs = (
        [helper.make_tensor_value_info(spec.name, _TYPES[spec.dtype], spec.shape) for spec in side]
        for side in (shapes.inputs, shapes.outputs)
    )
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    about = {FORMAT_KEY: FORMAT_VERSION, GROUPS_KEY: encode_groups([shapes]), STEP_MS_KEY: str(step_ms)}
    helper.set_model_props(model, about)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
