"""What a picture shows, found out without the model: background, colour and figure, by measuring.

The border's median is the background; what is unlike it is the figure; the figure is brought to one place and
size and laid over every outline. A blur is no figure: it has to fit one outline well, and the colours have to
be near ones that have a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.image.pictures import COLOURS, SIZE, Pixels, Pose, coverage
from demo.image.shapes import SHAPES

LEAST_FIT = 0.8
"""Of a figure with the outline it is taken for: what both cover, by what either covers."""
FARTHEST = 60.0
"""How far from a named colour one may be, in grey levels (Euclidean)."""
_TURNS = (-0.1, -0.05, 0.0, 0.05, 0.1)
_SIDE = 40
_SPREAD = 9.0
"""Root mean square distance from the centre that figures are brought to, in pixels of _SIDE × _SIDE."""

Mask = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the judge sees; None where it sees nothing that has a name. ``fit`` is of the likeliest figure."""

    background: str | None
    colour: str | None
    shape: str | None
    fit: float


def judge(pixels: Pixels) -> Seen:
    """``pixels``: uint8[height, width, 3]."""
    picture = pixels.astype(np.float32)
    border = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3)])
    sides = np.concatenate([picture[:, :3].reshape(-1, 3), picture[:, -3:].reshape(-1, 3)])
    ground = np.median(np.concatenate([border, sides]), axis=0)
    unlike = np.linalg.norm(picture - ground, axis=-1)
    strongest = np.quantile(unlike, 0.98)
    if strongest < 30:
        return Seen(_named(ground), None, None, 0.0)
    figure = np.median(picture[unlike > 0.75 * strongest], axis=0)
    towards = figure - ground
    cover = np.clip((picture - ground) @ towards / (towards @ towards), 0, 1).astype(np.float32)
    shape, fit = best_shape(cover)
    return Seen(_named(ground), _named(figure), shape if fit >= LEAST_FIT else None, fit)


def best_shape(cover: Mask) -> tuple[str, float]:
    """The outline that fits best, and how well (0 to 1)."""
    figure = _brought(cover)
    fits = {shape: max(_fit(figure, outline) for outline in known) for shape, known in _outlines().items()}
    best = max(fits, key=lambda shape: fits[shape])
    return best, fits[best]


def _named(colour: NDArray[np.float32]) -> str | None:
    distances = {name: float(np.linalg.norm(colour - np.array(rgb))) for name, rgb in COLOURS.items()}
    nearest = min(distances, key=lambda name: distances[name])
    return nearest if distances[nearest] <= FARTHEST else None


def _brought(cover: Mask) -> Mask:
    """The figure moved to the middle and scaled to one spread: float32[_SIDE, _SIDE]."""
    height, width = cover.shape
    weights = np.where(cover > 0.25, cover, 0)
    total = weights.sum()
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    y, x = (weights.sum(1) @ rows) / total, (weights.sum(0) @ columns) / total
    spread = np.sqrt((weights.sum(1) @ (rows - y) ** 2 + weights.sum(0) @ (columns - x) ** 2) / total)
    scale = spread / _SPREAD
    half = scale * _SIDE / 2
    box = (x - half, y - half, x + half, y + half)
    image = Image.fromarray(cover).transform(
        (_SIDE * 2, _SIDE * 2), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR
    )
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)


def _fit(one: Mask, other: Mask) -> float:
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


@cache
def _outlines() -> Mapping[str, tuple[Mask, ...]]:
    middle = SIZE / 2
    return {
        shape: tuple(_brought(coverage(shape, Pose(middle, middle, 44, turn))) for turn in _TURNS)
        for shape in SHAPES
    }
