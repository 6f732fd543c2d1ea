"""A picture package whose graphs do no arithmetic but take as long as real ones: the rest is the host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.card import ShapeGroup, TensorSpec
from hardware.virtual.format import FORMAT_KEY, FORMAT_VERSION, GROUPS_KEY, STEP_MS_KEY, encode_groups
from hardware.virtual.timing import TIMINGS

PI5 = TIMINGS["pi5"]
WIDTH, TOKENS, TIME_WIDTH = 768, 77, 1280
CELL = 8


@dataclass(frozen=True, slots=True)
class Calls:
    """Milliseconds of one call from the host's side: inputs up, execution, outputs down."""

    text_ms: float
    unet_ms: float
    decoder_ms: float

    def picture_ms(self, steps: int) -> float:
        """What the card needs for one picture, whatever the host does."""
        return self.text_ms + steps * self.unet_ms + self.decoder_ms


SD15_PI5 = Calls(text_ms=9.8, unet_ms=433.5, decoder_ms=914.0)
"""512 × 512 on a Raspberry Pi 5. Source: M5Stack's log for the LLM-8850 (UNet 433.2 to 433.6, VAE 914),
AXERA's for the text encoder; both measured around the call, transfers included."""
NOTHING = Calls(0.0, 0.0, 0.0)


def write_package(root: Path, calls: Calls, size: int = 512) -> Path:
    """A package that draws one picture of ``size`` × ``size``, always the same, in ``root``."""
    cells = size // CELL
    latent, hidden = (1, 4, cells, cells), (1, TOKENS, WIDTH)
    ids = TensorSpec("input_ids", "i32", (1, TOKENS))
    text = TensorSpec("encoder_hidden_states", "f32", hidden)
    sample, time = TensorSpec("sample", "f32", latent), TensorSpec("time", "f32", (1, TIME_WIDTH))
    state = TensorSpec("last_hidden_state", "f32", hidden)
    image = TensorSpec("image", "f32", (1, 3, size, size))
    x, epsilon = TensorSpec("x", "f32", latent), TensorSpec("epsilon", "f32", latent)
    root.mkdir(parents=True, exist_ok=True)
    _write(root / "text_encoder.axmodel", [ids], state, calls.text_ms)
    _write(root / "unet.axmodel", [sample, time, text], epsilon, calls.unet_ms, same="sample")
    _write(root / "vae_decoder.axmodel", [x], image, calls.decoder_ms, constant=_picture(size))
    np.save(root / "time_input_txt2img.npy", _times())
    _write_tokenizer(root / "tokenizer")
    return root


def _picture(size: int) -> NDArray[np.float32]:
    """Something that is about as hard to compress as a photograph: soft shapes under fine grain."""
    noise = np.random.default_rng(1)
    axis = np.linspace(0, 6 * np.pi, size)
    soft = np.stack([np.sin(axis[:, None] / k) * np.cos(axis[None] / (k + 1)) for k in (1, 2, 3)])
    grain = noise.normal(0, 0.035, (3, size, size))
    return np.clip(soft * 0.7 + grain, -1, 1)[None].astype(np.float32)


def _times() -> NDArray[np.float32]:
    values = np.random.default_rng(2).normal(size=(4, TIME_WIDTH))
    activated: NDArray[np.float32] = (values / (1 + np.exp(-values))).astype(np.float32)
    return activated


def _write_tokenizer(directory: Path) -> None:
    """Every letter is a token."""
    directory.mkdir(exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    (directory / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def _write(
    path: Path,
    inputs: list[TensorSpec],
    output: TensorSpec,
    call_ms: float,
    same: str | None = None,
    constant: NDArray[np.float32] | None = None,
) -> None:
    """The output is the input called ``same``, or a constant. The rest of the call is the bus's share."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kinds = {"f32": TensorProto.FLOAT, "i32": TensorProto.INT32}

    def info(spec: TensorSpec) -> Any:
        return helper.make_tensor_value_info(spec.name, kinds[spec.dtype], spec.shape)

    values = np.zeros(output.shape, np.float32) if constant is None else constant
    constants = [] if same else [numpy_helper.from_array(values, "constant")]
    nodes = [helper.make_node("Identity", [same or "constant"], [output.name])]
    bus_ms = sum(spec.size_bytes for spec in (*inputs, output)) * PI5.bus_s_per_byte * 1000
    step_ms = max(0.0, call_ms - bus_ms - PI5.execute_s * 1000)
    graph = helper.make_graph(nodes, path.stem, [info(spec) for spec in inputs], [info(output)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    about = {
        FORMAT_KEY: FORMAT_VERSION,
        GROUPS_KEY: encode_groups([ShapeGroup(0, tuple(inputs), (output,))]),
        STEP_MS_KEY: str(step_ms),
    }
    helper.set_model_props(model, about)
    onnx.save(model, path)
