"""Between pictures and the space the UNet works in: what the VAE's two halves give and want."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SCALING_FACTOR = 0.18215
"""The UNet's latents have deviation 1, the VAE's do not. Source: Stable Diffusion 1.5, vae/config.json."""

_LOGVAR_LOW, _LOGVAR_HIGH = -30.0, 20.0

Floats = NDArray[np.float32]


def from_moments(moments: Floats, noise: Floats) -> Floats:
    """The latent of an encoded picture, for the UNet: float32[1, channels, h, w].

    ``moments``: float32[1, 2 · channels, h, w], the VAE encoder's mean, then the logarithm of its variance,
    which is clamped to [−30, 20]: a quantised encoder can give any. ``noise`` has the latent's shape.
    Source: huggingface/diffusers, models/autoencoders/vae.py, DiagonalGaussianDistribution.
    """
    mean, logvar = np.split(moments, 2, axis=1)
    deviation = np.exp(0.5 * np.clip(logvar, _LOGVAR_LOW, _LOGVAR_HIGH))
    latent: Floats = ((mean + deviation * noise) * SCALING_FACTOR).astype(np.float32)
    return latent


def for_decoder(latent: Floats) -> Floats:
    """The UNet's latent as the VAE decoder wants it, contiguous."""
    return np.ascontiguousarray(latent / np.float32(SCALING_FACTOR), dtype=np.float32)
