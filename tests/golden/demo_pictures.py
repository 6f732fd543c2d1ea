"""What the golden pictures of the demo model are made from, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo.image.pictures import Pixels, Pose, Scene, draw

PICTURES = Path(__file__).parent / "demo_pictures.npz"
STEPS = 4


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture to be drawn; from ``begin()`` when it has a ``strength``."""

    prompt: str
    seed: int
    strength: float | None = None


DRAWINGS = {
    "circle": Drawing("a red circle on a blue background", 0),
    "cat": Drawing("a black cat on an orange background", 7),
    "boat": Drawing("a small brown boat on the right on a turquoise background", 42),
    "again": Drawing("a green star on a purple background", 3, strength=0.75),
}


def begin() -> Pixels:
    """The picture that a picture is made from."""
    return draw(Scene("star", "yellow", "purple"), Pose(64, 64, 44, 0.05))
