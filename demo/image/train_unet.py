"""Teach the UNet to draw: ``python -m demo.image.train_unet WORK --minutes 55``. Needs torch.

The loss is that of v, which at timestep 999 is the loss of the picture itself, and counts threefold where
there are edges. Two thirds of the timesteps are near the four that the usual sampler stops at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from demo.image import tokenizer
from demo.image.latents import BLOCK, COLOUR_AXES, DEVIATION, EDGE_SOFTNESS, MEAN
from demo.image.network import TextEncoder, Unet
from demo.image.pictures import COLOURS, PLACES, Scene, coverage, pose_of
from demo.image.prompts import WORDS, random_prompt, random_scene
from demo.image.shapes import SHAPES
from demo.image.times import levels, time_mlp, time_rows
from demo.image.train_text import ids_of
from demo.image.training import Training
from models.diffusion.times import SHIPPED_TIMESTEPS
from models.diffusion.tokens import PromptTokenizer

BATCH = 48
_NEAR, _NEAR_SHARE = 20, 0.65
_LARGE, _SMALL = 400, 60
"""Figures drawn of each shape: large ones, and small ones for each place."""
_SILENT = 0.05
"""Share of pictures without a prompt, so that guidance has something to push away from."""
_EDGES_COUNT = 2.0
_SHOWN_EVERY = 50

Kind = tuple[str, bool, str]


@dataclass(frozen=True)
class Figures:
    """Drawn figures without their colours, by (shape, small, place): float32[n, 2, 16, 16], cover and edge.

    A latent is linear in its two colours, and its edges follow from their difference; so a few drawings make
    many latents, with no picture drawn for them.
    """

    maps: Mapping[Kind, Tensor]

    def latents(self, scenes: Sequence[Scene], random: Generator) -> tuple[Tensor, Tensor]:
        """float32[n, 4, 16, 16], and the edges in it before scaling, float32[n, 1, 16, 16]."""
        chosen = [self.maps[(scene.shape, scene.small, scene.place)] for scene in scenes]
        maps = torch.stack([drawn[int(random.integers(len(drawn)))] for drawn in chosen])
        figure = _colours([scene.colour for scene in scenes])
        ground = _colours([scene.background for scene in scenes])
        colours = ground + maps[:, :1] * (figure - ground)
        contrast = (figure - ground).abs().amax(1, keepdim=True)
        edge = 1 - torch.exp(-maps[:, 1:] * contrast / EDGE_SOFTNESS)
        channels = torch.cat([torch.einsum("ac,nchw->nahw", _tensor(COLOUR_AXES), colours), edge], dim=1)
        return (channels - _tensor(MEAN[:, None, None])) / _tensor(DEVIATION[:, None, None]), edge


def draw_figures(random: Generator) -> Figures:
    """Some 17,000, in a minute or two."""
    kinds = [(shape, False, "middle") for shape in SHAPES]
    kinds += [(shape, True, place) for shape in SHAPES for place in PLACES]
    return Figures({kind: torch.from_numpy(_drawn(kind, random)) for kind in kinds})


def _drawn(kind: Kind, random: Generator) -> NDArray[np.float32]:
    shape, small, place = kind
    scene = Scene(shape, "red", "blue", small, place)
    count = _SMALL if small else _LARGE
    return np.stack([_cover_and_edge(coverage(shape, pose_of(scene, random))) for _ in range(count)])


def _cover_and_edge(cover: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ``latents.encode`` sees of a figure, for a contrast of 1."""
    padded = np.pad(cover, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    both = np.stack([cover, np.abs(cover - around)])
    side = cover.shape[0] // BLOCK
    return np.asarray(both.reshape(2, side, BLOCK, side, BLOCK).mean(axis=(2, 4)), dtype=np.float32)


def random_timesteps(random: Generator, count: int) -> NDArray[np.int64]:
    """int64[count]."""
    near = random.choice(SHIPPED_TIMESTEPS, count) + random.integers(-_NEAR, _NEAR + 1, count)
    anywhere = random.integers(10, 1000, count)
    return np.where(random.random(count) < _NEAR_SHARE, np.clip(near, 0, 999), anywhere)


def _colours(names: Sequence[str]) -> Tensor:
    """float32[n, 3, 1, 1] in [−1, 1]."""
    values = np.array([COLOURS[name] for name in names]) / 127.5 - 1
    return _tensor(values[:, :, None, None])


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


class Teacher:
    """Makes batches and says how wrong the UNet is on them."""

    def __init__(self, work: Path, unet: Unet) -> None:
        self._encoder = TextEncoder(tokenizer.write(WORDS, work / "tokenizer"))
        self._words = PromptTokenizer(work / "tokenizer")
        text = torch.load(work / "text.pt")
        self._encoder.load_state_dict(text["encoder"])
        unet.reader.load_state_dict(text["reader"])
        unet.reader.requires_grad_(False)
        self._unet = unet
        self._figures = draw_figures(np.random.default_rng(3))
        self._times = torch.from_numpy(time_rows(time_mlp()))
        self._levels = torch.from_numpy(levels())

    def loss(self, random: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of one batch; and of each of its pictures, unweighted, with its timestep."""
        scenes = [random_scene(random) for _ in range(BATCH)]
        clean, edge = self._figures.latents(scenes, random)
        timesteps = torch.from_numpy(random_timesteps(random, BATCH))
        signal, noise = self._levels[timesteps][..., None, None].split(1, dim=1)
        dirt = torch.randn(clean.shape)
        sample = (signal * clean + noise * dirt).contiguous(memory_format=torch.channels_last)
        v = self._unet(sample, self._times[timesteps], self._told(scenes, random))
        errors = (v - (signal * dirt - noise * clean)).square()
        weighted = (errors * (1 + _EDGES_COUNT * edge)).mean()
        return weighted, errors.mean((1, 2, 3)).detach(), timesteps

    def _told(self, scenes: Sequence[Scene], random: Generator) -> Tensor:
        prompts = ["" if random.random() < _SILENT else random_prompt(scene, random) for scene in scenes]
        with torch.no_grad():
            rows: Tensor = self._encoder(ids_of(prompts, self._words))
        return rows


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Teach the UNet to draw.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=55)
    parser.add_argument("--rate", type=float, default=1e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    unet = Unet()
    teacher = Teacher(options.work, unet)
    path = options.work / "unet.pt"
    training = Training(unet, path, minutes=options.minutes, rate=options.rate, keep=0.998)
    torch.manual_seed(training.step)
    random = np.random.default_rng(1000 + training.step)
    seen: list[tuple[Tensor, Tensor]] = []
    for step in training.steps():
        loss, each, timesteps = teacher.loss(random)
        training.learn(loss)
        seen.append((each, timesteps))
        if step % _SHOWN_EVERY == 0:
            print(
                f"{step} {training.spent_s:.0f} s, v loss at {SHIPPED_TIMESTEPS}: {_shown(seen)}", flush=True
            )
            seen.clear()
    return 0


def _shown(seen: Sequence[tuple[Tensor, Tensor]]) -> str:
    each, timesteps = (torch.cat(parts) for parts in zip(*seen, strict=True))
    return " ".join(f"{each[(timesteps - stop).abs() <= _NEAR].mean():.4f}" for stop in SHIPPED_TIMESTEPS)


if __name__ == "__main__":
    sys.exit(main())
