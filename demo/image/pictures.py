"""The pictures the model learns from: one flat figure on a flat background, drawn from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from demo.image.shapes import OUTLINES, SHAPES, Points

SIZE = 128
"""Of a picture, in pixels, both ways."""
_FINER = 4
"""Figures are drawn this much larger, then averaged, so that their edges are smooth."""

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (216, 44, 48),
    "orange": (243, 134, 34),
    "yellow": (250, 214, 56),
    "green": (52, 164, 72),
    "turquoise": (70, 200, 196),
    "blue": (44, 96, 210),
    "purple": (128, 62, 168),
    "pink": (246, 150, 190),
    "brown": (124, 76, 42),
    "gray": (132, 136, 142),
    "white": (250, 250, 248),
    "black": (26, 26, 30),
}
PLACES: Mapping[str, tuple[int, int]] = {
    "middle": (0, 0),
    "left": (-30, 0),
    "right": (30, 0),
    "top": (0, -30),
    "bottom": (0, 30),
}
SPLITS = ("train", "validation", "test")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a prompt asks for. ``small`` figures may stand beside the middle; large ones fill it."""

    shape: str
    colour: str
    background: str
    small: bool = False
    place: str = "middle"


@dataclass(frozen=True, slots=True)
class Pose:
    """What a prompt leaves open: centre and radius in pixels, turn in radians."""

    x: float
    y: float
    radius: float
    turn: float


def split_of(shape: str, colour: str, background: str) -> str:
    """Which split a combination belongs to: one in ten each is kept from training, by its hash."""
    digest = hashlib.sha256(f"{shape}/{colour}/{background}".encode()).digest()
    return {0: "test", 1: "validation"}.get(digest[0] % 10, "train")


def combinations(split: str) -> tuple[tuple[str, str, str], ...]:
    """Every (shape, colour, background) of ``split``; figures have never the colour of their background."""
    return tuple(
        (shape, colour, background)
        for shape in SHAPES
        for colour in COLOURS
        for background in COLOURS
        if colour != background and split_of(shape, colour, background) == split
    )


def pose_of(scene: Scene, random: Generator) -> Pose:
    """Where and how large, within the little that is left to chance."""
    dx, dy = PLACES[scene.place]
    x, y = random.uniform(-3, 3, 2)
    radius = random.uniform(25, 28) if scene.small else random.uniform(42, 46)
    return Pose(SIZE / 2 + dx + x, SIZE / 2 + dy + y, radius, float(random.uniform(-0.1, 0.1)))


def draw(scene: Scene, pose: Pose) -> Pixels:
    """uint8[SIZE, SIZE, 3]."""
    cover = coverage(scene.shape, pose)[..., None]
    figure, ground = (np.array(COLOURS[name], np.float32) for name in (scene.colour, scene.background))
    return np.rint(ground + cover * (figure - ground)).astype(np.uint8)


def coverage(shape: str, pose: Pose) -> NDArray[np.float32]:
    """How much of each pixel the figure covers: float32[SIZE, SIZE], 0 to 1."""
    mask = Image.new("L", (SIZE * _FINER, SIZE * _FINER))
    canvas = ImageDraw.Draw(mask)
    outline = OUTLINES[shape]
    for polygons, value in ((outline.filled, 255), (outline.cut, 0)):
        for polygon in polygons:
            canvas.polygon(_placed(polygon, pose), fill=value)
    covered: NDArray[np.float32] = np.asarray(mask.reduce(_FINER), np.float32) / np.float32(255)
    return covered


def _placed(points: Points, pose: Pose) -> list[tuple[float, float]]:
    cos, sin = np.cos(pose.turn), np.sin(pose.turn)
    turned = points @ np.array([[cos, sin], [-sin, cos]])
    placed = (turned * pose.radius + (pose.x, pose.y)) * _FINER
    return [(float(x), float(y)) for x, y in placed]
