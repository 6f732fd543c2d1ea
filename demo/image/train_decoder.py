"""Teach the decoder: ``python -m demo.image.train_decoder WORK --minutes 15``. Needs torch.

It sees latents with a little noise in them, because those that the UNet makes are not perfect either, and
some colours that have no name, because a picture that somebody sends has such.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from demo.image.latents import encode
from demo.image.network import Decoder
from demo.image.pictures import COLOURS, Pixels, coverage, pose_of
from demo.image.prompts import random_scene
from demo.image.training import Training

BATCH = 12
FIGURES = 4000
_NOISE = 0.15
"""Largest deviation of the noise in a latent."""
_NAMELESS = 0.2
"""Share of pictures in any two colours."""
_LEAST_CONTRAST = 0.2
_SHOWN_EVERY = 50


def draw_figures(random: Generator) -> NDArray[np.uint8]:
    """What figures cover, uint8[FIGURES, 128, 128]."""
    scenes = [random_scene(random) for _ in range(FIGURES)]
    covers = (coverage(scene.shape, pose_of(scene, random)) for scene in scenes)
    return np.stack([np.rint(cover * 255).astype(np.uint8) for cover in covers])


def draw_batch(figures: NDArray[np.uint8], random: Generator) -> Pixels:
    """uint8[BATCH, 128, 128, 3]: figures, some of them mirrored, in colours drawn anew."""
    covers = figures[random.integers(len(figures), size=BATCH)].astype(np.float32)[..., None] / 255
    mirrored = random.random(BATCH) < 0.5
    covers[mirrored] = covers[mirrored, :, ::-1]
    palette = np.array(list(COLOURS.values()), np.float32)
    pairs = np.stack([palette[random.choice(len(palette), 2, replace=False)] for _ in range(BATCH)])
    nameless = random.random(BATCH) < _NAMELESS
    pairs[nameless] = random.uniform(0, 255, (int(nameless.sum()), 2, 3))
    figure, ground = pairs[:, 0, None, None], pairs[:, 1, None, None]
    return np.rint(ground + covers * (figure - ground)).astype(np.uint8)


def loss_of(made: Tensor, wanted: Tensor) -> Tensor:
    """Of values and of differences between neighbours: flat where it is flat, sharp where it is sharp.

    Errors count by the contrast they are made at: a faint outline is one, too.
    """
    contrast = (wanted.amax((2, 3), keepdim=True) - wanted.amin((2, 3), keepdim=True)).amax(1, keepdim=True)
    error = (made - wanted) / (contrast + _LEAST_CONTRAST)
    across, down = error.diff(dim=-1).abs().mean(), error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 2 * error.square().mean() + 0.5 * (across + down)


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Teach the decoder to draw what latents hold.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=2e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    decoder, path = Decoder(), options.work / "decoder.pt"
    training = Training(decoder, path, minutes=options.minutes, rate=options.rate, keep=0.995)
    torch.manual_seed(training.step)
    random = np.random.default_rng(2000 + training.step)
    figures = draw_figures(np.random.default_rng(4))
    errors: list[float] = []
    for step in training.steps():
        pixels = draw_batch(figures, random)
        made, wanted = decoder(_noisy(encode(pixels), random)), _planes(pixels)
        training.learn(loss_of(made, wanted))
        errors.append(functional.mse_loss(made, wanted).item() / 4)
        if step % _SHOWN_EVERY == 0:
            print(f"{step} {training.spent_s:.0f} s, {-10 * np.log10(np.mean(errors)):.2f} dB", flush=True)
            errors.clear()
    return 0


def _noisy(latents: NDArray[np.float32], random: Generator) -> Tensor:
    clean = torch.from_numpy(latents)
    deviation = torch.from_numpy(random.uniform(0, _NOISE, (BATCH, 1, 1, 1)).astype(np.float32))
    return (clean + deviation * torch.randn(clean.shape)).contiguous(memory_format=torch.channels_last)


def _planes(pixels: Pixels) -> Tensor:
    """float32[n, 3, height, width] in [−1, 1]."""
    return torch.from_numpy(np.moveaxis(pixels, -1, 1).astype(np.float32) / 127.5 - 1)


if __name__ == "__main__":
    sys.exit(main())
