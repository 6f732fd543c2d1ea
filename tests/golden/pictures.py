"""A picture model of a few hundred weights, the same on every machine: as arrays, as formulas, as a package.

Small, but with everything in it that an engine could get wrong: each graph reacts to each of its inputs, and
nothing in it is symmetrical.

    text encoder  hidden[t] = table[ids[t]] + places[t]
    UNet          epsilon = sample ∘ mix + tanh(sample ∘ inner + time · by_time + mean(text) · by_text)
    VAE decoder   image = tanh(latent ∘ colours), every cell becoming a square
    VAE encoder   moments = mean of each square ∘ moments

∘ mixes channels, as a convolution of 1 × 1 does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.golden.diffusion import MLP_WIDTH
from tests.golden.llm import uniform

ARRAYS = Path(__file__).parent / "pictures.npz"

PROMPT, NEGATIVE = "red circle on a red cat", "an"
GUIDANCE = 1.5
SEED = 42
STEPS = (1, 2, 3, 4, 8)
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
IMG2IMG_STEPS = 4

TOKENS, TEXT_WIDTH, CHANNELS, CELL = 77, 6, 4, 8
WIDTH_PX, HEIGHT_PX = 80, 64
VOCAB = 640

Floats = NDArray[np.float32]


def weights() -> dict[str, Floats]:
    """All of them, by the names in the formulas."""
    shapes = {
        "table": (VOCAB, TEXT_WIDTH),
        "places": (TOKENS, TEXT_WIDTH),
        "mix": (CHANNELS, CHANNELS),
        "inner": (CHANNELS, CHANNELS),
        "by_time": (MLP_WIDTH, CHANNELS),
        "by_text": (TEXT_WIDTH, CHANNELS),
        "colours": (3, CHANNELS),
        "moments": (2 * CHANNELS, 3),
    }
    made = {name: uniform(900 + index, shape) * 0.5 for index, (name, shape) in enumerate(shapes.items())}
    # A UNet is mostly right about the noise: with epsilon far from it, the latents would grow without bound.
    made["mix"] += np.eye(CHANNELS)
    made["colours"] *= 0.2
    return {name: values.astype(np.float32) for name, values in made.items()}


def source_picture() -> NDArray[np.uint8]:
    """uint8[height, width, 3]: what pictures from pictures begin with."""
    across = np.linspace(0, 255, WIDTH_PX)[None, :, None] * np.array([1.0, 0.5, 0.0])
    down = np.linspace(0, 255, HEIGHT_PX)[:, None, None] * np.array([0.0, 0.5, 1.0])
    picture: NDArray[np.uint8] = np.clip(across + down, 0, 255).round().astype(np.uint8)
    return picture
