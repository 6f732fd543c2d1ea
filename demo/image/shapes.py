"""The figures, as outlines: what is filled, and what is cut out of it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outline:
    """Polygons around the origin, about 1 in radius, y downwards; each float64[points, 2]."""

    filled: tuple[Points, ...]
    cut: tuple[Points, ...] = ()


def _round(radius: float, x: float = 0.0, y: float = 0.0, squash: float = 1.0) -> Points:
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + squash * radius * np.sin(angle)], axis=1)


def _upper_half(radius: float, y: float, squash: float = 1.0) -> Points:
    angle = np.linspace(np.pi, 2 * np.pi, 48)
    return np.stack([radius * np.cos(angle), y + squash * radius * np.sin(angle)], axis=1)


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return _corners((left, top), (right, top), (right, bottom), (left, bottom))


def _mirrored(*polygons: Points) -> tuple[Points, ...]:
    """Each polygon and its mirror image."""
    return tuple(side * polygon for polygon in polygons for side in (np.ones(2), np.array([-1.0, 1.0])))


def _corners(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def _star() -> Points:
    angle = np.pi * (np.arange(10) / 5 - 0.5)
    radius = np.where(np.arange(10) % 2 == 0, 1.12, 0.46)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle) + 0.06], axis=1)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 16.5, -(y + 2.5) / 15.5], axis=1)


def _flower() -> Points:
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    radius = 0.74 + 0.32 * np.cos(5 * t)
    return np.stack([radius * np.sin(t), -radius * np.cos(t)], axis=1)


def _rays(count: int, width: float, inner: float, outer: float) -> tuple[Points, ...]:
    triangle = np.array([(-width, -inner), (width, -inner), (0, -outer)])
    turns = 2 * np.pi * np.arange(count) / count
    return tuple(triangle @ np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]]) for t in turns)


def _ghost() -> Points:
    x = np.linspace(0.74, -0.74, 40)
    hem = np.stack([x, 0.78 + 0.14 * np.cos(x / 0.74 * 3 * np.pi)], axis=1)
    return np.concatenate([_upper_half(0.74, -0.26), hem])


_PLAIN: Mapping[str, Outline] = {
    "circle": Outline((_round(0.95),)),
    "square": Outline((_box(-0.84, -0.84, 0.84, 0.84),)),
    "triangle": Outline((_corners((0, -1.02), (1.05, 0.82), (-1.05, 0.82)),)),
    "diamond": Outline((_corners((0, -1.08), (0.78, 0), (0, 1.08), (-0.78, 0)),)),
    "cross": Outline((_box(-0.32, -0.98, 0.32, 0.98), _box(-0.98, -0.32, 0.98, 0.32))),
    "star": Outline((_star(),)),
    "heart": Outline((_heart(),)),
    "moon": Outline((_round(1.0, -0.1),), (_round(0.84, 0.38, -0.14),)),
    "ring": Outline((_round(1.0),), (_round(0.54),)),
}
_OUTDOORS: Mapping[str, Outline] = {
    "flower": Outline((_flower(),), (_round(0.24),)),
    "sun": Outline((_round(0.58), *_rays(8, 0.2, 0.68, 1.12))),
    "cloud": Outline(
        (
            _round(0.42, -0.56, 0.14),
            _round(0.58, -0.04, -0.12),
            _round(0.4, 0.58, 0.16),
            _box(-0.56, 0.1, 0.58, 0.56),
        ),
    ),
    "tree": Outline(
        (
            _corners((0, -1.08), (0.54, -0.36), (-0.54, -0.36)),
            _corners((0, -0.72), (0.74, 0.16), (-0.74, 0.16)),
            _corners((0, -0.3), (0.94, 0.7), (-0.94, 0.7)),
            _box(-0.17, 0.66, 0.17, 1.04),
        )
    ),
    "mushroom": Outline(
        (_upper_half(1.0, 0.12, 0.98), _corners((-0.26, 0.1), (0.26, 0.1), (0.36, 0.92), (-0.36, 0.92))),
        (_round(0.17, -0.42, -0.28), _round(0.2, 0.32, -0.36)),
    ),
    "snowman": Outline(
        (
            _round(0.62, 0, 0.44),
            _round(0.42, 0, -0.34),
            _box(-0.28, -1.12, 0.28, -0.66),
            _box(-0.5, -0.76, 0.5, -0.62),
        ),
        (*_mirrored(_round(0.09, 0.16, -0.4)), _round(0.1, 0, 0.24), _round(0.1, 0, 0.58)),
    ),
    "house": Outline(
        (_box(-0.74, -0.12, 0.74, 0.9), _corners((0, -1.02), (1.04, -0.1), (-1.04, -0.1))),
        (_box(-0.22, 0.28, 0.22, 0.91),),
    ),
}
_MOVING: Mapping[str, Outline] = {
    "car": Outline(
        (
            _corners((-1.08, 0.02), (0.8, 0.02), (1.08, 0.14), (1.08, 0.44), (-1.08, 0.44)),
            _corners((-0.62, -0.5), (0.36, -0.5), (0.72, 0.04), (-0.84, 0.04)),
            _round(0.27, -0.56, 0.48),
            _round(0.27, 0.56, 0.48),
        ),
        (
            _corners((-0.52, -0.36), (-0.16, -0.36), (-0.16, 0.0), (-0.64, 0.0)),
            _corners((0.02, -0.36), (0.28, -0.36), (0.5, 0.0), (0.02, 0.0)),
        ),
    ),
    "boat": Outline(
        (
            _corners((-1.02, 0.4), (1.02, 0.4), (0.62, 0.9), (-0.62, 0.9)),
            _corners((0.06, -1.04), (0.06, 0.24), (0.84, 0.24)),
            _corners((-0.12, -0.76), (-0.12, 0.24), (-0.74, 0.24)),
        )
    ),
    "rocket": Outline(
        (
            _corners((0, -1.12), (0.28, -0.7), (-0.28, -0.7)),
            _corners((0.28, -0.7), (0.36, -0.2), (-0.36, -0.2), (-0.28, -0.7)),
            _box(-0.36, -0.2, 0.36, 0.56),
            *_mirrored(_corners((0.34, -0.04), (0.82, 0.44), (0.82, 0.86), (0.34, 0.52))),
            _corners((-0.2, 0.66), (0.2, 0.66), (0, 1.1)),
        ),
        (_round(0.18, 0, -0.3),),
    ),
}
_ALIVE: Mapping[str, Outline] = {
    "fish": Outline(
        (_round(0.78, -0.24, 0, 0.72), _corners((0.3, 0), (1.08, -0.6), (0.92, 0), (1.08, 0.6))),
        (_round(0.13, -0.58, -0.14),),
    ),
    "cat": Outline(
        (_round(0.88, 0, 0.2, 0.82), *_mirrored(_corners((0.8, -0.98), (0.86, 0.1), (0.14, -0.5)))),
        (*_mirrored(_round(0.15, 0.36, 0.08)), _corners((-0.13, 0.4), (0.13, 0.4), (0, 0.56))),
    ),
    "duck": Outline(
        (
            _round(0.74, -0.08, 0.38, 0.66),
            _round(0.42, 0.36, -0.42),
            _corners((0.7, -0.56), (1.14, -0.34), (0.7, -0.2)),
            _corners((-0.7, 0.52), (-1.08, -0.22), (-0.3, 0.12)),
        ),
        (_round(0.11, 0.44, -0.52),),
    ),
    "butterfly": Outline(
        (
            *_mirrored(_round(0.5, 0.56, -0.4), _round(0.4, 0.46, 0.42)),
            _round(0.15, 0, 0.02, 5.6),
            *_mirrored(_corners((0.04, -0.6), (0.3, -1.12), (0.42, -1.04), (0.12, -0.56))),
        ),
        _mirrored(_round(0.17, 0.6, -0.42)),
    ),
    "ghost": Outline((_ghost(),), _mirrored(_round(0.17, 0.28, -0.24, 1.3))),
}

OUTLINES: Mapping[str, Outline] = {**_PLAIN, **_OUTDOORS, **_MOVING, **_ALIVE}
SHAPES = tuple(OUTLINES)
