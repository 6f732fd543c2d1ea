"""Draw the golden pictures with diffusers' LCMScheduler and the package's weights in torch.

    python -m tests.golden.make_demo_pictures

Needs torch and diffusers, and is to be run again whenever ``demo/packages/hearth-image`` changes. Everything
that the server does in numpy and ONNX is done here by others: noise, schedule, posterior, networks.
"""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from typing import Any

import numpy as np
import torch

from demo.image.export import DECODER, PACKAGE, TEXT_ENCODER, UNET, weights_of_package
from demo.image.graphs import DecoderGraph, EncoderGraph, TextGraph
from demo.image.network import TOKENS, Decoder, TextEncoder, Unet
from demo.image.times import time_mlp
from models.diffusion.tokens import PromptTokenizer
from tests.golden.demo_pictures import DRAWINGS, PICTURES, STEPS, Drawing, begin
from tests.golden.make_diffusion import schedule, tail

vae = import_module("diffusers.models.autoencoders.vae")
embeddings = import_module("diffusers.models.embeddings")
SCALING_FACTOR = 0.18215


class Pipeline:
    """Stable Diffusion's, from text or from a picture, without guidance."""

    def __init__(self) -> None:
        weights = weights_of_package(PACKAGE)
        self._words = PromptTokenizer(PACKAGE / "tokenizer")
        self._encoder, self._unet, decoder = _text(weights[TEXT_ENCODER]), Unet(), Decoder()
        _load(self._unet, weights[UNET], "unet.")
        _load(decoder, weights[DECODER], "decoder.")
        self._decoder, self._vae_encoder = DecoderGraph(decoder).eval(), EncoderGraph().eval()
        self._times = _time_embedding()

    def draw(self, drawing: Drawing) -> Any:
        """uint8[128, 128, 3]."""
        generator = torch.Generator().manual_seed(drawing.seed)
        scheduler = schedule(STEPS)
        latent, timesteps = self._begin(drawing, scheduler, generator)
        text = self._encoder(torch.from_numpy(self._words.tokens(drawing.prompt, TOKENS).ids))
        for timestep in timesteps:
            predicted = self._epsilon(scheduler, latent, timestep, text)
            latent = scheduler.step(predicted, timestep, latent, generator=generator).prev_sample
        picture = self._decoder(latent / SCALING_FACTOR)
        return ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()

    def _begin(self, drawing: Drawing, scheduler: Any, generator: torch.Generator) -> Any:
        shape = (1, 4, 16, 16)
        if drawing.strength is None:
            noise = torch.randn(shape, generator=generator) * scheduler.init_noise_sigma
            return noise, scheduler.timesteps
        picture = torch.from_numpy(begin()).permute(2, 0, 1)[None].float() / 127.5 - 1
        posterior = vae.DiagonalGaussianDistribution(self._vae_encoder(picture))
        clean = posterior.sample(generator) * SCALING_FACTOR
        timesteps = tail(scheduler, STEPS, drawing.strength)
        return scheduler.add_noise(clean, torch.randn(shape, generator=generator), timesteps[:1]), timesteps

    def _epsilon(self, scheduler: Any, latent: Any, timestep: Any, text: Any) -> Any:
        """From the v that the UNet predicts, with the scheduler's own noise level instead of the graph's."""
        rows = torch.nn.functional.silu(self._times(embeddings.Timesteps(128, True, 0)(timestep[None])))
        alpha = scheduler.alphas_cumprod[timestep]
        return (1 - alpha).sqrt() * latent + alpha.sqrt() * self._unet(latent, rows, text)


def _text(weights: Any) -> Any:
    encoder = TextEncoder(weights["encoder.tokens.weight"].shape[0])
    _load(encoder, weights, "encoder.")
    return TextGraph(encoder).eval()


def _load(network: Any, weights: Any, prefix: str) -> None:
    own = {name.removeprefix(prefix): torch.from_numpy(np.array(v)) for name, v in weights.items()}
    network.load_state_dict({name: own[name] for name in network.state_dict()})
    network.eval()


def _time_embedding() -> Any:
    mlp = time_mlp()
    embedding = embeddings.TimestepEmbedding(mlp.weight_1.shape[1], mlp.width)
    tensors = {
        "linear_1.weight": mlp.weight_1,
        "linear_1.bias": mlp.bias_1,
        "linear_2.weight": mlp.weight_2,
        "linear_2.bias": mlp.bias_2,
    }
    embedding.load_state_dict({name: torch.from_numpy(values) for name, values in tensors.items()})
    return embedding


def main() -> int:
    """The command. Returns the exit status."""
    torch.set_num_threads(1)
    with torch.no_grad():
        pipeline = Pipeline()
        pictures = {name: pipeline.draw(drawing) for name, drawing in DRAWINGS.items()}
    unet = hashlib.sha256((PACKAGE / UNET).read_bytes()).hexdigest()
    np.savez_compressed(PICTURES, unet_sha256=np.array(unet), **pictures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
