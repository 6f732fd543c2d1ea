"""What a picture will look like, from its latent alone: a matrix instead of the VAE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.manifest import PackageProblem

_SD15 = (
    (0.3444, 0.1385, 0.0670),
    (0.1247, 0.4027, 0.1494),
    (-0.3192, 0.2513, 0.2103),
    (-0.1307, -0.1874, -0.7445),
)
"""Source: invoke-ai/InvokeAI, the latent RGB factors for Stable Diffusion 1.5."""


@dataclass(frozen=True, slots=True)
class PreviewMatrix:
    """RGB in [−1, 1] as a linear function of a latent's channels.

    ``factors``: float32[channels, 3]; ``bias``: float32[3].
    """

    factors: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def channels(self) -> int:
        return int(self.factors.shape[0])


SD15 = PreviewMatrix(np.array(_SD15, dtype=np.float32), np.zeros(3, dtype=np.float32))
"""For every model with the VAE of Stable Diffusion 1.5."""


def preview(latent: NDArray[np.float32], matrix: PreviewMatrix, size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8[height, width, 3] from float32[1, channels, h, w], scaled for the UNet.

    ``size`` is (height, width) in pixels, to which the latent's own h × w is stretched smoothly. Numbers a
    broken model may give (NaN, infinities) become black or white, never an error: it is only a preview.
    """
    with np.errstate(all="ignore"):
        rgb = np.moveaxis(latent[0], 0, -1) @ matrix.factors + matrix.bias
        shown = np.clip(np.nan_to_num(rgb * 127.5 + 127.5, nan=0.0), 0, 255).astype(np.uint8)
    height, width = size
    return np.asarray(Image.fromarray(shown).resize((width, height), Image.Resampling.BILINEAR))


def read_matrix(path: Path) -> PreviewMatrix:
    """The matrix of a package with a VAE of its own: float32[channels + 1, 3], the last row being the bias.

    Raises:
        PackageProblem: it is anything else.
    """
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PackageProblem(f"{path.name} cannot be read ({error}): download it again") from None
    is_matrix = isinstance(rows, np.ndarray) and rows.dtype == np.float32 and rows.ndim == 2
    if not is_matrix or rows.shape[0] < 2 or rows.shape[1] != 3 or not np.isfinite(rows).all():
        raise PackageProblem(f"{path.name} is no preview matrix: float32[channels + 1, 3] is wanted")
    return PreviewMatrix(rows[:-1], rows[-1])
