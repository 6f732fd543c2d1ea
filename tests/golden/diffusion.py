"""What the golden files of the picture numerics are made from, the same on every machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.golden.llm import uniform

ANSWERS = Path(__file__).parent / "diffusion.json"
ARRAYS = Path(__file__).parent / "diffusion.npz"

SEEDS = (0, 1, 7, 42, 1234567, 2**31 - 1, 2**31, 2**32 - 1)
NOISE_SHAPES = (
    (1, 4, 64, 64),
    (3,),
    (17,),
    (1,),
    (2, 5, 7),
    (15,),
    (1, 4, 12, 12),
    (16,),
    (1, 4, 96, 128),
    (1000,),
)
"""Drawn in this order from one generator: blocks, rests, and sizes too small for a block, between two of
which one number is kept back."""
SHOWN = 24
"""Of each draw, so many numbers from either end are in the file."""

LATENT = (1, 4, 12, 12)
TRAJECTORY_SEED = 20
TRAJECTORY_STEPS = (1, 2, 3, 4, 8)
IMG2IMG_STEPS = 4
STRENGTHS = (0.25, 0.5, 0.75, 1.0)

MLP_FREQUENCIES, MLP_WIDTH = 32, 48

Floats = NDArray[np.float32]


def epsilon(index: int) -> Floats:
    """What the UNet is said to have predicted in step ``index``."""
    return (uniform(100 + index, LATENT) * 2).astype(np.float32)


def init_latent() -> Floats:
    """The picture that a picture is made from."""
    return uniform(200, LATENT).astype(np.float32)


def moments() -> Floats:
    """Mean and logvar, some of it far beyond what is sensible."""
    values = uniform(300, (1, 8, 12, 12))
    values[:, 4:] *= 12
    values[:, 4, 0] = 55
    values[:, 5, 0] = -80
    return values.astype(np.float32)


def mlp_tensors() -> dict[str, Floats]:
    """A small time embedding, by the names in a checkpoint."""
    shapes = {
        "time_embedding.linear_1.weight": (MLP_WIDTH, MLP_FREQUENCIES),
        "time_embedding.linear_1.bias": (MLP_WIDTH,),
        "time_embedding.linear_2.weight": (MLP_WIDTH, MLP_WIDTH),
        "time_embedding.linear_2.bias": (MLP_WIDTH,),
    }
    return {
        name: (uniform(400 + index, shape) * 0.5).astype(np.float32)
        for index, (name, shape) in enumerate(shapes.items())
    }
