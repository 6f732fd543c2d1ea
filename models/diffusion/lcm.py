"""The latent-consistency sampler: which timesteps a picture takes, and what each does to the latent.

Equal to diffusers' ``LCMScheduler`` with the settings of Stable Diffusion 1.5: scaled-linear betas, epsilon
prediction, 50 original steps, no clipping. Source: huggingface/diffusers 0.42.1,
schedulers/scheduling_lcm.py; Luo et al., "Latent Consistency Models", arXiv:2310.04378.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TRAINING_STEPS = 1000
ORIGINAL_STEPS = 50
"""The schedule the model was distilled on; every schedule used here is a part of it."""
LCM_TIMESTEPS = tuple(range(TRAINING_STEPS - 1, 0, -TRAINING_STEPS // ORIGINAL_STEPS))
"""999, 979, … 19."""

_BETA_START, _BETA_END = 0.00085, 0.012
_SIGMA_DATA = 0.5
_TIMESTEP_SCALING = 10.0

Latent = NDArray[np.float32]


def _alphas() -> NDArray[np.float64]:
    """ᾱ of every training timestep. diffusers sums in float32; that is within 1e-6 relative of this."""
    betas = np.linspace(math.sqrt(_BETA_START), math.sqrt(_BETA_END), TRAINING_STEPS) ** 2
    return np.cumprod(1 - betas, dtype=np.float64)


_ALPHAS = _alphas()


@dataclass(frozen=True, slots=True)
class Denoised:
    """What one step made.

    ``latent`` goes into the next step, or to the VAE after the last; ``estimate`` is the picture as the model
    sees it by now, which is what a preview shows. Both float32[1, channels, h, w], scaled for the UNet.
    """

    latent: Latent
    estimate: Latent


@lru_cache(maxsize=ORIGINAL_STEPS)
def timesteps(steps: int) -> tuple[int, ...]:
    """The schedule of ``steps`` steps, from the noisiest down.

    Raises:
        ValueError: ``steps`` is not from 1 to ``ORIGINAL_STEPS``.
    """
    if not 1 <= steps <= ORIGINAL_STEPS:
        raise ValueError(f"steps must be from 1 to {ORIGINAL_STEPS}, not {steps}")
    # np.linspace and not integer division: where index · 50 / steps is whole, its rounding decides.
    indices = np.floor(np.linspace(0, ORIGINAL_STEPS, num=steps, endpoint=False)).astype(int)
    return tuple(LCM_TIMESTEPS[index] for index in indices)


def kept_steps(steps: int, strength: float) -> int:
    """How many of ``steps`` a picture from a picture takes at ``strength``, which is from 0 to 1.

    Zero when the strength is below one step's worth: then there is nothing to compute. Source:
    huggingface/diffusers, StableDiffusionImg2ImgPipeline.get_timesteps.

    Raises:
        ValueError: ``strength`` is not from 0 to 1, or not a number.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be from 0 to 1, not {strength}")
    return min(int(steps * strength), steps)


def timesteps_from(steps: int, strength: float) -> tuple[int, ...]:
    """The last ``kept_steps(steps, strength)`` timesteps of the schedule of ``steps``.

    Raises:
        ValueError: as ``timesteps`` and ``kept_steps``, or no step is left.
    """
    kept = kept_steps(steps, strength)
    if kept == 0:
        raise ValueError(f"strength {strength:g} leaves nothing of {steps} steps: use {1 / steps:g} or more")
    return timesteps(steps)[steps - kept :]


def add_noise(latent: Latent, noise: Latent, timestep: int) -> Latent:
    """``latent`` as it looks at ``timestep``, noised: where a picture from a picture begins."""
    alpha = float(_ALPHAS[timestep])
    return (math.sqrt(alpha) * latent + math.sqrt(1 - alpha) * noise).astype(np.float32, copy=False)


def boundary(timestep: int) -> tuple[float, float]:
    """c_skip and c_out: how much of its input and of its output a consistency model is made of here.

    Nearly 0 and 1 at every timestep in use; what they are for is the limit at timestep 0.
    """
    scaled = timestep * _TIMESTEP_SCALING
    return _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2), scaled / math.sqrt(scaled**2 + _SIGMA_DATA**2)


def estimate(latent: Latent, epsilon: Latent, timestep: int) -> Latent:
    """The clean latent that the predicted noise ``epsilon`` leaves of ``latent``."""
    alpha = float(_ALPHAS[timestep])
    c_skip, c_out = boundary(timestep)
    clean = (latent - math.sqrt(1 - alpha) * epsilon) / math.sqrt(alpha)
    return (c_out * clean + c_skip * latent).astype(np.float32, copy=False)


def guided(without: Latent, epsilon: Latent, scale: float) -> Latent:
    """The noise predicted for a prompt, pushed away from the one predicted for the negative prompt.

    At ``scale`` 1 the negative prompt has no say. Source: Ho & Salimans, arXiv:2207.12598, in the form that
    diffusers gives it.
    """
    return (without + scale * (epsilon - without)).astype(np.float32, copy=False)


def advance(
    latent: Latent,
    epsilon: Latent,
    schedule: Sequence[int],
    index: int,
    noise: Callable[[], Latent],
) -> Denoised:
    """Take ``latent`` through step ``index`` of ``schedule``, ``epsilon`` being what the UNet said of it.

    ``noise()`` is drawn after every step but the last, as diffusers does: one draw for each step that
    has another one behind it.
    """
    clean = estimate(latent, epsilon, schedule[index])
    if index + 1 < len(schedule):
        return Denoised(add_noise(clean, noise(), schedule[index + 1]), clean)
    return Denoised(clean, clean)
