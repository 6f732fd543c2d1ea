"""The package's four graphs as torch modules: the networks, behaving like Stable Diffusion's. Needs torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from demo.image.latents import BLOCK, COLOUR_AXES, DEVIATION, EDGE_SOFTNESS, MEAN
from demo.image.network import Decoder, TextEncoder, Unet
from demo.image.times import readout, time_mlp, time_rows
from models.diffusion.latent import SCALING_FACTOR

LATENT_NOISE = 0.02
"""Deviation that the encoder claims for its latents, in the UNet's scale."""


class TextGraph(nn.Module):
    """int32[1, 77] to float32[1, 77, 128]."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> Tensor:
        rows: Tensor = self.encoder(ids.long())
        return rows


class UnetGraph(nn.Module):
    """Gives epsilon, where the UNet predicts v: epsilon = sqrt(1 − ᾱ) · sample + sqrt(ᾱ) · v."""

    def __init__(self, unet: Unet) -> None:
        super().__init__()
        self.unet = unet
        weight, bias = readout(time_rows(time_mlp()))
        self.level = nn.Linear(*weight.shape[::-1])
        self.level.weight.data, self.level.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)

    def forward(self, sample: Tensor, time: Tensor, text: Tensor) -> Tensor:
        signal, noise = self.level(time)[..., None, None].split(1, dim=1)
        return noise * sample + signal * self.unet(sample, time, text)


class DecoderGraph(nn.Module):
    """Takes the latent divided by the scaling factor, as every Stable Diffusion decoder does."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor) -> Tensor:
        picture: Tensor = self.decoder(latent * SCALING_FACTOR)
        return picture


class EncoderGraph(nn.Module):
    """``latents.encode`` as a graph: float32[1, 3, 128, 128] to mean and logvar, float32[1, 8, 16, 16]."""

    def __init__(self) -> None:
        super().__init__()
        shift = -MEAN / DEVIATION / SCALING_FACTOR
        scale = 1 / DEVIATION / SCALING_FACTOR
        self.axes = _constant(COLOUR_AXES[:, :, None, None])
        self.scale, self.shift = (_constant(values[:, None, None]) for values in (scale, shift))
        self.logvar = float(2 * np.log(LATENT_NOISE / SCALING_FACTOR))

    def forward(self, picture: Tensor) -> Tensor:
        colours = functional.conv2d(functional.avg_pool2d(picture, BLOCK), self.axes)
        around = functional.avg_pool2d(functional.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        unlike = functional.avg_pool2d((picture - around).abs().amax(1, keepdim=True), BLOCK)
        edges = 1 - torch.exp(-unlike / EDGE_SOFTNESS)
        mean = torch.cat([colours, edges], dim=1) * self.scale + self.shift
        return torch.cat([mean, torch.zeros_like(mean) + self.logvar], dim=1)


def _constant(values: NDArray[np.float64]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), requires_grad=False)
