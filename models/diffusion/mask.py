"""Which part of a source picture is drawn anew, in pixels and in the cells of its latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.diffusion.image import Pixels

Floats = NDArray[np.float32]

_TOUCHED = 0.02
"""A cell with a pixel this white is drawn anew: what the resizing of a mask leaves at its edges is less."""


@dataclass(frozen=True, slots=True)
class Mask:
    """``pixels``: float32[height, width, 1], 1 where the picture is drawn anew, 0 where it stays.

    ``cells``: float32[1, 1, h, w], 1 for each cell of the latent that has such a pixel, else 0.
    """

    pixels: Floats
    cells: Floats

    @classmethod
    def of(cls, picture: Pixels, height: int, width: int) -> Self:
        """From a black and white picture, uint8[H, W, 3], for a latent of ``height`` by ``width`` cells."""
        grey = picture.mean(axis=2, dtype=np.float32) / np.float32(255)
        blocks = grey.reshape(height, grey.shape[0] // height, width, grey.shape[1] // width)
        cells = (blocks.max(axis=(1, 3)) > _TOUCHED).astype(np.float32)
        return cls(grey[..., None], cells[None, None])

    def blend(self, drawn: Floats, kept: Floats) -> Floats:
        """The latent ``drawn`` where it is to be, ``kept`` elsewhere."""
        return np.where(self.cells > 0, drawn, kept)

    def paste(self, drawn: Pixels, source: Pixels) -> Pixels:
        """The drawn picture with the source's own pixels where the mask is black, mixed where it is grey."""
        mixed = source + self.pixels * (drawn.astype(np.float32) - source)
        return np.ascontiguousarray(mixed.round().astype(np.uint8))
