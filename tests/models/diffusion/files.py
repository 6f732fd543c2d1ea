"""Picture packages in every layout, of graphs that say of themselves what the compiled ones do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from hardware.card import ShapeGroup, TensorSpec
from hardware.virtual.format import FORMAT_KEY, FORMAT_VERSION, GROUPS_KEY, encode_groups
from models.diffusion.times import SHIPPED_TIMESTEPS, TimeMlp
from tests.golden.diffusion import MLP_WIDTH, mlp_tensors
from tests.golden.llm import byte_alphabet

TIME_NAME = "/down_blocks.0/resnets.0/act_1/Mul_output_0"
Shapes = list[tuple[str, str, tuple[int, ...]]]


def group(inputs: Shapes, outputs: Shapes) -> ShapeGroup:
    """A shape group of these tensors."""
    return ShapeGroup(0, *(tuple(TensorSpec(*each) for each in side) for side in (inputs, outputs)))


def shape_groups(height: int = 512, width: int = 512) -> dict[str, ShapeGroup]:
    """What the four graphs of a package for this size look like, by role."""
    latent = (1, 4, height // 8, width // 8)
    picture = (1, 3, height, width)
    moments = (1, 8, *latent[2:])
    text = (1, 77, 768)
    return {
        "text": group([("input_ids", "i32", (1, 77))], [("last_hidden_state", "f32", text)]),
        "unet": group(
            [
                ("sample", "f32", latent),
                (TIME_NAME, "f32", (1, MLP_WIDTH)),
                ("encoder_hidden_states", "f32", text),
            ],
            [("2976", "f32", latent)],
        ),
        "decoder": group([("x", "f32", latent)], [("image", "f32", picture)]),
        "encoder": group([("image_sample", "f32", picture)], [("latent_sample", "f32", moments)]),
    }


def write_graph(path: Path, shapes: ShapeGroup) -> None:
    """A graph file for the virtual card that says this of itself, and does nothing."""
    side = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["in"], ["out"])], "g", side[:1], side[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, {FORMAT_KEY: FORMAT_VERSION, GROUPS_KEY: encode_groups([shapes])})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def time_mlp() -> TimeMlp:
    """The golden time embedding."""
    return TimeMlp(*mlp_tensors().values())


def table(timesteps: tuple[int, ...] = SHIPPED_TIMESTEPS) -> np.ndarray[Any, Any]:
    """Its rows."""
    return np.stack([time_mlp().row(timestep) for timestep in timesteps])


def write_mlp(path: Path, tensors: Mapping[str, np.ndarray[Any, Any]] | None = None) -> None:
    """The golden time embedding, or ``tensors``, as a safetensors file."""
    save_file(dict(tensors or mlp_tensors()), path)


def write_set(root: Path, height: int = 512, width: int = 512) -> Path:
    """The newest layout: a whole set of graphs for one size in ``root``."""
    shapes = shape_groups(height, width)
    write_graph(root / "text_encoder" / "sd15_text_encoder_sim.axmodel", shapes["text"])
    for role in ("decoder", "encoder"):
        write_graph(root / f"vae_{role}.axmodel", shapes[role])
    write_graph(root / "unet.axmodel", shapes["unet"])
    write_tokenizer(root / "tokenizer")
    np.save(root / "time_input_txt2img.npy", table())
    img2img = table()
    img2img[:2], img2img[2:] = img2img[2:].copy(), 0
    np.save(root / "time_input_img2img.npy", img2img)
    return root


def write_tokenizer(directory: Path) -> None:
    """The two files of a CLIP tokenizer: every byte, a few merges, and the marks."""
    directory.mkdir(parents=True, exist_ok=True)
    letters = list(byte_alphabet().values())
    merges = ["r e", "re d</w>", "c i", "ci r", "cir c", "circ l", "circl e</w>", "o n</w>", "a n", "a t</w>"]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(pair.replace(" ", "") for pair in merges)]
    vocab = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    (directory / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
