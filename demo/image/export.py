"""Write the package of the picture model from trained weights: ``python -m demo.image.export OUT_DIR``.

Needs torch and onnx. Without ``--work`` the weights are those of the package that lies in the repository: its
graphs hold them under their own names, and what comes out is the same byte for byte. With ``--work`` they are
what training left there.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save
from torch import nn

from demo.image import latents, tokenizer
from demo.image.graphs import DecoderGraph, EncoderGraph, TextGraph, UnetGraph
from demo.image.network import TOKENS, Decoder, TextEncoder, Unet
from demo.image.pictures import SIZE
from demo.image.prompts import WORDS
from demo.image.times import WIDTH, time_mlp
from hardware.card import ShapeGroup, TensorSpec
from hardware.virtual.format import FORMAT_KEY, FORMAT_VERSION, GROUPS_KEY, encode_groups
from models.diffusion.times import MLP_TENSORS, SHIPPED_TIMESTEPS

PACKAGE = Path(__file__).parent.parent / "packages" / "hearth-image"
TEXT_ENCODER, UNET = "text_encoder/sd15_text_encoder_sim.axmodel", "unet.axmodel"
DECODER, ENCODER = "vae_decoder.axmodel", "vae_encoder.axmodel"
_TIME_INPUT = "/down_blocks.0/resnets.0/act_1/Mul_output_0"
_OPSET = 17
_HALVED_FROM = 512
"""Numbers of a tensor from which on it is stored in half precision; computed is always in single."""
_SIDE = SIZE // latents.BLOCK
_LATENT, _PICTURE = (1, latents.CHANNELS, _SIDE, _SIDE), (1, 3, SIZE, SIZE)

Arrays = dict[str, NDArray[np.float32]]


def export(weights: Mapping[str, Arrays], out: Path) -> None:
    """Write the package into ``out``. ``weights``: by file, those of its graph's network."""
    vocabulary = tokenizer.write(WORDS, out / "tokenizer")
    ids = TensorSpec("input_ids", "i32", (1, TOKENS))
    hidden = TensorSpec("last_hidden_state", "f32", (1, TOKENS, WIDTH))
    text = TextGraph(TextEncoder(vocabulary))
    _write(text, weights[TEXT_ENCODER], out / TEXT_ENCODER, (ids,), hidden)
    taken = (
        TensorSpec("sample", "f32", _LATENT),
        TensorSpec(_TIME_INPUT, "f32", (1, WIDTH)),
        TensorSpec("encoder_hidden_states", "f32", hidden.shape),
    )
    _write(UnetGraph(Unet()), weights[UNET], out / UNET, taken, TensorSpec("epsilon", "f32", _LATENT))
    given = TensorSpec("image", "f32", _PICTURE)
    decoder = DecoderGraph(Decoder())
    _write(decoder, weights[DECODER], out / DECODER, (TensorSpec("x", "f32", _LATENT),), given)
    moments = TensorSpec("latent_sample", "f32", (1, 2 * latents.CHANNELS, _SIDE, _SIDE))
    _write(EncoderGraph(), {}, out / ENCODER, (TensorSpec("image_sample", "f32", _PICTURE),), moments)
    _write_times(out)
    _write_preview(out / "latent_rgb.npy")


def weights_of_package(directory: Path) -> dict[str, Arrays]:
    """The networks' weights out of a package's graphs, as stored there."""
    return {name: _stored(directory / name) for name in (TEXT_ENCODER, UNET, DECODER)}


def weights_of_training(work: Path) -> dict[str, Arrays]:
    """Those that training left in ``work``: the running averages."""
    text = torch.load(work / "text.pt")["encoder"]
    unet = torch.load(work / "unet.pt")["average"]
    decoder = torch.load(work / "decoder.pt")["average"]
    named = {TEXT_ENCODER: ("encoder.", text), UNET: ("unet.", unet), DECODER: ("decoder.", decoder)}
    return {
        file: {prefix + name: value.contiguous().numpy() for name, value in state.items()}
        for file, (prefix, state) in named.items()
    }


def _stored(path: Path) -> Arrays:
    tensors = onnx.load(path).graph.initializer
    return {t.name.removesuffix(".f16"): numpy_helper.to_array(t).astype(np.float32) for t in tensors}


def _write(
    module: nn.Module, weights: Arrays, path: Path, inputs: Sequence[TensorSpec], output: TensorSpec
) -> None:
    own = module.state_dict()
    given = {name: torch.from_numpy(np.array(weights[name])) for name in own if name in weights}
    module.load_state_dict({**own, **given})
    model = _halved(_as_onnx(module.eval(), inputs, output))
    group = ShapeGroup(0, tuple(inputs), (output,))
    helper.set_model_props(model, {FORMAT_KEY: FORMAT_VERSION, GROUPS_KEY: encode_groups([group])})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a server that runs on a former one keeps it, and does not see it change
    onnx.save(model, path)


def _as_onnx(module: nn.Module, inputs: Sequence[TensorSpec], output: TensorSpec) -> onnx.ModelProto:
    examples = tuple(torch.from_numpy(np.ones(spec.shape, spec.numpy_dtype)) for spec in inputs)
    file = io.BytesIO()
    torch.onnx.export(
        module,
        examples,
        file,
        input_names=[spec.name for spec in inputs],
        output_names=[output.name],
        opset_version=_OPSET,
        do_constant_folding=False,
        dynamo=False,
    )
    model = onnx.load_from_string(file.getvalue())
    model.producer_name, model.producer_version = "hearth", ""
    for node in model.graph.node:
        node.doc_string = ""
    return model


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Large tensors stored in half precision, with a cast behind each: the graph computes as before."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _HALVED_FROM:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.f16"))
        casts.append(helper.make_node("Cast", [f"{name}.f16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _write_times(out: Path) -> None:
    mlp = time_mlp()
    np.save(out / "time_input_txt2img.npy", np.stack([mlp.row(t) for t in SHIPPED_TIMESTEPS]))
    tensors = (mlp.weight_1, mlp.bias_1, mlp.weight_2, mlp.bias_2)
    (out / "time_mlp.safetensors").write_bytes(save(dict(zip(MLP_TENSORS, tensors, strict=True))))


def _write_preview(path: Path) -> None:
    """A latent's first three channels are its mean colours: the preview is exact."""
    weight, bias = latents.plain_colours()
    np.save(path, np.concatenate([weight.T, bias[None]]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.image.export", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("out_dir", type=Path, nargs="?", default=PACKAGE, help="default: %(default)s")
    parser.add_argument("--work", type=Path, help="directory that the training scripts worked in")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    weights = weights_of_training(options.work) if options.work else weights_of_package(PACKAGE)
    export(weights, options.out_dir)
    size_mb = sum(path.stat().st_size for path in options.out_dir.rglob("*") if path.is_file()) / 1e6
    print(f"{options.out_dir}: {size_mb:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
