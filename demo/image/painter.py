"""Prompts to pictures through the package's graphs, the plain way: no queue, no preview, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from config.groups import VirtualCardSettings
from demo.image.pictures import Pixels
from hardware.card import Array, Graph
from hardware.virtual.card import VirtualCard
from models.diffusion.image import from_pixels, to_pixels
from models.diffusion.latent import for_decoder, from_moments
from models.diffusion.lcm import Latent, add_noise, estimate, timesteps, timesteps_from
from models.diffusion.noise import TorchNoise
from models.diffusion.package import PictureModel, assemble, find_package, read_geometry
from models.diffusion.tokens import PromptTokenizer

_TIMEOUT_S = 60.0


class Painter:
    """The package's graphs on an opened card."""

    def __init__(self, directory: Path, card: VirtualCard) -> None:
        variant = find_package(directory).variants[0]
        self.model: PictureModel = assemble(variant, read_geometry(variant))
        self._words = PromptTokenizer(variant.tokenizer)
        self._text, self._unet = card.load(variant.text_encoder), card.load(variant.unet)
        self._decoder = card.load(variant.vae_decoder)
        self._encoder = card.load(variant.vae_encoder) if variant.vae_encoder else None

    def draw(self, prompt: str, seed: int, steps: int = 4) -> Pixels:
        """A picture from text: uint8[height, width, 3]."""
        noise = TorchNoise(seed)
        latent = noise.normal(self.model.geometry.latent_shape)
        return self._finish(prompt, latent, timesteps(steps), noise)

    def redraw(self, picture: Pixels, prompt: str, seed: int, strength: float, steps: int = 4) -> Pixels:
        """A picture from a picture. The encoder's noise is drawn first, then the one it is covered with."""
        noise, schedule = TorchNoise(seed), timesteps_from(steps, strength)
        shape = self.model.geometry.latent_shape
        clean = self.encode(picture, noise.normal(shape))
        return self._finish(prompt, add_noise(clean, noise.normal(shape), schedule[0]), schedule, noise)

    def encode(self, picture: Pixels, noise: Latent) -> Latent:
        """The latent of a picture, with the encoder's own uncertainty drawn from ``noise``."""
        if self._encoder is None:
            raise ValueError("the package has no encoder")
        return from_moments(_run(self._encoder, from_pixels(picture)), noise)

    def decode(self, latent: Latent) -> Pixels:
        """The picture of a latent."""
        return to_pixels(_run(self._decoder, for_decoder(latent)))

    def _finish(self, prompt: str, latent: Latent, schedule: tuple[int, ...], noise: TorchNoise) -> Pixels:
        text = _run(self._text, self._words.tokens(prompt, self.model.geometry.tokens).ids)
        for timestep, after in zip(schedule, (*schedule[1:], None), strict=True):
            latent = estimate(latent, self._epsilon(latent, timestep, text), timestep)
            if after is not None:
                latent = add_noise(latent, noise.normal(latent.shape), after)
        return self.decode(latent)

    def _epsilon(self, sample: Latent, timestep: int, text: Array) -> Latent:
        unet = self.model.geometry.unet
        times = self.model.times.feed(timestep)
        feeds = {unet.sample.name: sample, unet.time.name: times, unet.text.name: text}
        return self._unet.run(feeds, timeout_s=_TIMEOUT_S)[unet.epsilon.name]


def _run(graph: Graph, value: Array) -> Array:
    """The one output of a graph for its one input."""
    group = graph.groups[0]
    outputs = graph.run({group.inputs[0].name: np.ascontiguousarray(value)}, timeout_s=_TIMEOUT_S)
    return outputs[group.outputs[0].name]


@contextmanager
def painter(directory: Path) -> Iterator[Painter]:
    """A painter on a virtual card of its own."""
    with TemporaryDirectory() as state, VirtualCard(Path(state), VirtualCardSettings()) as card:
        yield Painter(directory, card)
