"""The time embedding, which is fixed: drawn once from a seed, with a readout of the noise level fitted to it.

The UNet predicts v inside and gives epsilon outside, so its graph has to know sqrt(ᾱ) and sqrt(1 − ᾱ). It
reads them off its time input by a linear map: half of that is smooth in the timestep, and so are they.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.diffusion.lcm import LCM_TIMESTEPS, TRAINING_STEPS, add_noise
from models.diffusion.times import TimeMlp

WIDTH = 128
FREQUENCIES = 128
_SEED = 7
_RIDGE = 1e-9

Floats = NDArray[np.float32]


def time_mlp() -> TimeMlp:
    """Two layers with weights drawn at random, kept as they are.

    The first half of each layer is connected only to the slow half of the sinusoids and to itself: it
    changes smoothly with the timestep, so that the noise level can be read off. The second
    half tells near ones apart.
    """
    random = np.random.default_rng(_SEED)
    first = random.normal(0, 1.2 * FREQUENCIES**-0.5, (WIDTH, FREQUENCIES)).astype(np.float32)
    second = random.normal(0, 2.0 * WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32)
    half = WIDTH // 2
    frequency = np.tile(np.arange(FREQUENCIES // 2), 2)
    first[:half, frequency < FREQUENCIES // 4] = 0
    second[:half, half:] = 0
    biases = random.normal(0, 0.3, (2, WIDTH)).astype(np.float32)
    return TimeMlp(first, biases[0], second, biases[1])


def time_rows(mlp: TimeMlp) -> Floats:
    """float32[1000, WIDTH]: the time input of every timestep."""
    return np.stack([mlp.row(timestep) for timestep in range(TRAINING_STEPS)])


def levels() -> Floats:
    """float32[1000, 2]: how much picture, sqrt(ᾱ), and how much noise, sqrt(1 − ᾱ), every timestep has."""
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    pairs = [(add_noise(one, none, t), add_noise(none, one, t)) for t in range(TRAINING_STEPS)]
    return np.array(pairs, dtype=np.float32)[..., 0]


def readout(rows: Floats) -> tuple[Floats, Floats]:
    """float32[2, WIDTH] and float32[2] with rows · wᵀ + b = sqrt(ᾱ), sqrt(1 − ᾱ) at the timesteps of an LCM.

    ``rows``: float32[1000, WIDTH].
    """
    stops = list(LCM_TIMESTEPS)
    wanted, known = levels()[stops].astype(np.float64), rows[stops].astype(np.float64)
    known = np.concatenate([known, np.ones((len(known), 1))], axis=1)
    gram = known.T @ known + _RIDGE * len(known) * np.eye(known.shape[1])
    solved = np.linalg.solve(gram, known.T @ wanted)
    return solved[:-1].T.astype(np.float32), solved[-1].astype(np.float32)
