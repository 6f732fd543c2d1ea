"""The encoder, which is computed and not learned: what a latent is, in numpy.

A picture of 128 × 128 becomes 16 × 16 places of four numbers: the mean colour of 8 × 8 pixels, as brightness
and two differences, and how much of an edge runs through them, whatever its colours. Each is shifted and
scaled to mean 0 and deviation 1 over the training pictures. The decoder is learned: it has to find out from
means where exactly the edges run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 8
"""Pixels of a latent's place, both ways."""
CHANNELS = 4
EDGE_SOFTNESS = 0.03
"""How much edge is much: a straight edge of full contrast gives about 0.15, and ends near 1."""

COLOUR_AXES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=np.float64) / np.sqrt([[3.0], [2.0], [6.0]])
"""Brightness, red against blue, and both against green: at right angles, each of length 1."""
MEAN = np.array([0.061, 0.169, 0.042, 0.150])
DEVIATION = np.array([0.717, 0.611, 0.356, 0.315])
"""Of the four channels before scaling, over 2,000 training pictures."""

Floats = NDArray[np.float32]


def encode(pixels: NDArray[np.uint8]) -> Floats:
    """float32[n, 4, h / 8, w / 8] from uint8[n, h, w, 3]."""
    picture = pixels.astype(np.float32) / 127.5 - 1
    colours = _means(picture) @ COLOUR_AXES.T
    channels = np.concatenate([colours, edges(picture)[..., None]], axis=-1)
    scaled = (channels - MEAN) / DEVIATION
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 1), dtype=np.float32)


def edges(picture: Floats) -> Floats:
    """float32[n, h / 8, w / 8]: how much edge there is in each block, 0 to 1."""
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    around: Floats = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9
    unlike = np.abs(picture - around).max(axis=-1, keepdims=True)
    much: Floats = 1 - np.exp(-_means(unlike)[..., 0] / np.float32(EDGE_SOFTNESS))
    return much


def plain_colours() -> tuple[Floats, Floats]:
    """float32[3, 4] and float32[3]: weight · latent + bias are its mean colours, in about [−1, 1]."""
    weight = np.zeros((3, CHANNELS))
    weight[:, :3] = COLOUR_AXES.T * DEVIATION[:3]
    return weight.astype(np.float32), (MEAN[:3] @ COLOUR_AXES).astype(np.float32)


def _means(picture: Floats) -> Floats:
    n, height, width, channels = picture.shape
    blocks = picture.reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels)
    return np.asarray(blocks.mean(axis=(2, 4)))
